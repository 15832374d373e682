"""The configuration that an operator keeps: what a catalyst may read (`base_url`, …)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Literal

from host.audit import EventKind
from host.errors import InputError
from host.jsontext import Json
from host.names import Reference
from host.state.settings import Document, Settings

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}\Z")


class Config(Settings):
    section: ClassVar[Literal["config"]] = "config"
    kind: ClassVar[EventKind] = "config.changed"
    forget: ClassVar[str] = "host config unset"

    def check(self, document: Document) -> None:
        for key in document:
            if not _KEY.match(key):
                raise InputError(f"{key[:80]!r} is not a key", field=key, hint="letters, digits, _ . and -")

    def recorded(self, values: Mapping[str, Json]) -> Json:
        """The keys alone: what stands in a configuration is for the catalyst."""
        return sorted(values)

    def effective(self, reference: Reference) -> Document:
        """What `reference` reads. Raises StateError."""
        return {key: setting.value for key, setting in self.merged(reference).items()}
