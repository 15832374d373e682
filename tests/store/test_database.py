"""The database of the state: created once, private to its user, in the schema version of this host."""

from __future__ import annotations

import hmac
import json
import sqlite3
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier
from typing import Any

import psycopg
import pytest

from host import Reference, Workspace
from host.core.names import SecretName
from host.core.waiting import within
from host.errors import InputError, StateError
from host.secrets.value import OPERATOR, SecretValue
from host.store import connections, migrations, schema
from host.store.audit_log.chain import Checkpoint
from host.store.audit_log.verification import verify
from host.store.connections import StateConnection
from host.store.database import FILE, Database
from host.store.sql import BYTES, INTEGER, REAL, TEXT, TRUTH, Table, insert, select
from host.store.tables import ALL, keys, rules
from tests.store.postgres import PASSWORD, PATIENCE_S, Postgres

TABLES_OF_0001 = (
    "artifacts",
    "components",
    "approvals",
    "newest",
    "settings",
    "secret_grants",
    "trusted_keys",
    "rules",
    "seals",
)
OPENS_WHEN_TOLD = """
import sys
from pathlib import Path
from threading import Barrier
from host.store import database as module, migrations, schema
from host.store.audit_log.chain import Checkpoint
from host.store.database import Database
module._BUSY_S = 60.0  # a busy machine lets one stand still that has the file
print("ready", flush=True)
sys.stdin.readline()
database = Database.open(Path(sys.argv[1]), sys.argv[2] or None)
with database.reading() as connection:
    print(migrations.version(connection))
database.close()
"""
ADDS_A_RULE = """
import sys
from contextlib import closing
from pathlib import Path
from host.store.database import Database
with closing(Database.open(Path(sys.argv[1]))) as database, database.writing() as connection:
    connection.execute("INSERT INTO rules VALUES ('others', true, 1)")
"""


COLUMNS = {
    "sqlite": "SELECT m.name, c.name, lower(c.type) FROM sqlite_master AS m, pragma_table_info(m.name) AS c "
    "WHERE m.type = 'table' ORDER BY c.cid",
    "postgresql": "SELECT table_name, column_name, data_type FROM information_schema.columns "
    "WHERE table_schema = current_schema() ORDER BY ordinal_position",
}
KINDS = {
    **dict.fromkeys(("text", "character varying"), TEXT),
    **dict.fromkeys(("bigint", "integer"), INTEGER),
    **dict.fromkeys(("double", "double precision"), REAL),
    **dict.fromkeys(("blob", "bytea"), BYTES),
    "boolean": TRUTH,
}


