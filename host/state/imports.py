"""The parts of WASI, beyond the harmless ones, that the operator lets a component import."""

from __future__ import annotations

from typing import ClassVar, Literal

from host.audit import EventKind
from host.errors import InputError
from host.state.settings import Document, Settings


class Imports(Settings):
    """Names of interfaces, each with the value true."""

    section: ClassVar[Literal["import"]] = "import"
    kind: ClassVar[EventKind] = "import.changed"
    forget: ClassVar[str] = "host unregister"

    def check(self, document: Document) -> None:
        for name, value in document.items():
            if not name.startswith("wasi:") or value is not True:
                raise InputError(f"{name[:80]!r} is not a part of WASI", field=name, hint="like wasi:io/poll")
