"""`host run --stream` of a connection: events from standard input, events to standard output."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host.cli import conversation
from tests.cli.conftest import PROGRAM
from tests.conftest import KEY
from tests.egress.conftest import Server
from tests.probing import origin_of, response, serving
from tests.sockets import SocketPeer, socket_serving

CONNECT = json.dumps({"operation": "realtime.connect", "params": {"model": "gpt-realtime"}})


def lines(*events: Any) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


def realtime(socket: SocketPeer) -> None:
    """Says that a session began, echoes events, and answers `response.create` with two."""
    socket.send('{"type": "session.created"}')
    while isinstance(message := socket.receive(), str):
        if json.loads(message)["type"] == "response.create":
            socket.send('{"type": "response.created"}')
            socket.send('{"type": "response.done"}')
        else:
            socket.send(message)


@pytest.fixture
def typed(
    program: Any, environ: dict[str, str], openai_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    environ["OPENAI_API_KEY"] = KEY
    monkeypatch.setattr(conversation, "_QUIET_S", 0.3)

    def run(server: Server, *more: str, stdin: str = "") -> Any:
        sent = ["--upstream", f"https://api.openai.com={origin_of(server)}", "--allow-domain", "api.openai.com"]
        return program("run", openai_file, *sent, "--secret", "OPENAI_API_KEY", "--input", CONNECT, "--stream", *more, stdin=stdin)  # fmt: skip

    return run


@pytest.fixture
def server() -> Iterator[Server]:
    with socket_serving(realtime) as one:
        yield one


def test_the_lines_go_to_the_other_side_and_its_events_come_as_lines(typed: Any, server: Server) -> None:
    ran = typed(server, stdin=lines({"type": "session.update"}, {"type": "response.create"}) + "\n")
    assert (ran.status, ran.err) == (0, "")
    kinds = [json.loads(line)["type"] for line in ran.out.splitlines()]
    assert kinds == ["session.created", "session.update", "response.created", "response.done"]
    assert f"Authorization: Bearer {KEY}".encode() in server.requests[0]


def test_without_any_line_it_shows_what_comes_and_ends(typed: Any, server: Server) -> None:
    ran = typed(server)
    assert (ran.status, ran.out) == (0, '{"type":"session.created"}\n')


def test_an_answer_that_is_pending_is_waited_for(typed: Any) -> None:
    def behave(socket: SocketPeer) -> None:
        socket.receive()
        assert not socket.peer.stopped.wait(0.8)  # longer than it waits for anything else
        socket.send('{"type": "response.done"}')
        socket.receive()

    with socket_serving(behave) as server:
        ran = typed(server, stdin=lines({"type": "response.create"}))
    assert (ran.status, ran.out) == (0, '{"type":"response.done"}\n')


def test_the_other_sides_end_ends_it_though_more_is_typed(typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "_QUIET_S", 60.0)

    def behave(socket: SocketPeer) -> None:
        socket.receive()
        socket.close(1000)
        socket.receive()

    with socket_serving(behave) as server:
        ran = typed(server, "--json", stdin=lines(*[{"type": "x"}] * 200))
    assert ran.status == 0
    assert json.loads(ran.out)["data"]["code"] == 1000


@pytest.mark.parametrize("line", ["no JSON", '{"a": NaN}', "\udcff"])
def test_a_line_that_is_no_event_is_named(typed: Any, server: Server, line: str) -> None:
    stdin = lines({"type": "a"}) + line.encode("utf-8", "surrogateescape").decode("latin-1") + "\n"
    ran = typed(server, stdin=stdin)
    assert ran.status == 2
    assert "line 2 of standard input" in ran.err
    assert max(map(len, ran.err.splitlines())) <= 200


def test_a_refusal_has_the_upstreams_error_and_status_1(typed: Any) -> None:
    body = json.dumps({"error": {"type": "invalid_request_error", "message": "bad key"}}).encode()
    with serving(response(body, "401 Unauthorized")) as server:
        ran = typed(server)
    assert ran.status == 1
    assert "bad key" in ran.out + ran.err


def test_an_end_in_an_error_is_status_1(typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "_QUIET_S", 60.0)  # it ends by the other side

    def behave(socket: SocketPeer) -> None:
        socket.close(1011, "internal")
        socket.receive()

    with socket_serving(behave) as server:
        ran = typed(server)
    assert ran.status == 1
    assert json.loads(ran.out)["error"]["close_code"] == 1011


def test_a_denial_is_status_3(typed: Any, program: Any, openai_file: Path) -> None:
    ran = program("run", openai_file, "--input", CONNECT, "--stream", "--no-prompt")
    assert ran.status == 3


@pytest.mark.parametrize("more", [["--input", "-"], ["--attach", "a=FILE"]])
def test_what_does_not_go_with_it_is_said(typed: Any, server: Server, more: list[str], tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    ran = typed(server, *[one.replace("FILE", str(tmp_path / "f")) for one in more], stdin=CONNECT)
    assert ran.status == 2
    assert f"{more[0]} does not go with a connection" in ran.err


def test_an_interrupt_ends_it(openai_file: Path, environ: dict[str, str], server: Server) -> None:
    sent = ["--upstream", f"https://api.openai.com={origin_of(server)}", "--allow-domain", "api.openai.com"]
    words = ["run", str(openai_file), *sent, "--secret", "OPENAI_API_KEY", "--input", CONNECT, "--stream"]
    pipe, env = subprocess.PIPE, {**environ, "OPENAI_API_KEY": KEY}
    with subprocess.Popen([str(PROGRAM), *words], stdin=pipe, stdout=pipe, stderr=pipe, env=env) as process:
        assert json.loads(process.stdout.readline())["type"] == "session.created"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert server.hung_up.wait(60)
