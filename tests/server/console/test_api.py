"""What the console is told, and what it changes: over real sockets, with a real sandbox for each run."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host.component.manifest import embed
from host.core.names import Reference
from host.core.quantities import Quota
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.store.access.api_keys import ApiKey
from host.store.audit_log.records import Wanted, newest_records
from tests.conftest import wat
from tests.server.conftest import OPENAI, PATIENCE_S, Server
from tests.server.console.conftest import Browser
from tests.server.console.test_access import until
from tests.server.engine import SharedLoader

CHAT = {
    "reference": "c:local.openai",
    "operation": "chat.completions.create",
    "params": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello in 20 words"}]},
}


def played(lines: list[dict[str, Any]]) -> tuple[str, list[Any], dict[str, Any]]:
    """The run's id, its events, and the last line."""
    return lines[0]["run"], [line["event"] for line in lines[1:-1]], lines[-1]


# the playground


def test_an_operation_is_run_and_its_answer_told(operator: Browser, fake: FakeOpenAI) -> None:
    run, events, last = played(operator.lines(CHAT))
    assert last["result"]["status"] == 200
    assert last["result"]["data"]["choices"][0]["message"]["content"]
    assert last["tokens"]["input"] > 0
    assert last["tokens"]["output"] > 0
    assert last["duration_s"] > 0
    assert events == []
    assert operator.get(f"/runs/{run}").json()["run"]["state"] == "ok"


def test_a_stream_is_told_event_by_event_and_what_it_cost_without_an_event_of_its_own(operator: Browser) -> None:
    _, events, last = played(operator.lines({**CHAT, "stream": True}))
    assert len(events) > 5
    assert all(event["choices"] for event in events)
    assert last["tokens"]["output"] > 0


def test_an_operation_that_failed_is_an_answer_too(operator: Browser, fake: FakeOpenAI) -> None:
    for stream in (False, True):
        fake.fail_next(503)
        last = played(operator.lines({**CHAT, "stream": stream}))[2]
        assert last["result"]["status"] == 503
        assert last["result"]["error"]["message"]


