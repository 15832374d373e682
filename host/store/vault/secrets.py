"""The vault: secrets at rest.

Each value is encrypted with AES-256-GCM under the vault's data key, and bound to the vault, its owner, its name, that
key and a random revision: it decrypts in no other row. A keyed digest, one for each owner, covers which secrets there
are and in which revision (table `seals`). The audit log's record of each change holds that digest too. So a value that
was changed, moved, removed or put back is found, and so is an earlier state of all of them together.

The operator's signing keys are secrets of an owner of their own, which no grant reaches.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from host.core.audit import Event, EventKind
from host.core.fields import did_you_mean
from host.core.names import SecretName
from host.errors import InputError, NotFound, VaultError
from host.secrets.value import OPERATOR, SecretValue
from host.store.audit_log.log import AuditLog, Change
from host.store.connections import StateConnection
from host.store.sql import delete, insert, select
from host.store.tables import audit, seals
from host.store.tables import secrets as rows
from host.store.vault.aead import DecryptionFailed, decrypt, encrypt
from host.store.vault.keys import DataKey, Keys
from host.store.vault.master import KeyPlace
from host.store.vault.tokens import Token, TokenSource, digest_of, read_source, write_source

if TYPE_CHECKING:
    from host.trust.keys import Algorithm, PublicKey, SigningKey

_CHANGES: Final[tuple[EventKind, ...]] = (
    *("secret.set", "secret.refreshed", "secret.deleted"),
    *("key.rotated", "audit.pruned"),
)
TOKENS: Final = "tokens"  # the owner of tokens in use, each by the names of its secret and of who uses it
_SOURCE: Final = b"\0"  # before a source of tokens in place of a value: no value begins so


@dataclass(frozen=True, slots=True)
class _Row:
    """An encrypted value, and all that it is bound to beside its owner."""

    name: str
    changed_at: float
    vault: str
    key: str
    revision: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rotated:
    """`secrets` counts the re-encrypted secrets. `before` and `after` are the places of the old and the new master key;
    None if it was not replaced."""

    secrets: int
    before: KeyPlace | None
    after: KeyPlace | None


class Vault:
    """One per process, thread-safe. Every method raises StateError; VaultError if other hands changed secrets of the
    owner, and then reads and writes none of them."""

    def __init__(self, audit_log: AuditLog, keys: Keys) -> None:
        self._audit_log = audit_log
        self._keys = keys

    def set(self, owner: str, name: SecretName, value: SecretValue) -> None:
        """Store `value`, in place of one with that name. A text with line breaks, such as a PEM, has to be stored as
        base64."""
        with self._audit_log.changing() as change:
            rows = self._replacing(change, owner, str(name), value.reveal().encode())
            self._put(change, "secret.set", owner, str(name), rows)

    def get(self, owner: str, name: SecretName) -> SecretValue | None:
        """None also where a source of tokens is kept in place of a value."""
        with self._audit_log.database.reading() as connection:
            found = self._found(connection, owner, str(name))
        return None if found is None or found.startswith(_SOURCE) else SecretValue(found.decode())

    def set_source(self, name: SecretName, source: TokenSource) -> TokenSource:
        """Keep `source`, of tokens that expire, in place of a value of the operator's secret `name`. No token that was
        had before is used any more. Returns it as it is kept."""
        source = replace(source, set_id=secrets.token_hex(16))
        with self._audit_log.changing() as change:
            rows = self._replacing(change, OPERATOR, str(name), _SOURCE + write_source(source).encode())
            self._put(change, "secret.set", OPERATOR, str(name), rows)
        return source

    def source(self, name: SecretName) -> TokenSource | None:
        """None where there is a value, or nothing."""
        with self._audit_log.database.reading() as connection:
            return self._source(connection, name)

    def token(self, name: SecretName, user: str) -> Token | None:
        """The last token of the secret `name` for `user`, a component without its version."""
        with self._audit_log.database.reading() as connection:
            found = self._found(connection, TOKENS, f"{name}@{user}")
        return None if found is None else Token.parse(found.decode())

    def keep_token(self, name: SecretName, user: str, token: Token, source: TokenSource) -> None:
        """Keep `token`, and `source` as it is now: its refresh token may be another. Does nothing where the operator
        has set something else meanwhile."""
        with self._audit_log.changing() as change:
            before = self._source(change.connection, name)
            if before is None or digest_of(before) != token.source:
                return
            rows = self._replacing(change, TOKENS, f"{name}@{user}", token.sealed_text().encode())
            digests = {TOKENS: self._write(change, TOKENS, rows)}
            if source != before:
                rows = self._replacing(change, OPERATOR, str(name), _SOURCE + write_source(source).encode())
                digests[OPERATOR] = self._write(change, OPERATOR, rows)
            detail = {"name": str(name), "reference": user, "expires_at": round(token.expires_at), "seals": digests}
            change.record(Event("secret.refreshed", "", detail=detail))

    def _source(self, connection: StateConnection, name: SecretName) -> TokenSource | None:
        found = self._found(connection, OPERATOR, str(name))
        return read_source(found[1:].decode()) if found is not None and found.startswith(_SOURCE) else None

    def _found(self, connection: StateConnection, owner: str, name: str) -> bytes | None:
        for one in self._verified(connection, owner):
            if one.name == name:
                return self._decrypted(connection, owner, one)
        return None

    def _replacing(self, change: Change, owner: str, name: str, value: bytes) -> list[_Row]:
        """All rows of `owner`, with `value` as the one of that name."""
        others = [one for one in self._verified(change.connection, owner) if one.name != name]
        return [*others, self._encrypted(change.connection, owner, name, value, time.time())]

    def names(self, owner: str) -> list[tuple[SecretName, float]]:
        """Sorted, each with the time of its last change in Unix seconds."""
        with self._audit_log.database.reading() as connection:
            return [(SecretName.parse(one.name), one.changed_at) for one in self._verified(connection, owner)]

    def delete(self, owner: str, name: SecretName) -> bool:
        """Returns whether there was one."""
        with self._audit_log.changing() as change:
            before = self._verified(change.connection, owner)
            others = [one for one in before if one.name != str(name)]
            if len(others) < len(before):
                self._put(change, "secret.deleted", owner, str(name), others)
            return len(others) < len(before)

    def clear(self, owner: str) -> None:
        """Delete all of an owner's secrets without verifying them: the remedy if they do not verify."""
        with self._audit_log.changing() as change:
            self._put(change, "secret.deleted", owner, "*", [])

    def rotate(self, *, new_master: bool = False, place: KeyPlace | None = None) -> Rotated:
        """Make new data keys and re-encrypt all secrets of all owners; with `new_master` make a new master key too, in
        `place` or in the first usable place. Removes the old keys, the master key last: a process that is killed at any
        point leaves a state that decrypts. Raises InputError if the new master key is the one in use."""
        before = after = None
        with ExitStack() as stack:
            note = stack.enter_context(self._keys.rotating()) if new_master else None
            with self._audit_log.changing() as change:
                digests, count = self._reencrypt(change)
                if note is not None:
                    before, after = self._keys.replace_master(change.connection, place, note)
                change.record(Event("key.rotated", "", detail={"master": new_master, "seals": digests}))
            if before is not None:
                self._keys.forget(before)
        return Rotated(count, before.place if before else None, after.place if after else None)

    def _reencrypt(self, change: Change) -> tuple[dict[str, str], int]:
        """Returns the new digest of each owner, for the record, and the number of secrets."""
        connection = change.connection
        owners = {
            *connection.execute(select(seals.c.owner)).scalars(),
            *connection.execute(select(rows.c.owner)).scalars(),
        }
        decrypted = {
            owner: [(one, self._decrypted(connection, owner, one)) for one in self._verified(connection, owner)]
            for owner in owners
        }
        self._keys.replace(connection, "vault")
        self._keys.replace(connection, "secrets")
        digests = {}
        for owner, values in decrypted.items():
            new = [self._encrypted(connection, owner, one.name, value, one.changed_at) for one, value in values]
            digests[owner] = self._write(change, owner, new)
        self._keys.drop_replaced(connection, "secrets")
        self._keys.drop_replaced(connection, "vault")
        return digests, sum(map(len, decrypted.values()))

    def _put(self, change: Change, kind: EventKind, owner: str, name: str, secrets: Sequence[_Row]) -> None:
        digests = {owner: self._write(change, owner, secrets)}
        change.record(Event(kind, "", detail={"owner": owner, "name": name, "seals": digests}))

    def _write(self, change: Change, owner: str, secrets: Sequence[_Row]) -> str:
        """Make `secrets` all secrets of `owner`. Returns their digest, for the record."""
        values = [
            {column: getattr(one, column) for column in ("name", "changed_at", "key", "revision", "sealed")}
            for one in secrets
        ]
        vault = self._keys.current(change.connection, "vault")
        mac = _digest(vault, owner, secrets)
        change.connection.execute(delete(rows).where(rows.c.owner == owner))
        change.delete(seals, owner=owner)
        if values:
            change.connection.execute(insert(rows).values(owner=owner), values)
        change.insert(seals, owner=owner, key=vault.id, mac=mac)
        return mac.hex()

    def _verified(self, connection: StateConnection, owner: str) -> list[_Row]:
        """All secrets of `owner`, sorted by name. Raises VaultError if the digest does not match."""
        digest = connection.execute(select(seals.c.key, seals.c.mac).where(seals.c.owner == owner)).one_or_none()
        query = select(rows).where(rows.c.owner == owner)
        recorded = _recorded_digest(connection, owner)
        if digest is None:
            if recorded is not None or connection.execute(query).first() is not None:
                raise _changed(owner)
            return []
        vault = self._keys.get(connection, digest.key)
        found = [
            _Row(one.name, one.changed_at, vault.id, one.key, one.revision, one.sealed)
            for one in connection.execute(query)
        ]
        matches = hmac.compare_digest(_digest(vault, owner, found), digest.mac)
        if not matches or recorded not in (None, digest.mac.hex()):
            raise _changed(owner)
        return sorted(found, key=lambda one: one.name)

    def _encrypted(self, connection: StateConnection, owner: str, name: str, value: bytes, changed_at: float) -> _Row:
        vault, key = (self._keys.current(connection, purpose) for purpose in ("vault", "secrets"))
        revision = secrets.token_hex(16)
        sealed = encrypt(key.key, value, "secret", vault.id, owner, name, key.id, revision)
        return _Row(name, changed_at, vault.id, key.id, revision, sealed)

    def _decrypted(self, connection: StateConnection, owner: str, row: _Row) -> bytes:
        key = self._keys.get(connection, row.key)
        try:
            return decrypt(key.key, row.sealed, "secret", row.vault, owner, row.name, key.id, row.revision)
        except DecryptionFailed:
            raise _changed(owner) from None


