"""Many clients at once, of whom some leave: no client gets an error that it did not ask for, every run ends and is on
record, and the server is afterwards what it was. `--load-seconds 60` makes it longer."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from host.runtime.workspace import Workspace
from host.store.audit_log.records import RunSummary, runs
from host.store.audit_log.verification import verify
from tests.benchmarks.gateway.client import Connection
from tests.benchmarks.gateway.load import right
from tests.benchmarks.gateway.ours import host_serve
from tests.benchmarks.gateway.servers import Server, upstream
from tests.benchmarks.gateway.upstream import EVENTS

CLIENTS = 64
WORKERS = 2
WARM_UP = 0.2  # of the time
PAUSE_S, DELAY_S = 0.01, 0.05  # of the upstream: between the events of a stream, and before a whole answer
LEAVING = 0.3  # how many do
PATIENCE_S = 60.0
SETTLED_S = 30.0  # for whatever has to come to an end

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass
class Told:
    """What the clients have to tell. Who left may have been answered before he did, and then was not noticed."""

    answered: Counter[str] = field(default_factory=Counter)
    left: int = 0
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Held:
    """What the server holds, less what it keeps for its next requests: its sandboxes, of which there are at most
    one for each run under way, and idle connections to the upstream."""

    memory_bytes: int
    descriptors: int
    threads: int


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Server]:
    with upstream(tmp_path, pause=PAUSE_S, delay=DELAY_S) as server:
        yield server


@pytest.fixture
def server(behind: Server, tmp_path: Path, openai_file: Path) -> Iterator[Server]:
    with host_serve(behind, tmp_path, workers=WORKERS, component=openai_file) as server:
        yield server


async def client(server: Server, until: float, chance: random.Random, told: Told) -> None:
    connection = await Connection.open(server.port)
    while time.monotonic() < until:
        if not connection.usable:
            connection = await Connection.open(server.port)
        stream, leaves = chance.random() < 0.5, chance.random() < LEAVING
        message = server.chat(stream=stream, paced=True)
        if leaves:
            await leave(connection, message, chance)
            told.left += 1
            continue
        try:
            answer = await asyncio.wait_for(connection.ask(message), PATIENCE_S)
        except (OSError, TimeoutError) as error:
            told.errors.append(repr(error))
            continue
        if right(answer, stream=stream):
            told.answered["streamed" if stream else "plain"] += 1
        else:
            told.errors.append(f"{answer.status} {answer.body[-500:]!r}")
    await connection.gone()


async def leave(connection: Connection, message: bytes, chance: random.Random) -> None:
    """Ask, and be gone after some part of the answer, or some time before it."""
    heard, enough = 0, chance.randrange(1, EVENTS)

    def hear(piece: bytes) -> None:
        nonlocal heard
        heard += 1
        if heard == enough:
            connection.cut()

    with suppress(OSError, TimeoutError):
        await asyncio.wait_for(connection.ask(message, hear), chance.uniform(0.0, 1.0))
    await connection.gone()


def crowd(server: Server, seconds: float, seed: int) -> Told:
    told, until = Told(), time.monotonic() + seconds

    async def all_of_them() -> None:
        chances = [random.Random(f"{seed} {number}") for number in range(CLIENTS)]
        await asyncio.gather(*(client(server, until, chance, told) for chance in chances))

    asyncio.run(all_of_them())
    return told


def settled(behind: Server, workspace: Workspace) -> list[RunSummary]:
    """All runs, once none goes on, here or at the upstream."""
    until = time.monotonic() + SETTLED_S
    while True:
        found = runs(workspace.database, limit=1_000_000)
        unfinished = [run for run in found if run.outcome == "unfinished"]
        if not unfinished and not counts(behind)["under_way"]:
            return found
        assert time.monotonic() < until, f"{len(unfinished)} of {len(found)} runs did not end"
        time.sleep(0.2)


def counts(behind: Server) -> dict[str, int]:
    found: dict[str, int] = json.loads(behind.get("/counts").body)
    return found


def held(server: Server, behind: Server) -> Held:
    tree = server.tree
    return Held(tree.own_bytes(), tree.descriptors() - counts(behind)["connections"], tree.threads())


def test_clients_that_come_and_go_leave_nothing_behind(
    server: Server, behind: Server, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    seconds = pytestconfig.getoption("load_seconds")
    assert server.get("/ready").status == 200
    with Workspace.open(tmp_path / f"state-{WORKERS}") as workspace:
        at_start = held(server, behind)
        warmed_up = crowd(server, seconds * WARM_UP, seed=1)
        settled(behind, workspace)
        at_first = held(server, behind)
        told = crowd(server, seconds * (1 - WARM_UP), seed=2)
        found = settled(behind, workspace)
        at_last = held(server, behind)
        records = verify(workspace.audit_log).records

    assert warmed_up.errors + told.errors == []
    assert min(told.answered["plain"], told.answered["streamed"], told.left) > CLIENTS

    answered, left = (warmed_up.answered + told.answered).total(), warmed_up.left + told.left
    outcomes = Counter(run.outcome for run in found)
    assert outcomes["200"] + outcomes["cancelled"] == len(found)
    assert outcomes["200"] >= answered
    assert 0 < outcomes["cancelled"] <= left
    assert counts(behind)["cut"] > 0  # who left took the upstream's work back as well
    assert records >= len(found) * 2

    assert at_last.memory_bytes < at_first.memory_bytes * 1.2 + 16_000_000
    assert at_last.descriptors <= at_first.descriptors + 8 * WORKERS
    assert at_last.descriptors <= at_start.descriptors + 24 * WORKERS  # opened on first use: databases, the component
    assert (
        at_last.threads <= at_start.threads + CLIENTS * WORKERS + 32
    )  # at most one for each run that there was at once

    assert right(server.ask(server.chat(stream=True)), stream=True)
    server.process.terminate()
    assert server.process.wait(SETTLED_S) == 0
