"""Installed components: a reference names a digest, and the digest names the bytes.

An approval says which bytes may use the grants of a subject. While nothing is granted to a subject, its bytes are
approved when they are installed: they gain nothing, and a later grant is made to the bytes that are there. After a
grant, the operator approves new bytes: a file says itself what its name and its version are. In the namespace `local`,
bytes that this machine built (`host.store.provenance`) are approved at once if they request nothing more than the bytes
that were approved last.

Bytes that wait for approval change nothing for others. The version that serves, which a reference without a version
means, is the latest of those that are approved, or the one that the operator pinned. Bytes that are to replace approved
ones of the same version wait beside them, and take their place when they are approved. No version counts as the newest
one that was ever there before it is approved.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from host.component.manifest import Manifest
from host.core.audit import Event
from host.core.fields import did_you_mean
from host.core.names import Digest, Reference, check_version
from host.core.strict_json import Json
from host.errors import HostError, InputError, NotApproved, NotFound, StateError
from host.policy.diff import Difference, PermissionRequest
from host.store.audit_log.log import AuditLog, Change
from host.store.blobs import Blobs, store_artifact, store_bundles
from host.store.connections import StateConnection
from host.store.manifests import Manifests, ReadsManifest, without_schemas
from host.store.provenance import (
    GRANTING,
    PIN,
    WAITING,
    built_here,
    forget_place,
    forget_waiting,
    in_order,
    note_approval,
    note_build,
    note_waiting,
    pin,
    unpin,
    waits,
)
from host.store.sql import Expression, and_, concat, exists, or_, select
from host.store.tables import approvals, artifacts, components, newest, secret_grants, settings, signatures
from host.trust.verification import is_prerelease, order


@dataclass(frozen=True, slots=True)
class Component:
    """An installed component. `size` is in bytes, `registered_at` Unix time, `source` the file or oci:// reference that
    it was installed from. `serves`: a reference without a version means it; `pinned`: because the operator said so."""

    reference: Reference
    digest: Digest
    size: int
    manifest: Manifest | None
    imports: tuple[str, ...]
    source: str
    registered_at: float
    approved: bool
    pinned: bool = False
    serves: bool = False

    @property
    def description(self) -> str:
        return self.manifest.description if self.manifest else ""


def latest(found: Iterable[Component]) -> Component:
    """The pinned one; else the highest version by semver, of those that are approved if any is; one that is no
    prerelease before those that are. Versions that differ in their build only are equal for semver; the last in the
    alphabet wins."""
    return max(found, key=lambda one: (one.pinned, one.approved, *_rank(one)))


def _rank(one: Component) -> tuple[bool, Any, str]:
    return not is_prerelease(one.reference.version), order(one.reference.version), str(one.reference)


LOCAL: Final = "local"
_IS_APPROVED: Final = exists().where(
    approvals.c.subject == components.c.subject, approvals.c.digest == components.c.digest
)
_IS_PINNED: Final = exists().where(
    settings.c.subject == components.c.subject,
    settings.c.section == PIN,
    settings.c.value == concat('"', components.c.version, '"'),
)


@dataclass(frozen=True, slots=True)
class Review:
    """What the operator reviews. `before` is the digest of the bytes that were approved last (None: there are none);
    `difference` compares the requests of the two."""

    component: Component
    before: Digest | None
    difference: Difference


def approved_on_arrival(connection: StateConnection, component: Component, config: Mapping[str, Json]) -> bool:
    """Whether new bytes are approved without the operator. `config` is the component's configuration."""
    if not has_grants(connection, component.reference):
        return True
    found = review(connection, component, config)
    if found.before is None:
        return False
    own = component.reference.namespace == LOCAL and built_here(connection, component.reference, component.digest)
    return own and not found.difference.more


def approve(change: Change, component: Component, why: str) -> list[Digest]:
    """Approve the component's bytes, which take their place if they waited beside others. `why` is the rule in the
    record. Returns the digests of the bytes that they replaced."""
    replaced = _place(change, component.reference, component.digest)
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
    return replaced


