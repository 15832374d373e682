"""Limits counted in Redis, for machines that share no database. The connection is made by the `limits` library.

The strategies of that library decide about one limit at a time. To count for all limits of a request or for none, the
counting is a script, which Redis runs as one step, by its own clock. The script repeats `Window.full` of
`host.core.sliding_window`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from host.core import installation
from host.core.sliding_window import Exceeded, Held, Limit, Reservation, Window, longest, place
from host.errors import InputError, StateError

if TYPE_CHECKING:
    from limits.storage import RedisStorage

_TIMEOUT_S: Final = 2.0
_PREFIX: Final = "catalyst-host"
_SCHEMES: Final = ("redis", "rediss", "redis+unix")
_HINT: Final = "like redis://:password@cache.internal:6379/0, rediss:// for TLS, or redis+unix:///run/redis.sock"

_CLOCK: Final = b"""
local now, seconds, micros
if ARGV[1] == '' then
    local time = redis.call('TIME')
    seconds, micros = tonumber(time[1]), tonumber(time[2])
    now = seconds + micros / 1000000
else
    now, seconds, micros = tonumber(ARGV[1]), 0, 0
end
local function slot(name, number) return name .. ':' .. string.format('%.0f', number) end
local function held(key) return tonumber(redis.call('GET', key) or '0') end
local function add(key, amount, length)
    if amount == 0 then return end
    redis.call('INCRBY', key, string.format('%.0f', amount))
    redis.call('PEXPIRE', key, string.format('%.0f', length * 2000 + 60000))
end
"""

# KEYS: the counters. ARGV: the time, or "" for Redis's own; 1 to count even if a counter is full; then for each counter
# the length of its window in seconds, its quota's amount, how much there must be room for (0: none is needed), and how
# much to count, if there is room for that much. Returns the time in seconds and microseconds; then for each counter its
# previous and its current count, whether it is full, and how much was counted.
_SCRIPT: Final = (
    _CLOCK
    + b"""
