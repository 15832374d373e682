"""When the other side of a WebSocket is silent for too long, by a clock of the test's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import Ping

from host.core.limits import Limits
from host.egress import EgressError
from host.egress.websocket import WebSocket
from tests.egress.test_floods import Flood

IDLE_S = 60.0


class Line(Flood):
    """To a server that `answers` pings, or does not. Each wait is as long as it may be, and `late` seconds longer."""

    def __init__(self, *, answers: bool = False) -> None:
        super().__init__()
        self.now = 1_000.0
        self.late = 0.0
        self.pings = 0
        self._answers = answers
        self._frames = Connection(ConnectionType.SERVER)

    def open(self) -> WebSocket:
        connection: Any = SimpleNamespace(behind=b"", wire=self)
        return WebSocket(connection, (), "", Limits(idle_timeout_s=IDLE_S), lambda *args, **kwargs: None)

    def wait(self, clock: object, seconds: float, **how: Any) -> None:
        self.now += seconds + self.late
        self.late = 0.0

    def write_now(self, data: bytearray) -> int:
        self._frames.receive_data(bytes(data))
        for event in self._frames.events():
            assert isinstance(event, Ping)
            self.pings += 1
            if self._answers:
                self._data.append(self._frames.send(event.response()))
        return len(data)


def turned(socket: WebSocket, line: Line, for_s: float, **how: Any) -> None:
    until = line.now + for_s
    while line.now < until:
        socket.turn(line, 1_000.0, **how)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`lines(answers=True)` is a Line, whose clock is that of the WebSockets."""

    def made(**how: Any) -> Line:
        line = Line(**how)
        monkeypatch.setattr("host.egress.websocket.time", SimpleNamespace(monotonic=lambda: line.now))
        return line

    return made


def test_one_that_answers_pings_is_not_silent(lines: Any) -> None:
    line = lines(answers=True)
    socket = line.open()
    turned(socket, line, 10 * IDLE_S)
    assert not socket.ended
    assert line.pings >= 10


def test_one_that_answers_none_is_asked_twice_before_it_is_given_up(lines: Any) -> None:
    line = lines()
    socket, began = line.open(), line.now
    with pytest.raises(EgressError, match="answered no ping") as raised:
        turned(socket, line, 2 * IDLE_S)
    assert (raised.value.kind, raised.value.limit) == ("timeout", "idle_timeout")
    assert line.now == began + IDLE_S
    assert line.pings == 2


def test_what_is_not_read_is_not_silent(lines: Any) -> None:
    line = lines()
    socket = line.open()
    turned(socket, line, 10 * IDLE_S, reading=False)
    assert not socket.ended


@pytest.mark.parametrize("answers", [True, False])
def test_where_this_process_stood_still_the_other_side_is_asked_before_it_is_given_up(
    lines: Any, answers: bool
) -> None:
    """As one does whose machine slept: the time was over when it looked again."""
    line = lines(answers=answers)
    line.late = 10 * IDLE_S
    socket = line.open()
    socket.turn(line, 1_000.0)
    assert not socket.ended
    asked = line.now
    if answers:
        turned(socket, line, 2 * IDLE_S)
        assert not socket.ended
    else:
        with pytest.raises(EgressError, match="answered no ping"):
            turned(socket, line, 2 * IDLE_S)
        assert line.now == asked + IDLE_S / 3
        assert line.pings == 1
