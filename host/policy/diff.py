"""The difference between the permissions that two versions of a component request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from host.component.manifest import Manifest
from host.core.names import SecretName
from host.core.strict_json import Json
from host.policy.permissions import Requested, requested_by

_ANY = "(any)"  # stands for a manifest without the field, which sets no bound; no domain or secret has this name


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """All that a component requests: its imports, and the domains, secrets and callers' headers of its manifest."""

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
        """Pairs of a kind (import, domain, secret, header, destination or forwarded header) and a name. Header and
        destination are what the manifest declares for a secret; where it names no destination for one, there is no line
        (see `Difference`)."""
        domains = (_ANY,) if self.requested.domains is None else map(str, self.requested.domains)
        secrets = (_ANY,) if self.requested.secrets is None else map(str, self.requested.secrets)
        return frozenset(
            [("import", name) for name in self.imports]
            + [("domain", name) for name in domains]
            + [("secret", name) for name in secrets]
            + [("forwarded header", name) for name in self.requested.headers]
            + [
                (kind, f"{name}, for the secret {secret}")
                for secret, declared in self.requested.declared.items()
                for kind, names in (("header", declared.headers), ("destination", declared.domains or ()))
                for name in names
            ]
        )

    def directed(self) -> frozenset[SecretName]:
        """The secrets that it requests with their destinations."""
        return frozenset(name for name, one in self.requested.declared.items() if one.domains is not None)


@dataclass(frozen=True, slots=True)
class Difference:
    """`more` is requested in addition, `less` no longer: pairs of kind and name, sorted. A secret that was requested
    with its destinations, and is now without, has a destination `(any)` in `more`."""

    more: tuple[tuple[str, str], ...]
    less: tuple[tuple[str, str], ...]

    @classmethod
    def between(cls, before: PermissionRequest, after: PermissionRequest) -> Difference:
        had, has = before.lines(), after.lines()
        loose = (before.directed() - after.directed()) & (after.requested.secrets or frozenset())
        more = has - _covered(had, has) | {("destination", f"{_ANY}, for the secret {name}") for name in loose}
        return cls(tuple(sorted(more)), tuple(sorted(had - _covered(has, had))))


def _covered(by: frozenset[tuple[str, str]], wanted: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """The pairs of `wanted` that `by` has too, or covers by `_ANY`."""
    return frozenset(one for one in wanted if one in by or (one[0], _ANY) in by)
