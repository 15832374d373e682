"""The operator's signing keys: made once, stored encrypted, found again, and not available to grants."""

from __future__ import annotations

import pytest

from host.core.names import SecretName
from host.errors import InputError, NotFound, VaultError
from host.runtime.workspace import Workspace
from host.secrets.value import SecretValue
from host.store.sql import select
from host.store.tables import secrets
from host.store.vault.secrets import OPERATOR, OWNER, SigningKeys

NAME, OTHER = SecretName.parse("acme"), SecretName.parse("globex")


@pytest.fixture
def keys(workspace: Workspace) -> SigningKeys:
    return workspace.signing_keys


def test_a_key_is_the_same_when_it_is_opened_again(keys: SigningKeys) -> None:
    made = keys.generate(NAME)
    assert keys.get(NAME).public == made.public
    assert made.public.verifies(b"message", keys.get(NAME).sign(b"message"))


def test_an_ed25519_key_is_made_on_request(keys: SigningKeys) -> None:
    assert keys.generate(NAME).public.algorithm == "ecdsa-p256"
    assert keys.generate(OTHER, "ed25519").public.algorithm == "ed25519"
    assert [(one.name, one.public.algorithm) for one in keys.all()] == [(NAME, "ecdsa-p256"), (OTHER, "ed25519")]


def test_a_key_is_not_made_over_another(keys: SigningKeys) -> None:
    made = keys.generate(NAME)
    with pytest.raises(InputError, match="already"):
        keys.generate(NAME)
    assert keys.get(NAME).public == made.public


def test_the_only_key_needs_no_name(keys: SigningKeys) -> None:
    with pytest.raises(NotFound, match="no signing key"):
        keys.get()
    made = keys.generate(NAME)
    assert keys.get().public == made.public
    keys.generate(OTHER)
    with pytest.raises(InputError, match="acme, globex"):
        keys.get()


def test_a_name_that_no_key_has(keys: SigningKeys) -> None:
    with pytest.raises(NotFound, match="no signing key acme"):
        keys.get(NAME)


def test_a_signing_key_is_no_secret_that_could_be_granted(keys: SigningKeys, workspace: Workspace) -> None:
    keys.generate(NAME)
    assert workspace.vault.get(OPERATOR, NAME) is None
    assert workspace.vault.names(OPERATOR) == []


def test_the_private_half_is_nowhere_in_the_database(keys: SigningKeys, workspace: Workspace) -> None:
    private = keys.generate(NAME).private_pem().encode()
    with workspace.database.reading() as connection:
        (sealed,) = connection.execute(select(secrets.c.sealed)).scalars()
    assert private.splitlines()[1] not in bytes(sealed)
    assert b"PRIVATE KEY" not in bytes(sealed)


@pytest.mark.parametrize("value", ["not base64!", "AAAA"])
def test_what_is_no_key_is_told_without_being_shown(keys: SigningKeys, workspace: Workspace, value: str) -> None:
    workspace.vault.set(OWNER, NAME, SecretValue(value))
    with pytest.raises(VaultError, match="cannot be read") as caught:
        keys.get(NAME)
    assert value not in str(caught.value)
