"""Whether the record is as it was written.

1. It begins where it should: with the first record ever, or after the last one that was pruned.
2. Every record follows the one before it, and its mac is right: nothing was edited, deleted, swapped or put in.
3. What the newest `audit.pruned` record says of the beginning was itself read on the way.
4. The head that this machine noted is one of the records: nothing was cut off at the end, and nothing was rewritten.
   What an operator expects, from a note kept elsewhere, is held to the same.
5. What is kept is what the last record of a change left (`host.state.integrity`).

What cannot be seen from here: that the whole state was put back to an earlier one, the noted head included. A head
that is kept elsewhere shows that. And the end of the record may be missing because the machine lost power: SQLite
loses the last seconds then (`host.state.database`), and nobody can tell that from a cut.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from host.errors import AuditBroken
from host.state.chain import beginning, missing, walk
from host.state.head import Head, Note
from host.state.journal import Journal


@dataclass(frozen=True, slots=True)
class Verified:
    """A record that is whole. `first` is the number of its first entry (0 where there is none) and `since` when that
    was written, Unix time; `head` the last one. Up to `pruned_through` it was pruned. `noted` is how far this machine
    had noted it; None where it never did, which a shared state allows."""

    records: int
    first: int
    since: float | None
    head: Head
    pruned_through: int
    noted: int | None


def verify(journal: Journal, expected: Head | None = None) -> Verified:
    """Raises AuditBroken with the number of the first record that is not as it was written; StateError. `expected` is
    a head that was seen before: it has to be part of the record, or pruned."""
    note = journal.head_file.read()  # before the transaction: what it speaks of has to be there
    heads = [head for head in (note.head if note else None, expected) if head is not None]
    with journal.database.reading() as connection:
        start = last = beginning(connection)
        since: float | None = None
        met = {start.seq: start.mac}  # of what was noted, the mac that it has here
        for last, at in walk(connection, journal.keys, start):
            since = at if since is None else since
            if any(head.seq == last.seq for head in heads):
                met[last.seq] = last.mac
        _check_note(journal, connection, note, last)
    for head in heads:
        if head.seq > last.seq:
            raise _cut_off(last, head)
        if met.get(head.seq, head.mac) != head.mac and (head.seq or last.seq):
            raise _broken(f"record {head.seq} is another than the one that was noted: it was written anew", head.seq)
    with journal.database.reading() as connection:
        journal.check(connection)
    return Verified(
        records=last.seq - start.seq,
        first=start.seq + 1 if since is not None else 0,
        since=since,
        head=last,
        pruned_through=start.seq,
        noted=None if note is None else note.head.seq,
    )


def _check_note(journal: Journal, connection: Connection, note: Note | None, last: Head) -> None:
    """That it is there, and from here."""
    name = journal.head_file.path.name
    if note is None:
        if journal.begun(connection) and not journal.database.shared:
            raise _broken(f"{name} is gone: nobody can tell whether records came after {last.seq}", last.seq + 1)
    elif (note.head.seq or last.seq) and not journal.authentic(connection, note):
        raise _broken(f"{name} was not written with a key of this state", last.seq + 1)


def _cut_off(last: Head, noted: Head) -> AuditBroken:
    return _broken(f"{missing(last.seq + 1, noted.seq).message}: cut off at the end, or lost", last.seq + 1)


def _broken(message: str, seq: int) -> AuditBroken:
    return AuditBroken(message, seq=seq, hint="after a restored copy or a power failure: host audit accept")
