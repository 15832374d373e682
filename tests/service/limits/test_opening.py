"""Where limits are counted: in the store, or in the Redis that is named."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from host import Workspace
from host.core.quantities import Quota
from host.errors import InputError, StateError
from host.service.limits import Limit, open_limiter
from host.service.limits.redis import RedisLimiter
from host.service.limits.store import StoreLimiter
from tests.service.limits.redis import Redis

ONE = Limit("test:opening", Quota.parse("1/1h"), "requests", "the key 'ci'")


def test_without_a_url_it_is_the_states_database(tmp_path: Path) -> None:
    for admitted in (True, False):
        with Workspace.open(tmp_path / "state") as workspace, closing(open_limiter(None, workspace)) as limiter:
            assert isinstance(limiter, StoreLimiter)
            assert (limiter.admit([ONE]) is None) is admitted


def test_with_one_it_is_redis_for_whoever_has_that_url(tmp_path: Path, redis: Redis) -> None:
    for admitted in (True, False):
        folder = tmp_path / str(admitted)
        with Workspace.open(folder) as workspace, closing(open_limiter(redis.url, workspace)) as limiter:
            assert isinstance(limiter, RedisLimiter)
            assert (limiter.admit([ONE]) is None) is admitted


@pytest.mark.parametrize(("url", "error"), [("memory://", InputError), ("redis://127.0.0.1:1/0", StateError)])
def test_never_the_one_for_the_other(tmp_path: Path, url: str, error: type[Exception]) -> None:
    with Workspace.open(tmp_path / "state") as workspace, pytest.raises(error):
        open_limiter(url, workspace)
