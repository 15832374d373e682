"""Every limiter there is: what asks for `limiter` runs on SQLite, PostgreSQL and Redis, by a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from host.service.limits import Limiter
from host.service.limits.redis import RedisLimiter
from host.service.limits.store import StoreLimiter
from host.store.access.counters import Counters
from host.store.database import Database
from tests.service.limits.redis import Redis, running_redis
from tests.store.conftest import migrated, postgres  # noqa: F401 - fixtures
from tests.store.postgres import Postgres


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """One for each test process; a test's counters have names that no other test's have."""
    with running_redis() as server:
        yield server


@pytest.fixture
def clock() -> list[float]:
    """A clock that stands where its one element says: at the beginning of a window of any of these tests."""
    return [1_800_000_000.0]


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_url(place: str, request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Of a database of this test's own; None for a file."""
    if place != "postgres":
        yield None
        return
    server: Postgres = request.getfixturevalue("postgres")
    request.getfixturevalue("migrated")
    with server.migrated() as url:
        yield url


@pytest.fixture
def opened(
    place: str, clock: list[float], database_url: str | None, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], Limiter]]:
    """`opened()` is one more limiter for the same counts, as another process has it."""
    with ExitStack() as stack:

        def open_one() -> Limiter:
            if place == "redis":
                server: Redis = request.getfixturevalue("redis")
                return stack.enter_context(closing(RedisLimiter.open(server.url, lambda: clock[0])))
            database = stack.enter_context(closing(Database.open(tmp_path / "state", database_url)))
            return stack.enter_context(closing(StoreLimiter(Counters(database, lambda: clock[0]))))

        yield open_one


@pytest.fixture
def limiter(opened: Callable[[], Limiter]) -> Limiter:
    return opened()
