"""Redis, where it is not there, or not what was asked for: an error, and never a way in; never with its password."""

from __future__ import annotations

import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing

import pytest

from host.core.quantities import Quota
from host.errors import InputError, StateError
from host.service.limits import Limit
from host.service.limits.redis import RedisLimiter
from tests.service.limits.levels import levels
from tests.service.limits.redis import PASSWORD, Redis, running_redis

ONE = Limit("test:one", Quota.parse("2/1h"), "requests", "the key 'ci'")
TOKENS = Limit("test:tokens", Quota.parse("2/1h"), "tokens", "the key 'ci'")


@pytest.fixture
def own() -> Iterator[Redis]:
    """One that the test may stop."""
    with running_redis() as server:
        yield server


@pytest.mark.parametrize(
    ("url", "error"),
    [
        pytest.param(f"redis://:{PASSWORD}@127.0.0.1:1/0", StateError, id="nobody listens there"),
        pytest.param(f"redis://:{PASSWORD}@no.such.host.invalid/0", StateError, id="there is no such host"),
        pytest.param(f"redis+unix://:{PASSWORD}@/no/such/socket", StateError, id="there is no such socket"),
        pytest.param(f"redis://:{PASSWORD}@127.0.0.1:port/0", InputError, id="the port is no number"),
        pytest.param(f"memcached://:{PASSWORD}@127.0.0.1/0", InputError, id="another kind of store"),
        pytest.param(f"postgresql://me:{PASSWORD}@127.0.0.1/state", InputError, id="the state's database"),
        pytest.param(f"{PASSWORD}@127.0.0.1", InputError, id="no URL"),
        pytest.param(f"redis://{PASSWORD}[", InputError, id="half an address"),
        pytest.param("memory://", InputError, id="what holds for one process alone"),
    ],
)
def test_an_error_does_not_tell_the_urls_password(url: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        RedisLimiter.open(url)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)


def test_another_password_is_an_error_that_tells_neither(redis: Redis) -> None:
    other = PASSWORD[::-1]
    with pytest.raises(StateError, match="AuthenticationError") as caught:
        RedisLimiter.open(redis.url.replace(PASSWORD, other))
    shown = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in shown
    assert other not in shown


def test_where_redis_has_gone_nobody_gets_in(own: Redis) -> None:
    with closing(RedisLimiter.open(own.url)) as limiter:
        assert limiter.admit([ONE]) is None
        own.stop()
        for ask in (lambda: limiter.admit([ONE]), lambda: limiter.spend([TOKENS], 1)):
            with pytest.raises(StateError, match="the Redis that counts limits failed"):
                ask()


def test_where_redis_has_forgotten_the_script_it_is_told_again(redis: Redis) -> None:
    with closing(RedisLimiter.open(redis.url)) as limiter:
        levels(limiter, [ONE])
        limiter._redis.script_flush()
        assert levels(limiter, [ONE]) == [0.0]


def test_a_server_that_says_nothing_is_waited_for_no_longer_than_a_request_can_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("host.service.limits.redis._TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(StateError, match="TimeoutError"):
        RedisLimiter.open(f"redis://127.0.0.1:{mute.getsockname()[1]}/0")


def test_it_goes_by_the_time_of_redis(redis: Redis) -> None:
    one = Limit("test:time", Quota.parse("2/365d"), "requests", "the key 'ci'")
    with closing(RedisLimiter.open(redis.url)) as limiter:
        assert limiter.admit([one]) is limiter.admit([one]) is None
        exceeded = limiter.admit([one])
        assert exceeded is not None
        seconds, micros = limiter._redis.time()
        window_s = one.quota.window_s
        over = (seconds + micros / 1e6) % window_s
        assert exceeded.retry_after_s == pytest.approx(window_s - over, abs=60)


def test_what_is_counted_goes_once_its_time_is_over(redis: Redis) -> None:
    one = Limit("test:gone", Quota.parse("2/1h"), "requests", "the key 'ci'")
    with closing(RedisLimiter.open(redis.url)) as limiter:
        limiter.admit([one])
        (key,) = limiter._redis.keys("*test:gone*")
        assert 3600 < limiter._redis.ttl(key) <= 2 * 3600 + 60


@pytest.mark.parametrize("module", ["limits", "redis"])
def test_without_the_library_it_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("limits", "redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StateError) as caught:
        RedisLimiter.open("redis://127.0.0.1:1/0")
    assert "install the extra 'redis' from where this program came" in str(caught.value.hint)
