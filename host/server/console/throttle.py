"""How often somebody may get it wrong: counted in this process, by where the tries come from."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from host.errors import LimitExceeded

MOST: Final = 10
WINDOW_S: Final = 60.0
_PLACES: Final = 10_000  # that are remembered: whoever has more addresses than that gains little by it
_OF_ONE: Final = 64  # bits of an IPv6 address that one customer has all others of


class Throttle:
    """For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, address: IPv4Address | IPv6Address | None) -> None:
        """Raises LimitExceeded after MOST failures within WINDOW_S."""
        times = self._failed.get(_place(address))
        now = self._clock()
        while times and now - times[0] >= WINDOW_S:
            times.popleft()
        if times and len(times) >= MOST:
            raise LimitExceeded(
                "too many failed tries to sign in from this address",
                unit="sign-ins",
                retry_after_s=WINDOW_S - (now - times[0]),
                hint="wait a minute",
            )

    def failed(self, address: IPv4Address | IPv6Address | None) -> None:
        place = _place(address)
        self._failed.setdefault(place, deque(maxlen=MOST)).append(self._clock())
        self._failed.move_to_end(place)
        while len(self._failed) > _PLACES:
            self._failed.popitem(last=False)


def _place(address: IPv4Address | IPv6Address | None) -> str:
    if isinstance(address, IPv6Address):
        return f"{int(address) >> (128 - _OF_ONE):x}::"
    return str(address)
