"""Stored secrets: reading returns the exact value or fails."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from host.core.audit import Event
from host.core.names import SecretName
from host.errors import AuditError, VaultError
from host.runtime.workspace import Workspace
from host.secrets.redaction import Redactor
from host.secrets.value import OPERATOR, SecretValue
from host.store import tables
from host.store.audit_log.log import Change
from host.store.audit_log.verification import prune
from host.store.sql import delete, insert, select, update
from host.store.vault import master
from host.store.vault.secrets import Rotated, Vault

NAME = SecretName("OPENAI_API_KEY")
OTHER = SecretName("OTHER_KEY")
OLD, NEW, SECOND = "sk-old-0123456789abcdef", "sk-new-0123456789abcdef", "second-0123456789abcdef"
RAW = {table.name: table for table in tables.ALL}


def vault_of(workspace: Workspace) -> Vault:
    return Vault(workspace.audit_log, workspace.keys)


def value(vault: Vault, name: SecretName = NAME, owner: str = OPERATOR) -> str | None:
    found = vault.get(owner, name)
    return None if found is None else found.reveal()


@pytest.fixture
def vault(workspace: Workspace) -> Vault:
    return vault_of(workspace)


@pytest.fixture
def filled(vault: Vault) -> Vault:
    """A vault with two secrets, one of them with a former value."""
    vault.set(OPERATOR, NAME, SecretValue(NEW))
    vault.set(OPERATOR, OTHER, SecretValue(SECOND))
    return vault


class Hands:
    """An attacker who can write to the database but has no key."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def copy(self, *names: str) -> dict[str, list[dict[str, Any]]]:
        with self._workspace.database.reading() as connection:
            return {name: [row.as_dict() for row in connection.execute(select(RAW[name]))] for name in names}

    def put_back(self, copied: dict[str, list[dict[str, Any]]]) -> None:
        """Replaces the whole content of these tables by the rows."""
        with self._workspace.database.writing() as connection:
            for name in reversed(copied):
                connection.execute(delete(RAW[name]))
            for name, rows in copied.items():
                if rows:
                    connection.execute(insert(RAW[name]), rows)

    def change(self, table: str, row: Callable[[dict[str, Any]], bool], **columns: Any) -> None:
        with self._workspace.database.writing() as connection:
            [found] = [one for one in connection.execute(select(RAW[table])) if row(one.as_dict())]
            keys = [RAW[table].c[name] == value for name, value in found.as_dict().items()]
            assert connection.execute(update(RAW[table]).where(*keys).values(**columns)).rowcount == 1

    def remove(self, table: str, **columns: str) -> None:
        with self._workspace.database.writing() as connection:
            where = [RAW[table].c[name] == text for name, text in columns.items()]
            assert connection.execute(delete(RAW[table]).where(*where)).rowcount


@pytest.fixture
def hands(workspace: Workspace) -> Hands:
    return Hands(workspace)


# --- use --------------------------------------------------------------------------------------------------------------


def test_a_secret_comes_back_as_it_was_set(vault: Vault) -> None:
    text = "pässwörd-🔑 with spaces"
    vault.set(OPERATOR, NAME, SecretValue(text))
    assert value(vault) == text


def test_the_last_value_counts(vault: Vault) -> None:
    for text in (OLD, NEW):
        vault.set(OPERATOR, NAME, SecretValue(text))
    assert value(vault) == NEW


def test_what_was_never_set_is_not_there(vault: Vault) -> None:
    assert value(vault) is None
    assert vault.names(OPERATOR) == []
    assert vault.delete(OPERATOR, NAME) is False


def test_the_names_are_sorted_and_have_the_time_of_their_last_change(vault: Vault) -> None:
    for name in (OTHER, NAME, OTHER):
        vault.set(OPERATOR, name, SecretValue(NEW))
    (first, at), (second, later) = vault.names(OPERATOR)
    assert (first, second) == (NAME, OTHER)
    assert at <= later


