"""Nothing in the database acts: somebody who may write to the database, without the master key, adds what would run
inside the host's own transactions, to be sealed by the host itself.

Each attack is one or more statements to the database. It is found at once by a host that runs, and by the next command;
nothing is sealed, and nothing is changed by what was added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from host import Reference, Workspace
from host.core.audit import Event
from host.core.names import SecretName
from host.errors import AuditError, StateError
from host.store import schema
from host.store.audit_log.verification import verify
from host.store.database import Database
from host.store.tables import settings
from tests.store.postgres import Postgres
from tests.store.schema_files import migrated

TOOL = Reference.parse("c:local.tool")
ADMIN = (
    "INSERT INTO api_keys (id, name, type, scopes, hash, ip_allowlist, models, catalysts, created_at)"
    " VALUES ('aaaaaaaaaaaa', 'mine', 'admin', '[\"manage\"]', {hash}, '[]', '[]', '[]', 1.0)"
)
ADMIN_OF_SQLITE = ADMIN.format(hash="x'00'")
ADMIN_OF_POSTGRES = ADMIN.format(hash=r"'\x00'")
ACT = "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {does} END $$"
ACT_ADMIN = ACT.format(does=f"{ADMIN_OF_POSTGRES}; RETURN NEW;")
ACT_NOT = ACT.format(does="RETURN NULL;")


def lite(*statements: str, says: str, name: str) -> Any:
    return pytest.param("sqlite", statements, says, id=f"sqlite: {name}")


def pg(*statements: str, says: str, name: str) -> Any:
    return pytest.param("postgres", statements, says, id=f"postgres: {name}")


def rebuilt(table: str, old: str, new: str) -> tuple[str, ...]:
    """The statements that make a table of SQLite again with another text, as writable_schema does."""
    return (
        "PRAGMA writable_schema=ON",
        f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') WHERE name = '{table}'",
        "PRAGMA schema_version=4711",
    )


IN_SQLITE = [
    *(
        lite(f"CREATE TRIGGER t {when} ON {table} BEGIN {does} END", says=f"the trigger 't' on '{table}'", name=name)
        for when, table, does, name in (
            ("AFTER INSERT", "audit", f"{ADMIN_OF_SQLITE};", "a trigger that adds an admin key with the next record"),
            ("AFTER INSERT", "settings", f"{ADMIN_OF_SQLITE};", "a trigger that adds an admin key with a change"),
            ("BEFORE INSERT", "audit", "SELECT RAISE(IGNORE);", "a trigger that lets no record be written"),
            ("BEFORE DELETE", "settings", "SELECT RAISE(IGNORE);", "a trigger that lets nothing be taken back"),
            ("AFTER UPDATE OF current", "keys", "UPDATE secret_grants SET reveal = 1;", "a trigger that fires on new keys"),
            ("BEFORE DELETE", "state_seal", "UPDATE secret_grants SET reveal = 1;", "a trigger that fires on the seal"),
            ("AFTER INSERT", "state_seal", "UPDATE secret_grants SET reveal = 1;", "a trigger that fires after the seal"),
            ("AFTER INSERT", "counters", "DELETE FROM counters;", "a trigger that forgets what is counted"),
            ("AFTER INSERT", "keys", "UPDATE secret_grants SET reveal = 1;", "a trigger on a table that is not sealed"),
        )
    ),
    *(
        lite(f"CREATE VIEW v AS SELECT * FROM {table}", says="the view 'v'", name=f"a view of {table}")
        for table in ("api_keys", "settings")
    ),
    lite("ALTER TABLE api_keys RENAME TO a", "CREATE VIEW api_keys AS SELECT * FROM a", says="the view 'api_keys'",
         name="a view in the place of a table"),
    lite("ALTER TABLE audit RENAME TO a", "CREATE VIEW audit AS SELECT * FROM a",
         "CREATE TRIGGER t INSTEAD OF INSERT ON audit BEGIN SELECT 1; END", says="the view 'audit'",
         name="a view of the audit log that takes records and keeps none"),
    lite("ALTER TABLE settings RENAME TO s", "CREATE VIEW settings AS SELECT * FROM s",
         "CREATE TRIGGER t INSTEAD OF DELETE ON settings BEGIN SELECT 1; END", says="the view 'settings'",
         name="a view from which nothing is deleted"),
    lite("CREATE TABLE other (a TEXT)", says="the table 'other' is not of this program", name="another table"),
    lite("CREATE VIRTUAL TABLE other USING fts5(a)", says="the table 'other'", name="a virtual table"),
    lite("ANALYZE", says="'sqlite_stat1'", name="statistics, which choose the plans"),
    lite("ALTER TABLE api_keys ADD COLUMN more TEXT", says="the table 'api_keys' is not as it was made", name="a column"),
    lite("ALTER TABLE api_keys ADD COLUMN more TEXT DEFAULT 'a'", says="the table 'api_keys'", name="a default"),
    lite("ALTER TABLE api_keys ADD COLUMN more TEXT AS (name || '1') VIRTUAL", says="the table 'api_keys'",
         name="a generated column"),
    lite("ALTER TABLE settings ADD COLUMN more TEXT REFERENCES artifacts (digest) ON DELETE SET NULL",
         says="the table 'settings'", name="a foreign key that acts"),
    lite("ALTER TABLE audit RENAME COLUMN rule TO rules", says="the table 'audit'", name="a column with another name"),
    lite("CREATE UNIQUE INDEX i ON settings (field) WHERE field = 'timeout'", says="the index 'i' on 'settings'",
         name="a partial index that refuses what it is to refuse"),
    lite("CREATE INDEX i ON api_keys (lower(name))", says="the index 'i'", name="an index of an expression"),
    lite("DROP INDEX ix_audit_run", says="the index 'ix_audit_run' on 'audit' is missing", name="an index that is gone"),
    lite("DROP TABLE cancellations", says="the table 'cancellations' is missing", name="a table that is gone"),
    lite(*rebuilt("settings", "version TEXT", "version TEXT DEFAULT ''9''"), says="the table 'settings'",
         name="a default of a column that there is"),
    lite(*rebuilt("settings", "(subject, version, section, field)", "(subject, version, section, field) ON CONFLICT IGNORE"),
         says="the table 'settings'", name="a constraint that swallows rows"),
    lite(*rebuilt("audit", "PRIMARY KEY (seq)", "PRIMARY KEY (seq) ON CONFLICT REPLACE"), says="the table 'audit'",
         name="a constraint that replaces records"),
    lite(*rebuilt("api_keys", "id TEXT", "id TEXT COLLATE NOCASE"), says="the table 'api_keys'", name="a collation"),
    lite(*rebuilt("rules", "threshold INTEGER NOT NULL", "threshold INTEGER NOT NULL CHECK (threshold < 1)"),
         says="the table 'rules'", name="a check that always fails"),
    lite(*rebuilt("rules", "CREATE TABLE rules", "CREATE TABLE /* x */ rules"), says="the table 'rules'", name="a comment"),
    lite(*rebuilt("approvals", "ON DELETE CASCADE", "ON DELETE NO ACTION"), says="the table 'approvals'",
         name="a foreign key that does not act"),
    lite("PRAGMA writable_schema=ON", "UPDATE sqlite_master SET rootpage ="
         " (SELECT rootpage FROM sqlite_master WHERE name = 'rules') WHERE name = 'cancellations'",
         "PRAGMA schema_version=4711", says="is not as it was made", name="two tables in one place of the file"),
]  # fmt: skip
IN_POSTGRES = [
    *(
        pg(function, f"CREATE TRIGGER t {when} ON {table} FOR EACH ROW EXECUTE FUNCTION act()",
           *([f"ALTER TABLE {table} ENABLE {mode} TRIGGER t"] if mode else []),
           says=f"the trigger 't' on '{table}'", name=f"{name}, {mode.lower() or 'of the usual kind'}")
        for mode in ("", "ALWAYS", "REPLICA")
        for function, when, table, name in (
            (ACT_ADMIN, "AFTER INSERT", "audit", "a trigger that adds an admin key with the next record"),
            (ACT_ADMIN, "AFTER INSERT OR UPDATE OR DELETE", "settings", "a trigger that adds an admin key with a change"),
            (ACT_ADMIN, "BEFORE INSERT", "state_seal", "a trigger that fires on the seal"),
            (ACT_NOT, "BEFORE INSERT", "audit", "a trigger that lets no record be written"),
            (ACT_NOT, "BEFORE DELETE", "settings", "a trigger that lets nothing be taken back"),
        )
    ),
    pg(ACT_ADMIN, "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
       " EXECUTE FUNCTION act()", says="the trigger 't' on 'audit'", name="a trigger that fires at the commit"),
    pg(ACT_ADMIN, "CREATE TRIGGER t AFTER INSERT ON keys FOR EACH STATEMENT EXECUTE FUNCTION act()",
       says="the trigger 't' on 'keys'", name="a trigger of statements, on a table that is not sealed"),
    pg("CREATE RULE r AS ON INSERT TO audit DO INSTEAD NOTHING", says="the rule 'r' on 'audit'",
       name="a rule that lets no record be written"),
    pg("CREATE RULE r AS ON DELETE TO settings DO INSTEAD NOTHING", says="the rule 'r' on 'settings'",
       name="a rule that lets nothing be taken back"),
    pg(f"CREATE RULE r AS ON INSERT TO settings DO ALSO {ADMIN_OF_POSTGRES}",
       says="the rule 'r' on 'settings'", name="a rule that adds an admin key with a change"),
    pg("CREATE VIEW v AS SELECT * FROM api_keys", says="the view 'v'", name="a view"),
    pg("CREATE MATERIALIZED VIEW v AS SELECT * FROM api_keys", says="the materialized view 'v'", name="a materialized view"),
    pg("ALTER TABLE rules RENAME TO r", "CREATE VIEW rules AS SELECT * FROM r", says="the view 'rules'",
       name="a view in the place of a table"),
    pg("ALTER TABLE rules RENAME TO r", "CREATE MATERIALIZED VIEW rules AS SELECT * FROM r",
       says="the materialized view 'rules'", name="a materialized view in the place of a table"),
    pg("ALTER TABLE newest RENAME TO n", "CREATE TABLE newest (subject text, version text) PARTITION BY LIST (subject)",
       says="the partitioned table 'newest'", name="a partitioned table in the place of a table"),
    pg("CREATE TABLE child () INHERITS (api_keys)", says="the child 'child' on 'api_keys'", name="a child of a table"),
    pg("CREATE SCHEMA away", "CREATE TABLE away.child () INHERITS (secret_grants)", says="the child 'child' on 'secret_grants'",
       name="a child of a table in another schema"),
    pg("CREATE TABLE parent (subject text)", "ALTER TABLE newest INHERIT parent", says="the parent 'parent'",
       name="a parent of a table"),
    pg("CREATE TABLE other (a text)", says="the table 'other' is not of this program", name="another table"),
    pg("CREATE SEQUENCE other", says="the sequence 'other'", name="a sequence"),
    pg("ALTER TABLE api_keys ADD COLUMN more text", says="the table 'api_keys' is not as it was made", name="a column"),
    pg("ALTER TABLE secret_grants ALTER reveal SET DEFAULT true", says="the table 'secret_grants'", name="a default"),
    pg("ALTER TABLE api_keys ADD COLUMN more text GENERATED ALWAYS AS (name || '1') STORED", says="the table 'api_keys'",
       name="a generated column"),
    pg("ALTER TABLE api_keys ADD COLUMN more int GENERATED ALWAYS AS IDENTITY", says="the table 'api_keys'",
       name="an identity"),
    pg("ALTER TABLE api_keys ALTER name DROP NOT NULL", says="the table 'api_keys'", name="a column that may be null"),
    pg("ALTER TABLE rules ALTER threshold TYPE bigint", says="the table 'rules'", name="another type"),
    pg("CREATE COLLATION c (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
       'ALTER TABLE rules ALTER namespace TYPE text COLLATE "c"', says="the table 'rules'", name="a collation"),
    pg("CREATE FUNCTION f(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'",
       "CREATE DOMAIN d AS text CHECK (f(VALUE))", "ALTER TABLE rules ALTER namespace TYPE d", says="the type 'd'",
       name="a domain that calls a function"),
    pg("ALTER TABLE rules ADD CONSTRAINT c CHECK (threshold < 1) NOT VALID", says="the constraint 'c' on 'rules'",
       name="a check that always fails"),
    pg("ALTER TABLE settings ADD CONSTRAINT c FOREIGN KEY (subject) REFERENCES newest ON DELETE CASCADE NOT VALID",
       says="the constraint 'c' on 'settings'", name="a foreign key that deletes"),
    pg("ALTER TABLE approvals DROP CONSTRAINT fk_approvals_digest", says="the constraint 'fk_approvals_digest'",
       name="a constraint that is gone"),
    pg("ALTER TABLE approvals DISABLE TRIGGER ALL", says="the constraint 'fk_approvals_digest'",
       name="a constraint that nobody checks"),
    pg("CREATE UNIQUE INDEX i ON settings (field) WHERE field = 'timeout'", says="the index 'i' on 'settings'",
       name="a partial index that refuses what it is to refuse"),
    pg("CREATE FUNCTION f(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1'",
       "CREATE INDEX i ON settings (f(field))", says="the index 'i'", name="an index that calls a function"),
    pg("DROP INDEX ix_audit_run", says="the index 'ix_audit_run' on 'audit' is missing", name="an index that is gone"),
    pg("ALTER INDEX ix_audit_run RENAME TO i", says="the index 'ix_audit_run'", name="an index with another name"),
    pg("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pk_settings'::regclass", says="the index 'pk_settings'",
       name="an index that nobody reads"),
    pg("ALTER TABLE secret_grants ENABLE ROW LEVEL SECURITY", says="the table 'secret_grants'", name="row security"),
    pg("CREATE POLICY p ON settings USING (section <> 'policy')", "ALTER TABLE settings FORCE ROW LEVEL SECURITY",
       says="the policy 'p' on 'settings'", name="a policy that hides a policy"),
    pg("ALTER TABLE audit SET UNLOGGED", says="the table 'audit'", name="a table that a crash empties"),
    pg("CREATE STATISTICS s ON (lower(name)), type FROM api_keys", says="the statistics 's'", name="statistics"),
    pg("CREATE FUNCTION max(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1'", says="the function 'max'",
       name="a function with the name of another"),
    pg("CREATE FUNCTION same(text, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
       "CREATE OPERATOR = (LEFTARG = text, RIGHTARG = varchar, FUNCTION = same)", says="the operator '='",
       name="an operator that fits better than the server's own"),
    pg("CREATE FUNCTION pg_catalog.same(text, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
       "CREATE OPERATOR pg_catalog.= (LEFTARG = text, RIGHTARG = varchar, FUNCTION = pg_catalog.same)",
       says="the operator 'pg_catalog.='", name="an operator among the server's own"),
    pg("CREATE FUNCTION pg_catalog.as_text(bigint) RETURNS text LANGUAGE sql AS 'SELECT ''1'''",
       "CREATE CAST (bigint AS text) WITH FUNCTION pg_catalog.as_text(bigint) AS ASSIGNMENT",
       says="the cast 'bigint as text'", name="a cast"),
    pg("CREATE TYPE other AS ENUM ('a')", says="the type 'other'", name="a type"),
    pg("CREATE TYPE other AS (a text)", says="the type 'other'", name="a composite type"),
    pg("CREATE FUNCTION act() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$",
       "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION act()", says="the event trigger 'e'",
       name="an event trigger"),
]  # fmt: skip
ATTACKS = pytest.mark.parametrize(("kind", "statements", "says"), [*IN_SQLITE, *IN_POSTGRES], indirect=["kind"])


@pytest.fixture
def kept(workspace: Workspace) -> Workspace:
    """A state with something in it."""
    workspace.policies.set(TOOL, "timeout", "5s")
    workspace.grants.grant(TOOL, SecretName("KEY"))
    workspace.api_keys.create(name="ci", type="secret")
    return workspace


def held(raw: Callable[..., Any]) -> list[Any]:
    """What an attacker wants to change, and the seal."""
    asked = (
        "SELECT seq, mac FROM state_seal",
        "SELECT secret, reveal FROM secret_grants",
        "SELECT field, value FROM settings",
    )
    return [list(map(tuple, raw(one))) for one in (*asked, "SELECT name, type FROM api_keys ORDER BY name")]


@ATTACKS
def test_somebody_who_may_write_to_the_database_and_adds_what_acts_is_found_before_anything_runs_or_is_sealed(
    kept: Workspace, database_url: str | None, raw: Callable[..., Any], statements: tuple[str, ...], says: str
) -> None:
    for statement in statements:
        raw(statement)
    before = held(raw)
    attempts: list[Callable[[], object]] = [
        kept.check,
        kept.stamp,
        kept.api_keys.snapshot,
        lambda: kept.policies.set(TOOL, "timeout", "6s"),
        lambda: kept.api_keys.revoke("ci"),
        kept.audit_log.accept,
        lambda: Workspace.open(kept.state_dir, database_url),
        lambda: Database.open(kept.state_dir, database_url),
    ]
    for attempt in attempts:
        with pytest.raises(StateError, match="schema of the state's database was changed") as caught:
            attempt()
        assert says in caught.value.message
        assert "drop what somebody added" in str(caught.value.hint)
    with pytest.raises(StateError):  # which may find the records first
        verify(kept.audit_log)
    assert held(raw) == before


@pytest.mark.parametrize(
    ("kind", "statements", "says"),
    [one for one in (*IN_SQLITE, *IN_POSTGRES) if " audit" in str(one.values[1])],
    indirect=["kind"],
)
def test_a_record_is_written_once_or_its_effect_does_not_happen(
    kept: Workspace, raw: Callable[..., Any], statements: tuple[str, ...], says: str
) -> None:
    del says
    for statement in statements:
        raw(statement)
    (before,) = raw("SELECT max(seq), count(*) FROM audit")
    try:
        kept.audit_log.record(Event("run.started", "run_1"))
        written = 1
    except AuditError:
        written = 0
    (after,) = raw("SELECT max(seq), count(*) FROM audit")
    assert after == (before[0] + written, before[1] + written)


def test_the_schemas_are_those_that_the_migrations_make(postgres: Postgres) -> None:
    url = postgres.create()
    for one in (None, url):
        with migrated(one) as connection:
            file = schema.FILES / f"{connection.dialect}.schema"
            made = schema.as_lines(schema.found(connection))
            assert made == file.read_text("utf-8"), "python -m tests.store.schema_files writes them anew"
            schema.check(connection)
    postgres.drop(url)


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("trigger", "rows"),
    [
        pytest.param("BEFORE INSERT ON audit BEGIN SELECT RAISE(IGNORE); END", 0, id="fewer"),
        pytest.param(f"AFTER INSERT ON audit BEGIN {ADMIN_OF_SQLITE}; END", 2, id="more"),
    ],
)
def test_records_are_counted_also_where_triggers_work(
    kept: Workspace, raw: Callable[..., Any], trigger: str, rows: int
) -> None:
    kept.audit_log.record(Event("run.started", "run_1"))
    raw(f"CREATE TRIGGER t {trigger}")
    before = [list(map(tuple, raw(f"SELECT * FROM {table}"))) for table in ("audit", "api_keys")]
    with kept.database.appending() as connection:
        connection.set_authorizer(None)
    with pytest.raises(AuditError, match=f"{rows} rows were written in the place of 1"):
        kept.audit_log.record(Event("run.started", "run_2"))
    assert [list(map(tuple, raw(f"SELECT * FROM {table}"))) for table in ("audit", "api_keys")] == before


def test_what_was_dropped_again_is_forgiven_if_it_did_nothing(
    kept: Workspace, database_url: str | None, raw: Callable[..., Any]
) -> None:
    raw("CREATE INDEX i ON settings (field)")
    with pytest.raises(StateError, match="the index 'i' on 'settings' is not of this program"):
        kept.check()
    raw("DROP INDEX i")
    kept.check()
    kept.policies.set(TOOL, "timeout", "6s")
    Database.open(kept.state_dir, database_url).close()


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_trigger_with_the_schemas_number_put_back_does_nothing(kept: Workspace, raw: Callable[..., Any]) -> None:
    """The number says whether the schema was changed. A connection that is open does not see the trigger then; one that
    opens later does."""
    kept.check()
    ((number,),) = raw("PRAGMA schema_version")
    raw(f"CREATE TRIGGER t AFTER INSERT ON settings BEGIN {ADMIN_OF_SQLITE}; END")
    raw(f"PRAGMA schema_version={number}")
    kept.policies.set(TOOL, "timeout", "6s")
    assert [name for _, name in raw("SELECT type, name FROM api_keys")] == ["ci"]
    with pytest.raises(StateError, match="the trigger 't'"):
        Database.open(kept.state_dir)


def with_what_acts_unseen(kept: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a kind of object that the check of the schema does not know, on connections on which it works."""
    monkeypatch.setattr(schema, "check", lambda connection: None)
    with kept.database.reading() as connection:
        if connection.dialect == "sqlite":
            connection.raw.set_authorizer(None)  # type: ignore[union-attr]  # it is SQLite's


