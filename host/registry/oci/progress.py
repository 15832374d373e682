"""How far a transfer has come, for those who show it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One transfer after another: `begin`, any number of `advance`, `end`, also where it fails. One that has to start
    over ends, and begins again."""

    def begin(self, name: str, total: int) -> None:
        """`total` bytes of `name` follow."""

    def advance(self, count: int) -> None:
        """`count` more bytes are there."""

    def end(self) -> None:
        """No more follow."""


class Unseen:
    """Progress that nobody looks at."""

    def begin(self, name: str, total: int) -> None:
        pass

    def advance(self, count: int) -> None:
        pass

    def end(self) -> None:
        pass
