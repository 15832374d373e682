"""Whether a request that failed is sent again, and when. Nothing here sends or waits.

It is repeated if that can do no work twice (`host.core.repeating`), and only if a repeat may fare better. An upstream
that answers `x-should-retry: false` is not asked again.

Not made of the library `stamina`: its waits do not end with a run's deadline or cancellation, it has no view of the
answer (Retry-After), no budget over requests, and nothing to record each attempt with before it is made.
"""

from __future__ import annotations

import random
import re
import time
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Final

from host.core.repeating import may_repeat, was_not_processed
from host.egress.failures import EgressError
from host.egress.headers import Fields
from host.policy.reliability import Retries

_MAY_PASS: Final = frozenset({500, 502, 503, 504})
SECONDS: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?\Z")  # in a header

WINDOW_S: Final = 60.0  # of the budget
FLOOR: Final = 10  # repeats in a window that a catalyst has beside its share
FLOOR_OF_KEY: Final = 5  # and each API key of these
_MOST_COUNTED: Final = 4_096  # requests of one window; a catalyst with more has the budget of so many


def failure_may_pass(method: str, headers: Fields, error: EgressError) -> bool:
    """Whether to send a request again that failed without an answer."""
    return error.passing and (not error.sent or may_repeat(method, headers))


def answer_may_change(method: str, headers: Fields, status: int, answered: Fields) -> bool:
    """Whether to send a request again that was answered with an error `status` and the headers `answered`."""
    wish = next((value.strip().lower() for name, value in answered if name == "x-should-retry"), "")
    if wish == "false":
        return False
    return was_not_processed(status, answered) or (status in _MAY_PASS and may_repeat(method, headers))


def asked_wait_s(answered: Fields, now: Callable[[], float] = time.time) -> float | None:
    """The seconds to wait that the headers of an answer ask for: `retry-after-ms`, or `Retry-After` in seconds or as a
    date (RFC 9110, 10.2.3). None where there is none that can be read; a time that is over is 0."""
    given = {name: value.strip() for name, value in answered if name in ("retry-after", "retry-after-ms")}
    if SECONDS.match(given.get("retry-after-ms", "")):
        return float(given["retry-after-ms"]) / 1_000
    asked = given.get("retry-after", "")
    if SECONDS.match(asked):
        return float(asked)
    return _until(asked, now()) if asked[:1].isalpha() and len(asked) <= 64 else None


def _until(date: str, now: float) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - for dates alone, which few servers send

    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def wait_s(retries: Retries, repeat: int, asked: float | None, jitter: Callable[[], float] = random.random) -> float:
    """The seconds before the repeat with this number, from 1 on: what the upstream asks for, else a random part of a
    time that doubles ("full jitter": Brooker, Exponential Backoff And Jitter, 2015)."""
    return asked if asked is not None else jitter() * retries.backoff_s(repeat)


class RetryBudget:
    """How many of one catalyst's requests may be repeats. Thread-safe. It counts for one process: a share of each
    process's requests is the same share of all.

    `begun` is written without a call into this class, because every request is in it."""

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.begun: deque[tuple[float, object]] = deque(maxlen=_MOST_COUNTED)  # (when, API key)
        self._repeated: deque[tuple[float, str]] = deque(maxlen=_MOST_COUNTED)
        self._share = share
        self._clock = clock
        self._lock = Lock()

    def take(self, key: str) -> bool:
        """Whether `key` may repeat a request now, which is counted then. "" is a caller without a key."""
        with self._lock:
            since = self._clock() - WINDOW_S
            begun = [who for at, who in self.begun.copy() if at >= since]
            repeated = [who for at, who in self._repeated if at >= since]
            room = len(repeated) < FLOOR + self._share * len(begun)
            if key:
                room = room and repeated.count(key) < FLOOR_OF_KEY + self._share * begun.count(key)
            if room:
                self._repeated.append((self._clock(), key))
            return room