def tables_of(connection: StateConnection) -> dict[str, dict[str, str]]:
    """The kinds of the columns, by table and name, in their order."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(COLUMNS[connection.dialect]):
        if table != "alembic_version":
            found.setdefault(table, {})[column] = KINDS[kind]
    return found


def test_the_migrations_make_the_tables_that_the_code_knows(state_dir: Path, empty_url: str | None) -> None:
    database = Database.open(state_dir, empty_url)
    with database.reading() as connection:
        assert tables_of(connection) == {table.name: {name: one.kind for name, one in table.c.items()} for table in ALL}
    database.close()


def test_no_error_tells_what_was_sent(database: Database) -> None:
    value = "sk-" + "0123456789abcdef"
    with pytest.raises(StateError) as caught, database.writing() as connection:
        connection.execute(insert(Table("nowhere", value=TEXT)).values(value=value))
    assert value not in "".join(traceback.format_exception(caught.value))


def test_a_state_that_is_open_already_opens_as_it_is(
    state_dir: Path, database: Database, database_url: str | None
) -> None:
    with database.writing() as connection:
        connection.execute(
            insert(keys).values(id="k", purpose="audit", sealed=b"", master="m", made_at=0.0, current=False)
        )
    again = Database.open(state_dir, database_url)
    with again.reading() as connection:
        assert connection.execute(select(keys.c.id)).scalar() == "k"
    again.close()


def test_a_state_of_a_newer_host_is_left_alone(state_dir: Path, database: Database, database_url: str | None) -> None:
    with database.writing() as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StateError, match=r"another version \(9999\)") as caught:
        Database.open(state_dir, database_url)
    assert caught.value.hint is not None
    assert "newer" in caught.value.hint


NAMED = {table.name: table for table in ALL}
BATCHES = ("batches", "batch_files", "batch_pieces")


def as_0001_left_it(workspace: Workspace, raw: Callable[..., Any]) -> None:
    """The tables of the first version, with its state digest over all tables of that time."""
    with workspace.database.reading() as connection:
        ((seq, key),) = raw("SELECT seq, key FROM state_seal")
        total = hmac.new(workspace.keys.get(connection, key).key, b"state\0%020d" % seq, "sha256")
        for name in TABLES_OF_0001:
            rows = connection.execute(select(NAMED[name]))
            shown = sorted(json.dumps(list(row), default=bytes.hex) for row in rows)
            total.update(json.dumps([name, shown]).encode())
    before = total.digest()
    total.update(json.dumps(["schema", schema.digest(connection.dialect)]).encode())  # which is sealed since
    ((mac,),) = raw("SELECT mac FROM state_seal")
    assert bytes(mac) == total.digest()
    raw("UPDATE state_seal SET mac = ?", before)
    workspace.audit_log.digest_file.replace(Checkpoint(seq, before), workspace.keys.decrypted[key])
    for name in ("api_keys", "usage", "counters", "cancellations", "counter_seal", "made_objects", *BATCHES):
        raw(f"DROP TABLE {name}")
    raw("UPDATE alembic_version SET version_num = '0001'")


def test_a_state_of_the_first_version_opens_as_it_was_sealed(
    state_dir: Path, workspace: Workspace, database_url: str | None, raw: Callable[..., Any]
) -> None:
    tool = Reference.parse("c:local.tool")
    workspace.policies.set(tool, "timeout", "5s")
    workspace.vault.set(OPERATOR, SecretName("KEY"), SecretValue("a-value-0123456789"))
    as_0001_left_it(workspace, raw)
    with Workspace.open(state_dir, database_url) as opened:
        opened.check()
        assert opened.policies.effective(tool).policy.timeout == "5s"
        assert not opened.api_keys.snapshot().any
        with opened.database.reading() as connection:
            assert tables_of(connection).keys() == {table.name for table in ALL}
        _, text = opened.api_keys.create(name="ci", type="secret")
        assert opened.api_keys.snapshot().authenticate(text, time.time()) is not None
        assert verify(opened.audit_log).records == 3


def test_nor_does_it_open_with_a_row_that_was_edited_before_it_did(
    state_dir: Path, workspace: Workspace, database_url: str | None, raw: Callable[..., Any]
) -> None:
    workspace.policies.set(Reference.parse("c:local.tool"), "timeout", "5s")
    as_0001_left_it(workspace, raw)
    raw("UPDATE settings SET value = '\"50s\"'")
    with Workspace.open(state_dir, database_url) as opened, pytest.raises(StateError, match="changed in the database"):
        opened.check()


def test_processes_that_open_a_new_state_at_once_all_find_it_made(state_dir: Path, empty_url: str | None) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENS_WHEN_TOLD, state_dir, empty_url or ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # they wait only for this line
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=PATIENCE_S) for process in processes]
    assert said == [(f"{migrations.NEWEST}\n", "")] * 3


def test_what_is_written_in_a_block_that_fails_is_not_kept(database: Database) -> None:
    with pytest.raises(StateError), database.writing() as connection:  # noqa: PT012 - the second statement is what fails
        connection.execute("INSERT INTO rules VALUES ('local', true, 1)")
        connection.execute("INSERT INTO rules VALUES ('local', true, 1)")
    with database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM rules").scalar() == 0


def test_what_a_process_writes_that_opened_the_state_twice_is_found_by_others(state_dir: Path) -> None:
    """SQLite's locks are of a process, and end when it closes the file anywhere."""
    with closing(Database.open(state_dir)) as database:
        Database.open(state_dir).close()
        subprocess.run([sys.executable, "-c", ADDS_A_RULE, state_dir], check=True, timeout=PATIENCE_S)
        with database.writing() as connection:
            connection.execute("INSERT INTO rules VALUES ('ours', true, 1)")
        with closing(sqlite3.connect(state_dir / FILE)) as other:
            assert other.execute("SELECT count(*) FROM rules").fetchone() == (2,)


