"""Counts by name and window of time, shared by all processes that use the database. Limits are made of them
(`host.service.limits`). They are deleted when their time is over.

Somebody who can write to the database has no key, so a MAC covers all counts together: a count that was lowered,
deleted or put back is found before anybody is admitted by it. The MAC is in the table `counter_seal`, with a number
that grows with each transaction, and a checkpoint of it is in a file beside the database. What is under the MAC is the
sum of one keyed hash for each row (MSet-Add-Hash, Clarke et al. 2003), so that a transaction costs as much as the rows
that it changes. The sum itself is nowhere to be seen.

A process remembers the counts, and the number at which it knew them. It reads the rows that others changed since, and
all rows only if those do not make the sum. The checkpoint is written once a minute, after a commit that is on the disk:
a loss of power puts no count back. A process that has not counted for a second reads it, so that nobody puts the counts
back to the last ones that such a process knows. Whoever can restart all processes as well can take back the counts of
that minute.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from host.errors import StateError
from host.store.audit_log.chain import Checkpoint, CheckpointFile
from host.store.connections import StateConnection
from host.store.sql import delete, exists, insert, param, putting, select, update
from host.store.tables import counter_seal, counters
from host.store.tables import keys as key_rows
from host.store.vault.keys import DataKey, Keys

if TYPE_CHECKING:
    from pathlib import Path

    from host.store.database import Database

_ROWS = select(counters.c.name, counters.c.window, counters.c.count, counters.c.expires_at)
_LATER = _ROWS.where(counters.c.seq > param("after"))  # built once: building takes longer than executing
_SEAL: Final = select(counter_seal.c.seq, counter_seal.c.key, counter_seal.c.mac, counter_seal.c.swept_at)
_RESEAL: Final = update(counter_seal).values({name: param(name) for name in ("seq", "key", "mac", "swept_at")})
_HAS_KEY = select(exists().where(key_rows.c.purpose == "counters"))
_PUT = putting(counters, ("name", "window"), ("count", "expires_at", "seq"))
_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())"
_SWEEP_EVERY_S: Final = 60.0
_IDLE_S: Final = 1.0
_MODULUS: Final = 1 << 256
_json: Final = json.JSONEncoder(default=repr).encode


class Slot(NamedTuple):
    """One counter: a name and the number of a window. The name determines the window's length."""

    name: str
    window: int


class _Count(NamedTuple):
    amount: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class _Known:
    """All counts at the seal with the number `seq`. `total` is the sum of their hashes, `swept_at` the time up to which
    expired ones are deleted."""

    key: DataKey | None = None
    seq: int = 0
    mac: bytes = b""
    swept_at: float = 0.0
    total: int = 0
    rows: Mapping[Slot, _Count] = field(default_factory=dict)

    @classmethod
    def of(cls, key: DataKey, seq: int, swept_at: float, rows: Mapping[Slot, _Count]) -> _Known:
        total = sum(_hash(key, slot, count) for slot, count in rows.items()) % _MODULUS
        return cls(key, seq, _mac(key, seq, swept_at, total), swept_at, total, rows)

    def changed(
        self, key: DataKey, seq: int, swept_at: float, put: Mapping[Slot, _Count], gone: Iterable[Slot]
    ) -> _Known:
        """These counts with some more, or others, or fewer."""
        rows, total = dict(self.rows), self.total
        for slot in (*put, *gone):
            if (before := rows.pop(slot, None)) is not None:
                total -= _hash(key, slot, before)
        for slot, count in put.items():
            total += _hash(key, slot, count)
        rows.update(put)
        total %= _MODULUS
        return _Known(key, seq, _mac(key, seq, swept_at, total), swept_at, total, rows)

    def expired(self, at: float) -> list[Slot]:
        return [slot for slot, one in self.rows.items() if one.expires_at <= at]


