"""Installed components: a reference names a digest, and the digest names the bytes.

The bytes are files of the state directory. If several machines share the database, it holds the bytes too, and the
files are this machine's copies. A reader of bytes verifies them; this module does not.

An approval says which bytes may use the grants of a subject. While nothing is granted to a subject, its bytes are
approved when they are installed: they gain nothing, and a later grant is made to the bytes that are there. After a
grant, the operator approves new bytes: a file says itself what its name and its version are. In the namespace `local`,
bytes that this machine built (`host.store.provenance`) are approved at once if they request nothing more than the bytes
that were approved last.

Bytes that wait for approval change nothing for others: the latest version is the latest of those that are approved,
and no version counts as the newest one that was ever there before it is approved.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, insert, or_, select

from host.component.manifest import Manifest
from host.core.audit import Event
from host.core.names import Digest, Reference, check_version
from host.core.strict_json import Json
from host.errors import HostError, InputError, NotFound, StateError
from host.policy.diff import Difference, PermissionRequest
from host.store.audit_log.log import AuditLog, Change
from host.store.database import Database, make_private, sync_folder
from host.store.provenance import GRANTING, built_here, forget_place, in_order, note_approval, note_build
from host.store.tables import approvals, artifacts, blobs, components, newest, secret_grants, settings, signatures
from host.trust.bundle import MAX_BUNDLES
from host.trust.verification import is_prerelease, order


@dataclass(frozen=True, slots=True)
class Component:
    """An installed component. `size` is in bytes, `registered_at` Unix time, `source` the file or oci:// reference that
    it was installed from."""

    reference: Reference
    digest: Digest
    size: int
    manifest: Manifest | None
    imports: tuple[str, ...]
    source: str
    registered_at: float
    approved: bool

    @property
    def description(self) -> str:
        return self.manifest.description if self.manifest else ""


def latest(found: Iterable[Component]) -> Component:
    """The highest version by semver, of those that are approved if any is; one that is no prerelease before those that
    are. Versions that differ in their build only are equal for semver; the last in the alphabet wins."""
    return max(found, key=lambda one: (one.approved, *_rank(one)))


def _rank(one: Component) -> tuple[bool, Any, str]:
    return not is_prerelease(one.reference.version), order(one.reference.version), str(one.reference)


def parse_manifest(text: str) -> Manifest | None:
    """A manifest as it is stored: "" for none."""
    return Manifest.parse(text) if text else None


_FOLDER = "components"


class Blobs:
    """One per process, thread-safe."""

    def __init__(self, database: Database, state_dir: Path) -> None:
        self._database = database
        self._folder = state_dir / _FOLDER

    def put(self, connection: Connection, digest: Digest, content: bytes) -> None:
        """Store `content`: on this machine once this returns, for other machines after the commit. Raises
        StateError."""
        self._write(digest, content)
        if self._database.shared:
            known = connection.execute(select(blobs.c.digest).where(blobs.c.digest == str(digest))).first()
            if known is None:
                connection.execute(insert(blobs).values(digest=str(digest), content=content))

    def get(self, digest: Digest) -> bytes:
        """Raises StateError if the bytes are gone."""
        try:
            return self._file(digest).read_bytes()
        except OSError as error:
            if not self._database.shared:
                raise StateError(
                    f"the bytes of {digest} cannot be read: {error.strerror}", hint="register or pull it again"
                ) from None
        with self._database.reading() as connection:
            content = connection.execute(select(blobs.c.content).where(blobs.c.digest == str(digest))).scalar()
        if content is None:
            raise StateError(f"the bytes of {digest} are no longer in the database", hint="register or pull it again")
        self._write(digest, bytes(content))
        return bytes(content)

    def delete(self, connection: Connection, digest: Digest) -> None:
        connection.execute(delete(blobs).where(blobs.c.digest == str(digest)))
        self._file(digest).unlink(missing_ok=True)

    def _file(self, digest: Digest) -> Path:
        return self._folder / f"{digest.hex}.wasm"

    def _write(self, digest: Digest, content: bytes) -> None:
        """Write the file whole or not at all, even if the process is killed. An existing file is replaced, because its
        content may have been changed."""
        make_private(self._folder)
        draft = self._folder / f".{digest.hex}.{secrets.token_hex(4)}"
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:  # noqa: PTH123 - with its mode from the start
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._file(digest))
            sync_folder(self._folder)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise StateError(f"cannot write to {str(self._folder)!r}: {error.strerror}") from None


LOCAL: Final = "local"
_IS_APPROVED: Final = exists().where(
    approvals.c.subject == components.c.subject, approvals.c.digest == components.c.digest
)


@dataclass(frozen=True, slots=True)
class Review:
    """What the operator reviews. `before` is the digest of the bytes that were approved last (None: there are none);
    `difference` compares the requests of the two."""

    component: Component
    before: Digest | None
    difference: Difference


def approved_on_arrival(connection: Connection, component: Component, config: Mapping[str, Json]) -> bool:
    """Whether new bytes are approved without the operator. `config` is the component's configuration."""
    if not has_grants(connection, component.reference):
        return True
    found = review(connection, component, config)
    if found.before is None:
        return False
    own = component.reference.namespace == LOCAL and built_here(connection, component.reference, component.digest)
    return own and not found.difference.more