def test_a_deleted_secret_is_gone_and_the_others_stay(filled: Vault) -> None:
    assert filled.delete(OPERATOR, NAME) is True
    assert (value(filled), value(filled, OTHER)) == (None, SECOND)
    filled.delete(OPERATOR, OTHER)
    assert filled.names(OPERATOR) == []


def test_an_owner_sees_nothing_of_another(filled: Vault) -> None:
    filled.set("signing", NAME, SecretValue("another"))
    assert value(filled, owner="signing") == "another"
    assert value(filled) == NEW
    assert [name for name, _ in filled.names("signing")] == [NAME]
    filled.clear("signing")
    assert value(filled) == NEW


def test_another_process_opens_it(filled: Vault, state_dir: Path, database_url: str | None) -> None:
    with Workspace.open(state_dir, database_url) as other:
        assert value(vault_of(other)) == NEW


def test_many_at_once_lose_nothing(state_dir: Path, database_url: str | None) -> None:
    def work(number: int) -> None:
        with Workspace.open(state_dir, database_url) as one:
            for turn in range(3):
                vault_of(one).set(OPERATOR, SecretName(f"KEY_{number}_{turn}"), SecretValue(f"value-{number}-{turn}"))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    with Workspace.open(state_dir, database_url) as one:
        found = {str(name): value(vault_of(one), name) for name, _ in vault_of(one).names(OPERATOR)}
    assert found == {f"KEY_{number}_{turn}": f"value-{number}-{turn}" for number in range(4) for turn in range(3)}


# --- audit records ----------------------------------------------------------------------------------------------------


