"""Batches that a server runs itself, and their files, kept so that another process can go on with them.

Everything of them is sealed, as secrets are: prompts and answers are nowhere in plain text, and a row that somebody
else wrote, changed or put into another place does not open. So nobody who can write to the database makes the server
run anything on a key's behalf, but for what its holder asked for within the last day. What is deleted or expired is
gone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from host.core.strict_json import Json, parse_object
from host.errors import InputError, NotFound, StateError
from host.store.connections import StateConnection
from host.store.sql import Select, Table, delete, func, insert, inserting, select, update
from host.store.tables import batch_files, batch_pieces, batches
from host.store.vault.aead import DecryptionFailed, decrypt, encrypt

if TYPE_CHECKING:
    from host.store.database import Database
    from host.store.vault.keys import DataKey, Keys

PIECE_BYTES: Final = 256 * 1024
_AT_ONCE: Final = 64  # pieces
_LISTED: Final = 500  # files
_PURPOSE: Final = "batches"
_NEW: Final = inserting(batch_pieces, ("file", "position"))


@dataclass(frozen=True, slots=True)
class KeptFile:
    """`owner` is the id of an API key, "" for callers without one. `facts` are those of the API beside these; times are
    Unix time in seconds."""

    id: str
    owner: str
    bytes: int
    made_at: float
    expires_at: float
    facts: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class KeptSizes:
    """What an owner has: bytes of files, of the answers of `open` batches, which have no file yet, and of what is known
    of files and batches; how many batches are `open`; and the number of `files` and of `batches`."""

    bytes: int = 0
    open: int = 0
    files: int = 0
    batches: int = 0


@dataclass(frozen=True, slots=True)
class KeptBatch:
    """`facts` are those of the API, and what the server needs to go on. `ended`: nothing is left to be done."""

    id: str
    owner: str
    ended: bool
    made_at: float
    kept_until: float
    facts: Mapping[str, Json]

    @property
    def answers_bytes(self) -> int:
        """Of the answers that were written."""
        found = self.facts.get("bytes")
        return found if isinstance(found, int) else 0


class Batches:
    """One per process, thread-safe. Methods raise StateError, also where a row was not written by this program."""

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys

    # files

    def add_file(self, file: KeptFile, content: bytes, check: Callable[[KeptSizes], object] = lambda _: None) -> None:
        """`check` raises where the owner has too much already: what they have at that moment, this file included."""
        with self._database.writing() as connection:
            held = self._held(connection, file.owner)
            check(replace(held, bytes=held.bytes + len(content), files=held.files + 1))
            key = self._keys.current(connection, _PURPOSE)
            self._insert_file(connection, key, file)
            for position, begin in enumerate(range(0, len(content), PIECE_BYTES)):
                piece = encrypt(key.key, content[begin : begin + PIECE_BYTES], *_context(file.id, position))
                row = {"file": file.id, "position": position, "key": key.id, "sealed": piece}
                connection.execute(insert(batch_pieces).values(row))

    def file(self, owner: str, ident: str) -> KeptFile | None:
        with self._database.reading() as connection:
            row = connection.execute(_files_of(owner).where(batch_files.c.id == ident)).one_or_none()
            return None if row is None else self._file(connection, row)

    def files(
        self, owner: str, purpose: str | None = None, after: str | None = None, *, most: int, oldest_first: bool = False
    ) -> list[KeptFile]:
        """At most so many of `owner`, the newest first. Raises NotFound where they have no file `after`."""
        found: list[KeptFile] = []
        with self._database.reading() as connection:
            while len(found) < most:
                query = _after(connection, batch_files, _files_of(owner), owner, after, oldest_first=oldest_first)
                rows = connection.execute(query.limit(_LISTED)).all()
                some = [self._file(connection, row) for row in rows]
                found += [one for one in some if purpose in (None, one.facts["purpose"])]
                if len(rows) < _LISTED:
                    break
                after = some[-1].id
        return found[:most]

    def delete_file(self, owner: str, ident: str) -> bool:
        """Whether it was there. Raises InputError where a batch that has not ended needs it."""
        with self._database.writing() as connection:
            for batch in self._open(connection, owner):
                if batch.facts["input_file_id"] == ident:
                    raise InputError(
                        f"the batch {batch.id} has this input, and has not ended",
                        field="file_id",
                        hint="cancel it, or wait for its end",
                    )
            where = batch_files.c.owner == owner, batch_files.c.id == ident
            found = connection.execute(delete(batch_files).where(*where)).rowcount
            if found:
                connection.execute(delete(batch_pieces).where(batch_pieces.c.file == ident))
        return bool(found)

    def held(self, owner: str) -> KeptSizes:
        with self._database.reading() as connection:
            return self._held(connection, owner)

    def pieces(self, file: str) -> Iterator[tuple[int, bytes]]:
        """The contents of a file in their order, with their positions, a few in memory at a time."""
        last = -1
        while True:
            query = select(batch_pieces).where(batch_pieces.c.file == file, batch_pieces.c.position > last)
            with self._database.reading() as connection:
                rows = connection.execute(query.order_by(batch_pieces.c.position).limit(_AT_ONCE)).all()
                found = [(row.position, self._content(connection, row, file, row.position)) for row in rows]
            yield from found
            if len(rows) < _AT_ONCE:
                return
            last = found[-1][0]

    def positions(self, files: Sequence[str]) -> Iterator[int]:
        """Where there are pieces of these files."""
        query = select(batch_pieces.c.position).where(batch_pieces.c.file.in_(files))
        with self._database.reading() as connection:
            yield from connection.execute(query).scalars()

    def size_of(self, file: str) -> tuple[int, int]:
        """Bytes of all pieces together, without what seals them, and the number of the pieces."""
        sealed = func.length(batch_pieces.c.sealed) - len(encrypt(bytes(32), b""))
        with self._database.reading() as connection:
            query = select(func.coalesce(func.sum(sealed), 0), func.count()).where(batch_pieces.c.file == file)
            found = connection.execute(query).one()
            return int(found[0]), int(found[1])

    # batches

    def add(
        self, batch: KeptBatch, *, input_until: float = 0.0, check: Callable[[KeptSizes], object] = lambda _: None
    ) -> None:
        """The batch's input lasts until then at least. Raises NotFound where its owner has no such input, and what
        `check` raises, as of `add_file`."""
        source = str(batch.facts["input_file_id"])
        with self._database.writing() as connection:
            held = self._held(connection, batch.owner)
            check(replace(held, open=held.open + 1, batches=held.batches + 1))
            lasting = _files_of(batch.owner).where(batch_files.c.id == source)
            if (row := connection.execute(lasting).one_or_none()) is None:
                raise NotFound(f"there is no file {source[:80]!r}", field="input_file_id")
            if row.expires_at < input_until:
                lasts = update(batch_files).where(batch_files.c.id == source)
                connection.execute(lasts.values(expires_at=input_until))
            key = self._keys.current(connection, _PURPOSE)
            connection.execute(insert(batches).values(_row(key, batch)))

    def get(self, ident: str, owner: str | None = None) -> KeptBatch | None:
        """The batch of this id; with `owner`, if it is theirs."""
        with self._database.reading() as connection:
            return self._batch(connection, ident, owner)

    def of_owner(self, owner: str, after: str | None = None, *, most: int) -> list[KeptBatch]:
        """At most so many, the newest first. Raises NotFound where they have no batch `after`."""
        query = select(batches).where(batches.c.owner == owner, batches.c.kept_until > time.time())
        with self._database.reading() as connection:
            rows = connection.execute(_after(connection, batches, query, owner, after).limit(most)).all()
            return [self._kept(connection, row) for row in rows]

    def open_batches(self) -> list[tuple[str, str]]:
        """The ids of those that have not ended, with their owners, the oldest first."""
        with self._database.reading() as connection:
            query = select(batches.c.id, batches.c.owner).where(~batches.c.ended).order_by(batches.c.made_at)
            return [(row.id, row.owner) for row in connection.execute(query)]

    def change(
        self,
        ident: str,
        changed: Callable[[KeptBatch], KeptBatch],
        *,
        answers: Mapping[str, Sequence[tuple[int, bytes]]] | None = None,
        files: Iterable[KeptFile] = (),
    ) -> KeptBatch | None:
        """The batch after `changed`, which gets it as it is; None where it is gone. In the same transaction `answers`
        are added to files, by their positions, those that are there already left as they are, and `files` are made:
        nothing of that where `changed` raises."""
        with self._database.writing() as connection:
            if (batch := self._batch(connection, ident, None)) is None:
                return None
            found = changed(batch)
            key = self._keys.current(connection, _PURPOSE)
            for file, some in (answers or {}).items():
                rows = [
                    {"file": file, "position": at, "key": key.id, "sealed": encrypt(key.key, text, *_context(file, at))}
                    for at, text in some
                ]
                if rows:
                    connection.execute(_NEW, rows)
            for one in files:
                self._insert_file(connection, key, one)
            connection.execute(update(batches).where(batches.c.id == ident).values(_row(key, found)))
            return found

    def sweep(self) -> None:
        """Delete what has expired, with its contents."""
        now = time.time()
        gone = select(batch_files.c.id).where(batch_files.c.expires_at <= now)
        with self._database.writing(durable=False) as connection:
            connection.execute(delete(batch_pieces).where(batch_pieces.c.file.in_(gone)))
            connection.execute(delete(batch_files).where(batch_files.c.expires_at <= now))
            connection.execute(delete(batches).where(batches.c.ended, batches.c.kept_until <= now))

    def _held(self, connection: StateConnection, owner: str) -> KeptSizes:
        files, known = connection.execute(
            select(func.count(), func.coalesce(func.sum(batch_files.c.bytes + func.length(batch_files.c.sealed)), 0))
            .where(batch_files.c.owner == owner)
        ).one()  # fmt: skip
        count, more = connection.execute(
            select(func.count(), func.coalesce(func.sum(func.length(batches.c.sealed)), 0))
            .where(batches.c.owner == owner)
        ).one()  # fmt: skip
        open_ones = self._open(connection, owner)
        answers = sum(one.answers_bytes for one in open_ones)
        return KeptSizes(int(known) + int(more) + answers, len(open_ones), int(files), int(count))

    def _open(self, connection: StateConnection, owner: str) -> list[KeptBatch]:
        rows = connection.execute(select(batches).where(batches.c.owner == owner, ~batches.c.ended)).all()
        return [self._kept(connection, row) for row in rows]

    def _insert_file(self, connection: StateConnection, key: DataKey, file: KeptFile) -> None:
        sealed = _sealed(key, file.facts, *_of_file(file))
        row = {"id": file.id, "owner": file.owner, "bytes": file.bytes, "made_at": file.made_at}
        connection.execute(
            insert(batch_files).values({**row, "expires_at": file.expires_at, "key": key.id, "sealed": sealed})
        )

    def _file(self, connection: StateConnection, row: Any) -> KeptFile:
        facts = self._opened(connection, row, *_of_file(row))
        return KeptFile(row.id, row.owner, row.bytes, row.made_at, row.expires_at, facts)

    def _batch(self, connection: StateConnection, ident: str, owner: str | None) -> KeptBatch | None:
        query = select(batches).where(batches.c.id == ident)
        row = connection.execute(query if owner is None else query.where(batches.c.owner == owner)).one_or_none()
        return None if row is None else self._kept(connection, row)

    def _kept(self, connection: StateConnection, row: Any) -> KeptBatch:
        facts = self._opened(connection, row, *_of_batch(row))
        return KeptBatch(row.id, row.owner, row.ended, row.made_at, row.kept_until, facts)

    def _opened(self, connection: StateConnection, row: Any, *context: str) -> dict[str, Json]:
        return parse_object(self._decrypted(connection, row, *context), "what is kept of a batch")

    def _content(self, connection: StateConnection, row: Any, file: str, position: int) -> bytes:
        return self._decrypted(connection, row, *_context(file, position))

    def _decrypted(self, connection: StateConnection, row: Any, *context: str) -> bytes:
        try:
            return decrypt(self._keys.get(connection, row.key).key, row.sealed, *context)
        except DecryptionFailed:
            raise StateError(
                "what is kept of a batch was changed, and not by this program", hint="put back a backup of the state"
            ) from None


def _files_of(owner: str) -> Select:
    return select(batch_files).where(batch_files.c.owner == owner, batch_files.c.expires_at > time.time())


def _after(
    connection: StateConnection,
    table: Table,
    query: Select,
    owner: str,
    after: str | None,
    *,
    oldest_first: bool = False,
) -> Select:
    """The rows of `query` in the order in which they were made, those `after` the one of this id. Raises NotFound."""
    made_at, ident = table.c.made_at, table.c.id
    if after is not None:
        at = connection.execute(select(made_at).where(ident == after, table.c.owner == owner)).scalar_one_or_none()
        if at is None:
            raise NotFound("there is nothing of the id that `after` names", field="after")
        beyond, beside = (made_at > at, ident < after) if oldest_first else (made_at < at, ident > after)
        query = query.where(beyond | ((made_at == at) & beside))
    return query.order_by(made_at, ident.desc()) if oldest_first else query.order_by(made_at.desc(), ident)


def with_facts(batch: KeptBatch, **facts: Json) -> KeptBatch:
    """With these facts in place of others of the same name."""
    return replace(batch, facts={**batch.facts, **facts})


def _row(key: DataKey, batch: KeptBatch) -> dict[str, Any]:
    sealed = _sealed(key, batch.facts, *_of_batch(batch))
    known = {"id": batch.id, "owner": batch.owner, "ended": batch.ended, "made_at": batch.made_at}
    return {**known, "kept_until": batch.kept_until, "key": key.id, "sealed": sealed}


def _sealed(key: DataKey, facts: Mapping[str, Json], *context: str) -> bytes:
    return encrypt(key.key, json.dumps(facts).encode(), *context)


def _of_file(file: Any) -> tuple[str, ...]:
    """The context of a file: its columns that somebody could change."""
    return "batch file", file.id, file.owner, str(file.bytes)


def _of_batch(batch: Any) -> tuple[str, ...]:
    return "batch", batch.id, batch.owner, str(bool(batch.ended))


def _context(file: str, position: int) -> tuple[str, ...]:
    return "batch piece", file, str(position)
