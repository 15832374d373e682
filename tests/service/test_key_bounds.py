"""Attacks on a key's bounds: operations and models that it is not for, asked for by other names and in other places."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from host.component.manifest import Manifest
from host.component.operations import read_operations
from host.core.names import Digest, Reference
from host.errors import Forbidden, HostError, InputError
from host.service.principal import ANONYMOUS_SCOPES, OPERATOR, Principal
from host.service.request import OperationRequest, Resolved, Routing, resolve
from host.store.access.api_keys import ApiKey
from host.store.components import Component
from tests.conftest import slack

JSON: dict[str, Any] = {"method": "POST", "request": "json", "params": {"properties": {"model": {}}}}
BARE: dict[str, Any] = {"method": "POST", "request": "json", "params": {"properties": {"other": {}}}}
OPERATIONS: dict[str, Any] = {
    "chat.completions.create": {**JSON, "path": "/chat/completions", "aliases": ["chat"]},
    "responses.create": {**JSON, "path": "/responses"},
    "responses.cancel": {**BARE, "path": "/responses/{response_id}/cancel"},
    "images.generate": {**JSON, "path": "/images/generations"},
    "audio.transcriptions.create": {**JSON, "path": "/audio/transcriptions", "request": "multipart"},
    "batches.create": {**BARE, "path": "/batches"},
    "batches.list": {"method": "GET", "path": "/batches"},
    "files.create": {**BARE, "path": "/files", "request": "multipart"},
    "files.list": {"method": "GET", "path": "/files"},
    "files.retrieve": {"method": "GET", "path": "/files/{file_id}", "aliases": ["files.get"]},
    "files.delete": {"method": "DELETE", "path": "/files/{file_id}", "aliases": ["files.list_and_forget"]},
    "uploads.create": {**BARE, "path": "/uploads"},
    "fine_tuning.jobs.create": {**JSON, "path": "/fine_tuning/jobs"},
    "evals.create": {**BARE, "path": "/evals"},
    "evals.runs.create": {**BARE, "path": "/evals/{eval_id}/runs"},
    "threads.runs.create": {**JSON, "path": "/threads/{thread_id}/runs"},
    "threads.create_and_run": {**JSON, "path": "/threads/runs"},
    "realtime.sessions.create": {**BARE, "path": "/realtime/sessions"},
    "realtime.client_secrets.create": {**BARE, "path": "/realtime/client_secrets"},
    "videos.remix": {**BARE, "path": "/videos/{video_id}/remix"},
    "conversations.create": {**BARE, "path": "/conversations"},
    "models.list": {"method": "GET", "path": "/models"},
    "models.retrieve": {"method": "GET", "path": "/models/{model}"},
    "models.delete": {"method": "DELETE", "path": "/models/{model}"},
    "videos.edit": {**BARE, "path": "/videos/edits"},
    "agents.sessions.create": {**BARE, "path": "/agents/sessions"},
    "agents.sessions.events.create": {**BARE, "path": "/agents/sessions/{session_id}/events"},
    "live.create": {**BARE, "path": "/live/sessions"},
    "responses.connect": {"method": "GET", "path": "/responses", "websocket": True},
    "realtime.connect": {"method": "GET", "path": "/realtime", "websocket": True},
    "live.sideband.connect": {"method": "GET", "path": "/live/sessions/{session_id}/attach", "websocket": True},
    "threads.runs.submit_tool_outputs_and_poll": {"params": {"properties": {"run_id": {}}}},
    "beta.responses.create": {**JSON, "path": "/responses?beta=true"},
}
ADMIN: dict[str, Any] = {
    "admin.projects.list": {"method": "GET", "path": "/organization/projects", "secret": "ADMIN_KEY"},
    "admin.projects.create": {
        "method": "POST", "path": "/organization/projects", "secret": "ADMIN_KEY", "aliases": ["projects.create"],
    },
    "admin.projects.delete": {"method": "DELETE", "path": "/organization/projects/{id}", "secret": "ADMIN_KEY"},
    "administer": {"method": "GET", "path": "/organization", "secret": "ADMIN_KEY"},
}  # fmt: skip


def installed(name: str, **manifest: Any) -> Component:
    document = {"id": f"local.{name}", "version": "1.0.0", **manifest}
    reference = Reference.parse(f"c:local.{name}:1.0.0")
    return Component(reference, Digest.of(b""), 0, Manifest.parse(json.dumps(document)), (), "file", 0.0, approved=True)


LISTED = installed("listed", operations=OPERATIONS)
GROWN = installed("grown", operations={**OPERATIONS, **ADMIN})
UNLISTED = installed("unlisted", schema={"input": {"properties": {"text": {}}}})  # takes no operations


class Catalog:
    routing = Routing(aliases={"fast": "gpt-4o-mini"}, default=LISTED.reference.any_version)

    def component(self, reference: Reference) -> Component:
        return {"unlisted": UNLISTED, "grown": GROWN}.get(reference.name, LISTED)


def holder(kind: str = "secret", *, models: Sequence[str] = (), operations: Sequence[str] = ()) -> Principal:
    key = ApiKey(
        "ab12cd34ef56", "ci", kind, frozenset({"run"}), None, None, None, (), tuple(models), (),  # type: ignore[arg-type]
        0.0, None, None, None, tuple(operations),
    )  # fmt: skip
    return Principal.of(key)


def asked(principal: Principal, operation: str | None, params: Any = None, **more: Any) -> Resolved:
    return resolve(OperationRequest(principal, operation=operation, params=params or {}, **more), Catalog())


class TestOperations:
    @pytest.mark.parametrize(
        "operation",
        [
            pytest.param("files.delete", id="one that another glob has"),
            pytest.param("files.list_and_forget", id="its alias"),
            pytest.param("Chat.completions.create", id="an allowed one in another case, which the manifest does not list"),
            pytest.param("chatter", id="one that begins alike"),
            pytest.param(" chat", id="a blank before an allowed one"),
            pytest.param("", id="a whole input, which may be anything"),
        ],
    )  # fmt: skip
    def test_a_key_for_some_operations_cannot_run(self, operation: str) -> None:
        with pytest.raises(Forbidden, match="not for the operation"):
            asked(holder(operations=("chat.*", "models.list")), operation)

    @pytest.mark.parametrize("operation", ["chat.completions.create", "chat", "models.list"])
    def test_a_key_for_some_operations_runs_those(self, operation: str) -> None:
        asked(holder(operations=("chat.*", "models.list")), operation)

    def test_a_glob_over_an_alias_opens_nothing(self) -> None:
        """The manifest's author chose the alias; the operator scoped names."""
        with pytest.raises(Forbidden):
            asked(holder(operations=("files.list*",)), "files.list_and_forget")

    def test_a_whole_input_names_its_operation_too(self) -> None:
        some = holder(operations=("files.list",))
        asked(some, None, more={"operation": "files.list", "params": {}})
        with pytest.raises(Forbidden, match=r"files\.delete"):
            asked(some, None, more={"operation": "files.delete", "params": {"file_id": "f"}})

    @pytest.mark.parametrize("name", ["Operation", "OPERATION", " operation", "Params", "\u017ftream"])
    def test_a_second_operation_beside_the_first_is_a_mistake(self, name: str) -> None:
        """Some readers of JSON, such as Go's, take names without their case."""
        given = {"operation": "files.list", "params": {}, name: "files.delete"}
        with pytest.raises(InputError, match="beside another"):
            asked(holder(operations=("files.list",)), None, more=given)

    def test_a_catalyst_without_operations_is_for_keys_for_all(self) -> None:
        target = UNLISTED.reference
        asked(holder(operations=("*",)), "", target=target, more={"text": "a"})
        with pytest.raises(Forbidden):
            asked(holder(operations=("chat.*",)), "", target=target, more={"text": "a"})

    def test_a_key_without_operations_runs_all_as_before(self) -> None:
        for operation in OPERATIONS:
            asked(holder(), operation, {"model": "m", "file_id": "f"})


