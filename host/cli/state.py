"""What is kept, opened for one command: imported no sooner, since it takes longer than all the rest of a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from host.workspace import Workspace


@contextmanager
def opened() -> Iterator[Workspace]:
    """The workspace of the environment's state directory. Raises InputError, StateError."""
    from host.workspace import Workspace  # noqa: PLC0415 - not for `--help`

    with Workspace.open() as workspace:
        yield workspace