def acting(kind: str, when: str, table: str, *, lite: str, pg: str) -> tuple[str, ...]:
    if kind == "sqlite":
        return (f"CREATE TRIGGER t {when} ON {table} BEGIN {lite}; END",)
    return (ACT.format(does=pg), f"CREATE TRIGGER t {when} ON {table} FOR EACH ROW EXECUTE FUNCTION act()")


@pytest.mark.parametrize(
    ("when", "table", "does"),
    [
        pytest.param("AFTER INSERT", "settings", "admin", id="a key is added with a setting"),
        pytest.param("AFTER DELETE", "settings", "admin", id="a key is added as a setting is taken away"),
        pytest.param("AFTER INSERT", "audit", "admin", id="a key is added with the record"),
        pytest.param("AFTER INSERT", "settings", "UPDATE secret_grants SET reveal = (1 = 1)", id="a grant is widened"),
        pytest.param("AFTER INSERT", "settings", "DELETE FROM secret_grants", id="a grant is taken away"),
        pytest.param(
            "AFTER INSERT", "settings", "UPDATE settings SET value = '\"50s\"' WHERE field = 'timeout'", id="the row is edited"
        ),
    ],
)  # fmt: skip
def test_what_the_change_did_not_mean_to_write_is_not_sealed_whatever_wrote_it(
    kept: Workspace,
    kind: str,
    raw: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    table: str,
    does: str,
) -> None:
    admin = ADMIN_OF_SQLITE if kind == "sqlite" else ADMIN_OF_POSTGRES
    what = admin if does == "admin" else does
    for statement in acting(kind, when, table, lite=what, pg=f"{what}; RETURN NULL;"):
        raw(statement)
    before = held(raw)
    with_what_acts_unseen(kept, monkeypatch)
    with pytest.raises(StateError, match="changed in the database, and not by this program"):
        kept.policies.set(TOOL, "timeout", "6s")
    assert held(raw) == before


