"""The keys that the state holds: random, some for each purpose, all sealed by one master key (`master`)."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, Row, delete, insert, select, update

from host.errors import InputError, VaultError
from host.secrets.value import Unspoken
from host.store.database import FILE
from host.store.tables import keys
from host.store.vault import master
from host.store.vault.aead import KEY_BYTES, DecryptionFailed, decrypt, seal
from host.store.vault.master import MasterKey, Place

Purpose = Literal["audit", "console", "secrets", "state", "vault"]


class DataKey(Unspoken):
    __slots__ = ("id", "key")

    def __init__(self, ident: str, key: bytes) -> None:
        self.id = ident
        self.key = key


class Keys:
    """One per process; opened keys are kept in memory. Methods work in the transaction that they are handed, and raise
    VaultError where a key cannot be opened."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._opened: dict[str, DataKey] = {}
        self._masters: dict[str, MasterKey] = {}

    def get(self, connection: Connection, ident: str) -> DataKey:
        if ident not in self._opened:
            row = connection.execute(select(keys).where(keys.c.id == ident)).one_or_none()
            if row is None:
                raise VaultError(f"there is no key {ident}")
            self._opened[ident] = self._open(row)
        return self._opened[ident]

    def opened(self, ident: object) -> DataKey | None:
        """The key of that name, where it was opened before."""
        return self._opened.get(ident) if isinstance(ident, str) else None

    def current(self, connection: Connection, purpose: Purpose) -> DataKey:
        """The key for what is new: made where there is none, so in a write transaction."""
        ident: str | None = connection.execute(
            select(keys.c.id).where(keys.c.purpose == purpose, keys.c.current)
        ).scalar_one_or_none()
        return self.replace(connection, purpose) if ident is None else self.get(connection, ident)

    def replace(self, connection: Connection, purpose: Purpose) -> DataKey:
        """A new current key; the ones before it stay, for what they sealed."""
        made = DataKey(f"{purpose}-{secrets.token_hex(8)}", secrets.token_bytes(KEY_BYTES))
        above = self._master(connection) or master.make(self._state_dir)
        connection.execute(update(keys).where(keys.c.purpose == purpose).values(current=False))
        connection.execute(
            insert(keys).values(
                id=made.id,
                purpose=purpose,
                sealed=_sealed(above, made, purpose),
                master=above.id,
                made_at=time.time(),
                current=True,
            )
        )
        return made  # known to others, and kept here, once its transaction is through

    def drop_replaced(self, connection: Connection, purpose: Purpose) -> None:
        """Remove the keys that are not current. StateError (of the database) while something is sealed with one."""
        connection.execute(delete(keys).where(keys.c.purpose == purpose, ~keys.c.current))

    def replace_master(self, connection: Connection, place: Place | None) -> tuple[MasterKey | None, MasterKey]:
        """Seal all keys with a new master key, made in `place`, or where there is a place. Returns the one before it,
        for `forget` once the transaction is through, and the new one. Raises InputError where they are the same."""
        before = self._master(connection)
        opened = [(row.purpose, self._open(row)) for row in connection.execute(select(keys))]
        after = master.make(self._state_dir, place)  # once nothing else is in the way
        if before is not None and before.id == after.id:
            raise InputError(
                "HOST_MASTER_KEY is the master key that is in use",
                field="HOST_MASTER_KEY",
                hint='put a new one before it: HOST_MASTER_KEY="$(openssl rand -base64 32) $HOST_MASTER_KEY"',
            )
        for purpose, key in opened:
            sealed = _sealed(after, key, purpose)
            connection.execute(update(keys).where(keys.c.id == key.id).values(sealed=sealed, master=after.id))
        return before, after

    def forget(self, replaced: MasterKey) -> None:
        """Remove a master key that nothing is sealed with any more, as soon as that is on the disk: SQLite, as it is
        set up here, may lose what was committed last when the power fails."""
        for file in self._state_dir.glob(f"{FILE}*"):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        master.forget(replaced, self._state_dir)

    def _master(self, connection: Connection) -> MasterKey | None:
        """The one that all keys are sealed with; None where there are no keys yet."""
        ident: str | None = connection.execute(select(keys.c.master).limit(1)).scalar()
        return None if ident is None else self._found(ident)

    def _found(self, ident: str) -> MasterKey:
        if ident not in self._masters:
            self._masters[ident] = master.find(ident, self._state_dir)
        return self._masters[ident]

    def _open(self, row: Row[tuple[object, ...]]) -> DataKey:
        try:
            return DataKey(row.id, decrypt(self._found(row.master).key, row.sealed, "key", row.id, row.purpose))
        except DecryptionFailed:
            raise VaultError(f"the key {row.id} was changed, and does not open") from None


def _sealed(above: MasterKey, key: DataKey, purpose: str) -> bytes:
    return seal(above.key, key.key, "key", key.id, purpose)
