"""Circuit breakers: an origin that fails is not asked for a while, and then by one request first.

    closed ── failures ──▶ open ── the pause is over ──▶ half-open: one probe
      ▲                     ▲                               │
      └──── it went well ───┼───────────────────────────────┤
                            └───────── it failed ───────────┘

Each catalyst has circuits of its own, so that none trips another's. For each origin that it connects to (of several
upstreams, each) there is one for every API key, and a common one. A request passes that of its key and the common one,
and both are told how it fared. In the common one, failures of one API key count for half of those that open it at most:
one key alone opens the circuit of that key. Where the probe of one key fails, another's request is the next probe.

Where a limiter is shared, so are the counts of failures, the open circuits and the probe (see `host.core.leases`); each
process looks once a second.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Final

from host.core.leases import Leases
from host.core.quantities import Quota
from host.core.sliding_window import Limit, RequestLimiter
from host.policy.reliability import Breaker
from host.policy.urls import Origin

_LOOK_S: Final = 1.0
_FORGOTTEN_S: Final = 3_600.0  # an open circuit that nobody has probed for so long after its pause is closed
_MOST_OUTCOMES: Final = 1_000  # of one circuit in this process
_MOST_CIRCUITS: Final = 1_000  # of one catalyst: with a domain like *.example.com a guest can name any number


@dataclass(frozen=True, slots=True)
class Refused:
    """The circuit is open: try again after so many seconds."""

    retry_after_s: float


class Circuit:
    """One circuit, under `name`. Thread-safe."""

    def __init__(
        self, name: str, settings: Breaker, limiter: RequestLimiter, leases: Leases, clock: Callable[[], float]
    ) -> None:
        self._open_name, self._probe_name = f"{name}:open", f"{name}:probe"
        self._pause_s, self._share, self._window_s = settings.pause_s, settings.least_share, settings.window_s
        self._closed_name = f"{name}:closed"
        most, window_s = settings.failures - 1, settings.window_s
        self._limits = _limits(f"{name}:failures", most, window_s)
        self._limits_anew = _limits(f"{name}:failures:anew", most, window_s)  # for a window after it has closed
        self._limiter, self._leases, self._clock = limiter, leases, clock
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=_MOST_OUTCOMES)  # (when, whether it went well)
        self._look_at = 0.0
        self._open = False
        self._refusing_until = 0.0

    def enter(self) -> bool | Refused:
        """Whether a request may go: True as the probe, False like any other."""
        now = self._clock()
        if now < self._refusing_until:
            return Refused(max(self._leases.lease_left_s(self._probe_name), 0.001))
        if self._open or now >= self._look_at:
            self._look_at = now + _LOOK_S
            self._open = self.is_open
        if not self._open:
            return False
        if not (wait := self._leases.lease(self._probe_name, self._pause_s)):
            return True
        self._refusing_until = now + min(wait, _LOOK_S)
        return Refused(wait)

    def leave(self) -> None:
        """The probe was not sent, or says nothing: another request may be it."""
        self._refusing_until = 0.0
        self._leases.release(self._probe_name)

    def pass_on(self) -> None:
        """The probe failed, and that says nothing of others: it stays open, and another request may be the probe."""
        self._leases.lease(self._open_name, self._pause_s + _FORGOTTEN_S, anew=True)
        self.leave()

    @property
    def is_open(self) -> bool:
        return self._leases.lease_left_s(self._open_name) > 0

    def went_well(self, *, probe: bool) -> bool:
        """Whether that closes it."""
        closes = probe and self.is_open
        if closes:
            self._outcomes.clear()
            self._open, self._refusing_until = False, 0.0
            self._leases.lease(self._closed_name, self._window_s, anew=True)
            self._leases.release(self._open_name)
            self._leases.release(self._probe_name)
        self._outcomes.append((self._clock(), True))
        return closes

    def failed(self, *, probe: bool, counts: bool = True) -> bool:
        """Whether that opens it, or leaves it open after a probe. `counts`: as a failure of all, and not only here."""
        now = self._clock()
        self._outcomes.append((now, False))
        if not (probe and self.is_open):
            if not counts:
                return False
            limits = self._limits_anew if self._leases.lease_left_s(self._closed_name) else self._limits
            if limits and self._limiter.admit(limits) is None:
                return False
            outcomes = [well for at, well in self._outcomes.copy() if at >= now - self._window_s]
            if outcomes.count(False) < self._share * len(outcomes):
                return False
            if self.is_open:  # since this request was sent
                return False
        return self.opened()

    def opened(self) -> bool:
        """Open it, and begin its pause anew."""
        self._leases.lease(self._probe_name, self._pause_s, anew=True)
        self._leases.lease(self._open_name, self._pause_s + _FORGOTTEN_S, anew=True)
        self._open = True
        return True


@dataclass(frozen=True, slots=True)
class Pass:
    """A request that the circuits let through. `probing` are those whose probe it is, until the time `until`: then
    another one may be it, and a failure counts as any request's. A success closes an open circuit even later: an
    upstream may take longer than the pause."""

    origin: Origin
    key: str
    probing: tuple[Circuit, ...] = ()
    until: float = math.inf


class Breakers:
    """The circuits of one catalyst, by origin and API key. Thread-safe."""

    def __init__(
        self,
        reference: str,
        settings: Breaker,
        limiter: RequestLimiter,
        leases: Leases,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reference, self._settings = reference, settings
        self._limiter, self._leases, self._clock = limiter, leases, clock
        self._circuits: dict[tuple[Origin, str], Circuit] = {}
        self._lock = Lock()

    def enter(self, origin: Origin, key: str) -> Pass | Refused:
        """Raises StateError where what is shared cannot be read."""
        began, probing = self._clock(), list[Circuit]()
        for circuit in self._of(origin, key):
            entered = circuit.enter()
            if isinstance(entered, Refused):
                for other in probing:
                    other.leave()
                return entered
            if entered:
                probing.append(circuit)
        return Pass(origin, key, tuple(probing), began + self._settings.pause_s)

    def leave(self, passed: Pass) -> None:
        """The request was not sent."""
        for circuit in self._probed(passed):
            circuit.leave()

    def _probed(self, passed: Pass) -> tuple[Circuit, ...]:
        """The circuits whose probe it still is."""
        return passed.probing if self._clock() < passed.until else ()

    def went_well(self, passed: Pass) -> bool:
        """Whether a circuit closed."""
        found = [one.went_well(probe=one in passed.probing) for one in self._of(passed.origin, passed.key)]
        return any(found)

    def failed(self, passed: Pass) -> bool:
        """Whether a circuit opened, or stays open."""
        own, probed = self._of(passed.origin, passed.key), self._probed(passed)
        if passed.key and own[-1] in probed and own[-1].is_open:
            own[-1].pass_on()
            return own[0].opened()
        counts = True
        if passed.key:
            half = (self._settings.failures + 1) // 2 if self._settings.failures > 1 else 0
            limits = _limits(f"{self._name(passed.origin)}:of:{passed.key}", half, self._settings.window_s)
            counts = bool(limits) and self._limiter.admit(limits) is None
        found = [one.failed(probe=one in probed, counts=counts or one is not own[-1]) for one in own]
        return any(found)

    def _of(self, origin: Origin, key: str) -> list[Circuit]:
        """The key's own circuit, if there is a key, and the common one."""
        with self._lock:
            return [self._one(origin, name) for name in dict.fromkeys((key, ""))]

    def _one(self, origin: Origin, key: str) -> Circuit:
        if (found := self._circuits.get((origin, key))) is None:
            while len(self._circuits) >= _MOST_CIRCUITS:
                del self._circuits[next(iter(self._circuits))]
            name = self._name(origin) + (f":key:{key}" if key else "")
            found = Circuit(name, self._settings, self._limiter, self._leases, self._clock)
            self._circuits[origin, key] = found
        return found

    def _name(self, origin: Origin) -> str:
        return f"breaker:{self._reference}:{origin}"


def _limits(name: str, most: int, window_s: float) -> tuple[Limit, ...]:
    return (Limit(name, Quota.nearest(most, window_s), "requests", name),) if most else ()