class Tally:
    """The counters within a transaction. `now` is Unix time, by one clock for all that share the database."""

    def __init__(self, known: Mapping[Slot, _Count], now: float) -> None:
        self.now = now
        self.put: dict[Slot, _Count] = {}
        self._known = known

    def counts(self, slots: Collection[Slot]) -> dict[Slot, int]:
        """The counts of the slots that have one."""
        found = ((slot, self.put.get(slot) or self._known.get(slot)) for slot in slots)
        return {slot: one.amount for slot, one in found if one is not None}

    def add(self, amounts: Mapping[Slot, int], expires_at: Callable[[Slot], float]) -> None:
        before = self.counts(amounts)
        for slot, amount in amounts.items():
            self.put[slot] = _Count(before.get(slot, 0) + amount, float(expires_at(slot)))


class Counters:
    """One per process, thread-safe. `clock` replaces the time in tests. Methods raise StateError, also for counts that
    other hands changed."""

    def __init__(
        self, database: Database, clock: Callable[[], float] | None = None, *, keys: Keys | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._keys = keys or Keys(database.state_dir)
        self._file = checkpoint_file(database.state_dir, database)
        self._known: _Known | None = None  # replaced, and never changed
        self._sweep_at = 0.0
        self._note_at = 0.0
        self._idle_at = 0.0  # by time.monotonic

    @contextmanager
    def counting(self) -> Iterator[Tally]:
        """A write transaction: counts that are read in it stay true until it ends, and all additions are committed, or
        none."""
        noted = (self._clock or time.time)() >= self._note_at
        with self._database.writing(durable=noted) as connection:
            known = self._known = verified_counts(
                connection,
                self._keys,
                self._file,
                self._known,
                shared=self._database.shared,
                idle=time.monotonic() > self._idle_at,
            )
            self._idle_at = time.monotonic() + _IDLE_S
            tally = Tally(known.rows, self._now(connection))
            yield tally
            known = self._written(connection, known, tally, noted=noted)
        self._known = known
        if noted and known.key is not None:
            self._file.advance(Checkpoint(known.seq, known.mac), known.key, durable=True)
            self._note_at = (self._clock or time.time)() + _SWEEP_EVERY_S

    def _written(self, connection: StateConnection, known: _Known, tally: Tally, *, noted: bool) -> _Known:
        """Write what the tally counted, delete what has expired, and seal the rest."""
        swept_at = self._swept_at(known, tally.now)
        gone = [slot for slot in known.expired(swept_at) if slot not in tally.put] if swept_at > known.swept_at else []
        if not (tally.put or gone or (noted and known.seq)):
            return known
        key = known.key or self._keys.current(connection, "counters")
        if (noted or not known.seq) and self._file.read() is None:
            if known.seq and not self._database.shared:
                raise _changed()
            self._file.replace(Checkpoint(), key)  # the file exists before there is a seal
        new = known.changed(key, known.seq + 1, swept_at, tally.put, gone)
        if gone:
            connection.execute(delete(counters).where(counters.c.expires_at <= swept_at))
        if tally.put:
            rows = [
                {**slot._asdict(), "count": one.amount, "expires_at": one.expires_at, "seq": new.seq}
                for slot, one in sorted(tally.put.items())
            ]
            connection.execute(_PUT, rows)
        _seal(connection, new, key, first=not known.seq)
        return new

    def _now(self, connection: StateConnection) -> float:
        """By the clock of the database's machine if the database is shared: the clocks of its users may differ."""
        if self._clock is not None:
            return self._clock()
        return float(connection.execute(_NOW).scalar_one()) if self._database.shared else time.time()

    def _swept_at(self, known: _Known, now: float) -> float:
        """The time up to which expired counts are deleted: once a minute at most, and never back."""
        if now < self._sweep_at:
            return known.swept_at
        self._sweep_at = now + _SWEEP_EVERY_S
        return max(float(now), known.swept_at)


def checkpoint_file(state_dir: Path, database: Database) -> CheckpointFile:
    return CheckpointFile(state_dir, database.name, kind="counters")


def verified_counts(
    connection: StateConnection,
    keys: Keys,
    file: CheckpointFile,
    known: _Known | None = None,
    *,
    shared: bool,
    idle: bool = True,
) -> _Known:
    """The counts in the database, which `known` is an earlier state of; `idle`: it may be a much earlier one. Raises
    StateError if other hands changed them."""
    seals = connection.execute(_SEAL).all()
    seal = seals[0] if seals else None
    stored = file.read() if idle or known is None else None
    checkpoint = Checkpoint() if stored is None else stored.checkpoint
    noted = checkpoint.seq
    if seal is None:
        begun = known is not None and known.seq
        if begun or noted or connection.execute(_HAS_KEY).scalar() or connection.execute(_ROWS).first() is not None:
            raise _changed()
        return _Known()
    if len(seals) > 1 or [type(one) for one in seal] != [int, str, bytes, float]:
        raise _changed()
    key = keys.get(connection, seal.key)
    if stored is not None:
        later = noted > seal.seq or (noted == seal.seq and checkpoint.mac != seal.mac)
        if later or (noted and not stored.is_ours(connection, keys)):
            raise _changed()
    elif known is None and not shared:
        raise _changed()
    if known is not None:
        if (seal.seq, seal.mac) == (known.seq, known.mac):
            return known
        if seal.seq <= known.seq:
            raise _changed()
        changed = _counts(connection.execute(_LATER, {"after": known.seq}))
        gone = known.expired(seal.swept_at) if seal.swept_at > known.swept_at else []
        if known.key is not None and known.key.id == key.id:
            found = known.changed(key, seal.seq, seal.swept_at, changed, gone)
            if hmac.compare_digest(found.mac, seal.mac):
                return found
    found = _Known.of(key, seal.seq, seal.swept_at, _counts(connection.execute(_ROWS)))
    if not hmac.compare_digest(found.mac, seal.mac):
        raise _changed()
    return found


def accept_counts(connection: StateConnection, keys: Keys, file: CheckpointFile) -> tuple[Checkpoint, DataKey] | None:
    """Seal the counts as they are. Returns the checkpoint for the file, which it replaces after the commit; None if
    nothing was ever counted."""
    seals = connection.execute(_SEAL).all()
    rows = _counts(connection.execute(_ROWS))
    stored = file.read()
    if not (seals or rows or stored is not None or connection.execute(_HAS_KEY).scalar()):
        return None
    last = max([one.seq for one in seals] + [0 if stored is None else stored.checkpoint.seq])
    key = keys.current(connection, "counters")
    connection.execute(delete(counter_seal))
    new = _Known.of(key, last + 1, 0.0, rows)
    _seal(connection, new, key, first=True)
    return Checkpoint(new.seq, new.mac), key


def _seal(connection: StateConnection, known: _Known, key: DataKey, *, first: bool) -> None:
    values = {"seq": known.seq, "key": key.id, "mac": known.mac, "swept_at": known.swept_at}
    if first:
        connection.execute(insert(counter_seal), values)
    elif connection.execute(_RESEAL, values).rowcount != 1:
        raise _changed()


def _counts(rows: Iterable[Any]) -> dict[Slot, _Count]:
    return {Slot(name, window): _Count(count, expires_at) for name, window, count, expires_at in rows}


def _hash(key: DataKey, slot: Slot, count: _Count) -> int:
    return int.from_bytes(hmac.digest(key.key, _json(["count", *slot, *count]).encode(), "sha256"))


def _mac(key: DataKey, seq: int, swept_at: float, total: int) -> bytes:
    return hmac.digest(key.key, _json(["counters", seq, swept_at]).encode() + total.to_bytes(32), "sha256")


def _changed() -> StateError:
    return StateError(
        "the counts of limits were changed in the database, and not by this program",
        hint="nobody is admitted under a limit until a backup of the whole state is put back, or the operator accepts "
        "the counts as they are: host audit accept, and then start anew what runs",
    )
