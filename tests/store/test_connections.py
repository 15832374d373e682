"""Connections to the database: a fork in the middle of a transaction leaves it to the parent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.postgres import PATIENCE_S

FORKS = """
import json, os, sys, warnings
from pathlib import Path
from host.errors import StateError
from host.store import connections
from host.store.database import Database
from host.store.sql import select
from host.store.tables import rules

warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads
connections._AT_ONCE = 1
database = Database.open(Path(sys.argv[1]), sys.argv[2] or None)


def reads():
    with database.reading() as connection:
        found = []
        for row in connection.stream(select(rules.c.namespace).order_by(rules.c.namespace)):
            if not found and not (child := os.fork()):
                return
            os.waitpid(child, 0) if not found else None
            found.append(row.namespace)
    return found


def writes():
    with database.writing() as connection:
        connection.execute("INSERT INTO rules VALUES ('c', true, 1)")
        if child := os.fork():
            ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            connection.execute("INSERT INTO rules VALUES ('d', true, 1)")
    return ended


with database.writing() as connection:
    connection.execute("INSERT INTO rules VALUES ('a', true, 1), ('b', true, 1)")
if (found := reads()) is None:
    sys.exit()
try:
    ended = writes()
except StateError as error:
    sys.exit("made before the process was forked" in error.message and 7)
with database.reading() as connection:
    print(json.dumps([found, ended, connection.execute("SELECT namespace FROM rules ORDER BY 1").scalars()]))
database.close()
"""


@pytest.mark.usefixtures("database")
def test_a_child_neither_ends_nor_commits_the_parents_transaction(state_dir: Path, database_url: str | None) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, state_dir, database_url or ""],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [["a", "b"], 7, ["a", "b", "c", "d"]]
