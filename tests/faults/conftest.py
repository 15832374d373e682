"""Servers whose dependencies fail, clients that note what they are told and how late, and what is on record afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from host.core.names import Reference
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.server import Application, ServerSettings
from host.store.audit_log.records import records, runs
from host.store.audit_log.verification import verify
from tests.cli.test_serve import Serving as Program
from tests.conftest import CACHE, fresh_state, late
from tests.server.conftest import Server, install, installed_state, one_engine, server, serving, state_dir, workspace
from tests.store.postgres import Postgres, running_postgres

_ALL = "--all-faults"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption(_ALL):
        for item in items:
            if item.get_closest_marker("slow") and item.path.parent.name == "faults":
                item.add_marker(pytest.mark.skip(reason=f"with {_ALL}"))


__all__ = ["installed_state", "one_engine", "server", "serving", "state_dir", "workspace"]  # fixtures

ANSWER_S, READY_S = 5.0, 2.0  # the promises
CLIENTS = 64
PATIENCE_S = 60.0
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}


@dataclass(frozen=True)
class Told:
    """One answer, and when it was there. `status` 0: there was none."""

    status: int
    kind: str
    retry_after: str | None
    after_s: float
    run: str | None


def asked(url: str, path: str = "/v1/chat/completions", *, headers: dict[str, str] | None = None, **body: Any) -> Told:
    began = time.monotonic()
    try:
        with httpx2.Client(timeout=PATIENCE_S, trust_env=False) as client:
            if path.startswith("/v1/chat"):
                answer = client.post(url + path, json={**CHAT, **body}, headers=headers)
            else:
                answer = client.get(url + path, headers=headers)
    except httpx2.HTTPError as error:
        return Told(0, type(error).__name__, None, time.monotonic() - began, None)
    took = time.monotonic() - began
    said = answer.json() if answer.headers.get("content-type", "").startswith("application/json") else {}
    kind = said["error"]["type"] if "error" in said else said.get("code", "")
    return Told(answer.status_code, kind, answer.headers.get("retry-after"), took, answer.headers.get("x-catalyst-run"))


def crowd(url: str, clients: int = CLIENTS, **more: Any) -> list[Told]:
    """What so many clients are told that ask at the same time."""
    with ThreadPoolExecutor(clients) as threads:
        return list(threads.map(lambda _: asked(url, **more), range(clients)))


def due(promise_s: float) -> float:
    """When a client of this machine sees at the latest what was promised: it shares the processors with the server and
    with other tests. The last second of what is promised is for computing, all before is for waiting."""
    return promise_s - 1 + late(1.0)


def in_time(told: list[Told], promise_s: float = ANSWER_S) -> None:
    """Every answer is there when it is due."""
    late = [one for one in told if one.after_s > due(promise_s)]
    assert not late


def unavailable(told: list[Told], promise_s: float = ANSWER_S) -> None:
    """Each of them: 503, with the time after which to ask again, and not a second too late."""
    assert {one.status for one in told} == {503}, told
    assert all(one.retry_after for one in told), told
    in_time(told, promise_s)


def consistent(workspace: Workspace, fake: FakeOpenAI, told: list[Told]) -> None:
    """Nothing went out without its record, no client that was refused has had its request sent, and the log verifies:
    the records of all who got an answer are in it."""
    verify(workspace.audit_log)
    kept = {one.id: one for one in runs(workspace.database, limit=100_000)}
    answered = {one.run for one in told if one.status == 200}
    assert answered <= kept.keys(), "a run without its record"
    sent = sum(one.kind == "http.request" and one.decision == "allow" for one in records(workspace.database))
    assert len(fake.requests) <= sent, "a request without its record"
    assert len(fake.requests) >= len(answered)


def until_back(url: str, **more: Any) -> Told:
    """The first good answer after a fault: without a restart, and before a minute is over."""
    end = time.monotonic() + PATIENCE_S
    while (told := asked(url, **more)).status != 200:
        assert time.monotonic() < end, told
        time.sleep(0.2)
    return told


@pytest.fixture(scope="session")
def own_postgres() -> Iterator[Postgres]:
    """A server that may be stopped: no other test uses it."""
    with running_postgres() as running:
        yield running


@pytest.fixture
def own_url(own_postgres: Postgres) -> str:
    """An empty database of that server."""
    return own_postgres.create()


@pytest.fixture
def on_postgres(
    own_url: str, openai_file: Path, fake: FakeOpenAI, tmp_path: Path
) -> Iterator[tuple[Server, Workspace]]:
    """A server whose state is in that PostgreSQL."""
    folder = fresh_state(tmp_path / "state")
    with ExitStack() as stack:
        opened = stack.enter_context(Workspace.open(folder, own_url))
        install(opened, openai_file, fake.url)
        application = Application(ServerSettings(), state_dir=folder, workspace=opened)
        stack.callback(application.close)
        one = stack.enter_context(closing(Server(application)))
        assert asked(one.url).status == 200
        yield one, opened


Serving = Callable[..., Server]
OPENAI = Reference.parse("c:local.openai")


@contextmanager
def served(state_dir: Path, *options: str, nofile: int = 0, **env: str) -> Iterator[Program]:
    """`host serve`, as a program of its own, which may open `nofile` files if that is given."""
    environment = {**os.environ, "HOST_STATE_DIR": str(state_dir), "HOST_CACHE_DIR": str(CACHE / "host"), **env}
    argv = [sys.executable, "-m", "host", "serve", "--port", "0", *options]
    if nofile:
        argv = ["prlimit", f"--nofile={nofile}:{nofile}", *argv]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment) as process, ExitStack() as stack:
        stack.callback(process.kill)
        one = Program(process)
        stack.callback(one.client.close)
        yield one
