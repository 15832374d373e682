"""Where objects are: only the key that made one learns it, and what is kept has bounds."""

from __future__ import annotations

import pytest

from host.store.access import made_objects
from host.store.access.made_objects import MadeObjects
from host.store.database import Database


@pytest.fixture
def made(database: Database) -> MadeObjects:
    return MadeObjects(database)


def test_an_id_leads_to_its_place_and_only_for_the_key_that_made_it(made: MadeObjects) -> None:
    made.remember("ci", ["file-1", "file-2"], "c:local.second")
    made.remember("ci", ["file-1"], "c:local.third")
    assert made.place_of("ci", ["nothing", "file-2", "file-1"]) == "c:local.second"
    assert made.place_of("ci", ["file-1"]) == "c:local.third"
    for key, ident in (("", "file-1"), ("other", "file-1"), ("c", "i\0file-1"), ("ci\0file-1", "")):
        assert made.place_of(key, [ident]) is None


def test_one_key_fills_the_memory_of_no_other(made: MadeObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_objects, "MOST_OF_KEY", 3)
    made.remember("quiet", ["kept"], "a")
    for number in range(6):
        made.remember("loud", [f"id-{number}"], "a")
    assert [number for number in range(6) if made.place_of("loud", [f"id-{number}"])] == [3, 4, 5]
    assert made.place_of("quiet", ["kept"]) == "a"


def test_attack_a_catalyst_that_names_many_ids_has_those_of_another_forgotten(
    made: MadeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_objects, "MOST_OF_KEY", 3)
    made.remember("ci", ["kept"], "c:local.good https://a.test")
    made.remember("ci", [f"id-{number}" for number in range(6)], "c:local.loud")
    made.remember("ci", ["one-more"], "c:local.loud")
    assert made.place_of("ci", ["kept"]) == "c:local.good https://a.test"


def test_what_is_old_is_forgotten(made: MadeObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    made.remember("ci", ["old"], "a")
    monkeypatch.setattr(made_objects, "KEPT_S", 0.0)
    made.remember("ci", ["new"], "a")
    assert made.place_of("ci", ["old"]) is None
