"""Settings by field, for all versions or for one, on both databases."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal

import pytest

from host.core.audit import EventKind
from host.core.names import Reference
from host.errors import InputError, StateError
from host.store.audit_log.log import AuditLog
from host.store.policies import Config, Policies
from host.store.settings import MAX_VALUE_BYTES, Document, Settings
from host.store.sql import select, update
from host.store.tables import audit, settings

ALL = Reference.parse("c:local.openai")
ONE = ALL.at("0.1.0")
TWO = ALL.at("0.2.0")
OTHER = Reference.parse("c:local.other")


class Numbers(Settings):
    """Numbers with a sum of at most 10."""

    section: ClassVar[Literal["config"]] = "config"
    kind: ClassVar[EventKind] = "config.changed"
    forget: ClassVar[str] = "host numbers forget"

    def check(self, document: Document) -> None:
        if sum(document.values()) > 10:
            raise InputError("too much together")


@pytest.fixture
def numbers(audit_log: AuditLog) -> Numbers:
    return Numbers(audit_log)


def recorded(audit_log: AuditLog) -> list[dict[str, Any]]:
    with audit_log.database.reading() as connection:
        return [json.loads(text) for text in connection.execute(select(audit.c.detail).order_by(audit.c.seq)).scalars()]


def write_raw(audit_log: AuditLog, **columns: str) -> None:
    with audit_log.database.writing() as connection:
        connection.execute(update(settings).values(**columns))


class TestLayers:
    def test_nothing_is_set_at_first(self, numbers: Numbers) -> None:
        assert (numbers.document(ALL), numbers.merged(ONE), numbers.all()) == ({}, {}, {})

    def test_what_is_set_for_a_version_takes_the_place_of_what_is_set_for_all_field_by_field(
        self, numbers: Numbers
    ) -> None:
        numbers.update(ALL, {"a": 1, "b": 2})
        numbers.set(ONE, "b", 3)
        assert {field: (one.value, one.scope) for field, one in numbers.merged(ONE).items()} == {
            "a": (1, ALL),
            "b": (3, ONE),
        }
        assert numbers.merged(TWO)["b"].value == 2
        assert numbers.merged(OTHER) == {}

    def test_a_document_is_what_is_set_for_exactly_that_reference(self, numbers: Numbers) -> None:
        numbers.set(ALL, "a", 1)
        numbers.set(ONE, "b", 3)
        assert (numbers.document(ALL), numbers.document(ONE)) == ({"a": 1}, {"b": 3})
        assert numbers.all() == {ALL: {"a": 1}, ONE: {"b": 3}}

    def test_setting_one_field_leaves_the_others(self, numbers: Numbers) -> None:
        numbers.update(ALL, {"a": 1, "b": 2})
        numbers.set(ALL, "a", 5)
        assert numbers.document(ALL) == {"a": 5, "b": 2}

    def test_sections_do_not_mix(self, audit_log: AuditLog) -> None:
        Policies(audit_log).set(ALL, "max_streams", 1)
        Config(audit_log).set(ALL, "max_streams", "three")
        assert Policies(audit_log).document(ALL) == {"max_streams": 1}
        Config(audit_log).reset(ALL)
        assert Policies(audit_log).document(ALL) == {"max_streams": 1}


class TestMistakes:
    def test_a_mistake_changes_nothing(self, numbers: Numbers) -> None:
        numbers.set(ALL, "a", 1)
        with pytest.raises(InputError):
            numbers.update(ALL, {"a": 2, "b": 100})
        assert numbers.document(ALL) == {"a": 1}

    def test_what_is_set_for_all_has_to_be_right_for_every_version_that_has_fields_of_its_own(
        self, numbers: Numbers
    ) -> None:
        numbers.set(ONE, "b", 8)
        numbers.set(ALL, "a", 2)
        with pytest.raises(InputError, match="too much together"):
            numbers.set(ALL, "a", 3)
        assert numbers.document(ALL) == {"a": 2}

    def test_what_is_set_for_a_version_has_to_be_right_with_what_is_set_for_all(self, numbers: Numbers) -> None:
        numbers.set(ALL, "a", 8)
        with pytest.raises(InputError):
            numbers.set(ONE, "b", 3)

    def test_of_several_documents_all_are_put_in_place_or_none(self, numbers: Numbers) -> None:
        numbers.set(ONE, "a", 1)
        with pytest.raises(InputError):
            numbers.replace_all({ONE: {"a": 5}, OTHER: {"a": 11}})
        assert numbers.all() == {ONE: {"a": 1}}
        numbers.replace_all({ONE: {"b": 5}, OTHER: {"a": 10}})
        assert numbers.all() == {ONE: {"b": 5}, OTHER: {"a": 10}}

    def test_several_documents_are_judged_together_whatever_their_order(self, numbers: Numbers) -> None:
        numbers.replace_all({ALL: {"a": 9}, ONE: {"b": 1}})
        numbers.replace_all({ALL: {"a": 1}, ONE: {"b": 9}})
        assert numbers.all() == {ALL: {"a": 1}, ONE: {"b": 9}}

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(float("nan"), id="NaN"),
            pytest.param(object(), id="no JSON at all"),
            pytest.param({1, 2}, id="a set"),
            pytest.param("x" * MAX_VALUE_BYTES, id="more than is kept"),
            pytest.param(10**5000, id="a number that nobody reads back"),
        ],
    )
    def test_only_json_of_some_size_is_kept(self, audit_log: AuditLog, value: Any) -> None:
        with pytest.raises(InputError):
            Config(audit_log).set(ALL, "key", value)
        assert Config(audit_log).all() == {}

    def test_a_replacement_of_what_has_changed_meanwhile_is_refused(self, numbers: Numbers) -> None:
        numbers.set(ALL, "a", 1)
        before = numbers.document(ALL)
        numbers.set(ALL, "a", 2)
        with pytest.raises(InputError, match="by somebody else"):
            numbers.replace(ALL, {"a": 3}, before=before)
        numbers.replace(ALL, {"a": 3}, before={"a": 2})
        assert numbers.document(ALL) == {"a": 3}


class TestTheRecord:
    def test_each_change_is_recorded_with_what_was_set_and_what_was_reset(self, audit_log: AuditLog) -> None:
        policies = Policies(audit_log)
        policies.set(ALL, "max_streams", 1)
        policies.replace(ALL, {"timeout": "5s"})
        policies.reset(ALL)
        assert recorded(audit_log) == [
            {"reference": "c:local.openai", "set": {"max_streams": 1}},
            {"reference": "c:local.openai", "set": {"timeout": "5s"}, "reset": ["max_streams"]},
            {"reference": "c:local.openai", "reset": ["timeout"]},
        ]

    def test_what_changes_nothing_is_not_recorded(self, audit_log: AuditLog) -> None:
        config = Config(audit_log)
        config.set(ALL, "a", {"x": 1, "y": 2})
        config.set(ALL, "a", {"y": 2, "x": 1})
        config.reset(ALL, "b")
        assert len(recorded(audit_log)) == 1

    def test_true_is_not_one(self, audit_log: AuditLog) -> None:
        config = Config(audit_log)
        config.set(ALL, "a", 1)
        config.set(ALL, "a", True)
        assert config.document(ALL)["a"] is True

    def test_a_refused_change_is_not_recorded(self, audit_log: AuditLog) -> None:
        with pytest.raises(InputError):
            Policies(audit_log).set(ALL, "max_streams", -1)
        assert recorded(audit_log) == []


class TestDamage:
    """A row that was not written by the program."""

    def test_a_value_that_is_no_json_is_an_error_that_names_it(self, numbers: Numbers, audit_log: AuditLog) -> None:
        numbers.set(ALL, "a", 1)
        write_raw(audit_log, value="{")
        for read in (numbers.document, numbers.merged):
            with pytest.raises(StateError, match=r"of catalyst:local\.openai: is damaged: a is not JSON"):
                read(ALL)

    @pytest.mark.parametrize(
        "columns",
        [
            pytest.param({"version": "latest"}, id="a version that stands for none"),
            pytest.param({"version": "1"}, id="a version that is none"),
            pytest.param({"subject": "c:local.openai"}, id="a reference in its short form"),
            pytest.param({"subject": "catalyst:local.openai:0.1.0"}, id="a version in the subject"),
        ],
    )
    def test_a_reference_that_is_none_passes_for_no_other(
        self, numbers: Numbers, audit_log: AuditLog, columns: dict[str, str]
    ) -> None:
        numbers.set(ALL, "a", 1)
        write_raw(audit_log, **columns)
        with pytest.raises(StateError):
            numbers.all()

    def test_it_can_be_forgotten_without_being_read(self, numbers: Numbers, audit_log: AuditLog) -> None:
        numbers.set(ALL, "a", 1)
        write_raw(audit_log, value="{")
        with pytest.raises(StateError, match="host audit accept"):
            numbers.reset(ALL, "a")
        audit_log.accept()
        assert numbers.reset(ALL, "a") == ("a",)
        assert numbers.all() == {}


def test_forgetting_says_what_there_was(numbers: Numbers) -> None:
    numbers.update(ALL, {"b": 1, "a": 1})
    numbers.set(ONE, "c", 1)
    assert numbers.reset(ALL, "c") == ()
    assert numbers.reset(ALL, "b") == ("b",)
    assert numbers.reset(ALL) == ("a",)
    assert numbers.all() == {ONE: {"c": 1}}


def test_one_section_is_none_of_the_others_business(numbers: Numbers, audit_log: AuditLog) -> None:
    policies = Policies(audit_log)
    policies.set(ALL, "timeout", "5s")
    numbers.set(ALL, "timeout", 7)
    assert (policies.all(), numbers.all()) == ({ALL: {"timeout": "5s"}}, {ALL: {"timeout": 7}})
    numbers.reset(ALL)
    assert policies.merged(ALL).keys() == {"timeout"}
