"""What the gateway does with a request, seen from outside: over real sockets, with a real sandbox for each."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from host.component.manifest import embed, embedded_schemas, embedded_text
from host.core.names import Reference
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.server import ServerSettings
from host.store.audit_log.records import runs
from tests.cli.conftest import Upstream
from tests.conftest import KEY, wat, with_enough_time, with_other_manifest
from tests.server.conftest import OPENAI, PATIENCE_S, Server, install, until
from tests.server.engine import SharedLoader

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}
EVENT = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


@pytest.fixture
def upstream(workspace: Workspace) -> Iterator[Upstream]:
    """In place of the fake: a server that answers when the test says so."""
    with closing(Upstream()) as one:
        workspace.policies.set(OPENAI, "upstreams", {"https://api.openai.com": one.url})
        yield one


class Client:
    """A client that writes and reads by itself."""

    def __init__(self, server: Server, body: dict[str, Any], path: str = "/v1/chat/completions") -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
        text = json.dumps(body).encode()
        self.socket.sendall(
            b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (path.encode(), len(text), text)
        )
        self.received = b""

    def read_until(self, text: bytes) -> None:
        while text not in self.received:
            more = self.socket.recv(65536)
            assert more, self.received
            self.received += more

    def close(self) -> None:
        self.socket.close()


def has_left(upstream: Upstream) -> bool:
    try:
        upstream.send(EVENT % b"more")
    except OSError:
        return True
    return False


def errors_of(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]
    assert found.keys() >= {"message", "type", "param", "code"}
    return found


class TestAStream:
    def test_hands_the_first_event_out_before_the_second_is_in(self, upstream: Upstream, server: Server) -> None:
        with closing(Client(server, {**CHAT, "stream": True})) as client:
            upstream.send(STREAM_HEAD + EVENT % b"one")
            client.read_until(b'"one"')  # nothing else has been sent
            upstream.send(EVENT % b"two" + b"data: [DONE]\n\n")
            client.read_until(b'"two"')
            upstream.close()
            client.read_until(b"data: [DONE]\n\n")

    def test_that_its_client_leaves_is_cancelled_and_so_is_the_request_upstream(
        self, upstream: Upstream, server: Server, workspace: Workspace
    ) -> None:
        client = Client(server, {**CHAT, "stream": True})
        upstream.send(STREAM_HEAD + EVENT % b"one")
        client.read_until(b'"one"')
        client.close()
        until(lambda: runs(workspace.database, limit=1)[0].outcome == "cancelled")
        until(lambda: has_left(upstream))

    def test_that_nobody_reads_makes_its_upstream_wait_and_no_buffer_grow(
        self, upstream: Upstream, server: Server
    ) -> None:
        """4 kB an event: what is between the two ends is some events and the sockets' own buffers."""
        client = Client(server, {**CHAT, "stream": True})
        sent = 0

        def send() -> None:
            nonlocal sent
            event = EVENT % (b"x" * 4_000)
            upstream.send(STREAM_HEAD)
            try:
                while sent < 200_000_000:
                    upstream.send(event)
                    sent += len(event)
            except OSError:
                return

        thread = threading.Thread(target=send)
        thread.start()
        until(lambda: sent > 0)
        before = -1
        while before != sent:  # until it no longer goes on
            before = sent
            thread.join(1.0)
        assert 0 < sent < 50_000_000
        client.close()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()

    def test_that_breaks_off_ends_in_an_error_and_not_as_if_it_were_whole(
        self, server: Server, fake: FakeOpenAI
    ) -> None:
        fake.script([{"path": "/v1/chat/completions", "cut_after_events": 2}])
        text = server.post("/v1/chat/completions", json={**CHAT, "stream": True}).text
        assert "[DONE]" not in text
        *_, last = text.strip().split("\n\n")
        assert last.startswith("event: error\ndata: ")
        assert json.loads(last.partition("data: ")[2])["error"]["type"] == "http_error"

    def test_of_events_with_types_has_their_names_and_no_done(self, server: Server) -> None:
        text = server.post("/v1/responses", json={"model": "gpt-4o", "input": "Hi", "stream": True}).text
        assert text.startswith("event: response.created\ndata: {")
        assert "[DONE]" not in text

    def test_tells_its_run_and_its_catalyst(self, server: Server, workspace: Workspace) -> None:
        answer = server.post("/v1/chat/completions", json={**CHAT, "stream": True})
        assert answer.headers["x-catalyst"] == "c:local.openai:0.1.0"
        assert answer.headers["x-catalyst-run"] == runs(workspace.database, limit=1)[0].id


