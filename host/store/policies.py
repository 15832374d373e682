"""What the operator lets a component do: its policy, its configuration, the parts of WASI that it may import beyond the
harmless ones, and the secrets that are granted to it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Literal

from host.core.audit import Event, EventKind
from host.core.names import Reference, SecretName, check_version
from host.core.strict_json import Json
from host.errors import HostError, InputError, NotFound, PolicyError, StateError
from host.policy.document import (
    DEFAULT,
    Effective,
    Policy,
    SecretGrant,
    SecretRule,
    listed_places,
    read_places,
)
from host.policy.urls import DomainPattern
from host.store.audit_log.log import AuditLog
from host.store.connections import Row, StateConnection
from host.store.settings import Document, Settings
from host.store.sql import select
from host.store.tables import secret_grants

FIELDS: Final = tuple(one.name for one in fields(Policy))


class Policies(Settings):
    """Policies, in the form of `Policy` documents. `Policy` parses a document when it is written and when it is read: a
    malformed one raises PolicyError, which denies the run."""

    section: ClassVar[Literal["policy"]] = "policy"
    kind: ClassVar[EventKind] = "policy.changed"
    forget: ClassVar[str] = "host policy reset"

    def check(self, document: Document) -> None:
        Policy.from_document(document)

    def effective(self, reference: Reference) -> Effective:
        """The policy for a run of `reference`. Raises PolicyError, and StateError if the stored rows are damaged."""
        merged = self.merged(reference)
        try:
            policy = Policy.from_document({field: setting.value for field, setting in merged.items()})
        except PolicyError as error:
            raise PolicyError(
                f"the policy of {reference}: {error.message}", field=error.field, hint=error.hint
            ) from None
        origins = {field: str(merged[field].scope) if field in merged else DEFAULT for field in FIELDS}
        return Effective(reference, policy, origins)


_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}\Z")


class Config(Settings):
    """Configuration: the values that a catalyst may read (`base_url`, …)."""

    section: ClassVar[Literal["config"]] = "config"
    kind: ClassVar[EventKind] = "config.changed"
    forget: ClassVar[str] = "host config unset"

    def check(self, document: Document) -> None:
        for key in document:
            if not _KEY.match(key):
                raise InputError(f"{key[:80]!r} is not a key", field=key, hint="letters, digits, _ . and -")

    def recorded(self, values: Mapping[str, Json]) -> Json:
        """The keys alone: the values are for the catalyst."""
        return sorted(values)

    def effective(self, reference: Reference) -> Document:
        """The configuration that `reference` reads. Raises StateError."""
        return {key: setting.value for key, setting in self.merged(reference).items()}


class Imports(Settings):
    """Imports of WASI that are allowed: names of interfaces, each with the value true."""

    section: ClassVar[Literal["import"]] = "import"
    kind: ClassVar[EventKind] = "import.changed"
    forget: ClassVar[str] = "host unregister"

    def check(self, document: Document) -> None:
        for name, value in document.items():
            if not name.startswith("wasi:") or value is not True:
                raise InputError(f"{name[:80]!r} is not a part of WASI", field=name, hint="like wasi:io/poll")


@dataclass(frozen=True, slots=True)
class Granted:
    """A secret that is granted to a component. A `reference` without a version stands for all versions. `grant` None:
    the component's policy says where the secret may go. `at` is Unix time in seconds."""

    reference: Reference
    secret: SecretName
    grant: SecretGrant | None
    at: float


class SecretGrants:
    """One per process, thread-safe. A grant for one version replaces the grant for all versions. Methods raise
    StateError."""

    def __init__(self, audit_log: AuditLog) -> None:
        self._audit_log = audit_log

    def grant(
        self,
        reference: Reference,
        name: SecretName,
        *,
        domains: Sequence[str] | None = None,
        places: Sequence[str] = ("header",),
        reveal: bool = False,
    ) -> None:
        """Grant `name` to `reference`, in place of any grant of it to the same reference. With all defaults, the
        component's policy says where the secret may go. Raises PolicyError, which names the field."""
        SecretRule(domains=domains, places=places, reveal=reveal)  # checks them
        bound = None if domains is None else [str(DomainPattern.parse(text)) for text in domains]
        into = listed_places(read_places(places))
        granted = {"reference": str(reference), "secret": str(name), "domains": bound, "in": into, "reveal": reveal}
        with self._audit_log.changing() as change:
            at = {"secret": str(name), "subject": reference.subject, "version": reference.version}
            change.delete(secret_grants, **at)
            change.insert(
                secret_grants,
                **at,
                domains=None if bound is None else json.dumps(bound),
                places=json.dumps(into),
                reveal=reveal,
                granted_at=time.time(),
            )
            change.record(Event("secret.granted", "", detail=granted))

    def revoke(self, reference: Reference, name: SecretName) -> None:
        """Revoke the grant to `reference`; without a version, the grants to each version too. Raises NotFound if there
        is none, and if a version is covered by the grant for all versions only."""
        with self._audit_log.changing() as change:
            version = {"version": reference.version} if reference.version else {}
            if not change.delete(secret_grants, secret=str(name), subject=reference.subject, **version):
                self._refuse_revoke(change.connection, reference, name)
            change.record(Event("secret.revoked", "", detail={"reference": str(reference), "secret": str(name)}))

    def of(self, reference: Reference) -> Mapping[SecretName, SecretGrant | None]:
        """The grants that hold for `reference`, those for all versions included. None: the policy says where the secret
        may go."""
        query = (
            select(secret_grants)
            .where(
                secret_grants.c.subject == reference.subject,
                secret_grants.c.version.in_(("", reference.version)),
            )
            .order_by(secret_grants.c.version)  # "" first: a later row replaces it
        )
        with self._audit_log.database.reading() as connection:
            return {granted.secret: granted.grant for granted in map(_granted, connection.execute(query))}

    def all(self) -> list[Granted]:
        """All grants, sorted by reference and name."""
        with self._audit_log.database.reading() as connection:
            found = [_granted(row) for row in connection.execute(select(secret_grants))]
        return sorted(found, key=lambda one: (str(one.reference), str(one.secret)))

    def _refuse_revoke(self, connection: StateConnection, reference: Reference, name: SecretName) -> None:
        above = reference.any_version
        covered = connection.execute(select(secret_grants.c.version).where(*_exactly(above, name))).first()
        if covered is None:
            raise NotFound(f"{name} is not granted to {reference}", hint="host secret list shows what is")
        raise NotFound(
            f"{name} is granted to all versions of {above}, and not to {reference} alone",
            hint=f"host secret revoke {above} {name}",
        )


def _exactly(reference: Reference, name: SecretName) -> tuple[Any, Any, Any]:
    columns = secret_grants.c
    return columns.secret == str(name), columns.subject == reference.subject, columns.version == reference.version


def _granted(row: Row) -> Granted:
    """Raises StateError for a row that this program does not write: an unreadable grant grants nothing."""
    try:
        reference = Reference.parse(row.subject).at(check_version(row.version) if row.version else "")
        name = SecretName.parse(row.secret)
        domains, places = json.loads(row.domains or "null"), json.loads(row.places)
        if not isinstance(domains, list | None):
            raise PolicyError("domains are a list")
        SecretRule(domains=domains, places=places, reveal=row.reveal)
    except (HostError, ValueError) as error:
        raise StateError("a grant of a secret cannot be read: its row was changed") from error
    bound = None if domains is None else tuple(map(DomainPattern.parse, domains))
    grant = SecretGrant(name, bound, read_places(places), row.reveal)
    return Granted(reference, name, None if grant == SecretGrant(name, None) else grant, row.granted_at)
