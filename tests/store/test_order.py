"""The order in which names were first approved: the first catalyst is the default, whatever comes after it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from host.core.audit import Event
from host.core.names import Reference
from host.service.catalog import completed
from host.service.request import Routing
from host.store.audit_log.log import AuditLog
from host.store.components import Components
from host.store.tables import settings
from tests.store.kept import grant_something, manifest, register

OWN, THEIRS, THIRD = (Reference.parse(f"c:local.{name}") for name in ("own", "theirs", "third"))
ROUTES = manifest(operations={"chat.completions.create": {"method": "POST", "path": "/chat/completions"}})


def install(installed: Components, name: Reference, version: str = "0.1.0", **more: Any) -> bool:
    content = f"{name} {version} {more.pop('content', '')}".encode()
    return register(installed, version, content, name=name, **{"manifest": ROUTES, **more}).approved


def default(installed: Components, routing: Routing | None = None) -> Reference | None:
    return completed(routing or Routing(), installed.all(), installed.in_order()).default


def test_the_first_that_is_installed_stays_the_default(installed: Components) -> None:
    assert default(installed) is None
    install(installed, THEIRS)
    install(installed, OWN)
    install(installed, THIRD, "9.9.9")
    assert default(installed) == THEIRS


@pytest.mark.parametrize(
    "then",
    [
        pytest.param({"content": "changed", "replace": True}, id="it is replaced"),
        pytest.param({"version": "0.2.0"}, id="another version of it comes"),
        pytest.param({"version": "9.0.0-rc.1"}, id="a prerelease of it comes"),
    ],
)
def test_it_stays_so_when(installed: Components, then: Any) -> None:
    install(installed, OWN)
    install(installed, THEIRS)
    install(installed, OWN, **then)
    assert default(installed) == OWN


def test_a_clock_that_is_set_back_makes_no_other_the_default(
    installed: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(installed, OWN)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    install(installed, THEIRS)
    assert default(installed) == OWN


def test_what_waits_for_approval_is_not_the_default_even_if_it_is_alone(
    installed: Components, audit_log: AuditLog
) -> None:
    grant_something(audit_log, THEIRS)
    assert not install(installed, THEIRS)
    assert default(installed) is None
    install(installed, OWN)
    assert default(installed) == OWN
    installed.approve(installed.waiting(THEIRS))
    assert default(installed) == OWN


def test_a_default_whose_bytes_were_replaced_by_ones_that_wait_is_not_given_to_another(
    installed: Components, audit_log: AuditLog
) -> None:
    install(installed, OWN)
    grant_something(audit_log, OWN)
    install(installed, THEIRS)
    assert not install(installed, OWN, content="changed", replace=True)
    assert default(installed) == OWN


def test_what_was_removed_is_the_default_no_more_and_comes_back_as_the_last(installed: Components) -> None:
    for name in (OWN, THEIRS):
        install(installed, name)
    install(installed, OWN, "0.2.0")
    installed.unregister(OWN.at("0.1.0"))
    assert default(installed) == OWN
    installed.unregister(OWN)
    assert default(installed) == THEIRS
    install(installed, OWN)
    assert default(installed) == THEIRS


def test_one_without_routes_is_passed_over(installed: Components) -> None:
    install(installed, OWN, manifest=manifest())
    install(installed, THEIRS)
    assert default(installed) == THEIRS


def test_the_operators_word_counts_before_the_order(installed: Components) -> None:
    install(installed, OWN)
    install(installed, THEIRS)
    assert default(installed, Routing(default=THEIRS)) == THEIRS
    assert default(installed, Routing({"gpt": THEIRS})) is None


def test_a_state_from_before_there_was_an_order_keeps_its_only_catalyst_as_the_default(
    installed: Components, audit_log: AuditLog
) -> None:
    install(installed, OWN)
    with audit_log.changing() as change:
        change.delete(settings, section="order")
        change.record(Event("policy.changed", ""))
    assert default(installed) == OWN
    install(installed, THEIRS)
    assert installed.in_order() == [OWN, THEIRS]