def _place(change: Change, reference: Reference, digest: Digest) -> list[Digest]:
    """Put bytes that wait, under whatever versions of the subject, in the place of those that are there."""
    replaced = []
    for version, noted in waits(change.connection, reference, digest).items():
        at = {"subject": reference.subject, "version": version}
        before = change.connection.execute(select(components.c.digest).where(_is(reference.at(version)))).scalar()
        if before is not None:
            replaced.append(Digest.parse(before))
            change.delete(components, **at)
            if not has_grants(change.connection, reference):
                forget(change, reference, replaced[-1])
        change.insert(components, **at, digest=str(digest), **noted)
        forget_waiting(change, reference.at(version))
    return replaced


def forget(change: Change, reference: Reference, digest: Digest) -> None:
    change.delete(approvals, subject=reference.subject, digest=str(digest))


def review(connection: StateConnection, component: Component, config: Mapping[str, Json]) -> Review:
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
    manifest = without_schemas(digest := Digest.parse(row.digest), row.manifest)
    before = PermissionRequest.of(json.loads(row.imports), manifest, config)
    return Review(component, digest, Difference.between(before, after))


def has_grants(connection: StateConnection, reference: Reference) -> bool:
    """Whether anything is granted to any version of the subject."""
    set_ = exists().where(settings.c.subject == reference.subject, settings.c.section.in_(GRANTING))
    granted = exists().where(secret_grants.c.subject == reference.subject)
    return bool(connection.execute(select(or_(set_, granted))).scalar())


