"""A dependency that is stuck, gone, and back: what clients are told, within which time, and what is on record.

Stuck is worse than gone: nothing breaks off, and whoever waits would wait for ever.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from host.core.quantities import Quota
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.server import ServerSettings
from host.store.database import FILE
from tests.faults.conftest import (
    ANSWER_S,
    READY_S,
    Serving,
    asked,
    consistent,
    crowd,
    in_time,
    unavailable,
    until_back,
)
from tests.server.conftest import Server
from tests.server.test_keys import Holder
from tests.service.limits.redis import running_redis
from tests.store.postgres import Postgres

pytestmark = pytest.mark.timeout(300)


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Another program holds the write lock of the state's database."""
    with closing(sqlite3.connect(state_dir / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_while_postgresql_is_frozen_all_are_told_so_in_time_and_when_it_is_back_they_are_served(
    on_postgres: tuple[Server, Workspace], own_postgres: Postgres, fake: FakeOpenAI
) -> None:
    server, workspace = on_postgres
    own_postgres.freeze()
    try:
        told = crowd(server.url)
        ready = asked(server.url, "/ready")
        again = crowd(server.url, 8)
    finally:
        own_postgres.thaw()
    unavailable(told)
    unavailable(again)
    assert ready.status == 503
    in_time([ready], READY_S)
    assert len(fake.requests) == 1, "nothing ran, or runs now"
    until_back(server.url, path="/ready")
    served = crowd(server.url, 8)
    assert {one.status for one in served} == {200}, served
    consistent(workspace, fake, served)


@pytest.mark.slow
def test_postgresql_that_freezes_in_the_middle_of_many_runs_loses_none_and_holds_none(
    on_postgres: tuple[Server, Workspace], own_postgres: Postgres, fake: FakeOpenAI
) -> None:
    server, workspace = on_postgres
    frozen = threading.Timer(0.15, own_postgres.freeze)
    frozen.start()
    try:
        told = crowd(server.url)
    finally:
        frozen.join()
        own_postgres.thaw()
    assert {one.status for one in told} <= {200, 503}
    assert any(one.status == 503 for one in told)
    in_time(told, 2 * ANSWER_S)  # a run that was under way when it froze has its own last record to wait for
    until_back(server.url, path="/ready")
    consistent(workspace, fake, told)


def test_postgresql_that_is_gone_is_told_at_once_and_connected_to_again_when_it_is_back(
    on_postgres: tuple[Server, Workspace], own_postgres: Postgres, fake: FakeOpenAI
) -> None:
    server, workspace = on_postgres
    own_postgres.stop()
    try:
        told = crowd(server.url)
        ready = asked(server.url, "/ready")
    finally:
        own_postgres.start()
    unavailable(told)
    assert ready.status == 503
    in_time([ready], READY_S)
    assert len(fake.requests) == 1
    until_back(server.url, path="/ready")
    served = crowd(server.url, 8)
    assert {one.status for one in served} == {200}, served
    consistent(workspace, fake, served)


def test_while_another_program_holds_the_write_lock_nobody_waits_longer_than_promised(
    server: Server, workspace: Workspace, state_dir: Path, fake: FakeOpenAI
) -> None:
    with locked(state_dir):
        told = crowd(server.url)
    unavailable(told)
    assert {one.kind for one in told} == {"audit_unavailable"}
    assert fake.requests == [], "what has no record does not happen"
    served = crowd(server.url, 8)
    assert {one.status for one in served} == {200}, served
    assert len(fake.requests) == 8, "nor does it happen later"
    consistent(workspace, fake, served)


def test_while_the_lock_is_held_keys_with_limits_are_told_in_time_and_are_not_charged(
    server: Server, workspace: Workspace, state_dir: Path, fake: FakeOpenAI
) -> None:
    _, text = workspace.api_keys.create(name="ci", type="secret", request_budget=Quota.parse("9/1d"))
    holder = Holder(server, text).known()
    with locked(state_dir):
        told = crowd(server.url, headers=holder.headers)
    unavailable(told)
    assert fake.requests == []
    assert [holder.chat().status_code for _ in range(10)] == [200] * 9 + [429], "what was not counted did not run"
    consistent(workspace, fake, [])


@pytest.mark.slow
def test_a_run_whose_last_record_cannot_be_written_ends_in_time_all_the_same(
    server: Server, workspace: Workspace, state_dir: Path, fake: FakeOpenAI
) -> None:
    fake.script([{"delay_s": 0.5}])
    with_lock = threading.Event()

    def hold() -> None:
        while not fake.requests:
            time.sleep(0.01)
        with locked(state_dir):
            with_lock.wait(30)

    holding = threading.Thread(target=hold)
    holding.start()
    told = asked(server.url)
    with_lock.set()
    holding.join()
    assert told.status in (200, 503)
    in_time([told], ANSWER_S + 1)
    consistent(workspace, fake, [])
    assert len(fake.requests) == 1


@pytest.fixture
def checkpoint_locked(state_dir: Path) -> Iterator[None]:
    """A stopped program holds the lock of the checkpoint's file."""
    import fcntl

    with (state_dir / "audit.head").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_while_a_stopped_program_holds_the_checkpoint_all_are_told_in_time(
    server: Server, checkpoint_locked: None, fake: FakeOpenAI
) -> None:
    del checkpoint_locked
    unavailable(crowd(server.url))
    assert fake.requests == []


@pytest.mark.parametrize("how", ["stuck", "gone"])
def test_without_the_limits_store_keys_with_limits_are_told_in_time_and_others_are_served(
    how: str, serving: Serving, workspace: Workspace, fake: FakeOpenAI
) -> None:
    with running_redis() as redis:
        server = serving(ServerSettings(limits_url=redis.url))
        _, text = workspace.api_keys.create(name="limited", type="secret", request_budget=Quota.parse("500/1d"))
        _, free_text = workspace.api_keys.create(name="free", type="secret")
        limited, free = Holder(server, text).known(), Holder(server, free_text).known()
        assert limited.chat().status_code == 200
        redis.freeze() if how == "stuck" else redis.stop()
        others: list[int] = []
        asking = threading.Thread(target=lambda: others.extend(free.chat().status_code for _ in range(5)))
        asking.start()
        told = crowd(server.url, headers=limited.headers)
        asking.join()
        unavailable(told)
        assert others == [200] * 5, "its failure is nobody else's"
        assert len(fake.requests) == 6
        if how == "stuck":
            redis.thaw()
            until_back(server.url, headers=limited.headers)
    consistent(workspace, fake, [])