local answer, current, amounts, refused = {seconds, micros}, {}, {}, false
for i, name in ipairs(KEYS) do
    local length, quota = tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
    local needed, amount = tonumber(ARGV[4 * i + 1]), tonumber(ARGV[4 * i + 2])
    local number = math.floor(now / length)
    local passed = (now - number * length) / length
    current[i] = slot(name, number)
    local before, count = held(slot(name, number - 1)), held(current[i])
    local room = quota - math.floor(before * (1 - passed)) - count
    local full = needed > 0 and room < needed
    refused = refused or full
    amounts[i] = ARGV[2] == '1' and amount or math.max(0, math.min(amount, room))
    answer[#answer + 1] = before
    answer[#answer + 1] = count
    answer[#answer + 1] = full and 1 or 0
    answer[#answer + 1] = amounts[i]
end
if refused and ARGV[2] ~= '1' then return answer end
for i in ipairs(KEYS) do add(current[i], amounts[i], tonumber(ARGV[4 * i - 1])) end
return answer
"""
)

# The end of reservations, as `Settled.of` has it. KEYS: each counter, and that of the answer or "". ARGV: the time, or
# "" for Redis's own; the tokens, or "" where the answer does not say; 1 if the answer was only read; then for each
# counter the length of its window, how much is held of it, and the number of the window that it is held in. Returns
# what is due for each.
_SETTLE: Final = (
    _CLOCK
    + b"""
local dues, again = {}, ARGV[3] == '1'
for i = 1, #KEYS / 2 do
    local name, remembered = KEYS[2 * i - 1], KEYS[2 * i]
    local length, reserved, window = tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2]), tonumber(ARGV[3 * i + 3])
    local number = math.floor(now / length)
    local known, at = 0, number
    if remembered ~= '' then
        known = held(slot(remembered, number))
        if known == 0 then
            known = held(slot(remembered, number - 1))
            if known ~= 0 then at = number - 1 end
        end
    end
    local function put(key, count) add(key, count - held(key), length) end
    local function give(key, amount)
        local count = held(key)
        add(key, -math.min(amount, math.max(0, count)), length)
    end
    if ARGV[2] == '' then
        if remembered ~= '' and not again then put(slot(remembered, window), -reserved) end
    else
        local tokens = tonumber(ARGV[2])
        local counted = again and known or 0
        local due = math.max(0, tokens - math.max(0, counted))
        local rest = due - reserved - math.max(0, -counted)
        local back = math.min(reserved, math.max(0, -rest))
        add(slot(name, number), math.max(0, rest), length)
        give(slot(name, window), back)
        give(slot(name, at), math.max(0, -rest) - back)
        if remembered ~= '' then put(slot(remembered, at), math.max(known, tokens)) end
        dues[i] = due
    end
end
return dues
"""
)


# A lease holds its end, in milliseconds of Unix time. KEYS: its name. ARGV: the time, or "" for Redis's own; the
# seconds to take it for, "" to look only; 1 to take it also if it is not free. Returns the milliseconds for which it is
# not free, 0 if it was taken now.
_LEASE: Final = (
    _CLOCK
    + b"""
local free_in = held(KEYS[1]) - now * 1000
if ARGV[2] == '' or (free_in > 0 and ARGV[3] ~= '1') then return math.ceil(math.max(0, free_in)) end
local length = tonumber(ARGV[2]) * 1000
redis.call('SET', KEYS[1], string.format('%.0f', now * 1000 + length), 'PX', string.format('%.0f', length + 60000))
return 0
"""
)


class RedisLimiter:
    """A `host.service.limits.Limiter`. `clock` replaces Redis's time in tests."""

    def __init__(self, storage: RedisStorage, clock: Callable[[], float] | None = None) -> None:
        connection: Any = storage.get_connection()
        self._redis = connection
        self._place = _place(connection.connection_pool.connection_kwargs)
        self._key = storage.prefixed_key
        self._clock = clock
        self._script = self._redis.register_script(_SCRIPT)
        self._settle = self._redis.register_script(_SETTLE)
        self._lease = self._redis.register_script(_LEASE)

    @classmethod
    def open(cls, url: str, clock: Callable[[], float] | None = None) -> RedisLimiter:
        """To be closed. Raises InputError for a URL of another kind, StateError if no Redis answers there."""
        limiter = cls(_storage(url), clock)
        try:
            with _translated_errors(limiter._place):
                limiter._redis.ping()
        except BaseException:
            limiter.close()
            raise
        return limiter

    def admit(self, limits: Sequence[Limit]) -> Exceeded | None:
        answer = self.reserve(limits, 1, 0)
        return answer if isinstance(answer, Exceeded) else None

    def reserve(self, limits: Sequence[Limit], needed: int, likely: int) -> Reservation | Exceeded:
        rooms = [1 if limit.unit == "requests" else needed for limit in limits]
        found = self._count(limits, [1 if limit.unit == "requests" else likely for limit in limits], rooms)
        exceeded = longest(
            Exceeded(limit, one.window.wait_s(limit.quota.amount, limit.quota.window_s, room), room)
            for limit, one, room in zip(limits, found, rooms, strict=True)
            if one.full
        )
        if exceeded is not None:
            return exceeded
        return Reservation(
            tuple(
                Held(limit, one.number, one.counted)
                for limit, one in zip(limits, found, strict=True)
                if limit.unit == "tokens"
            )
        )

    def settle(self, reservation: Reservation, tokens: int | None, answer: str = "", *, again: bool = False) -> int:
        if not reservation.held:
            return tokens or 0
        names: list[str] = []
        arguments: list[str | int] = ["" if self._clock is None else repr(self._clock())]
        arguments += ["" if tokens is None else tokens, int(again)]
        for one in reservation.held:
            names += [self._key(one.limit.counter), self._key(one.answered_by(answer).counter) if answer else ""]
            arguments += [repr(one.limit.quota.window_s), one.amount, one.window]
        with _translated_errors(self._place):
            dues = self._settle(keys=names, args=arguments)
        return int(dues[0]) if dues else 0

    def spend(self, limits: Sequence[Limit], tokens: int) -> None:
        counted = [limit for limit in limits if limit.unit == "tokens"]
        if tokens > 0:
            self._run(counted, [tokens] * len(counted), spent=True)

    def lease_left_s(self, name: str) -> float:
        return self._leased(name, "")

    def lease(self, name: str, seconds: float, *, anew: bool = False) -> float:
        return self._leased(name, repr(seconds), anew=anew)

    def release(self, name: str) -> None:
        self._leased(name, "0", anew=True)

    def _leased(self, name: str, seconds: str, *, anew: bool = False) -> float:
        at = "" if self._clock is None else repr(self._clock())
        with _translated_errors(self._place):
            return int(self._lease(keys=[self._key(f"lease:{name}")], args=[at, seconds, int(anew)])) / 1_000

    def check(self) -> None:
        with _translated_errors(self._place):
            self._redis.ping()

    def close(self) -> None:
        self._redis.close()

    def _run(
        self, limits: Sequence[Limit], amounts: Sequence[int], *, spent: bool = False
    ) -> list[tuple[Window, bool]]:
        """Count `amounts`: all of them, or, if a limit is full and they are not `spent` already, none. Returns the
        window of each limit before that, and whether it was full."""
        found = self._count(limits, amounts, [1] * len(limits), spent=spent)
        return [(one.window, one.full) for one in found]

    def _count(
        self, limits: Sequence[Limit], amounts: Sequence[int], rooms: Sequence[int], *, spent: bool = False
    ) -> list[_Found]:
        """As `_run`; `rooms` are how much each limit must have room for. Of an amount beyond that, what there is room
        for is counted."""
        if not limits:
            return []
        at = None if self._clock is None else self._clock()
        arguments: list[str | int] = ["" if at is None else repr(at), int(spent)]
        for limit, amount, room in zip(limits, amounts, rooms, strict=True):
            arguments += [repr(limit.quota.window_s), limit.quota.amount, room, amount]
        with _translated_errors(self._place):
            answer = self._script(keys=[self._key(limit.counter) for limit in limits], args=arguments)
        seconds, micros, *counts = map(int, answer)
        now = seconds + micros / 1_000_000 if at is None else at
        found = []
        for limit, *(before, current, full, counted) in zip(
            limits, counts[::4], counts[1::4], counts[2::4], counts[3::4], strict=True
        ):
            number, passed = place(now, limit.quota.window_s)
            found.append(_Found(Window(before, current, passed), bool(full), number, counted))
        return found


class _Found(NamedTuple):
    """A counter before the script, whether it was full, the number of its window, and how much was counted."""

    window: Window
    full: bool
    number: int
    counted: int


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
            "limits in Redis need a library that is not installed", hint=installation.remedy("redis")
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
def _translated_errors(place: str) -> Iterator[None]:
    """Redis's errors become StateError, with the `place` of the Redis. Their texts are left out: they may repeat what
    was sent to Redis. The system's own reason is in them."""
    from redis.exceptions import RedisError  # noqa: PLC0415 - an extra; a storage exists, so it is installed

    try:
        yield
    except (RedisError, OSError) as error:
        raise StateError(
            f"the Redis that counts limits failed at {place}: {_reason(error)}", hint="redis-cli -u URL ping says more"
        ) from None


def _place(options: Mapping[str, Any]) -> str:
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def _reason(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
