"""What a catalyst can and cannot reach, as people are shown it."""

from __future__ import annotations

from typing import Any

import pytest

from host.core.limits import Limits
from host.core.names import SecretName
from host.core.wit import CAPABILITIES, CONFIG, FETCH, SECRETS
from host.policy.document import Policy, SecretGrant
from host.policy.explain import Permission, list_permissions, shown_upstreams
from host.policy.permissions import Declared, Requested, compute_grant
from host.policy.upstreams import UpstreamRule
from host.policy.urls import DomainPattern

KEY = SecretName.parse("API_KEY")
WANTED = (DomainPattern.parse("api.example.com"), DomainPattern.parse("cdn.example.com"))


def rows(
    *imports: str, allowed: tuple[str, ...] = (), granted: bool = False, requested: Requested | None = None
) -> dict[str, Permission]:
    grant = compute_grant(
        reference="c:local.tool:0.1.0",
        interfaces=imports,
        requested=requested or Requested(domains=WANTED, secrets=frozenset({KEY})),
        policy=Policy(allowed_domains=list(allowed)),
        secrets={KEY: None} if granted else {},
        ceiling=Limits(),
    )
    return {row.interface or row.authority: row for row in list_permissions(imports, grant)}


def test_every_interface_of_the_contract_has_a_row_and_so_has_what_no_import_leads_to() -> None:
    found = rows()
    assert set(CAPABILITIES.values()) < set(found)
    assert not any(row.can or row.imported for row in found.values())
    assert found["files"].interface == ""


def test_what_is_imported_and_not_granted_is_asked_for() -> None:
    row = rows(FETCH)[FETCH]
    assert (row.imported, row.can, row.granted, row.asked) == (True, False, (), ("api.example.com", "cdn.example.com"))


def test_what_is_granted_counts_only_where_it_is_asked_for() -> None:
    row = rows(FETCH, allowed=("api.example.com", "elsewhere.example.org"))[FETCH]
    assert (row.can, row.granted, row.asked) == (True, ("api.example.com",), ("cdn.example.com",))


@pytest.mark.parametrize("granted", [True, False])
def test_a_secret_says_where_it_goes_or_that_it_is_not_granted(granted: bool) -> None:
    row = rows(SECRETS, allowed=("api.example.com",), granted=granted)[SECRETS]
    assert row.can is granted
    assert (row.granted, row.asked) == (
        (("API_KEY, in a header, to api.example.com",), ()) if granted else ((), ("API_KEY",))
    )


def test_a_header_that_the_manifest_declares_for_a_secret_is_shown_before_and_after_it_is_granted() -> None:
    declared = {KEY: Declared(frozenset({"x-own"}), (WANTED[1],))}
    requested = Requested(domains=WANTED, secrets=frozenset({KEY}), declared=declared)
    assert rows(SECRETS, requested=requested)[SECRETS].asked == ("API_KEY, in the header x-own",)
    assert rows(SECRETS, requested=requested, granted=True)[SECRETS].granted == (
        "API_KEY, in a header (also x-own, which its manifest names), to cdn.example.com",
    )


def test_a_header_that_the_operator_names_is_shown() -> None:
    grant = SecretGrant(KEY, WANTED[:1], frozenset({"header", "header:x-b", "header:x-a", "body"}))
    found = compute_grant(
        reference="c", interfaces=[], requested=Requested(), policy=Policy(), secrets={KEY: grant}, ceiling=Limits()
    )
    [row] = [one for one in list_permissions([SECRETS], found) if one.interface == SECRETS]
    assert row.granted == ("API_KEY, in a header (also x-a; x-b) and the body, to api.example.com",)


def test_what_needs_no_grant_can_be_used_once_it_is_imported() -> None:
    assert rows(CONFIG)[CONFIG].can
    assert rows("wasi:io/streams@0.2.0")["wasi:io/streams@0.2.0"].can


def test_files_of_which_there_are_none_are_shown_as_inert() -> None:
    preopens = "wasi:filesystem/preopens@0.2.3"
    found = rows(preopens, "wasi:cli/exit@0.2.3")
    assert (found[preopens].can, found[preopens].granted) == (False, ("inert: no directory is opened",))
    assert (found["wasi:cli/exit@0.2.3"].can, found["wasi:cli/exit@0.2.3"].granted) == (True, ())
    assert not found["files"].can


@pytest.mark.parametrize(
    ("places", "shown"),
    [
        pytest.param(["http://b.test"], "http://b.test", id="one"),
        pytest.param(["http://b.test", "http://c.test"], "http://b.test or http://c.test", id="two alike"),
        pytest.param(
            [UpstreamRule(origin="http://b.test", priority=2), "http://c.test"],
            "http://c.test, else http://b.test",
            id="by priority",
        ),
        pytest.param(
            [UpstreamRule(origin="http://b.test", weight=3), "http://c.test"],
            "http://b.test (3 of 4) or http://c.test (1 of 4)",
            id="by weight",
        ),
        pytest.param(
            [UpstreamRule(origin="http://b.test", secrets={"KEY": "OTHER"})],
            "http://b.test (with OTHER as KEY)",
            id="with a secret of its own",
        ),
    ],
)
def test_upstreams_are_shown_in_the_order_in_which_they_are_asked(places: list[Any], shown: str) -> None:
    terms = Policy(upstreams={"https://a.test": places}).terms()
    [found] = terms.upstreams.values()
    assert shown_upstreams(found) == shown
