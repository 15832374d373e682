"""Gateways side by side: `python -m tests.benchmarks gateway`, or `python -m tests.benchmarks.gateway.comparison NAME …`
for some of them. Some five minutes; `BENCH_SECONDS` (5) is for each cell of the tables.

All of them run at once and are asked in turns, so that what else the machine does meets them alike. The clients are one
process, this one; the upstream is another. LiteLLM and Portkey are installed into `.cache/bench` when they are missing.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.benchmarks.gateway import others
from tests.benchmarks.gateway.load import Load, load
from tests.benchmarks.gateway.ours import host_serve
from tests.benchmarks.gateway.servers import DidNotStart, Server, free_port, running, upstream
from tests.benchmarks.gateway.upstream import EVENTS, PAUSE, TEXT
from tests.benchmarks.measure import ms, percentile, table

SECONDS = float(os.environ.get("BENCH_SECONDS", "5"))
ROUNDS = 3
WARM_UP_S = 1.5
DIRECT = "direct"


@dataclass(frozen=True)
class Kind:
    """What is asked for, and by how many at once."""

    name: str
    clients: Sequence[int]
    stream: bool
    paced: bool = False


KINDS = (
    Kind("JSON chat completions", (1, 8, 64), stream=False),
    Kind(f"Streams of {EVENTS} events, as fast as they can be", (1, 64), stream=True),
    Kind(f"Streams of {EVENTS} events, {PAUSE * 1e3:.0f} ms apart", (1, 64), stream=True, paced=True),
)
Cells = dict[tuple[str, Kind, int], Load]


@contextmanager
def passthrough(module: str, name: str, behind: Server, folder: Path) -> Iterator[Server]:
    port = free_port()
    argv = [sys.executable, "-m", f"tests.benchmarks.gateway.{module}", str(behind.port), str(port)]
    with running(name, argv, port, folder) as server:
        yield server


GATEWAYS: Mapping[str, Callable[[Server, Path], AbstractContextManager[Server]]] = {
    "asgi": partial(passthrough, "passthrough_asgi", "bare ASGI pass-through"),
    "starlette": partial(passthrough, "passthrough_starlette", "Starlette + httpx2 pass-through"),
    "ours": host_serve,
    "ours-key": partial(host_serve, shared=True),
    "ours-2": partial(host_serve, workers=2),
    "litellm": others.litellm,
    "portkey": others.portkey,
}


def started(stack: ExitStack, names: Sequence[str], folder: Path) -> Iterator[Server]:
    """The upstream, and those before it that could be started: of the others it is said why not."""
    yield (behind := stack.enter_context(upstream(folder)))
    for name in names:
        try:
            yield stack.enter_context(GATEWAYS[name](behind, folder))
        except (others.NotInstalled, DidNotStart) as error:
            print(f"\n{name} is left out: {error}")


def checked(server: Server) -> None:
    """That it answers what the upstream says, word for word."""
    for stream in (False, True):
        answer = server.ask(server.chat(stream=stream))
        if answer.status != 200 or answer.text() != TEXT or answer.ended is not stream:
            sys.exit(f"{server.name} answered {answer.status}: {answer.body[:500]!r}\n{server.words()}")
        load(server, clients=8 if stream else 64, seconds=WARM_UP_S, stream=stream)


def measured(servers: Sequence[Server]) -> Cells:
    found: Cells = {}
    for _ in range(ROUNDS):
        for kind in KINDS:
            for clients in kind.clients:
                for server in servers:
                    cell = found.setdefault((server.name, kind, clients), Load())
                    cell += load(
                        server, clients=clients, seconds=SECONDS / ROUNDS, stream=kind.stream, paced=kind.paced
                    )
    return found


def show(found: Cells, names: Sequence[str], kind: Kind, clients: int) -> None:
    cells = {name: found[name, kind, clients] for name in names}
    columns = ["", "a second", "CPU ms each", *(["first p50 ms", "p99"] if kind.stream else [])]
    columns += ["whole p50 ms" if kind.stream else "p50 ms", "p99", "added p50", "added p99"]
    rows = []
    for name, cell in cells.items():
        if not cell.wholes:
            rows.append([name, *["-"] * (len(columns) - 1)])
            continue
        firsts = both(cell.firsts) if kind.stream else ()
        wholes, least = both(cell.wholes), both(cells[DIRECT].wholes)
        added = ["-", "-"] if name == DIRECT else [ms(its - direct) for its, direct in zip(wholes, least, strict=True)]
        rows.append([name, f"{cell.per_second:,.0f}", ms(cell.cpu_each_s), *map(ms, (*firsts, *wholes)), *added])
    table(f"{kind.name}, {clients} client{'s' if clients > 1 else ''} at once", columns, rows)
    for name, cell in cells.items():
        if cell.wrong:
            print(f"\n{name}: {cell.wrong} of {cell.wrong + len(cell.wholes)} answers were missing or not right.")


def both(times: Sequence[float]) -> tuple[float, float]:
    return percentile(times, 0.5), percentile(times, 0.99)


def main(names: Sequence[str] = ()) -> None:
    if unknown := set(names) - set(GATEWAYS):
        sys.exit(f"there is no gateway {', '.join(sorted(unknown))}: there are {', '.join(GATEWAYS)}")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = list(started(stack, names or list(GATEWAYS), Path(folder)))
        for server in servers:
            checked(server)
        found = measured(servers)
    for kind in KINDS:
        for clients in kind.clients:
            show(found, [server.name for server in servers], kind, clients)


if __name__ == "__main__":
    main(sys.argv[1:])
