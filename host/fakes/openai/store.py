"""What a fake keeps: objects by the path of their collection, and the clock by which they age.

The clock stands still, so that two runs of a test give the same answers, until `advance` sets it forward. Work that
OpenAI does in the background goes on by one step each time that somebody looks at its object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_ENDED = {"cancelled", "canceled", "completed", "failed", "expired", "succeeded", "incomplete", "archived"}
CREATED = 1_700_000_000  # the Unix time at which every fake begins


@dataclass
class Stored:
    """One object. `fields` has more than is shown, where another operation shows it."""

    fields: dict[str, Any]
    steps: list[Callable[[], object]] = field(default_factory=list)  # of the work that is left
    content: bytes = b""
    media_type: str = "application/octet-stream"
    when_expired: dict[str, Any] | None = None  # the fields that it takes on at `expires_at`; None: it is gone

    @property
    def id(self) -> str:
        return str(self.fields["id"])

    @property
    def has_ended(self) -> bool:
        return self.fields.get("status") in _ENDED

    def become(self, **fields: Any) -> None:
        self.fields.update(fields)


@dataclass
class Store:
    """Objects by the concrete path of their collection, such as `/v1/threads/thread_1/messages`, oldest first."""

    now: int = CREATED
    numbers: int = 0
    collections: dict[str, dict[str, Stored]] = field(default_factory=dict)

    def next_number(self) -> int:
        """Makes the identifiers of equal requests differ."""
        self.numbers += 1
        return self.numbers

    def put(self, collection: str, stored: Stored, name: str | None = None) -> Stored:
        """Keeps it under `name`, by default its identifier."""
        self.collections.setdefault(collection, {})[name or stored.id] = stored
        return stored

    def all(self, collection: str) -> list[Stored]:
        """Those that are there now, oldest first."""
        found = (self.find(collection, identifier) for identifier in list(self.collections.get(collection, ())))
        return [stored for stored in found if stored is not None]

    def find(self, collection: str, identifier: str) -> Stored | None:
        stored = self.collections.get(collection, {}).get(identifier)
        if stored is None or (stored.fields.get("expires_at") or self.now + 1) > self.now:
            return stored
        if stored.when_expired is None:
            self.remove(collection, identifier)
            return None
        if not stored.has_ended:
            stored.steps.clear()
            stored.become(**stored.when_expired)
        return stored

    def remove(self, collection: str, identifier: str) -> None:
        """Removes the object, and all that is below it."""
        del self.collections[collection][identifier]
        below = f"{collection}/{identifier}/"
        for path in [path for path in self.collections if path.startswith(below)]:
            del self.collections[path]
