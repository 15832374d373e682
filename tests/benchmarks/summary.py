"""The table of speed in the README: what we take beside what one would do without us, in turns, on the machine it names.

`python -m tests.benchmarks summary` prints it, and writes it into the README, between `<!-- speed -->` and `<!-- /speed -->`.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

from host import Host
from host.core.names import Digest
from host.runtime.workspace import Workspace
from host.sandbox import Sandbox
from tests.benchmarks import processes, runs
from tests.benchmarks.measure import CHAT, COMPONENT, KEY, alternating, fake_openai
from tests.conftest import ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- speed -->\n", "<!-- /speed -->"
BUSY = "It had other work to do, so the ratios say more than the times."
COLUMNS = ("", "here", "beside it", "", "ratio")
Row = tuple[str, float, str, float]  # what, seconds, beside what, seconds


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = {line.partition(": ")[2].strip() for line in lines if line.startswith("model name")}
    parts = [f"{os.cpu_count()} cores ({', '.join(sorted(models)) or platform.machine()})"]
    parts += [f"{platform.system()} {platform.release().partition('-')[0]}", f"Python {platform.python_version()}"]
    parts += [f"wasmtime {version('wasmtime')}", f"a load of {os.getloadavg()[0]:.1f} before"]
    return ", ".join(parts) + "." + (f" {BUSY}" if os.getloadavg()[0] > 1 else "")


def of_processes() -> Iterator[Row]:
    with fake_openai() as url, tempfile.TemporaryDirectory() as folder:
        state, cache = Path(folder, "state"), Path(folder, "cache")
        processes.install(state, cache, url)
        env = {**os.environ, "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{url}/v1"}
        env |= {"HOST_STATE_DIR": str(state), "HOST_CACHE_DIR": str(cache)}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode
        operation, call = processes.CALLS["chat.completions.create"]
        taken = processes.measured(processes.programs(operation, call, url), env)
    wall = {name: statistics.median(one for one, _ in times) for name, times in taken.items()}
    sdk = "the official SDK, in a fresh `python -c`"
    yield "one chat completion by `host run FILE`, the whole process", wall["host run FILE"], sdk, wall["openai SDK"]
    yield "the same by `host run REF`: verified, approved, recorded", wall["host run REF"], sdk, wall["openai SDK"]


def of_runs() -> Iterator[Row]:
    with runs.both() as (catalyst, client):
        bare = "the bare HTTP call"
        yield (
            "one chat completion in a warm `Host`, a fresh sandbox for it",
            *_beside(
                lambda: catalyst.run(CHAT), bare, lambda: client.post("/chat/completions", json=CHAT["params"]).json()
            ),
        )

        def first_of_ours() -> None:
            with catalyst.stream({**CHAT, "params": runs.STREAMED}) as events:
                next(iter(events))

        def first_of_theirs() -> None:
            with client.stream("POST", "/chat/completions", json=runs.STREAMED) as answer:
                next(line for line in answer.iter_lines() if line.startswith("data: {"))

        yield "a stream up to its first event, then closed", *_beside(first_of_ours, bare, first_of_theirs)
    with (
        fake_openai() as url, tempfile.TemporaryDirectory() as folder, Workspace.open(folder) as workspace,
        Host() as plain, Host(sink=workspace.audit_log) as keeping,
    ):  # fmt: skip
        kept, unkept = (partial(runs.loaded(host, url).run, CHAT) for host in (keeping, plain))
        yield "one chat completion, its records kept in SQLite", *_beside(kept, "its records not kept", unkept)


def of_loading() -> Iterator[Row]:
    wasm = COMPONENT.read_bytes()
    digest = Digest.of(wasm)
    with tempfile.TemporaryDirectory() as place:
        sandbox = Sandbox(Path(place, "cache"), Path(place, "state"))
        [[cold]] = alternating(1, lambda: sandbox.load(wasm, digest))
        [warm] = alternating(10, lambda: sandbox.load(wasm, digest))
        sandbox.close()
    yield (
        f"a Python catalyst ({len(wasm) / 1e6:.0f} MB), found compiled",
        statistics.median(warm),
        "compiled, once",
        cold,
    )


def _beside(ours: Callable[[], object], name: str, theirs: Callable[[], object]) -> tuple[float, str, float]:
    alternating(20, ours, theirs)
    left, right = alternating(runs.COUNT, ours, theirs)
    return statistics.median(left), name, statistics.median(right)


def shown(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.0f} ms" if seconds >= 0.01 else f"{seconds * 1e3:.1f} ms"


def text(rows: list[Row], where: str) -> str:
    lines = [f"Medians, measured in turns on {where}", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for what, here, beside, there in rows:
        lines.append(f"| {what} | {shown(here)} | {beside} | {shown(there)} | {here / there:.2g} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    where = machine()
    made = text([*of_processes(), *of_runs(), *of_loading()], where)
    print(f"\n{made}")
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}{made}{END}{after}")


if __name__ == "__main__":
    main()