def test_a_client_that_leaves_before_its_answer_cancels_the_run(
    upstream: Upstream, server: Server, workspace: Workspace
) -> None:
    client = Client(server, CHAT)
    assert upstream.asked.wait(PATIENCE_S)
    client.close()
    until(lambda: runs(workspace.database, limit=1)[0].outcome == "cancelled")


def test_an_answer_is_the_upstreams_own_bytes(server: Server, fake: FakeOpenAI) -> None:
    fake.script(
        [
            {
                "path": "/v1/embeddings",
                "body": '{"data" :  [1.50, 2e3] }',
                "headers": {"content-type": "application/json"},
            }
        ]
    )
    answer = server.post("/v1/embeddings", json={"model": "m", "input": "x"})
    assert answer.content == b'{"data" :  [1.50, 2e3] }'


def test_the_record_says_for_whom_a_run_was(server: Server, workspace: Workspace) -> None:
    _, text = workspace.api_keys.create(name="ci", type="secret")
    answer = server.up_to_date().post(
        "/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {text}", "x-request-id": "my-request-1"}
    )
    assert answer.headers["x-request-id"] == "my-request-1"
    caller = runs(workspace.database, limit=1)[0].caller
    assert (caller["name"], caller["request"], caller["via"]) == ("ci", "my-request-1", "gateway")
    assert text not in json.dumps(caller)


class TestMistakes:
    """Of the caller: each with its status, in OpenAI's shape, and none of them reaches the upstream."""

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            pytest.param({"model": "gpt-4o"}, "messages", id="a parameter that is missing"),
            pytest.param({**CHAT, "temperature": "hot"}, "temperature", id="one of another type"),
            pytest.param({**CHAT, "model": 5}, "model", id="a model that is no name"),
            pytest.param({**CHAT, "stream": "perhaps"}, "stream", id="a stream that is neither"),
            pytest.param({**CHAT, "messages": [{"role": 1}]}, "messages[0].role", id="one deep inside"),
        ],
    )
    def test_in_a_parameter_name_it(self, server: Server, fake: FakeOpenAI, body: dict[str, Any], param: str) -> None:
        answer = server.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        error = errors_of(answer)
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
        assert fake.requests == []

    @pytest.mark.parametrize(
        ("content", "headers", "said"),
        [
            pytest.param(b"{", {"content-type": "application/json"}, "not JSON", id="no JSON"),
            pytest.param(b"[]", {"content-type": "application/json"}, "not an object", id="no object"),
            pytest.param(b"\xff", {"content-type": "application/json"}, "not UTF-8", id="no text"),
            pytest.param(b"[" * 5000, {"content-type": "application/json"}, "JSON", id="nested too deeply"),
            pytest.param(b"a=1", {"content-type": "text/plain"}, "application/json", id="of another type"),
        ],
    )
    def test_in_a_body_say_what_is_wrong(
        self, server: Server, content: bytes, headers: dict[str, str], said: str
    ) -> None:
        answer = server.post("/v1/chat/completions", content=content, headers=headers)
        assert answer.status_code == 400
        assert said in errors_of(answer)["message"]

    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            pytest.param(b"--x\r\nbroken", "multipart/form-data; boundary=x", id="cut off"),
            pytest.param(b"", "multipart/form-data", id="without a boundary"),
            pytest.param(b"{}", "application/json", id="that is none"),
        ],
    )
    def test_in_a_form_say_so(self, server: Server, content: bytes, kind: str) -> None:
        answer = server.post("/v1/files", content=content, headers={"content-type": kind})
        assert answer.status_code == 400
        assert errors_of(answer)["type"] == "invalid_request_error"

    def test_in_the_url_say_so(self, server: Server) -> None:
        answer = server.get("/v1/nothing/here")
        assert answer.status_code == 404
        assert errors_of(answer)["code"] == "unknown_url"

    def test_in_the_method_tell_which_there_are(self, server: Server) -> None:
        answer = server.request("PUT", "/v1/files")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, POST"

    def test_of_size_are_told_before_the_body_is_read(self, serving: Callable[..., Server]) -> None:
        server = serving(ServerSettings(max_body_bytes=1_000))
        answer = server.post("/v1/chat/completions", json={**CHAT, "more": "x" * 2_000})
        assert answer.status_code == 413
        assert errors_of(answer)["code"] == "too_large"

    def test_of_size_are_told_for_a_body_of_unknown_length_as_well(self, serving: Callable[..., Server]) -> None:
        server = serving(ServerSettings(max_body_bytes=1_000))
        chunks = (b"x" * 100 for _ in range(100))
        answer = server.post("/v1/chat/completions", content=chunks, headers={"content-type": "application/json"})
        assert answer.status_code == 413

    def test_unknown_parameters_are_none(self, server: Server, fake: FakeOpenAI) -> None:
        assert server.post("/v1/chat/completions", json={**CHAT, "of_tomorrow": {"a": 1}}).status_code == 200
        assert fake.requests[-1]["body"]["of_tomorrow"] == {"a": 1}

    def test_a_path_cannot_be_overruled_by_the_query_or_climb_out(self, server: Server, fake: FakeOpenAI) -> None:
        server.get("/v1/files/file-1?file_id=file-2")
        assert fake.requests[-1]["path"] == "/v1/files/file-1"
        sent = len(fake.requests)
        assert server.get("/v1/files/..%2F..%2Fmodels").status_code == 404
        assert len(fake.requests) == sent


