"""The chain of records: what each record's mac covers, and walking along it."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, LargeBinary, cast, select

from host.errors import AuditBroken, InputError, VaultError
from host.jsontext import parse_object
from host.state.head import Head
from host.state.keys import DataKey, Keys
from host.state.tables import audit

FIELDS = ("seq", "at", "run", "kind", "decision", "rule", "detail", "key")
_AT_ONCE = 1_000  # rows in memory

_compact = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
_MAC = cast(audit.c.mac, LargeBinary).label("mac")  # bytes, whatever somebody put there
_CHECKED = select(*(audit.c[name] for name in FIELDS), _MAC)
_FIRST = select(audit.c.seq).order_by(audit.c.seq).limit(1)
_PRUNED = (
    select(audit.c.seq, audit.c.detail).where(audit.c.kind == "audit.pruned").order_by(audit.c.seq.desc()).limit(1)
)


def chained(key: DataKey, before: bytes, values: Sequence[Any]) -> bytes:
    """The mac of a record that follows the one whose mac is `before`: over the JSON array of its values, which are in
    the order of FIELDS. Raises TypeError for a value that no record has."""
    return hmac.digest(key.key, b"record\0" + before + _compact(values).encode(), "sha256")


def last_pruned(connection: Connection) -> Head:
    """The last record that was pruned, as the newest `audit.pruned` record names it."""
    row = connection.execute(_PRUNED).first()
    if row is None:
        return Head()
    try:
        detail = parse_object(row.detail, "the record")
        return Head(int(detail["through"]), bytes.fromhex(detail["mac"]))
    except (InputError, KeyError, TypeError, ValueError):
        raise _broken(row.seq) from None


def beginning(connection: Connection) -> Head:
    """What the first record that is there follows: nothing, or the last one that was pruned. Raises AuditBroken where
    records before it are gone that no `audit.pruned` record names. That record is one of the chain, and as good as it:
    whoever relies on it walks on to the end."""
    first = connection.execute(_FIRST).scalar()
    if first is None or first == 1:
        return Head()
    pruned = last_pruned(connection)
    if first <= pruned.seq:
        raise _broken(first)
    if first != pruned.seq + 1:
        raise missing(pruned.seq + 1, first - 1)
    return pruned


def walk(connection: Connection, keys: Keys, after: Head, through: int | None = None) -> Iterator[tuple[Head, float]]:
    """Along the records after `after`, up to the number `through`: each, and when it was written, once it is found to
    be as it was then. Raises AuditBroken at the first that is not."""
    query = _CHECKED.where(audit.c.seq > after.seq).order_by(audit.c.seq)
    if through is not None:
        query = query.where(audit.c.seq <= through)
    before = after
    with connection.execute(query.execution_options(yield_per=_AT_ONCE)) as rows:
        for *values, mac in rows:
            seq, at, *_, key = values
            if seq != before.seq + 1:
                raise missing(before.seq + 1, seq - 1)
            try:
                expected = chained(keys.get(connection, key), before.mac, values)
            except VaultError as error:
                said = f"record {seq} cannot be checked: {error.message}"
                raise AuditBroken(said, seq=seq, hint=error.hint) from error
            except TypeError:  # a value of another type, which SQLite lets anybody put there
                raise _broken(seq) from None
            if not hmac.compare_digest(expected, mac):
                raise _broken(seq)
            before = Head(seq, mac)
            yield before, at


def missing(first: int, last: int) -> AuditBroken:
    which = f"record {first} is" if first == last else f"records {first} to {last} are"
    return AuditBroken(f"{which} missing", seq=first)


def _broken(seq: int) -> AuditBroken:
    return AuditBroken(f"record {seq} is not as it was written: it was changed, exchanged or put there", seq=seq)
