"""Limits counted in Redis, for machines that share no database. The connection is made by the `limits` library.

The strategies of that library decide about one limit at a time. To count for all limits of a request or for none, the
counting is a script, which Redis runs as one step, by its own clock. The script repeats `Window.full` of
`host.core.sliding_window`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from host.core.sliding_window import Exceeded, Limit, Window, longest, place
from host.errors import InputError, StateError

if TYPE_CHECKING:
    from limits.storage import RedisStorage

_TIMEOUT_S: Final = 2.0
_PREFIX: Final = "catalyst-host"
_SCHEMES: Final = ("redis", "rediss", "redis+unix")
_HINT: Final = "like redis://:password@cache.internal:6379/0, rediss:// for TLS, or redis+unix:///run/redis.sock"

# KEYS: the counters. ARGV: the time, or "" for Redis's own; 1 to count even if a counter is full; then for each counter
# the length of its window in seconds, its quota's amount, and how much to count. Returns the time in seconds and
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
    """A `host.service.limits.Limiter`. `clock` replaces Redis's time in tests."""

    def __init__(self, storage: RedisStorage, clock: Callable[[], float] | None = None) -> None:
        self._redis: Any = storage.get_connection()
        self._key = storage.prefixed_key
        self._clock = clock
        self._script = self._redis.register_script(_SCRIPT)

    @classmethod
    def open(cls, url: str, clock: Callable[[], float] | None = None) -> RedisLimiter:
        """To be closed. Raises InputError for a URL of another kind, StateError if no Redis answers there."""
        limiter = cls(_storage(url), clock)
        try:
            with _translated_errors():
                limiter._redis.ping()
        except BaseException:
            limiter.close()
            raise
        return limiter

    def admit(self, limits: Sequence[Limit]) -> Exceeded | None:
        found = self._run(limits, [1 if limit.unit == "requests" else 0 for limit in limits])
        return longest(
            Exceeded(limit, window.wait_s(limit.quota.amount, limit.quota.window_s))
            for limit, (window, full) in zip(limits, found, strict=True)
            if full
        )

    def spend(self, limits: Sequence[Limit], tokens: int) -> None:
        counted = [limit for limit in limits if limit.unit == "tokens"]
        if tokens > 0:
            self._run(counted, [tokens] * len(counted), spent=True)

    def close(self) -> None:
        self._redis.close()

    def _run(
        self, limits: Sequence[Limit], amounts: Sequence[int], *, spent: bool = False
    ) -> list[tuple[Window, bool]]:
        """Count `amounts`: all of them, or, if a limit is full and they are not `spent` already, none. Returns the
        window of each limit before that, and whether it was full."""
        if not limits:
            return []
        at = None if self._clock is None else self._clock()
        arguments: list[str | int] = ["" if at is None else repr(at), int(spent)]
        for limit, amount in zip(limits, amounts, strict=True):
            arguments += [repr(limit.quota.window_s), limit.quota.amount, amount]
        with _translated_errors():
            answer = self._script(keys=[self._key(limit.counter) for limit in limits], args=arguments)
        seconds, micros, *counts = map(int, answer)
        now = seconds + micros / 1_000_000 if at is None else at
        return [
            (Window(before, current, place(now, limit.quota.window_s)[1]), bool(full))
            for limit, before, current, full in zip(limits, counts[::3], counts[1::3], counts[2::3], strict=True)
        ]


def _storage(url: str) -> RedisStorage:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise InputError(
            f"limits are counted in Redis, and not by {scheme[:20]}://"
            if separator
            else "the place that counts limits is not a URL",
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
            "limits in Redis need a library that is not installed", hint="pip install 'catalyst-host[redis]'"
        ) from None
    options: dict[str, Any] = {
        "socket_timeout": _TIMEOUT_S,
        "socket_connect_timeout": _TIMEOUT_S,
        "retry": Retry(NoBackoff(), 1, supported_errors=(Disconnected,)),  # once more, if the connection was lost
    }
    try:
        return RedisStorage(url, key_prefix=_PREFIX, **options)
    except (ValueError, ConfigurationError):  # the former for a port that is no number
        raise InputError("the limits' URL cannot be read", field="--limits", hint=_HINT) from None


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Redis's errors become StateError. Their texts are left out: they may repeat what was sent to Redis."""
    from redis.exceptions import RedisError  # noqa: PLC0415 - an extra; a storage exists, so it is installed

    try:
        yield
    except (RedisError, OSError) as error:
        raise StateError(
            f"the Redis that counts limits failed: {type(error).__name__}", hint="redis-cli -u URL ping says more"
        ) from None
