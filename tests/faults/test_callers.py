"""Callers that are no clients of a server: programs that embed the host, and the operator's own. And dependencies that
hang where a library has no limit of time."""

from __future__ import annotations

import fcntl
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from host import Host
from host.core.audit import Event
from host.core.waiting import within
from host.errors import AuditError, CacheError, StateError, VaultError
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.sandbox import cache
from host.sandbox.cache import CompiledCache
from host.server import Application, ServerSettings
from host.server.observability import tracing
from host.store.audit_log.verification import verify
from host.store.database import Database
from host.store.vault import master
from tests.conftest import late
from tests.faults.conftest import ANSWER_S, CHAT, OPENAI, Serving, asked, crowd, due, in_time, served
from tests.faults.test_stuck import locked
from tests.server.conftest import Server, until
from tests.server.mcp.conftest import called
from tests.store.postgres import Postgres

pytestmark = pytest.mark.timeout(300)
OPERATION = {"operation": "chat.completions.create", "params": CHAT}


@pytest.fixture
def embedded(workspace: Workspace, state_dir: Path) -> Iterator[Host]:
    with Host(state_dir=state_dir, workspace=workspace) as host:
        yield host


def refused(act: Callable[[], object], *kinds: type[Exception]) -> float:
    began = time.monotonic()
    with pytest.raises(kinds):
        act()
    return time.monotonic() - began


def test_an_embedded_run_whose_record_cannot_be_written_fails_in_time_and_sends_nothing(
    embedded: Host, state_dir: Path, fake: FakeOpenAI
) -> None:
    catalyst = embedded.load("c:local.openai")
    with locked(state_dir):
        assert refused(lambda: catalyst.run(OPERATION), AuditError) < due(ANSWER_S)
    assert catalyst.run(OPERATION).ok
    assert len(fake.requests) == 1