def test_every_change_is_recorded_without_the_value(filled: Vault, hands: Hands) -> None:
    filled.delete(OPERATOR, OTHER)
    filled.rotate()
    records = hands.copy("audit")["audit"]
    assert [one["kind"] for one in records] == ["secret.set", "secret.set", "secret.deleted", "key.rotated"]
    assert json.loads(records[0]["detail"])["name"] == str(NAME)
    text = repr(records).encode()
    assert Redactor({"found": SecretValue(NEW)}).data(text) == text


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda vault: vault.set(OPERATOR, NAME, SecretValue(OLD)), id="set"),
        pytest.param(lambda vault: vault.delete(OPERATOR, NAME), id="delete"),
        pytest.param(lambda vault: vault.clear(OPERATOR), id="clear"),
        pytest.param(lambda vault: vault.rotate(new_master=True), id="rotate"),
    ],
)
def test_what_cannot_be_recorded_does_not_happen(
    filled: Vault, hands: Hands, act: Callable[[Vault], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(change: Change, event: object) -> None:
        raise AuditError("no space left")

    before = hands.copy("keys", "secrets", "seals")
    with monkeypatch.context() as patched:
        patched.setattr(Change, "record", full)
        with pytest.raises(AuditError):
            act(filled)
    assert hands.copy("keys", "secrets", "seals") == before
    assert value(filled) == NEW


# --- attacks on the database ------------------------------------------------------------------------------------------


def named(name: SecretName) -> Callable[[dict[str, Any]], bool]:
    return lambda row: row["name"] == str(name)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def flips(column: str, changed: Callable[[Any], Any]) -> Callable[[Hands], None]:
    def attack(hands: Hands) -> None:
        [row] = [row for row in hands.copy("secrets")["secrets"] if row["name"] == str(NAME)]
        hands.change("secrets", named(NAME), **{column: changed(row[column])})

    return attack


def swaps_the_values(hands: Hands) -> None:
    one, other = hands.copy("secrets")["secrets"]
    for name, row in ((one["name"], other), (other["name"], one)):
        hands.change("secrets", named(SecretName(name)), sealed=row["sealed"], revision=row["revision"])


def swaps_what_is_sealed_alone(hands: Hands) -> None:
    one, other = hands.copy("secrets")["secrets"]
    for name, row in ((one["name"], other), (other["name"], one)):
        hands.change("secrets", named(SecretName(name)), sealed=row["sealed"])


def adds_a_copy_under_another_name(hands: Hands) -> None:
    copied = hands.copy("secrets")
    copied["secrets"].append({**copied["secrets"][0], "name": "COPIED"})
    hands.put_back(copied)


def removes_all_there_is(hands: Hands) -> None:
    hands.remove("secrets", owner=OPERATOR)
    hands.remove("seals", owner=OPERATOR)


ATTACKS = [
    *(
        pytest.param(flips("sealed", lambda data, at=at: flipped(data, at)), id=f"flips byte {at} of the sealed value")
        for at in (0, 11, 12, 20, -1 + 12 + len(NEW) + 16)
    ),
    pytest.param(flips("sealed", lambda data: data[:-1]), id="cuts the sealed value"),
    pytest.param(flips("sealed", lambda data: b""), id="empties the sealed value"),
    pytest.param(flips("revision", lambda text: "0" * 32), id="changes the revision"),
    pytest.param(flips("name", lambda text: "RENAMED"), id="renames"),
    pytest.param(flips("owner", lambda text: "signing"), id="gives it to another owner"),
    pytest.param(flips("changed_at", lambda at: at + 1), id="changes its time"),
    pytest.param(swaps_the_values, id="swaps two values"),
    pytest.param(swaps_what_is_sealed_alone, id="swaps what is sealed of two"),
    pytest.param(lambda hands: hands.remove("secrets", name=str(NAME)), id="deletes"),
    pytest.param(lambda hands: hands.remove("secrets", name=str(OTHER)), id="deletes another"),
    pytest.param(adds_a_copy_under_another_name, id="adds a copy under another name"),
    pytest.param(lambda hands: hands.remove("seals", owner=OPERATOR), id="removes the seal"),
    pytest.param(lambda hands: hands.change("seals", lambda row: True, mac=bytes(32)), id="changes the seal"),
    pytest.param(removes_all_there_is, id="removes all there is"),
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_row_that_other_hands_changed_is_an_error(
    filled: Vault, hands: Hands, attack: Callable[[Hands], None]
) -> None:
    attack(hands)
    with pytest.raises(VaultError, match="were changed in the database"):
        filled.get(OPERATOR, NAME)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda vault: vault.names(OPERATOR), id="names"),
        pytest.param(lambda vault: vault.set(OPERATOR, OTHER, SecretValue(OLD)), id="set"),
        pytest.param(lambda vault: vault.delete(OPERATOR, OTHER), id="delete"),
        pytest.param(lambda vault: vault.rotate(), id="rotate"),
    ],
)
def test_nothing_seals_what_other_hands_changed(filled: Vault, hands: Hands, act: Callable[[Vault], object]) -> None:
    hands.remove("secrets", name=str(NAME))
    before = hands.copy("secrets", "seals", "audit")
    with pytest.raises(VaultError):
        act(filled)
    assert hands.copy("secrets", "seals", "audit") == before


def test_an_older_value_put_back_is_an_error(vault: Vault, hands: Hands) -> None:
    vault.set(OPERATOR, NAME, SecretValue(OLD))
    older = hands.copy("secrets")
    vault.set(OPERATOR, NAME, SecretValue(NEW))
    hands.put_back(older)
    with pytest.raises(VaultError):
        vault.get(OPERATOR, NAME)


def test_an_older_value_put_back_with_its_seal_is_an_error(vault: Vault, hands: Hands) -> None:
    vault.set(OPERATOR, NAME, SecretValue(OLD))
    older = hands.copy("keys", "secrets", "seals")
    vault.set(OPERATOR, NAME, SecretValue(NEW))
    hands.put_back({name: older[name] for name in ("secrets", "seals")})
    with pytest.raises(VaultError):
        vault.get(OPERATOR, NAME)


def test_an_older_value_put_back_with_its_seal_is_an_error_also_after_the_record_was_pruned(
    vault: Vault, hands: Hands, workspace: Workspace
) -> None:
    vault.set(OPERATOR, NAME, SecretValue(OLD))
    older = hands.copy("keys", "secrets", "seals")
    vault.set(OPERATOR, NAME, SecretValue(NEW))
    for _ in range(2):
        assert prune(workspace.audit_log, time.time() + 1).records
    assert value(vault) == NEW
    hands.put_back({name: older[name] for name in ("secrets", "seals")})
    with pytest.raises(VaultError):
        vault.get(OPERATOR, NAME)


