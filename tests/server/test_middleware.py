"""Around every request: where it may come from, and what is noted of it."""

from __future__ import annotations

import io
import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from host.errors import StateError
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.server import ServerSettings
from host.server.observability import logs
from host.server.observability.logs import JsonLines, Words
from tests.conftest import KEY
from tests.server.conftest import OPENAI, PATIENCE_S, Server, send_to, until
from tests.server.openai.test_gateway import CHAT


class TestWhereFrom:
    @pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}", "localhost", "LOCALHOST"])
    def test_its_own_names_are_served(self, server: Server, host: str) -> None:
        answer = server.get("/v1/models", headers={"host": host.format(port=server.port)})
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:{port}", "localhost.evil.example", "127.0.0.1.nip.io"]
    )
    def test_a_name_that_was_rebound_to_this_machine_is_not(self, server: Server, fake: FakeOpenAI, host: str) -> None:
        answer = server.post("/v1/chat/completions", json=CHAT, headers={"host": host.format(port=server.port)})
        assert answer.status_code == 421
        assert "--allowed-host" in answer.json()["error"]["message"]
        assert fake.requests == []

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1.evil.example"]
    )
    def test_a_page_of_another_site_cannot_spend_anything(self, server: Server, fake: FakeOpenAI, origin: str) -> None:
        """A request that a browser sends without asking first: its body is JSON, its type is text."""
        answer = server.post(
            "/v1/chat/completions", content=json.dumps(CHAT), headers={"origin": origin, "content-type": "text/plain"}
        )
        assert answer.status_code == 403
        assert fake.requests == []

    def test_its_own_pages_may(self, server: Server) -> None:
        assert (
            server.get("/v1/models", headers={"origin": server.url, "host": f"127.0.0.1:{server.port}"}).status_code
            == 200
        )

    def test_pages_that_the_operator_names_may_and_browsers_are_told(self, serving: Callable[..., Server]) -> None:
        server = serving(ServerSettings(cors_origins=("https://app.example.com",)))
        asks = {
            "origin": "https://app.example.com",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        }
        answer = server.request("OPTIONS", "/v1/chat/completions", headers=asks)
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        answer = server.post("/v1/chat/completions", json=CHAT, headers={"origin": "https://app.example.com"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        assert server.get("/v1/models", headers={"origin": "https://other.example.com"}).status_code == 403

    def test_names_that_the_operator_allows_are_served(self, serving: Callable[..., Server]) -> None:
        server = serving(ServerSettings(allowed_hosts=("api.example.com",)))
        assert server.get("/v1/models", headers={"host": "API.example.com"}).status_code == 200
        assert server.get("/v1/models", headers={"host": "www.example.com"}).status_code == 421

    def test_any_name_is_where_the_operator_says_so(self, serving: Callable[..., Server]) -> None:
        server = serving(ServerSettings(allowed_hosts=("*",)))
        assert server.get("/v1/models", headers={"host": "whatever.example"}).status_code == 200

    @pytest.mark.usefixtures("patient_probes")
    def test_probes_come_by_any_name(self, server: Server) -> None:
        for path in ("/health", "/ready"):
            assert server.get(path, headers={"host": "10.1.2.3"}).status_code == 200


class TestProbes:
    @pytest.mark.usefixtures("patient_probes")
    def test_it_is_ready_when_what_it_serves_can_be_loaded(self, server: Server, workspace: Workspace) -> None:
        assert server.get("/ready").json() == {"status": "ready"}
        workspace.database._pool._drop_idle()
        with workspace.database.writing() as connection:
            connection.execute("UPDATE settings SET value = '\"24h\"' WHERE section = 'policy'")
            connection.execute("UPDATE state_seal SET seq = seq + 1")  # somebody who has no key
        until(lambda: server.get("/ready").status_code == 503)
        assert server.get("/ready").json() == {"status": "unavailable", "code": "host_state"}
        assert server.post("/v1/chat/completions", json=CHAT).status_code == 503

    def test_metrics_tell_of_requests_runs_and_tokens(self, server: Server) -> None:
        assert server.post("/v1/chat/completions", json=CHAT).status_code == 200
        assert server.post("/v1/chat/completions", json={**CHAT, "stream": True}).status_code == 200
        assert server.get("/v1/files/nothing").status_code == 404
        said = server.get("/metrics").text
        for line in (
            'catalyst_host_requests_total{method="POST",route="POST /v1/chat/completions",status="200"} 2.0',
            'catalyst_host_requests_total{method="GET",route="GET /v1/files/{file_id}",status="404"} 1.0',
            'catalyst_host_runs_total{catalyst="c:local.openai:0.1.0",operation="chat.completions.create",outcome="200"} 2.0',
            'catalyst_host_runs_total{catalyst="c:local.openai:0.1.0",operation="files.retrieve",outcome="404"} 1.0',
            "catalyst_host_running 0.0",
            'catalyst_host_first_event_seconds_count{catalyst="c:local.openai:0.1.0"} 1.0',
        ):
            assert line in said
        assert 'catalyst_host_tokens_total{catalyst="c:local.openai:0.1.0",direction="input"}' in said

    @pytest.mark.parametrize("path", ["/metrics", "/console/api/session", "/console/api/overview"])
    def test_what_ails_the_state_is_not_told_to_whoever_asks(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        async def cannot() -> None:
            raise StateError("cannot open '/home/somebody/state.db'", hint="look at /home/somebody")

        monkeypatch.setattr(server.application.catalog, "current", cannot)
        answer = server.get(path)
        assert answer.status_code == 503
        assert answer.json()["error"] == {
            "type": "host_state",
            "message": "the server cannot do this now",
            "blame": "host",
        }

    def test_metrics_are_for_a_key_that_may_see_them(self, server: Server, workspace: Workspace) -> None:
        _, may = workspace.api_keys.create(name="prometheus", type="secret", scopes={"metrics"})
        _, may_not = workspace.api_keys.create(name="ci", type="secret", scopes={"run"})
        until(lambda: server.get("/metrics").status_code == 401)
        assert server.get("/metrics", headers={"authorization": f"Bearer {may}"}).status_code == 200
        assert server.get("/metrics", headers={"authorization": f"Bearer {may_not}"}).status_code == 403

    def test_an_invented_method_makes_no_new_metric(self, server: Server) -> None:
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)) as client:
            client.sendall(b"BREW /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            while client.recv(65536):
                pass
        assert "BREW" not in server.get("/metrics").text


class TestTheLog:
    @pytest.fixture
    def lines(self) -> Iterator[Callable[[], list[Any]]]:
        """What is written of requests, as it is written; but for the probes of `up_to_date`, which may come later."""
        written = io.StringIO()
        handler = logging.StreamHandler(written)
        handler.setFormatter(JsonLines())
        logger = logging.getLogger("host.server")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        yield lambda: [
            one
            for one in map(json.loads, written.getvalue().splitlines())
            if one["message"] == "request" and one["route"] != "GET /ready"
        ]
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    def test_has_a_line_for_each_request_with_its_id_and_its_run(self, server: Server, lines: Any) -> None:
        answer = server.post("/v1/chat/completions", json=CHAT)
        until(lambda: bool(lines()))
        [line] = lines()
        assert line["request"] == answer.headers["x-catalyst-request-id"]  # the other one is the upstream's
        assert answer.headers["x-request-id"] == answer.headers["x-upstream-request-id"]
        assert (line["method"], line["route"], line["status"]) == ("POST", "POST /v1/chat/completions", 200)
        assert line["run"] == answer.headers["x-catalyst-run"]

    def test_has_no_key_no_query_and_no_body(
        self, server: Server, workspace: Workspace, lines: Any, caplog: Any
    ) -> None:
        _, text = workspace.api_keys.create(name="ci", type="secret")
        until(lambda: server.get("/v1/models").status_code == 401)
        server.post("/v1/chat/completions?secret=abc123", json=CHAT, headers={"authorization": f"Bearer {text}"})
        server.get("/v1/files/private-name", headers={"authorization": f"Bearer {text}"})
        said = caplog.text + json.dumps(lines())
        assert "private-name" not in said
        for hidden in (text, KEY, "abc123", "Say hello"):
            assert hidden not in said

    def test_has_the_reason_of_every_error_and_nothing_of_the_request(
        self, server: Server, workspace: Workspace, fake: FakeOpenAI, lines: Any
    ) -> None:
        def reason(ask: Any) -> tuple[int, str, str]:
            before = len(lines())
            status = ask().status_code
            until(lambda: len(lines()) > before)
            line = lines()[before]
            assert line["status"] == status
            assert line["level"] == ("warning" if status >= 500 else "info")
            assert "private" not in json.dumps(line)
            return status, line.get("error", ""), line.get("reason", "")

        def chat() -> Any:
            return server.post("/v1/chat/completions", json=CHAT)

        fake.script(
            [{"path": "/v1/*", "status": 502, "body": {"error": {"message": "the upstream is ill", "type": "x"}}}]
        )
        assert reason(chat) == (502, "x", "status 502: the upstream is ill")
        fake.script([])
        private = {**CHAT, "model": ["private"]}
        assert reason(lambda: server.post("/v1/chat/completions", json=private))[:2] == (400, "invalid_input")
        assert reason(lambda: server.post("/v1/chat/completions", content=b"{private"))[2]
        assert reason(lambda: server.get("/v1/private"))[:2] == (404, "unknown_url")
        assert reason(lambda: server.get("/v1/embeddings"))[:2] == (405, "method_not_supported")
        assert reason(lambda: server.get("/v1/models", headers={"host": "evil.example"}))[:2] == (421, "unknown_host")
        assert reason(lambda: server.get("/mcp"))[:2] == (405, "method_not_supported")
        message = {"jsonrpc": "2.0", "id": 1, "method": "private", "params": {"private": 1}}
        no_message = (400, "invalid_message")
        assert reason(lambda: server.post("/mcp", json=[message]))[:2] == no_message
        assert reason(lambda: server.post("/mcp", json={**message, "id": ["private"]}))[:2] == no_message
        assert reason(lambda: server.post("/mcp", json={**message, "params": ["private"]})) == (
            *no_message,
            "params is a JSON array, not an object",
        )
        refused = reason(lambda: server.post("/mcp", json=message, headers={"accept": "text/private"}))
        assert refused == (406, "status_406", "Not Acceptable")  # by the SDK
        assert reason(lambda: server.post("/metrics")) == (405, "status_405", "Method Not Allowed")
        send_to(workspace, OPENAI, "http://127.0.0.1:1")
        server.up_to_date()
        status, _, said = reason(chat)
        assert status == 502
        assert "127.0.0.1" in said or "refused" in said
        workspace.policies.set(OPENAI, "allowed_domains", [])
        server.up_to_date()
        status, code, said = reason(chat)
        assert (status, code) == (403, "denied")
        assert "host policy set c:local.openai allowed_domains" in said

    @pytest.mark.parametrize("given", ["short", "x" * 200, "with blank", "a\tb", "<script>"])
    def test_takes_no_id_that_could_be_something_else(self, server: Server, given: str) -> None:
        answer = server.get("/health", headers={"x-request-id": given})
        assert answer.headers["x-request-id"].startswith("req_")

    def test_is_one_line_of_json_whatever_is_in_it(self) -> None:
        record = logging.LogRecord("host.server", logging.INFO, "", 0, "a\nb \x1b[31m \ud800", (), None)
        record.facts = {"path": "x\ny", "object": object()}
        line = JsonLines().format(record)
        assert "\n" not in line
        assert json.loads(line)["message"].startswith("a\nb")

    def test_says_what_was_raised(self) -> None:
        error = ValueError("no")
        record = logging.LogRecord("host", logging.ERROR, "", 0, "failed", (), (type(error), error, None))
        assert json.loads(JsonLines().format(record))["exception"].startswith("ValueError: no")
        assert "ValueError: no" in Words().format(record)

    def test_for_people_shows_nothing_that_a_terminal_would_obey(self) -> None:
        record = logging.LogRecord("host", logging.INFO, "", 0, "\x1b[31mred", (), None)
        record.facts = {"status": 200, "run": ""}
        line = Words().format(record)
        assert "\x1b" not in line
        assert line.endswith("status=200")

    @pytest.mark.parametrize(
        ("route", "said"),
        [
            pytest.param("POST /v1/files", "POST /v1/files 200 12 ms key=ci", id="a route"),
            pytest.param("other", "POST other 200 12 ms key=ci", id="none of those there are"),
        ],
    )
    def test_for_people_a_request_is_what_was_asked_and_answered(self, route: str, said: str) -> None:
        record = logging.LogRecord("host.server", logging.INFO, "", 0, "request", (), None)
        record.facts = {"method": "POST", "route": route, "status": 200, "ms": 12.34, "key": "ci"}
        assert Words().format(record).endswith(f" info    {said}")

    def test_configures_this_process_and_no_more(self) -> None:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        try:
            logs.configure(level="warning", in_json=False)
            assert logging.getLogger("host").level == logging.WARNING
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            logging.getLogger("host").setLevel(logging.NOTSET)
            logging.getLogger("uvicorn").setLevel(logging.NOTSET)
            logging.getLogger("uvicorn.access").disabled = False


def test_answers_are_taken_for_nothing_else(server: Server) -> None:
    headers = server.get("/v1/models").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers
