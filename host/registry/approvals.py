"""Which bytes may use what was granted to a subject.

While nothing is granted to it, they are approved as they come: there is nothing for them to gain, and whoever grants
something then grants it to what is there. After that they are when the operator says so; and in the namespace `local`,
where they come from this machine, when they ask for nothing more than the ones approved last.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, exists, insert, select

from host.audit import Event
from host.jsontext import Json
from host.names import Digest, Reference
from host.policy.difference import Difference, Request
from host.registry.component import Component, parse_manifest
from host.registry.oci.reference import looks_like_oci
from host.state.journal import Change
from host.state.tables import approvals, artifacts, components, secret_grants, settings

LOCAL: Final = "local"
OF_COMPONENT: Final = exists().where(
    approvals.c.subject == components.c.subject, approvals.c.digest == components.c.digest
)


@dataclass(frozen=True, slots=True)
class Review:
    """What the operator has to look at: `before` is the component's request that was approved last (None: there is
    none), `difference` what the new bytes ask for beside it."""

    component: Component
    before: Digest | None
    difference: Difference


def come_approved(connection: Connection, component: Component, config: Mapping[str, Json]) -> bool:
    """Whether the operator need not say so. `config` is what was set for it."""
    if not has_grants(connection, component.reference):
        return True
    found = review(connection, component, config)
    if found.before is None:
        return False
    made_here = component.reference.namespace == LOCAL and not looks_like_oci(component.source)
    return made_here and not found.difference.more


def approve(change: Change, component: Component, why: str) -> None:
    """`why` is the rule that the record names."""
    values = {"subject": component.reference.subject, "digest": str(component.digest), "approved_at": time.time()}
    forget(change.connection, component.reference, component.digest)
    change.connection.execute(insert(approvals).values(**values))
    change.record(
        Event(
            "component.approved",
            "",
            rule=why,
            detail={"reference": str(component.reference), "digest": str(component.digest)},
        )
    )


def forget(connection: Connection, reference: Reference, digest: Digest) -> None:
    connection.execute(
        delete(approvals).where(approvals.c.subject == reference.subject, approvals.c.digest == str(digest))
    )


def review(connection: Connection, component: Component, config: Mapping[str, Json]) -> Review:
    """`component` beside the bytes that were approved last."""
    row = connection.execute(
        select(artifacts.c.digest, artifacts.c.manifest, artifacts.c.imports)
        .join(approvals, approvals.c.digest == artifacts.c.digest)
        .where(approvals.c.subject == component.reference.subject)
        .order_by(approvals.c.approved_at.desc())
        .limit(1)
    ).first()
    after = Request.of(component.imports, component.manifest, config)
    if row is None:
        return Review(component, None, Difference.between(Request.nothing(), after))
    before = Request.of(json.loads(row.imports), parse_manifest(row.manifest), config)
    return Review(component, Digest.parse(row.digest), Difference.between(before, after))


def has_grants(connection: Connection, reference: Reference) -> bool:
    """Whether anything is granted to the subject, in any version."""
    tables = (settings, secret_grants)
    return any(
        connection.execute(select(exists().where(table.c.subject == reference.subject))).scalar() for table in tables
    )
