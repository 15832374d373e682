"""A view of the catalog is of one moment, and was checked at that moment."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from host.runtime.host import Host
from host.runtime.workspace import Workspace
from host.service.catalog import Catalog, View
from host.service.request import Routing
from host.store.components import Components
from tests.store.kept import OPENAI, grant_something, register


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.open(tmp_path) as opened:
        yield opened


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
