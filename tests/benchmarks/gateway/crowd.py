"""Many clients at once: a slow upstream, and far more requests than the server can serve. `python -m tests.benchmarks
crowd`; `BENCH_SECONDS` (5) is for each row, and four times that for the overload.

A language model takes seconds, so what limits a gateway is how many requests it can have under way, and what each of
them holds meanwhile. Under overload, what counts is how much is still served, and what the others are told.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from tests.benchmarks.gateway.client import Connection
from tests.benchmarks.gateway.comparison import SECONDS, passthrough
from tests.benchmarks.gateway.load import right
from tests.benchmarks.gateway.ours import host_serve
from tests.benchmarks.gateway.servers import Server, upstream
from tests.benchmarks.measure import percentile, table

DELAY_S: Final = 3.0
CLIENTS: Final = (64, 256, 1_000)
TIMES: Final = 10  # of what it can serve, that it is asked for
AT_ONCE: Final = 64  # clients that find out what it can serve
_MOST_UNDER_WAY: Final = 6_000  # each has a connection, of which this process has as many as descriptors
_SETTLED_S: Final = 12.0  # after which a server is at rest
_MIB: Final = 1 << 20

SERVERS: Mapping[str, Callable[[Server, Path], AbstractContextManager[Server]]] = {
    "starlette": partial(passthrough, "passthrough_starlette", "Starlette + httpx2 pass-through"),
    "host": host_serve,
}


@dataclass(slots=True)
class Crowd:
    """`took_s` are the times of right answers, `others` the rest by what they were. `bytes` is what the server held."""

    took_s: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    elapsed_s: float = 0.0
    bytes: int = 0

    @property
    def per_second(self) -> float:
        return len(self.took_s) / self.elapsed_s

    def note(self, status: int, retry_after: bytes, took_s: float, whole: bool) -> None:
        if whole:
            self.took_s.append(took_s)
        elif status == 503 and retry_after:
            self.others["503 with Retry-After"] += 1
        else:
            self.others[str(status)] += 1


async def closed(server: Server, clients: int, seconds: float) -> Crowd:
    """So many clients, each of which asks again as soon as it has its answer; a third of the time is for warming up."""
    found, message = Crowd(), server.chat(stream=False)
    began = time.perf_counter() + seconds / 3
    until = time.perf_counter() + seconds

    async def client() -> None:
        connection = await Connection.open(server.port)
        while time.perf_counter() < until:
            if not connection.usable:
                connection = await Connection.open(server.port)
            try:
                answer = await connection.ask(message)
            except ConnectionError:
                found.others["no answer"] += 1
                continue
            if began <= time.perf_counter() < until:
                found.note(answer.status, answer.retry_after, answer.whole_s, right(answer, stream=False))
        await connection.gone()

    async def look() -> None:
        await asyncio.sleep(seconds * 2 / 3)
        found.bytes = server.tree.pss_bytes()

    await asyncio.gather(look(), *(client() for _ in range(clients)))
    found.elapsed_s = seconds * 2 / 3
    return found


async def opened(server: Server, rate: float, seconds: float) -> Crowd:
    """So many requests a second, whatever becomes of those before."""
    found, message, free = Crowd(), server.chat(stream=False), list[Connection]()
    under_way: set[asyncio.Task[None]] = set()
    until = time.perf_counter() + seconds

    async def connected() -> Connection:
        while free:
            if (connection := free.pop()).usable:
                return connection
        return await Connection.open(server.port)

    async def ask() -> None:
        try:
            connection = await connected()
            answer = await connection.ask(message)
        except OSError:
            found.others["no answer"] += 1
            return
        if time.perf_counter() < until:
            found.note(answer.status, answer.retry_after, answer.whole_s, right(answer, stream=False))
        if connection.usable:
            free.append(connection)

    began, count = time.perf_counter(), 0
    while (now := time.perf_counter()) < until:
        while count < (now - began) * rate:
            count += 1
            if len(under_way) >= _MOST_UNDER_WAY:
                found.others["not asked, as many waited"] += 1
                continue
            task = asyncio.create_task(ask())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.sleep(0.005)
    found.bytes = server.tree.pss_bytes()
    for task in list(under_way):
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*under_way, return_exceptions=True)
    found.elapsed_s = seconds
    return found


def slow_upstream(servers: Sequence[Server], seconds: float) -> None:
    rows = []
    for clients in CLIENTS:
        for server in servers:
            found = uvloop.run(closed(server, clients, seconds + 3 * DELAY_S))
            rows.append([f"{clients:,} clients, {server.name}", *_shown(found)])
    time.sleep(_SETTLED_S)
    rows += [
        [f"at rest after that, {one.name}", "", "", "", f"{one.tree.pss_bytes() / _MIB:,.0f}", ""] for one in servers
    ]
    columns = ["", "a second", "p50 s", "p95 s", "MiB", "else"]
    table(f"An upstream that takes {DELAY_S:g} s", columns, rows)


def overload(servers: Sequence[Server], seconds: float) -> None:
    rows = []
    for server in servers:
        most = uvloop.run(closed(server, AT_ONCE, seconds))
        found = uvloop.run(opened(server, TIMES * most.per_second, 4 * seconds))
        rows.append([f"{server.name}, {AT_ONCE} clients", *_shown(most)])
        goodput = f"{found.per_second / most.per_second:.0%} served"
        rows.append([f"{server.name}, {TIMES} times as much: {goodput}", *_shown(found)])
    columns = ["", "a second", "p50 s", "p95 s", "MiB", "else"]
    table("Overload", columns, rows)


def _shown(found: Crowd) -> list[str]:
    others = ", ".join(f"{count:,} of {what}" for what, count in found.others.most_common(3)) or "-"
    if not found.took_s:
        return ["-", "-", "-", f"{found.bytes / _MIB:,.0f}", others]
    times = (f"{percentile(found.took_s, part):.2f}" for part in (0.5, 0.95))
    return [f"{found.per_second:,.0f}", *times, f"{found.bytes / _MIB:,.0f}", others]


def main(seconds: float = SECONDS) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        slow, quick = (stack.enter_context(upstream(_made(folder, name), delay=delay)) for name, delay in _UPSTREAMS)
        for table_of, at in ((slow_upstream, slow), (overload, quick)):
            with ExitStack() as servers:
                places = {name: _made(folder, str(at.port), name) for name in SERVERS}
                table_of([servers.enter_context(start(at, places[name])) for name, start in SERVERS.items()], seconds)


_UPSTREAMS: Final = (("upstream-slow", DELAY_S), ("upstream-quick", 0.0))


def _made(folder: str, *names: str) -> Path:
    made = Path(folder).joinpath(*names)
    made.mkdir(parents=True)
    return made


if __name__ == "__main__":
    main()
