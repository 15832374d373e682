"""The relay between a caller and the other side: what each of them could make of its turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from host.capabilities.message import GuestError
from host.capabilities.websocket import OpenSocket, WebSockets
from host.core.conversation import Closed
from host.core.limits import Limits
from host.run import RunStopped


class Caller:
    """Has room when `room` says so, takes everything, and says `says` first."""

    def __init__(self, room: Callable[[], bool] = lambda: True, says: tuple[str, ...] = ()) -> None:
        self.room = room
        self.says = deque(says)
        self.end: Closed | None = None

    @property
    def has_room(self) -> bool:
        return self.room()

    def heard(self) -> Any:
        return self.says.popleft() if self.says else None

    def closed(self, end: Closed) -> None:
        self.end = end

    def fileno(self) -> int:
        return -1

    def attend(self) -> None:
        pass

    def wait(self, seconds: float) -> None:
        pass


class Relayed:
    """A relay of an other side that has said `waiting`. It ends after `turns`, in each of which `come` bytes come."""

    def __init__(self, waiting: tuple[str, ...] = (), turns: int = 0, come: int = 0) -> None:
        self.handed: list[str] = []
        self.excused = 0.0
        self.said: list[str] = []
        self.stops_after: float = float("inf")
        self._waiting, self._turns, self._come = deque(waiting), turns, come
        self.raw = SimpleNamespace(unsent=0, closing=not turns, ended=not turns, end=Closed(1000), sent=0, received=0)
        self.raw.has_room, self.raw.sent_bytes = True, 0
        self.meters = SimpleNamespace(received_bytes=0, sent_bytes=0, emitted_bytes=0)
        self.run = SimpleNamespace(
            meters=self.meters, redactor=None, limits=Limits(), redacted=lambda text: text, step_aside=lambda: None
        )
        self.run.emit, self.run.excuse, self.run.go_on = self._emit, self._excuse, self._go_on
        self.socket = SimpleNamespace(raw=self.raw, turn=self._turn, ending=lambda: Closed(1000), close=lambda: None)
        self.socket.take, self.socket.put = self._take, self.said.append

    def to(self, caller: Caller) -> Any:
        sockets = SimpleNamespace(filled=lambda *given: pytest.fail("a caller's message is no template"))
        relay = WebSockets(SimpleNamespace(grant=None), sockets)  # type: ignore[arg-type]
        return relay._relayed(self.run, self.socket, caller)  # type: ignore[arg-type]

    def _take(self, redactor: object) -> str | None:
        return self._waiting.popleft() if self._waiting else None

    def _turn(self, seconds: float, **how: Any) -> None:
        self._turns -= 1
        self.meters.received_bytes += self._come
        self.raw.ended = self.raw.closing = not self._turns

    def _emit(self, message: str, *, relayed: bool) -> bool:
        self.handed.append(message)
        return relayed

    def _excuse(self, seconds: float) -> None:
        self.excused += seconds

    def _go_on(self) -> None:
        if self.excused >= self.stops_after:
            raise RunStopped


@pytest.mark.parametrize("full_at", range(1, 12))
def test_a_caller_who_makes_room_between_two_looks_loses_no_last_messages(full_at: int) -> None:
    looks = 0

    def room() -> bool:
        nonlocal looks
        looks += 1
        return looks != full_at

    relayed, caller = Relayed(("1", "2", "3", "4", "5")), Caller(room)
    assert relayed.to(caller)["closed"] == {"code": 1000, "reason": ""}
    assert relayed.handed == ["1", "2", "3", "4", "5"]
    assert caller.end == Closed(1000)


@pytest.mark.parametrize(("come", "most_s"), [(0, 0.0012), (100, 0.0015), (1_000_000, 2.1)])
def test_tiny_frames_are_not_excused_as_the_host_s_own_work(
    monkeypatch: pytest.MonkeyPatch, come: int, most_s: float
) -> None:
    """Each look at the clock of the thread is a second later."""
    clock = iter(range(1_000_000))
    monkeypatch.setattr("host.capabilities.websocket.time.thread_time", lambda: float(next(clock)))
    relayed = Relayed(turns=10, come=come)
    relayed.to(Caller())
    assert 0 < relayed.excused <= 10 * most_s


def test_a_relay_that_never_rests_ends_with_the_run() -> None:
    relayed = Relayed(turns=1_000_000, come=2)
    relayed.stops_after = 0.000_1
    with pytest.raises(RunStopped):
        relayed.to(Caller())


def test_a_placeholder_in_a_callers_message_is_sent_as_it_is() -> None:
    relayed = Relayed(turns=1)
    relayed.to(Caller(says=('{"key": "host-secret-0"}',)))
    assert relayed.said == ['{"key": "host-secret-0"}']


def test_an_upstream_that_ends_each_connection_at_once_lets_a_guest_hold_no_more_than_it_may() -> None:
    grant = SimpleNamespace(limits=Limits(max_connections=3), reference="c:local.x")
    relay = WebSockets(SimpleNamespace(grant=grant), None)  # type: ignore[arg-type]
    ended = [OpenSocket.__new__(OpenSocket) for _ in range(3)]
    for one in ended:
        one._closed, one.raw = False, SimpleNamespace(ended=True)  # type: ignore[assignment]
    run: Any = SimpleNamespace(streams={str(at): one for at, one in enumerate(ended)}, conversation=None)
    message: Any = SimpleNamespace(relay=False)
    with pytest.raises(GuestError):
        relay._check_room(run, message)
    ended[0]._closed = True
    relay._check_room(run, message)
