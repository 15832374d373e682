"""Runs in a warm host, against the bare HTTP call that each of them makes: what the sandbox adds."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import httpx2

from host import Catalyst, Host, Policy
from host.core.audit import Event
from host.runtime.workspace import Workspace
from tests.benchmarks.measure import (
    CHAT,
    COMPONENT,
    KEY,
    MODELS,
    ORIGIN,
    alternating,
    fake_openai,
    median_and_best,
    ms,
    table,
)

COUNT = 200
STREAMS = 40
EVENTS = 50
SECONDS = 2.0
STREAMED = {
    **CHAT["params"],
    "max_tokens": EVENTS,
    "stream": True,
    "messages": [{"role": "user", "content": "in 60 words"}],
}


@contextmanager
def both() -> Iterator[tuple[Catalyst, httpx2.Client]]:
    """A catalyst and a client that reach the same fake, each with its connection made."""
    with fake_openai() as url, Host() as host:
        client = httpx2.Client(base_url=f"{url}/v1", headers={"authorization": f"Bearer {KEY}"}, trust_env=False)
        with client:
            yield loaded(host, url), client


def loaded(host: Host, url: str) -> Catalyst:
    policy = Policy(allowed_domains=["api.openai.com"], upstreams={ORIGIN: url})
    return host.load(COMPONENT, policy=policy, secrets={"OPENAI_API_KEY": KEY})


class Counting:
    """A sink that only counts, and hands on."""

    def __init__(self, workspace: Workspace) -> None:
        self.count = 0
        self._audit_log = workspace.audit_log

    def record(self, event: Event) -> None:
        self.count += 1
        self._audit_log.record(event)


def one_by_one(catalyst: Catalyst, client: httpx2.Client) -> None:
    bare: dict[str, tuple[object, Callable[[], object]]] = {
        "models.list": (MODELS, lambda: client.get("/models").json()),
        "chat.completions.create": (CHAT, lambda: client.post("/chat/completions", json=CHAT["params"]).json()),
    }
    rows = []
    for name, (operation, request) in bare.items():
        inside: list[float] = []

        def run(operation: object = operation, inside: list[float] = inside) -> None:
            result = catalyst.run(operation)
            assert result.ok
            inside.append(result.execution.meters.sandbox_time_s)

        alternating(20, run, request)
        runs, requests = alternating(COUNT, run, request)
        added = statistics.median(runs) - statistics.median(requests)
        rows += [
            [name, "host.run()", *median_and_best(runs)],
            [name, "httpx2.Client", *median_and_best(requests)],
            [name, "added by the host", ms(added), ms(min(runs) - min(requests))],
            [name, "in the sandbox", *median_and_best(inside[-COUNT:])],
        ]
    table(f"Run to run in a warm host, {COUNT} each in turns", ["call", "", "median ms", "best ms"], rows)


def at_once(catalyst: Catalyst, client: httpx2.Client) -> None:
    actions = (lambda: catalyst.run(CHAT), lambda: client.post("/chat/completions", json=CHAT["params"]).json())
    rows = [[str(threads), *(f"{per_second(action, threads):.0f}" for action in actions)] for threads in (1, 2, 4)]
    table("Chat completions a second, by threads of one process", ["threads", "host.run()", "httpx2.Client"], rows)


def per_second(action: Callable[[], object], threads: int) -> float:
    def repeat(until: float) -> int:
        done = 0
        while time.perf_counter() < until:
            action()
            done += 1
        return done

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(repeat, [began + SECONDS] * threads))
    return done / (time.perf_counter() - began)


def recorded() -> None:
    """What it takes to keep the record of each run, as runs by reference do."""
    with (
        fake_openai() as url,
        tempfile.TemporaryDirectory() as folder,
        Workspace.open(folder) as workspace,
        Host() as plain,
        Host(sink=(sink := Counting(workspace))) as keeping,
    ):
        actions = [partial(loaded(host, url).run, CHAT) for host in (plain, keeping)]
        alternating(20, *actions)
        sink.count = 0
        times = alternating(COUNT, *actions)
        title = f"Chat completions, each with its {sink.count / COUNT:.0f} records in SQLite"
        rates = [[f"{per_second(action, threads):.0f}" for threads in (1, 8)] for action in actions]
    names = ("not kept", "kept")
    rows = [[name, *median_and_best(taken), *rate] for name, taken, rate in zip(names, times, rates, strict=True)]
    table(title, ["records", "median ms", "best ms", "a second, 1 thread", "8 threads"], rows)


def streams(catalyst: Catalyst, client: httpx2.Client) -> None:
    firsts: dict[str, list[float]] = {"host.stream()": [], "httpx2.Client": []}
    counts: dict[str, int] = {}

    def noted(name: str, events: Iterator[object]) -> None:
        began = time.perf_counter()
        for count, _ in enumerate(events, start=1):
            if count == 1:
                firsts[name].append(time.perf_counter() - began)
            counts[name] = count

    def bare() -> Iterator[str]:
        with client.stream("POST", "/chat/completions", json=STREAMED) as answer:
            yield from (line for line in answer.iter_lines() if line.startswith("data: {"))

    def by_host() -> None:
        noted("host.stream()", iter(catalyst.stream({**CHAT, "params": STREAMED})))

    def by_client() -> None:
        noted("httpx2.Client", bare())

    alternating(3, by_host, by_client)
    for times in firsts.values():
        times.clear()
    wholes = alternating(STREAMS, by_host, by_client)
    rows = [
        [name, str(counts[name]), *median_and_best(firsts[name]), *median_and_best(whole)]
        for name, whole in zip(firsts, wholes, strict=True)
    ]
    columns = ["", "events", "first: median ms", "best ms", "whole: median ms", "best ms"]
    table(f"Streams, {STREAMS} each in turns", columns, rows)


def main() -> None:
    with both() as (catalyst, client):
        one_by_one(catalyst, client)
        at_once(catalyst, client)
        streams(catalyst, client)
    recorded()


if __name__ == "__main__":
    main()
