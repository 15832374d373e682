"""Installed components: references, digests, approvals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from host.core.names import Digest, Reference
from host.errors import InputError, NotFound, StateError
from host.store import blobs as blobs_module
from host.store.audit_log.log import AuditLog
from host.store.blobs import Blobs
from host.store.components import Components
from host.store.database import LONG_S, Database
from host.store.sql import select, update
from host.store.tables import artifacts, blobs, components
from host.trust.bundle import MAX_BUNDLES
from tests.store.kept import OPENAI, manifest, records, register

# references


@pytest.mark.parametrize(
    ("versions", "latest"),
    [
        pytest.param(["0.1.0", "0.10.0", "0.9.0"], "0.10.0", id="the highest by number, not by letter"),
        pytest.param(["2.0.0", "1.0.0"], "2.0.0", id="not the one registered last"),
        pytest.param(["1.0.0", "2.0.0-beta.1"], "1.0.0", id="no prerelease, though it is higher"),
        pytest.param(
            ["2.0.0-beta.2", "2.0.0-beta.11"], "2.0.0-beta.11", id="the highest prerelease where there is no other"
        ),
        pytest.param(
            ["1.0.0+b", "1.0.0", "1.0.0+a"], "1.0.0+b", id="of versions that semver calls the same, always one"
        ),
    ],
)
def test_without_a_version_it_is_the_latest(installed: Components, versions: list[str], latest: str) -> None:
    for version in versions:
        register(installed, version, version.encode())
    found = installed.resolve(OPENAI)
    assert found.reference == OPENAI.at(latest)
    assert installed.content(found) == latest.encode()


def test_a_version_is_that_version(installed: Components) -> None:
    register(installed, "0.1.0", b"old")
    register(installed, "0.2.0", b"new")
    assert installed.content(installed.resolve(OPENAI.at("0.1.0"))) == b"old"


@pytest.mark.parametrize("text", ["c:local.other", "c:local.openai:9.9.9", "r:local.openai", "c:acme.openai"])
def test_what_is_not_there_is_not_found(installed: Components, text: str) -> None:
    register(installed, "0.1.0")
    with pytest.raises(NotFound, match=r"host list|its versions are 0\.1\.0"):
        installed.resolve(Reference.parse(text))


def test_the_list_has_the_highest_version_first(installed: Components) -> None:
    for version in ("0.2.0", "0.10.0"):
        register(installed, version, version.encode())
    register(installed, "1.0.0", b"other", name=Reference.parse("c:acme.abc"))
    assert [str(one.reference) for one in installed.all()] == [
        "c:acme.abc:1.0.0", "c:local.openai:0.10.0", "c:local.openai:0.2.0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param("openai", True, id="in the name"),
        pytest.param("CHAT speech", True, id="words of the description, in any case"),
        pytest.param("OPENAI_API_KEY", True, id="a secret"),
        pytest.param("cyfr:http", True, id="an import"),
        pytest.param("openai music", False, id="every word is needed"),
    ],
)
def test_a_search_looks_for_every_word(installed: Components, words: str, found: bool) -> None:
    register(installed, "0.1.0", manifest=manifest(description="Chat and speech", secrets=["OPENAI_API_KEY"]))
    assert bool(installed.search(words)) == found


@pytest.mark.parametrize("column", ["imports", "manifest"])
def test_a_row_that_somebody_put_there_is_told(installed: Components, audit_log: AuditLog, column: str) -> None:
    register(installed, "0.1.0")
    with audit_log.database.writing() as connection:
        connection.execute(update(artifacts).values({column: "{"}))
    with pytest.raises(StateError, match="cannot be read: its row was changed"):
        installed.all()


# bytes


def raising(error: Exception) -> Callable[..., None]:
    def raises(*_: object) -> None:
        raise error

    return raises


def test_other_bytes_under_the_same_version_are_refused(installed: Components) -> None:
    register(installed, "0.1.0", b"one")
    with pytest.raises(InputError, match="--replace"):
        register(installed, "0.1.0", b"two")
    assert installed.content(installed.resolve(OPENAI)) == b"one"


def test_what_is_refused_leaves_no_bytes(installed: Components, state_dir: Path, database: Database) -> None:
    register(installed, "0.1.0", b"one")
    with pytest.raises(InputError):
        register(installed, "0.1.0", b"two")
    assert [file.name for file in (state_dir / "components").iterdir()] == [f"{Digest.of(b'one').hex}.wasm"]
    with database.reading() as connection:
        assert str(Digest.of(b"two")) not in set(connection.execute(select(blobs.c.digest)).scalars())


@pytest.mark.parametrize("kind", ["postgres"], indirect=True)
def test_bytes_that_take_long_to_send_are_in_nobodys_way(
    installed: Components, state_dir: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, allowed = blobs_module._add, list[float]()

    def slowly(connection: Any, digest: Digest, content: bytes) -> None:
        if not allowed:
            with closing(Database.open(state_dir, database_url)) as other, other.writing():
                allowed.append(connection.raw.statement_s)
        add(connection, digest, content)

    monkeypatch.setattr(blobs_module, "_add", slowly)
    assert installed.content(register(installed, "0.1.0", b"bytes")) == b"bytes"
    assert allowed == [LONG_S]


def test_bytes_that_somebody_removed_meanwhile_are_stored_again(
    installed: Components, state_dir: Path, database: Database, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Blobs.prepared

    @contextmanager
    def dropped(self: Blobs, digest: Digest, *more: Any) -> Iterator[None]:
        with prepared(self, digest, *more):
            installed._drop(digest)  # another reference to the same bytes, elsewhere
            yield

    monkeypatch.setattr(Blobs, "prepared", dropped)
    component = register(installed, "0.1.0", b"bytes")
    assert installed.content(component) == b"bytes"
    if kind == "postgres":
        assert Blobs(database, state_dir / "elsewhere").get(component.digest) == b"bytes"


def test_what_went_wrong_is_told_although_its_bytes_cannot_be_removed(
    installed: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(installed, "0.1.0", b"one")

    def busy(_: object) -> None:
        raise StateError("the state's database is busy")

    monkeypatch.setattr(installed, "_drop", busy)
    with pytest.raises(InputError, match="taken by other bytes"):
        register(installed, "0.1.0", b"two")


def test_bytes_of_a_change_that_cannot_begin_leave_again(
    installed: Components, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed._audit_log, "check", raising(StateError("other hands changed the state")))
    with pytest.raises(StateError, match="other hands"):
        register(installed, "0.1.0", b"one")
    assert list((state_dir / "components").iterdir()) == []


def test_unless_they_are_to_replace_them_and_then_the_old_ones_go(
    installed: Components, state_dir: Path, database: Database
) -> None:
    register(installed, "0.1.0", b"one")
    register(installed, "0.1.0", b"two", replace=True)
    assert installed.content(installed.resolve(OPENAI)) == b"two"
    assert [file.name for file in (state_dir / "components").iterdir()] == [f"{Digest.of(b'two').hex}.wasm"]
    with database.reading() as connection:
        assert str(Digest.of(b"one")) not in set(connection.execute(select(blobs.c.digest)).scalars())


def test_bytes_that_another_reference_names_stay(installed: Components) -> None:
    other = Reference.parse("c:local.copy")
    register(installed, "0.1.0", b"same")
    register(installed, "0.1.0", b"same", name=other)
    installed.unregister(OPENAI)
    assert installed.content(installed.resolve(other)) == b"same"


def test_the_same_bytes_again_change_nothing(installed: Components, database: Database) -> None:
    first = register(installed, "0.1.0")
    before = records(database)
    assert register(installed, "0.1.0", source="elsewhere") == first
    assert records(database) == before


def test_bundles_that_come_later_are_added(installed: Components) -> None:
    component = register(installed, "0.1.0", bundles=["a"])
    register(installed, "0.1.0", bundles=["a", "b"])
    installed.add_bundle(component, "c")
    assert installed.bundles(component.digest) == ("a", "b", "c")


def test_a_flood_of_bundles_takes_the_place_of_no_bundle_that_comes_with_it(installed: Components) -> None:
    for wave in "abc":
        flood = [*(f"{wave}{number}" for number in range(19)), f"good {wave}"]
        component = register(installed, "0.1.0", bundles=flood)
        assert set(flood) <= set(installed.bundles(component.digest))
    assert len(installed.bundles(component.digest)) == MAX_BUNDLES


def test_what_is_removed_leaves_no_bytes(installed: Components, state_dir: Path, database: Database) -> None:
    register(installed, "0.1.0")
    installed.unregister(OPENAI)
    assert list((state_dir / "components").iterdir()) == []
    with database.reading() as connection:
        assert connection.execute(select(blobs.c.digest)).all() == []


def test_a_file_that_was_damaged_is_mended_by_the_same_bytes(installed: Components, state_dir: Path) -> None:
    component = register(installed, "0.1.0", b"bytes")
    (state_dir / "components" / f"{component.digest.hex}.wasm").write_bytes(b"other")
    assert installed.content(register(installed, "0.1.0", b"bytes")) == b"bytes"


def test_what_came_from_a_place_is_found_by_all_of_its_name(installed: Components) -> None:
    place = "oci://registry.example/openai:1"
    register(installed, "0.1.0", source=f"{place}0")
    assert installed.from_source(place) is None
    component = register(installed, "0.2.0", b"second", source=place)
    assert installed.from_source(place) == component


def test_a_signature_that_is_added_is_on_record(installed: Components, database: Database) -> None:
    installed.add_bundle(register(installed, "0.1.0"), "a")
    assert records(database)[-1] == "component.signed"


def test_a_file_that_is_gone_is_told(installed: Components, state_dir: Path, kind: str) -> None:
    component = register(installed, "0.1.0", b"bytes")
    (state_dir / "components" / f"{component.digest.hex}.wasm").unlink()
    if kind == "postgres":  # which the database has too
        assert installed.content(component) == b"bytes"
        return
    with pytest.raises(StateError, match="register or pull it again"):
        installed.content(component)


def test_what_is_installed_is_for_this_user_alone(installed: Components, state_dir: Path) -> None:
    component = register(installed, "0.1.0")
    folder = state_dir / "components"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / f"{component.digest.hex}.wasm").stat().st_mode & 0o777 == 0o600


def test_a_row_without_its_bytes_never_comes_of_a_registration_that_fails(
    installed: Components, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Blobs, "put", lambda *_: (_ for _ in ()).throw(StateError("no space")))
    with pytest.raises(StateError, match="no space"):
        register(installed, "0.1.0")
    with database.reading() as connection:
        assert connection.execute(select(components)).all() == []
    assert records(database) == []


# former versions


def test_a_higher_version_is_the_newest_from_then_on(installed: Components) -> None:
    register(installed, "0.9.0", b"old")
    register(installed, "0.10.0", b"new")
    assert installed.newest(OPENAI) == "0.10.0"


def test_the_newest_version_is_remembered_after_it_is_gone(installed: Components) -> None:
    register(installed, "0.10.0", b"new")
    register(installed, "0.9.0", b"old")
    installed.unregister(OPENAI.at("0.10.0"))
    assert installed.newest(OPENAI) == "0.10.0"
    assert installed.resolve(OPENAI).reference.version == "0.9.0"


def test_of_what_was_never_there_no_version_is_the_newest(installed: Components) -> None:
    assert installed.newest(OPENAI) == ""


def test_each_change_is_recorded_in_its_transaction(installed: Components, database: Database) -> None:
    register(installed, "0.1.0")
    register(installed, "0.1.0", b"second", replace=True)
    installed.unregister(OPENAI)
    assert records(database) == [
        "component.registered", "component.approved", "component.registered", "component.approved",
        "component.unregistered",
    ]  # fmt: skip
