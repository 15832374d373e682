"""Stand-ins for installed components: the store does not look inside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from host.core.audit import Event
from host.core.names import Digest, Reference
from host.store.audit_log.log import AuditLog
from host.store.components import Component, Components
from host.store.database import Database
from host.store.sql import select
from host.store.tables import audit, settings

HTTP = "cyfr:http/fetch@0.1.0"
OPENAI = Reference.parse("c:local.openai")


def manifest(**fields: Any) -> str:
    return json.dumps({"id": "catalyst:local.openai", "domains": ["api.openai.com"], "wasi": {"http": True}, **fields})


def register(
    installed: Components,
    version: str,
    content: bytes = b"first",
    *,
    name: Reference = OPENAI,
    folder: str = "",
    **more: Any,
) -> Component:
    """`folder`: this machine built it there."""
    given: dict[str, Any] = {"manifest": manifest(), "imports": [HTTP], **more}
    if folder:
        installed.note_build(name, Digest.of(content), Path(folder))
    return installed.register(name.at(version), content, **given)


def grant_something(audit_log: AuditLog, reference: Reference = OPENAI) -> None:
    with audit_log.changing() as change:
        row = {"subject": reference.subject, "version": "", "section": "policy", "field": "timeout", "value": '"5s"'}
        change.insert(settings, **row)
        change.record(Event("policy.changed", ""))


def records(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(connection.execute(select(audit.c.kind).order_by(audit.c.seq)).scalars())
