"""WebSockets of servers that send the smallest frames there are: what they take of time and memory."""

from __future__ import annotations

import tracemalloc
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from host.core.limits import Limits
from host.egress import EgressError
from host.egress.websocket import WebSocket
from tests.egress.test_websocket import frame


class Flood:
    """The wire and the clock of a connection on which `data` has come, of a run that is over after `looks` at it."""

    at, usable = "api.test", True

    def __init__(self, *data: bytes, looks: int = 1_000_000) -> None:
        self._data = list(data)
        self._looks = looks

    def socket(self) -> WebSocket:
        connection: Any = SimpleNamespace(behind=b"", wire=self)
        return WebSocket(connection, (), "", Limits(), lambda *args, **kwargs: None)

    def interruptible(self, clock: object) -> AbstractContextManager[None]:
        return nullcontext()

    def remaining(self) -> float:
        return float(self._looks)

    def check(self, clock: object) -> float:
        self._looks -= 1
        if self._looks < 0:
            raise EgressError("timeout", "over", self.at)
        return 1.0

    def read_now(self, size: int) -> bytes | None:
        if not self._data:
            return None
        found, rest = self._data[0][:size], self._data[0][size:]
        self._data[:1] = [rest] if rest else []
        return found

    def write_now(self, data: bytearray) -> int:
        return len(data)

    def wait(self, *args: Any, **kwargs: Any) -> None:
        pass


def test_fragments_of_a_character_take_no_more_memory_than_the_message() -> None:
    fragment = frame(0x00, "€".encode())
    wire = Flood(frame(0x01), fragment * 5_000)
    socket = wire.socket()
    tracemalloc.start()
    try:
        for _ in range(3):
            socket.turn(wire, 0.0)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert socket.received_bytes > 5_000 * len(fragment)
    assert kept < 150_000  # of 15,000 in the message: as texts they would be a million


@pytest.mark.parametrize("tiny", [frame(0x00), frame(0x8A)], ids=["empty fragments", "pongs"])
def test_the_clock_is_looked_at_however_many_frames_a_turn_has(tiny: bytes) -> None:
    wire = Flood(frame(0x01, b"a"), *[tiny * 32_768] * 16, looks=3)
    socket = wire.socket()
    with pytest.raises(EgressError) as raised:
        deque(socket.turn(wire, 0.0) for _ in range(100))
    assert raised.value.kind == "timeout"
    assert socket.received_bytes <= 3 * 16 * 1024