def test_all_of_before_a_rotation_put_back_is_an_error(filled: Vault, hands: Hands, keys: Any, workspace: Any) -> None:
    older = hands.copy("keys", "secrets", "seals")
    filled.rotate()
    newer = hands.copy("keys")["keys"]
    older["keys"] += [row for row in newer if row["id"] not in {one["id"] for one in older["keys"]}]
    with workspace.database.writing() as connection:
        for name in ("seals", "secrets"):
            connection.execute(delete(RAW[name]))
        gone = [row for row in older["keys"] if row["id"] not in {one["id"] for one in newer}]
        connection.execute(insert(RAW["keys"]), gone)
        for name in ("secrets", "seals"):
            connection.execute(insert(RAW[name]), older[name])
    with pytest.raises(VaultError):
        filled.get(OPERATOR, NAME)


def test_a_secret_of_another_owner_is_an_error_in_its_place(filled: Vault, hands: Hands) -> None:
    filled.set("signing", NAME, SecretValue("another"))
    [theirs] = [row for row in hands.copy("secrets")["secrets"] if row["owner"] == "signing"]
    hands.change(
        "secrets",
        lambda row: row["owner"] == OPERATOR and row["name"] == str(NAME),
        sealed=theirs["sealed"], revision=theirs["revision"], key=theirs["key"],
    )  # fmt: skip
    with pytest.raises(VaultError):
        filled.get(OPERATOR, NAME)


@pytest.mark.parametrize("with_seal", [False, True], ids=["the rows alone", "the rows and their seal"])
def test_what_another_vault_under_the_same_master_key_holds_is_an_error_here(
    filled: Vault, hands: Hands, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, with_seal: bool
) -> None:
    given = base64.b64encode(os.urandom(32)).decode()
    monkeypatch.setenv("HOST_MASTER_KEY", given)
    filled.rotate(new_master=True)
    with Workspace.open(tmp_path / "elsewhere") as elsewhere:
        vault_of(elsewhere).set(OPERATOR, NAME, SecretValue("theirs-0123456789"))
        theirs = Hands(elsewhere).copy("keys", "secrets", "seals")
    with workspace.database.writing() as connection:
        connection.execute(insert(RAW["keys"]), [{**row, "current": False} for row in theirs["keys"]])
        for name in ("secrets", "seals") if with_seal else ("secrets",):
            connection.execute(delete(RAW[name]))
            connection.execute(insert(RAW[name]), theirs[name])
    with pytest.raises(VaultError):
        filled.get(OPERATOR, NAME)


@pytest.mark.parametrize("purpose", ["secrets", "vault"])
def test_a_key_that_other_hands_changed_is_an_error(
    filled: Vault, hands: Hands, purpose: str, state_dir: Path, database_url: str | None
) -> None:
    [row] = [row for row in hands.copy("keys")["keys"] if row["purpose"] == purpose]
    hands.change("keys", lambda one: one["id"] == row["id"], sealed=flipped(row["sealed"], 20))
    with Workspace.open(state_dir, database_url) as other, pytest.raises(VaultError, match="does not decrypt"):
        vault_of(other).get(OPERATOR, NAME)


def test_records_that_are_no_longer_kept_are_not_missed(filled: Vault, hands: Hands) -> None:
    hands.put_back({"audit": []})
    assert value(filled) == NEW


def test_clearing_is_the_way_out(filled: Vault, hands: Hands) -> None:
    hands.remove("secrets", name=str(NAME))
    filled.clear(OPERATOR)
    assert filled.names(OPERATOR) == []
    filled.set(OPERATOR, NAME, SecretValue(NEW))
    assert value(filled) == NEW


# --- content of the disk ----------------------------------------------------------------------------------------------


