"""The difference between the permissions that two versions of a component request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from host.component.manifest import Manifest
from host.core.strict_json import Json
from host.policy.permissions import Requested, requested_by

_ANY = "(any)"  # stands for a manifest without the field, which sets no bound; no domain or secret has this name


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """All that a component requests: its imports, and the domains and secrets of its manifest."""

    imports: frozenset[str]
    requested: Requested

    @classmethod
    def of(cls, imports: Iterable[str], manifest: Manifest | None, config: Mapping[str, Json]) -> PermissionRequest:
        """Raises ManifestError, InputError (see `requested_by`)."""
        return cls(frozenset(imports), requested_by(manifest, config))

    @classmethod
    def nothing(cls) -> PermissionRequest:
        return cls(frozenset(), Requested((), frozenset()))

    def lines(self) -> frozenset[tuple[str, str]]:
        """Pairs of a kind (import, domain or secret) and a name."""
        domains = (_ANY,) if self.requested.domains is None else map(str, self.requested.domains)
        secrets = (_ANY,) if self.requested.secrets is None else map(str, self.requested.secrets)
        return frozenset(
            [("import", name) for name in self.imports]
            + [("domain", name) for name in domains]
            + [("secret", name) for name in secrets]
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """`more` is requested in addition, `less` no longer: pairs of kind and name, sorted."""

    more: tuple[tuple[str, str], ...]
    less: tuple[tuple[str, str], ...]

    @classmethod
    def between(cls, before: PermissionRequest, after: PermissionRequest) -> Difference:
        had, has = before.lines(), after.lines()
        return cls(tuple(sorted(has - _covered(had, has))), tuple(sorted(had - _covered(has, had))))


def _covered(by: frozenset[tuple[str, str]], wanted: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """The pairs of `wanted` that `by` has too, or covers by `_ANY`."""
    return frozenset(one for one in wanted if one in by or (one[0], _ANY) in by)
