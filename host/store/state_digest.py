"""What the operator decided, under a seal: what is installed and approved, policies, grants, trusted keys, API keys.

Beside those rows is a keyed digest of them all, and of which record in the journal was the last to change any; and a
file beside the database, like the one of the record, notes which seal was the last. So a row that other hands edited,
put in, took away or put back from before is found before anything is run by it. Who can write to the database, and has
no key, can keep things from running, and cannot make them run with more.
"""

from __future__ import annotations

import hmac
import json
from typing import Final

from sqlalchemy import Connection, delete, exists, func, insert, select

from host.core.audit import CHANGES
from host.errors import StateError, VaultError
from host.store.audit_log.chain import Checkpoint, CheckpointFile, NotedCheckpoint
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

# Not the bytes and the signatures, which are verified each by itself; of the secrets, the vault's own seals.
_FIRST: Final = (artifacts, components, approvals, newest, settings, secret_grants, trusted_keys, rules, seals)
_LATER: Final = (api_keys,)  # in the digest where they have rows: without any, it is that of a state without the table
_SEALED: Final = (*_FIRST, *_LATER)


def seal(connection: Connection, key: DataKey, seq: int) -> Checkpoint:
    """Seal what is there now, in a write transaction whose last record has the number `seq`. Returns what is to be
    noted of it, once the transaction is through."""
    made = Checkpoint(seq, _mac(connection, key, seq))
    connection.execute(delete(state_seal))
    connection.execute(insert(state_seal).values(seq=seq, key=key.id, mac=made.mac))
    return made


def check(connection: Connection, keys: Keys, file: CheckpointFile, *, shared: bool) -> None:
    """Raises StateError where what is there is not what was sealed last; VaultError. A `shared` state has seals that
    this machine has not noted."""
    noted = file.read()
    row = connection.execute(select(state_seal)).one_or_none()
    last = connection.execute(select(func.max(audit.c.seq)).where(audit.c.kind.in_(CHANGES))).scalar()
    if row is None:
        there = (connection.execute(select(exists().select_from(table))).scalar() for table in _SEALED)
        if last is not None or any(there) or (noted is not None and noted.head.seq):
            raise _changed()
        return
    if row.seq != last or not hmac.compare_digest(row.mac, _mac(connection, keys.get(connection, row.key), row.seq)):
        raise _changed()
    if not shared if noted is None else not _follows(Checkpoint(row.seq, row.mac), noted, keys, connection):
        raise _changed()


def _follows(there: Checkpoint, noted: NotedCheckpoint, keys: Keys, connection: Connection) -> bool:
    """Whether it is the seal that was noted, or a later one."""
    try:
        authentic = noted.authentic(keys.get(connection, noted.key))
    except VaultError:
        return False
    return authentic and (noted.head == there or noted.head.seq < there.seq)


def _mac(connection: Connection, key: DataKey, seq: int) -> bytes:
    """HMAC-SHA256 (RFC 2104) over every row of every table, in an order that no database has a say in.

    What was sealed before a table existed still verifies, for a later one that is empty is left out. That hides
    nothing: each part names its table, so no two sets of rows give the same text, and that of none is one of them. To
    take all of a table's rows away, or to put a first one in, changes the digest as any other change does."""
    total = hmac.new(key.key, b"state\0%020d" % seq, "sha256")
    for table in _SEALED:
        rows = sorted(json.dumps(list(row), default=_hex) for row in connection.execute(select(table)))
        if rows or table not in _LATER:
            total.update(json.dumps([table.name, rows]).encode())
    return total.digest()


def _hex(value: bytes) -> str:
    return value.hex()


def _changed() -> StateError:
    return StateError(
        "what is kept was changed in the database, and not by this program",
        hint="put back a backup of the whole state; or look at what is kept, and take it as it is: host audit accept",
    )
