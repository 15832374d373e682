"""The OpenAI catalyst's own declaration: what its operations cost, and which models they show, none left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from host.component.operations import OperationSpec, read_operations
from host.service.dialects import Tokens, openai
from host.service.dialects.openai_helpers import ORDERED
from host.service.principal import ANONYMOUS_SCOPES, OPERATOR, Principal
from host.store.access.api_keys import ApiKey

FILE = Path(__file__).parents[2] / "catalyst" / "openai" / "operations.json"
OPERATIONS = read_operations(json.loads(FILE.read_bytes())["operations"])
NO_REQUEST = ("operations.describe", "operations.list", "webhooks.unwrap", "webhooks.verify_signature")
FIRST = {  # of an operation of several requests, what it asks for first, or else the one that it repeats
    "batches.poll": "batches.retrieve",
    "beta.threads.create_and_run_poll": "beta.threads.create_and_run",
    "beta.threads.runs.create_and_poll": "beta.threads.runs.create",
    "beta.threads.runs.poll": "beta.threads.runs.retrieve",
    "beta.threads.runs.submit_tool_outputs_and_poll": "beta.threads.runs.submit_tool_outputs",
    "files.wait_for_processing": "files.retrieve",
    "uploads.upload_file_chunked": "uploads.create",
    "vector_stores.file_batches.create_and_poll": "vector_stores.file_batches.create",
    "vector_stores.file_batches.poll": "vector_stores.file_batches.retrieve",
    "vector_stores.file_batches.upload_and_poll": "vector_stores.file_batches.create",
    "vector_stores.files.create_and_poll": "vector_stores.files.create",
    "vector_stores.files.poll": "vector_stores.files.retrieve",
    "vector_stores.files.upload": "vector_stores.files.create",
    "vector_stores.files.upload_and_poll": "vector_stores.files.create",
    "videos.create_and_poll": "videos.create",
    "videos.poll": "videos.retrieve",
}
FREE = {
    *("audio.voice_consents.create", "audio.voice_consents.update", "batches.cancel", "beta.agents.automations.pause"),
    *("beta.agents.create", "beta.agents.environments.create", "beta.agents.environments.files.create"),
    *("beta.agents.environments.templates.create", "beta.agents.environments.templates.update"),
    *("beta.agents.sessions.update", "beta.agents.update", "beta.agents.vaults.create", "beta.agents.vaults.update"),
    *("beta.agents.vaults.credentials.create", "beta.agents.vaults.credentials.update", "beta.assistants.create"),
    *("beta.assistants.update", "beta.chatkit.sessions.cancel", "beta.responses.cancel"),
    *("beta.responses.input_tokens.count", "beta.threads.create", "beta.threads.messages.create"),
    *("beta.threads.messages.update", "beta.threads.runs.cancel", "beta.threads.runs.update", "beta.threads.update"),
    *("chat.completions.update", "containers.files.create", "conversations.create", "conversations.items.create"),
    *("conversations.update", "evals.create", "evals.runs.cancel", "evals.update", "files.create"),
    *("fine_tuning.alpha.graders.validate", "fine_tuning.checkpoints.permissions.create", "fine_tuning.jobs.cancel"),
    *("fine_tuning.jobs.pause", "live.sessions.hangup", "live.sessions.refer", "live.sessions.reject"),
    *("realtime.calls.hangup", "realtime.calls.refer", "realtime.calls.reject", "responses.cancel"),
    *("responses.input_tokens.count", "skills.create", "skills.update", "skills.versions.create", "uploads.cancel"),
    *("uploads.complete", "uploads.create", "uploads.parts.create", "vector_stores.create"),
    *("vector_stores.file_batches.cancel", "vector_stores.file_batches.create", "vector_stores.files.create"),
    *("vector_stores.files.update", "vector_stores.update", "webhooks.create", "webhooks.rotate_secret"),
    *("webhooks.test", "webhooks.update"),
}
BY_CONTENT = {"audio.speech.create", "embeddings.create", "moderations.create", "vector_stores.search"}
ASKED: dict[str, Any] = {"prompt": "a cat", "seconds": "12", "thread_id": "t", "run_id": "r", "purpose": "user_data"}


def is_posted(spec: OperationSpec) -> bool:
    return spec.method == "POST" and not spec.secret


def test_an_operation_without_a_route_is_known_by_what_it_orders() -> None:
    assert {one.name for one in OPERATIONS.values() if not one.path} == {*FIRST, *NO_REQUEST} == {*ORDERED}
    for name, first in FIRST.items():
        method, path, request = ORDERED[name]
        spec = OPERATIONS[first]
        assert (method, path, request) == (spec.method, spec.path, spec.request), name


@pytest.mark.parametrize(("name", "first"), FIRST.items())
def test_work_is_not_cheaper_for_being_waited_for(name: str, first: str) -> None:
    for params in ({}, ASKED, {"additional_messages": [{"content": "x" * 4000}]}):
        assert openai.estimate(OPERATIONS[name], params, {}) == openai.estimate(OPERATIONS[first], params, {})


@pytest.mark.parametrize(
    ("name", "params", "document", "done"),
    [
        pytest.param("videos.create_and_poll", {}, {"id": "v", "object": "video", "status": "completed"}, True, id="a video"),
        pytest.param("beta.threads.create_and_run_poll", {}, {"id": "r", "object": "thread.run", "status": "requires_action"}, False, id="a run that waits"),
        pytest.param("beta.threads.runs.create_and_poll", {}, {"id": "r", "object": "thread.run", "status": "completed"}, True, id="a run"),
    ],
)  # fmt: skip
def test_work_that_was_waited_for_is_known_when_it_is_read_again(
    name: str, params: Any, document: Any, done: bool
) -> None:
    found = openai.answer_of(OPERATIONS[name], params, document)
    assert found is not None
    assert (found.id, found.later, found.done, found.again) == (document["id"], True, done, False)


def test_a_wait_for_work_reads_its_answer_again() -> None:
    batch = {"id": "b", "object": "batch", "status": "completed"}
    found = openai.answer_of(OPERATIONS["batches.poll"], {"batch_id": "b"}, batch)
    assert found is not None
    assert found.again
    assert openai.answer_of(OPERATIONS["batches.poll"], {"batch_id": "other"}, batch) is None


def test_an_operation_that_spends_is_charged_though_its_answer_counts_nothing() -> None:
    cheap = set()
    for one in filter(is_posted, OPERATIONS.values()):
        cost = openai.estimate(one, {}, {})
        if not cost.text and cost.uncounted(0).output < 100:
            cheap.add(one.name)
            assert (cost.needed > 0) is (one.name in BY_CONTENT), one.name
        assert not (cost.likely and not cost.text), f"{one.name} loses what is likely"
    assert cheap == FREE | BY_CONTENT


def test_a_grader_says_what_it_cost_and_no_object_says_so_in_its_metadata() -> None:
    assert openai.tokens_of_document({"reward": 1.0, "metadata": {"token_usage": 70}}) == Tokens(70, 0)
    for document in (
        {"object": "response", "reward": 1, "metadata": {"token_usage": 0}},
        {"reward": 1.0, "metadata": {}},
    ):
        assert openai.tokens_of_document(document) is None


@pytest.mark.parametrize(("name", "first"), FIRST.items())
def test_a_made_up_model_opens_no_operation_of_several_requests(name: str, first: str) -> None:
    for params in ({}, ASKED, {"purpose": "batch"}, {"multipart": "x"}, {"tools": [{"type": "web_search"}]}):
        for more in ({}, {"model": "gpt-4o-mini"}, {"model_id": "gpt-4o-mini"}):
            given = {**params, **more}
            unseen = openai.names_unseen(OPERATIONS[name], given, True)
            assert unseen is openai.names_unseen(OPERATIONS[first], given, True), given


@pytest.mark.parametrize("name", [*NO_REQUEST, "vector_stores.files.poll", "files.wait_for_processing"])
def test_what_runs_no_model_is_for_keys_for_some_models(name: str) -> None:
    assert not openai.names_unseen(OPERATIONS[name], {}, True)


def test_several_requests_of_a_strange_catalyst_are_not_opened_by_a_model_that_they_do_not_take() -> None:
    strange = OperationSpec("all.of_it", parameters=("input",))
    assert openai.names_unseen(strange, {"model": "gpt-4o-mini"}, True)
    assert not openai.names_unseen(OperationSpec("all.of_it", parameters=("model",)), {"model": "gpt-4o-mini"}, True)


PUBLIC = {
    *("models.list", "models.retrieve", "files.list", "files.retrieve", "files.content", "responses.retrieve"),
    *("operations.list", "operations.describe"),
}
APART = {
    *("realtime.client_secrets.create", "realtime.translations.client_secrets.create"),
    *("beta.realtime.sessions.create", "beta.realtime.transcription_sessions.create", "beta.chatkit.sessions.create"),
    *("webhooks.create", "webhooks.update", "webhooks.rotate_secret"),
    *(f"beta.agents.vaults.credentials.{verb}" for verb in ("create", "delete", "list", "retrieve", "update")),
    *(f"fine_tuning.checkpoints.permissions.{verb}" for verb in ("create", "delete", "list")),
}


def holder(kind: str, *globs: str) -> Principal:
    return Principal.of(
        ApiKey(
            "ab12cd34ef56", "ci", kind, frozenset({"run"}), None, None, None, (), (), (),  # type: ignore[arg-type]
            0.0, None, None, None, globs,
        )
    )  # fmt: skip


def allowed(principal: Principal) -> set[str]:
    return {name for name, one in OPERATIONS.items() if principal.may_operate(name, one)}


def test_a_public_key_without_operations_reads_no_more_than_this() -> None:
    assert allowed(holder("public")) == PUBLIC


def test_what_hands_out_credentials_is_not_for_a_key_that_did_not_name_it() -> None:
    admin = {name for name, one in OPERATIONS.items() if one.secret}
    for principal in (
        holder("secret"),
        holder("secret", "*"),
        holder("admin", "*.create", "*.list"),
        Principal(None, ANONYMOUS_SCOPES, anonymous=True),
    ):
        assert not allowed(principal) & (APART | admin)
    assert allowed(holder("secret")) == {*OPERATIONS} - APART - admin
    assert allowed(OPERATOR) == {*OPERATIONS}


@pytest.mark.parametrize("name", sorted(APART))
def test_what_hands_out_credentials_is_for_a_key_that_names_its_kind(name: str) -> None:
    assert name in allowed(holder("secret", f"{name.partition('.')[0]}.*"))
    assert name in allowed(holder("secret", name))
