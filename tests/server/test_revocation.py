"""A key or a session that ends takes its streams with it, in every process that shares the state."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from host.core.names import Reference
from host.core.quantities import Quota
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.service.principal import MOST_REQUESTS
from host.store.access.api_keys import Proof
from tests.conftest import late, slack
from tests.server.conftest import OPENAI, Server, until
from tests.server.console.conftest import Browser
from tests.server.test_fairness import Raw, bearer

LONG: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Say hello in 500 words"}],
    "stream": True,
}
ENDS_S = 1.0
OTHER = Reference.parse("c:local.other")


class Listener(Raw):
    """A client that reads a stream to its end."""

    def __init__(self, server: Server, path: str, text: str, body: Any) -> None:
        super().__init__(server, path, text, json.dumps(body).encode())
        self.received = b""

    def hears(self, what: bytes) -> None:
        while what not in self.received:
            more = self.socket.recv(65536)
            assert more, self.received
            self.received += more

    def rest(self) -> bytes:
        """All of it, once it has ended."""
        while not self.received.endswith(b"0\r\n\r\n") and (more := self.socket.recv(65536)):
            self.received += more
        return self.received


@pytest.fixture
def machines(serving: Callable[..., Server], fake: FakeOpenAI) -> Callable[[], list[Server]]:
    """`machines()` are two processes' servers over one state, and their upstream takes its time."""
    fake.script([{"path": "/v1/chat/*", "event_delay_s": 0.1, "times": None}])
    return lambda: [serving().up_to_date() for _ in range(2)]


@pytest.fixture
def elsewhere(state_dir: Path) -> Iterator[Workspace]:
    """The state as another process has it."""
    with Workspace.open(state_dir) as opened:
        yield opened


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as one:
        yield one


def streaming(stack: ExitStack, servers: list[Server], text: str) -> list[Listener]:
    """A stream at each server, after its first event."""
    found = [stack.enter_context(closing(Listener(one, "/v1/chat/completions", text, LONG))) for one in servers]
    for one in found:
        one.hears(b"data: ")
    return found


ENDS: list[Any] = [
    pytest.param(lambda keys: keys.revoke("ci"), id="revoked"),
    pytest.param(lambda keys: keys.rotate("ci"), id="rotated"),
    pytest.param(lambda keys: keys.update("ci", catalysts=[OPENAI, OTHER]), id="narrowed"),
    pytest.param(lambda keys: keys.rotate("ci", 0.2), id="rotated, once the overlap is over"),
]