def test_a_file_is_attached_and_bytes_come_back(operator: Browser) -> None:
    spoken = {"model": "tts-1", "input": "hi", "voice": "alloy"}
    last = played(
        operator.lines({"reference": "c:local.openai", "operation": "audio.speech.create", "params": spoken})
    )[2]
    (attached,) = last["result"]["attachments"].values()
    assert len(base64.b64decode(attached["data"])) == attached["size"] > 0
    sent = {
        "reference": "c:local.openai",
        "operation": "audio.transcriptions.create",
        "params": {"model": "whisper-1", "file": {"$attachment": "speech.mp3"}},
        "files": {"speech.mp3": {"data": attached["data"], "filename": "speech.mp3", "content_type": "audio/mpeg"}},
    }
    assert played(operator.lines(sent))[2]["result"]["data"]["text"]


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        pytest.param({"operation": "chat.completions.create", "params": {}}, 400, "params", id="parameters that are missing"),
        pytest.param({"reference": "c:local.nothing"}, 404, "c:local.nothing", id="a catalyst that is not there"),
        pytest.param({"reference": "?"}, 400, "", id="no reference"),
        pytest.param({"more": 1}, 400, "more", id="a field that is none"),
        pytest.param({"params": []}, 400, "params", id="parameters that are no object"),
        pytest.param({"files": {"a": {"data": "%"}}}, 400, "base64", id="a file that is not base64"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_before_anything_begins(
    operator: Browser, workspace: Workspace, change: dict[str, Any], status: int, told: str
) -> None:
    answer = operator.post("/playground", {**CHAT, **change})
    assert answer.status_code == status
    assert told in answer.json()["error"]["message"]
    assert newest_records(workspace.database, 1, Wanted(kind="run.started")) == []


def test_the_playground_is_for_what_the_key_may_run(workspace: Workspace, browser_with: Callable[..., Browser]) -> None:
    assert browser_with(scopes=["manage"]).post("/playground", CHAT).status_code == 403
    limited = browser_with(models=["gpt-4o*"])
    assert limited.post("/playground", CHAT).status_code == 200
    other = {**CHAT, "params": {**CHAT["params"], "model": "o3"}}  # type: ignore[dict-item]
    assert limited.post("/playground", other).status_code == 403
    assert browser_with(catalysts=[Reference.parse("c:local.other")]).post("/playground", CHAT).status_code == 403


def test_the_playground_counts_towards_what_the_key_may_spend(browser_with: Callable[..., Browser]) -> None:
    one = browser_with(request_budget=Quota.parse("1/1d"))
    assert one.post("/playground", CHAT).status_code == 200
    assert one.post("/playground", CHAT).status_code == 429


@pytest.fixture
def browser_with(workspace: Workspace, server: Server, other: Callable[[], Browser]) -> Callable[..., Browser]:
    """Somebody with an admin key for which these things hold."""

    def make(**limits: Any) -> Browser:
        name = f"admin {len(workspace.api_keys.all())}"
        text = workspace.api_keys.create(name=name, type="admin", **limits)[1]
        one = other()
        until(lambda: one.get("/session", authorization=f"Bearer {text}").json()["signed_in"])
        assert one.sign_in(text).status_code == 200
        return one

    return make


# what runs, and ran


def test_a_run_is_seen_while_it_runs_and_cancelled_from_the_console(
    operator: Browser, other: Callable[[], Browser], admin: tuple[ApiKey, str], fake: FakeOpenAI
) -> None:
    fake.script([{"event_delay_s": 0.05}])
    second = other()
    second.sign_in(admin[1])
    told: list[dict[str, Any]] = []
    long = {**CHAT, "stream": True, "params": {**CHAT["params"], "messages": [{"role": "user", "content": "Say hello in 900 words"}]}}  # type: ignore[dict-item]  # fmt: skip
    playing = threading.Thread(target=lambda: told.extend(second.lines(long)))
    playing.start()

    def running() -> list[dict[str, Any]]:
        return list(operator.get("/overview").json()["running"])

    until(lambda: len(running()) == 1)
    (one,) = running()
    assert one["caller"]["name"] == "admin"
    assert one["caller"]["operation"] == "chat.completions.create"
    assert operator.post(f"/runs/{one['id']}/cancel").json() == {"id": one["id"]}
    playing.join(PATIENCE_S)
    assert played(told)[2]["error"]["type"] == "cancelled"
    until(lambda: running() == [])
    found = operator.get("/overview").json()["recent"][0]
    assert (found["id"], found["state"], found["outcome"]) == (one["id"], "failed", "cancelled")
    assert operator.post(f"/runs/{one['id']}/cancel").status_code == 400, "it has ended"


def test_a_run_that_failed_says_why_and_another_what_it_cost(operator: Browser, fake: FakeOpenAI) -> None:
    run, _, _ = played(operator.lines(CHAT))
    found = operator.get(f"/runs/{run}").json()
    assert found["failure"] is None
    assert (found["run"]["operation"], found["run"]["model"]) == (CHAT["operation"], CHAT["params"]["model"])  # type: ignore[index]
    assert found["run"]["input_tokens"] > 0
    fake.script([{"status": 500, "body": {"error": {"message": "the upstream is ill"}}}])
    run, _, _ = played(operator.lines(CHAT))
    assert operator.get(f"/runs/{run}").json()["failure"]["error"]["message"] == "the upstream is ill"


def test_a_page_that_is_left_ends_its_run(operator: Browser, fake: FakeOpenAI) -> None:
    fake.script([{"event_delay_s": 0.05}])
    sent = {**CHAT, "stream": True, "params": {**CHAT["params"], "messages": [{"role": "user", "content": "Say hello in 900 words"}]}}  # type: ignore[dict-item]  # fmt: skip
    headers = {"origin": operator.url, "x-csrf-token": operator.token, "content-type": "application/json"}
    with operator.client.stream("POST", "/console/api/playground", content=json.dumps(sent), headers=headers) as answer:
        lines = map(json.loads, answer.iter_lines())
        run = next(lines)["run"]
        assert any("event" in line for line in lines), "who leaves before a run starts has none"

    def failed() -> bool:
        answer = operator.get(f"/runs/{run}")
        if answer.status_code == 503:  # a busy machine: the page asks again, too
            return False
        assert answer.status_code == 200, answer.text
        return bool(answer.json()["run"]["state"] == "failed")

    until(failed)


def test_a_run_is_told_with_all_its_records(operator: Browser) -> None:
    run = played(operator.lines(CHAT))[0]
    found = operator.get(f"/runs/{run}").json()
    assert found["records"][0]["kind"] == "run.started"
    assert found["records"][-1]["kind"] == "run.ended"
    asked = next(record for record in found["records"] if record["kind"] == "http.request")
    assert (asked["decision"], asked["detail"]["method"]) == ("allow", "POST")
    assert found["run"]["caller"]["via"] == "console"
    assert found["more"] == 0


def test_what_was_denied_is_told_with_its_rule(operator: Browser, workspace: Workspace) -> None:
    workspace.policies.update(OPENAI, {"allowed_domains": ["elsewhere.example"]})
    time_of_change = workspace.stamp()
    until(lambda: played(operator.lines(CHAT))[2].get("error", {}).get("type") == "denied")
    assert workspace.stamp() == time_of_change
    (found, *_) = operator.get("/runs?failed=true").json()["runs"]
    assert found["denied"] == 1
    records = operator.get(f"/runs/{found['id']}").json()["records"]
    assert any(record["decision"] == "deny" and record["rule"] for record in records)


def test_runs_are_told_page_by_page(operator: Browser) -> None:
    for _ in range(3):
        operator.lines({**CHAT, "operation": "models.list", "params": {}})
    newest, *rest = operator.get("/runs").json()["runs"]
    assert [run["id"] for run in operator.get(f"/runs?before={newest['seq']}").json()["runs"]] == [
        run["id"] for run in rest
    ]
    assert operator.get("/runs?failed=true").json()["runs"] == []
    assert operator.get("/runs?before=x").status_code == 400
    assert operator.get("/runs/run_nothing").status_code == 404


# catalysts


def test_a_catalyst_is_told_with_its_authority(operator: Browser, fake: FakeOpenAI) -> None:
    (listed,) = operator.get("/catalysts").json()["catalysts"]
    assert listed["subject"] == "c:local.openai"
    assert listed["approved"] is True
    assert {"name": "models.list", "method": "GET", "path": "/models"}.items() <= next(
        one for one in listed["operations"] if one["name"] == "models.list"
    ).items()
    found = operator.get(f"/catalysts/{listed['reference']}").json()
    rows = {row["authority"]: row for row in found["authority"]}
    assert rows["HTTP requests"]["granted"] == [f"api.openai.com, sent to {fake.url}"]
    assert rows["secrets"]["granted"] == ["OPENAI_API_KEY, in a header, to api.openai.com"]
    assert rows["files"]["can"] is False
    assert found["limits"]["timeout_s"] > 0


def test_what_was_not_approved_is_told_of_and_not_put_on_record_as_refused(
    operator: Browser, workspace: Workspace, tmp_path: Path
) -> None:
    """Looking is no attempt to run it."""
    workspace.policies.update(Reference.parse("c:local.tool"), {"allowed_domains": ["api.example.com"]})
    install_tool(workspace, tmp_path, "0.2.0")
    until(lambda: len(operator.get("/catalysts").json()["catalysts"]) == 2)
    approved = {one["reference"]: one["approved"] for one in operator.get("/catalysts").json()["catalysts"]}
    assert approved == {"c:local.openai:0.1.0": True, "c:local.tool:0.2.0": False}
    assert operator.get("/catalysts/c:local.tool:0.2.0").json()["authority"]
    assert newest_records(workspace.database, 1, Wanted(kind="component.refused")) == []
    sent = {"reference": "c:local.tool:0.2.0", "operation": "", "params": {}}
    assert operator.post("/playground", sent).status_code == 503


def test_a_catalyst_without_operations_takes_its_input_as_it_is(
    operator: Browser, workspace: Workspace, tmp_path: Path
) -> None:
    install_tool(workspace, tmp_path, "0.1.0")
    until(lambda: len(operator.get("/catalysts").json()["catalysts"]) == 2)
    last = played(operator.lines({"reference": "c:local.tool", "operation": "", "params": {"any": "thing"}}))[2]
    assert "raw" in last["result"]["data"]


def test_an_operation_is_told_with_its_schema_and_parameters_to_begin_with(operator: Browser) -> None:
    found = operator.get("/catalysts/c:local.openai/operations/chat.completions.create").json()
    assert found["starting"]["model"] == "gpt-4o-mini"
    assert "messages" in found["schema"]["properties"]
    assert operator.get("/catalysts/c:local.openai/operations/nothing").status_code == 404
    assert operator.get("/catalysts/c:local.nothing").status_code == 404


def install_tool(workspace: Workspace, tmp_path: Path, version: str, **fields: Any) -> None:
    manifest = {"id": "catalyst:local.tool", "version": version, **fields}
    file = tmp_path / f"tool-{version}.wasm"
    file.write_bytes(embed(wat("hostile/returns_not_json"), json.dumps(manifest).encode()))
    loader = SharedLoader()
    try:
        workspace.register(file, loader)
    finally:
        loader.sandbox.close()


# keys


def test_a_key_is_made_shown_once_and_put_on_record(operator: Browser, workspace: Workspace, server: Server) -> None:
    made = operator.post(
        "/keys",
        {
            "name": "ci",
            "type": "secret",
            "scopes": ["run"],
            "rate_limit": "100/1m",
            "token_budget": "2M/30d",
            "ip_allowlist": ["127.0.0.0/8"],
            "models": ["gpt-*"],
            "operations": ["chat.*"],
            "catalysts": ["c:local.openai"],
            "expires_in_s": 3600,
        },
    ).json()
    assert made["text"].startswith("host_sk_")
    assert made["key"]["rate_limit"] == "100/1m"
    assert made["key"]["operations"] == ["chat.*"]
    assert made["key"]["state"] == "active"
    assert made["text"] not in operator.get("/keys").text
    recorded = newest_records(workspace.database, 1, Wanted(kind="api_key.created"))[0]
    assert recorded.detail["name"] == "ci"
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
    until(
        lambda: (
            server.post(
                "/v1/chat/completions", json=asked, headers={"authorization": f"Bearer {made['text']}"}
            ).status_code
            == 200
        )
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"name": "?"}, "name", id="a name that is none"),
        pytest.param({"name": "admin"}, "name", id="a name that is taken"),
        pytest.param({"type": "root"}, "type", id="a type that is none"),
        pytest.param({"scopes": ["manage"]}, "scopes", id="more than the type may"),
        pytest.param({"rate_limit": "often"}, "rate_limit", id="a rate that is none"),
        pytest.param({"request_budget": "1"}, "request_budget", id="a budget of requests that is none"),
        pytest.param({"token_budget": "1/never"}, "token_budget", id="a budget of tokens that is none"),
        pytest.param({"ip_allowlist": ["here"]}, "ip_allowlist", id="a network that is none"),
        pytest.param({"models": ["a b"]}, "models", id="a model that is none"),
        pytest.param({"operations": ["a b"]}, "operations", id="operations that are none"),
        pytest.param({"catalysts": ["?"]}, "catalysts", id="a catalyst that is none"),
        pytest.param({"expires_in_s": -1}, "expires_in_s", id="an end that was"),
        pytest.param({"id": "x"}, "id", id="a field that is none"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_the_name_of_the_field(
    operator: Browser, change: dict[str, Any], field: str
) -> None:
    answer = operator.post("/keys", {"name": "ci", "type": "secret", **change})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


def test_a_key_is_rotated_and_revoked(operator: Browser, workspace: Workspace) -> None:
    made = operator.post("/keys", {"name": "ci", "type": "secret"}).json()
    ident = made["key"]["id"]
    rotated = operator.post(f"/keys/{ident}/rotate", {"overlap_s": 60}).json()
    assert rotated["text"] != made["text"]
    assert "session" not in rotated
    keys = workspace.api_keys.snapshot()
    assert keys.authenticate(made["text"], time.time())
    assert keys.authenticate(made["text"], time.time() + 61) is None
    assert operator.post(f"/keys/{ident}/revoke").json()["key"]["state"] == "revoked"
    assert workspace.api_keys.snapshot().authenticate(rotated["text"], time.time()) is None
    assert operator.post(f"/keys/{ident}/rotate").status_code == 400
    kinds = [record.kind for record in newest_records(workspace.database, 2)]
    assert kinds == ["api_key.rotated", "api_key.revoked"]
    assert operator.post("/keys/nothing/revoke").status_code == 404


def test_usage_is_told_by_day_and_key(operator: Browser, admin: tuple[ApiKey, str], fake: FakeOpenAI) -> None:
    operator.lines(CHAT)
    fake.fail_next(500)
    operator.lines(CHAT)

    def used() -> list[dict[str, Any]]:
        return list(operator.get("/usage").json()["rows"])

    until(lambda: sum(row["requests"] for row in used()) == 2)
    (row,) = used()
    assert (row["key"], row["failed"]) == (admin[0].id, 1)
    assert row["input_tokens"] > 0
    assert len(operator.get("/usage").json()["days"]) == 14
    assert operator.get("/overview").json()["today"]["requests"] == 2


def test_nothing_that_is_told_is_kept_by_a_browser(operator: Browser) -> None:
    for path in ("/session", "/overview", "/runs", "/runs/none", "/catalysts", "/keys", "/usage"):
        answer = operator.get(path)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "application/json"
