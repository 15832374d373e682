"""A view of the catalog is of one moment, and was checked at that moment."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from host.core.names import SecretName
from host.errors import StateError
from host.runtime.host import Host
from host.runtime.workspace import Workspace
from host.secrets.value import OPERATOR, SecretValue
from host.service.catalog import Catalog, View
from host.service.request import Routing
from host.store.components import Components
from host.store.vault.tokens import CommandSource, Token, digest_of
from tests.store.kept import OPENAI, grant_something, register


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.open(tmp_path) as opened:
        yield opened


def test_the_renewal_of_a_token_loads_nothing_anew_and_a_secret_that_is_set_does(workspace: Workspace) -> None:
    """Attack: an issuer whose tokens end at once, so that every worker reads every catalyst each time."""
    grant_something(workspace.audit_log)
    register(workspace.components, "0.1.0")
    name = SecretName("GATEWAY_TOKEN")
    source = workspace.vault.set_source(name, CommandSource(argv=("/usr/bin/fetch",)))
    with closing(Catalog(cast("Host", None), workspace, Routing())) as catalog:
        first = catalog._view = catalog._newest()
        for number in range(3):
            token = Token(SecretValue(f"t0ken-{number}-0123456789"), number, number + 1, digest_of(source))
            before = workspace.stamp()
            workspace.vault.keep_token(name, str(OPENAI), token, source)
            assert workspace.stamp() != before
            assert catalog._newest() is first
            assert first.stamp == workspace.stamp()
        workspace.vault.set_source(name, source)
        second = catalog._view = catalog._newest()
        assert second is not first
        workspace.vault.set(OPERATOR, SecretName("OTHER"), SecretValue("a value-0123456789"))
        assert catalog._newest() is not second


def test_attack_rows_that_other_hands_write_while_a_token_is_renewed_are_found(workspace: Workspace) -> None:
    grant_something(workspace.audit_log)
    register(workspace.components, "0.1.0")
    name = SecretName("GATEWAY_TOKEN")
    source = workspace.vault.set_source(name, CommandSource(argv=("/usr/bin/fetch",)))
    token = Token(SecretValue("t0ken-0123456789"), 1, 2, digest_of(source))
    with closing(Catalog(cast("Host", None), workspace, Routing())) as catalog:
        catalog._view = catalog._newest()
        workspace.vault.keep_token(name, str(OPENAI), token, source)
        with closing(sqlite3.connect(workspace.state_dir / "state.db", isolation_level=None)) as others:
            others.execute("UPDATE seals SET mac = zeroblob(32) WHERE owner = 'tokens'")
        with pytest.raises(StateError):
            catalog._newest()


def current(workspace: Workspace) -> View:
    with closing(Catalog(cast("Host", None), workspace, Routing())) as catalog:
        return asyncio.run(catalog.current())


@pytest.mark.parametrize(
    ("statement", "undone"),
    [
        pytest.param(
            "INSERT INTO approvals SELECT subject, digest, 1.0 FROM components", "DELETE FROM approvals", id="approved"
        ),
        pytest.param(
            'UPDATE artifacts SET manifest = \'{"id": "catalyst:local.evil"}\'', "SELECT 1", id="another manifest"
        ),
        pytest.param("UPDATE components SET version = '9.9.9'", "SELECT 1", id="another version"),
    ],
)
def test_rows_that_other_hands_write_between_the_check_and_the_reading_are_not_read(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, statement: str, undone: str
) -> None:
    grant_something(workspace.audit_log)
    register(workspace.components, "0.1.0")
    before = workspace.components.all()
    read: Callable[[Components], Any] = Components.all

    def raced(self: Components) -> Any:
        with closing(sqlite3.connect(workspace.state_dir / "state.db", isolation_level=None)) as others:
            others.execute(statement)
            found = read(self)
            others.execute(undone)
        return found

    monkeypatch.setattr(Components, "all", raced)
    view = current(workspace)
    assert view.all == before
    assert view.components == []
    assert str(view.component(OPENAI).reference) == "c:local.openai:0.1.0"