class TestAKeyThatEnds:
    @pytest.mark.parametrize("end", ENDS)
    def test_ends_its_streams_within_a_second_in_every_process_with_an_error_event(
        self, workspace: Workspace, machines: Any, elsewhere: Workspace, stack: ExitStack, end: Callable[[Any], object]
    ) -> None:
        _, text = workspace.api_keys.create(name="ci", type="secret")
        _, other = workspace.api_keys.create(name="other", type="secret")
        servers = machines()
        theirs, others = streaming(stack, servers, text), streaming(stack, servers, other)
        end(elsewhere.api_keys)
        began = time.monotonic()
        for one in theirs:
            assert b'event: error\ndata: {"error":{' in (said := one.rest())
            assert b'"code":"invalid_api_key"' in said
            assert b"[DONE]" not in said
        assert time.monotonic() - began < late(ENDS_S)
        for one in others:
            assert b"event: error" not in one.received
            before = one.received.count(b"data: ")
            until(lambda one=one, before=before: _more(one) > before)  # type: ignore[misc]
            assert b"event: error" not in one.received
        for server in servers:
            until(lambda server=server: len(server.application.dispatch.running) == 1)  # type: ignore[misc]

    def test_by_its_date_ends_its_streams_as_well(self, workspace: Workspace, machines: Any, stack: ExitStack) -> None:
        ends_at = time.time() + slack(4.0)
        _, text = workspace.api_keys.create(name="ci", type="secret", expires_at=ends_at)
        [stream, _] = streaming(stack, machines(), text)
        assert b"invalid_api_key" in stream.rest()
        assert ends_at <= time.time() < ends_at + late(ENDS_S)

    @pytest.mark.parametrize(
        "change",
        [
            {"rate_limit": Quota.parse("1/1h")},
            {"catalysts": [OPENAI, OTHER]},
            {"catalysts": []},
            {"concurrency": 1},
            {"scopes": {"run", "runs", "components"}},
        ],
    )
    def test_that_is_changed_and_not_narrowed_leaves_its_streams_alone(
        self, workspace: Workspace, change: dict[str, Any]
    ) -> None:
        keys = workspace.api_keys
        key, text = keys.create(name="ci", type="secret", catalysts=[OPENAI], scopes={"run"})
        keys.update("ci", **change)
        assert keys.snapshot().still_good(key, Proof.of_text(text), time.time())
        for less in ({"catalysts": [OTHER]}, {"models": ["a"]}, {"operations": ["a"]}, {"scopes": {"runs"}}):
            keys.update("ci", **less)
            assert not keys.snapshot().still_good(key, Proof.of_text(text), time.time())
            keys.update("ci", catalysts=[OPENAI], models=[], operations=[], scopes={"run"})

    def test_leaves_a_stream_of_its_new_text_alone(
        self, workspace: Workspace, machines: Any, elsewhere: Workspace, stack: ExitStack
    ) -> None:
        _, old = workspace.api_keys.create(name="ci", type="secret")
        servers = machines()
        _, new = elsewhere.api_keys.rotate("ci", 3600.0)
        for server in servers:
            server.up_to_date()
        olds, news = streaming(stack, servers, old), streaming(stack, servers, new)
        elsewhere.api_keys.rotate("ci", 3600.0)  # the oldest is over, the other is the one before now
        for one in olds:
            assert b"invalid_api_key" in one.rest()
        for one in news:
            before = one.received.count(b"data: ")
            until(lambda one=one, before=before: _more(one) > before)  # type: ignore[misc]
            assert b"event: error" not in one.received

    def test_ends_runs_of_mcp_and_the_playground(
        self, workspace: Workspace, machines: Any, elsewhere: Workspace, stack: ExitStack, fake: FakeOpenAI
    ) -> None:
        _, text = workspace.api_keys.create(name="ci", type="admin")
        servers = machines()
        fake.script([{"path": "/v1/models", "delay_s": 60.0, "times": None}])
        given = {"operation": "models.list"}
        call = {"name": "execution", "arguments": {"action": "run", "reference": "c:local.openai", "input": given}}
        asked = [
            ("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}),
            ("/console/api/playground", {"reference": "c:local.openai", "operation": "models.list"}),
        ]  # fmt: skip
        clients = []
        for server in servers:
            for path, body in asked:
                clients.append(stack.enter_context(closing(Listener(server, path, text, body))))
        until(lambda: sum(len(server.application.dispatch.running) for server in servers) == 4)
        elsewhere.api_keys.revoke("ci")
        began = time.monotonic()
        for one in clients:
            one.hears(b"unauthenticated")
        assert time.monotonic() - began < late(ENDS_S)

    @pytest.mark.parametrize("end", ENDS[:2])
    def test_while_its_request_is_on_its_way_starts_no_run(
        self, workspace: Workspace, machines: Any, elsewhere: Workspace, fake: FakeOpenAI, end: Callable[[Any], object]
    ) -> None:
        _, text = workspace.api_keys.create(name="ci", type="secret")
        [server, _] = machines()
        body = json.dumps(LONG).encode()
        with closing(Raw(server, "/v1/chat/completions", text, body[:10], len(body))) as client:
            until(lambda: server.application.dispatch._admission.free_requests == MOST_REQUESTS - 1)
            end(elsewhere.api_keys)
            until(lambda: server.get("/v1/models", headers=bearer(text)).status_code == 401)
            fake.reset()
            client.socket.sendall(body[10:])
            assert client.answer()[0] == 401
        assert fake.requests == []

    def test_ends_a_run_that_waits_for_a_sandbox(
        self,
        workspace: Workspace,
        machines: Any,
        elsewhere: Workspace,
        stack: ExitStack,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("host.runtime.host.most_runs", lambda _: 1)
        _, text = workspace.api_keys.create(name="ci", type="secret")
        _, other = workspace.api_keys.create(name="other", type="secret")
        servers = machines()[:1]
        streaming(stack, servers, other)
        waiting = stack.enter_context(closing(Listener(servers[0], "/v1/chat/completions", text, LONG)))
        until(lambda: len(servers[0].application.dispatch.running) == 2)
        elsewhere.api_keys.revoke("ci")
        began = time.monotonic()
        waiting.hears(b"invalid_api_key")
        assert time.monotonic() - began < late(ENDS_S)


def _more(one: Listener) -> int:
    one.received += one.socket.recv(65536)
    return one.received.count(b"data: ")


def test_the_first_key_ends_the_streams_of_callers_without_one(
    machines: Any, elsewhere: Workspace, stack: ExitStack
) -> None:
    streams = streaming(stack, machines(), "none")
    elsewhere.api_keys.create(name="ci", type="secret")
    for one in streams:
        assert b"invalid_api_key" in one.rest()


class TestASessionThatEnds:
    @pytest.fixture
    def signed_in(self, workspace: Workspace, machines: Any, stack: ExitStack) -> Callable[..., list[Browser]]:
        """`signed_in(2)` are two browsers, and the first's cookie at another process's server."""
        _, text = workspace.api_keys.create(name="admin", type="admin")
        servers = machines()

        def sign_in(count: int) -> list[Browser]:
            found = [stack.enter_context(closing(Browser(servers[0].url))) for _ in range(count)]
            for one in found:
                assert one.sign_in(text).status_code == 200
            copied = stack.enter_context(closing(Browser(servers[1].url)))
            copied.client.cookies.update(found[0].client.cookies)
            copied.token = found[0].token
            return [*found, copied]

        return sign_in

    def test_is_over_on_every_server_whoever_has_its_cookie(self, signed_in: Any) -> None:
        one, other, copied = signed_in(2)
        kept = dict(one.client.cookies)
        assert copied.get("/overview").status_code == 200
        assert one.ask("DELETE", "/session").status_code == 200
        one.client.cookies.update(kept)
        assert [browser.get("/overview").status_code for browser in (one, copied, other)] == [401, 401, 200]

    def test_everywhere_ends_all_sessions_of_its_key_and_no_later_one(self, signed_in: Any) -> None:
        one, other, copied = signed_in(2)
        kept = dict(one.client.cookies)
        assert one.ask("DELETE", "/session?everywhere=true").status_code == 200
        one.client.cookies.update(kept)
        assert [browser.get("/overview").status_code for browser in (one, copied, other)] == [401, 401, 401]
        assert signed_in(1)[0].get("/overview").status_code == 200

    def test_cannot_be_ended_by_a_page_of_another_site(self, signed_in: Any) -> None:
        one, _ = signed_in(1)
        assert one.ask("DELETE", "/session?everywhere=true", origin="http://evil.example").status_code == 403
        assert one.get("/overview").status_code == 200

    @pytest.mark.parametrize("path", ["/session", "/session?everywhere=true"])
    def test_ends_the_runs_of_its_playground(self, signed_in: Any, fake: FakeOpenAI, path: str) -> None:
        one, copied = signed_in(1)
        fake.script([{"path": "/v1/models", "delay_s": 60.0, "times": None}])
        given = {"reference": "c:local.openai", "operation": "models.list"}
        sent = {"origin": copied.url, "x-csrf-token": copied.token}
        with copied.client.stream("POST", "/console/api/playground", json=given, headers=sent) as answer:
            lines = answer.iter_lines()
            assert "run" in json.loads(next(lines))
            assert one.ask("DELETE", path).status_code == 200
            began = time.monotonic()
            assert json.loads(next(lines))["error"]["type"] == "unauthenticated"
            assert time.monotonic() - began < late(ENDS_S)
        assert len(fake.requests) <= 1

    def test_by_a_rotation_of_its_key_is_over(self, signed_in: Any, elsewhere: Workspace) -> None:
        one, copied = signed_in(1)
        elsewhere.api_keys.rotate("admin", 3600.0)
        until(lambda: one.get("/overview").status_code == 401)
        until(lambda: copied.get("/overview").status_code == 401)