def encodings(text: str) -> list[bytes]:
    raw = text.encode()
    aligned = [base64.b64encode(b"x" * before + raw)[4:-4] for before in range(3)]
    return [raw, raw[::-1], raw.hex().encode(), raw.hex().upper().encode(), text.encode("utf-16-le"), *aligned]


def folder_of(workspace: Workspace) -> Path:
    """The folder of the database's files, after a flush of its memory."""
    if not workspace.database.shared:
        return workspace.state_dir
    with workspace.database.reading() as connection:
        folder = connection.execute("SHOW data_directory").scalar_one()
    with workspace.database.writing() as connection:
        connection.execute("CHECKPOINT")
    return Path(folder)


def test_the_value_lies_in_no_file(filled: Vault, workspace: Workspace, state_dir: Path, tmp_path: Path) -> None:
    filled.set(OPERATOR, NAME, SecretValue(OLD))
    filled.rotate(new_master=True)
    filled.delete(OPERATOR, OTHER)
    control = tmp_path / "control"
    control.write_bytes(b"x" + base64.b64encode(b"." + OLD.encode()))
    wanted = [form for text in (OLD, NEW, SECOND) for form in encodings(text)]
    files = {
        control,
        *(file for root in (state_dir, folder_of(workspace)) for file in root.rglob("*") if file.is_file()),
    }
    assert [file for file in files if any(form in file.read_bytes() for form in wanted)] == [control]


def test_every_file_is_for_this_user_alone(filled: Vault, state_dir: Path) -> None:
    assert {
        file.name: oct(file.stat().st_mode & 0o777) for file in state_dir.iterdir() if file.stat().st_mode & 0o77
    } == {}


# --- new keys ---------------------------------------------------------------------------------------------------------


def master_files(state_dir: Path) -> set[str]:
    return {file.name for file in state_dir.glob("master-*.key")}


def test_a_rotation_seals_everything_anew_and_drops_the_keys_before(filled: Vault, hands: Hands) -> None:
    filled.set("signing", NAME, SecretValue("another"))
    before = hands.copy("keys", "secrets")
    assert filled.rotate() == Rotated(3, None, None)
    after = hands.copy("keys", "secrets")
    assert (value(filled), value(filled, OTHER), value(filled, owner="signing")) == (NEW, SECOND, "another")
    assert {row["sealed"] for row in before["secrets"]}.isdisjoint({row["sealed"] for row in after["secrets"]})
    assert {row["changed_at"] for row in before["secrets"]} == {row["changed_at"] for row in after["secrets"]}
    kept = {row["id"] for row in before["keys"]} & {row["id"] for row in after["keys"]}
    assert {row["purpose"] for row in before["keys"] if row["id"] in kept} == {"audit", "state"}
    assert sorted(row["purpose"] for row in after["keys"]) == ["audit", "secrets", "state", "vault"]


def test_a_new_master_key_takes_the_place_of_the_one_before(
    filled: Vault, hands: Hands, state_dir: Path, database_url: str | None
) -> None:
    [before] = master_files(state_dir)
    assert filled.rotate(new_master=True) == Rotated(2, "file", "file")
    [after] = master_files(state_dir)
    assert after != before
    assert {f"master-{row['master']}.key" for row in hands.copy("keys")["keys"]} == {after}
    with Workspace.open(state_dir, database_url) as other:
        assert value(vault_of(other)) == NEW


def test_an_empty_vault_can_be_rotated(vault: Vault) -> None:
    assert vault.rotate(new_master=True).secrets == 0
    vault.set(OPERATOR, NAME, SecretValue(NEW))
    assert value(vault) == NEW


def test_a_program_that_runs_meanwhile_goes_on(filled: Vault, state_dir: Path, database_url: str | None) -> None:
    with Workspace.open(state_dir, database_url) as other:
        running = vault_of(other)
        assert value(running) == NEW
        filled.rotate(new_master=True)
        assert value(running) == NEW
        running.set(OPERATOR, OTHER, SecretValue(OLD))
    assert value(filled, OTHER) == OLD


