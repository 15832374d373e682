"""A component that is installed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from host.manifest import Manifest
from host.names import Digest, Reference
from host.trust.versions import is_prerelease, order


@dataclass(frozen=True, slots=True)
class Component:
    """One that is installed. `size` in bytes, `registered_at` Unix time, `source` the file or oci:// reference that it
    came from."""

    reference: Reference
    digest: Digest
    size: int
    manifest: Manifest | None
    imports: tuple[str, ...]
    source: str
    registered_at: float
    approved: bool

    @property
    def description(self) -> str:
        return self.manifest.description if self.manifest else ""


def latest(found: Iterable[Component]) -> Component:
    """The highest version by semver that is no prerelease; of prereleases only, the highest; of those that differ in
    their build alone, which semver calls the same, the last by letter."""
    return max(
        found,
        key=lambda one: (not is_prerelease(one.reference.version), order(one.reference.version), str(one.reference)),
    )


def parse_manifest(text: str) -> Manifest | None:
    """As it is kept: "" for none."""
    return Manifest.parse(text) if text else None
