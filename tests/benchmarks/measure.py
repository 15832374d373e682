"""What the benchmarks share: times, tables, and a fake OpenAI whose work is not counted."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT

ORIGIN = "https://api.openai.com"
KEY = "sk-bench-0123456789abcdef"
COMPONENT = ROOT / "dist" / "openai.wasm"
PROGRAM = Path(sys.executable).with_name("host")

MODELS = {"operation": "models.list"}
MESSAGES = [{"role": "user", "content": "Say hello in one word"}]
CHAT = {"operation": "chat.completions.create", "params": {"model": "gpt-4o-mini", "messages": MESSAGES}}


@contextmanager
def fake_openai() -> Iterator[str]:
    """The URL of a fake in a process of its own."""
    argv = [str(PROGRAM), "fake", "openai", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[3].removesuffix("/v1")
        finally:
            process.terminate()


def alternating(count: int, *actions: Callable[[], object]) -> list[list[float]]:
    """Seconds that each action took, `count` times in turns: what else the machine does meets all of them alike."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(count):
        for action, taken in zip(actions, times, strict=True):
            began = time.perf_counter()
            action()
            taken.append(time.perf_counter() - began)
    return times


def percentile(times: Sequence[float], of: float) -> float:
    """The least of `times` that so large a part of them does not exceed: 0.5 is the median, 0.99 the slow end."""
    return sorted(times)[max(0, math.ceil(of * len(times)) - 1)]


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


def median_and_best(times: Sequence[float]) -> tuple[str, str]:
    return ms(statistics.median(times)), ms(min(times))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Printed as Markdown, so that it can be pasted."""
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    print(f"\n{title}\n")
    for row in (columns, ["-" * width for width in widths], *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print(f"| {' | '.join(cells)} |")