def approve(change: Change, component: Component, why: str) -> None:
    """Approve the component's bytes. `why` is the rule in the record."""
    forget(change, component.reference, component.digest)
    subject, digest = component.reference.subject, str(component.digest)
    change.insert(approvals, subject=subject, digest=digest, approved_at=time.time())
    note_approval(change, component.reference, component.digest)
    _raise_newest(change, component.reference)
    change.record(
        Event(
            "component.approved",
            "",
            rule=why,
            detail={"reference": str(component.reference), "digest": str(component.digest)},
        )
    )


def forget(change: Change, reference: Reference, digest: Digest) -> None:
    change.delete(approvals, subject=reference.subject, digest=str(digest))


def review(connection: Connection, component: Component, config: Mapping[str, Json]) -> Review:
    """Compare `component` with the bytes that were approved last."""
    row = connection.execute(
        select(artifacts.c.digest, artifacts.c.manifest, artifacts.c.imports)
        .join(approvals, approvals.c.digest == artifacts.c.digest)
        .where(approvals.c.subject == component.reference.subject)
        .order_by(approvals.c.approved_at.desc())
        .limit(1)
    ).first()
    after = PermissionRequest.of(component.imports, component.manifest, config)
    if row is None:
        return Review(component, None, Difference.between(PermissionRequest.nothing(), after))
    before = PermissionRequest.of(json.loads(row.imports), parse_manifest(row.manifest), config)
    return Review(component, Digest.parse(row.digest), Difference.between(before, after))


def has_grants(connection: Connection, reference: Reference) -> bool:
    """Whether anything is granted to any version of the subject."""
    set_ = exists().where(settings.c.subject == reference.subject, settings.c.section.in_(GRANTING))
    granted = exists().where(secret_grants.c.subject == reference.subject)
    return bool(connection.execute(select(or_(set_, granted))).scalar())


