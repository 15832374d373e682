"""What people see of a batch: a bar while it runs, and words at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import click

from host.core.quantities import as_duration

if TYPE_CHECKING:
    from host.service.batches.answers import BatchAnswer

_EVERY_S: Final = 0.1


@dataclass(slots=True)
class BatchTotals:
    """What this process has done: lines, those of them that failed, tokens as upstreams count them, and since when."""

    began: float
    lines: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, answer: BatchAnswer) -> None:
        self.lines += 1
        self.failed += answer.failed
        self.input_tokens += answer.tokens.input
        self.output_tokens += answer.tokens.output

    def rate(self, now: float) -> float:
        """Lines a second."""
        return self.lines / max(0.001, now - self.began)


class BatchBar:
    """On a terminal a bar, with lines a second, tokens, failures and the time that is left; elsewhere nothing. To be
    used in a `with`. `done` of `total` lines were finished before."""

    def __init__(self, total: int, done: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.totals = BatchTotals(clock())
        self._clock = clock
        self._total, self._done = total, done
        self._shown, self._shown_at = 0, 0.0
        self._open = ExitStack()
        self._bar: Any = None
        if sys.stderr.isatty():
            bar = click.progressbar(
                length=total, file=sys.stderr, show_pos=True, show_eta=False, item_show_func=lambda text: text or ""
            )
            self._bar = self._open.enter_context(bar)
            self._bar.update(done)

    def written(self, answer: BatchAnswer) -> None:
        """One more line is finished."""
        self.totals.add(answer)
        if self._bar is None:
            return
        now = self._clock()
        if now - self._shown_at >= _EVERY_S or self._done + self.totals.lines == self._total:
            self._bar.update(self.totals.lines - self._shown, self.facts(now))
            self._shown, self._shown_at = self.totals.lines, now

    def facts(self, now: float) -> str:
        totals, rate = self.totals, self.totals.rate(now)
        tokens = totals.input_tokens + totals.output_tokens
        left_s = (self._total - self._done - totals.lines) / rate if rate else 0.0
        said = [f"{rate:.1f}/s", f"{short(tokens)} tokens"]
        said += [f"{totals.failed} failed"] if totals.failed else []
        return ", ".join([*said, f"{about(left_s)} left"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def short(count: int) -> str:
    """`950`, `12.3k`, `4.5M`."""
    if count < 1_000:
        return str(count)
    return f"{count / 1_000:.1f}k" if count < 999_950 else f"{count / 1_000_000:.1f}M"


def about(seconds: float) -> str:
    """A duration to about two digits: `45s`, `12m`, `2h30m`."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole}s"
    minutes = round(seconds / 60)
    return as_duration(minutes * 60.0) if minutes < 120 else f"{minutes // 60}h{minutes % 60:02}m"
