"""The keys that the state holds: random, some for each purpose, each sealed by a master key (host.state.master)."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, Row, insert, select, update

from host.errors import VaultError
from host.secret import Unspoken
from host.state import master
from host.state.master import MasterKey
from host.state.sealing import KEY_BYTES, NotSealed, seal, unseal
from host.state.tables import keys

Purpose = Literal["audit", "secrets"]


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

    def current(self, connection: Connection, purpose: Purpose) -> DataKey:
        """The key for what is new: made where there is none, so in a write transaction."""
        ident: str | None = connection.execute(
            select(keys.c.id).where(keys.c.purpose == purpose, keys.c.current)
        ).scalar_one_or_none()
        return self.replace(connection, purpose) if ident is None else self.get(connection, ident)

    def replace(self, connection: Connection, purpose: Purpose) -> DataKey:
        """A new current key; the ones before it stay, for what they sealed."""
        made = DataKey(f"{purpose}-{secrets.token_hex(8)}", secrets.token_bytes(KEY_BYTES))
        above = master.choose(self._state_dir)
        connection.execute(update(keys).where(keys.c.purpose == purpose).values(current=False))
        connection.execute(
            insert(keys).values(
                id=made.id,
                purpose=purpose,
                sealed=seal(above.key, made.key, "key", made.id, purpose),
                master=above.id,
                made_at=time.time(),
                current=True,
            )
        )
        return made  # known to others, and kept here, once its transaction is through

    def _open(self, row: Row[tuple[object, ...]]) -> DataKey:
        if row.master not in self._masters:
            self._masters[row.master] = master.find(row.master, self._state_dir)
        try:
            return DataKey(row.id, unseal(self._masters[row.master].key, row.sealed, "key", row.id, row.purpose))
        except NotSealed:
            raise VaultError(f"the key {row.id} was changed, and does not open") from None
