"""An upgrade is no outage: bytes that wait take nothing from those that are approved, and a pin chooses which serve."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from host.core.names import Digest
from host.errors import HostError, InputError, NotApproved, NotFound, StateError
from host.runtime.workspace import Workspace
from host.service.catalog import _by_reference
from host.store.audit_log.log import AuditLog
from host.store.components import Components
from host.store.database import Database
from tests.store.kept import OPENAI, grant_something, records, register

MORE: dict[str, Any] = {"imports": ["cyfr:http/fetch@0.1.0", "cyfr:secrets/read@0.1.0"]}
FIRST, SECOND, THIRD = (Digest.of(one) for one in (b"first", b"second", b"third"))


def serving(installed: Components) -> tuple[str, Digest]:
    """What the name means, everywhere."""
    one = installed.resolve(OPENAI)
    assert one.approved
    assert one.serves
    assert [other.reference for other in installed.all() if other.serves] == [one.reference]
    assert _by_reference(installed.all())[OPENAI] == one
    assert _by_reference(installed.all())[one.reference] == one
    return one.reference.version, one.digest


@pytest.fixture
def granted(installed: Components, audit_log: AuditLog) -> Components:
    """One version, approved, to which something is granted."""
    register(installed, "0.1.0")
    grant_something(audit_log)
    return installed


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_the_approved_version_serves_until_the_other_is_approved(granted: Components, version: str) -> None:
    other = register(granted, version, b"second", replace=True, **MORE)
    assert (other.digest, other.approved, other.serves) == (SECOND, False, False)
    assert serving(granted) == ("0.1.0", FIRST)
    assert granted.waiting(OPENAI) == other
    assert [granted.content(one) for one in (granted.resolve(OPENAI), other)] == [b"first", b"second"]
    granted.approve(other)
    assert serving(granted) == (version, SECOND)
    assert granted.content(granted.resolve(OPENAI)) == b"second"
    assert [one for one in granted.all() if not one.approved] == []


def test_bytes_that_waited_and_took_a_place_leave_nothing_of_those_before(granted: Components) -> None:
    granted.approve(register(granted, "0.1.0", b"second", replace=True, **MORE))
    assert [one.digest for one in granted.all()] == [SECOND]
    assert granted.held(FIRST) is None


def test_of_bytes_that_wait_for_one_version_the_last_ones_count(granted: Components) -> None:
    for content in (b"second", b"third"):
        register(granted, "0.1.0", content, replace=True, **MORE)
    assert [one.digest for one in granted.all()] == [FIRST, THIRD]
    assert granted.held(SECOND) is None
    assert serving(granted) == ("0.1.0", FIRST)


def test_the_approved_bytes_once_more_take_back_those_that_wait(granted: Components) -> None:
    register(granted, "0.1.0", b"second", replace=True, **MORE)
    assert register(granted, "0.1.0").serves
    assert [one.digest for one in granted.all()] == [FIRST]
    assert granted.held(SECOND) is None


def test_what_waits_is_removed_alone(granted: Components) -> None:
    register(granted, "0.1.0", b"second", replace=True, **MORE)
    register(granted, "0.2.0", b"third", **MORE)
    assert {one.digest for one in granted.unregister(OPENAI, waiting=True)} == {SECOND, THIRD}
    assert serving(granted) == ("0.1.0", FIRST)
    assert granted.held(SECOND) is None
    with pytest.raises(NotFound, match="waits for approval"):
        granted.unregister(OPENAI, waiting=True)


def test_a_version_is_removed_with_what_waits_to_replace_it(granted: Components) -> None:
    register(granted, "0.1.0", b"second", replace=True, **MORE)
    assert len(granted.unregister(OPENAI.at("0.1.0"))) == 2
    assert granted.all() == []
    assert [granted.held(one) for one in (FIRST, SECOND)] == [None, None]


def test_bytes_that_come_again_once_nothing_is_granted_any_more_serve(
    granted: Components, workspace: Workspace
) -> None:
    register(granted, "0.1.0", b"second", replace=True, **MORE)
    workspace.policies.reset(OPENAI)
    assert register(granted, "0.1.0", b"second", replace=True, **MORE).serves
    assert serving(granted) == ("0.1.0", SECOND)


def test_bytes_that_are_approved_under_another_version_wait_nowhere(granted: Components) -> None:
    register(granted, "0.1.0", b"second", replace=True, **MORE)
    granted.approve(register(granted, "0.2.0", b"second", **MORE))
    assert [(one.reference.version, one.digest, one.approved) for one in granted.all()] == [
        ("0.2.0", SECOND, True), ("0.1.0", SECOND, True),
    ]  # fmt: skip


def test_a_way_back_to_bytes_that_were_approved_needs_no_other(granted: Components) -> None:
    granted.approve(register(granted, "0.1.0", b"second", replace=True, **MORE))
    assert register(granted, "0.1.0", replace=True).serves
    assert serving(granted) == ("0.1.0", FIRST)


def test_bytes_that_nobody_approved_are_replaced_at_once(installed: Components, audit_log: AuditLog) -> None:
    grant_something(audit_log)
    register(installed, "0.1.0")
    other = register(installed, "0.1.0", b"second", replace=True)
    assert installed.all() == [other]
    assert not other.approved


def test_another_process_sees_it_at_once(granted: Components, state_dir: Any, database_url: str | None) -> None:
    with Workspace.open(state_dir, database_url) as other:
        before = other.stamp()
        waiting = register(granted, "0.1.0", b"second", replace=True, **MORE)
        assert serving(other.components) == ("0.1.0", FIRST)
        granted.approve(waiting)
        assert serving(other.components) == ("0.1.0", SECOND)
        granted.pin(OPENAI.at("0.1.0"))
        assert other.components.resolve(OPENAI).pinned
        assert other.stamp() != before


# pins


def test_a_pinned_version_serves_whatever_comes_until_the_pin_is_gone(granted: Components) -> None:
    granted.approve(register(granted, "0.2.0", b"second", **MORE))
    assert serving(granted) == ("0.2.0", SECOND)
    assert granted.pin(OPENAI.at("0.1.0")).pinned
    granted.approve(register(granted, "0.3.0", b"third", **MORE))
    assert serving(granted) == ("0.1.0", FIRST)
    assert granted.resolve(OPENAI.at("0.3.0")).digest == THIRD
    granted.pin(OPENAI.at("0.2.0"))
    assert serving(granted) == ("0.2.0", SECOND)
    granted.unpin(OPENAI)
    assert serving(granted) == ("0.3.0", THIRD)
    with pytest.raises(NotFound, match="is pinned"):
        granted.unpin(OPENAI)


def test_a_pin_is_of_a_version_and_new_bytes_of_it_wait_as_others_do(granted: Components) -> None:
    granted.pin(OPENAI.at("0.1.0"))
    other = register(granted, "0.1.0", b"second", replace=True, **MORE)
    assert serving(granted) == ("0.1.0", FIRST)
    granted.approve(other)
    assert serving(granted) == ("0.1.0", SECOND)
    assert granted.resolve(OPENAI).pinned


@pytest.mark.parametrize(
    ("version", "error"),
    [
        pytest.param("0.2.0", NotApproved, id="that waits"),
        pytest.param("9.9.9", NotFound, id="that is not there"),
        pytest.param("", NotFound, id="that is not said"),
    ],
)
def test_no_version_is_pinned(granted: Components, version: str, error: type[HostError]) -> None:
    register(granted, "0.2.0", b"second", **MORE)
    with pytest.raises(error):
        granted.pin(OPENAI.at(version))
    assert not granted.resolve(OPENAI).pinned


def test_a_pinned_version_is_not_removed_and_its_name_is_with_its_pin(granted: Components) -> None:
    granted.pin(OPENAI.at("0.1.0"))
    register(granted, "0.2.0", b"second", **MORE)
    with pytest.raises(InputError) as caught:
        granted.unregister(OPENAI.at("0.1.0"))
    assert "host unpin c:local.openai" in str(caught.value.hint)
    assert serving(granted) == ("0.1.0", FIRST)
    granted.unregister(OPENAI)
    register(granted, "0.1.0")
    assert not granted.resolve(OPENAI).pinned


def test_what_is_pinned_is_on_record(granted: Components, database: Database) -> None:
    before = len(records(database))
    for _ in range(2):
        granted.pin(OPENAI.at("0.1.0"))
    granted.unpin(OPENAI)
    assert records(database)[before:] == ["component.pinned", "component.unpinned"]


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(
            lambda raw: raw(
                "INSERT INTO settings VALUES (?, '', 'pin', 'version', ?)", OPENAI.subject, json.dumps("0.1.0")
            ),
            id="a pin that nobody made",
        ),
        pytest.param(lambda raw: raw("UPDATE settings SET value = '\"0.1.0\"' WHERE section = 'pin'"), id="another"),
        pytest.param(lambda raw: raw("DELETE FROM settings WHERE section = 'pin'"), id="a pin less"),
        pytest.param(
            lambda raw: raw("UPDATE settings SET field = ? WHERE section = 'waiting'", str(FIRST)), id="other bytes"
        ),
        pytest.param(lambda raw: raw("DELETE FROM settings WHERE section = 'waiting'"), id="none that wait"),
    ],
)
def test_forged_pins_and_waiting_bytes_are_refused(
    granted: Components, workspace: Workspace, raw: Any, forge: Callable[[Any], object], request: pytest.FixtureRequest
) -> None:
    granted.approve(register(granted, "0.2.0", b"second", **MORE))
    if "nobody made" not in request.node.name:
        granted.pin(OPENAI.at("0.2.0"))
    register(granted, "0.1.0", b"third", replace=True, **MORE)
    workspace.check()
    forge(raw)
    with pytest.raises(StateError, match="changed in the database"):
        workspace.installed(OPENAI)
