"""Targets: the catalysts that have a model, each with its own name for it, and the order in which they are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from host.core.names import Reference
from host.core.repeating import CAUSES, Cause
from host.errors import InputError

MOST_TARGETS: Final = 16
MOST: Final = 1_000_000  # a priority or a weight
Draw = Callable[[], float]
"""A random number from 0 to 1, without 1."""


@dataclass(frozen=True, slots=True)
class ModelTarget:
    """`model` is the name that the catalyst has for the model; "" is the name that was asked for. Those of a lower
    `priority` come first. Among those of one priority, one with twice the `weight` comes first twice as often."""

    reference: Reference
    model: str = ""
    priority: int = 1
    weight: int = 1

    def __post_init__(self) -> None:
        for name in ("priority", "weight"):
            given = getattr(self, name)
            if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST:
                raise InputError(
                    f"{name} is {given!r:.40}", field=name, hint=f"a whole number from 1 to {MOST}; leave out a target"
                    " that is to get nothing",
                )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failover:
    """The targets of a model, and `on` which failures the next one is asked. With `unsafe_repeat` that is so also where
    the work may have been done, which may be paid for twice then. Raises InputError."""

    targets: tuple[ModelTarget, ...]
    on: frozenset[Cause] = field(default=frozenset(CAUSES))
    unsafe_repeat: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.targets) <= MOST_TARGETS:
            raise InputError(f"there are {len(self.targets)} targets", field="targets", hint=f"1 to {MOST_TARGETS}")
        named = [(one.reference, one.model) for one in self.targets]
        if len({*named}) < len(named):
            raise InputError("a target is named twice", field="targets")

    def order(self, draw: Draw) -> tuple[ModelTarget, ...]:
        """All targets in the order in which they are asked. `draw` is called for each choice between several: `weight`
        decides between those of one priority, and where all have the same one, the order of the list."""
        return tuple(_ordered(self.targets, draw))


def _ordered(targets: Sequence[ModelTarget], draw: Draw) -> Iterator[ModelTarget]:
    for _, some in groupby(sorted(targets, key=lambda one: one.priority), key=lambda one: one.priority):
        left = list(some)
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


def group_of(model: str, groups: Mapping[str, Failover]) -> Failover | None:
    """The group with this name, else the one with the longest `PREFIX*` that the name begins with."""
    if (found := groups.get(model)) is not None:
        return found
    globs = [name for name in groups if name.endswith("*") and model.startswith(name[:-1])]
    return groups[max(globs, key=len)] if globs else None