class TestWhatTheHostRefuses:
    def test_by_policy_is_403_and_says_what_would_allow_it(self, server: Server, workspace: Workspace) -> None:
        workspace.policies.set(OPENAI, "allowed_domains", [])
        error_status(server, 403, "denied", "domain_blocked", "host policy set c:local.openai allowed_domains")

    def test_by_a_policys_rate_is_429(self, server: Server, workspace: Workspace) -> None:
        workspace.policies.set(OPENAI, "rate_limit", {"requests": 1, "window": "1h"})
        server.up_to_date()
        assert server.post("/v1/chat/completions", json=CHAT).status_code == 200
        answer = server.post("/v1/chat/completions", json=CHAT)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1

    def test_by_its_deadline_is_504(self, server: Server, workspace: Workspace, fake: FakeOpenAI) -> None:
        def attempt(seconds: float) -> None:
            workspace.policies.set(OPENAI, "timeout", seconds)
            fake.script([{"path": "/v1/*", "delay_s": 15 * seconds}])
            server.up_to_date()
            answer = server.post("/v1/chat/completions", json=CHAT)
            assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
            assert answer.json()["error"]["message"] == f"the upstream did not finish its answer within {seconds:g} s"
            assert answer.headers["x-catalyst-run"] == runs(workspace.database, limit=1)[0].id

        with_enough_time(attempt, 1.0)

    def test_by_a_silence_within_a_stream_is_an_event_without_the_operators_words(
        self, server: Server, workspace: Workspace, fake: FakeOpenAI
    ) -> None:
        workspace.policies.set(OPENAI, "idle_timeout", "300ms")
        fake.script([{"path": "/v1/*", "event_delay_s": 5.0}])
        server.up_to_date()
        answer = server.post("/v1/chat/completions", json={**CHAT, "stream": True})
        error = (
            json.loads(answer.text.rpartition("data: ")[2])["error"] if answer.is_success else answer.json()["error"]
        )
        assert (error["code"], error["type"]) == ("upstream_timeout", "upstream_timeout")
        assert error["message"] == "the upstream sent nothing more of its answer for 0.3 s"

    def test_because_bytes_are_not_approved_is_503_and_only_where_no_approved_ones_serve(
        self, server: Server, workspace: Workspace, openai_wasm: bytes
    ) -> None:
        assert server.post("/v1/chat/completions", json=CHAT).status_code == 200
        before = workspace.components.resolve(OPENAI).reference
        manifest = json.loads(embedded_text(openai_wasm) or b"")
        manifest |= {"domains": ["elsewhere.example"], "version": "9.9.9"}
        file = workspace.state_dir / "other.wasm"
        schemas = embedded_schemas(openai_wasm)
        file.write_bytes(embed(wat("hostile/returns_not_json"), json.dumps(manifest).encode(), schemas))
        loader = SharedLoader()
        try:
            assert not workspace.register(file, loader).approved
        finally:
            loader.sandbox.close()
        server.up_to_date()
        assert server.post("/v1/chat/completions", json=CHAT).status_code == 200
        workspace.components.unregister(before)
        error_status(server, 503, "not_approved", "not_approved", "host approve c:local.openai")


