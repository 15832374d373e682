"""Which of our code a piece of work passes through: its files, and how many function calls."""

from __future__ import annotations

import gc
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from tests.conftest import ROOT

HOST = str(ROOT / "host") + "/"


@dataclass
class Trace:
    """`by_function` counts calls by file and function. Resuming a coroutine or a generator is a call, too."""

    by_function: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def files(self) -> set[str]:
        """Below `host/`: `server/openai/gateway.py`."""
        return {file for file, _ in self.by_function}

    @property
    def calls(self) -> int:
        return self.by_function.total()

    def table(self) -> str:
        """The files with their calls, and below each its functions, the most called first."""
        per_file: Counter[str] = Counter()
        for (file, _), count in self.by_function.items():
            per_file[file] += count
        lines = [f"{len(per_file)} files, {self.calls} calls"]
        for file, total in per_file.most_common():
            lines.append(f"{total:5} {file}")
            inside = Counter({name: count for (at, name), count in self.by_function.items() if at == file})
            lines += [f"{'':12}{count:5} {name}" for name, count in inside.most_common()]
        return "\n".join(lines)


def traced(work: Callable[[], object], *, warm: int = 3) -> Trace:
    """One `work()`, after `warm` others that are not counted: imports and what is made lazily are then done. Seen are
    this thread, and those that are started from now on: what runs on others belongs to a `work` of its own."""
    trace = Trace()
    counting = threading.Event()
    lock = threading.Lock()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and counting.is_set() and code.co_filename.startswith(HOST):
            with lock:
                trace.by_function[code.co_filename.removeprefix(HOST), code.co_qualname] += 1

    threading.setprofile(profile)
    try:
        for _ in range(warm):
            work()
        gc.collect()  # what ends in the work with what the others left is theirs
        sys.setprofile(profile)
        counting.set()
        work()
    finally:
        counting.clear()
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # typeshed lags behind: None ends it
    return trace
