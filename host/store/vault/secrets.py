"""The vault: secrets at rest.

Each value is sealed with AES-256-GCM under the vault's data key, and bound to the vault, its owner, its name, that key
and a revision of its own: it opens nowhere else. Which secrets an owner has, and in which revision, is under a keyed
digest, the owner's seal; and the record of the change that made a seal names it. So a value that was changed, moved, or
put back from before is found, and so is one that is missing, and an earlier state of all of them together.

The operator's own keys to sign with, each sealed in the vault: no grant reaches what has another owner.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from host.core.audit import Event, EventKind
from host.core.names import SecretName
from host.errors import InputError, NotFound, VaultError
from host.secrets.value import OPERATOR, SecretValue
from host.store.audit_log.log import AuditLog, Change
from host.store.tables import audit, seals
from host.store.tables import secrets as rows
from host.store.vault.aead import DecryptionFailed, decrypt, seal
from host.store.vault.keys import DataKey, Keys
from host.store.vault.master import Place
from host.trust.keys import Algorithm, PublicKey, SigningKey

_CHANGES: Final[tuple[EventKind, ...]] = ("secret.set", "secret.deleted", "key.rotated", "audit.pruned")


@dataclass(frozen=True, slots=True)
class _Kept:
    """A sealed value, and all that it is bound to beside its owner."""

    name: str
    changed_at: float
    vault: str
    key: str
    revision: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many secrets were sealed anew; where the master key was and is, if that was replaced."""

    secrets: int
    before: Place | None
    after: Place | None


class Vault:
    """One per process, thread-safe. Every method raises StateError; VaultError where other hands changed something:
    then nothing of that owner is read or written."""

    def __init__(self, audit_log: AuditLog, keys: Keys) -> None:
        self._audit_log = audit_log
        self._keys = keys

    def set(self, owner: str, name: SecretName, value: SecretValue) -> None:
        """Keep `value`, in place of one of that name. (Of a text with line breaks, such as a PEM, keep the base64.)"""
        with self._audit_log.changing() as change:
            others = [one for one in self._verified(change.connection, owner) if one.name != str(name)]
            new = self._seal(change.connection, owner, str(name), value.reveal().encode(), time.time())
            self._put(change, "secret.set", owner, str(name), [*others, new])

    def get(self, owner: str, name: SecretName) -> SecretValue | None:
        with self._audit_log.database.reading() as connection:
            for one in self._verified(connection, owner):
                if one.name == str(name):
                    return SecretValue(self._open(connection, owner, one).decode())
        return None

    def names(self, owner: str) -> list[tuple[SecretName, float]]:
        """Sorted, each with the time of its last change in Unix seconds."""
        with self._audit_log.database.reading() as connection:
            return [(SecretName.parse(one.name), one.changed_at) for one in self._verified(connection, owner)]

    def delete(self, owner: str, name: SecretName) -> bool:
        """Whether there was one."""
        with self._audit_log.changing() as change:
            kept = self._verified(change.connection, owner)
            others = [one for one in kept if one.name != str(name)]
            if len(others) < len(kept):
                self._put(change, "secret.deleted", owner, str(name), others)
            return len(others) < len(kept)

    def clear(self, owner: str) -> None:
        """Delete all of an owner's secrets without looking at them: the way out where they do not verify."""
        with self._audit_log.changing() as change:
            self._put(change, "secret.deleted", owner, "*", [])

    def rotate(self, *, new_master: bool = False, place: Place | None = None) -> Rotated:
        """New keys, under which all secrets of all owners are sealed anew; with `new_master` a new master key too, in
        `place` or where there is a place. What was replaced is removed, the master key last: whenever the process is
        killed, what is left opens. Raises InputError where the new master key is the one in use."""
        before = after = None
        with self._audit_log.changing() as change:
            told, count = self._reseal(change.connection)
            if new_master:
                before, after = self._keys.replace_master(change.connection, place)
            change.record(Event("key.rotated", "", detail={"master": new_master, "seals": told}))
        if before is not None:
            self._keys.forget(before)
        return Rotated(count, before.place if before else None, after.place if after else None)

    def _reseal(self, connection: Connection) -> tuple[dict[str, str], int]:
        """The seals of all owners, as the record of it tells them, and the number of secrets."""
        owners = connection.execute(select(seals.c.owner).union(select(rows.c.owner))).scalars().all()
        opened = {
            owner: [(one, self._open(connection, owner, one)) for one in self._verified(connection, owner)]
            for owner in owners
        }
        self._keys.replace(connection, "vault")
        self._keys.replace(connection, "secrets")
        told = {}
        for owner, values in opened.items():
            anew = [self._seal(connection, owner, one.name, value, one.changed_at) for one, value in values]
            told[owner] = self._write(connection, owner, anew)
        self._keys.drop_replaced(connection, "secrets")
        self._keys.drop_replaced(connection, "vault")
        return told, sum(map(len, opened.values()))

    def _put(self, change: Change, kind: EventKind, owner: str, name: str, kept: Sequence[_Kept]) -> None:
        told = {owner: self._write(change.connection, owner, kept)}
        change.record(Event(kind, "", detail={"owner": owner, "name": name, "seals": told}))

    def _write(self, connection: Connection, owner: str, kept: Sequence[_Kept]) -> str:
        """Make `kept` all that `owner` has. Returns the seal as it is told in the record."""
        values = [
            {column: getattr(one, column) for column in ("name", "changed_at", "key", "revision", "sealed")}
            for one in kept
        ]
        vault = self._keys.current(connection, "vault")
        mac = _mac(vault, owner, kept)
        for table in (rows, seals):
            connection.execute(delete(table).where(table.c.owner == owner))
        if values:
            connection.execute(insert(rows).values(owner=owner), values)
        connection.execute(insert(seals).values(owner=owner, key=vault.id, mac=mac))
        return mac.hex()

    def _verified(self, connection: Connection, owner: str) -> list[_Kept]:
        """All that `owner` has, sorted by name, or VaultError."""
        seal_row = connection.execute(select(seals.c.key, seals.c.mac).where(seals.c.owner == owner)).one_or_none()
        query = select(rows).where(rows.c.owner == owner)
        told = _last_told(connection, owner)
        if seal_row is None:
            if told is not None or connection.execute(query).first() is not None:
                raise _changed(owner)
            return []
        vault = self._keys.get(connection, seal_row.key)
        kept = [
            _Kept(one.name, one.changed_at, vault.id, one.key, one.revision, one.sealed)
            for one in connection.execute(query)
        ]
        if not hmac.compare_digest(_mac(vault, owner, kept), seal_row.mac) or told not in (None, seal_row.mac.hex()):
            raise _changed(owner)
        return sorted(kept, key=lambda one: one.name)

    def _seal(self, connection: Connection, owner: str, name: str, value: bytes, changed_at: float) -> _Kept:
        vault, key = (self._keys.current(connection, purpose) for purpose in ("vault", "secrets"))
        revision = secrets.token_hex(16)
        sealed = seal(key.key, value, "secret", vault.id, owner, name, key.id, revision)
        return _Kept(name, changed_at, vault.id, key.id, revision, sealed)

    def _open(self, connection: Connection, owner: str, kept: _Kept) -> bytes:
        key = self._keys.get(connection, kept.key)
        try:
            return decrypt(key.key, kept.sealed, "secret", kept.vault, owner, kept.name, key.id, kept.revision)
        except DecryptionFailed:
            raise _changed(owner) from None


