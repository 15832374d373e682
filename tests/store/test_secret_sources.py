"""The sources of secret values."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.core.names import SecretName
from host.errors import InputError, VaultError
from host.runtime.workspace import Workspace
from host.secrets.value import OPERATOR, SecretValue
from host.store.sql import delete
from host.store.tables import secrets
from host.store.vault.secrets import Vault
from host.store.vault.sources import SecretSources

NAME = SecretName("CHAIN_KEY")
VALUES = {place: f"from-{place}-0123456789" for place in ("given", "store", "environment", "file")}


@pytest.fixture
def vault(workspace: Workspace) -> Vault:
    return Vault(workspace.audit_log, workspace.keys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "secrets.env"
    file.write_text(f"{NAME}={VALUES['file']}\n")
    file.chmod(0o600)
    return file


def given() -> dict[SecretName, SecretValue]:
    return {NAME: SecretValue(VALUES["given"])}


def everywhere(vault: Vault, file: Path, monkeypatch: pytest.MonkeyPatch) -> SecretSources:
    vault.set(OPERATOR, NAME, SecretValue(VALUES["store"]))
    monkeypatch.setenv(str(NAME), VALUES["environment"])
    return SecretSources(vault, file)


def test_every_place_is_asked_in_its_turn(vault: Vault, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = everywhere(vault, file, monkeypatch)
    assert [(one.place, one.value.reveal()) for one in sources.which(NAME, given())] == list(VALUES.items())


def test_the_first_place_that_has_it_answers(vault: Vault, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = everywhere(vault, file, monkeypatch)
    answers = []
    for given_now, remove in (
        (given(), lambda: None),
        (None, lambda: vault.delete(OPERATOR, NAME)),
        (None, lambda: monkeypatch.delenv(str(NAME))),
        (None, lambda: file.write_text("")),
    ):
        found = sources.find(NAME, given_now)
        answers.append(found and found.place)
        remove()
    assert answers == list(VALUES)
    assert SecretSources(vault, file).find(NAME) is None


def test_nowhere_is_none(vault: Vault) -> None:
    assert SecretSources(vault).find(NAME) is None
    assert SecretSources(vault).which(NAME) == ()


def test_the_variable_of_the_host_names_the_file(vault: Vault, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_SECRETS", str(file))
    found = SecretSources(vault).find(NAME)
    assert found is not None
    assert str(found) == f"the file {file}"


def test_secrets_of_other_owners_are_nobodys_to_use(vault: Vault) -> None:
    vault.set("signing", NAME, SecretValue(VALUES["store"]))
    assert SecretSources(vault).find(NAME) is None


def test_a_store_that_does_not_verify_is_not_passed_over(
    vault: Vault, workspace: Workspace, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = everywhere(vault, file, monkeypatch)
    with workspace.database.writing() as connection:
        connection.execute(delete(secrets))
    with pytest.raises(VaultError):
        sources.find(NAME)


def test_a_variable_that_no_secret_can_have_is_not_passed_over(
    vault: Vault, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(str(NAME), "with a line break\n")
    with pytest.raises(InputError, match=f"the environment variable {NAME}: ") as refused:
        SecretSources(vault, file).find(NAME)
    assert "line break" not in str(refused.value)


def test_a_file_that_is_not_there_is_not_passed_over(vault: Vault, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the secrets file"):
        SecretSources(vault, tmp_path / "none").find(NAME)


def test_a_file_that_is_not_needed_is_not_read(vault: Vault, tmp_path: Path) -> None:
    found = SecretSources(vault, tmp_path / "none").find(NAME, given())
    assert found is not None
    assert found.place == "given"


def test_what_was_found_does_not_show_its_value(vault: Vault) -> None:
    found = SecretSources(vault).find(NAME, given())
    assert VALUES["given"] not in f"{found} {found!r}"
