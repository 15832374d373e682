"""Trusted keys: which keys the operator trusts for which namespaces, and the rule of a namespace."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from host.core.audit import Event
from host.core.names import Reference
from host.errors import InputError, NotFound, StateError
from host.store.audit_log.log import AuditLog
from host.store.connections import Row, StateConnection
from host.store.sql import select
from host.store.tables import rules, trusted_keys
from host.trust.verification import Rule, Trust, TrustedKey

if TYPE_CHECKING:
    from host.trust.keys import PublicKey

_PREFIX: Final = "sha256:"
_LEAST_DIGITS: Final = 8  # of an id that is not given whole


@dataclass(frozen=True, slots=True)
class KeptKey:
    """A trusted key as it is stored. Times are Unix time in seconds; `revoked_at` None: the key is not revoked."""

    trusted: TrustedKey
    added_at: float
    revoked_at: float | None

    @property
    def id(self) -> str:
        return self.trusted.key.id


class TrustStore:
    """One per process, thread-safe. Each change is recorded in its transaction; a call that changes nothing is not
    recorded. Every method raises StateError, also if a row cannot be read: then no key is trusted."""

    def __init__(self, audit_log: AuditLog) -> None:
        self._audit_log = audit_log

    def snapshot(self) -> Trust:
        """The keys and rules for verification."""
        with self._audit_log.database.reading() as connection:
            return Trust([one.trusted for one in _keys(connection)], _rules(connection))

    def all(self) -> list[KeptKey]:
        """All keys, revoked ones too, in the order of their addition."""
        with self._audit_log.database.reading() as connection:
            return _keys(connection)

    def rules(self) -> Mapping[str, Rule]:
        """The rules that the operator made, by namespace."""
        with self._audit_log.database.reading() as connection:
            return _rules(connection)

    def key(self, ident: str) -> KeptKey:
        """The key whose id is `ident` or begins with it. Raises NotFound."""
        with self._audit_log.database.reading() as connection:
            return _find(_keys(connection), ident)

    def add(self, key: PublicKey, namespaces: Iterable[str], comment: str = "") -> KeptKey:
        """Trust `key` for `namespaces`, in addition to its present ones. A `comment` that is not empty replaces the
        present one. Raises InputError for a revoked key: revocation is for good."""
        wanted = frozenset(check_namespace(one) for one in namespaces)
        if not wanted:
            raise InputError("a key is trusted for at least one namespace", field="namespace")
        with self._audit_log.changing() as change:
            before = next((one for one in _keys(change.connection) if one.id == key.id), None)
            if before is not None and before.trusted.revoked:
                raise InputError(f"the key {key.id} was revoked", hint="a revoked key is never trusted again")
            new = sorted(wanted - (before.trusted.namespaces if before else frozenset()))
            known = before.trusted.comment if before else ""
            said = comment or known
            if not new and said == known:
                return _find(_keys(change.connection), key.id)
            for namespace in new:
                values = {"id": key.id, "namespace": namespace, "pem": key.pem, "comment": said}
                change.insert(trusted_keys, **values, added_at=time.time())
            change.update(trusted_keys, {"id": key.id}, comment=said)
            detail = {"key": key.id, "namespaces": new, "comment": said}
            change.record(Event("trust.added", "", detail=detail))
            return _find(_keys(change.connection), key.id)

    def revoke(self, ident: str) -> KeptKey:
        """No signature of the key verifies any more, of whatever time. Raises NotFound."""
        with self._audit_log.changing() as change:
            found = _find(_keys(change.connection), ident)
            if found.trusted.revoked:
                return found
            change.update(trusted_keys, {"id": found.id}, revoked_at=time.time())
            change.record(Event("trust.revoked", "", detail={"key": found.id}))
            return _find(_keys(change.connection), found.id)

    def require(self, namespace: str, rule: Rule | None) -> None:
        """Set the rule of `namespace`; None: the default rule. Raises InputError."""
        name = check_namespace(namespace)
        with self._audit_log.changing() as change:
            if _rules(change.connection).get(name) == rule:
                return
            change.delete(rules, namespace=name)
            detail: dict[str, Any] = {"namespace": name, "rule": None}
            if rule is not None:
                detail["rule"] = {"require_signature": rule.require_signature, "threshold": rule.threshold}
                change.insert(rules, namespace=name, **detail["rule"])
            change.record(Event("trust.ruled", "", detail=detail))


def check_namespace(text: str) -> str:
    """Returns `text` if it can be the namespace of a reference. Raises InputError."""
    found: str | None = None
    with suppress(InputError):
        found = Reference.parse(f"catalyst:{text}.any").namespace
    if found != text:
        raise InputError(
            f"{text[:80]!r} is not a namespace", field="namespace", hint="acme, of c:acme.openai, is: a-z, 0-9 and -"
        )
    return text


def _keys(connection: StateConnection) -> list[KeptKey]:
    by_id: dict[str, list[Row]] = {}
    for row in connection.execute(select(trusted_keys).order_by(trusted_keys.c.added_at, trusted_keys.c.namespace)):
        by_id.setdefault(row.id, []).append(row)
    return [_kept(ident, found) for ident, found in by_id.items()]


def _kept(ident: str, found: list[Row]) -> KeptKey:
    """The key of several rows, one for each namespace. If the rows differ, the one that trusts least counts."""
    from host.trust.keys import PublicKey  # noqa: PLC0415 - most states trust no key

    try:
        key = PublicKey.parse(found[0].pem)
    except InputError:
        raise _unreadable(f"the trusted key {ident}") from None
    if key.id != ident:
        raise _unreadable(f"the trusted key {ident}")
    revoked = [row.revoked_at for row in found if row.revoked_at is not None]
    namespaces = frozenset(row.namespace for row in found)
    trusted = TrustedKey(key, namespaces, revoked=bool(revoked), comment=found[0].comment)
    return KeptKey(trusted, found[0].added_at, min(revoked, default=None))


def _rules(connection: StateConnection) -> dict[str, Rule]:
    try:
        return {
            row.namespace: Rule(require_signature=row.require_signature, threshold=row.threshold)
            for row in connection.execute(select(rules).order_by(rules.c.namespace))
        }
    except InputError:
        raise _unreadable("the rule of a namespace") from None


def _find(kept: Iterable[KeptKey], ident: str) -> KeptKey:
    digits = ident.removeprefix(_PREFIX)
    if len(digits) < _LEAST_DIGITS:
        raise NotFound(
            f"{ident[:80]!r} is too short for a key's id",
            field="key",
            hint=f"its first {_LEAST_DIGITS} digits at least, as host trust list shows them",
        )
    found = [one for one in kept if one.id.removeprefix(_PREFIX).startswith(digits)]
    if len(found) != 1:
        raise NotFound(f"no trusted key is {ident[:80]!r}", field="key", hint="host trust list shows those there are")
    return found[0]


def _unreadable(what: str) -> StateError:
    return StateError(f"{what} was changed in the database, and cannot be read", hint="put back a backup of the state")
