"""Settings of components, field by field: for all versions, or for one version, where the value replaces the other.
Policies, configuration and allowed imports are sections of the table `settings`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from host.core.audit import Event, EventKind
from host.core.names import Reference
from host.core.strict_json import Json, kind_of, parse_json
from host.errors import InputError, StateError
from host.store.audit_log.log import AuditLog, Change
from host.store.connections import StateConnection
from host.store.sql import Expression, and_, select
from host.store.tables import settings

MAX_VALUE_BYTES = 64 * 1024

Document = dict[str, Json]


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and the reference that the operator set it for."""

    value: Json
    scope: Reference


class Settings(ABC):
    """One section. Thread-safe. A write is checked whole, and recorded in its transaction; a write that changes nothing
    is not recorded. Methods raise InputError for bad arguments, and StateError.
    """

    section: ClassVar[Literal["policy", "config", "import"]]
    kind: ClassVar[EventKind]
    forget: ClassVar[str]  # the command

    def __init__(self, audit_log: AuditLog) -> None:
        self._audit_log = audit_log

    @abstractmethod
    def check(self, document: Document) -> None:
        """Raises InputError, which names the field, if a component could not run with `document`."""

    def recorded(self, values: Mapping[str, Json]) -> Json:
        """The form of changed fields in the audit log."""
        return dict(values)

    def document(self, reference: Reference) -> Document:
        """The fields that are set for exactly `reference`."""
        return self._documents(_rows_of(reference)).get(reference, {})

    def merged(self, reference: Reference) -> dict[str, Setting]:
        """The fields that hold for `reference`, each with the reference that it was set for."""
        found = self._documents(settings.c.subject == reference.subject)
        return _merged(found, reference)

    def all(self) -> dict[Reference, Document]:
        """All fields that are set, ordered by reference."""
        return self._documents()

    def set(self, reference: Reference, field: str, value: Json) -> None:
        """Set one field."""
        self.update(reference, {field: value})

    def update(self, reference: Reference, values: Mapping[str, Json]) -> None:
        """Set several fields, all of them or none."""
        with self._audit_log.changing() as change:
            found = self._read(change.connection, settings.c.subject == reference.subject)
            self._write(change, found, {reference: {**found.get(reference, {}), **values}})

    def replace(self, reference: Reference, document: Mapping[str, Json], *, before: Document | None = None) -> None:
        """Replace all fields of `reference` by `document`; with `before`, only if its fields are still those."""
        with self._audit_log.changing() as change:
            found = self._read(change.connection, settings.c.subject == reference.subject)
            if before is not None and found.get(reference, {}) != before:
                raise InputError(f"the settings of {reference} were changed by somebody else meanwhile")
            self._write(change, found, {reference: document})

    def replace_all(self, documents: Mapping[Reference, Mapping[str, Json]]) -> None:
        """`replace` for each of `documents`, all of them or none."""
        with self._audit_log.changing() as change:
            subjects = {reference.subject for reference in documents}
            self._write(change, self._read(change.connection, settings.c.subject.in_(subjects)), documents)

    def reset(self, reference: Reference, field: str | None = None) -> tuple[str, ...]:
        """Delete one field, or all. Returns the names of the deleted fields. Does not parse the stored values: it is
        the remedy if they cannot be read."""
        rows = _rows_of(reference) if field is None else and_(_rows_of(reference), settings.c.field == field)
        with self._audit_log.changing() as change:
            present = select(settings.c.field).where(self._in_section, rows).order_by(settings.c.field)
            fields = tuple(change.connection.execute(present).scalars())
            if fields:
                for one in fields:
                    change.delete(settings, **self._row(reference, one))
                self._record(change, reference, {}, fields)
        return fields

    @property
    def _in_section(self) -> Expression:
        return settings.c.section == self.section

    def _row(self, reference: Reference, field: str) -> dict[str, str]:
        """The primary key of a row."""
        at = {"subject": reference.subject, "version": reference.version}
        return {**at, "section": self.section, "field": field}

    def _documents(self, *which: Expression) -> dict[Reference, Document]:
        with self._audit_log.database.reading() as connection:
            return self._read(connection, *which)

    def _read(self, connection: StateConnection, *which: Expression) -> dict[Reference, Document]:
        rows = connection.execute(
            select(settings.c.subject, settings.c.version, settings.c.field, settings.c.value)
            .where(self._in_section, *which)
            .order_by(settings.c.subject, settings.c.version, settings.c.field)
        )
        found: dict[Reference, Document] = {}
        for subject, version, field, value in rows:
            try:
                found.setdefault(_reference(subject, version), {})[field] = parse_json(value, field)
            except InputError as error:
                raise StateError(
                    f"the {self.section} of {subject}:{version} is damaged: {error.message}",
                    hint=f"{self.forget} deletes it",
                ) from None
        return found

    def _write(
        self, change: Change, found: Mapping[Reference, Document], documents: Mapping[Reference, Mapping[str, Json]]
    ) -> None:
        """Put `documents` in the place of what `found`, which is all of their subjects, has for the same references."""
        plain = {reference: _plain_document(document) for reference, document in documents.items()}
        now = {**found, **plain}
        for reference in now:
            if reference in plain or reference.any_version in plain:
                self.check({field: setting.value for field, setting in _merged(now, reference).items()})
        for reference, document in plain.items():
            self._put(change, reference, found.get(reference, {}), document)

    def _put(self, change: Change, reference: Reference, before: Document, after: Document) -> None:
        old = {field: _canonical(value) for field, value in before.items()}
        new = {field: _canonical(value) for field, value in after.items()}
        put = {field: value for field, value in new.items() if old.get(field) != value}
        gone = sorted(old.keys() - new.keys())
        if not put and not gone:
            return
        for field in [*put, *gone]:
            change.delete(settings, **self._row(reference, field))
        for field, value in put.items():
            change.insert(settings, **self._row(reference, field), value=value)
        self._record(change, reference, {field: after[field] for field in put}, gone)

    def _record(self, change: Change, reference: Reference, put: Mapping[str, Json], gone: Iterable[str]) -> None:
        detail: Document = {"reference": str(reference)}
        if put:
            detail["set"] = self.recorded(put)
        if gone:
            detail["reset"] = list(gone)
        change.record(Event(self.kind, "", detail=detail))


def _merged(documents: Mapping[Reference, Document], reference: Reference) -> dict[str, Setting]:
    return {
        field: Setting(value, scope)
        for scope in (reference.any_version, reference)
        for field, value in documents.get(scope, {}).items()
    }


def _reference(subject: str, version: str) -> Reference:
    reference = Reference.parse(f"{subject}:{version or 'latest'}")
    if (reference.subject, reference.version) != (subject, version):
        raise InputError("the reference is not in its normal form")
    return reference


def _rows_of(reference: Reference) -> Expression:
    return and_(settings.c.subject == reference.subject, settings.c.version == reference.version)


def _canonical(value: Json) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def _plain_document(document: object) -> Document:
    if not isinstance(document, Mapping):
        raise InputError(f"settings are a JSON object, not a JSON {kind_of(document)}")
    return {field: _plain(field, value) for field, value in document.items()}


def _plain(field: str, value: object) -> Json:
    """`value` as it will be read again. Raises InputError if it is not JSON, or too large."""
    try:
        text = _canonical(value)
    except (TypeError, ValueError, RecursionError):
        raise InputError(f"{field} is not a JSON value", field=field) from None
    if len(text) > MAX_VALUE_BYTES:
        raise InputError(f"{field} has more than {MAX_VALUE_BYTES} bytes", field=field)
    return parse_json(text, field)