def test_a_file_that_cannot_be_opened_is_an_error_that_says_what_else_could(state_dir: Path) -> None:
    (state_dir / FILE).mkdir(parents=True)
    with pytest.raises(StateError, match="unable to open database file") as caught:
        Database.open(state_dir)
    assert "HOST_STATE_DIR" in str(caught.value.hint)


def test_what_is_left_of_an_answer_disturbs_no_later_transaction(
    database: Database, raw: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_AT_ONCE", 1)
    with database.writing() as connection:
        connection.execute("INSERT INTO rules VALUES ('a', true, 1), ('b', true, 1), ('c', true, 1)")
    with database.reading() as connection:
        left = connection.stream(select(rules))
        next(left)
    raw("INSERT INTO rules VALUES ('d', true, 1)")
    with database.writing() as connection:
        assert connection.execute("SELECT count(*) FROM rules").scalar() == 4
        assert list(left) == []
        connection.execute("INSERT INTO rules VALUES ('e', true, 1)")
    assert raw("SELECT count(*) FROM rules") == [(5,)]


@pytest.mark.parametrize("value", ["\udcff", 1 << 64], ids=["a byte of no text", "a number of 65 bits"])
def test_a_value_that_no_database_has_is_an_error_that_does_not_show_it(database: Database, value: Any) -> None:
    wanted = select(rules).where((rules.c.namespace if isinstance(value, str) else rules.c.threshold) == value)
    if database.shared and isinstance(value, int):  # of PostgreSQL, which has larger ones
        wanted = wanted.limit(value)
    for read in (StateConnection.execute, lambda connection, query: list(connection.stream(query))):
        with pytest.raises(StateError) as caught, database.reading() as connection:
            read(connection, wanted)
        assert repr(value) not in "".join(traceback.format_exception(caught.value))
    with database.reading() as connection:
        assert connection.execute(select(rules)).all() == []


def test_nobody_else_can_read_the_file_or_what_is_beside_it(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "new" / "state")
    with database.writing() as connection:
        connection.execute("INSERT INTO rules VALUES ('local', true, 1)")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new" / "state").iterdir()}
    database.close()
    assert modes == {FILE: 0o600, f"{FILE}-wal": 0o600, f"{FILE}-shm": 0o600}
    assert stat.S_IMODE((tmp_path / "new" / "state").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("url", "error"),
    [
        pytest.param(f"postgresql://me:{PASSWORD}@127.0.0.1:1/state", StateError, id="nobody listens there"),
        pytest.param(f"postgresql://me:{PASSWORD}@no.such.host.invalid/state", StateError, id="there is no such host"),
        pytest.param(f"mysql://me:{PASSWORD}@127.0.0.1/state", InputError, id="another kind of database"),
        pytest.param(f"postgresql://me:{PASSWORD}@127.0.0.1:port/state", InputError, id="the port is no number"),
        pytest.param(f"me:{PASSWORD}@127.0.0.1/state", InputError, id="no URL"),
        pytest.param(f"postgresql://me:{PASSWORD}@127.0.0.1/s?no_such_option=1", StateError, id="an unknown option"),
        pytest.param(f"postgresql://me:a@{PASSWORD}@127.0.0.1:1/s", InputError, id="an @ in the password"),
        pytest.param(
            f"postgresql://me:a@b/{PASSWORD}@127.0.0.1:1/s", InputError, id="an @ and a slash in the password"
        ),
        pytest.param(f"postgresql://me:{PASSWORD}\udcff@127.0.0.1:1/s", InputError, id="a byte of no text"),
        pytest.param(f"postgresql://me:{PASSWORD}%00@127.0.0.1:1/s", InputError, id="the end of a text in C"),
    ],
)
def test_an_error_does_not_tell_the_urls_password(
    state_dir: Path, url: str, error: type[StateError | InputError]
) -> None:
    with pytest.raises(error) as caught:
        Database.open(state_dir, url)
    shown: BaseException | None = caught.value
    while shown is not None:  # a traceback also shows causes
        assert PASSWORD not in f"{shown} {shown!r} {getattr(shown, 'hint', '')}"
        shown = None if shown.__suppress_context__ else shown.__cause__ or shown.__context__


@pytest.mark.parametrize("option", ["autocommit=1", "prepare_threshold=x", "row_factory=x", "no_such_option=1"])
def test_an_option_that_is_not_the_servers_is_an_error_that_says_so(
    state_dir: Path, postgres: Postgres, option: str
) -> None:
    with pytest.raises(StateError, match="an option that PostgreSQL does not know"):
        Database.open(state_dir, f"{postgres.url('postgres')}&{option}")


def test_a_writer_that_waited_reads_what_the_one_before_it_wrote(state_dir: Path, postgres: Postgres) -> None:
    url = postgres.create()
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_isolation = "repeatable read"')
    with (
        closing(Database.open(state_dir, url)) as one,
        closing(Database.open(state_dir, url)) as other,
        psycopg.connect(url, autocommit=True) as watching,
        ThreadPoolExecutor(1) as threads,
    ):

        def rules() -> Any:
            with other.writing() as connection:
                return connection.execute("SELECT count(*) FROM rules").scalar()

        with one.writing() as connection:
            later = threads.submit(rules)
            while not watching.execute("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchall():
                time.sleep(0.01)
            connection.execute("INSERT INTO rules VALUES ('local', true, 1)")
        assert later.result() == 1
    postgres.drop(url)


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    ("statement", "lost"),
    [
        pytest.param("SELECT pg_terminate_backend(pg_backend_pid())", True, id="the server ends it"),
        pytest.param("SELECT nothing", False, id="a statement is wrong"),
    ],
)
def test_only_of_a_lost_connection_is_asked_whether_the_server_answers(
    database: Database, statement: str, lost: bool
) -> None:
    with pytest.raises(StateError) as caught, database.reading() as connection:
        connection.execute(statement)
    assert (caught.value.hint == 'psql "$HOST_DATABASE" says whether it answers again') is lost


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
def test_a_text_that_postgresql_cannot_have_does_not_make_its_server_doubtful(database: Database) -> None:
    with pytest.raises(StateError) as caught, database.reading() as connection:
        connection.execute(select(keys.c.id).where(keys.c.id == "a\0b"))
    assert caught.value.hint is None


def test_a_folder_that_cannot_be_made_is_an_error_that_says_what_else_could(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot make") as caught:
        Database.open(tmp_path / "file" / "state")
    assert caught.value.hint == "HOST_STATE_DIR names another"


def test_a_file_that_is_no_database_is_an_error(state_dir: Path) -> None:
    state_dir.mkdir()
    (state_dir / FILE).write_bytes(b"not a database at all, and long enough to be looked at" * 100)
    with pytest.raises(StateError, match="file is not a database") as caught:
        Database.open(state_dir)
    assert "a backup of state.db" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me@127.0.0.1:1/state", "at 127.0.0.1:1: Connection refused"),
        (f"postgresql://me:{PASSWORD}@127.0.0.1:1/state", "at 127.0.0.1:1: Connection refused"),
        (f"postgresql://me:{PASSWORD}@nowhere.invalid/state", "at nowhere.invalid:5432: "),
        ("postgresql:///state?host=/nowhere", "at /nowhere:5432: No such file or directory"),
    ],
)
def test_a_server_that_is_not_there_is_an_error_with_its_place_and_the_reason(
    state_dir: Path, url: str, said: str
) -> None:
    with pytest.raises(StateError, match="cannot connect to PostgreSQL ") as caught:
        Database.open(state_dir, url)
    assert said in caught.value.message
    assert len(caught.value.message.splitlines()) == 1
    assert str(caught.value.hint).startswith('psql "$HOST_DATABASE"')


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        pytest.param(sqlite3.SQLITE_FULL, True, id="it says that it is"),
        pytest.param(sqlite3.SQLITE_IOERR | 19 << 8, True, id="the file that its processes share cannot grow"),
        pytest.param(sqlite3.SQLITE_BUSY, False, id="somebody else writes"),
    ],
)
def test_a_disk_that_may_be_full_is_asked_about(database: Database, code: int, asked: bool) -> None:
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode = code
    with pytest.raises(StateError) as caught, database.reading():
        raise error
    assert ("full?" in str(caught.value.hint)) is asked


