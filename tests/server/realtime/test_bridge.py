"""What a message of a client takes before it is read, and where it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from host.errors import Busy
from host.server.asgi import LARGE_BYTES
from host.server.realtime.bridge import Bridge
from host.service.principal import VALUE_BYTES, weight


class Admitted:
    """Has room for `most` bytes, and no event loop aside."""

    def __init__(self, most: float = float("inf")) -> None:
        self.most = most
        self.held = 0
        self.aside = 0

    def reserve(self, size: int) -> None:
        if size > self.most:
            raise Busy("there is no room")
        self.held = max(self.held, size)

    async def off_loop(self, work: Callable[[], Any]) -> Any:
        self.aside += 1
        return work()


def checked(said: str | bytes, admitted: Admitted, *, reads: bool = True) -> int:
    """How often a message was read."""
    read: list[Any] = []
    rules: Any = SimpleNamespace(reads=reads, checked=lambda one: read.append(one) or one)
    none: Any = None
    bridge = Bridge(none, rules, none, admitted, none, none, none)  # type: ignore[arg-type]
    assert asyncio.run(bridge._checked(said)) is said
    return len(read)


@pytest.mark.parametrize(
    ("said", "takes"),
    [
        pytest.param("[" * 5_000, 5_000 * (1 + VALUE_BYTES), id="of many values"),
        pytest.param("語" * 5_000, 20_000, id="of wide characters"),
        pytest.param(b"[" + b"0," * 5_000, 10_001 * (1 + VALUE_BYTES // 2), id="in bytes"),
    ],
)
def test_a_message_holds_what_its_values_take_and_not_its_characters(said: str | bytes, takes: int) -> None:
    admitted = Admitted()
    assert checked(said, admitted) == 1
    assert admitted.held == weight(said) >= takes * 0.9
    with pytest.raises(Busy):
        checked(said, Admitted(most=len(said)))


def test_a_large_message_is_read_beside_the_event_loop() -> None:
    admitted, small = Admitted(), Admitted()
    assert checked('"' + "x" * LARGE_BYTES + '"', admitted) == 1
    assert admitted.aside == 2
    assert checked('"' + "x" * 5_000 + '"', small) == 1
    assert small.aside == 0


@pytest.mark.parametrize(("said", "takes"), [("[" * 99_999, 99_999), ("語" * 9_999, 39_996), (b"\xff" * 9_999, 9_999)])
def test_one_that_nobody_reads_takes_its_own_size(said: str | bytes, takes: int) -> None:
    admitted = Admitted()
    assert checked(said, admitted, reads=False) == 0
    assert (admitted.held, admitted.aside) == (takes, 0)
