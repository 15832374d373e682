"""The state digest protects the operator's decisions: changes to the database without a key are found before any run.

Each attack would give a component more than it was granted, or run a refused component.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host import Reference, Workspace
from host.core.audit import CHANGES, Event
from host.core.names import SecretName
from host.core.quantities import Quota
from host.errors import StateError
from host.runtime.loader import Loader
from host.secrets.value import OPERATOR, SecretValue
from host.store.access.api_keys import network
from host.store.access.key_text import new_id, new_text
from host.store.audit_log.chain import Checkpoint, CheckpointFile
from host.store.audit_log.log import AuditLog
from host.store.audit_log.verification import verify
from host.store.vault.keys import DataKey
from host.trust.keys import SigningKey
from tests.conftest import CACHE
from tests.runtime.test_workspace import tool

TOOL = Reference.parse("c:local.tool")
ROWS = {
    "settings": "('catalyst:local.tool', '', 'policy', 'upstreams', '{\"https://a.test\": \"https://evil.example\"}')",
    "secret_grants": "('catalyst:local.tool', '', 'OTHER_KEY', NULL, '[\"header\"]', {false}, 1.0)",
    "rules": "('acme', {false}, 1)",
    "trusted_keys": "('sha256:00', 'acme', 'PEM', '', 1.0, NULL)",
    "newest": "('catalyst:acme.tool', '0.0.1')",
}


@pytest.fixture
def kept(workspace: Workspace) -> Workspace:
    """A tool with stored settings of every kind."""
    workspace.install(tool(), Loader(CACHE / "host", CACHE / "state"), bundles=(), source="/tool.wasm")
    workspace.policies.set(TOOL, "allowed_domains", ["a.test"])
    workspace.config.set(TOOL, "base_url", "https://a.test")
    workspace.grants.grant(TOOL, SecretName("KEY"))
    workspace.trust.add(SigningKey.generate().public, ["acme"])
    return workspace


def found(workspace: Workspace) -> None:
    """Runs and further changes are refused."""
    with pytest.raises(StateError, match="changed in the database"):
        workspace.installed(TOOL)
    with pytest.raises(StateError, match="changed in the database"):
        workspace.verified(workspace.components.resolve(TOOL))
    with pytest.raises(StateError, match="changed in the database"):
        workspace.policies.set(TOOL, "timeout", "5s")
    with pytest.raises(StateError):  # of the audit log, if that was changed too
        verify(workspace.audit_log)


def test_what_nobody_touched_is_as_it_was_sealed(kept: Workspace) -> None:
    assert kept.installed(TOOL).effective.policy.allowed_domains == ["a.test"]


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("UPDATE settings SET value = '[\"a.test\", \"evil.example\"]' WHERE section = 'policy'", id="a domain more"),
        pytest.param("UPDATE settings SET value = '\"https://evil.example\"' WHERE section = 'config'", id="another base_url"),
        pytest.param("UPDATE secret_grants SET domains = '[\"evil.example\"]'", id="a secret for another domain"),
        pytest.param("UPDATE secret_grants SET secret = 'OTHER_KEY'", id="another secret"),
        pytest.param("UPDATE trusted_keys SET namespace = 'globex'", id="a key for another namespace"),
        pytest.param("UPDATE components SET version = '9.9.9'", id="a version that it is not"),
        pytest.param("UPDATE components SET source = '/elsewhere'", id="a source that needs no signature"),
        pytest.param("UPDATE artifacts SET manifest = ''", id="a manifest that sets no bounds"),
        pytest.param("DELETE FROM settings WHERE section = 'policy'", id="a narrower policy taken away"),
        pytest.param("DELETE FROM approvals", id="an approval taken away"),
        pytest.param("DELETE FROM newest", id="the newest version forgotten"),
        pytest.param("DELETE FROM state_seal", id="the seal taken away"),
        pytest.param("UPDATE state_seal SET seq = seq + 1", id="the seal of another moment"),
        *(pytest.param(f"INSERT INTO {table} VALUES {row}", id=f"a row in {table}") for table, row in ROWS.items()),
    ],
)  # fmt: skip
def test_a_row_that_other_hands_wrote_is_found(
    kept: Workspace, kind: str, raw: Callable[..., Any], statement: str
) -> None:
    raw(statement.replace("{false}", "0" if kind == "sqlite" else "false"))
    found(kept)


def test_what_was_taken_back_does_not_come_back(kept: Workspace, raw: Callable[..., Any]) -> None:
    """Restores earlier rows together with their digest. The audit log has a later change."""
    columns = "seq, key, mac"
    ((seq, key, mac),) = raw(f"SELECT {columns} FROM state_seal")
    ((*grant,),) = raw("SELECT subject, version, secret, places, granted_at FROM secret_grants")
    kept.grants.revoke(TOOL, SecretName("KEY"))
    assert kept.installed(TOOL).secrets == {}
    raw("DELETE FROM state_seal")
    raw(f"INSERT INTO state_seal ({columns}) VALUES (?, ?, ?)", seq, key, bytes(mac))
    raw(
        "INSERT INTO secret_grants (subject, version, secret, places, granted_at, reveal)"
        " SELECT ?, ?, ?, ?, ?, reveal FROM (SELECT (1 = 0) AS reveal) AS no",
        *grant,
    )
    found(kept)


@pytest.mark.parametrize("hide", ["DELETE FROM audit WHERE seq > ?", "UPDATE audit SET kind = 'log' WHERE seq > ?"])
def test_nor_does_it_where_the_records_that_tell_of_it_are_gone(
    kept: Workspace, raw: Callable[..., Any], hide: str
) -> None:
    ((seq, key, mac),) = raw("SELECT seq, key, mac FROM state_seal")
    ((field,),) = raw("SELECT value FROM settings WHERE section = 'policy'")
    kept.policies.set(TOOL, "allowed_domains", [])
    raw(hide, seq)
    raw("UPDATE settings SET value = ? WHERE section = 'policy'", field)
    raw("UPDATE state_seal SET seq = ?, key = ?, mac = ?", seq, key, bytes(mac))
    found(kept)


def test_a_secret_put_back_with_its_seal_and_without_the_records_since(
    kept: Workspace, raw: Callable[..., Any]
) -> None:
    name, columns = SecretName("KEY"), "owner, name, key, revision, sealed, changed_at"
    kept.vault.set(OPERATOR, name, SecretValue("the-old-value"))
    (row,) = raw(f"SELECT {columns} FROM secrets")
    ((seal,),) = raw("SELECT mac FROM seals")
    ((seq, key, mac),) = raw("SELECT seq, key, mac FROM state_seal")
    kept.vault.set(OPERATOR, name, SecretValue("the-new-value"))
    raw("DELETE FROM audit WHERE seq > ?", seq)
    raw("UPDATE secrets SET revision = ?, sealed = ?, changed_at = ?", row[3], bytes(row[4]), row[5])
    raw("UPDATE seals SET mac = ?", bytes(seal))
    raw("UPDATE state_seal SET seq = ?, key = ?, mac = ?", seq, key, bytes(mac))
    found(kept)


def test_the_note_of_the_seal_taken_away_is_found_where_no_other_machine_could_have_it(
    kept: Workspace, kind: str
) -> None:
    kept.audit_log.digest_file.path.unlink()
    if kind == "sqlite":
        found(kept)
    else:
        assert kept.installed(TOOL)


def test_a_note_that_was_not_written_with_a_key_of_this_state_is_found(kept: Workspace, tmp_path: Path) -> None:
    with Workspace.open(tmp_path / "other") as other:
        other.policies.set(TOOL, "timeout", "5s")
        kept.audit_log.digest_file.path.write_bytes(other.audit_log.digest_file.path.read_bytes())
    found(kept)


def test_killed_before_the_first_seal_is_noted_the_state_opens(
    workspace: Workspace, database_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CheckpointFile, "advance", killed)
        with pytest.raises(KeyboardInterrupt):
            workspace.policies.set(TOOL, "timeout", "5s")
    with Workspace.open(workspace.state_dir, database_url) as again:
        again.policies.set(TOOL, "timeout", "6s")
        assert again.policies.effective(TOOL).policy.timeout == "6s"


def test_all_of_it_taken_away_is_no_new_state(kept: Workspace, raw: Callable[..., Any]) -> None:
    for table in (
        "settings",
        "secret_grants",
        "rules",
        "trusted_keys",
        "approvals",
        "components",
        "newest",
        "state_seal",
    ):
        raw(f"DELETE FROM {table}")
    with pytest.raises(StateError, match="changed in the database"):
        kept.policies.set(TOOL, "allowed_domains", ["evil.example"])


@pytest.mark.parametrize("also", ["the note", "the record"])
def test_nor_is_it_with_one_of_its_two_witnesses_gone(kept: Workspace, raw: Callable[..., Any], also: str) -> None:
    for table in (*ROWS, "components", "approvals", "artifacts", "seals", "state_seal"):
        raw(f"DELETE FROM {table}")
    if also == "the note":
        kept.audit_log.digest_file.path.unlink()
    else:
        raw("DELETE FROM audit")
    with pytest.raises(StateError, match="changed in the database"):
        kept.installed(TOOL)


def test_the_operator_can_take_it_as_it_is_and_that_is_on_record(kept: Workspace, raw: Callable[..., Any]) -> None:
    raw("DELETE FROM secret_grants")
    found(kept)
    kept.audit_log.accept()
    assert kept.installed(TOOL).secrets == {}


def test_another_process_that_changes_something_seals_it(kept: Workspace, database_url: str | None) -> None:
    with Workspace.open(kept.state_dir, database_url) as other:
        other.policies.set(TOOL, "timeout", "5s")
    assert kept.installed(TOOL).effective.policy.timeout == "5s"


def test_what_changes_something_is_recorded_with_it_and_nothing_else_is(audit_log: AuditLog) -> None:
    for kind in CHANGES:
        with pytest.raises(ValueError, match="is a change"):
            audit_log.record(Event(kind, ""))
    with pytest.raises(ValueError, match="is not a change"), audit_log.changing() as change:
        change.record(Event("run.started", "run_1"))


def test_an_old_secret_and_its_own_seal_put_back_together_are_found(kept: Workspace, raw: Callable[..., Any]) -> None:
    kept.vault.set(OPERATOR, SecretName("KEY"), SecretValue("the-old-value"))
    ((revision, sealed),) = raw("SELECT revision, sealed FROM secrets")
    ((seal,),) = raw("SELECT mac FROM seals")
    kept.vault.set(OPERATOR, SecretName("KEY"), SecretValue("the-new-value"))
    raw("UPDATE secrets SET revision = ?, sealed = ?", revision, bytes(sealed))
    raw("UPDATE seals SET mac = ?", bytes(seal))
    found(kept)


def test_rows_that_wait_in_a_state_that_was_never_used_are_found(workspace: Workspace, raw: Callable[..., Any]) -> None:
    raw("INSERT INTO settings VALUES ('catalyst:local.tool', '', 'policy', 'allowed_domains', '[\"evil.example\"]')")
    with pytest.raises(StateError, match="changed in the database"):
        workspace.policies.set(TOOL, "timeout", "5s")


@pytest.mark.parametrize("number", ["old", "new"])
def test_what_was_taken_back_does_not_come_back_for_a_machine_that_has_noted_nothing(
    kept: Workspace, raw: Callable[..., Any], number: str
) -> None:
    ((seq, mac),) = raw("SELECT seq, mac FROM state_seal")
    ((field,),) = raw("SELECT value FROM settings WHERE section = 'policy'")
    kept.policies.set(TOOL, "allowed_domains", [])
    raw("UPDATE settings SET value = ? WHERE section = 'policy'", field)
    raw("UPDATE state_seal SET mac = ?", bytes(mac))
    if number == "old":
        raw("UPDATE state_seal SET seq = ?", seq)
    kept.audit_log.digest_file.path.unlink()
    found(kept)


def test_a_note_that_was_written_without_the_key_it_names_is_found(kept: Workspace) -> None:
    noted = kept.audit_log.digest_file.read()
    assert noted is not None
    kept.audit_log.digest_file.replace(Checkpoint(), DataKey(noted.key, bytes(32)))
    found(kept)


def locked_out(workspace: Workspace) -> None:
    """No key is accepted, and nothing runs."""
    with pytest.raises(StateError, match="changed in the database"):
        workspace.api_keys.snapshot()
    with pytest.raises(StateError, match="changed in the database"):
        workspace.check()
    with pytest.raises(StateError, match="changed in the database"):
        workspace.api_keys.create(name="another", type="admin")
    found(workspace)


def put_in_a_key(raw: Callable[..., Any]) -> str:
    """Inserts a key as an attacker who knows the table would. Returns its text."""
    ident = new_id()
    text = new_text("admin", ident)
    values = (ident, "mine", "admin", '["manage"]', hashlib.sha256(text.encode()).digest(), "[]", "[]", "[]", 1.0)
    raw(
        "INSERT INTO api_keys (id, name, type, scopes, hash, ip_allowlist, models, catalysts, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *values,
    )
    return text


def test_an_api_key_put_in_by_hand(kept: Workspace, raw: Callable[..., Any]) -> None:
    put_in_a_key(raw)
    locked_out(kept)


def test_an_api_key_put_in_by_hand_beside_others(kept: Workspace, raw: Callable[..., Any]) -> None:
    kept.api_keys.create(name="ci", type="secret")
    put_in_a_key(raw)
    locked_out(kept)


def test_an_api_key_put_in_by_hand_into_a_state_that_was_never_used(
    workspace: Workspace, raw: Callable[..., Any]
) -> None:
    put_in_a_key(raw)
    with pytest.raises(StateError, match="changed in the database"):
        workspace.api_keys.snapshot()


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("UPDATE api_keys SET hash = ?", id="the hash swapped for that of another text"),
        pytest.param("UPDATE api_keys SET previous_hash = ?, previous_until = 1e12", id="a text before it, made up"),
    ],
)
def test_a_hash_of_ones_own_in_place_of_an_api_keys(kept: Workspace, raw: Callable[..., Any], statement: str) -> None:
    key, _ = kept.api_keys.create(name="ci", type="secret")
    raw(statement, hashlib.sha256(new_text("secret", key.id).encode()).digest())
    locked_out(kept)


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("UPDATE api_keys SET revoked_at = NULL", id="one that was revoked made active"),
        pytest.param("UPDATE api_keys SET expires_at = NULL", id="one without an end"),
        pytest.param("UPDATE api_keys SET type = 'admin', scopes = '[\"manage\"]'", id="one that manages"),
        pytest.param("UPDATE api_keys SET token_budget = NULL", id="one without a budget"),
        pytest.param("UPDATE api_keys SET ip_allowlist = '[]'", id="one for any address"),
        pytest.param("UPDATE api_keys SET models = '[]'", id="one for any model"),
        pytest.param("DELETE FROM api_keys WHERE name = 'ci'", id="one taken away"),
        pytest.param("DELETE FROM api_keys", id="all of them taken away: nobody would be asked for one"),
    ],
)
def test_an_api_key_that_other_hands_wrote(kept: Workspace, raw: Callable[..., Any], statement: str) -> None:
    kept.api_keys.create(
        name="ci",
        type="secret",
        token_budget=Quota.parse("2M/30d"),
        ip_allowlist=[network("10.0.0.0/8")],
        models=["gpt-*"],
        expires_at=time.time() + 60.0,
    )
    kept.api_keys.create(name="old", type="secret")
    kept.api_keys.revoke("old")
    raw(statement)
    locked_out(kept)


def test_an_api_key_of_before_put_back_with_its_seal(kept: Workspace, raw: Callable[..., Any]) -> None:
    kept.api_keys.create(name="ci", type="secret")
    ((seq, key, mac),) = raw("SELECT seq, key, mac FROM state_seal")
    kept.api_keys.revoke("ci")
    raw("UPDATE api_keys SET revoked_at = NULL")
    raw("UPDATE state_seal SET seq = ?, key = ?, mac = ?", seq, key, bytes(mac))
    locked_out(kept)


def test_api_keys_that_nobody_touched_let_in_whom_they_did(kept: Workspace) -> None:
    key, text = kept.api_keys.create(name="ci", type="secret")
    kept.check()
    assert kept.api_keys.snapshot().authenticate(text, time.time()) == key
