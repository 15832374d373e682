"""Operation scopes of keys, through every face of the server, with the official SDKs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.store.audit_log.records import Wanted, newest_records
from tests.server.conftest import Server, until
from tests.server.mcp.conftest import asked, called

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
Client = Callable[..., openai.OpenAI]


@pytest.fixture
def holding(server: Server, workspace: Workspace) -> Callable[..., str]:
    """`holding(type=…, …)` is the text of a new key that the server knows."""

    def make(**more: Any) -> str:
        name = f"key {len(workspace.api_keys.all())}"
        _, text = workspace.api_keys.create(name=name, **{"type": "secret", **more})
        server.up_to_date()
        return text

    return make


@pytest.fixture
def client(server: Server, holding: Callable[..., str]) -> Client:
    def make(**more: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{server.url}/v1", api_key=holding(**more), max_retries=0)

    return make


def uploaded(client: openai.OpenAI) -> str:
    return client.files.create(file=("a.txt", io.BytesIO(b"mine")), purpose="user_data").id


def test_a_public_key_cannot_delete_another_s_file_which_it_may_see(client: Client, fake: FakeOpenAI) -> None:
    file = uploaded(client())
    with client(type="public") as public:
        assert file in [one.id for one in public.files.list().data]
        with pytest.raises(openai.PermissionDeniedError, match="not for the operation"):
            public.files.delete(file)
        with pytest.raises(openai.PermissionDeniedError):
            uploaded(public)
        with pytest.raises(openai.PermissionDeniedError):
            public.chat.completions.create(**CHAT)
    assert [one["method"] for one in fake.requests if one["path"].startswith("/v1/files")] == ["POST", "GET"]


def test_a_key_for_some_operations_has_those_and_no_others(client: Client, workspace: Workspace) -> None:
    with client(operations=("chat.*", "models.list")) as some:
        assert some.chat.completions.create(**CHAT).choices
        assert some.models.list().data
        for ask in (
            lambda: some.models.retrieve("gpt-4o-mini"),
            some.files.list,
            lambda: some.responses.create(model="gpt-4o-mini", input="Hi"),
        ):
            with pytest.raises(openai.PermissionDeniedError, match="not for the operation"):
                ask()
    record = newest_records(workspace.database, 1, Wanted(kind="request.refused"))[0]
    assert record.decision == "deny"


def test_who_may_not_list_the_models_is_not_shown_them(client: Client) -> None:
    with client(operations=("chat.*",)) as some, pytest.raises(openai.PermissionDeniedError):
        some.models.list()


def test_an_operation_that_the_key_is_not_for_is_refused_before_its_body_is_read(
    server: Server, holding: Callable[..., str]
) -> None:
    text = holding(operations=("models.*",))
    answer = server.post("/v1/chat/completions", content=b"{", headers={"authorization": f"Bearer {text}"})
    assert answer.status_code == 403


def test_tools_that_a_key_may_not_use_are_neither_listed_nor_called(
    server: Server, holding: Callable[..., str]
) -> None:
    text = holding(operations=("models.*",))
    listed = {one.name for one in asked(server, lambda client: client.list_tools(), text).tools}
    assert {"openai_models_list", "openai_models_retrieve"} <= listed
    assert not {one for one in listed if one.startswith("openai_") and not one.startswith("openai_models")}
    result = called(server, "openai_chat_completions_create", CHAT, text)
    assert result.structured_content["error"]["type"] == "forbidden"


@pytest.mark.parametrize("operation", ["files.delete", "files.DELETE", "chat.completions.create", "", " models.list"])
def test_running_by_name_goes_round_no_scope(server: Server, holding: Callable[..., str], operation: str) -> None:
    text = holding(operations=("models.list",))
    given = {"operation": operation, "params": {"file_id": "file_1"}}
    for asked_for in (given, json.dumps(given)):
        arguments = {"action": "run", "reference": "c:local.openai", "input": asked_for}
        result = called(server, "execution", arguments, text)
        assert result.structured_content["error"]["type"] == "forbidden"


def test_an_admin_s_scope_holds_in_the_playground(server: Server, holding: Callable[..., str]) -> None:
    headers = {"authorization": f"Bearer {holding(type='admin', operations=('models.*',))}"}
    given = {"reference": "c:local.openai", "operation": "files.list", "params": {}}
    assert server.post("/console/api/playground", json=given, headers=headers).status_code == 403
    given = {"reference": "c:local.openai", "operation": "models.list", "params": {}}
    assert server.post("/console/api/playground", json=given, headers=headers).status_code == 200


def test_a_scope_that_was_wrong_is_set_right_while_the_server_runs(client: Client, workspace: Workspace) -> None:
    with client(operations=("models.*",)) as some:
        with pytest.raises(openai.PermissionDeniedError):
            some.chat.completions.create(**CHAT)
        workspace.api_keys.update("key 0", operations=["models.*", "chat.*"], models=["gpt-4o-mini"])

        def runs() -> bool:
            try:
                return bool(some.chat.completions.create(**CHAT).choices)
            except openai.PermissionDeniedError:
                return False

        until(runs)
        with pytest.raises(openai.PermissionDeniedError, match="not for the model"):
            some.chat.completions.create(**{**CHAT, "model": "gpt-4o"})
    record = newest_records(workspace.database, 1, Wanted(kind="api_key.changed"))[0]
    assert record.detail["changed"] == ["models", "operations"]
    assert record.detail["operations"] == ["models.*", "chat.*"]


class TestModelsOfAKeyByTheSDK:
    def test_a_batch_is_neither_uploaded_nor_hidden_in_another_purpose(self, client: Client, fake: FakeOpenAI) -> None:
        line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-5"}}
        with client(models=("gpt-4o-mini",)) as some:
            for purpose in ("batch", "evals", "Batch"):
                with pytest.raises(openai.PermissionDeniedError):
                    some.files.create(file=("b.jsonl", json.dumps(line).encode()), purpose=purpose)  # type: ignore[arg-type]
        assert not fake.requests

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param({"extra_body": {"models": ["gpt-5"], "route": "fallback"}}, id="models to fall back on"),
            pytest.param({"extra_body": {"Model": "gpt-5"}}, id="a field in another case"),
            pytest.param({"extra_query": {"Model": "gpt-5"}}, id="a query"),
            pytest.param({"extra_query": {"model": "gpt-5"}, "extra_body": {"model": None}}, id="a query in its place"),
        ],
    )
    def test_more_of_a_body_names_no_other(self, client: Client, fake: FakeOpenAI, body: Any) -> None:
        with client(models=("gpt-4o-mini",)) as some, pytest.raises(openai.PermissionDeniedError):
            some.chat.completions.create(**CHAT, **body)
        assert not fake.requests

    def test_a_tool_brings_no_other(self, client: Client, fake: FakeOpenAI) -> None:
        with client(models=("gpt-4o-mini",)) as some:
            for tool in ({"type": "image_generation"}, {"type": "image_generation", "model": "gpt-image-1"}):
                with pytest.raises(openai.PermissionDeniedError):
                    some.responses.create(model="gpt-4o-mini", input="Hi", tools=[tool])  # type: ignore[list-item]
        assert not fake.requests

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b'{"messages":[],"model":"gpt-4o-mini","model":"gpt-5"}', id="the second"),
            pytest.param(b'{"messages":[],"model":"gpt-5","model":"gpt-4o-mini"}', id="the first"),
            pytest.param(b'{"messages":[],"model":"gpt-4o-mini","mod\\u0065l":"gpt-5"}', id="one that is escaped"),
        ],
    )
    def test_a_name_that_stands_twice_is_the_one_that_goes_out(
        self, server: Server, holding: Callable[..., str], fake: FakeOpenAI, body: bytes
    ) -> None:
        """The upstream gets one of the two: the one that was looked at."""
        headers = {"authorization": f"Bearer {holding(models=('gpt-4o-mini',))}", "content-type": "application/json"}
        server.post("/v1/chat/completions", content=body, headers=headers)
        assert all(one["body"]["model"] == "gpt-4o-mini" for one in fake.requests)

    def test_a_form_with_two_models_is_a_mistake(
        self, server: Server, holding: Callable[..., str], fake: FakeOpenAI
    ) -> None:
        headers = {"authorization": f"Bearer {holding(models=('whisper-1',))}"}
        files = [
            ("model", (None, "whisper-1")),
            ("model", (None, "gpt-4o-transcribe")),
            ("file", ("a.mp3", b"\0" * 100, "audio/mpeg")),
        ]
        answer = server.post("/v1/audio/transcriptions", files=files, headers=headers)
        assert answer.status_code == 400
        assert not fake.requests
