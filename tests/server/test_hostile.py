"""Catalysts that lie to the server, and callers that try to get past what their keys are for."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wasmtime import wat2wasm

from host.component.manifest import embed, embedded_text
from host.core.names import Reference
from host.core.quantities import Quota
from host.fakes import FakeOpenAI
from host.runtime.catalyst import Catalyst
from host.runtime.workspace import Workspace
from host.server import ServerSettings
from host.service import catalog
from host.service.limits import Limit
from host.service.request import Routing
from host.store.audit_log.records import Wanted, newest_records
from tests.server.conftest import OPENAI, PATIENCE_S, Server, until
from tests.server.engine import SharedLoader
from tests.server.mcp.conftest import posted
from tests.server.openai.test_gateway import CHAT, errors_of, with_manifest

LIAR = Reference.parse("c:local.liar")
ROUTE = {"method": "POST", "path": "/chat/completions", "request": "json"}


def saying(output: str) -> bytes:
    """A component that returns `output`, whatever it is asked."""
    data = output.encode()
    text = "".join(f"\\{byte:02x}" for byte in data)
    length = "".join(f"\\{byte:02x}" for byte in len(data).to_bytes(4, "little"))
    return bytes(
        wat2wasm(f"""
(component
  (core module $m
    (memory (export "memory") 32)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
    (data (i32.const 16) "\\00\\10\\00\\00{length}")
    (data (i32.const 4096) "{text}")
    (func (export "run") (param i32 i32) (result i32) (i32.const 16)))
  (core instance $i (instantiate $m))
  (func $run (param "input" string) (result string)
    (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (instance $out (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $out)))
""")
    )


@pytest.fixture
def liar(workspace: Workspace, tmp_path: Path) -> Callable[..., None]:
    """`liar(output, operations, name)` is installed."""

    def install(output: str, operations: dict[str, Any], name: str = "liar") -> None:
        manifest = {"id": f"catalyst:local.{name}", "version": "1.0.0", "operations": operations}
        file = tmp_path / f"{name}.wasm"
        file.write_bytes(embed(saying(output), json.dumps(manifest).encode()))
        loader = SharedLoader()
        try:
            workspace.register(file, loader)
        finally:
            loader.sandbox.close()

    return install


@pytest.fixture
def to_openai(serving: Callable[..., Server]) -> Callable[..., Server]:
    """A server that sends all models to the OpenAI catalyst, but those that begin with `liar`."""
    return lambda: serving(ServerSettings(Routing({"liar": LIAR}, {}, OPENAI)))


@pytest.mark.parametrize("tokens", [2**63, 10**400], ids=["more than SQLite holds", "more than a float holds"])
def test_a_count_of_tokens_beyond_all_measure_does_not_end_the_counting_of_usage(
    liar: Any, to_openai: Callable[..., Server], workspace: Workspace, tokens: int
) -> None:
    liar(json.dumps({"status": 200, "data": {"usage": {"prompt_tokens": tokens}}}), {"chat": ROUTE})
    server = to_openai()
    assert server.post("/v1/chat/completions", json={**CHAT, "model": "liar"}).status_code == 200
    assert server.post("/v1/chat/completions", json=CHAT).status_code == 200

    def counted() -> bool:
        return {one.catalyst for one in workspace.usage.totals()} == {"c:local.liar:1.0.0", "c:local.openai:0.1.0"}

    until(counted)


def test_a_list_of_models_cannot_announce_another_answer(liar: Any, serving: Callable[..., Server]) -> None:
    liar('{"status": 101, "error": {"message": "no"}}', {"models.list": {"method": "GET", "path": "/models"}})
    server = serving(ServerSettings(Routing({}, {}, LIAR)))
    assert server.get("/v1/models").status_code == 502


def test_a_route_of_a_catalyst_that_nothing_is_sent_to_does_not_say_how_others_are_read(
    liar: Any, to_openai: Callable[..., Server]
) -> None:
    """It stands before `openai` in the alphabet, and would have a form of everybody."""
    liar("{}", {"chat": {**ROUTE, "request": "multipart"}}, name="aaa")
    assert to_openai().post("/v1/chat/completions", json=CHAT).status_code == 200


def test_a_schema_that_takes_long_is_checked_beside_the_event_loop(
    liar: Any, to_openai: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    forms = [{"type": "string", "pattern": f"^[a-z]{{1,20}}{number}$"} for number in range(60)]
    params = {"type": "object", "properties": {"x": {"type": "array", "items": {"anyOf": forms}}}}
    monkeypatch.setattr("host.service.dispatch._SLOW_S", 0.0)  # a schema that is let in at all takes little more
    liar("{}", {"chat": {**ROUTE, "params": params}})
    server = to_openai()
    threads: list[str] = []
    check = Catalyst.check

    def noted(catalyst: Catalyst, given: Any) -> None:
        threads.append(threading.current_thread().name)
        check(catalyst, given)

    monkeypatch.setattr(Catalyst, "check", noted)
    for _ in range(3):
        answer = server.post("/v1/chat/completions", json={**CHAT, "model": "liar", "x": ["a"] * 12_000})
        assert errors_of(answer)["param"] == "x[0]"
    assert threads[0] not in threads[1:]


class TestAKeyForSomeModels:
    @pytest.fixture
    def bearer(self, server: Server, workspace: Workspace) -> dict[str, str]:
        _, text = workspace.api_keys.create(name="some", type="secret", models=["gpt-4o-mini"])
        return {"authorization": f"Bearer {text}"}

    @pytest.mark.parametrize(
        "query", ["model_id=gpt-4", "model=gpt-4o-mini&model_id=gpt-4", "model[]=gpt-4&model_id=gpt-4"]
    )
    def test_cannot_name_another_by_another_name_beside_that_in_the_path(
        self, server: Server, bearer: dict[str, str], fake: FakeOpenAI, query: str
    ) -> None:
        until(lambda: server.get("/v1/models/gpt-4o-mini").status_code == 401)
        fake.reset()
        assert server.get("/v1/models/gpt-4o-mini", headers=bearer).status_code == 200
        assert server.get(f"/v1/models/gpt-4o-mini?{query}", headers=bearer).status_code == 403
        assert len(fake.requests) == 1

    def test_cannot_name_another_in_the_body(self, server: Server, bearer: dict[str, str], fake: FakeOpenAI) -> None:
        until(lambda: server.get("/v1/models/gpt-4o-mini").status_code == 401)
        fake.reset()
        for more in ({"model": "gpt-4"}, {"model": ""}, {"model": None}, {"model_id": "gpt-4"}):
            answer = server.post("/v1/chat/completions", json={**CHAT, **more}, headers=bearer)
            assert answer.status_code == 403
        assert fake.requests == []


def test_a_stream_that_is_asked_for_among_the_parameters_is_one(server: Server) -> None:
    """Its events would be lost, and what it cost be guessed."""
    given = {"operation": "chat.completions.create", "params": {**CHAT, "stream": True}}
    arguments = {"action": "run", "reference": "c:local.openai", "input": given}
    answer = posted(server, "tools/call", {"name": "execution", "arguments": arguments}).json()
    data = answer["result"]["structuredContent"]["data"]
    assert data["chunks"]
    assert data["combined_text"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_cannot_have_an_image_fetched(server: Server, fake: FakeOpenAI, site: str) -> None:
    """For which a browser names no origin."""
    answer = server.get("/v1/models", headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"})
    assert answer.status_code == 403
    assert fake.requests == []
    assert server.get("/", headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "null"])
def test_an_origin_that_is_none_is_refused_and_no_fault_of_the_server(server: Server, origin: str) -> None:
    for host in ("localhost", ""):
        assert server.get("/v1/models", headers={"origin": origin, "host": host}).status_code == 403


class TestTheRecordCannotBeFilled:
    def test_by_a_key_that_is_refused_again_and_again(self, server: Server, workspace: Workspace) -> None:
        _, text = workspace.api_keys.create(
            name="some", type="public", models=["gpt-4o"], rate_limit=Quota.parse("3/1h")
        )
        bearer = {"authorization": f"Bearer {text}"}
        until(lambda: server.get("/v1/nothing").status_code == 401)
        given = {"action": "run", "reference": "c:local.openai", "input": {"operation": "models.list", "params": {}}}
        asks: list[Callable[[], Any]] = [
            lambda: server.post("/v1/chat/completions", json=CHAT, headers=bearer).status_code,
            lambda: posted(server, "tools/call", {"name": "secret", "arguments": given}, text).status_code,
            lambda: server.get("/console/api/keys", headers=bearer).status_code,
        ]
        assert [ask() for ask in asks * 3] == [403, 200, 403, *[429] * 6]
        assert len(newest_records(workspace.database, 20, Wanted(kind="request.refused"))) == 3

    @pytest.mark.usefixtures("patient_probes")
    def test_by_whoever_asks_whether_it_is_ready(
        self, server: Server, workspace: Workspace, openai_wasm: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(catalog, "_AGAIN_S", float(PATIENCE_S))
        before = workspace.components.resolve(OPENAI).reference
        manifest = json.loads(embedded_text(openai_wasm) or b"")
        manifest |= {"domains": ["elsewhere.example"], "version": "9.9.9"}
        loader = SharedLoader()
        try:
            file = with_manifest(openai_wasm, manifest, workspace.state_dir / "other.wasm")
            workspace.register(file, loader)
        finally:
            loader.sandbox.close()
        workspace.components.unregister(before)
        until(lambda: server.get("/ready").status_code == 503)
        for _ in range(20):
            assert server.get("/ready").json() == {"status": "unavailable", "code": "not_approved"}
        assert len(newest_records(workspace.database, 50, Wanted(kind="component.refused"))) == 1


def test_leaving_before_the_answer_is_not_for_nothing(server: Server, workspace: Workspace, fake: FakeOpenAI) -> None:
    """Its upstream has done the work, and a budget that never counts it would be none."""
    budget = Quota.parse("20/1h")
    key, text = workspace.api_keys.create(name="hasty", type="secret", token_budget=budget)
    bearer = {"authorization": f"Bearer {text}"}
    until(lambda: server.get("/v1/nothing", headers=bearer).status_code == 404)
    until(lambda: server.get("/v1/nothing").status_code == 401)
    fake.script([{"path": "/v1/*", "delay_s": 30.0}])
    body = json.dumps(CHAT).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {text}\r\n"
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: len(fake.requests) == 1)
    counted = Limit(f"key:{key.id}:tokens", budget, "tokens", "")
    until(lambda: server.application.limiter.admit([counted]) is not None)
    assert server.post("/v1/chat/completions", json=CHAT, headers=bearer).status_code == 429


@pytest.mark.parametrize("zeros", [1, 30, 4_400, 20_000])
def test_a_length_with_zeros_before_it_is_that_length(server: Server, zeros: int) -> None:
    body = json.dumps(CHAT).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
        client.sendall(f"{head}content-length: {'0' * zeros}{len(body)}\r\n\r\n".encode() + body)
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")
