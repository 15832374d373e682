"""What one version of a catalyst asks for beside another: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from host.component.manifest import Manifest
from host.core.strict_json import Json
from host.policy.permissions import Asked, asked_by

_ANY = "(any)"  # a manifest that does not say, or none at all, sets no bound; no domain or secret can be called so


@dataclass(frozen=True, slots=True)
class Request:
    """All that a component asks for: its imports, and the bounds that its manifest sets itself."""

    imports: frozenset[str]
    asked: Asked

    @classmethod
    def of(cls, imports: Iterable[str], manifest: Manifest | None, config: Mapping[str, Json]) -> Request:
        """Raises ManifestError, InputError (see `asked_by`)."""
        return cls(frozenset(imports), asked_by(manifest, config))

    @classmethod
    def nothing(cls) -> Request:
        return cls(frozenset(), Asked((), frozenset()))

    def lines(self) -> frozenset[tuple[str, str]]:
        """Each thing that is asked for, with its kind: import, domain or secret."""
        domains = (_ANY,) if self.asked.domains is None else map(str, self.asked.domains)
        secrets = (_ANY,) if self.asked.secrets is None else map(str, self.asked.secrets)
        return frozenset(
            [("import", name) for name in self.imports]
            + [("domain", name) for name in domains]
            + [("secret", name) for name in secrets]
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """`more` is asked for in addition, `less` no longer: pairs of kind and name, sorted."""

    more: tuple[tuple[str, str], ...]
    less: tuple[tuple[str, str], ...]

    @classmethod
    def between(cls, before: Request, after: Request) -> Difference:
        had, has = before.lines(), after.lines()
        return cls(tuple(sorted(has - _covered(had, has))), tuple(sorted(had - _covered(has, had))))


def _covered(by: frozenset[tuple[str, str]], wanted: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Those of `wanted` that `by` has, be it as `_ANY`."""
    return frozenset(one for one in wanted if one in by or (one[0], _ANY) in by)
