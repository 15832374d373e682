"""What is known of a name beside its grants: the builds that this machine made for it, its place among all names, the
version that the operator pinned, and bytes that wait beside approved ones of their version.

A file says itself what its name is. So its name proves nothing, and neither does its version: what this machine built
is noted by digest when `host build` ends, together with the folder of the source. The folder counts as well, because
somebody else's source can be built too, and says itself what its name is. New bytes of a name are the operator's own
where this machine built them in the folder in which bytes of that name were built that are approved already.

The order in which names were first approved says which catalyst is the default. It is a number, and no time: a clock
that is set back changes nothing.

All are rows of the table `settings`, in the sections "build", "order", "pin" and "waiting". So the state digest covers
them, and nobody can add one who has no key of the state. They grant nothing (`GRANTING`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from host.core.audit import Event
from host.core.names import Digest, Reference
from host.store.audit_log.log import Change
from host.store.connections import StateConnection
from host.store.sql import and_, func, select
from host.store.tables import approvals, components, settings

GRANTING: Final = ("policy", "config", "import")
"""The sections of `settings` that let a component do something."""

# By digest: a list of a number, which orders them, and the folder; and the folder of the approved one.
_BUILD: Final = "build"
_FOLDER: Final = "folder"
_ORDER: Final = "order"
_FIRST: Final = "first"
PIN: Final = "pin"  # the version, in the field "version"
_PINNED: Final = "version"
WAITING: Final = "waiting"  # by version and digest: the rest of the row in `components` that they get when approved
_MOST_BUILDS: Final = 50  # of one name; those before them are forgotten


def note_build(change: Change, reference: Reference, digest: Digest, folder: Path) -> None:
    """Note that this machine built these bytes, which name themselves `reference`, in `folder`."""
    builds = _builds(change.connection, reference)
    last = max((number for number, _ in builds.values()), default=0)
    kept = sorted(builds, key=lambda one: builds[one][0], reverse=True)[: _MOST_BUILDS - 1]
    _forget(change, reference, _BUILD, [str(digest), *(one for one in builds if one not in kept)])
    _put(change, reference, _BUILD, str(digest), [last + 1, os.path.realpath(folder)])
    detail = {"reference": str(reference), "digest": str(digest)}
    change.record(Event("component.built", "", detail=detail))


def built_here(connection: StateConnection, reference: Reference, digest: Digest) -> bool:
    """Whether this machine built the bytes for this name, in the folder of its approved bytes."""
    found = _builds(connection, reference).get(str(digest))
    return found is not None and found[1] == _value(connection, reference, _BUILD, _FOLDER)


def note_approval(change: Change, reference: Reference, digest: Digest) -> None:
    """Note where the bytes that are approved now were built, if it was here; and the name's place in the order."""
    connection = change.connection
    found = _builds(connection, reference).get(str(digest))
    if found is not None:
        _forget(change, reference, _BUILD, [_FOLDER])
        _put(change, reference, _BUILD, _FOLDER, found[1])
    places = _places(connection)
    if reference.subject in places:
        return
    earlier = [one for one in in_order(connection) if one not in places and one != reference.subject]
    for place, subject in enumerate((*earlier, reference.subject), max(places.values(), default=0) + 1):
        _put(change, Reference.parse(subject), _ORDER, _FIRST, place)


def forget_place(change: Change, reference: Reference) -> None:
    """The name leaves the order, if nothing is installed under it any more."""
    installed = select(components.c.version).where(components.c.subject == reference.subject)
    if change.connection.execute(installed).first() is None:
        _forget(change, reference, _ORDER, [_FIRST])


def pin(change: Change, reference: Reference) -> None:
    """Pin the version of `reference`, in the place of any other."""
    if _value(change.connection, reference, PIN, _PINNED) == reference.version:
        return
    _forget(change, reference, PIN, [_PINNED])
    _put(change, reference, PIN, _PINNED, reference.version)
    change.record(Event("component.pinned", "", detail={"reference": str(reference)}))


def unpin(change: Change, reference: Reference) -> bool:
    """Returns whether a version was pinned."""
    version = _value(change.connection, reference, PIN, _PINNED)
    if version is None:
        return False
    _forget(change, reference, PIN, [_PINNED])
    change.record(Event("component.unpinned", "", detail={"reference": str(reference.at(version))}))
    return True


def note_waiting(change: Change, reference: Reference, digest: Digest, noted: Mapping[str, Any]) -> None:
    """Note that these bytes wait to become this version."""
    row = {"subject": reference.subject, "version": reference.version, "section": WAITING, "field": str(digest)}
    change.insert(settings, **row, value=json.dumps(dict(noted)))


def waits(connection: StateConnection, reference: Reference, digest: Digest) -> dict[str, Any]:
    """By version, what was noted of these bytes where they wait."""
    query = select(settings.c.version, settings.c.value).where(_at(reference, WAITING), settings.c.field == str(digest))
    return dict(_read(connection.execute(query)))


def forget_waiting(change: Change, reference: Reference) -> list[Digest]:
    """No bytes wait to become this version any more. Returns which did."""
    at = and_(_at(reference, WAITING), settings.c.version == reference.version)
    found = list(change.connection.execute(select(settings.c.field).where(at)).scalars())
    for one in found:
        row = {"subject": reference.subject, "version": reference.version, "section": WAITING, "field": one}
        change.delete(settings, **row)
    return [Digest.parse(one) for one in found]


def in_order(connection: StateConnection) -> list[str]:
    """The installed subjects that were approved, in the order of their first approval, also where their present bytes
    wait for approval. Those from before there was a number come by time, after the others."""
    places = _places(connection)
    approved = and_(components.c.subject == approvals.c.subject, components.c.digest == approvals.c.digest)
    query = (
        select(components.c.subject, func.min(approvals.c.approved_at))
        .select_from(components)
        .join(approvals, approved, outer=True)
        .group_by(components.c.subject)
    )
    found = [(subject, at) for subject, at in connection.execute(query) if subject in places or at is not None]
    last = max(places.values(), default=0) + 1
    return [subject for subject, at in sorted(found, key=lambda one: (places.get(one[0], last), one[1] or 0.0, one[0]))]


def _builds(connection: StateConnection, reference: Reference) -> dict[str, tuple[int, str]]:
    """By digest, the build's number and its folder."""
    query = select(settings.c.field, settings.c.value).where(_at(reference, _BUILD), settings.c.field != _FOLDER)
    return {field: (number, folder) for field, (number, folder) in _read(connection.execute(query))}


def _places(connection: StateConnection) -> dict[str, int]:
    query = select(settings.c.subject, settings.c.value).where(settings.c.section == _ORDER)
    return dict(_read(connection.execute(query)))


def _read(rows: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    return ((name, json.loads(value)) for name, value in rows)


def _value(connection: StateConnection, reference: Reference, section: str, field: str) -> Any:
    query = select(settings.c.value).where(_at(reference, section), settings.c.field == field)
    found = connection.execute(query).scalar()
    return None if found is None else json.loads(found)


def _at(reference: Reference, section: str) -> Any:
    return and_(settings.c.subject == reference.subject, settings.c.section == section)


def _put(change: Change, reference: Reference, section: str, field: str, value: Any) -> None:
    row = {"subject": reference.subject, "version": "", "section": section, "field": field}
    change.insert(settings, **row, value=json.dumps(value))


def _forget(change: Change, reference: Reference, section: str, fields: Iterable[str]) -> None:
    for field in fields:
        change.delete(settings, subject=reference.subject, section=section, field=field)
