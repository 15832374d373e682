"""Principals: who makes a request, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from host.core.names import Reference
from host.errors import Forbidden

if TYPE_CHECKING:
    from host.store.access.api_keys import ApiKey, KeyScope

ANONYMOUS_SCOPES: frozenset[KeyScope] = frozenset({"run", "runs", "components", "metrics"})
"""For callers on the loopback interface while there is no key: everything but management."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of `key`. Without a key: a caller on the loopback interface while there is no key, or the operator at
    their own terminal."""

    key: ApiKey | None
    scopes: frozenset[KeyScope]

    @classmethod
    def of(cls, key: ApiKey) -> Principal:
        return cls(key, key.scopes)

    @property
    def id(self) -> str:
        """The key's id; "" without a key."""
        return self.key.id if self.key else ""

    @property
    def name(self) -> str:
        """The key's name; "" without a key."""
        return self.key.name if self.key else ""

    @property
    def for_some_models(self) -> bool:
        return self.key is not None and bool(self.key.models)

    def may(self, scope: KeyScope) -> bool:
        return scope in self.scopes

    def require(self, scope: KeyScope) -> None:
        """Raises Forbidden."""
        if scope not in self.scopes:
            what = f"the key {self.name!r} does not have" if self.key else "this takes a key with"
            raise Forbidden(
                f"{what} the scope {scope!r}",
                hint=f"the operator makes one: host key create --name NAME {_WITH[scope]}",
            )

    def may_use(self, reference: Reference) -> bool:
        """Whether the key is for the catalyst of this reference, which has a version."""
        if self.key is None or not self.key.catalysts:
            return True
        return reference in self.key.catalysts or reference.any_version in self.key.catalysts

    def may_ask(self, model: str) -> bool:
        """Whether the key is for the model of this name."""
        return self.key is None or not self.key.models or any(fnmatchcase(model, glob) for glob in self.key.models)

    def require_catalyst(self, reference: Reference) -> None:
        """Raises Forbidden."""
        if not self.may_use(reference):
            raise Forbidden(f"the key {self.name!r} is not for the catalyst {reference.any_version}")

    def require_model(self, *names: str) -> None:
        """`names` are all names of one model. Raises Forbidden where the key is for none of them."""
        if not any(map(self.may_ask, names)):
            raise Forbidden(f"the key {self.name!r} is not for the model {names[0][:200]!r}")

    def require_any_model(self) -> None:
        """For a request that names no model, and could. Raises Forbidden for a key that is for some models."""
        if self.for_some_models:
            raise Forbidden(f"the key {self.name!r} is for some models alone, and the request names none")


OPERATOR: Final = Principal(None, frozenset({"run", "runs", "components", "metrics", "manage"}))
"""The operator at their own terminal."""

_WITH: dict[KeyScope, str] = {
    "run": "--type secret --scope run",
    "runs": "--type secret --scope runs",
    "components": "--type secret --scope components",
    "metrics": "--type secret --scope metrics",
    "manage": "--type admin --scope manage",
}