def error_status(server: Server, status: int, kind: str, code: str | None, said: str) -> None:
    def refused() -> bool:
        return server.post("/v1/chat/completions", json=CHAT).status_code == status

    until(refused)
    error = errors_of(server.post("/v1/chat/completions", json=CHAT))
    assert (error["type"], error["code"]) == (kind, code)
    assert said in error["message"]


class TestRouting:
    @pytest.fixture
    def two(
        self, workspace: Workspace, openai_file: Path, serving: Callable[..., Server]
    ) -> Iterator[tuple[Server, FakeOpenAI]]:
        """A second provider beside the first, which has the models that begin with `claude`."""
        with FakeOpenAI() as other:
            reference = Reference.parse("c:local.claude:1.0.0")
            install(workspace, other_name(openai_file, workspace, reference), other.url)
            settings = ServerSettings().with_routes(
                routes={"gpt": "c:local.openai", "claude": "c:local.claude", "gpt-4o-mini-ft": "c:local.claude"},
                aliases={"fast": "gpt-4o-mini"},
                default="c:local.openai",
            )
            yield serving(settings), other

    def test_goes_by_the_longest_prefix(self, two: tuple[Server, FakeOpenAI], fake: FakeOpenAI) -> None:
        server, other = two
        for model, expected in (("gpt-4o", fake), ("claude-4", other), ("gpt-4o-mini-ft:x", other), ("o9", fake)):
            before = len(expected.requests)
            assert server.post("/v1/chat/completions", json={**CHAT, "model": model}).status_code == 200
            assert len(expected.requests) == before + 1, model

    def test_an_alias_is_another_name(self, two: tuple[Server, FakeOpenAI], fake: FakeOpenAI) -> None:
        server, _ = two
        assert server.post("/v1/chat/completions", json={**CHAT, "model": "fast"}).json()["model"] == "gpt-4o-mini"
        assert fake.requests[-1]["body"]["model"] == "gpt-4o-mini"
        assert server.get("/v1/models/fast").json()["id"] == "gpt-4o-mini"

    def test_a_header_names_the_catalyst_whatever_the_model(self, two: tuple[Server, FakeOpenAI]) -> None:
        server, other = two
        answer = server.post("/v1/chat/completions", json=CHAT, headers={"x-catalyst": "c:local.claude"})
        assert answer.headers["x-catalyst"] == "c:local.claude:1.0.0"
        assert len(other.requests) == 1

    def test_lists_the_models_of_all_each_by_the_one_that_would_answer(self, two: tuple[Server, FakeOpenAI]) -> None:
        server, other = two
        ids = [one["id"] for one in server.get("/v1/models").json()["data"]]
        assert len(ids) == len(set(ids))
        assert "fast" in ids
        assert "gpt-4o-mini" in ids
        other.fail_next(500)
        assert server.get("/v1/models").status_code == 200

    def test_what_no_catalyst_has_is_404(self, serving: Callable[..., Server]) -> None:
        server = serving(ServerSettings().with_routes(routes={"gpt": "c:local.openai"}))
        answer = server.post("/v1/chat/completions", json={**CHAT, "model": "claude"})
        assert answer.status_code == 404
        assert errors_of(answer)["code"] == "model_not_found"
        assert server.get("/v1/files").status_code == 404


def other_name(openai_file: Path, workspace: Workspace, reference: Reference) -> Path:
    """The same component under another name."""
    wasm = openai_file.read_bytes()
    named = {"id": reference.subject, "version": reference.version}
    return with_manifest(wasm, {**json.loads(embedded_text(wasm) or b""), **named}, workspace.state_dir / "claude.wasm")


def with_manifest(wasm: bytes, manifest: dict[str, Any], file: Path) -> Path:
    """The component with another manifest, in `file`."""
    file.write_bytes(with_other_manifest(wasm, manifest))
    return file


def test_no_secret_is_in_any_answer(server: Server, fake: FakeOpenAI) -> None:
    fake.script([{"path": "/v1/*", "echo_authorization": True, "times": 2}])
    for body in (CHAT, {**CHAT, "stream": True}):
        answer = server.post("/v1/chat/completions", json=body)
        assert KEY not in answer.text
        assert KEY not in str(answer.headers)


def test_a_slash_too_many_at_the_end_of_a_path_loses_nothing(server: Server) -> None:
    assert server.request("GET", "/v1/models/").json() == server.request("GET", "/v1/models").json()
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
    answer = server.post("/v1/chat/completions/", json=body)
    assert (answer.status_code, answer.json()["object"]) == (200, "chat.completion")