def test_what_the_database_does_not_write_is_an_error_whatever_keeps_it_from_that(
    kept: Workspace, kind: str, raw: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grant that is revoked and stays, for example."""
    for statement in acting(kind, "BEFORE DELETE", "secret_grants", lite="SELECT RAISE(IGNORE)", pg="RETURN NULL;"):
        raw(statement)
    with_what_acts_unseen(kept, monkeypatch)
    with pytest.raises(StateError, match="wrote 0 rows in the place of 1"):
        kept.grants.revoke(TOOL, SecretName("KEY"))


def test_a_statement_that_is_no_part_of_the_change_is_not_sealed(kept: Workspace, kind: str) -> None:
    admin = ADMIN_OF_SQLITE if kind == "sqlite" else ADMIN_OF_POSTGRES
    with pytest.raises(StateError, match="changed in the database"), kept.audit_log.changing() as change:  # noqa: PT012 - the end of the block fails
        change.connection.execute(admin)
        change.record(Event("policy.changed", ""))


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
def test_what_others_write_or_make_while_the_operator_changes_something_is_not_sealed(
    kept: Workspace, raw: Callable[..., Any]
) -> None:
    """PostgreSQL lets others write meanwhile; SQLite has one writer."""
    with pytest.raises(StateError, match="changed in the database"), kept.audit_log.changing() as change:  # noqa: PT012 - the end of the block fails
        raw(ADMIN_OF_POSTGRES)
        change.record(Event("policy.changed", ""))
    raw("DELETE FROM api_keys WHERE name = 'mine'")
    kept.check()
    with pytest.raises(StateError, match="the trigger 't' on 'settings'"), kept.audit_log.changing() as change:  # noqa: PT012 - as above
        raw(ACT_ADMIN)
        raw("CREATE TRIGGER t AFTER INSERT ON settings FOR EACH ROW EXECUTE FUNCTION act()")
        change.insert(settings, subject="s", version="", section="policy", field="f", value="1")
        change.record(Event("policy.changed", ""))
