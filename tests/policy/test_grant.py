"""The intersection of what is imported, asked for and granted; and what is decided from it."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host import Limits, Policy, SecretRule
from host.core.limits import CEILING
from host.core.names import Reference, SecretName
from host.errors import PolicyError, Refusal
from host.policy.document import DEFAULT, METHODS, Effective, SecretGrant
from host.policy.permissions import (
    Allow,
    Declared,
    Deny,
    Grant,
    Requested,
    binding_remedy,
    check_bound,
    compute_grant,
    decide,
    decide_secret,
    deny_address,
    overlap,
    pattern_for,
)
from host.policy.urls import DomainPattern, Origin, Target

KEY = SecretName.parse("KEY")


def domains(*texts: str) -> tuple[DomainPattern, ...]:
    return tuple(map(DomainPattern.parse, texts))


def granted(
    *,
    requested: Requested | None = None,
    secrets: Any = None,
    ceiling: Limits = CEILING,
    kept: bool = False,
    valueless: frozenset[SecretName] = frozenset(),
    rules: dict[str, SecretRule] | None = None,
    **policy: Any,
) -> Grant:
    """With `kept`, the policy is one that the operator keeps for all versions of c:local.test."""
    policy["secrets"] = rules or {}
    origins = {one.name: "c:local.test" if one.name in policy else DEFAULT for one in fields(Policy)}
    return compute_grant(
        reference="c:local.test:1.0.0",
        interfaces=["cyfr:http/fetch@0.1.0"],
        requested=requested or Requested(),
        policy=Policy(**policy),
        secrets=secrets or {},
        ceiling=ceiling,
        stored=Effective(Reference.parse("c:local.test:1.0.0"), Policy(**policy), origins) if kept else None,
        valueless=valueless,
    )


def decided(url: str, method: str = "GET", **grant: Any) -> Allow | Deny:
    return decide(Target.parse(url), method, granted(**grant))


@pytest.mark.parametrize(
    ("allowed", "url", "expected"),
    [
        pytest.param([], "https://a.test/", False, id="nothing is allowed by default"),
        pytest.param(["a.test"], "https://a.test/x?y", True, id="any path of an allowed domain"),
        pytest.param(["a.test"], "https://A.TEST/", True, id="the case of a domain does not count"),
        pytest.param(["a.test"], "http://a.test/", False, id="https is no leave for http"),
        pytest.param(["http://a.test"], "https://a.test/", False, id="http is no leave for https"),
        pytest.param(["a.test"], "https://a.test:8443/", False, id="another port is another origin"),
        pytest.param(["a.test:8443"], "https://a.test:8443/", True, id="a port that is named"),
        pytest.param(["a.test:443"], "https://a.test/", True, id="the default port, named"),
        pytest.param(["a.test"], "https://sub.a.test/", False, id="a subdomain is another domain"),
        pytest.param(["*.a.test"], "https://sub.a.test/", True, id="a wildcard covers a label"),
        pytest.param(["*.a.test"], "https://x.sub.a.test/", True, id="a wildcard covers labels at any depth"),
        pytest.param(["*.a.test"], "https://a.test/", False, id="a wildcard does not cover the apex"),
        pytest.param(["*.a.test"], "https://evila.test/", False, id="a suffix is not a subdomain"),
        pytest.param(["a.test"], "https://a.test.evil.test/", False, id="a prefix is not the domain"),
        pytest.param(["unsafe_any_domain"], "https://any.test/", True, id="every domain, asked for by its long name"),
        pytest.param(["unsafe_any_domain"], "https://127.0.0.1/", False, id="an address is no domain"),
        pytest.param(["unsafe_any_domain"], "http://any.test/", False, id="every domain is still https alone"),
    ],
)
def test_which_urls_a_policy_allows(allowed: list[str], url: str, expected: bool) -> None:
    assert isinstance(decided(url, allowed_domains=allowed), Allow) is expected


@pytest.mark.parametrize(
    ("asked", "allowed", "expected"),
    [
        pytest.param(None, ["a.test"], True, id="a manifest that does not say sets no bound"),
        pytest.param(["a.test"], ["a.test"], True, id="asked for and granted"),
        pytest.param(["a.test"], [], False, id="asked for and not granted"),
        pytest.param(["b.test"], ["a.test"], False, id="granted and not asked for"),
        pytest.param([], ["a.test"], False, id="a manifest that asks for nothing"),
        pytest.param(["*.test.example"], ["unsafe_any_domain"], False, id="a wide grant is bound by the manifest"),
        pytest.param(["unsafe_any_domain"], ["a.test"], True, id="a wide manifest is bound by the grant"),
    ],
)
def test_both_the_manifest_and_the_operator_have_to_say_yes(
    asked: list[str] | None, allowed: list[str], expected: bool
) -> None:
    bound = Requested(None if asked is None else domains(*asked))
    assert isinstance(decided("https://a.test/", requested=bound, allowed_domains=allowed), Allow) is expected


def test_an_allowance_names_its_rule() -> None:
    assert decided("https://x.a.test/", allowed_domains=["b.test", "*.a.test"]) == Allow("allowed_domains: *.a.test")


@pytest.mark.parametrize("url", ["https://a.test/", "https://a.test:8443/x", "http://127.0.0.1:8080/", "http://[::1]/"])
def test_doing_exactly_what_a_denied_domain_names_allows_it(url: str) -> None:
    denied = decided(url)
    assert isinstance(denied, Deny)
    wanted = denied.remedy.partition("--allow-domain ")[2].partition(",")[0]
    assert f'allowed_domains = ["{wanted}"]' in denied.remedy
    assert isinstance(decided(url, allowed_domains=[wanted]), Allow)


@pytest.mark.parametrize("method", METHODS)
def test_doing_exactly_what_a_denied_method_names_allows_it(method: Any) -> None:
    denied = decided("https://a.test/", method, allowed_domains=["a.test"], allowed_methods=[])
    assert isinstance(denied, Deny)
    assert f"add {method} to allowed_methods" in denied.remedy
    assert isinstance(decided("https://a.test/", method, allowed_domains=["a.test"], allowed_methods=[method]), Allow)


def test_a_denial_that_no_grant_can_lift_says_so() -> None:
    method = decided("https://a.test/", "CONNECT", allowed_domains=["a.test"])
    domain = decided("https://a.test/", requested=Requested(domains("b.test")), allowed_domains=["a.test"])
    for denied in (method, domain):
        assert isinstance(denied, Deny)
        assert "no grant can allow it" in denied.remedy
    assert "b.test" in domain.remedy


def pasted(remedy: str) -> dict[str, Any]:
    """The field that the command in a remedy sets, as a shell would read it."""
    command = shlex.split(remedy.partition("run: ")[2])
    assert command[:4] == ["host", "policy", "set", "c:local.test"]
    return {command[4]: json.loads(command[5])}


def test_for_a_kept_policy_the_remedy_is_the_line_of_the_design() -> None:
    denied = decided("https://api.openai.com/v1/models", kept=True)
    assert isinstance(denied, Deny)
    assert denied.remedy == (
        "add --allow-domain api.openai.com, "
        """or run: host policy set c:local.test allowed_domains '["api.openai.com"]'"""
    )


@pytest.mark.parametrize("url", ["https://b.test/", "http://127.0.0.1:8080/", "https://b.test:8443/"])
def test_pasting_the_line_for_a_denied_domain_allows_it_and_drops_none(url: str) -> None:
    denied = decided(url, kept=True, allowed_domains=["a.test", "*.c.test"])
    assert isinstance(denied, Deny)
    then = pasted(denied.remedy)
    for one in (url, "https://a.test/", "https://x.c.test/"):
        assert isinstance(decided(one, **then), Allow)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_pasting_the_line_for_a_denied_method_allows_it_and_drops_none(method: Any) -> None:
    denied = decided("https://a.test/", method, kept=True, allowed_methods=["GET", "HEAD"])
    assert isinstance(denied, Deny)
    then = pasted(denied.remedy)
    assert then == {"allowed_methods": ["GET", "HEAD", method]}
    assert isinstance(decided("https://a.test/", method, allowed_domains=["a.test"], **then), Allow)


def test_the_guest_is_not_told_what_else_is_granted() -> None:
    domain = decided("https://b.test/", kept=True, allowed_domains=["intranet.test"])
    address = deny_address(
        Origin.parse("https://b.test"), "not public", granted(kept=True, allowed_private=["10.1.2.0/24"])
    )
    for denied, secret in ((domain, "intranet.test"), (address, "10.1.2.0/24")):
        assert isinstance(denied, Deny)
        assert secret in denied.refusal("GET x").remedy
        assert secret not in denied.to_guest("GET x")
        assert "add --allow-" in denied.to_guest("GET x")


def test_for_localhost_one_remedy_allows_the_name_and_its_addresses() -> None:
    """The name, and then the addresses that it has: an operator of a local server would meet two denials."""
    denied = decided("http://localhost:11434/v1/models", kept=True, allowed_domains=["a.test"])
    assert isinstance(denied, Deny)
    option, _, lines = denied.remedy.partition(", or run: ")
    assert option == "add --allow-domain http://localhost:11434 --allow-private 127.0.0.0/8 --allow-private ::1"
    then = {name: value for line in lines.split(" && ") for name, value in pasted(f", or run: {line}").items()}
    assert then == {
        "allowed_domains": ["a.test", "http://localhost:11434"],
        "allowed_private": ["127.0.0.0/8", "::1"],
    }
    known = decided("http://localhost:1/", kept=True, allowed_private=["127.0.0.0/8", "::1"])
    assert isinstance(known, Deny)
    assert "&&" not in known.remedy
    assert known.guest_remedy == "add --allow-domain http://localhost:1 --allow-private 127.0.0.0/8 --allow-private ::1"


def test_a_file_for_localhost_is_told_both_lines_of_its_policy() -> None:
    denied = decided("http://ollama.localhost:11434/")
    assert isinstance(denied, Deny)
    assert denied.remedy.endswith(
        'allowed_domains = ["http://ollama.localhost:11434"] and allowed_private = ["127.0.0.0/8", "::1"]'
    )


class TestAnAddressThatIsNotPublic:
    def test_that_of_localhost_is_no_secret(self) -> None:
        denied = deny_address(Origin.parse("http://localhost:11434"), "not public", granted(kept=True))
        assert denied.guest_remedy == (
            "add --allow-private 127.0.0.0/8 --allow-private ::1, or map its origin with --upstream"
        )
        assert pasted(denied.remedy) == {"allowed_private": ["127.0.0.0/8", "::1"]}

    def test_a_literal_one_is_named(self) -> None:
        denied = deny_address(Origin.parse("http://[fd00::1]:8080"), "not public", granted(kept=True))
        assert denied.guest_remedy == "add --allow-private fd00::1, or map its origin with --upstream"
        assert pasted(denied.remedy) == {"allowed_private": ["fd00::1"]}

    def test_one_that_a_name_resolves_to_is_not_told_and_the_line_does_not_open_another_by_mistake(self) -> None:
        denied = deny_address(
            Origin.parse("https://a.test"), "not public", granted(kept=True, allowed_private=["10.0.0.0/8"])
        )
        then = pasted(denied.remedy)
        assert then == {"allowed_private": ["10.0.0.0/8", "NETWORK"]}
        with pytest.raises(PolicyError):
            Policy.from_document(then)

    def test_one_that_leads_elsewhere_is_beyond_any_grant(self) -> None:
        denied = deny_address(Origin.parse("http://[::ffff:10.0.0.1]"), "not public", granted(kept=True))
        assert (denied.remedy, denied.grantable) == ("no grant can allow it", False)

    def test_without_a_kept_policy_there_is_no_line(self) -> None:
        denied = deny_address(Origin.parse("https://a.test"), "not public", granted())
        assert denied.remedy == (
            "add --allow-private with its network, such as 127.0.0.0/8, or map its origin with --upstream"
        )


def test_the_method_is_decided_before_the_domain() -> None:
    denied = decided("https://other.test/", "PUT", allowed_domains=["a.test"], allowed_methods=["GET"])
    assert isinstance(denied, Deny)
    assert denied.kind == "method_blocked"


# Limits.

LIMITS = st.builds(
    Limits,
    timeout_s=st.floats(0.1, 100),
    cpu_time_s=st.floats(0.1, 100),
    **{name: st.integers(0, 1 << 40) for name in Limits.__dataclass_fields__ if name.startswith("max_")},
)


@given(LIMITS, LIMITS)
def test_what_is_narrowed_is_within_both(one: Limits, other: Limits) -> None:
    narrowed = one.narrowed(other)
    assert narrowed <= one
    assert narrowed <= other
    assert narrowed == other.narrowed(one) == narrowed.narrowed(one)


@given(st.integers(1, 10**6), st.integers(0, 1 << 45), LIMITS)
def test_no_policy_exceeds_the_ceiling(timeout: int, size: int, ceiling: Limits) -> None:
    grant = granted(timeout=timeout, max_memory_bytes=size, max_response_size=size, ceiling=ceiling)
    assert grant.limits <= ceiling


# Secrets.


def bound_to(*texts: str, **more: Any) -> SecretGrant:
    return SecretGrant(KEY, domains(*texts), **more)


def test_a_secret_needs_a_value_to_be_granted() -> None:
    policy = Policy(allowed_domains=["a.test"], secrets={"KEY": SecretRule()})
    grant = compute_grant(
        reference="c", interfaces=[], requested=Requested(), policy=policy, secrets={}, ceiling=CEILING
    )
    assert grant.secrets == {}


def test_a_secret_that_the_manifest_does_not_ask_for_is_not_granted() -> None:
    assert KEY not in granted(secrets={KEY: None}, requested=Requested(secrets=frozenset())).secrets
    assert KEY in granted(secrets={KEY: None}, requested=Requested(secrets=frozenset({KEY}))).secrets
    assert KEY in granted(secrets={KEY: None}).secrets


def test_without_a_word_a_secret_is_bound_to_the_policys_domains_in_headers_and_not_revealed() -> None:
    [secret] = granted(secrets={KEY: None}, allowed_domains=["a.test"]).secrets.values()
    assert secret == bound_to("a.test")


def test_the_policys_rule_stands_unless_the_secret_came_with_its_own() -> None:
    rules = {"KEY": SecretRule(domains=["ruled.test"], places=["url"])}
    policy = Policy(allowed_domains=["a.test"], secrets=rules)
    for given_, expected in (
        (None, bound_to("ruled.test", places=frozenset({"url"}))),
        (bound_to("own.test"), bound_to("own.test")),
        (SecretGrant(KEY, None, frozenset({"body"})), bound_to("ruled.test", places=frozenset({"body"}))),
    ):
        grant = compute_grant(
            reference="c", interfaces=[], requested=Requested(), policy=policy, secrets={KEY: given_}, ceiling=CEILING
        )
        assert grant.secrets[KEY] == expected


TWO = ["api.test", "telemetry.test"]


def asked(*named: str, requested: list[str] | None = None, headers: frozenset[str] = frozenset()) -> Requested:
    """A manifest that names the domains `named` for KEY, and requests the domains `requested`."""
    return Requested(
        domains=None if requested is None else domains(*requested),
        secrets=frozenset({KEY}),
        declared={KEY: Declared(headers, domains(*named) if named else None)},
    )


@pytest.mark.parametrize(
    ("requested", "allowed", "bound"),
    [
        pytest.param(None, ["a.test"], ["a.test"], id="no manifest and one domain"),
        pytest.param(None, ["a.test", "a.test"], ["a.test"], id="one domain that is written twice"),
        pytest.param(None, [], [], id="no domain is allowed"),
        pytest.param(None, ["unsafe_any_domain"], [], id="every domain is none"),
        pytest.param(None, TWO, None, id="one of two domains cannot be told"),
        pytest.param(None, ["a.test", "http://b.test"], ["a.test"], id="over plain http it goes nowhere"),
        pytest.param(None, ["a.test", "http://mapped.test"], None, id="unless that is mapped"),
        pytest.param(None, ["a.test", "unsafe_any_domain"], None, id="nor beside every domain"),
        pytest.param(asked("api.test"), TWO, ["api.test"], id="the domain that the manifest names"),
        pytest.param(asked("a.test", "b.test"), TWO, ["a.test", "b.test"], id="the domains that it names"),
        pytest.param(asked("unsafe_any_domain"), ["a.test"], [], id="every domain, which it cannot name"),
        pytest.param(asked(requested=["api.test"]), TWO, ["api.test"], id="the only one that can be reached"),
        pytest.param(asked(requested=TWO), TWO, None, id="one of two that it asks for cannot be told"),
        pytest.param(asked(requested=[]), TWO, [], id="a manifest that reaches nothing"),
    ],
)
@pytest.mark.parametrize("given_", [None, SecretGrant(KEY, None)], ids=["without a word", "without a domain"])
def test_a_secret_without_domains_never_goes_to_a_telemetry_domain_by_default(
    requested: Requested | None, allowed: list[str], bound: list[str] | None, given_: SecretGrant | None
) -> None:
    upstreams = {"http://mapped.test": "https://elsewhere.test"}
    grant = granted(secrets={KEY: given_}, allowed_domains=allowed, requested=requested, upstreams=upstreams)
    secret = grant.secrets[KEY]
    assert secret.domains == (None if bound is None else domains(*bound))
    for domain in allowed:
        if domain not in (bound or ()) and domain != "unsafe_any_domain":
            url = domain if "://" in domain else f"https://{domain}"
            assert grant.secrets_for(Target.parse(url)) == ()


def test_the_operators_word_on_domains_stands_before_the_manifests() -> None:
    own = granted(secrets={KEY: bound_to("telemetry.test")}, allowed_domains=TWO, requested=asked("api.test"))
    rules = {"KEY": SecretRule(domains=["telemetry.test"])}
    ruled = granted(secrets={KEY: None}, allowed_domains=TWO, requested=asked("api.test"), rules=rules)
    for grant in (own, ruled):
        assert grant.secrets[KEY].domains == domains("telemetry.test")


def test_a_secret_that_could_go_to_several_domains_is_refused_with_the_command_that_names_one() -> None:
    kept = granted(kept=True, secrets={KEY: None}, allowed_domains=TWO)
    refused = decide_secret(KEY, kept)
    assert isinstance(refused, Refusal)
    assert refused.remedy == "run: host secret grant c:local.test:1.0.0 KEY --allow-domain DOMAIN --in header"
    assert isinstance(decide_secret(KEY, granted(secrets={KEY: None}, allowed_domains=TWO)), Refusal)
    with pytest.raises(PolicyError, match=r"api\.test, telemetry\.test") as caught:
        check_bound(KEY, kept)
    assert (caught.value.field, "--secret-to KEY=DOMAIN" in str(caught.value.hint)) == ("secrets.KEY", True)
    check_bound(KEY, granted(secrets={KEY: None}, allowed_domains=TWO[:1]))


def test_a_header_that_the_manifest_declares_is_added_to_those_that_carry_credentials() -> None:
    [secret] = granted(secrets={KEY: None}, requested=asked(headers=frozenset({"x-own"}))).secrets.values()
    assert [secret.fits_header(name) for name in ("authorization", "x-own", "x-other")] == [True, True, False]
    in_body = SecretGrant(KEY, None, frozenset({"body"}))
    [secret] = granted(secrets={KEY: in_body}, requested=asked(headers=frozenset({"x-own"}))).secrets.values()
    assert not secret.fits_header("x-own"), "the operator lets it into no header"


def test_why_a_secret_is_denied() -> None:
    missing = decide_secret(KEY, granted())
    unasked = decide_secret(KEY, granted(requested=Requested(secrets=frozenset())))
    assert isinstance(missing, Refusal)
    assert "--secret KEY" in missing.remedy
    assert isinstance(unasked, Refusal)
    assert "no grant can allow it" in unasked.remedy
    assert decide_secret(KEY, granted(secrets={KEY: None})) == Allow("secrets: KEY")


def test_for_a_kept_policy_the_remedy_is_to_grant_the_secret() -> None:
    missing = decide_secret(KEY, granted(kept=True))
    assert isinstance(missing, Refusal)
    assert missing.remedy == "add --secret KEY, or run: host secret grant c:local.test KEY"


def test_for_a_kept_policy_a_secret_that_went_astray_is_bound_by_a_line_too() -> None:
    grant = granted(kept=True, secrets={KEY: None}, allowed_domains=["a.test"])
    remedy = binding_remedy(KEY, Target.parse("https://b.test/x"), grant)
    assert remedy.startswith(
        "run: host secret grant c:local.test:1.0.0 KEY --allow-domain a.test --allow-domain b.test --in header, "
    )


def test_a_secret_that_is_granted_and_has_no_value_is_told_from_one_that_is_not_granted() -> None:
    refused = decide_secret(KEY, granted(kept=True, valueless=frozenset({KEY})))
    assert isinstance(refused, Refusal)
    assert (refused.rule, refused.remedy) == ("granted, but it has no value", "run: host secret set KEY")


def test_a_secret_without_a_value_that_nobody_asks_for_is_denied_for_that() -> None:
    refused = decide_secret(KEY, granted(valueless=frozenset({KEY}), requested=Requested(secrets=frozenset())))
    assert isinstance(refused, Refusal)
    assert not refused.grantable


# Patterns.

PATTERNS = st.sampled_from(
    [
        "a.test",
        "x.a.test",
        "y.x.a.test",
        "*.a.test",
        "*.x.a.test",
        "b.test",
        "http://a.test",
        "a.test:1",
        "unsafe_any_domain",
        "127.0.0.1",
        "http://*.a.test",
    ]
).map(DomainPattern.parse)
URLS = st.sampled_from(
    [
        "https://a.test/",
        "https://x.a.test/",
        "https://y.x.a.test/",
        "https://z.y.x.a.test/",
        "http://x.a.test/",
        "https://b.test/",
        "http://a.test/",
        "https://a.test:1/",
        "https://127.0.0.1/",
    ]
).map(Target.parse)


@given(PATTERNS, PATTERNS, URLS)
def test_what_two_patterns_both_cover_they_overlap_in(one: DomainPattern, other: DomainPattern, url: Target) -> None:
    if one.matches(url) and other.matches(url):
        assert overlap(one, other)
    assert overlap(one, other) == overlap(other, one)


@given(URLS)
def test_the_narrowest_pattern_covers_its_url_and_is_read_back_as_it_is_written(url: Target) -> None:
    pattern = pattern_for(url)
    assert pattern.matches(url)
    assert DomainPattern.parse(str(pattern)) == pattern


def test_an_upstream_moves_a_request_and_not_its_path() -> None:
    grant = granted(upstreams={"https://a.test": "http://127.0.0.1:8080"})
    moved = grant.destination(Target.parse("https://a.test/x?y=1"))
    assert (moved.origin, moved.path_query) == ("http://127.0.0.1:8080", b"/x?y=1")
    same = Target.parse("https://b.test/x")
    assert grant.destination(same) is same


def test_a_grant_is_what_it_was_when_it_was_made() -> None:
    upstreams = {"https://a.test": "http://127.0.0.1:8080"}
    grant = granted(upstreams=upstreams)
    upstreams.clear()
    assert len(grant.upstreams) == 1
    assert replace(grant) == grant


def test_for_a_secret_of_a_file_the_remedy_is_said_for_the_program_and_for_python() -> None:
    refused = decide_secret(SecretName("API_KEY"), granted())
    assert isinstance(refused, Refusal)
    assert refused.remedy == 'add --secret API_KEY, or in Python secrets={"API_KEY": …}'
