"""One pass of a schema over a value. However hostile both are, it ends within `MAX_STEPS`."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol, TypeAlias

from host.core.strict_json import Json

MAX_STEPS = 2_000_000  # about a second at most; a number in a list of numbers takes three
MAX_MISTAKES = 20  # then the rest of the value is not looked at

Path: TypeAlias = "tuple[Path, str | int] | None"
"""Where a value is: its parent's place and its name or index there; None for the whole."""

Keys: TypeAlias = AbstractSet[str | int]
"""The fields or items of a value that a keyword has looked at: what `unevaluatedProperties` leaves alone."""

NONE: Keys = frozenset()


Words: TypeAlias = "str | Callable[[], tuple[str, str | None]]"
"""What goes on where the name of a field ends (`is required`); or what finds that and a hint, for the one mistake that
is told of the many that may be made on the way."""


class Mistake(NamedTuple):
    """`types` are those of which the value had to be one, where that is what is wrong with it."""

    at: Path
    words: Words
    types: tuple[str, ...] = ()


class Rule(Protocol):
    """A keyword with its value. Tells `run` of mistakes, and returns what it looked at."""

    def __call__(self, value: Json, at: Path, run: Pass, /) -> Keys: ...


class LastRule(Protocol):
    """A keyword that depends on what the ones beside it looked at."""

    def __call__(self, value: Json, at: Path, run: Pass, seen: Keys, /) -> Keys: ...


class Node:
    """A schema, read. `same` are the schemas that it applies to the very value that it is applied to itself."""

    __slots__ = ("last", "rules", "same", "weight")

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.last: list[LastRule] = []
        self.same: list[Node] = []
        self.weight = 1

    def add(self, rule: Rule, weight: int = 1) -> None:
        self.rules.append(rule)
        self.weight += weight


class TooLarge(Exception):
    """Out of steps: `InputSchema.check` says so to the caller."""


class Enough(Exception):
    """As many mistakes as are told."""


class Pass:
    """`tracks` is whether anything asks for the keys that were seen."""

    def __init__(self, root: Path, *, tracks: bool) -> None:
        self.found: list[Mistake] = []
        self.tracks = tracks
        self._root = root
        self._left = MAX_STEPS

    def check(self, node: Node, value: Json, at: Path) -> Keys:
        """An attachment stands for bytes that are elsewhere, so it may be in the place of anything. Raises TooLarge,
        Enough."""
        kind = type(value)
        self.spend(node.weight if kind not in _CONTAINERS else node.weight * (1 + (len(value) >> 5)))
        if kind is dict and "$attachment" in value and at is not self._root:
            return NONE
        seen = NONE
        for rule in node.rules:
            if keys := rule(value, at, self):
                seen = seen | keys
        for last in node.last:
            seen = seen | last(value, at, self, seen)
        return seen

    def attempt(self, node: Node, value: Json, at: Path) -> tuple[list[Mistake], Keys]:
        """The mistakes that `value` would have under `node`, kept apart from the others."""
        self.spend(2)
        others, self.found = self.found, []
        try:
            seen = self.check(node, value, at)
        except Enough:
            seen = NONE
        found, self.found = self.found, others
        return found, seen

    def mistake(self, at: Path, words: Words, types: tuple[str, ...] = ()) -> None:
        self.found.append(Mistake(at, words, types))
        if len(self.found) >= MAX_MISTAKES:
            raise Enough

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooLarge


_CONTAINERS = (dict, list, tuple)  # what keywords go through; those that go through a text count that themselves
