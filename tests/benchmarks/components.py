"""The OpenAI catalyst as `host build` makes it, against `host build --quick`: what a fresh sandbox takes, and a run.

CPU time, in turns: other work on the machine changes it less than the time by the clock.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wasmtime import Store

from host import Catalyst, Host, Policy
from host.core.names import Digest
from host.core.wit import IMPORTS
from host.sandbox import Instances, Sandbox
from tests.benchmarks.measure import CHAT, COMPONENT, KEY, ORIGIN, fake_openai, ms, table
from tests.conftest import ROOT, python_guest

COUNT = 200
LARGE = 8
PROMPT = 8_000_000


def main() -> None:
    made = {"--quick": python_guest(ROOT / "catalyst" / "openai", quick=True), "whole": COMPONENT.read_bytes()}
    rows = [["size of the file, MB", *(f"{len(wasm) / 1e6:.1f}" for wasm in made.values())]]
    with tempfile.TemporaryDirectory() as place:
        sandbox = Sandbox(Path(place, "cache"), Path(place, "state"))
        linked = {name: _linked(sandbox, wasm) for name, wasm in made.items()}
        rows += _row("a fresh sandbox, instantiated and closed", COUNT, {n: _fresh(one) for n, one in linked.items()})
        sandbox.close()
    with fake_openai() as url, Host() as host:
        policy = Policy(allowed_domains=["api.openai.com"], upstreams={ORIGIN: url}, max_request_size="32MB")
        loaded = {n: host.load(one, policy=policy, secrets={"OPENAI_API_KEY": KEY}) for n, one in made.items()}
        large = {**CHAT, "params": {**CHAT["params"], "messages": [{"role": "user", "content": "x" * PROMPT}]}}
        for what, count, request in (("a chat completion", COUNT, CHAT), ("a prompt of 8 MB", LARGE, large)):
            rows += _row(what, count, {name: _run(one, request) for name, one in loaded.items()})
    table(f"The component, {COUNT} each in turns ({LARGE} of 8 MB)", ["", *made], rows)


def _linked(sandbox: Sandbox, wasm: bytes) -> Instances:
    loaded = sandbox.load(wasm, Digest.of(wasm))
    return loaded.link({name: dict.fromkeys(IMPORTS[name], lambda *_: None) for name in loaded.imports})


def _fresh(linked: Instances) -> Callable[[], object]:
    one = linked._fast

    def begin_and_end() -> None:
        store = Store(one.engine)
        store.set_epoch_deadline(1_000)
        one.linker.instantiate(store, one.component)
        store.close()

    return begin_and_end


def _run(catalyst: Catalyst, request: Mapping[str, Any]) -> Callable[[], object]:
    def run() -> None:
        assert catalyst.run(request).ok

    return run


def _row(what: str, count: int, actions: Mapping[str, Callable[[], object]]) -> list[list[str]]:
    """CPU time, time by the clock and page faults of each action, each a row."""
    taken: dict[str, list[tuple[float, float, int]]] = {name: [] for name in actions}
    for _ in range(count):
        for name, action in actions.items():
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            action()
            wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            taken[name].append((cpu, wall, after.ru_minflt - before.ru_minflt))
    of = {name: [*zip(*times[count // 10 :], strict=True)] for name, times in taken.items()}
    return [
        [f"{what}: CPU, mean ms", *(ms(statistics.mean(one[0])) for one in of.values())],
        [f"{what}: median ms", *(ms(statistics.median(one[1])) for one in of.values())],
        [f"{what}: page faults", *(f"{statistics.median(one[2]):.0f}" for one in of.values())],
    ]


if __name__ == "__main__":
    main()