class TestAPublicKey:
    @pytest.mark.parametrize("operation", ["files.list", "files.retrieve", "files.get", "models.list", "batches.list"])
    def test_reads_without_being_told_so(self, operation: str) -> None:
        asked(holder("public"), operation)

    @pytest.mark.parametrize(
        "operation",
        ["files.delete", "files.list_and_forget", "files.create", "chat", "responses.cancel", "models.delete", ""],
    )
    def test_writes_nothing_unless_its_operations_say_so(self, operation: str) -> None:
        with pytest.raises(Forbidden):
            asked(holder("public"), operation)
        if operation == "chat":
            asked(holder("public", operations=("chat.*",)), operation)

    @pytest.mark.parametrize("glob", ["*", "files.*", "files.d*"])
    def test_deletes_nothing_by_a_glob_that_is_open_at_its_end(self, glob: str) -> None:
        asked(holder("public", operations=(glob, "files.create")), "files.create")
        with pytest.raises(Forbidden):
            asked(holder("public", operations=(glob,)), "files.delete")

    @pytest.mark.parametrize("glob", ["files.delete", "*.delete"])
    def test_deletes_where_a_glob_names_that(self, glob: str) -> None:
        asked(holder("public", operations=(glob,)), "files.delete")

    def test_reads_of_a_catalyst_that_marks_its_public_operations_those_alone(self) -> None:
        rows = {
            "a.list": {"method": "GET", "path": "/a", "public": True},
            "a.describe": {"public": True},
            "b.list": {"method": "GET", "path": "/b"},
            "list": {},
            "a.create": {"method": "POST", "path": "/a", "public": True},
            "a.connect": {"method": "GET", "path": "/a/live", "websocket": True, "public": True},
        }
        specs = read_operations(rows)
        public = holder("public")
        assert [name for name, one in specs.items() if public.may_operate(name, one)] == ["a.list", "a.describe"]
        assert holder("public", operations=("b.*",)).may_operate("b.list", specs["b.list"])

    def test_of_a_catalyst_that_tells_no_methods_reads_by_names(self) -> None:
        target = UNLISTED.reference
        for name in ("files.list", "files.get", "files.retrieve", "list"):
            asked(holder("public"), name, target=target)
        for name in ("files.delete", "get.rid_of", "fetch", ""):
            with pytest.raises(Forbidden):
                asked(holder("public"), name, target=target)


