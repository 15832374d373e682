"""Limits in Redis: for machines that share no database, over the connection that the `limits` library makes.

Its own strategies decide about one limit at a time. To count for all of a request's limits or for none, what they do is
a script here, which Redis runs as one step: the same arithmetic as `host.service.limits.quota`, by Redis's own clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from host.errors import InputError, StateError
from host.service.limits.quota import Exceeded, Limit, Window, place

if TYPE_CHECKING:
    from limits.storage import RedisStorage

_PATIENCE_S: Final = 2.0
_PREFIX: Final = "catalyst-host"
_SCHEMES: Final = ("redis", "rediss", "redis+unix")
_HINT: Final = "like redis://:password@cache.internal:6379/0, rediss:// for TLS, or redis+unix:///run/redis.sock"

# KEYS: the counters. ARGV: the time, or "" for Redis's own; 1 where what is counted was spent already; then for each
# counter its window's length in seconds, how much it allows, and how much to count. Answers: the time in seconds and
# microseconds; then for each counter its previous and its current count, and whether it is full.
_SCRIPT: Final = b"""
local now, seconds, micros
if ARGV[1] == '' then
    local time = redis.call('TIME')
    seconds, micros = tonumber(time[1]), tonumber(time[2])
    now = seconds + micros / 1000000
else
    now, seconds, micros = tonumber(ARGV[1]), 0, 0
end
local answer, current, refused = {seconds, micros}, {}, false
for i, name in ipairs(KEYS) do
    local length = tonumber(ARGV[3 * i])
    local number = math.floor(now / length)
    local passed = (now - number * length) / length
    current[i] = name .. ':' .. string.format('%.0f', number)
    local before = tonumber(redis.call('GET', name .. ':' .. string.format('%.0f', number - 1)) or '0')
    local count = tonumber(redis.call('GET', current[i]) or '0')
    local full = math.floor(before * (1 - passed)) + count >= tonumber(ARGV[3 * i + 1])
    refused = refused or full
    answer[#answer + 1] = before
    answer[#answer + 1] = count
    answer[#answer + 1] = full and 1 or 0
end
if refused and ARGV[2] ~= '1' then return answer end
for i, name in ipairs(KEYS) do
    local amount = ARGV[3 * i + 2]
    if amount ~= '0' then
        redis.call('INCRBY', current[i], amount)
        redis.call('PEXPIRE', current[i], string.format('%.0f', tonumber(ARGV[3 * i]) * 2000 + 60000))
    end
end
return answer
"""


class RedisLimiter:
    """`clock` stands in for Redis's time."""

    def __init__(self, storage: RedisStorage, clock: Callable[[], float] | None = None) -> None:
        self._redis: Any = storage.get_connection()
        self._key = storage.prefixed_key
        self._clock = clock
        self._script = self._redis.register_script(_SCRIPT)

    @classmethod
    def open(cls, url: str, clock: Callable[[], float] | None = None) -> RedisLimiter:
        """Raises InputError for a URL of another kind, StateError where nobody answers there."""
        limiter = cls(_storage(url), clock)
        try:
            with _told():
                limiter._redis.ping()
        except BaseException:
            limiter.close()
            raise
        return limiter

    def admit(self, limits: Sequence[Limit]) -> Exceeded | None:
        found = self._run(limits, [1 if limit.unit == "requests" else 0 for limit in limits])
        over = [
            Exceeded(limit, window.wait_s(limit.allowance.amount, limit.allowance.window_s))
            for limit, (window, full) in zip(limits, found, strict=True)
            if full
        ]
        return max(over, key=lambda one: one.retry_after_s, default=None)

    def spend(self, limits: Sequence[Limit], tokens: int) -> None:
        counted = [limit for limit in limits if limit.unit == "tokens"]
        if tokens > 0:
            self._run(counted, [tokens] * len(counted), spent=True)

    def levels(self, limits: Sequence[Limit]) -> list[float]:
        return [window.used for window, _ in self._run(limits, [0] * len(limits))]

    def close(self) -> None:
        self._redis.close()

    def _run(
        self, limits: Sequence[Limit], amounts: Sequence[int], *, spent: bool = False
    ) -> list[tuple[Window, bool]]:
        """Count `amounts`, unless one is full and they were not `spent` already. Of each limit, how it was before, and
        whether it was full."""
        if not limits:
            return []
        at = None if self._clock is None else self._clock()
        arguments: list[str | int] = ["" if at is None else repr(at), int(spent)]
        for limit, amount in zip(limits, amounts, strict=True):
            arguments += [repr(limit.allowance.window_s), limit.allowance.amount, amount]
        with _told():
            answer = self._script(keys=[self._key(limit.counter) for limit in limits], args=arguments)
        seconds, micros, *counts = map(int, answer)
        now = seconds + micros / 1_000_000 if at is None else at
        return [
            (Window(before, current, place(now, limit.allowance.window_s)[1]), bool(full))
            for limit, before, current, full in zip(limits, counts[::3], counts[1::3], counts[2::3], strict=True)
        ]


def _storage(url: str) -> RedisStorage:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise InputError(
            f"limits are counted in Redis, and not by {scheme[:20]}://"
            if separator
            else "where limits are counted is not a URL",
            field="--limits",
            hint=_HINT,
        )
    try:
        from limits.errors import ConfigurationError  # noqa: PLC0415 - an extra
        from limits.storage import RedisStorage  # noqa: PLC0415 - as above
        from redis.backoff import NoBackoff  # noqa: PLC0415 - as above
        from redis.exceptions import ConnectionError as Disconnected  # noqa: PLC0415 - as above
        from redis.retry import Retry  # noqa: PLC0415 - as above
    except ImportError:
        raise StateError(
            "limits in Redis need the library that counts them", hint="pip install 'catalyst-host[redis]'"
        ) from None
    options: dict[str, Any] = {
        "socket_timeout": _PATIENCE_S,
        "socket_connect_timeout": _PATIENCE_S,
        "retry": Retry(NoBackoff(), 1, supported_errors=(Disconnected,)),  # for a connection that has gone meanwhile
    }
    try:
        return RedisStorage(url, key_prefix=_PREFIX, **options)
    except (ValueError, ConfigurationError):  # the former for a port that is no number
        raise InputError("the limits' URL cannot be read", field="--limits", hint=_HINT) from None


@contextmanager
def _told() -> Iterator[None]:
    """Redis's errors as StateError, without their words: they may have been sent to it."""
    from redis.exceptions import RedisError  # noqa: PLC0415 - an extra, which is there where there is a storage

    try:
        yield
    except (RedisError, OSError) as error:
        raise StateError(
            f"the Redis that counts limits failed: {type(error).__name__}", hint="redis-cli -u URL ping says more"
        ) from None
