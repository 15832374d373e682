"""Nobody else pays: what a caller sends costs what they are admitted to, and leaves room for others."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from host.core.names import Reference
from host.core.quantities import Quota
from host.errors import NotFound
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.server import ServerSettings
from host.service.limits import Budget
from host.service.principal import MAX_VALUES
from tests.conftest import late
from tests.server.conftest import OPENAI, PATIENCE_S, Server, until
from tests.server.mcp.conftest import posted
from tests.server.openai.test_gateway import CHAT, errors_of

EMPTIES = b'{"model": "gpt-4o-mini", "messages": [' + b"{}," * 2_300_000 + b"{}]}"
PLAY = {"reference": "c:local.openai", "operation": "models.list"}
BODIES = ("/v1/chat/completions", "/v1/audio/transcriptions", "/v1/nothing", "/mcp", "/console/api/playground")


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@pytest.fixture
def key(workspace: Workspace) -> Callable[..., str]:
    """`key(…)` makes one, and is its text. To be called before a server is up to date."""

    def make(kind: Any = "secret", **more: Any) -> str:
        number = len(workspace.api_keys.all())
        return workspace.api_keys.create(name=f"key {number}", type=kind, **more)[1]

    return make


class Raw:
    """A client that sends what it wants."""

    def __init__(self, server: Server, path: str, text: str, body: bytes = b"", length: int | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
        sized = b"transfer-encoding: chunked" if length == -1 else b"content-length: %d" % (length or len(body))
        self.socket.sendall(
            b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer %s\r\n"
            b"%s\r\n\r\n%s" % (path.encode(), text.encode(), sized, body)
        )

    def answer(self) -> tuple[int, bytes]:
        """Status and body."""
        received = b""
        while b"\r\n\r\n" not in received:
            more = self.socket.recv(65536)
            assert more, received
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
        while len(body) < length:
            body += self.socket.recv(65536)
        return int(head.split(b" ")[1]), body

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as one:
        yield one


class TestASpentKey:
    @pytest.mark.parametrize("path", BODIES)
    def test_is_refused_by_its_head_before_a_byte_of_its_body(
        self, serving: Callable[..., Server], key: Callable[..., str], path: str
    ) -> None:
        text = key("admin", rate_limit=Quota.parse("1/1h"))
        server = serving().up_to_date()
        assert server.get("/v1/nothing", headers=bearer(text)).status_code == 404
        for length in (7_000_000, -1):
            with closing(Raw(server, path, text, length=length)) as client:  # which waits for the answer
                status, body = client.answer()
            assert status == 429, body

    def test_does_not_get_its_body_parsed(
        self, serving: Callable[..., Server], key: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = key(rate_limit=Quota.parse("1/1h"))
        server = serving().up_to_date()
        assert server.get("/v1/nothing", headers=bearer(text)).status_code == 404
        monkeypatch.setattr("host.server.asgi.parse_object", lambda *_, **__: pytest.fail("it is parsed"))
        for path in ("/v1/chat/completions", "/mcp"):
            answer = server.post(path, content=b"{}", headers=bearer(text))
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) > 0


class TestWhatIsNoUseCounts:
    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            pytest.param("/v1/chat/completions", b"{", 400, id="no JSON"),
            pytest.param("/v1/chat/completions", b'{"model": "gpt-4o-mini"}', 400, id="no messages"),
            pytest.param("/v1/chat/completions", b'{"messages": []}' + b" " * 100_000, 400, id="a large one"),
            pytest.param("/v1/audio/transcriptions", b"--", 400, id="no form"),
            pytest.param("/v1/nothing", b"{}", 404, id="no route"),
            pytest.param("/v1/models", b"", 405, id="no method of a route"),
            pytest.param("/mcp", b"[]", 400, id="no message"),
            pytest.param("/mcp", b'{"jsonrpc": "2.0", "id": 1, "method": "tools/none"}', 200, id="no method"),
        ],
    )
    def test_as_a_request(
        self, serving: Callable[..., Server], key: Callable[..., str], path: str, body: bytes, status: int
    ) -> None:
        text = key(rate_limit=Quota.parse("2/1h"))
        server = serving().up_to_date()
        sent = {**bearer(text), "content-type": "application/json", "accept": "*/*"}
        answers = [server.post(path, content=body, headers=sent).status_code for _ in range(3)]
        assert answers[:2] == [status, status] or path == "/mcp", answers
        assert answers[2] == 429

    def test_a_request_that_runs_counts_once(self, serving: Callable[..., Server], key: Callable[..., str]) -> None:
        text = key("admin", rate_limit=Quota.parse("4/1h"))
        server = serving().up_to_date()
        arguments = {"action": "run", "reference": "c:local.openai", "input": {"operation": "models.list"}}
        asks: list[Callable[[], Any]] = [
            lambda: server.post("/v1/chat/completions", json=CHAT, headers=bearer(text)),
            lambda: server.get("/v1/models", headers=bearer(text)),
            lambda: posted(server, "tools/call", {"name": "execution", "arguments": arguments}, text),
            lambda: server.post("/console/api/playground", json=PLAY, headers=bearer(text)),
        ]
        assert [ask().status_code for ask in asks] == [200, 200, 200, 200]
        assert [ask().status_code for ask in asks] == [429, 429, 429, 429]


class TestValuesWithoutEnd:
    """As JSON of seven megabytes they took 2.3 GB and eight seconds of the event loop."""

    @pytest.fixture
    def healthy(self, server: Server) -> Iterator[list[float]]:
        """How long each look at `/health` took, one after the other."""
        took: list[float] = []
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.01):
                began = time.monotonic()
                assert server.get("/health").status_code == 200
                took.append(time.monotonic() - began)

        thread = threading.Thread(target=look)
        thread.start()
        yield took
        over.set()
        thread.join()

    @pytest.mark.parametrize(
        "more",
        [
            pytest.param(b"{}," * 2_300_000 + b"{}", id="objects"),
            pytest.param(b"[]," * 2_300_000 + b"[]", id="lists"),
            pytest.param(b"1," * 3_500_000 + b"1", id="numbers"),
            pytest.param(b'",",' * 1_700_000 + b'""', id="texts with commas"),
            pytest.param(b'"\\\\",' * 1_300_000 + b'""', id="texts that end like an escape"),
            pytest.param(b'{"a":{"b":[' * 60 + b"1," * 700_000 + b"1" + b"]}}" * 60, id="at some depth"),
        ],
    )
    def test_are_a_mistake_that_names_its_measure_and_stop_nobody(
        self, server: Server, healthy: list[float], more: bytes
    ) -> None:
        body = b'{"model": "gpt-4o-mini", "messages": [' + more + b"]}"
        answer = server.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert f"more than {MAX_VALUES} values (send it in several parts)" in errors_of(answer)["message"]
        assert max(healthy, default=0.0) < late(1.0)

    def test_are_one_in_the_text_of_an_mcp_input_as_well(self, server: Server, healthy: list[float]) -> None:
        given = '{"operation": "models.list", "params": {"a": [' + "{}," * 2_300_000 + "{}]}}"
        arguments = {"action": "run", "reference": "c:local.openai", "input": given}
        said = posted(server, "tools/call", {"name": "execution", "arguments": arguments}).json()["result"]
        assert said["isError"]
        assert f"more than {MAX_VALUES} values" in said["content"][0]["text"]
        assert max(healthy, default=0.0) < late(1.0)

    @pytest.mark.parametrize("one", ["[]", "[[]]", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", '[{"a":1}]'])
    def test_in_which_a_key_for_some_models_could_name_others_stop_nobody(
        self, server: Server, workspace: Workspace, healthy: list[float], one: str
    ) -> None:
        text = workspace.api_keys.create(name="models", type="secret", models=["gpt-*"])[1]
        server.up_to_date()
        many = ",".join([one] * (MAX_VALUES // (2 + one.count(",") + one.count("[") + 2 * one.count("{"))))
        body = f'{{"model":"gpt-4o-mini","messages":[{many}]}}'.encode()
        healthy.clear()
        sent = {**bearer(text), "content-type": "application/json"}
        answer = server.post("/v1/chat/completions", content=body, headers=sent)
        assert answer.status_code == 400
        assert max(healthy, default=0.0) < late(0.5)

    @pytest.mark.parametrize(
        "path",
        ["/mcp", "/console/api/playground"],
    )
    def test_are_one_on_every_path(self, serving: Callable[..., Server], key: Callable[..., str], path: str) -> None:
        text = key("admin")
        server = serving().up_to_date()
        sent = {**bearer(text), "content-type": "application/json"}
        answer = server.post(path, content=EMPTIES, headers=sent)
        assert answer.status_code == 400
        assert f"more than {MAX_VALUES} values" in answer.text

    def test_as_many_as_openai_takes_are_none(self, server: Server, fake: FakeOpenAI) -> None:
        """2,048 inputs, of 300,000 tokens together (platform.openai.com/docs/api-reference/embeddings)."""
        tokens = [[7] * 146] * 2_048 + [[7]]
        given = {"model": "text-embedding-3-small", "input": tokens[:2_048]}
        answer = server.post("/v1/embeddings", json=given)
        assert answer.status_code != 400 or "values" not in answer.text

    def test_a_sign_in_of_many_values_is_a_mistake_at_once(
        self, serving: Callable[..., Server], key: Callable[..., str]
    ) -> None:
        key("admin")
        server = serving().up_to_date()
        sent = {"content-type": "application/json", "origin": server.url}
        body = b'{"key": [' + b"{}," * 20_000 + b"{}]}"
        answer = server.post("/console/api/session", content=body, headers=sent)
        assert answer.status_code == 400
        assert "values" in answer.text


class TestOtherWaysToBeSlow:
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b'{"model": "' + b"\\ud800" * 5_000_000 + b'"}', id="lone surrogates"),
            pytest.param(b'{"a":' * 5_000_000, id="depth"),
            pytest.param(b'{"a": ' + b"1" * 30_000_000 + b"}", id="a number"),
            pytest.param(b'{"a": "' + b"\\" * 29_999_999 + b'"}', id="backslashes"),
        ],
    )
    def test_thirty_megabytes_of_a_kind_are_a_mistake_and_stop_nobody(self, server: Server, body: bytes) -> None:
        sent = {"content-type": "application/json"}
        ended = threading.Event()
        answers: list[int] = []

        def send() -> None:
            answers.append(server.request("POST", "/v1/chat/completions", content=body, headers=sent).status_code)
            ended.set()

        thread = threading.Thread(target=send)
        thread.start()
        longest = 0.0
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
            while not ended.wait(0.02):
                began = time.monotonic()
                client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
                answer = b""
                while b'{"status":"ok"}' not in answer:
                    more = client.recv(65536)
                    assert more
                    answer += more
                assert b"200 OK" in answer
                longest = max(longest, time.monotonic() - began)
        thread.join()
        assert answers == [400]
        assert longest < late(1.0)

    @pytest.mark.parametrize(
        "part",
        [
            pytest.param(b"a: b\r\n", id="headers of a part"),
            pytest.param(b'\r\n--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n', id="parts"),
            pytest.param(b"\r\n--", id="beginnings of a boundary"),
        ],
    )
    def test_a_form_beyond_measure_is_a_mistake(self, server: Server, part: bytes) -> None:
        body = b"--x\r\n" + part * (10_000_000 // len(part))
        sent = {"content-type": "multipart/form-data; boundary=x"}
        began = time.monotonic()
        answer = server.post("/v1/audio/transcriptions", content=body, headers=sent)
        assert answer.status_code == 400
        assert "the form cannot be read" in errors_of(answer)["message"]
        assert time.monotonic() - began < late(2.0)


class TestBodiesThatAreHeld:
    @pytest.mark.parametrize("declared", [True, False])
    def test_are_so_many_bytes_of_a_key_and_leave_room_for_another(
        self, serving: Callable[..., Server], key: Callable[..., str], stack: ExitStack, declared: bool
    ) -> None:
        greedy, other = key(), key()
        server = serving(ServerSettings(max_bodies_bytes=1_000_000)).up_to_date()
        chunk = b"%x\r\n%s\r\n" % (240_000, b" " * 240_000)
        length, body = (240_000, b" ") if declared else (-1, chunk)
        for _ in range(2):
            stack.enter_context(closing(Raw(server, "/v1/chat/completions", greedy, body, length)))
        until(lambda: server.application.dispatch._admission.free_bytes <= 1_000_000 - 2 * 240_000)
        with closing(Raw(server, "/v1/chat/completions", greedy, body, length)) as client:
            status, said = client.answer()
            assert (status, json.loads(said)["error"]["type"]) == (429, "bytes")
        assert server.post("/v1/chat/completions", json=CHAT, headers=bearer(other)).status_code == 200
        stack.close()
        until(lambda: server.application.dispatch._admission.free_bytes == 1_000_000)

    @pytest.mark.parametrize(
        ("value", "comma"), [("{}", ","), ("1", "\\u002c"), ("\\u007b}", "\\u002c"), ("\\u005b]", "\\u002C")]
    )
    def test_are_weighed_with_the_values_that_the_text_of_an_mcp_input_hides(
        self, serving: Callable[..., Server], key: Callable[..., str], value: str, comma: str
    ) -> None:
        text = key()
        server = serving(ServerSettings(max_bodies_bytes=20_000_000)).up_to_date()
        arguments = '"action":"run","reference":"c:local.openai","input":"[' + comma.join([value] * 150_000) + ']"'
        called = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"execution","arguments":{%s}}}'
        sent = {**bearer(text), "content-type": "application/json", "accept": "*/*"}
        answer = server.post("/mcp", content=(called % arguments).encode(), headers=sent)
        assert "bytes of requests under way" in answer.text
        until(lambda: server.application.dispatch._admission.free_bytes == 20_000_000)

    def test_are_free_again_once_they_are_answered(
        self, serving: Callable[..., Server], key: Callable[..., str]
    ) -> None:
        text = key()
        server = serving(ServerSettings(max_bodies_bytes=2_000_000)).up_to_date()
        for _ in range(20):
            answer = server.post("/v1/chat/completions", json={**CHAT, "user": "x" * 300_000}, headers=bearer(text))
            assert answer.status_code == 200, answer.text
        until(lambda: server.application.dispatch._admission.free_bytes == 2_000_000)


class TestOneKeyDoesNotHoldTheState:
    @pytest.mark.parametrize(("action", "reads"), [("list", "runs"), ("logs", "run"), ("cancel", "run")])
    def test_by_asking_for_its_runs_again_and_again(
        self,
        serving: Callable[..., Server],
        key: Callable[..., str],
        stack: ExitStack,
        monkeypatch: pytest.MonkeyPatch,
        workspace: Workspace,
        action: str,
        reads: str,
    ) -> None:
        """In a long log each look takes a while."""

        def slow(*_: Any, **__: Any) -> Any:
            time.sleep(0.5)
            raise NotFound("there is no such run")

        monkeypatch.setattr(f"host.server.mcp.execution_tool.{reads}", slow)
        greedy, other = key(), key()
        server = serving().up_to_date()
        call = {"name": "execution", "arguments": {"action": action, **({} if action == "list" else {"run": "run_1"})}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}).encode()
        clients = [stack.enter_context(closing(Raw(server, "/mcp", greedy, body))) for _ in range(150)]
        time.sleep(0.5)
        workspace.policies.set(Reference.parse("c:local.another"), "timeout", "5s")  # each request looks at the state
        began = time.monotonic()
        assert posted(server, "tools/list", {}, other).status_code == 200
        answer = posted(server, "tools/call", {"name": "component", "arguments": {"action": "search"}}, other)
        assert not answer.json()["result"]["isError"], answer.text
        assert time.monotonic() - began < late(2.0)
        for client in clients:  # those whose turn does not come are told so in time
            assert client.answer()[0] == 200
        assert time.monotonic() - began < late(6.0)


class TestOneKeyDoesNotHoldAllSandboxes:
    @pytest.fixture
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("host.runtime.host.most_runs", lambda _: 6)

    def hold(self, stack: ExitStack, server: Server, text: str, count: int, fake: FakeOpenAI) -> None:
        """So many runs of a key, as slow as can be."""
        fake.script([{"path": "/v1/chat/*", "delay_s": 60.0, "times": 10_000}])
        body = json.dumps(CHAT).encode()
        for _ in range(count):
            stack.enter_context(closing(Raw(server, "/v1/chat/completions", text, body)))

    @pytest.mark.usefixtures("few")
    def test_another_key_is_served_in_a_moment(
        self, serving: Callable[..., Server], key: Callable[..., str], fake: FakeOpenAI, stack: ExitStack
    ) -> None:
        greedy, other = key(), key()
        server = serving().up_to_date()
        assert server.get("/v1/models", headers=bearer(other)).status_code == 200  # it is loaded
        self.hold(stack, server, greedy, 200, fake)
        until(lambda: len(server.application.dispatch.running) == 200)

        def sent() -> int:
            return len([one for one in fake.requests if one["path"] == "/v1/chat/completions"])

        until(lambda: sent() == 3)
        for _ in range(3):
            began = time.monotonic()
            assert server.get("/v1/models", headers=bearer(other)).status_code == 200
            assert time.monotonic() - began < late(2.0)
        assert sent() == 3

    @pytest.mark.usefixtures("few")
    def test_nor_do_callers_of_every_face_with_it(
        self, serving: Callable[..., Server], key: Callable[..., str], fake: FakeOpenAI, stack: ExitStack
    ) -> None:
        greedy, other = key("admin"), key()
        server = serving().up_to_date()
        fake.script([{"path": "/v1/models", "delay_s": 60.0, "times": 10_000}])
        call = {
            "name": "execution",
            "arguments": {"action": "run", "reference": "c:local.openai", "input": {"operation": "models.list"}},
        }
        message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}).encode()
        for _ in range(10):
            stack.enter_context(closing(Raw(server, "/mcp", greedy, message)))
            stack.enter_context(closing(Raw(server, "/console/api/playground", greedy, json.dumps(PLAY).encode())))
        until(lambda: len(server.application.dispatch.running) == 20)
        assert server.post("/v1/chat/completions", json=CHAT, headers=bearer(other)).status_code == 200

    @pytest.mark.usefixtures("few")
    def test_a_stream_that_nobody_reads_is_one_of_its_key_alone(
        self, serving: Callable[..., Server], key: Callable[..., str], fake: FakeOpenAI, stack: ExitStack
    ) -> None:
        greedy, other = key(), key()
        server = serving().up_to_date()
        self.hold(stack, server, greedy, 0, fake)
        body = json.dumps({**CHAT, "stream": True}).encode()
        for _ in range(10):
            stack.enter_context(closing(Raw(server, "/v1/chat/completions", greedy, body)))
        until(lambda: len(server.application.dispatch.running) == 10)
        assert server.get("/v1/models", headers=bearer(other)).status_code == 200

    def test_too_many_requests_of_a_key_are_told_when_to_come_again(
        self,
        serving: Callable[..., Server],
        key: Callable[..., str],
        fake: FakeOpenAI,
        stack: ExitStack,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        greedy, other = key(), key()
        server = serving().up_to_date()
        monkeypatch.setattr(server.application.dispatch._admission, "free_requests", 8)
        self.hold(stack, server, greedy, 4, fake)
        until(lambda: len(server.application.dispatch.running) == 4)
        answer = server.get("/v1/models", headers=bearer(greedy))
        assert answer.status_code == 503
        assert errors_of(answer)["type"] == "overloaded"
        assert answer.headers["retry-after"] == "1"
        assert server.get("/v1/models", headers=bearer(other)).status_code == 200

    @pytest.mark.usefixtures("few")
    @pytest.mark.parametrize(("most", "running"), [(1, 1), (6, 6), (None, 3)])
    def test_a_key_has_as_many_as_the_operator_says(
        self,
        serving: Callable[..., Server],
        key: Callable[..., str],
        fake: FakeOpenAI,
        stack: ExitStack,
        most: int | None,
        running: int,
    ) -> None:
        text = key(concurrency=most)
        server = serving().up_to_date()
        self.hold(stack, server, text, 8, fake)
        until(lambda: len(server.application.dispatch.running) == 8)
        until(lambda: len(fake.requests) == running)
        time.sleep(0.3)  # for one more, if there were one
        assert len(fake.requests) == running

    def test_a_catalyst_has_as_many_as_the_operator_says(
        self, serving: Callable[..., Server], key: Callable[..., str], fake: FakeOpenAI, stack: ExitStack
    ) -> None:
        one, two = key(), key()
        server = serving(ServerSettings(budgets={OPENAI: Budget(concurrency=1)})).up_to_date()
        self.hold(stack, server, one, 1, fake)
        until(lambda: len(fake.requests) == 1)
        self.hold(stack, server, two, 1, fake)
        until(lambda: len(server.application.dispatch.running) == 2)
        assert len(fake.requests) == 1
        stack.close()
