"""Who may open a WebSocket, and what each end learns of the other."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from host.core.quantities import Quota
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.server import ServerSettings
from host.service.request import Routing
from host.store.audit_log.records import Wanted, newest_records
from tests.conftest import KEY, late
from tests.server.conftest import OPENAI, PATIENCE_S, Server, until
from tests.server.realtime.conftest import ASK, AT, Dial, answered, heard, refused, said

DELTA = "response.output_text.delta"
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{more}\r\n"
)


def raw(server: Server, path: str = AT, host: str = "localhost", more: str = "") -> bytes:
    """What a hand-made request for an upgrade is answered with."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
        client.sendall(UPGRADE.format(path=path, host=host, more=more).encode())
        return client.recv(65_536)


def logged(caplog: Any) -> str:
    """What the server has logged; the client of the test logs what it sends."""
    ours = (one for one in caplog.records if not one.name.startswith("websockets"))
    return "\n".join(f"{one.getMessage()} {vars(one)}" for one in ours)


def end_of(line: ClientConnection) -> tuple[int, str]:
    """The code and reason that the server closes with."""
    with pytest.raises(ConnectionClosed) as closed:
        deque(iter(lambda: line.recv(timeout=PATIENCE_S), None))
    found = closed.value.rcvd
    assert found is not None, "it broke off"
    return found.code, found.reason


class TestPagesOfOtherSites:
    def test_cross_site_websocket_hijacking_is_refused(self, dial: Dial, fake: FakeOpenAI) -> None:
        assert refused(dial, origin="https://evil.example")[1]["code"] == "unknown_origin"
        assert refused(dial, origin="null")[0] == 403
        assert fake.requests == []

    def test_a_page_of_an_allowed_origin_and_one_of_the_server_itself_are_let_in(
        self, serving: Callable[..., Server], dial: Dial
    ) -> None:
        server = serving(ServerSettings(cors_origins=("https://app.example",)))
        for origin in ("https://app.example", server.url):
            assert heard(dial(to=server, origin=origin), "session.created")

    def test_dns_rebinding_is_refused(self, server: Server, fake: FakeOpenAI) -> None:
        assert raw(server, host="evil.example").startswith(b"HTTP/1.1 421")
        assert fake.requests == []


class TestKeys:
    def test_without_one_nobody_gets_in(self, dial: Dial, server: Server, key: Callable[..., str]) -> None:
        key()
        server.up_to_date()
        for text in ("", "host_sk_nobody", KEY):
            answer = answered(dial, key=text)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"]

    def test_one_in_the_query_is_none_and_is_logged_nowhere(
        self, dial: Dial, server: Server, key: Callable[..., str], caplog: Any
    ) -> None:
        text = key()
        server.up_to_date()
        with caplog.at_level(logging.DEBUG):
            for name in ("api_key", "key", "authorization"):
                assert refused(dial, f"{AT}&{name}={text}")[0] == 401
        assert text not in logged(caplog)

    def test_a_browser_s_comes_in_a_subprotocol_and_goes_nowhere_else(
        self, dial: Dial, server: Server, key: Callable[..., str], workspace: Workspace, fake: FakeOpenAI, caplog: Any
    ) -> None:
        text = key()
        server.up_to_date()
        with caplog.at_level(logging.DEBUG):
            line = dial(subprotocols=["realtime", f"openai-insecure-api-key.{text}", "openai-beta.realtime-v1"])
            assert line.subprotocol == "realtime"
            assert line.response is not None
            assert text not in str(line.response.headers)
            assert heard(line, "session.created")
            line.close()
            until(lambda: not server.application.dispatch.running)
        assert text not in logged(caplog)
        assert text not in json.dumps(fake.requests)
        assert text not in str(newest_records(workspace.database, 50, Wanted()))

    def test_a_client_secret_of_the_upstream_opens_nothing_here(self, dial: Dial) -> None:
        status, error = refused(dial, subprotocols=["realtime", "openai-insecure-api-key.ek_123"])
        assert status == 401
        assert "client secret" in error["message"]

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ({"operations": ("chat.*",)}, "not for the operation 'realtime.connect'"),
            ({"models": ("gpt-4o-mini",)}, "not for the model 'gpt-realtime'"),
            ({"scopes": {"runs"}}, "does not have the scope 'run'"),
            ({"kind": "public"}, "not for the operation"),
        ],
    )
    def test_one_that_is_not_for_this_is_refused_before_the_upstream_is_asked(
        self, dial: Dial, server: Server, key: Callable[..., str], fake: FakeOpenAI, more: Any, said: str
    ) -> None:
        text = key(**more)
        server.up_to_date()
        status, error = refused(dial, key=text)
        assert status == 403
        assert said in error["message"]
        assert fake.requests == []

    def test_one_that_is_revoked_takes_its_sessions_with_it(
        self, dial: Dial, server: Server, key: Callable[..., str], workspace: Workspace
    ) -> None:
        text = key()
        server.up_to_date()
        line = dial(key=text)
        heard(line, "session.created")
        workspace.api_keys.revoke(workspace.api_keys.all()[0].id)
        began = time.monotonic()
        assert heard(line, "error")[-1]["error"]["code"] == "invalid_api_key"
        assert end_of(line) == (1008, "unauthenticated")
        assert time.monotonic() - began < late(1.5)
        until(lambda: not server.application.dispatch.running)