KILLED = """
import os, signal, sys
from pathlib import Path
from host.store.audit_log import log
from host.store.vault import keys, master
from host.store.vault.secrets import Vault
from host.runtime.workspace import Workspace

original = {place}.{name}

def die(*arguments, **named):
    if {after}:
        original(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

{place}.{name} = die
with Workspace.open(Path(sys.argv[1]), sys.argv[2] or None) as workspace:
    Vault(workspace.audit_log, workspace.keys).rotate(new_master=True)
"""


@pytest.mark.parametrize(
    ("place", "name", "after", "replaced"),
    [
        pytest.param("master", "make", True, False, id="with the new key made"),
        pytest.param("log.Change", "record", True, False, id="before it is committed"),
        pytest.param("keys.Keys", "forget", False, True, id="as soon as it is committed"),
        pytest.param("master", "forget", True, True, id="with the old key removed"),
    ],
)
def test_killed_while_the_master_key_is_replaced_the_vault_opens(
    filled: Vault,
    hands: Hands,
    state_dir: Path,
    database_url: str | None,
    place: str,
    name: str,
    after: bool,
    replaced: bool,
) -> None:
    before = hands.copy("keys")["keys"][0]["master"]
    code = KILLED.format(place=place, name=name, after=after)
    done = subprocess.run([sys.executable, "-c", code, str(state_dir), database_url or ""], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (hands.copy("keys")["keys"][0]["master"] != before) is replaced
    with Workspace.open(state_dir, database_url) as other:
        assert master_files(state_dir) == {f"master-{hands.copy('keys')['keys'][0]['master']}.key"}
        assert list(state_dir.glob("rotation-*")) == []
        assert value(vault_of(other)) == NEW
        vault_of(other).rotate(new_master=True)
        assert value(vault_of(other), OTHER) == SECOND


@pytest.mark.parametrize("place", ["keyring", "file"])
def test_what_a_killed_rotation_left_is_cleared_in_each_place(
    filled: Vault,
    workspace: Workspace,
    state_dir: Path,
    database_url: str | None,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
) -> None:
    held: dict[tuple[str, str], str] = {}
    monkeypatch.setattr(master, "write", lambda service, user, text: held.__setitem__((service, user), text) or True)
    monkeypatch.setattr(master, "read", lambda service, user: held.get((service, user)))
    monkeypatch.setattr(master, "remove", lambda service, user: held.pop((service, user)))
    held["another program", "x"] = held[master.KEYRING_SERVICE, "of another state"] = "kept"

    def die(self: object, replaced: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(type(workspace.keys), "forget", die)
        with pytest.raises(KeyboardInterrupt):
            filled.rotate(new_master=True, place=place)
    assert len(held) + len(master_files(state_dir)) == 4
    with Workspace.open(state_dir, database_url) as other:
        assert len(held) + len(master_files(state_dir)) == 3
        assert value(vault_of(other)) == NEW
    assert "kept" in held.values()


def test_a_rotation_that_goes_on_is_left_alone_by_those_who_open_the_state(
    filled: Vault, workspace: Workspace, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    record = Change.record

    def look(self: Change, event: Event) -> None:
        workspace.keys.finish_rotations(database=None)  # type: ignore[arg-type]  # they neither wait for it nor look
        seen.append(len(master_files(state_dir)))
        record(self, event)

    monkeypatch.setattr(Change, "record", look)
    filled.rotate(new_master=True)
    assert seen == [2]
    assert value(filled) == NEW


def test_the_key_of_another_state_in_the_same_folder_is_never_cleared(
    filled: Vault, workspace: Workspace, state_dir: Path
) -> None:
    [own] = master_files(state_dir)
    theirs, gone = master.make(state_dir, "file"), master.make(state_dir, "file")
    note = state_dir / "rotation-00000000.note"
    note.write_text(json.dumps({"before": theirs.id, "after": gone.id}))
    workspace.keys.finish_rotations(workspace.database)
    assert len(master_files(state_dir)) == 3
    assert note.exists()
    note.write_text("")
    workspace.keys.finish_rotations(workspace.database)
    assert (len(master_files(state_dir)), note.exists()) == (3, False)
    assert own in master_files(state_dir)
