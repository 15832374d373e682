"""The data keys of the state: random, with a purpose each, all encrypted with one master key (`master`)."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Literal

from host.errors import InputError, VaultError
from host.secrets.value import Unspoken
from host.store.connections import Row, StateConnection
from host.store.database import FILE, Database
from host.store.sql import delete, insert, select, update
from host.store.tables import keys
from host.store.vault import master, rotation
from host.store.vault.aead import DecryptionFailed, decrypt, encrypt
from host.store.vault.master import KEY_BYTES, KeyPlace, MasterKey
from host.store.vault.rotation import Note

Purpose = Literal["audit", "batches", "console", "counters", "secrets", "state", "vault"]


class DataKey(Unspoken):
    __slots__ = ("id", "key")

    def __init__(self, ident: str, key: bytes) -> None:
        self.id = ident
        self.key = key


class Keys:
    """One per process; decrypted keys stay in memory, by id in `decrypted`. Methods work in the caller's transaction,
    and raise VaultError if a key does not decrypt."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.decrypted: dict[str, DataKey] = {}
        self._masters: dict[str, MasterKey] = {}

    def get(self, connection: StateConnection, ident: str) -> DataKey:
        if ident not in self.decrypted:
            row = connection.execute(select(keys).where(keys.c.id == ident)).one_or_none()
            if row is None:
                raise VaultError(f"there is no key {ident}")
            self.decrypted[ident] = self._decrypted(row)
        return self.decrypted[ident]

    def current(self, connection: StateConnection, purpose: Purpose) -> DataKey:
        """The key for new data. Makes one if there is none, so the transaction has to be a write transaction."""
        ident: str | None = connection.execute(
            select(keys.c.id).where(keys.c.purpose == purpose, keys.c.current)
        ).scalar_one_or_none()
        return self.replace(connection, purpose) if ident is None else self.get(connection, ident)

    def replace(self, connection: StateConnection, purpose: Purpose) -> DataKey:
        """Make a new current key. The keys before it stay, for the data that they encrypted."""
        made = DataKey(f"{purpose}-{secrets.token_hex(8)}", secrets.token_bytes(KEY_BYTES))
        above = self.master(connection) or master.make(self._state_dir)
        connection.execute(update(keys).where(keys.c.purpose == purpose).values(current=False))
        connection.execute(
            insert(keys).values(
                id=made.id,
                purpose=purpose,
                sealed=_encrypted(above, made, purpose),
                master=above.id,
                made_at=time.time(),
                current=True,
            )
        )
        return made  # not in memory before its transaction is committed

    def drop_replaced(self, connection: StateConnection, purpose: Purpose) -> None:
        """Remove the keys that are not current. The database raises StateError while data refers to one."""
        connection.execute(delete(keys).where(keys.c.purpose == purpose, ~keys.c.current))

    def rotating(self) -> AbstractContextManager[Note]:
        """Inside, the master key is replaced, and the old one is forgotten (`host.store.vault.rotation`)."""
        return rotation.noted(self._state_dir)

    def finish_rotations(self, database: Database) -> None:
        """Remove what killed rotations of the master key left behind; never a key that a data key is encrypted with,
        and none of another state. Does nothing where that cannot be done now."""

        def clear(before: str, after: str) -> None:
            for transaction in (
                database.reading,
                database.writing,
            ):  # in the second one, the killed process's has ended
                with transaction() as connection:
                    used = set(connection.execute(select(keys.c.master).distinct()).scalars())
                if len(used) != 1 or not used <= {before, after}:
                    raise VaultError("the rotation was one of another state")
            self._sync()
            for ident in {before, after} - used - {""}:
                master.remove_unused(ident, self._state_dir)

        rotation.unfinished(self._state_dir, clear)

    def replace_master(
        self, connection: StateConnection, place: KeyPlace | None, note: Note
    ) -> tuple[MasterKey | None, MasterKey]:
        """Encrypt all keys with a new master key, made in `place` or in the first usable place. Returns the old master
        key, for `forget` after the commit, and the new one. `note` is that of `rotating`. Raises InputError if they are
        the same."""
        before = self.master(connection)
        opened = [(row.purpose, self._decrypted(row)) for row in connection.execute(select(keys))]
        old = "" if before is None else before.id
        after = master.make(self._state_dir, place, note=partial(note, old))  # last: a failure leaves no new key behind
        if before is not None and before.id == after.id:
            raise InputError(
                "HOST_MASTER_KEY is the master key that is in use",
                field="HOST_MASTER_KEY",
                hint='put a new one before it: HOST_MASTER_KEY="$(openssl rand -base64 32) $HOST_MASTER_KEY"',
            )
        for purpose, key in opened:
            sealed = _encrypted(after, key, purpose)
            connection.execute(update(keys).where(keys.c.id == key.id).values(sealed=sealed, master=after.id))
        return before, after

    def forget(self, replaced: MasterKey) -> None:
        """Remove a master key that no data key is encrypted with any more."""
        self._sync()
        master.forget(replaced, self._state_dir)

    def _sync(self) -> None:
        """Sync the database to the disk: SQLite, as it is set up here, may lose the last commits in a loss of power."""
        for file in self._state_dir.glob(f"{FILE}*"):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())

    def master(self, connection: StateConnection) -> MasterKey | None:
        """The master key that all keys are encrypted with; None if there are no keys yet."""
        ident: str | None = connection.execute(select(keys.c.master).limit(1)).scalar()
        return None if ident is None else self._master_key(ident)

    def _master_key(self, ident: str) -> MasterKey:
        if ident not in self._masters:
            self._masters[ident] = master.find(ident, self._state_dir)
        return self._masters[ident]

    def _decrypted(self, row: Row) -> DataKey:
        try:
            return DataKey(row.id, decrypt(self._master_key(row.master).key, row.sealed, "key", row.id, row.purpose))
        except DecryptionFailed:
            raise VaultError(f"the key {row.id} was changed, and does not decrypt") from None


def _encrypted(above: MasterKey, key: DataKey, purpose: str) -> bytes:
    return encrypt(above.key, key.key, "key", key.id, purpose)