class Components:
    """One per process, thread-safe. Methods raise StateError."""

    def __init__(self, audit_log: AuditLog, blobs: Blobs) -> None:
        self._audit_log = audit_log
        self._blobs = blobs
        self._manifests = Manifests(blobs)

    # reading

    def resolve(self, reference: Reference, *, unread: bool = False) -> Component:
        """The component with that version; without one the `latest`, approved if any version is. `unread`: without its
        manifest, for callers who read the bytes. Raises NotFound."""
        with self._audit_log.database.reading() as connection:
            found = _of(connection, reference, (lambda *_: None) if unread else self._manifests.read)
            if not found:
                raise _unknown(connection, reference)
        return latest(found)

    def now(self, component: Component) -> Component:
        """These bytes under this reference as they are now; if they are gone, what it means now. Raises NotFound."""
        same = [one for one in self.versions(component.reference) if one.digest == component.digest]
        return same[0] if same else self.resolve(component.reference)  # which is gone, or has other bytes by now

    def from_source(self, source: str) -> Component | None:
        """The component that was installed from `source`; None if there is none."""
        return next((one for one in self.all() if one.source == source), None)

    def versions(self, reference: Reference) -> list[Component]:
        """All versions of the reference, or the one version that it names: twice, if other bytes of it wait."""
        with self._audit_log.database.reading() as connection:
            return _of(connection, reference, self._manifests.read)

    def all(self) -> list[Component]:
        """All components, sorted by subject, then by version with the highest first. Bytes that wait beside approved
        ones come after them."""
        with self._audit_log.database.reading() as connection:
            found = _found(connection, read=self._manifests.read)
        self._manifests.keep({one.digest for one in found})
        by_version = sorted(found, key=lambda one: (order(one.reference.version), one.approved), reverse=True)
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
        """The highest version that waits for approval; if none does, as `resolve`. Raises NotFound."""
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
        component's configuration. Installing the same bytes again only adds bundles, and takes back others that wait.
        With `replace` a version may get other bytes; approved ones serve until the others are approved. Raises
        InputError if the version has other bytes, unless `replace`."""
        digest = Digest.of(wasm)
        superseded: list[Digest] = []
        with self._blobs.prepared(digest, wasm, self._drop), self._audit_log.changing() as change:
            connection = change.connection
            before = connection.execute(select(components.c.digest).where(_is(reference))).scalar()
            if before not in (None, str(digest)) and not replace:
                raise InputError(
                    f"{reference} is taken by other bytes ({Digest.parse(before).short})",
                    field="reference",
                    hint="give them another version, or add --replace",
                )
            self._blobs.put(connection, digest, wasm)
            store_artifact(change, digest, len(wasm), manifest, imports)
            store_bundles(connection, digest, bundles)
            superseded += forget_waiting(change, reference)
            if before != str(digest):
                note_waiting(change, reference, digest, {"source": source, "registered_at": time.time()})
                detail = {"reference": str(reference), "digest": str(digest), "source": source}
                change.record(Event("component.registered", "", detail=detail))
                approved = [_is_approved(connection, reference, one) for one in (before, str(digest))]
                if approved != [True, False]:
                    superseded += _place(change, reference, digest)
            component = next(one for one in _of(connection, reference) if one.digest == digest)
            if component.approved:
                superseded += _place(change, reference, digest)
                _raise_newest(change, reference)
            elif approved_on_arrival(connection, component, config or {}):
                superseded += approve(change, component, "asks for nothing more")
        for one in superseded:
            self._drop(one)
        return self.now(component)

    def unregister(self, reference: Reference, *, waiting: bool = False) -> list[Component]:
        """Remove one version, or all; with `waiting` only what is not approved. Approvals stay, except those that were
        made because nothing was granted: otherwise the bytes could return later and use grants made meanwhile. Raises
        NotFound, and InputError for a version that is pinned."""
        with self._audit_log.changing() as change:
            found = [one for one in _of(change.connection, reference) if not (waiting and one.approved)]
            if not found:
                raise (
                    _unknown(change.connection, reference)
                    if not waiting
                    else NotFound(f"nothing of {reference} waits for approval")
                )
            if reference.version and any(one.pinned for one in found):
                raise InputError(
                    f"{reference} is pinned, and serves",
                    field="reference",
                    hint=f"host unpin {reference.any_version} lets it go; host pin {reference.any_version} VERSION "
                    "pins another",
                )
            if not reference.version and not waiting:
                unpin(change, reference)
            idle = not has_grants(change.connection, reference)
            for one in found:
                at = {"subject": one.reference.subject, "version": one.reference.version}
                if not change.delete(components, **at, digest=str(one.digest)):
                    forget_waiting(change, one.reference)
                if idle:
                    forget(change, one.reference, one.digest)
                forget_place(change, one.reference)
                detail = {"reference": str(one.reference), "digest": str(one.digest)}
                change.record(Event("component.unregistered", "", detail=detail))
        for one in found:
            self._drop(one.digest)
        return found

    def add_bundle(self, component: Component, bundle: str) -> None:
        with self._audit_log.changing() as change:
            store_bundles(change.connection, component.digest, (bundle,))
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
            replaced = approve(change, component, "by the operator")
        for one in replaced:
            self._drop(one)

    def pin(self, reference: Reference) -> Component:
        """Let the name mean this version, until another is pinned or `unpin`. Raises NotFound, and NotApproved for a
        version that waits for approval."""
        with self._audit_log.changing() as change:
            found = _of(change.connection, reference)
            if not found or not reference.version:
                raise _unknown(change.connection, reference)
            if not (component := latest(found)).approved:
                raise NotApproved(f"{reference} is not approved", hint=f"host approve {reference}")
            pin(change, component.reference)
        return self.now(component)

    def unpin(self, reference: Reference) -> None:
        """Let the name mean its latest approved version again. Raises NotFound if none is pinned."""
        with self._audit_log.changing() as change:
            if not unpin(change, reference):
                raise NotFound(f"no version of {reference.any_version} is pinned", field="reference")

    def _drop(self, digest: Digest) -> None:
        """Delete the bytes if no reference names them any more. This is a second transaction: a process that is killed
        before it leaves a superfluous file, not a missing one."""
        with self._audit_log.database.writing() as connection:
            waiting = and_(settings.c.section == WAITING, settings.c.field == str(digest))
            used = or_(exists().where(components.c.digest == str(digest)), exists().where(waiting))
            if not connection.execute(select(used)).scalar():
                self._blobs.delete(connection, digest)


_ARTIFACT: Final = (artifacts.c.digest, artifacts.c.size, artifacts.c.manifest, artifacts.c.imports)
_INSTALLED: Final = select(
    components.c.subject,
    components.c.version,
    components.c.source,
    components.c.registered_at,
    *_ARTIFACT,
    _IS_APPROVED.label("approved"),
    _IS_PINNED.label("pinned"),
).join(artifacts, artifacts.c.digest == components.c.digest)
_NAMES: Final = select(components.c.subject, components.c.version)
_WAITING: Final = (
    select(settings.c.subject, settings.c.version, settings.c.value, *_ARTIFACT)
    .join(artifacts, artifacts.c.digest == settings.c.field)
    .where(settings.c.section == WAITING)
)


def _of(connection: StateConnection, reference: Reference, read: ReadsManifest = without_schemas) -> list[Component]:
    """The versions of the reference, or the one that it names."""
    found = _found(connection, reference, read)
    return [one for one in found if reference.version in ("", one.reference.version)]


def _found(
    connection: StateConnection, of: Reference | None = None, read: ReadsManifest = without_schemas
) -> list[Component]:
    """What is installed, and what waits beside it: of one subject, or of all."""
    installed, waiting = _INSTALLED, _WAITING
    if of is not None:
        installed = installed.where(components.c.subject == of.subject)
        waiting = waiting.where(settings.c.subject == of.subject)
    found = [_component(row, read) for row in connection.execute(installed)]
    names: dict[Reference, list[Component]] = {}
    for one in found:
        names.setdefault(one.reference.any_version, []).append(one)
    serving = {name: latest(some).reference for name, some in names.items()}
    found = [replace(one, serves=one.approved and serving[one.reference.any_version] == one.reference) for one in found]
    return [*found, *(_component(row, read, **json.loads(row.value)) for row in connection.execute(waiting))]


def _component(row: Any, read: ReadsManifest, **noted: Any) -> Component:
    """`noted` is the rest of the row, of bytes that wait. Raises StateError for a row that this program does not
    write."""
    try:
        row_has: Mapping[str, Any] = {"approved": False, "pinned": False, **row.as_dict(), **noted}
        return Component(
            reference=Reference.parse(row.subject).at(check_version(row.version)),
            digest=(digest := Digest.parse(row.digest)),
            size=int(row.size),
            manifest=read(digest, row.manifest),
            imports=tuple(map(str, json.loads(row.imports))),
            source=str(row_has["source"]),
            registered_at=float(row_has["registered_at"]),
            approved=bool(row_has["approved"]),
            pinned=bool(row_has["pinned"]),
        )
    except (HostError, ValueError, TypeError) as error:
        raise StateError("an installed component cannot be read: its row was changed") from error


def _unknown(connection: StateConnection, reference: Reference) -> NotFound:
    """With the nearest of what is installed: a version of the name, or another name."""
    names = [Reference.parse(subject).at(version) for subject, version in connection.execute(_NAMES)]
    if reference.version and (same := [one for one in names if one.any_version == reference.any_version]):
        hint = f"its versions are {', '.join(one.version for one in same[:10])}"
    else:
        known = {str(one if reference.version else one.any_version): None for one in names}
        hint = did_you_mean(str(reference), known, "`host list` shows what there is; `host register` adds")
    return NotFound(f"there is no {reference}", field="reference", hint=hint)


def _is_approved(connection: StateConnection, reference: Reference, digest: str | None) -> bool:
    approved = exists().where(approvals.c.subject == reference.subject, approvals.c.digest == digest)
    return bool(connection.execute(select(approved)).scalar())


def _is(reference: Reference) -> Expression:
    return and_(components.c.subject == reference.subject, components.c.version == reference.version)


def _raise_newest(change: Change, reference: Reference) -> None:
    at = newest.c.subject == reference.subject
    known = change.connection.execute(select(newest.c.version).where(at)).scalar()
    if known is None:
        change.insert(newest, subject=reference.subject, version=reference.version)
    elif order(reference.version) > order(known):
        change.update(newest, {"subject": reference.subject}, version=reference.version)


def _searched(component: Component) -> str:
    secrets = [secret.name for secret in component.manifest.secrets] if component.manifest else []
    return " ".join([str(component.reference), component.description, *component.imports, *secrets]).lower()
