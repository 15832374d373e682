"""The parts of a policy that say what becomes of requests that fail or come too often: retries, breaker, throttle."""

from __future__ import annotations

from dataclasses import dataclass
from reprlib import repr as shown  # short, of whatever size
from typing import Final, Literal, get_args

from host.core.quantities import Quota, parse_count, parse_duration, parse_share
from host.errors import HostError, PolicyError
from host.policy.urls import UrlError

MOST_RETRIES: Final = 10


class in_field:  # noqa: N801 - a context manager, used like a function
    """Names the field in the errors that are raised inside."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        match error:
            case HostError() | UrlError():
                said = error.message if isinstance(error, HostError) else error.reason
                hint = error.hint if isinstance(error, HostError) else None
                raise PolicyError(f"{self._name}: {said}", field=self._name, hint=hint) from None


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often one request is repeated: `max` times (0 to 10), where it may be repeated at all. The wait before the
    n-th is a random time up to `backoff` * 2^(n-1), or what the upstream asks for (Retry-After); neither is longer than
    `longest_wait`. In any minute, at most `budget` of the catalyst's requests are repeats, and 10 beside that. Each API
    key has such a budget of its own within it."""

    max: int = 2
    backoff: str | float = "500ms"
    longest_wait: str | float = "1m"
    budget: str = "20%"

    def __post_init__(self) -> None:
        with in_field("max"):
            if parse_count(self.max) > MOST_RETRIES:
                raise PolicyError(f"{self.max} is more than {MOST_RETRIES}")
        with in_field("backoff"):
            parse_duration(self.backoff)
        with in_field("longest_wait"):
            parse_duration(self.longest_wait)
        with in_field("budget"):
            parse_share(self.budget)

    def backoff_s(self, repeat: int) -> float:
        """The longest wait before the repeat with this number, from 1 on, in seconds."""
        return min(parse_duration(self.backoff) * 2.0 ** (repeat - 1), self.longest_wait_s)

    @property
    def longest_wait_s(self) -> float:
        return parse_duration(self.longest_wait)

    @property
    def share(self) -> float:
        return parse_share(self.budget)


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """When requests to an origin are refused without being sent: after `failures` in any `window`, if they are at
    least `share` of the requests there. After `pause` one request is let through; if it goes well, all are."""

    failures: int = 5
    window: str | float = "1m"
    share: str = "50%"
    pause: str | float = "30s"

    def __post_init__(self) -> None:
        with in_field("failures"):
            if not parse_count(self.failures):
                raise PolicyError("0 is not a number of failures", hint="1 or more; breaker = false for no breaker")
        with in_field("window"):
            parse_duration(self.window)
        with in_field("share"):
            parse_share(self.share)
        with in_field("pause"):
            parse_duration(self.pause)

    @property
    def window_s(self) -> float:
        return parse_duration(self.window)

    @property
    def pause_s(self) -> float:
        return parse_duration(self.pause)

    @property
    def least_share(self) -> float:
        return parse_share(self.share)


WhenFull = Literal["wait", "refuse"]


@dataclass(frozen=True, kw_only=True)
class Throttle:
    """How many `requests` and `tokens` the catalyst sends to one origin, each like `500/1m`. With `learn` also what the
    upstream's `x-ratelimit-remaining-*` and `-reset-*` leave. A request beyond that waits until there is room (`full`
    is `wait`), or is refused where its run ends before; or it is refused at once (`refuse`). A token is taken for
    every 4 bytes of a request's body."""

    requests: str | None = None
    tokens: str | None = None
    learn: bool = False
    full: WhenFull = "wait"

    def __post_init__(self) -> None:
        for name, given in (("requests", self.requests), ("tokens", self.tokens)):
            with in_field(name):
                _quota(given)
        with in_field("learn"):
            if not isinstance(self.learn, bool):
                raise PolicyError(f"{shown(self.learn)} is not true or false")
        with in_field("full"):
            if self.full not in get_args(WhenFull):
                raise PolicyError(f"{shown(self.full)} is not one of {', '.join(get_args(WhenFull))}")
        if not (self.requests or self.tokens or self.learn):
            raise PolicyError("it limits nothing", hint='name requests or tokens, like "500/1m", or set learn')

    @property
    def request_quota(self) -> Quota | None:
        return _quota(self.requests)

    @property
    def token_quota(self) -> Quota | None:
        return _quota(self.tokens)


def _quota(given: object) -> Quota | None:
    if given is None:
        return None
    if not isinstance(given, str):
        raise PolicyError(f"{shown(given)} is not a quota", hint="like 500/1m, 1k/1h or 2M/1d")
    return Quota.parse(given)


def read_retries(given: object) -> Retries | None:
    """The `retries` of a policy: None for 0 and false, which are none. Raises PolicyError."""
    if isinstance(given, Retries):
        return given if given.max else None
    if given is True:
        return Retries()
    if given is False or given is None:
        return None
    return read_retries(Retries(max=parse_count(given)))


def read_breaker(given: object) -> Breaker | None:
    """The `breaker` of a policy: None for false; true is one with the defaults. Raises PolicyError."""
    if isinstance(given, Breaker):
        return given
    if isinstance(given, bool) or given is None:
        return Breaker() if given else None
    raise PolicyError(f"{shown(given)} is not a breaker", hint="true, false, or a table with failures, window, pause")


def read_throttle(given: object) -> Throttle | None:
    """The `throttle` of a policy: None for false. Raises PolicyError."""
    if isinstance(given, Throttle):
        return given
    if given is False or given is None:
        return None
    raise PolicyError(
        f"{shown(given)} is not a throttle", hint="a table with requests, tokens, learn and full; or false"
    )
