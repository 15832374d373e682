"""Answers that flow: their heads, comments and bytes reach the client as they come from the upstream."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from host.runtime.workspace import Workspace
from tests.conftest import KEY
from tests.egress.conftest import Peer
from tests.probing import chunk, chunked, event, origin_of, response
from tests.probing import serving as upstream
from tests.server.conftest import OPENAI, PATIENCE_S, Server, send_to

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "stream": True}
SPEECH = {"model": "tts-1", "voice": "alloy", "input": "hi"}
EVENTS = chunked("200 OK", "Content-Type: text/event-stream", "x-request-id: req_up")
LAST = b"0\r\n\r\n"
DELTA = {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "hi"}}]}


@pytest.fixture
def server(serving: Callable[..., Server]) -> Server:
    return serving()


class Client:
    """Reads an answer from the socket as it comes."""

    def __init__(self, server: Server, path: str, body: Any) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
        text = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(text)}"
        )
        self.socket.sendall(head.encode() + b"\r\n\r\n" + text)
        self.received = b""

    def until(self, text: bytes) -> bytes:
        while text not in self.received:
            more = self.socket.recv(65536)
            assert more, self.received
            self.received += more
        return self.received

    def to_the_end(self) -> bytes:
        while more := self.socket.recv(65536):
            self.received += more
        return self.received

    def close(self) -> None:
        self.socket.close()


@contextmanager
def asking(server: Server, workspace: Workspace, path: str, body: Any, behave: Callable[[Peer], None]) -> Iterator[Any]:
    with upstream(behave) as peer:
        send_to(workspace, OPENAI, origin_of(peer))
        server.up_to_date()
        with closing(Client(server, path, body)) as client:
            yield client


def test_the_head_goes_out_when_the_upstreams_has_come_and_comments_are_passed_on(
    server: Server, workspace: Workspace
) -> None:
    """The upstream goes on only once the client has what it sent before."""
    seen = [threading.Event() for _ in range(2)]

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(EVENTS)
        assert seen[0].wait(PATIENCE_S)
        peer.send(chunk(b": PROCESSING\n\n"))
        assert seen[1].wait(PATIENCE_S)
        peer.send(event(DELTA) + chunk(b"data: [DONE]\n\n") + LAST)

    with asking(server, workspace, "/v1/chat/completions", CHAT, behave) as client:
        head = client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"content-type: text/event-stream" in head
        seen[0].set()
        client.until(b": PROCESSING\n\n")
        seen[1].set()
        assert b'"content":"hi"' in client.until(b"data: [DONE]").replace(b'": "', b'":"')


def test_where_the_upstream_says_nothing_comments_are_made(
    server: Server, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host.server.openai.gateway.KEEPALIVE_S", 0.05)
    seen = threading.Event()

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(EVENTS)
        assert seen.wait(PATIENCE_S)
        peer.send(event(DELTA) + chunk(b"data: [DONE]\n\n") + LAST)

    with asking(server, workspace, "/v1/chat/completions", CHAT, behave) as client:
        client.until(b": keepalive\n\n")
        seen.set()
        client.until(b"data: [DONE]")


def test_an_error_after_the_head_and_before_the_first_event_is_an_event(server: Server, workspace: Workspace) -> None:
    seen = threading.Event()

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(EVENTS)
        seen.wait(PATIENCE_S)

    with asking(server, workspace, "/v1/chat/completions", CHAT, behave) as client:
        client.until(b"\r\n\r\n")
        seen.set()
        said = client.until(b"0\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200")
    assert b"event: error\ndata: {" in said
    assert b"[DONE]" not in said


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/audio/speech", SPEECH)])
def test_an_upstreams_error_status_stays_the_status(server: Server, workspace: Workspace, path: str, body: Any) -> None:
    error = response(b'{"error": {"message": "no", "code": "x"}}', "401 Unauthorized", "Content-Type: application/json")

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(error)

    with asking(server, workspace, path, body, behave) as client:
        said = client.until(b'"x"')
    assert said.startswith(b"HTTP/1.1 401")


def test_as_many_images_come_as_were_asked_for(server: Server, workspace: Workspace) -> None:
    """The second is sent only once the client has the first."""
    seen = threading.Event()

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(EVENTS + event({"type": "image_generation.completed", "b64_json": "Zmlyc3Q="}))
        assert seen.wait(PATIENCE_S)
        peer.send(event({"type": "image_generation.completed", "b64_json": "c2Vjb25k"}))
        peer.hang()

    body = {"model": "gpt-image-1", "prompt": "a cat", "n": 2, "stream": True}
    with asking(server, workspace, "/v1/images/generations", body, behave) as client:
        client.until(b"Zmlyc3Q=")
        seen.set()
        assert b"c2Vjb25k" in client.until(b"0\r\n\r\n")


def test_a_binary_answer_without_content_has_neither_type_nor_length(server: Server, workspace: Workspace) -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    with asking(server, workspace, "/v1/audio/speech", SPEECH, behave) as client:
        said = client.until(b"\r\n\r\n").lower()
    assert said.startswith(b"http/1.1 204")
    assert b"\r\ncontent-" not in said


def sound(number: int) -> bytes:
    return bytes(range(128, 256)) * 8 + b" piece-%d \n" % number


def test_the_bytes_of_a_binary_answer_arrive_piece_by_piece(server: Server, workspace: Workspace) -> None:
    """Each piece is sent only once the one before has reached the client."""
    seen = [threading.Event() for _ in range(5)]
    head = chunked("200 OK", "Content-Type: audio/mpeg", 'Content-Disposition: attachment; filename="a.mp3"')

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(head)
        for number, taken in enumerate(seen):
            peer.send(chunk(sound(number)))
            assert taken.wait(PATIENCE_S)
        peer.send(LAST)

    with asking(server, workspace, "/v1/audio/speech", SPEECH, behave) as client:
        for number, taken in enumerate(seen):
            client.until(b" piece-%d " % number)
            taken.set()
        said = client.until(b"0\r\n\r\n")
    assert b"content-type: audio/mpeg" in said
    assert b'content-disposition: attachment; filename="a.mp3"' in said


def test_an_answer_in_bytes_that_breaks_off_has_no_end(server: Server, workspace: Workspace) -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked("200 OK", "Content-Type: audio/mpeg") + chunk(sound(0)))

    with asking(server, workspace, "/v1/audio/speech", SPEECH, behave) as client:
        said = client.to_the_end()
    assert said.startswith(b"HTTP/1.1 200")
    assert b"transfer-encoding: chunked" in said
    assert not said.endswith(b"0\r\n\r\n")


def test_a_secret_that_an_upstream_echoes_is_not_in_the_pieces(server: Server, workspace: Workspace) -> None:
    half = len(KEY) // 2

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked("200 OK", "Content-Type: audio/mpeg"))
        for part in (b"\x00\xff before " + KEY[:half].encode(), KEY[half:].encode() + b" behind \x00"):
            peer.send(chunk(part))
        peer.send(LAST)

    with asking(server, workspace, "/v1/audio/speech", SPEECH, behave) as client:
        said = client.until(b"0\r\n\r\n")
    assert b" before " in said
    assert b" behind " in said
    assert KEY.encode() not in said
    assert KEY[half:].encode() not in said


def test_a_client_that_leaves_a_flowing_answer_ends_the_run(server: Server, workspace: Workspace) -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked("200 OK", "Content-Type: audio/mpeg") + chunk(sound(0)))
        peer.hang()

    with upstream(behave) as peer:
        send_to(workspace, OPENAI, origin_of(peer))
        server.up_to_date()
        with closing(Client(server, "/v1/audio/speech", SPEECH)) as client:
            client.until(b" piece-0 ")
        assert peer.hung_up.wait(PATIENCE_S)


def test_the_bytes_of_a_silent_upstream_end_with_its_time(server: Server, workspace: Workspace) -> None:
    workspace.policies.set(OPENAI, "idle_timeout", "300ms")

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked("200 OK", "Content-Type: audio/mpeg") + chunk(sound(0)))
        peer.hang()

    with asking(server, workspace, "/v1/audio/speech", SPEECH, behave) as client:
        assert not client.to_the_end().endswith(b"0\r\n\r\n")