class TestAnUpgradeWithMoreOperations:
    """A key of today, after its catalyst has an administrator's operations as well."""

    @pytest.mark.parametrize("operation", [*ADMIN, "projects.create"])
    @pytest.mark.parametrize(
        ("kind", "globs"),
        [
            pytest.param("secret", (), id="a key for all operations"),
            pytest.param("admin", (), id="an admin key"),
            pytest.param("public", (), id="a public key, which reads"),
            pytest.param("secret", ("*",), id="a glob over everything"),
            pytest.param("secret", ("*.list", "*.create", "*.delete"), id="globs over the ends of names"),
            pytest.param("secret", ("a*", "?dmin.*", "[a]dmin.*", "admin*"), id="globs that begin before the kind ends"),
            pytest.param("secret", ("projects.*", "projects.create"), id="globs over an alias"),
            pytest.param("secret", ("files.*", "chat.*"), id="globs over others"),
            pytest.param("public", ("admin", "administer.*"), id="names that are nearly the kind"),
        ],
    )  # fmt: skip
    def test_no_key_has_the_administrators_operations_that_did_not_name_them(
        self, kind: str, globs: tuple[str, ...], operation: str
    ) -> None:
        with pytest.raises(Forbidden):
            asked(holder(kind, operations=globs), operation, target=GROWN.reference)
        with pytest.raises(Forbidden):
            asked(holder(kind, operations=globs), None, target=GROWN.reference, more={"operation": operation})

    @pytest.mark.parametrize("glob", ["admin.*", "admin.projects.*", "admin.projects.list", "admin.*.list"])
    def test_a_key_that_names_them_has_them(self, glob: str) -> None:
        asked(holder(operations=(glob,)), "admin.projects.list", target=GROWN.reference)
        asked(holder(operations=("administer",)), "administer", target=GROWN.reference)

    def test_a_public_key_that_names_the_kind_deletes_none_of_it(self) -> None:
        public = holder("public", operations=("admin.*",))
        asked(public, "admin.projects.list", target=GROWN.reference)
        with pytest.raises(Forbidden):
            asked(public, "admin.projects.delete", target=GROWN.reference)

    @pytest.mark.parametrize("operation", ADMIN)
    def test_a_caller_without_a_key_has_none_of_them_and_the_operator_has_all(self, operation: str) -> None:
        anonymous = Principal(None, ANONYMOUS_SCOPES, anonymous=True)
        with pytest.raises(Forbidden, match="takes a key that names it"):
            asked(anonymous, operation, target=GROWN.reference)
        asked(anonymous, "files.list", target=GROWN.reference)
        asked(OPERATOR, operation, target=GROWN.reference)

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_what_a_key_had_it_still_has(self, operation: str) -> None:
        for globs in ((), ("*",), (operation,)):
            asked(holder(operations=globs), operation, {"model": "m", "file_id": "f"}, target=GROWN.reference)


