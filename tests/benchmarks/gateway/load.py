"""A number of clients that ask one server at once, each for the next as soon as it has its answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Self

import uvloop

from tests.benchmarks.gateway.client import Answer, Connection
from tests.benchmarks.gateway.servers import Server
from tests.benchmarks.gateway.upstream import EVENTS

PATIENCE_S = 60.0


@dataclass(slots=True)
class Load:
    """What came of it. `cpu_s` is what the server and all that it started spent, `elapsed_s` until the last answer."""

    wholes: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    wrong: int = 0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0

    def __iadd__(self, other: Load) -> Self:
        self.wholes += other.wholes
        self.firsts += other.firsts
        self.wrong += other.wrong
        self.elapsed_s += other.elapsed_s
        self.cpu_s += other.cpu_s
        return self

    @property
    def per_second(self) -> float:
        return len(self.wholes) / self.elapsed_s

    @property
    def cpu_each_s(self) -> float:
        """Of each answer, right or wrong."""
        return self.cpu_s / max(1, len(self.wholes) + self.wrong)


def right(answer: Answer, *, stream: bool) -> bool:
    """Whether it is all that the upstream says, told cheaply: each of its words once."""
    return answer.status == 200 and answer.body.count(b"word") == EVENTS and answer.ended is stream


def load(server: Server, *, clients: int, seconds: float, stream: bool, paced: bool = False) -> Load:
    """Whoever has begun when the `seconds` are over is waited for."""
    return uvloop.run(_load(server, clients, seconds, stream, paced))


async def _load(server: Server, clients: int, seconds: float, stream: bool, paced: bool) -> Load:
    found, message = Load(), server.chat(stream=stream, paced=paced)

    async def client(connection: Connection) -> None:
        while time.perf_counter() < until:
            if not connection.usable:
                connection = await Connection.open(server.port)
            try:
                answer = await asyncio.wait_for(connection.ask(message), PATIENCE_S)
            except (ConnectionError, TimeoutError):
                found.wrong += 1
                continue
            if right(answer, stream=stream):
                found.wholes.append(answer.whole_s)
                found.firsts.append(answer.first_s)
            else:
                found.wrong += 1
        await connection.gone()

    connections = [await Connection.open(server.port) for _ in range(clients)]
    cpu, began = server.tree.cpu_s(), time.perf_counter()
    until = began + seconds
    await asyncio.gather(*map(client, connections))
    found.elapsed_s, found.cpu_s = time.perf_counter() - began, server.tree.cpu_s() - cpu
    return found
