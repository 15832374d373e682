"""The order in which several servers of the same thing are asked: by priority, and by weight among those of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Final, Protocol, TypeVar

from host.errors import InputError

MOST: Final = 1_000_000  # a priority or a weight
Draw = Callable[[], float]
"""A random number from 0 to 1, without 1."""


class Preferred(Protocol):
    """Those of a lower `priority` come first. Among those of one priority, one with twice the `weight` comes first
    twice as often."""

    @property
    def priority(self) -> int: ...

    @property
    def weight(self) -> int: ...


P = TypeVar("P", bound=Preferred)


def check_preference(one: Preferred, what: str) -> None:
    """Raises InputError for a priority or a weight that is none; `what` is the word for what has it."""
    for name, given in (("priority", one.priority), ("weight", one.weight)):
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST:
            hint = f"a whole number from 1 to {MOST}; leave out {what} that is to get nothing"
            raise InputError(f"{name} is {given!r:.40}", field=name, hint=hint)


def in_order(some: Sequence[P], draw: Draw) -> Iterator[P]:
    """All of them, in the order in which they are asked. `draw` is called for each choice between several: `weight`
    decides between those of one priority, and where all have the same one, the order of the list."""
    for _, equals in groupby(sorted(some, key=lambda one: one.priority), key=lambda one: one.priority):
        left = list(equals)
        if len({one.weight for one in left}) == 1:
            yield from left
            continue
        while left:
            point = draw() * sum(one.weight for one in left)
            for one in left:
                point -= one.weight
                if point < 0:
                    break
            left.remove(one)
            yield one
