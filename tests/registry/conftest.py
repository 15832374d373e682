"""The state's fixtures, for what is kept in it: each test runs on both databases."""

from __future__ import annotations

import pytest

from host import Workspace
from host.registry.local import Components
from tests.state.conftest import (  # noqa: F401 - fixtures
    _nothing_from_outside,
    database,
    database_url,
    journal,
    keys,
    kind,
    migrated,
    postgres,
    state_dir,
    workspace,
)


@pytest.fixture
def installed(workspace: Workspace) -> Components:  # noqa: F811 - the fixture
    return workspace.components