def _mac(vault: DataKey, owner: str, kept: Sequence[_Kept]) -> bytes:
    """The seal of an owner: HMAC-SHA256 (RFC 2104) over which secrets there are, in which revision."""
    there = sorted([one.name, one.changed_at, one.key, one.revision] for one in kept)
    return hmac.digest(vault.key, json.dumps([vault.id, owner, there]).encode(), "sha256")


def _last_told(connection: Connection, owner: str) -> str | None:
    """The seal that the newest record of a change of `owner`'s secrets tells; None where there is no such record."""
    records = (
        select(audit.c.detail)
        .where(audit.c.kind.in_(_CHANGES), audit.c.detail.contains(json.dumps(owner), autoescape=True))
        .order_by(audit.c.seq.desc())
        .execution_options(yield_per=10)
    )
    with connection.execute(records) as found:
        for detail in found.scalars():
            try:
                told: str | None = json.loads(detail)["seals"].get(owner)
            except (ValueError, KeyError, TypeError, AttributeError):
                raise _changed(owner) from None
            if told is not None:
                return told
    return None


def recorded_digests(connection: Connection) -> dict[str, str]:
    """For each owner, the seal that the newest record of a change tells: for a record to tell them all again, before
    those are pruned. What cannot be read is passed over."""
    told: dict[str, str] = {}
    records = select(audit.c.detail).where(audit.c.kind.in_(_CHANGES)).order_by(audit.c.seq)
    for detail in connection.execute(records).scalars():
        with suppress(ValueError, KeyError, TypeError):
            told |= json.loads(detail)["seals"]
    return told


def _changed(owner: str) -> VaultError:
    return VaultError(
        f"the secrets of {owner!r} were changed in the database, and not by this program",
        hint="put back a backup of the whole state" + (_WAY_OUT if owner == OPERATOR else ""),
    )


_WAY_OUT = ", or delete them all and set them anew: host secret delete --all"


OWNER: Final = "signing-keys"
_GENERATE = "host signing-key generate NAME makes one"


@dataclass(frozen=True, slots=True)
class OwnKey:
    """`made_at` is Unix time in seconds."""

    name: SecretName
    public: PublicKey
    made_at: float


class SigningKeys:
    """One per process, thread-safe. Every method raises StateError."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def generate(self, name: SecretName, algorithm: Algorithm = "ecdsa-p256") -> SigningKey:
        """Raises InputError where there is one of that name: what it signed would be nobody's."""
        if name in self._names():
            raise InputError(f"there is a signing key {name} already", field="name", hint="give this one another name")
        key = SigningKey.generate(algorithm)
        self._vault.set(OWNER, name, SecretValue(base64.b64encode(key.private_pem().encode()).decode()))
        return key

    def get(self, name: SecretName | None = None) -> SigningKey:
        """The key `name`; None: the only one. Raises NotFound, and InputError where there are several."""
        if name is None:
            name = self._only()
        value = self._vault.get(OWNER, name)
        if value is None:
            raise NotFound(f"there is no signing key {name}", field="name", hint=_GENERATE)
        return _opened(name, value)

    def all(self) -> list[OwnKey]:
        """Sorted by name."""
        return [OwnKey(name, self.get(name).public, made_at) for name, made_at in self._names().items()]

    def _names(self) -> dict[SecretName, float]:
        return dict(self._vault.names(OWNER))

    def _only(self) -> SecretName:
        names = list(self._names())
        if not names:
            raise NotFound("there is no signing key", field="name", hint=_GENERATE)
        if len(names) > 1:
            raise InputError(
                f"there are {len(names)} signing keys: {', '.join(map(str, names))}", field="name", hint="--key NAME"
            )
        return names[0]


def _opened(name: SecretName, value: SecretValue) -> SigningKey:
    try:
        return SigningKey.parse(base64.b64decode(value.reveal(), validate=True))
    except (ValueError, InputError):
        raise VaultError(f"the signing key {name} cannot be read") from None