def _digest(vault: DataKey, owner: str, secrets: Sequence[_Row]) -> bytes:
    """HMAC-SHA256 (RFC 2104) over which secrets the owner has, and in which revision."""
    found = sorted([one.name, one.changed_at, one.key, one.revision] for one in secrets)
    return hmac.digest(vault.key, json.dumps([vault.id, owner, found]).encode(), "sha256")


def _recorded_digest(connection: StateConnection, owner: str) -> str | None:
    """The digest in the newest record of a change of `owner`'s secrets; None if there is no such record."""
    records = (
        select(audit.c.detail)
        .where(audit.c.kind.in_(_CHANGES), audit.c.detail.contains(json.dumps(owner)))
        .order_by(audit.c.seq.desc())
    )
    for (detail,) in connection.stream(records, at_once=10):  # the first says it, as a rule
        try:
            digest: str | None = json.loads(detail)["seals"].get(owner)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _changed(owner) from None
        if digest is not None:
            return digest
    return None


def recorded_digests(connection: StateConnection) -> dict[str, str]:
    """The digest of each owner in the newest record of a change, for an `audit.pruned` record, which repeats them.
    Skips records that cannot be parsed."""
    digests: dict[str, str] = {}
    records = select(audit.c.detail).where(audit.c.kind.in_(_CHANGES)).order_by(audit.c.seq)
    for detail in connection.execute(records).scalars():
        with suppress(ValueError, KeyError, TypeError):
            digests |= json.loads(detail)["seals"]
    return digests


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
        """Raises InputError if the name is taken: nobody could tell later which key made a signature."""
        if name in self._names():
            raise InputError(f"there is a signing key {name} already", field="name", hint="give this one another name")
        from host.trust.keys import SigningKey  # noqa: PLC0415 - a run signs nothing

        key = SigningKey.generate(algorithm)
        self._vault.set(OWNER, name, SecretValue(base64.b64encode(key.private_pem().encode()).decode()))
        return key

    def get(self, name: SecretName | None = None) -> SigningKey:
        """The key `name`; None: the only key. Raises NotFound, and InputError if there are several."""
        if name is None:
            name = self._only()
        value = self._vault.get(OWNER, name)
        if value is None:
            hint = did_you_mean(str(name), map(str, self._names()), _GENERATE)
            raise NotFound(f"there is no signing key {name}", field="name", hint=hint)
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
    from host.trust.keys import SigningKey  # noqa: PLC0415 - as above

    try:
        return SigningKey.parse(base64.b64decode(value.reveal(), validate=True))
    except (ValueError, InputError):
        raise VaultError(f"the signing key {name} cannot be read") from None