class TestModels:
    """Of a key for some models."""

    @pytest.fixture
    def line(self, dial: Dial, server: Server, key: Callable[..., str]) -> ClientConnection:
        text = key(models=("gpt-realtime", "gpt-4o-mini"))
        server.up_to_date()
        return dial(key=text)  # type: ignore[no-any-return]

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "session.update", "session": {"type": "realtime", "model": "gpt-4o"}},
            {"type": "session.update", "session": {"type": "realtime", "Model": "gpt-4o"}},
            {"type": "session.update", "session": {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}},
            {"type": "response.create", "response": {"model": "gpt-4o"}},
            {"type": "response.create", "response": {"prompt": {"id": "pmpt_1"}}},
            {"type": "session.update", "session": {"tools": [{"type": "mcp", "server_url": "https://a.example"}]}},
            {"type": "session.update", "session": {"model": ["gpt-4o"]}},
        ],
    )
    def test_an_event_gets_no_other_model(
        self, line: ClientConnection, workspace: Workspace, event: dict[str, Any]
    ) -> None:
        heard(line, "session.created")
        assert "model" in said(line, event, "error")[-1]["error"]["message"]
        [record] = newest_records(workspace.database, 1, Wanted(kind="request.refused"))
        assert record.decision == "deny"
        assert said(line, ASK, "response.done")[-1]["response"]["status"] == "completed"

    @pytest.mark.parametrize(
        "text",
        [
            '{"type": "session.update", "session": {"model": "gpt-4o-mini", "model": "gpt-4o"}}',
            '{"type": "session.update", "session"',
            "[" * 10_000,
            b"\xff\xfe",
        ],
    )
    def test_nor_does_one_that_readers_take_in_two_ways(self, line: ClientConnection, text: str | bytes) -> None:
        heard(line, "session.created")
        line.send(text)
        error = heard(line, "error")[-1]["error"]
        assert error["type"] == "invalid_request_error"
        assert "event_id" not in error  # it is the host's: the upstream was not asked

    def test_the_first_event_of_responses_names_one(self, dial: Dial, server: Server, key: Callable[..., str]) -> None:
        text = key(models=("gpt-4o-mini",))
        server.up_to_date()
        line = dial("/v1/responses", key=text)
        ask = {"type": "response.create", "input": "Hi"}
        assert said(line, ask, "error")
        assert said(line, {**ask, "model": "gpt-4o"}, "error")
        assert said(line, {**ask, "model": "gpt-4o-mini"}, "response.completed")

    def test_a_client_that_goes_on_and_on_is_hung_up_on(self, line: ClientConnection) -> None:
        for _ in range(20):
            line.send('{"type": "response.create", "response": {"model": "gpt-4o"}}')
        assert end_of(line) == (1008, "forbidden")

    def test_the_events_of_others_go_on_byte_for_byte(self, dial: Dial) -> None:
        line = dial()
        heard(line, "session.created")
        line.send(b"{}")
        assert heard(line, "error")[-1]["error"]["code"] == "invalid_message"  # the upstream's own word


