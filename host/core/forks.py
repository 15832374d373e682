"""What a fork of this process leaves to the child.

A child has the objects of its parent, and none of the threads that they work with. What they hold open is the parent's
still: its database, its connections to upstreams, its locks. So an object that works with any of these remembers the
`generation` that it was made in, and refuses in a child, which would wait for ever or disturb the parent.
"""

from __future__ import annotations

import os

from host.errors import StateError

generation = 0
"""A number for this process: another one than those of the processes that it is a child of by forks."""


def made_before() -> StateError:
    """The error for the use of what was made in another `generation`."""
    return StateError(
        "this was made before the process was forked, and works in the parent alone",
        hint="make the Host, and the clients that use one, after the fork",
    )


def keep(held: object) -> None:
    """Never free `held`, nor what it refers to, not at the end of this process either: freeing would close what the
    parent works with."""
    import ctypes  # noqa: PLC0415 - in a child alone

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))


def _count() -> None:
    global generation  # noqa: PLW0603 - there is one process
    generation += 1


os.register_at_fork(after_in_child=_count)
