"""The tool `execution`: what its references mean, what becomes of an input, and whose runs one sees."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError

from host.component.manifest import embed
from host.core.names import Reference
from host.core.quantities import Quota
from host.fakes import FakeOpenAI
from host.runtime.catalyst import Catalyst
from host.runtime.workspace import Workspace
from host.server import ServerSettings
from host.store.audit_log.records import Wanted, newest_records
from host.trust.bundle import sign
from host.trust.keys import SigningKey
from tests.conftest import GUESTS, KEY, python_guest, wat
from tests.server.conftest import OPENAI, Server
from tests.server.engine import SharedLoader
from tests.server.mcp.conftest import CHAT, called, registered

MODELS = {"operation": "models.list", "params": {}}


def run(server: Server, bearer: str = "", reference: Any = "c:local.openai", **more: Any) -> Any:
    arguments = {"action": "run", "reference": reference, "input": MODELS, **more}
    return called(server, "execution", arguments, bearer)


def error_of(result: Any) -> dict[str, Any]:
    assert result.is_error
    assert json.loads(result.content[0].text) == result.structured_content
    error: dict[str, Any] = result.structured_content["error"]
    return error


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param({"registry": "catalyst:local.openai:0.1.0"}, id="registry"),
        pytest.param({"registry": "c:local.openai"}, id="registry, the latest"),
        pytest.param({"local": "c:local.openai"}, id="local"),
        pytest.param({"local": "catalyst:local.openai@0.1.0"}, id="local, of a version"),
        pytest.param("c:local.openai", id="a string"),
        pytest.param("catalyst:local.openai:0.1.0", id="a string with a version"),
    ],
)
def test_a_reference_names_what_is_installed(server: Server, reference: Any) -> None:
    answer = run(server, reference=reference, type="catalyst").structured_content
    assert answer["status"] == 200
    assert answer["reference"] == "c:local.openai:0.1.0"
    assert answer["run"] == answer["execution_id"]
    assert answer["data"]["object"] == "list"


@pytest.mark.parametrize("kind", ["oci", ""])
def test_what_was_pulled_is_named_by_where_it_came_from(server: Server, workspace: Workspace, kind: str) -> None:
    source, signer = "oci://registry.example/around:1.0.0", SigningKey.generate()
    manifest = {"id": "catalyst:local.around", "version": "1.0.0", "wasi": {"http": True, "secrets": True}}
    wasm = embed(wat("rust_like"), json.dumps(manifest).encode())
    workspace.trust.add(signer.public, ["local"])
    loader = SharedLoader()
    try:
        workspace.install(wasm, loader, bundles=[sign(wasm, signer).text()], source=source)
    finally:
        loader.sandbox.close()
    answer = run(server, reference={kind: source} if kind else source, input={}).structured_content
    assert answer["data"] == {"environment": "empty"}
    assert answer["reference"] == "c:local.around:1.0.0"
    shown = called(server, "component", {"action": "inspect", "reference": "c:local.around"}).structured_content
    assert shown["source"] == source
    assert shown["signers"] == [signer.public.id]


def test_what_was_not_pulled_is_not_fetched_for_whoever_may_only_run(server: Server, key: Callable[..., str]) -> None:
    error = error_of(run(server, key(), {"oci": "oci://registry.invalid/openai:0.1.0"}))
    assert error["type"] == "not_found"
    assert error["param"] == "reference.oci"
    assert "host pull" in error["hint"]


def test_whoever_manages_may_have_it_fetched(server: Server, key: Callable[..., str]) -> None:
    error = error_of(run(server, key(type="admin"), {"oci": "oci://127.0.0.1:1/openai:0.1.0"}))
    assert error["type"] == "registry_failed"  # it was tried


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        pytest.param({"input": MODELS}, "reference", id="no reference"),
        pytest.param({"reference": "c:local.openai"}, "input", id="no input"),
        pytest.param({"reference": {"local": "/etc/passwd"}, "input": MODELS}, "reference.local", id="a path"),
        pytest.param({"reference": "c:local.nothing", "input": MODELS}, "reference", id="nothing of that name"),
        pytest.param({"reference": "r:local.openai", "input": MODELS}, "reference", id="no catalyst"),
        pytest.param({"reference": "c:local.openai", "input": "{"}, "input", id="a text that is no JSON"),
        pytest.param({"reference": "c:local.openai", "input": {"operation": 3}}, "input.operation", id="no operation"),
        pytest.param(
            {"reference": "c:local.openai", "input": {**MODELS, "params": []}}, "input.params", id="no parameters"
        ),
        pytest.param({"reference": "c:local.openai", "input": {**MODELS, "stream": 1}}, "input.stream", id="no stream"),
    ],
)
def test_what_cannot_be_run_is_an_error_that_names_the_field(
    server: Server, arguments: dict[str, Any], field: str
) -> None:
    result = called(server, "execution", {"action": "run", **arguments})
    error = error_of(result)
    assert error["param"] == field
    assert result.structured_content["status"] in (400, 404)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        pytest.param({}, "action", id="no action"),
        pytest.param({"action": "destroy"}, "action", id="another action"),
        pytest.param({"action": "run", "reference": {}}, "reference", id="an empty reference"),
        pytest.param({"action": "run", "reference": {"file": "x"}}, "reference.file", id="another kind of reference"),
        pytest.param({"action": "run", "type": "formula"}, "type", id="another type"),
        pytest.param({"action": "list", "limit": 0}, "limit", id="no limit"),
        pytest.param({"action": "list", "all": True}, "all", id="an argument that there is not"),
    ],
)
def test_arguments_that_are_none_of_the_tools_are_no_call(
    server: Server, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(MCPError) as raised:
        called(server, "execution", arguments)
    assert raised.value.error.code == -32602
    assert raised.value.error.data["field"] == field


def test_an_input_may_be_json_text(server: Server) -> None:
    assert run(server, input=json.dumps(MODELS)).structured_content["status"] == 200


def test_an_operation_goes_by_its_other_names_too(server: Server) -> None:
    given = {"operation": "models.get", "params": {"model_id": "gpt-4o-mini"}}
    assert run(server, input=given).structured_content["data"]["id"] == "gpt-4o-mini"


def test_bytes_stand_beside_the_envelope(server: Server) -> None:
    given = {"operation": "audio.speech", "params": {"model": "tts-1", "input": "hi", "voice": "alloy"}}
    result = run(server, input=given)
    _, audio = result.content
    assert audio.type == "audio"
    assert result.structured_content["data"] == {
        "content_type": audio.mime_type,
        "size": len(base64.b64decode(audio.data)),
    }


def test_a_file_in_an_input_is_its_bytes(server: Server, fake: FakeOpenAI) -> None:
    params = {"file": {"data": "aGVsbG8=", "filename": "a.txt"}, "purpose": "user_data"}
    answer = run(server, input={"operation": "files.create", "params": params}).structured_content
    assert answer["data"]["bytes"] == 5


def test_a_catalyst_that_takes_no_operations_gets_its_input_as_it_is(
    server: Server, workspace: Workspace, tmp_path: Path
) -> None:
    folder = GUESTS / "probe"
    file = tmp_path / "probe.wasm"
    file.write_bytes(python_guest(folder))
    loader = SharedLoader()
    try:
        there = workspace.register(file, loader).reference
    finally:
        loader.sandbox.close()
    given = {"calls": [["echo", "hello"]]}
    assert run(server, reference=str(there), input=given).structured_content["data"] == ["hello"]


def test_an_input_that_is_no_operation_is_handed_on_word_for_word(
    server: Server, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(workspace, tmp_path, wat("rust_like"), id="catalyst:local.around", wasi={"http": True, "secrets": True})
    handed_on: list[str] = []
    before = Catalyst._text

    def noted(*arguments: Any, **more: Any) -> str:
        handed_on.append(before(*arguments, **more))
        return handed_on[-1]

    monkeypatch.setattr(Catalyst, "_text", noted)
    assert not run(server, reference="c:local.around", input={"text": "hello"}).is_error
    assert handed_on == ['{"text": "hello"}']


def test_an_alias_stands_for_its_model(serving: Callable[..., Server], fake: FakeOpenAI) -> None:
    server = serving(ServerSettings().with_routes(aliases={"fast": "gpt-4o-mini"}, default="c:local.openai"))
    given = {"operation": "chat.completions.create", "params": {**CHAT, "model": "fast"}}
    assert not run(server, input=given).is_error
    assert fake.requests[-1]["body"]["model"] == "gpt-4o-mini"


def test_a_denial_says_what_would_allow_it(server: Server, workspace: Workspace) -> None:
    workspace.policies.reset(OPENAI)
    result = run(server)
    error = error_of(result)
    assert result.structured_content["status"] == 403
    assert error["type"] == "denied"
    assert "host policy set c:local.openai allowed_domains" in error["message"]
    assert error["refusals"][0]["kind"] == "domain_blocked"


def test_what_a_guest_says_at_its_end_stays_with_the_host(server: Server, workspace: Workspace, tmp_path: Path) -> None:
    registered(workspace, tmp_path, wat("hostile/traps_at_once"), id="catalyst:local.traps")
    result = run(server, reference="c:local.traps", input={})
    error = error_of(result)
    assert error["type"] == "guest_trap"
    assert error.keys() <= {"type", "message", "blame", "hint"}
    assert result.structured_content["run"]


def test_a_limit_says_when_to_try_again(server: Server, key: Callable[..., str]) -> None:
    bearer = key(rate_limit=Quota.parse("8/1h"))  # each message is a request, those of the handshake too
    assert not run(server, bearer).is_error
    with pytest.raises(MCPError) as raised:
        next(found for found in (run(server, bearer) for _ in range(8)) if found.is_error)
    error = raised.value.error.data
    assert error["type"] == "limit_exceeded"
    assert 0 < error["retry_after_s"] <= 3600


def test_ones_own_runs_are_listed_and_nobody_elses(server: Server, key: Callable[..., str]) -> None:
    mine, other, admin = key("mine"), key("other"), key("admin", type="admin")
    ident = run(server, mine).structured_content["run"]
    other_ident = run(server, other).structured_content["run"]

    def listed(bearer: str) -> set[str]:
        found = called(server, "execution", {"action": "list"}, bearer).structured_content["runs"]
        assert all(one["operation"] == "models.list" and not one["running"] for one in found)
        return {one["run"] for one in found}

    assert listed(mine) == {ident}
    assert listed(other) == {other_ident}
    assert listed(admin) == {ident, other_ident}


def test_the_record_of_ones_own_run_is_told_and_holds_no_secret(server: Server, key: Callable[..., str]) -> None:
    mine = key("mine")
    ident = run(server, mine).structured_content["run"]
    result = called(server, "execution", {"action": "logs", "run": ident}, mine)
    kinds = [one["kind"] for one in result.structured_content["records"]]
    assert kinds[0] == "run.started"
    assert kinds[-1] == "run.ended"
    assert "http.request" in kinds
    assert KEY not in result.content[0].text


def test_the_record_of_a_run_that_failed_says_why(server: Server, key: Callable[..., str], fake: FakeOpenAI) -> None:
    mine = key("mine")
    fake.script([{"status": 500, "body": {"error": {"message": "the upstream is ill", "type": "server_error"}}}])
    ident = run(server, mine).structured_content["run"]
    found = called(server, "execution", {"action": "logs", "run": ident}, mine).structured_content
    assert found["failure"]["error"]["message"] == "the upstream is ill"
    assert found["run"]["operation"] == "models.list"
    assert "run.failed" not in [one["kind"] for one in found["records"]]


def test_a_caller_who_does_not_manage_is_not_told_where_the_operator_sends_requests(
    server: Server, key: Callable[..., str], workspace: Workspace
) -> None:
    mine, admin = key("mine", scopes=["run", "runs", "components"]), key("admin", type="admin")
    reference = Reference.parse("c:local.openai")
    workspace.policies.set(reference, "upstreams", {"https://api.openai.com": "http://llm-gw.corp.internal:8080"})
    failed = run(server, mine)
    [summary] = called(server, "execution", {"action": "list"}, mine).structured_content["runs"]
    logs = {"action": "logs", "execution_id": summary["run"]}
    shown = called(server, "component", {"action": "inspect", "reference": "c:local.openai"}, mine)
    for told in (failed, called(server, "execution", logs, mine), shown):
        assert "corp.internal" not in str(told)
    assert "api.openai.com" in str(failed)
    assert "failed: llm-gw.corp.internal does not resolve" in str(called(server, "execution", logs, admin))


@pytest.mark.parametrize("action", ["logs", "cancel"])
def test_a_run_of_another_key_is_told_of_as_one_that_there_is_not(
    server: Server, key: Callable[..., str], action: str
) -> None:
    ident = run(server, key("mine")).structured_content["run"]
    other = key("other")
    for guessed in (ident, ident[:6], "nothing"):
        error = error_of(called(server, "execution", {"action": action, "run": guessed}, other))
        assert error["type"] == "not_found"
        assert error["message"].replace(repr(guessed), "") == "there is no run  of yours"


def test_a_run_is_not_found_by_the_beginning_of_its_id(server: Server, key: Callable[..., str]) -> None:
    mine = key("mine")
    ident = run(server, mine).structured_content["run"]
    assert error_of(called(server, "execution", {"action": "logs", "run": ident[:-1]}, mine))["type"] == "not_found"


@pytest.mark.parametrize(
    ("scopes", "arguments"),
    [
        pytest.param({"runs"}, {"action": "run", "reference": "c:local.openai", "input": MODELS}, id="run"),
        pytest.param({"runs"}, {"action": "cancel", "run": "x"}, id="cancel"),
        pytest.param({"run"}, {"action": "list"}, id="list"),
        pytest.param({"run"}, {"action": "logs", "run": "x"}, id="logs"),
    ],
)
def test_each_action_takes_its_scope_and_a_refusal_is_on_record(
    server: Server, key: Callable[..., str], workspace: Workspace, scopes: set[str], arguments: dict[str, Any]
) -> None:
    assert error_of(called(server, "execution", arguments, key(scopes=scopes)))["type"] == "forbidden"
    [record] = newest_records(workspace.database, 10, Wanted(kind="request.refused"))
    assert record.detail["route"] == "POST /mcp"


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"operation": "chat.completions.create", "params": {**CHAT, "model": "gpt-4o"}}, id="plainly"),
        pytest.param({"operation": "models.get", "params": {"model_id": "gpt-4o"}}, id="under the path's older name"),
        pytest.param(
            {"operation": "models.get", "params": {"model": "gpt-4o-mini", "model_id": "gpt-4o"}}, id="under both names"
        ),
        pytest.param({"operation": "images.generate", "params": {"prompt": "a cat"}}, id="by naming none"),
        pytest.param({"operation": "no.such.thing", "params": {}}, id="by an operation that nobody knows"),
        pytest.param({"model": "gpt-4o", "params": CHAT}, id="by an input that is no operation"),
        pytest.param(
            {
                "operation": "audio.transcriptions",
                "params": {
                    "model": "gpt-4o-mini",
                    "multipart": [{"name": "model", "value": "gpt-4o"}, {"name": "file", "data": "aGk="}],
                },
            },
            id="by a form that is made ready",
        ),
        pytest.param(
            {"operation": "chat.completions.create", "params": {**CHAT, "model": "gpt-4o"}, "model": "gpt-4o-mini"},
            id="by a second model beside the parameters",
        ),
    ],
)
def test_a_key_for_some_models_does_not_get_around_them(
    server: Server, key: Callable[..., str], fake: FakeOpenAI, given: dict[str, Any]
) -> None:
    result = run(server, key(models=["gpt-4o-mini"]), input=given)
    assert error_of(result)["type"] == "forbidden"
    assert fake.requests == []


@pytest.mark.parametrize("name", ["model", "model_id"])
def test_a_key_for_some_models_asks_for_those_by_either_name(
    server: Server, key: Callable[..., str], name: str
) -> None:
    bearer = key(models=["gpt-4o-*"])
    given = {"operation": "models.get", "params": {name: "gpt-4o-mini"}}
    assert run(server, bearer, input=given).structured_content["data"]["id"] == "gpt-4o-mini"


def test_a_key_for_another_catalyst_does_not_run_this_one(
    server: Server, key: Callable[..., str], fake: FakeOpenAI
) -> None:
    bearer = key(catalysts=[Reference.parse("c:local.other")])
    for reference in ("c:local.openai", {"registry": "c:local.openai:0.1.0"}):
        assert error_of(run(server, bearer, reference))["type"] == "forbidden"
    assert fake.requests == []
