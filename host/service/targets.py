"""Targets: the catalysts that have a model, each with its own name for it, and the order in which they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from host.core.names import Reference
from host.core.preference import Draw, check_preference, in_order
from host.core.repeating import CAUSES, Cause
from host.errors import InputError

MOST_TARGETS: Final = 16


@dataclass(frozen=True, slots=True)
class ModelTarget:
    """`model` is the name that the catalyst has for the model; "" is the name that was asked for. `priority` and
    `weight`: see `host.core.preference`. Raises InputError."""

    reference: Reference
    model: str = ""
    priority: int = 1
    weight: int = 1

    def __post_init__(self) -> None:
        check_preference(self, "a target")


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
        """All targets in the order in which they are asked. See `in_order`."""
        return tuple(in_order(self.targets, draw))


def group_of(model: str, groups: Mapping[str, Failover]) -> Failover | None:
    """The group with this name, else the one with the longest `PREFIX*` that the name begins with."""
    if (found := groups.get(model)) is not None:
        return found
    globs = [name for name in groups if name.endswith("*") and model.startswith(name[:-1])]
    return groups[max(globs, key=len)] if globs else None