class TestBothEnds:
    @pytest.mark.parametrize("status", [401, 403, 429, 503])
    def test_the_upstream_s_refusal_is_the_answer_before_anything_is_accepted(
        self, dial: Dial, fake: FakeOpenAI, status: int
    ) -> None:
        fake.fail_next(status, headers={"x-request-id": "req_upstream"})
        found, error = refused(dial)
        assert found == status
        assert error["message"]

    def test_an_upstream_that_opens_nothing_for_long_is_given_up(
        self, dial: Dial, server: Server, fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("host.server.realtime.endpoint.OPENING_S", 0.2)
        fake.script([{"path": "/v1/realtime", "delay_s": 3600}])
        status, error = refused(dial)
        assert (status, error["code"]) == (504, "upstream_timeout")
        assert "within 0.2 s" in error["message"]
        until(lambda: not server.application.dispatch.running)

    def test_its_close_code_and_reason_are_the_client_s(self, dial: Dial, fake: FakeOpenAI) -> None:
        fake.script(
            [{"path": "/v1/realtime", "cut_after_events": 1, "close_code": code} for code in (4321, 3000, 1000)]
        )
        assert [end_of(dial())[0] for _ in range(3)] == [4321, 3000, 1000]

    def test_its_close_without_a_code_is_the_client_s_normal_end(self, dial: Dial, fake: FakeOpenAI) -> None:
        fake.script([{"path": "/v1/realtime", "cut_after_events": 1, "close_code": 1005}])
        assert end_of(dial()) == (1000, "")

    def test_an_upstream_that_breaks_off_is_an_error_event_and_a_code(self, dial: Dial, fake: FakeOpenAI) -> None:
        fake.script([{"path": "/v1/realtime", "cut_after_events": 1}])
        line = dial()
        assert heard(line, "error")[-1]["error"]["message"]
        assert end_of(line)[0] == 1011

    def test_the_client_s_end_ends_the_session_upstream(self, dial: Dial, server: Server) -> None:
        line = dial()
        heard(line, "session.created")
        line.close(4999, "enough")
        until(lambda: not server.application.dispatch.running)

    def test_a_client_that_vanishes_leaves_no_run(self, dial: Dial, server: Server) -> None:
        line = dial()
        heard(line, "session.created")
        line.socket.shutdown(socket.SHUT_RDWR)
        until(lambda: not server.application.dispatch.running)

    def test_its_path_is_no_path_of_http_and_the_other_way_round(self, dial: Dial, server: Server) -> None:
        assert server.get("/v1/realtime?model=m").status_code == 404
        for path in ("/v1/chat/completions", "/v1/nothing", "/mcp", "/", "/nothing", "/health"):
            assert refused(dial, path)[0] == 404


class TestWhatIsKept:
    def test_a_session_is_logged_counted_and_recorded_without_its_messages(
        self, dial: Dial, server: Server, key: Callable[..., str], workspace: Workspace, caplog: Any
    ) -> None:
        text = key()
        server.up_to_date()
        with caplog.at_level(logging.INFO):
            line = dial(key=text)
            spent = said(line, ASK, "response.done")[-1]["response"]["usage"]
            more = said(line, ASK, "response.done")[-1]["response"]["usage"]
            line.close()
            until(lambda: not server.application.dispatch.running)
            until(lambda: any(one.message == "request" and one.facts["status"] == 101 for one in caplog.records))
        facts = next(one.facts for one in caplog.records if one.message == "request" and one.facts["status"] == 101)
        assert facts["route"] == "GET /v1/realtime"
        assert facts["operation"] == "realtime.connect"
        assert (facts["key"], facts["closed"]) == ("key 0", 1000)
        assert "Say hello" not in logged(caplog)
        until(lambda: bool(workspace.usage.totals(None)))
        [used] = workspace.usage.totals(None)
        assert used.output_tokens == spent["output_tokens"] + more["output_tokens"]

    def test_a_spent_budget_ends_the_session_with_a_typed_error(
        self, dial: Dial, server: Server, key: Callable[..., str]
    ) -> None:
        text = key(token_budget=Quota(60, 3_600.0))
        server.up_to_date()
        line = dial(key=text)
        long = {**ASK, "response": {**ASK["response"], "instructions": "Say hello in 100 words"}}
        assert said(line, long, "error")[-1]["error"]["code"] == "rate_limit_exceeded"  # in the answer, or behind it
        assert end_of(line)[0] == 1008
        assert refused(dial, key=text)[0] == 429

    def test_leaving_before_the_count_spends_the_budget_all_the_same(
        self, dial: Dial, server: Server, key: Callable[..., str], fake: FakeOpenAI, workspace: Workspace
    ) -> None:
        text = key(token_budget=Quota(60, 3_600.0))
        server.up_to_date()
        fake.script([{"path": "/v1/realtime", "event_delay_s": 0.01}])
        line = dial(key=text)
        said(line, {**ASK, "response": {**ASK["response"], "instructions": "Say hello in 5000 words"}}, DELTA)
        line.close()
        until(lambda: not server.application.dispatch.running)
        assert refused(dial, key=text)[0] == 429
        until(lambda: bool(workspace.usage.totals(None)))
        assert workspace.usage.totals(None)[0].output_tokens > 0

    def test_the_end_of_the_server_is_an_error_event_and_a_code(self, dial: Dial, server: Server) -> None:
        line = dial()
        heard(line, "session.created")
        server._server.config.timeout_graceful_shutdown = 1
        server._server.should_exit = True
        assert heard(line, "error")[-1]["error"]["code"] == "shutting_down"
        assert end_of(line) == (1012, "shutting_down")

    def test_none_begins_after_the_signal(self, dial: Dial, server: Server) -> None:
        server.application.stop()
        assert refused(dial)[0] == 503


class TestRouting:
    def test_an_alias_stands_for_its_model_in_the_request_and_in_events(
        self, serving: Callable[..., Server], dial: Dial, fake: FakeOpenAI
    ) -> None:
        aliases = {"fast": "gpt-realtime", "small": "gpt-4o-mini"}
        server = serving(ServerSettings(routing=Routing(default=OPENAI, aliases=aliases)))
        heard(dial("/v1/realtime?model=fast", to=server), "session.created")
        assert fake.requests[-1]["query"]["model"] == "gpt-realtime"
        line = dial("/v1/responses", to=server)
        done = said(line, {"type": "response.create", "model": "small", "input": "Hi"}, "response.completed")[-1]
        assert done["response"]["model"] == "gpt-4o-mini"