class Components:
    """One per process, thread-safe. Methods raise StateError."""

    def __init__(self, audit_log: AuditLog, blobs: Blobs) -> None:
        self._audit_log = audit_log
        self._blobs = blobs

    # reading

    def resolve(self, reference: Reference) -> Component:
        """The component with that version; without a version, the `latest`, which is approved if any version is. Raises
        NotFound."""
        found = self.versions(reference)
        if not found:
            raise NotFound(
                f"there is no {reference}",
                field="reference",
                hint="`host list` shows what there is; `host register` adds",
            )
        return latest(found)

    def from_source(self, source: str) -> Component | None:
        """The component that was installed from `source`; None if there is none."""
        with self._audit_log.database.reading() as connection:
            row = connection.execute(_INSTALLED.where(components.c.source == source)).first()
        return None if row is None else _component(row)

    def versions(self, reference: Reference) -> list[Component]:
        """All versions of the reference, or the one version that it names."""
        query = _INSTALLED.where(components.c.subject == reference.subject)
        if reference.version:
            query = query.where(components.c.version == reference.version)
        with self._audit_log.database.reading() as connection:
            return [_component(row) for row in connection.execute(query)]

    def all(self) -> list[Component]:
        """All components, sorted by subject, then by version with the highest first."""
        with self._audit_log.database.reading() as connection:
            found = [_component(row) for row in connection.execute(_INSTALLED)]
        by_version = sorted(found, key=lambda one: order(one.reference.version), reverse=True)
        return sorted(by_version, key=lambda one: one.reference.subject)

    def search(self, text: str) -> list[Component]:
        """The components that have every word of `text` in their name, description, imports or secrets."""
        words = text.lower().split()
        return [one for one in self.all() if all(word in _searched(one) for word in words)]

    def content(self, component: Component) -> bytes:
        """The stored bytes, not verified. Raises StateError if they are gone."""
        return self._blobs.get(component.digest)

    def held(self, digest: Digest) -> bytes | None:
        """The stored bytes with this digest, not verified; None if there are none."""
        try:
            return self._blobs.get(digest)
        except StateError:
            return None

    def bundles(self, digest: Digest) -> tuple[str, ...]:
        """The signature bundles that were installed with the bytes or added later."""
        query = select(signatures.c.bundle).where(signatures.c.digest == str(digest)).order_by(signatures.c.position)
        with self._audit_log.database.reading() as connection:
            return tuple(connection.execute(query).scalars())

    def waiting(self, reference: Reference) -> Component:
        """The component with that version; without a version, the highest of those that wait for approval, and if none
        does, the `latest`. Raises NotFound."""
        found = [one for one in self.versions(reference) if not one.approved]
        return max(found, key=_rank) if found else self.resolve(reference)

    def in_order(self) -> list[Reference]:
        """The names that are installed and approved, in the order of their first approval."""
        with self._audit_log.database.reading() as connection:
            return [Reference.parse(subject) for subject in in_order(connection)]

    def newest(self, reference: Reference) -> str:
        """The highest version that was ever approved; "" for none."""
        with self._audit_log.database.reading() as connection:
            found = connection.execute(select(newest.c.version).where(newest.c.subject == reference.subject)).scalar()
        return str(found or "")

    # changing

    def register(
        self,
        reference: Reference,
        wasm: bytes,
        *,
        manifest: str,
        imports: Sequence[str],
        bundles: Sequence[str] = (),
        source: str = "",
        replace: bool = False,
        config: Mapping[str, Json] | None = None,
    ) -> Component:
        """Install verified bytes as `reference`, which has a version. `manifest` is a text, "" for none; `config` the
        component's configuration. Installing the same bytes again only adds bundles. Raises InputError if the version
        has other bytes, unless `replace`."""
        digest = Digest.of(wasm)
        with self._audit_log.changing() as change:
            connection = change.connection
            before = connection.execute(select(components.c.digest).where(_is(reference))).scalar()
            if before not in (None, str(digest)) and not replace:
                raise InputError(
                    f"{reference} is taken by other bytes ({Digest.parse(before).short})",
                    field="reference",
                    hint="give them another version, or add --replace",
                )
            self._blobs.put(connection, digest, wasm)
            _store_artifact(change, digest, len(wasm), manifest, imports)
            _store_bundles(connection, digest, bundles)
            if before != str(digest):
                if before is not None and not has_grants(connection, reference):
                    forget(change, reference, Digest.parse(before))
                change.delete(components, subject=reference.subject, version=reference.version)
                change.insert(
                    components,
                    subject=reference.subject,
                    version=reference.version,
                    digest=str(digest),
                    source=source,
                    registered_at=time.time(),
                )
                change.record(
                    Event(
                        "component.registered",
                        "",
                        detail={"reference": str(reference), "digest": str(digest), "source": source},
                    )
                )
            component = _component(connection.execute(_INSTALLED.where(_is(reference))).one())
            if component.approved:
                _raise_newest(change, reference)
            elif approved_on_arrival(connection, component, config or {}):
                approve(change, component, "asks for nothing more")
        if before not in (None, str(digest)):
            self._drop(Digest.parse(before))
        return self.resolve(reference)

    def unregister(self, reference: Reference) -> list[Component]:
        """Remove one version, or all. Approvals stay, except those that were made because nothing was granted:
        otherwise the bytes could return later and use grants made meanwhile. Raises NotFound."""
        found = self.versions(reference)
        if not found:
            raise NotFound(f"there is no {reference}", field="reference", hint="`host list` shows what there is")
        with self._audit_log.changing() as change:
            idle = not has_grants(change.connection, reference)
            for one in found:
                change.delete(components, subject=one.reference.subject, version=one.reference.version)
                if idle:
                    forget(change, one.reference, one.digest)
                forget_place(change, one.reference)
                change.record(
                    Event(
                        "component.unregistered",
                        "",
                        detail={"reference": str(one.reference), "digest": str(one.digest)},
                    )
                )
        for one in found:
            self._drop(one.digest)
        return found

    def add_bundle(self, component: Component, bundle: str) -> None:
        with self._audit_log.changing() as change:
            _store_bundles(change.connection, component.digest, (bundle,))
            change.record(
                Event(
                    "component.signed",
                    "",
                    detail={"reference": str(component.reference), "digest": str(component.digest)},
                )
            )

    def review(self, component: Component, config: Mapping[str, Json]) -> Review:
        """What an approval would allow. `config` is the component's configuration."""
        with self._audit_log.database.reading() as connection:
            return review(connection, component, config)

    def note_build(self, reference: Reference, digest: Digest, folder: Path) -> None:
        """Note that this machine built these bytes, which name themselves `reference`, of the source in `folder`."""
        with self._audit_log.changing() as change:
            note_build(change, reference, digest, folder)

    def approve(self, component: Component) -> None:
        """Let these bytes use the grants of their subject."""
        with self._audit_log.changing() as change:
            approve(change, component, "by the operator")

    def _drop(self, digest: Digest) -> None:
        """Delete the bytes if no reference names them any more. This is a second transaction: a process that is killed
        before it leaves a superfluous file, not a missing one."""
        with self._audit_log.database.writing() as connection:
            if not connection.execute(select(exists().where(components.c.digest == str(digest)))).scalar():
                self._blobs.delete(connection, digest)