def test_a_writer_that_waits_in_vain_for_another_process_is_told_of_it(
    state_dir: Path, database: Database, database_url: str | None
) -> None:
    with (
        closing(Database.open(state_dir, database_url)) as other,
        other.writing(),
        pytest.raises(StateError) as caught,
        within(0.5),
        database.writing(),
    ):
        pass
    assert "another process writes" in str(caught.value.hint)


def test_its_name_is_of_where_it_is_and_not_of_who_connects(state_dir: Path, postgres: Postgres) -> None:
    one, other = postgres.create(), postgres.create()
    names = []
    for url in (one, f"{one}&connect_timeout=9", one.replace(PASSWORD, "other"), other, None):
        with closing(Database.open(state_dir, url)) as database:
            names.append(database.name)
    assert names[0] == names[1] == names[2]
    assert len({names[0], names[3], names[4]}) == 3
    postgres.drop(one)
    postgres.drop(other)


def test_a_new_state_that_many_open_at_once_opens_for_all(tmp_path: Path) -> None:
    for turn in range(10):
        folder, together = tmp_path / str(turn), Barrier(4)

        def work(number: int, folder: Path = folder, together: Barrier = together) -> None:
            together.wait()
            with Workspace.open(folder) as one:
                one.config.set(Reference.parse("c:local.tool"), f"key_{number}", number)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))
        with Workspace.open(folder) as one:
            assert len(one.config.document(Reference.parse("c:local.tool"))) == 4


def test_what_the_operator_changes_outlives_a_loss_of_power_and_the_next_record_waits_for_no_disk(
    tmp_path: Path,
) -> None:
    """In SQLite: 2 is FULL, 1 is NORMAL. A noted digest that is not on the disk would look like a restored row."""
    with closing(Database.open(tmp_path / "state")) as database:
        for durable, level in ((True, 2), (False, 1), (True, 2)):
            with database.writing(durable=durable) as connection:
                assert connection.execute("PRAGMA synchronous").scalar() == level


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_quick_append_that_cannot_be_committed_leaves_no_transaction_open(database: Database) -> None:
    def but_no_commit(action: int, what: str | None, *_: object) -> int:
        ends = action == sqlite3.SQLITE_TRANSACTION and what == "COMMIT"
        return sqlite3.SQLITE_DENY if ends else sqlite3.SQLITE_OK

    def append() -> None:
        with database.appending() as connection:
            connection.set_authorizer(but_no_commit)
            connection.execute("INSERT INTO rules VALUES ('lost', true, 1)").close()

    with pytest.raises(StateError, match="not authorized"):
        append()
    with database.appending() as connection:
        connection.set_authorizer(None)
        assert connection.execute("SELECT count(*) FROM rules").fetchone() == (0,)