MINI = {"model": "gpt-4o-mini"}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"model": {"const": "gpt-5"}}}}}


class TestModels:
    @pytest.mark.parametrize(
        ("operation", "params"),
        [
            pytest.param("chat", {"model": "GPT-4O-MINI"}, id="another case"),
            pytest.param("chat", {"model": "gpt-4o-mini "}, id="a blank at the end"),
            pytest.param("chat", {"model": "gpt-4o-mini\n"}, id="a line's end"),
            pytest.param("chat", {"model": "ft:gpt-4o-mini:acme::id"}, id="a tuned one"),
            pytest.param("chat", {"model": "openai/gpt-4o-mini"}, id="another provider's spelling"),
            pytest.param("chat", {"model": ["gpt-4o-mini"]}, id="a list"),
            pytest.param("chat", {"model": ["gpt-4o-mini", "gpt-5"]}, id="two fields of a form"),
            pytest.param("chat", {"model": {"id": "gpt-4o-mini"}}, id="an object"),
            pytest.param("chat", {"model": ""}, id="an empty name"),
            pytest.param("chat", {"model": "", "model_id": "gpt-4o-mini"}, id="an allowed one in a field that is not read"),
            pytest.param("chat", {"model": None, "model_id": "gpt-4o-mini"}, id="and none in the one that is"),
            pytest.param("chat", {**MINI, "model_id": "gpt-5"}, id="two names for it"),
            pytest.param("chat", {**MINI, "Model": "gpt-5"}, id="a second field in another case"),
            pytest.param("chat", {**MINI, "MODEL": "gpt-5"}, id="in capitals"),
            pytest.param("chat", {**MINI, "model ": "gpt-5"}, id="with a blank"),
            pytest.param("chat", {**MINI, "models": ["gpt-5"]}, id="a list to fall back on"),
            pytest.param("chat", {**MINI, "model\u017f": ["gpt-5"]}, id="with an s that folds to one"),
            pytest.param("chat", {**MINI, "models": ["gpt-4o-mini", "gpt-5"], "route": "fallback"}, id="which begins well"),
            pytest.param("chat", {**MINI, "models": [["gpt-5"]]}, id="a list in a list"),
            pytest.param("chat", {**MINI, "fallbacks": [{"model": "gpt-5"}]}, id="objects to fall back on"),
            pytest.param("chat", {**MINI, "extra_body": {"model": "gpt-5"}}, id="more of the body, in the body"),
            pytest.param("chat", {**MINI, "preset": "mine"}, id="a preset"),
            pytest.param("chat", {**MINI, "plugins": [{"id": "web"}]}, id="a plug-in"),
            pytest.param("chat", {**MINI, "prompt": {"id": "pmpt_1"}}, id="a stored prompt"),
            pytest.param("responses.create", {**MINI, "prompt": "pmpt_1"}, id="a stored prompt by its id"),
            pytest.param("responses.create", {"prompt": {"id": "pmpt_1"}}, id="a stored prompt alone"),
            pytest.param("responses.create", {"previous_response_id": "resp_1"}, id="a conversation, and no model"),
            pytest.param("responses.create", {"conversation": "conv_1"}, id="another kind of that"),
            pytest.param("responses.create", {**MINI, "tools": [{"type": "image_generation"}]}, id="a tool with a model of its own"),
            pytest.param("responses.create", {**MINI, "tools": [{"type": "image_generation", "model": "gpt-image-1"}]}, id="which it names"),
            pytest.param("responses.create", {**MINI, "tools": [{"type": "image_generation", "model": "gpt-4o-mini", "Model": "x"}]}, id="or names twice"),
            pytest.param("responses.create", {**MINI, "tools": [{"type": "file_search", "ranking_options": {"ranker": "x"}}]}, id="a search's ranker"),
            pytest.param("responses.create", {**MINI, "tools": [{"type": "code_interpreter"}]}, id="a hosted tool"),
            pytest.param("responses.create", {**MINI, "tools": [{"type": "of tomorrow"}]}, id="a tool that nobody knows"),
            pytest.param("responses.create", {**MINI, "tools": [{"type": ["function"]}]}, id="a tool of several types"),
            pytest.param("responses.create", {**MINI, "tools": ["web_search"]}, id="a tool by its name"),
            pytest.param("responses.create", {**MINI, "tools": [{"type": "namespace", "tools": [{"type": "web_search"}]}]}, id="a tool in a tool"),
            pytest.param("responses.create", {**MINI, "tools": [{"name": "f", "google_search": {}}]}, id="a tool without a type"),
            pytest.param("responses.create", {**MINI, "tools": {"type": "web_search"}}, id="tools that are no list"),
            pytest.param("responses.create", {**MINI, "Tools": [{"type": "web_search"}]}, id="tools in another case"),
            pytest.param("responses.create", {**MINI, "moderation": {"model": "gpt-5"}}, id="any object that names one"),
            pytest.param("batches.create", {"input_file_id": "file_1", "endpoint": "/v1/chat/completions"}, id="a batch"),
            pytest.param("batches.create", {**MINI, "input_file_id": "file_1"}, id="a batch that names another"),
            pytest.param("files.create", {"purpose": "batch"}, id="the lines of a batch"),
            pytest.param("files.create", {"purpose": "Batch"}, id="in another case"),
            pytest.param("files.create", {"purpose": ["vision", "batch"]}, id="or beside another purpose"),
            pytest.param("files.create", {}, id="a file for anything"),
            pytest.param("files.create", {"purpose": "vision", "multipart": [{"name": "purpose", "value": "batch"}]}, id="a form that is ready"),
            pytest.param("uploads.create", {"purpose": "batch"}, id="a large file"),
            pytest.param("fine_tuning.jobs.create", {"model": "gpt-4o"}, id="a tuning"),
            pytest.param("fine_tuning.jobs.create", {**MINI, "method": {"reinforcement": {"grader": {"model": "o3"}}}}, id="its grader"),
            pytest.param("evals.create", {"testing_criteria": [{"model": "o3"}]}, id="an evaluation"),
            pytest.param("evals.runs.create", {"eval_id": "e"}, id="a run of one"),
            pytest.param("threads.runs.create", {"assistant_id": "a"}, id="an assistant"),
            pytest.param("threads.create_and_run", {**MINI, "assistant_id": "a"}, id="an assistant, and a model"),
            pytest.param("realtime.sessions.create", {}, id="a session past this host"),
            pytest.param("realtime.client_secrets.create", {"session": MINI}, id="a way in for one"),
            pytest.param("videos.remix", {"prompt": "a"}, id="more of a video"),
            pytest.param("videos.edit", {"prompt": "a"}, id="another one of a video"),
            pytest.param("agents.sessions.create", {"input": "a"}, id="an agent, which has a model"),
            pytest.param("agents.sessions.events.create", {"session_id": "s"}, id="more for an agent"),
            pytest.param("live.create", {}, id="a live session"),
            pytest.param("realtime.connect", {}, id="a connection without a model"),
            pytest.param("realtime.connect", {"model": "gpt-5"}, id="a connection with another one"),
            pytest.param("realtime.connect", {"model": "gpt-4o-mini", "call_id": "c"}, id="the one of a call"),
            pytest.param("live.sideband.connect", {"session_id": "s"}, id="the one of another connection"),
            pytest.param("threads.runs.submit_tool_outputs_and_poll", {"run_id": "r"}, id="several requests in one"),
            pytest.param("models.retrieve", {"model": "gpt-5"}, id="another one in the path"),
            pytest.param("models.delete", {"model": "gpt-4o-mini/../gpt-5"}, id="a path that goes up"),
            pytest.param("images.generate", {"prompt": "a cat"}, id="the provider's default"),
            pytest.param("audio.transcriptions.create", {"model": {"$attachment": "file0"}}, id="a file that is called so"),
        ],
    )  # fmt: skip
    def test_a_key_for_some_models_cannot_ask_for(self, operation: str, params: Any) -> None:
        some = holder(models=("gpt-4o-mini",))
        with pytest.raises((Forbidden, InputError)) as raised:
            asked(some, operation, params)
        assert isinstance(raised.value, HostError)
        assert "model" in str(raised.value)
        if isinstance(params.get("model") or "", str):
            asked(OPERATOR, operation, params)  # it is the key that this is about
            asked(holder(), operation, params)

    def test_it_opens_a_connection_whose_first_message_has_to_name_one(self) -> None:
        asked(holder(models=("gpt-4o-mini",)), "responses.connect", {})
        asked(holder(models=("gpt-4o-mini",)), "realtime.connect", {"model": "gpt-4o-mini"})

    @pytest.mark.parametrize(
        "model",
        ["gpt-4o mini", "gpt-4o,claude", "gpt-4o\x00", "gpt-4o/../x", "gpt-4o?x=1", "gpt-4o#", "gpt-4o%2f", "gpt-4ö"],
    )
    def test_a_glob_has_no_names_that_providers_take_apart(self, model: str) -> None:
        with pytest.raises(Forbidden):
            asked(holder(models=("gpt-4*",)), "chat", {"model": model})

    @pytest.mark.parametrize(
        ("operation", "params"),
        [
            pytest.param("chat", MINI, id="its model"),
            pytest.param("chat", {"model": "fast"}, id="an alias of it"),
            pytest.param("chat", {**MINI, "tools": [FUNCTION], "metadata": {"model": "of car"}}, id="a function of the client's own"),
            pytest.param("chat", {**MINI, "models": ["gpt-4o-mini"]}, id="a list of its own alone"),
            pytest.param("chat", {**MINI, "tools": [], "prompt": None, "plugins": None}, id="none of all that"),
            pytest.param("chat", {**MINI, "messages": [{"role": "user", "content": "model: gpt-5"}]}, id="words about another"),
            pytest.param("chat", {**MINI, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"properties": {"model": {"type": "string"}}}}}}, id="a schema with such a property"),
            pytest.param("responses.create", {**MINI, "previous_response_id": "resp_1"}, id="a conversation that goes on"),
            pytest.param("responses.create", {**MINI, "tools": [{"type": "function", "name": "f", "parameters": {"default": {"model": "x"}}}]}, id="a function of a response"),
            pytest.param("responses.cancel", {"response_id": "r"}, id="the end of one"),
            pytest.param("files.create", {"purpose": "user_data"}, id="a file that names none"),
            pytest.param("fine_tuning.jobs.create", MINI, id="a tuning of it"),
            pytest.param("files.delete", {"file_id": "f"}, id="an operation without any"),
            pytest.param("conversations.create", {}, id="another one"),
        ],
    )  # fmt: skip
    def test_a_key_for_some_models_may_ask_for(self, operation: str, params: Any) -> None:
        asked(holder(models=("gpt-4o-mini",)), operation, params)

    def test_what_stands_beside_the_envelope_names_no_other(self) -> None:
        some, envelope = holder(models=("gpt-4o-mini",)), {"operation": "chat", "params": MINI}
        asked(some, None, more={**envelope, "id": 1})
        for more in ({"model": "gpt-5"}, {"body": {"Model": "gpt-5"}}):
            with pytest.raises(Forbidden, match="model"):
                asked(some, None, more={**envelope, **more})

    def test_an_image_tool_may_use_a_model_of_the_key(self) -> None:
        tool = {"type": "image_generation", "model": "gpt-image-1"}
        asked(holder(models=("gpt-4o-mini", "gpt-image-1")), "responses.create", {**MINI, "tools": [tool]})

    @pytest.mark.parametrize("one", [{"role": "user"}, [], {}, [[]], [1] * 15])
    def test_more_fields_than_there_is_time_to_look_at_are_a_mistake(self, one: Any) -> None:
        many = {**MINI, "messages": [one] * 60_000}
        began = time.thread_time()
        with pytest.raises(InputError, match="more than 50000 fields"):
            asked(holder(models=("gpt-4o-mini",)), "chat", many)
        assert time.thread_time() - began < slack(0.5)
        asked(holder(), "chat", many)
        asked(holder(models=("gpt-4o-mini",)), "chat", {**MINI, "input": [1] * 700_000})