@pytest.mark.parametrize("many", [pytest.param(1, marks=pytest.mark.slow), 16])
def test_embedded_runs_on_many_threads_fail_in_time_whatever_the_driver_does(
    many: int, embedded: Host, fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalyst, over = embedded.load("c:local.openai"), threading.Event()

    @contextmanager
    def hangs(database: Database) -> Iterator[None]:
        """As in a system call on a disk that does not answer."""
        del database
        over.wait(60)
        raise sqlite3.OperationalError("it is back, and it is too late")
        yield

    took: list[float] = []
    before = _commits()  # of the hosts of other tests in this process
    with monkeypatch.context() as patched:
        patched.setattr(Database, "appending", hangs)
        threads = [
            threading.Thread(target=lambda: took.append(refused(lambda: catalyst.run(OPERATION), AuditError)))
            for _ in range(many)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(took) == many
        assert max(took) < due(ANSWER_S)
        assert len(_commits() - before) <= 2, "what is stuck is bounded"
    over.set()
    until(lambda: catalyst.run(OPERATION).ok if not _fails(catalyst) else False)
    assert fake.requests, "it is back"


def _commits() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name == "host-commit"}


def _fails(catalyst: Any) -> bool:
    try:
        catalyst.run(OPERATION)
    except AuditError:
        return True
    return False


def test_the_operators_commands_fail_in_time_while_another_holds_the_lock(
    workspace: Workspace, state_dir: Path
) -> None:
    with locked(state_dir):
        assert refused(lambda: workspace.policies.set(OPENAI, "timeout", "5s"), StateError) < due(ANSWER_S)
    workspace.policies.set(OPENAI, "timeout", "5s")


def test_opening_a_state_in_postgresql_that_is_frozen_fails_in_time(own_postgres: Postgres, tmp_path: Path) -> None:
    url = own_postgres.create()
    own_postgres.freeze()
    try:
        took = refused(lambda: Workspace.open(tmp_path / "state", url), StateError)
    finally:
        own_postgres.thaw()
    assert took < due(ANSWER_S)


def test_work_whose_caller_has_gone_changes_nothing_any_more(workspace: Workspace) -> None:
    def slowly() -> None:
        with workspace.audit_log.changing() as change:
            change.record(Event("trust.ruled", "", detail={}))
            time.sleep(0.3)

    before = verify(workspace.audit_log).records
    with within(0.2):
        refused(slowly, StateError)
    assert verify(workspace.audit_log).records == before
    slowly()
    assert verify(workspace.audit_log).records == before + 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_whose_database_is_frozen_ends_within_its_grace(
    workers: str, on_postgres: tuple[Server, Workspace], own_postgres: Postgres, own_url: str
) -> None:
    _, workspace = on_postgres
    with served(workspace.state_dir, "--grace", "6s", "--workers", workers, HOST_DATABASE=own_url) as one:
        own_postgres.freeze()
        try:
            asking = threading.Thread(target=crowd, args=(one.url, 8))
            asking.start()
            time.sleep(0.5)
            began = time.monotonic()
            one.process.send_signal(signal.SIGTERM)
            one.process.wait(60)
            took = time.monotonic() - began
        finally:
            own_postgres.thaw()
        asking.join(60)
    assert took < due(6 + 5)


def test_a_server_with_a_thread_that_never_comes_back_ends_all_the_same(workspace: Workspace, state_dir: Path) -> None:
    """Stuck for good: a stopped program holds the lock of the compiled component, and the checkpoint's."""
    del workspace
    with served(state_dir, "--grace", "1s") as one, (state_dir / "audit.head").open("r+b") as head:
        fcntl.flock(head, fcntl.LOCK_EX)
        asking = threading.Thread(target=crowd, args=(one.url, 4))
        asking.start()
        time.sleep(0.3)
        began = time.monotonic()
        one.process.send_signal(signal.SIGTERM)
        one.process.wait(60)
        assert time.monotonic() - began < due(1 + 5)
        asking.join(60)


def test_a_keyring_that_hangs_keeps_few_threads_and_no_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hangs() -> None:
        over.wait(60)

    monkeypatch.setattr(master, "_backend", hangs)
    before = threading.active_count()
    try:
        for _ in range(10):
            with within(0.1):
                assert refused(lambda: master.read("service", "me"), VaultError) < late(0.2)
        assert threading.active_count() - before <= 4
    finally:
        over.set()
    until(lambda: master.read("service", "me") is None if not _hangs() else False)


def _hangs() -> bool:
    with within(0.2):
        try:
            master.read("service", "me")
        except VaultError:
            return True
    return False


def test_a_name_that_hangs_in_the_resolver_ends_a_request_long_before_the_run(
    embedded: Host, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    real = socket.getaddrinfo

    def hangs(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == b"api.openai.com":
            over.wait(60)
        return real(host, *arguments, **options)

    workspace.policies.set(OPENAI, "upstreams", {})
    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    began = time.monotonic()
    result = embedded.load("c:local.openai").run(OPERATION, timeout="30s")
    over.set()
    assert not result.ok
    assert time.monotonic() - began < due(ANSWER_S + 2)


def test_a_lock_of_the_compiled_cache_that_is_never_given_back_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_LOCK_S", 0.1)
    one = CompiledCache(tmp_path, tmp_path)
    with one.locked("x"):
        assert refused(lambda: one.locked("x").__enter__(), CacheError) < late(0.5)
    with one.locked("x"):
        pass


@pytest.mark.slow
def test_a_collector_of_traces_that_hangs_delays_no_request_and_not_the_end(
    serving: Serving, workspace: Workspace, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del serving
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(tracing, "_LAST_SPANS_S", 0.3)
        application = Application(ServerSettings(), state_dir=state_dir, workspace=workspace)
        assert application.tracing is not None
        with closing(Server(application)) as server:
            told = crowd(server.url, 8)
            assert {one.status for one in told} == {200}
            began = time.monotonic()
        assert time.monotonic() - began < due(ANSWER_S)
        application.close()


def test_a_registry_that_takes_the_connection_and_says_nothing_is_given_up_in_time(
    server: Server, workspace: Workspace
) -> None:
    _, text = workspace.api_keys.create(name="admin", type="admin")
    server.up_to_date()
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        source = f"oci://127.0.0.1:{silent.getsockname()[1]}/a/b:1.0.0"
        began = time.monotonic()
        arguments = {"action": "run", "reference": {"oci": source}, "input": {}}
        answer = called(server, "execution", arguments, text)
        took = time.monotonic() - began
    assert answer.is_error
    assert took < due(ANSWER_S)
    in_time([asked(server.url, "/ready")], 2)
