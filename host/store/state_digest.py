"""The state digest: a keyed digest of everything the operator decided, which shows changes by other hands.

It covers what is installed and approved, policies, grants, trusted keys and API keys, the schema of the database
(`host.store.schema`), and the number of the last record in the audit log that changed any of it. The digest is stored
beside those rows (table `state_seal`), and a checkpoint of it in a file beside the database. So a row that was edited,
added, removed or put back from an earlier day is found before anything runs by it. Somebody who can write to the
database but has no key can stop runs, and cannot widen them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from host.core.audit import CHANGES
from host.errors import StateError
from host.store import schema
from host.store.audit_log.chain import Checkpoint, CheckpointFile, StoredCheckpoint, torn_when_made
from host.store.connections import StateConnection
from host.store.sql import REAL, Column, Table, delete, func, insert, select
from host.store.tables import (
    api_keys,
    approvals,
    artifacts,
    audit,
    components,
    newest,
    rules,
    seals,
    secret_grants,
    settings,
    state_seal,
    trusted_keys,
)
from host.store.vault.keys import DataKey, Keys

# The bytes and the signatures are left out: each is verified by itself. For the secrets there are their owners'
# digests.
_FIRST: Final = (artifacts, components, approvals, newest, settings, secret_grants, trusted_keys, rules, seals)
_LATER: Final = (api_keys,)  # covered once they have rows: an empty table digests as a missing one
_COVERED: Final = (*_FIRST, *_LATER)


class State:
    """Every row of the covered tables: as it was read, and then as a change leaves it. A change is made here and in the
    database, so that the digest is one of what it meant to write, and not of what the database has afterwards."""

    def __init__(self, connection: StateConnection) -> None:
        """Reads it. Raises StateError if a query by an index would find other rows."""
        schema.check_indexes(connection, _COVERED)
        self._dialect = connection.dialect
        self._rows = {table: [tuple(row) for row in connection.execute(select(table))] for table in _COVERED}

    def __bool__(self) -> bool:
        return any(self._rows.values())

    def insert(self, table: Table, values: Mapping[str, Any]) -> None:
        self._rows[table].append(tuple(_as_read(column, values.get(column.name)) for column in table.c.values()))

    def delete(self, table: Table, where: Mapping[str, Any]) -> int:
        """Returns how many rows there were whose columns equal `where`."""
        kept = [row for row in self._rows[table] if not _equals(table, row, where)]
        count = len(self._rows[table]) - len(kept)
        self._rows[table] = kept
        return count

    def update(self, table: Table, where: Mapping[str, Any], values: Mapping[str, Any]) -> int:
        """Returns how many rows there are whose columns equal `where`."""
        found = [row for row in self._rows[table] if _equals(table, row, where)]
        self.delete(table, where)
        for row in found:
            self.insert(table, {**dict(zip(tuple(table.c), row, strict=True)), **values})
        return len(found)

    def parts(self) -> list[str]:
        """The rows of each table as JSON. They are sorted here, so that the order in which a database returns them does
        not matter.

        A later table without rows is left out, so that a digest from before it existed still verifies. That hides
        nothing: each part names its table, so different sets of rows give different texts. Removing all rows of a
        table, or adding its first one, changes the digest as any other change does."""
        return _parts(self._rows)

    def apart(self, table: Table, **where: Any) -> tuple[str, str]:
        """SHA-256 of the rows of `table` whose columns equal `where`, and of all others: which of both are as they
        were."""
        named = [row for row in self._rows[table] if _equals(table, row, where)]
        others = {**self._rows, table: [row for row in self._rows[table] if row not in named]}
        first, second = (hashlib.sha256(json.dumps(_parts(rows)).encode()) for rows in ({table: named}, others))
        return first.hexdigest(), second.hexdigest()

    def digests(self, key: DataKey, seq: int) -> list[bytes]:
        """HMAC-SHA256 (RFC 2104) over all of it and the schema: the present schema first, then each of the earlier
        ones."""
        total = hmac.new(key.key, b"state\0%020d" % seq, "sha256")
        for part in self.parts():
            total.update(part.encode())
        return [_with_schema(total, one) for one in (schema.digest(self._dialect), *schema.EARLIER)]


def _parts(rows: Mapping[Table, Sequence[tuple[Any, ...]]]) -> list[str]:
    return [
        json.dumps([table.name, sorted(json.dumps(list(row), default=_hex) for row in some)])
        for table, some in rows.items()
        if some or table not in _LATER
    ]


def write_digest(connection: StateConnection, key: DataKey, seq: int, state: State) -> Checkpoint:
    """Seal `state`, in a write transaction whose last record has the number `seq`. Returns the checkpoint for the file,
    to be written there after the commit. Raises StateError if the database has anything else, or another schema."""
    schema.check(connection)
    if State(connection).parts() != state.parts():
        raise _changed()
    written = Checkpoint(seq, state.digests(key, seq)[0])
    connection.execute(delete(state_seal))
    connection.execute(insert(state_seal).values(seq=seq, key=key.id, mac=written.mac))
    return written


def check_digest(connection: StateConnection, keys: Keys, file: CheckpointFile, *, shared: bool) -> State:
    """Returns the present state. Raises StateError if the schema was changed, or if the state differs from the last
    digest or its checkpoint; VaultError if a key does not open. In a `shared` state, other machines write digests that
    this machine has no checkpoint of."""
    schema.check(connection)
    stored = file.read()
    row = connection.execute(select(state_seal)).one_or_none()
    last = connection.execute(select(func.max(audit.c.seq)).where(audit.c.kind.in_(CHANGES))).scalar()
    state = State(connection)
    if row is None:
        if last is not None or state or (stored is not None and stored.checkpoint.seq):
            raise _changed()
        return state
    digests = state.digests(keys.get(connection, row.key), row.seq)
    if row.seq != last or not any(hmac.compare_digest(row.mac, one) for one in digests):
        raise _changed()
    unknown = not shared if stored is None else not _follows(Checkpoint(row.seq, row.mac), stored, keys, connection)
    if unknown and not torn_when_made(connection, keys, file):
        raise _changed() if file.torn_at() is None else _torn(file)
    return state


def last_digest(connection: StateConnection) -> Checkpoint:
    """The checkpoint of the stored digest, which `check_digest` has checked; of the beginning where there is none."""
    row = connection.execute(select(state_seal.c.seq, state_seal.c.mac)).one_or_none()
    return Checkpoint() if row is None else Checkpoint(row.seq, row.mac)


def _follows(found: Checkpoint, stored: StoredCheckpoint, keys: Keys, connection: StateConnection) -> bool:
    """Whether the digest `found` is the one of the checkpoint, or a later one."""
    return stored.is_ours(connection, keys) and (stored.checkpoint == found or stored.checkpoint.seq < found.seq)


def _with_schema(total: hmac.HMAC, digest: str) -> bytes:
    both = total.copy()
    if digest:
        both.update(json.dumps(["schema", digest]).encode())
    return both.digest()


def _equals(table: Table, row: Sequence[Any], where: Mapping[str, Any]) -> bool:
    return all(row[list(table.c).index(name)] == value for name, value in where.items())


def _as_read(column: Column, value: Any) -> Any:
    """`value` as the database returns it."""
    return float(value) if value is not None and column.kind == REAL else value


def _hex(value: bytes) -> str:
    return value.hex()


def _torn(file: CheckpointFile) -> StateError:
    return StateError(
        f"{file.path.name} is torn, by a crash or by somebody: it does not say which state was the last one",
        hint="put back a backup of the whole state; or review the state and accept it as it is: host audit accept",
    )


def _changed() -> StateError:
    return StateError(
        "the state was changed in the database, and not by this program",
        hint="put back a backup of the whole state; or review the state and accept it as it is: host audit accept",
    )