_INSTALLED: Final = select(
    components.c.subject,
    components.c.version,
    components.c.source,
    components.c.registered_at,
    artifacts.c.digest,
    artifacts.c.size,
    artifacts.c.manifest,
    artifacts.c.imports,
    _IS_APPROVED.label("approved"),
).join(artifacts, artifacts.c.digest == components.c.digest)


def _component(row: Row[Any]) -> Component:
    """Raises StateError for a row that this program does not write."""
    try:
        return Component(
            reference=Reference.parse(row.subject).at(check_version(row.version)),
            digest=Digest.parse(row.digest),
            size=int(row.size),
            manifest=parse_manifest(row.manifest),
            imports=tuple(map(str, json.loads(row.imports))),
            source=str(row.source),
            registered_at=float(row.registered_at),
            approved=bool(row.approved),
        )
    except (HostError, ValueError, TypeError) as error:
        raise StateError("an installed component cannot be read: its row was changed") from error


def _is(reference: Reference) -> ColumnElement[bool]:
    return and_(components.c.subject == reference.subject, components.c.version == reference.version)


def _store_artifact(change: Change, digest: Digest, size: int, manifest: str, imports: Sequence[str]) -> None:
    if not change.connection.execute(select(exists().where(artifacts.c.digest == str(digest)))).scalar():
        change.insert(
            artifacts,
            digest=str(digest),
            size=size,
            manifest=manifest,
            imports=json.dumps(list(imports)),
            added_at=time.time(),
        )


def _store_bundles(connection: Connection, digest: Digest, bundles: Sequence[str]) -> None:
    """Store bundles in the order of their arrival, each once, and no more than verification looks at: otherwise
    somebody who can attach bundles to an artifact could block its use. If there are too many, the new bundles come
    first, because they verified the artifact just now."""
    query = select(signatures.c.bundle).where(signatures.c.digest == str(digest))
    known = list(connection.execute(query.order_by(signatures.c.position)).scalars())
    both = list(dict.fromkeys([*known, *bundles]))
    if len(both) > MAX_BUNDLES:
        both = list(dict.fromkeys([*bundles, *known]))[:MAX_BUNDLES]
    if both != known:
        connection.execute(delete(signatures).where(signatures.c.digest == str(digest)))
        rows = [{"digest": str(digest), "position": at, "bundle": bundle} for at, bundle in enumerate(both)]
        connection.execute(insert(signatures), rows)


def _raise_newest(change: Change, reference: Reference) -> None:
    at = newest.c.subject == reference.subject
    known = change.connection.execute(select(newest.c.version).where(at)).scalar()
    if known is None:
        change.insert(newest, subject=reference.subject, version=reference.version)
    elif order(reference.version) > order(known):
        change.update(newest, {"subject": reference.subject}, version=reference.version)


def _searched(component: Component) -> str:
    manifest = component.manifest
    secrets = [secret.name for secret in manifest.secrets] if manifest else []
    return " ".join([str(component.reference), component.description, *component.imports, *secrets]).lower()
