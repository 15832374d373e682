"""Approvals: the artifacts that may use the grants of a component."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from host.core.names import Digest, Reference, SecretName
from host.errors import StateError
from host.store.audit_log.log import AuditLog
from host.store.components import Components
from host.store.database import Database
from host.store.policies import SecretGrants
from host.store.sql import insert, select
from host.store.tables import approvals, settings
from tests.store.kept import HTTP, OPENAI, grant_something, manifest, register


def test_the_first_bytes_come_approved_while_nothing_is_granted(installed: Components) -> None:
    assert register(installed, "0.1.0").approved


def test_bytes_that_come_to_grants_that_wait_for_them_are_not_approved(
    installed: Components, audit_log: AuditLog
) -> None:
    grant_something(audit_log)
    assert not register(installed, "0.1.0").approved


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"imports": [HTTP, "cyfr:secrets/read@0.1.0"]}, id="another import"),
        pytest.param({"manifest": manifest(domains=["api.openai.com", "evil.example"])}, id="another domain"),
        pytest.param({"manifest": manifest(domains=["*.openai.com"])}, id="a wider domain"),
        pytest.param({"manifest": manifest(secrets=["OPENAI_API_KEY"])}, id="a secret"),
        pytest.param({"manifest": json.dumps({"wasi": {"http": True}})}, id="any domain, by not saying which"),
        pytest.param({"manifest": ""}, id="anything, by having no manifest"),
        pytest.param(
            {"manifest": manifest(domains=["{config.base_url}"], defaults={"base_url": "https://evil.example/"})},
            id="a domain, by a default of its configuration",
        ),
    ],
)
def test_other_local_bytes_that_ask_for_more_wait_for_the_operator(
    installed: Components, audit_log: AuditLog, more: Any
) -> None:
    register(installed, "0.1.0", folder="/src")
    grant_something(audit_log)
    component = register(installed, "0.2.0", b"second", folder="/src", **more)
    assert not component.approved
    assert installed.review(component, {}).difference.more
    installed.approve(component)
    assert installed.resolve(OPENAI).approved


@pytest.mark.parametrize(
    "less",
    [
        pytest.param({}, id="the same"),
        pytest.param({"imports": []}, id="fewer imports"),
        pytest.param({"manifest": manifest(domains=[])}, id="no domain"),
        pytest.param({"manifest": manifest(description="Other words")}, id="other words"),
    ],
)
def test_bytes_that_were_built_here_and_ask_for_no_more_are_approved(
    installed: Components, audit_log: AuditLog, less: Any
) -> None:
    register(installed, "0.1.0", folder="/home/me/openai")
    grant_something(audit_log)
    assert register(installed, "0.1.0", b"second", replace=True, folder="/home/me/openai", **less).approved


@pytest.mark.parametrize("version", ["0.1.0", "0.1.1", "9.9.9", "9.9.9-rc.1", "0.1.0-alpha", "0.1.0+local", "0.0.1"])
def test_a_downloaded_file_that_names_itself_as_the_operators_own_waits_whatever_its_version(
    installed: Components, audit_log: AuditLog, version: str
) -> None:
    own = register(installed, "0.1.0", folder="/home/me/openai")
    grant_something(audit_log)
    theirs = register(installed, version, b"second", replace=True, source="/home/me/Downloads/openai.wasm")
    assert not theirs.approved
    if version == "0.1.0":
        return  # it has the own one's place, so nothing is left to run
    assert installed.resolve(OPENAI) == own
    assert installed.waiting(OPENAI) == theirs
    assert installed.newest(OPENAI) == "0.1.0"


@pytest.mark.parametrize(
    ("digest", "name", "folder"),
    [
        pytest.param(b"second", OPENAI, "/home/me/Downloads/openai", id="built here of source from somewhere else"),
        pytest.param(b"second", OPENAI, "/home/me/openai/evil", id="built here in a folder below"),
        pytest.param(b"other", OPENAI, "/home/me/openai", id="of which other bytes were built here"),
        pytest.param(b"second", Reference.parse("c:local.other"), "/home/me/openai", id="built here for another name"),
    ],
)
def test_bytes_are_not_the_operators_own_if_they_were(
    installed: Components, audit_log: AuditLog, digest: bytes, name: Reference, folder: str
) -> None:
    register(installed, "0.1.0", folder="/home/me/openai")
    grant_something(audit_log)
    installed.note_build(name, Digest.of(digest), Path(folder))
    assert not register(installed, "0.2.0", b"second").approved


def test_built_here_is_nothing_to_a_name_whose_approved_bytes_come_from_elsewhere(
    installed: Components, audit_log: AuditLog
) -> None:
    register(installed, "0.1.0")
    grant_something(audit_log)
    second = register(installed, "0.2.0", b"second", folder="/home/me/openai")
    assert not second.approved
    installed.approve(second)  # from here on the folder is the name's own
    assert register(installed, "0.3.0", b"third", folder="/home/me/openai").approved


def test_a_manifest_cannot_say_that_it_was_built_here(installed: Components, audit_log: AuditLog) -> None:
    register(installed, "0.1.0", folder="/home/me/openai")
    grant_something(audit_log)
    liar = manifest(
        source="/home/me/openai", built="here", build={"folder": "/home/me/openai"}, folder="/home/me/openai"
    )
    assert not register(installed, "0.2.0", b"second", manifest=liar, source="/home/me/openai/dist/x.wasm").approved


def test_a_build_that_somebody_notes_in_the_database_is_found(
    installed: Components, audit_log: AuditLog, database: Database
) -> None:
    register(installed, "0.1.0", folder="/home/me/openai")
    grant_something(audit_log)
    with database.writing() as connection:
        row = {"subject": OPENAI.subject, "version": "", "section": "build", "field": str(Digest.of(b"second"))}
        connection.execute(insert(settings).values(**row, value='[2, "/home/me/openai"]'))
    with pytest.raises(StateError, match="changed in the database"):
        register(installed, "0.2.0", b"second")


def test_of_many_builds_the_newest_are_kept(installed: Components, audit_log: AuditLog, database: Database) -> None:
    register(installed, "0.1.0", folder="/home/me/openai")
    grant_something(audit_log)
    for number in range(60):
        installed.note_build(OPENAI, Digest.of(b"build %d" % number), Path("/home/me/openai"))
    assert register(installed, "0.2.0", b"build 59").approved
    assert not register(installed, "0.3.0", b"build 9").approved
    with database.reading() as connection:
        assert len(connection.execute(select(settings).where(settings.c.section == "build")).all()) <= 51


def test_a_note_of_a_build_grants_nothing(installed: Components) -> None:
    register(installed, "0.1.0", folder="/home/me/openai")
    assert register(installed, "0.2.0", b"second").approved


def test_the_very_same_bytes_come_again_without_a_question(installed: Components, audit_log: AuditLog) -> None:
    register(installed, "0.1.0")
    grant_something(audit_log)
    assert register(installed, "0.1.0").approved
    assert register(installed, "0.2.0").approved


def test_bytes_that_wait_do_not_make_a_step_forward_a_step_back(installed: Components, audit_log: AuditLog) -> None:
    register(installed, "0.1.0")
    grant_something(audit_log)
    theirs = register(installed, "9.9.9", b"second")
    assert installed.newest(OPENAI) == "0.1.0"
    installed.approve(theirs)
    assert installed.newest(OPENAI) == "9.9.9"


def test_a_domain_and_a_secret_called_any_do_not_stand_for_all_of_them(
    installed: Components, audit_log: AuditLog
) -> None:
    register(installed, "0.1.0", manifest=manifest(domains=["any"], secrets=["any"]))
    grant_something(audit_log)
    wider = manifest(domains=["evil.example"], secrets=["OPENAI_API_KEY"])
    component = register(installed, "0.2.0", b"second", manifest=wider)
    assert not component.approved
    assert installed.review(component, {}).difference.more == (
        ("domain", "evil.example"), ("secret", "OPENAI_API_KEY"),
    )  # fmt: skip


def test_bytes_of_other_namespaces_always_wait_for_the_operator(installed: Components, audit_log: AuditLog) -> None:
    acme = Reference.parse("c:acme.openai")
    register(installed, "0.1.0", name=acme, folder="/src")
    grant_something(audit_log, acme)
    component = register(installed, "0.2.0", b"second", name=acme, folder="/src")
    assert not component.approved
    assert installed.review(component, {}).difference.more == ()


def test_a_step_back_that_was_approved_before_needs_no_other(installed: Components, audit_log: AuditLog) -> None:
    first = register(installed, "0.1.0")
    grant_something(audit_log)
    installed.unregister(OPENAI)
    assert register(installed, "0.1.0").digest == first.digest
    assert installed.resolve(OPENAI).approved


def test_bytes_that_were_approved_for_want_of_grants_do_not_come_back_to_some(
    installed: Components, audit_log: AuditLog
) -> None:
    register(installed, "0.1.0")
    installed.unregister(OPENAI)
    grant_something(audit_log)
    assert not register(installed, "0.1.0").approved


def test_bytes_that_were_replaced_while_nothing_was_granted_do_not_come_back_to_some(
    installed: Components, audit_log: AuditLog
) -> None:
    register(installed, "0.1.0", b"hostile", imports=[HTTP, "cyfr:secrets/read@0.1.0"])
    register(installed, "0.1.0", b"honest", replace=True)
    grant_something(audit_log)
    assert installed.resolve(OPENAI).approved
    hostile = {"replace": True, "imports": [HTTP, "cyfr:secrets/read@0.1.0"]}
    assert not register(installed, "0.1.0", b"hostile", **hostile).approved


def test_whatever_comes_while_nothing_is_granted_is_approved(installed: Components) -> None:
    acme = Reference.parse("c:acme.openai")
    register(installed, "0.1.0", name=acme)
    assert register(installed, "0.2.0", b"second", name=acme, imports=[HTTP, "cyfr:secrets/read@0.1.0"]).approved


def test_what_was_approved_for_one_name_is_not_for_another(installed: Components, audit_log: AuditLog) -> None:
    register(installed, "0.1.0", b"same")
    other = Reference.parse("c:local.other")
    grant_something(audit_log, other)
    assert not register(installed, "0.1.0", b"same", name=other).approved


def test_an_approval_is_of_a_digest(installed: Components, database: Database) -> None:
    component = register(installed, "0.1.0")
    with database.reading() as connection:
        assert connection.execute(select(approvals.c.subject, approvals.c.digest)).all() == [
            ("catalyst:local.openai", str(component.digest))
        ]


def test_bytes_that_ask_for_nothing_wait_as_well_where_none_were_approved(
    installed: Components, audit_log: AuditLog
) -> None:
    grant_something(audit_log)
    assert not register(installed, "0.1.0", imports=[], manifest=manifest(domains=[])).approved


def test_a_secret_that_is_granted_is_something(installed: Components, audit_log: AuditLog) -> None:
    SecretGrants(audit_log).grant(OPENAI, SecretName("OPENAI_API_KEY"))
    assert not register(installed, "0.1.0").approved


def test_what_is_granted_to_others_is_not_looked_at(installed: Components, audit_log: AuditLog) -> None:
    grant_something(audit_log, Reference.parse("c:acme.openai"))
    assert register(installed, "0.1.0").approved


def test_local_is_no_word_for_bytes_that_come_from_elsewhere(installed: Components, audit_log: AuditLog) -> None:
    register(installed, "0.1.0")
    grant_something(audit_log)
    assert not register(installed, "0.2.0", b"second", source="oci://registry.example/openai:0.2.0").approved


def test_one_version_that_was_removed_while_nothing_was_granted_does_not_come_back_to_some(
    installed: Components, audit_log: AuditLog
) -> None:
    register(installed, "0.1.0")
    installed.unregister(OPENAI.at("0.1.0"))
    grant_something(audit_log)
    assert not register(installed, "0.1.0").approved


def test_an_approval_takes_none_from_other_names_and_other_bytes(installed: Components, audit_log: AuditLog) -> None:
    acme, other = Reference.parse("c:acme.openai"), Reference.parse("c:acme.other")
    register(installed, "0.1.0", b"first", name=other)
    register(installed, "0.1.0", b"first", name=acme)
    grant_something(audit_log, acme)
    installed.approve(register(installed, "0.2.0", b"second", name=acme))
    assert [one.approved for one in installed.all()] == [True, True, True]


def test_the_bytes_that_were_approved_last_are_those_to_compare_with(
    installed: Components, audit_log: AuditLog
) -> None:
    first = register(installed, "0.1.0", b"first")
    second = register(installed, "0.2.0", b"second")
    grant_something(audit_log)
    third = register(installed, "0.3.0", b"third", imports=["cyfr:secrets/read@0.1.0"])
    assert installed.review(third, {}).before == second.digest
    installed.approve(first)
    assert installed.review(third, {}).before == first.digest


def test_both_are_compared_as_they_are_with_the_configuration_of_now(
    installed: Components, audit_log: AuditLog
) -> None:
    register(installed, "0.1.0", manifest=manifest(domains=["{config.base_url}"]), folder="/src")
    grant_something(audit_log)
    more: Any = {"config": {"base_url": "https://a.example/v1"}, "folder": "/src"}
    assert register(installed, "0.2.0", b"second", manifest=manifest(domains=["a.example"]), **more).approved
    assert not register(installed, "0.3.0", b"third", manifest=manifest(domains=["b.example"]), **more).approved
