"""An index of SQLite is a copy of columns. Somebody who may write to the file, without the master key, gives it entries
that no row has: each row stays as it was sealed, and a query by the index finds another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from host import Reference, Workspace
from host.core.audit import Event
from host.core.names import SecretName
from host.errors import StateError
from host.store.audit_log.records import run
from host.store.audit_log.verification import verify
from tests.store.kept import OPENAI, grant_something, register

pytestmark = pytest.mark.parametrize("kind", ["sqlite"], indirect=True)

OTHER = Reference.parse("c:local.other")
Raw = Callable[..., Any]


def forge(raw: Raw, table: str, *changes: str, index: str = "") -> None:
    """Give an index of `table` (by default the primary key's) the entries that the table `forged`, a copy of it, has
    after these changes. The rows and the schema stay."""
    index = index or f"sqlite_autoindex_{table}_1"
    ((made,),) = raw("SELECT sql FROM sqlite_master WHERE name = ?", table)
    raw(made.replace(f"CREATE TABLE {table}", "CREATE TABLE forged"))
    other = "sqlite_autoindex_forged_1"
    if not index.startswith("sqlite_"):
        ((made,),) = raw("SELECT sql FROM sqlite_master WHERE name = ?", index)
        other = "other"
        raw(made.replace(f"INDEX {index} ON {table}", f"INDEX {other} ON forged"))
    columns = ", ".join(row[1] for row in raw(f"PRAGMA table_info({table})"))
    raw(f"INSERT INTO forged (rowid, {columns}) SELECT rowid, {columns} FROM {table}")
    for change in changes:
        raw(change)
    raw("PRAGMA writable_schema=ON")
    ((mine,),) = raw("SELECT rootpage FROM sqlite_master WHERE name = ?", other)
    ((theirs,),) = raw("SELECT rootpage FROM sqlite_master WHERE name = ?", index)
    raw("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", mine, index)
    raw("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", theirs, other)
    raw("PRAGMA writable_schema=RESET")
    raw("DROP TABLE forged")
    raw("PRAGMA writable_schema=OFF")


@pytest.fixture
def kept(workspace: Workspace) -> Workspace:
    """A component that waits for its approval, with settings and a secret; and another."""
    grant_something(workspace.audit_log)
    assert not register(workspace.components, "0.1.0").approved
    workspace.grants.grant(OPENAI, SecretName("KEY"))
    workspace.policies.set(OTHER, "timeout", "9s")
    return workspace


def refused(kept: Workspace, table: str) -> None:
    said = f"the indexes of the table '{table}' do not have the entries of its rows"
    attempts: list[Callable[[], object]] = [
        kept.check,
        kept.api_keys.snapshot,
        lambda: kept.installed(OPENAI),
        lambda: kept.policies.set(OTHER, "timeout", "6s"),
        kept.audit_log.accept,
        lambda: verify(kept.audit_log),
    ]
    for attempt in attempts:
        with pytest.raises(StateError, match=said) as caught:
            attempt()
        assert "REINDEX" in str(caught.value.hint)


def test_an_approval_that_only_an_index_has_runs_nothing(kept: Workspace, raw: Raw) -> None:
    digest = kept.components.resolve(OPENAI).digest
    forge(
        raw,
        "approvals",
        f"INSERT INTO forged (rowid, subject, digest, approved_at) VALUES (7, '{OPENAI.subject}', '{digest}', 1.0)",
    )
    assert kept.components.resolve(OPENAI).approved, "the query by the index believes it"
    refused(kept, "approvals")


def test_a_policy_that_an_index_gives_to_another_name_is_not_its_policy(kept: Workspace, raw: Raw) -> None:
    taken = f"UPDATE forged SET subject = '{OPENAI.subject}' WHERE subject = '{OTHER.subject}'"
    forge(raw, "settings", f"DELETE FROM forged WHERE subject = '{OPENAI.subject}'", taken)
    assert kept.policies.document(OPENAI) == {"timeout": "9s"}
    refused(kept, "settings")


def test_a_secret_that_an_index_grants_to_another_name_is_not_granted(kept: Workspace, raw: Raw) -> None:
    forge(raw, "secret_grants", f"UPDATE forged SET subject = '{OTHER.subject}'")
    assert SecretName("KEY") in kept.grants.of(OTHER)
    refused(kept, "secret_grants")


def test_a_version_that_an_index_hides_is_found(kept: Workspace, raw: Raw) -> None:
    forge(raw, "components", "DELETE FROM forged")
    assert kept.components.versions(OPENAI) == []
    refused(kept, "components")


@pytest.mark.parametrize("table", ["api_keys", "artifacts", "newest", "rules", "seals", "trusted_keys"])
def test_an_entry_of_no_row_is_found_in_every_table_that_is_sealed(kept: Workspace, raw: Raw, table: str) -> None:
    columns = raw(f"SELECT name FROM pragma_table_info('{table}') WHERE \"notnull\"")
    names, values = ", ".join(name for (name,) in columns), ", ".join("'a'" for _ in columns)
    forge(raw, table, f"INSERT INTO forged (rowid, {names}) VALUES (99, {values})")
    refused(kept, table)


def test_records_that_an_index_hides_are_found_by_the_verification(kept: Workspace, raw: Raw) -> None:
    for kind in ("run.started", "run.ended"):
        kept.audit_log.record(Event(kind, "run_1"))
    forge(raw, "audit", "UPDATE forged SET run = 'run_2' WHERE kind = 'run.started'", index="ix_audit_run")
    assert run(kept.database, "run_2")[1], "the query by the index believes it"
    with pytest.raises(StateError, match="the indexes of the table 'audit'"):
        verify(kept.audit_log)


def test_indexes_made_anew_from_the_rows_are_as_they_were(kept: Workspace, raw: Raw) -> None:
    forge(raw, "secret_grants", f"UPDATE forged SET subject = '{OTHER.subject}'")
    raw("REINDEX")
    kept.check()
    assert SecretName("KEY") not in kept.grants.of(OTHER)
    verify(kept.audit_log)
