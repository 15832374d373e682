"""A policy as an operator writes it: denies by default, knows every field, and is never widened by a mistake."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host import Limits, Policy, RateLimit, SecretRule
from host.core.names import SecretName
from host.errors import PolicyError
from host.policy.document import METHODS, Terms

FIELDS = [one.name for one in fields(Policy)]


def refused(document: Any) -> PolicyError:
    with pytest.raises(PolicyError) as error:
        Policy.from_document(document)
    return error.value


def test_an_empty_policy_reaches_nothing_and_has_the_default_limits() -> None:
    for policy in (Policy(), Policy.parse(""), Policy.parse("{}", in_json=True)):
        terms = policy.terms()
        assert (terms.domains, terms.private, terms.upstreams, terms.secrets) == ((), (), {}, {})
        assert terms.limits == Limits()
        assert terms.rate is None


WHOLE = """
allowed_domains = ["api.openai.com", "*.example.com", "localhost:8443"]
allowed_methods = ["GET", "POST"]
allowed_private = ["127.0.0.0/8", "fd00::1"]
timeout = "90s"
cpu_time = 2.5
max_memory_bytes = "64MiB"
max_request_size = "1MB"
max_response_size = 2_000_000
max_output_size = "3MB"
max_http_requests = 5
max_streams = 1
max_connections = 2
max_upstream_connections = 200
max_message_size = "1MB"
max_connection_size = "9MB"

[upstreams]
"https://api.openai.com" = "http://127.0.0.1:8080"

[rate_limit]
requests = 10
window = "1m"

[secrets.KEY]
domains = ["api.openai.com"]
in = ["header", "body"]
reveal = true

[secrets.PLAIN]
in = "url"
"""


def test_every_field_in_toml() -> None:
    terms = Policy.parse(WHOLE).terms()
    assert [str(domain) for domain in terms.domains] == ["api.openai.com", "*.example.com", "localhost:8443"]
    assert terms.methods == {"GET", "POST"}
    assert [str(network) for network in terms.private] == ["127.0.0.0/8", "fd00::1/128"]
    upstreams = {str(at): [str(one) for one in places] for at, places in terms.upstreams.items()}
    assert upstreams == {"https://api.openai.com": ["http://127.0.0.1:8080"]}
    assert terms.rate is not None
    assert (terms.rate.requests, terms.rate.window_s) == (10, 60.0)
    key, plain = terms.secrets.values()
    assert (key.places, key.reveal) == ({"header", "body"}, True)
    assert [str(domain) for domain in key.domains or ()] == ["api.openai.com"]
    assert (plain.places, plain.reveal) == ({"url"}, False)
    assert plain.domains is None, "decided with the manifest"
    assert terms.limits == Limits(
        timeout_s=90.0,
        cpu_time_s=2.5,
        max_memory_bytes=64 << 20,
        max_request_bytes=1_000_000,
        max_response_bytes=2_000_000,
        max_output_bytes=3_000_000,
        max_http_requests=5,
        max_streams=1,
        max_connections=2,
        max_upstream_connections=200,
        max_message_bytes=1_000_000,
        max_connection_bytes=9_000_000,
    )


def test_toml_json_and_arguments_make_the_same_policy() -> None:
    import tomllib

    document = tomllib.loads(WHOLE)
    assert Policy.parse(json.dumps(document), in_json=True).terms() == Policy.parse(WHOLE).terms()
    rules = {
        "KEY": SecretRule(domains=["api.openai.com"], places=["header", "body"], reveal=True),
        "PLAIN": SecretRule(places=["url"]),
    }
    given_ = {**document, "secrets": rules, "rate_limit": RateLimit(requests=10, window="1m")}
    assert Policy(**given_).terms() == Policy.parse(WHOLE).terms()


@pytest.mark.parametrize(
    ("document", "field"),
    [
        pytest.param({"allowed_domain": ["a.test"]}, "allowed_domain", id="a field in the singular"),
        pytest.param({"Allowed_Domains": ["a.test"]}, "Allowed_Domains", id="a field in capitals"),
        pytest.param({"limits": {"timeout": 5}}, "limits", id="a table that does not exist"),
        pytest.param({"secrets": {"K": {"domain": []}}}, "secrets.K.domain", id="a field of a secret"),
        pytest.param(
            {"secrets": {"K": {"places": ["url"]}}}, "secrets.K.places", id="a field that is called otherwise"
        ),
        pytest.param(
            {"secrets": {"K": {"in": "header", "places": ["url"]}}}, "secrets.K.places", id="a field under two names"
        ),
        pytest.param({"rate_limit": {"requests": 1, "window": 1, "per": 1}}, "rate_limit.per", id="a field of a rate"),
    ],
)
def test_an_unknown_field_is_an_error_that_names_it(document: Any, field: str) -> None:
    error = refused(document)
    assert (error.field, error.message) == (field, f"unknown field {field!r}")
    assert error.hint


def test_a_field_that_is_missing_is_named_once() -> None:
    assert refused({"rate_limit": {"requests": 5}}).message == "rate_limit.window is missing"


@pytest.mark.parametrize(
    ("document", "field"),
    [
        pytest.param({"allowed_domains": "a.test"}, "allowed_domains", id="domains as one text"),
        pytest.param({"allowed_domains": ["*"]}, "allowed_domains", id="a bare star"),
        pytest.param({"allowed_domains": ["*.com"]}, "allowed_domains", id="a whole top-level domain"),
        pytest.param({"allowed_domains": ["https://a.test/path"]}, "allowed_domains", id="a URL for a domain"),
        pytest.param({"allowed_domains": [5]}, "allowed_domains", id="a number for a domain"),
        pytest.param({"allowed_domains": None}, "allowed_domains", id="null for the domains"),
        pytest.param({"allowed_domains": {"a.test": True}}, "allowed_domains", id="domains as an object"),
        pytest.param({"allowed_methods": ["TRACE"]}, "allowed_methods", id="an unknown method"),
        pytest.param({"allowed_methods": ["get"]}, "allowed_methods", id="a method in small letters"),
        pytest.param({"allowed_private": ["10.0.0.1/8"]}, "allowed_private", id="a network with host bits"),
        pytest.param({"allowed_private": ["any"]}, "allowed_private", id="a word for a network"),
        pytest.param({"upstreams": {"api.test": "http://b.test"}}, "upstreams", id="an upstream without a scheme"),
        pytest.param({"upstreams": {"https://a.test": "http://b.test/v1"}}, "upstreams", id="an upstream with a path"),
        pytest.param({"upstreams": ["https://a.test"]}, "upstreams", id="a list of upstreams"),
        pytest.param({"upstreams": {"https://a.test": []}}, "upstreams", id="none of several upstreams"),
        pytest.param({"upstreams": {"https://a.test": ["http://b.test"] * 2}}, "upstreams", id="an upstream twice"),
        pytest.param({"upstreams": {"https://a.test": [5]}}, "upstreams", id="a number among upstreams"),
        pytest.param(
            {"upstreams": {"https://a.test": {"origin": "http://b.test"}}}, "upstreams", id="one upstream as a table"
        ),
        pytest.param(
            {"upstreams": {"https://a.test": [{"origin": "http://b.test", "priorty": 1}]}},
            "upstreams.https://a.test[0].priorty",
            id="a slip in one of several upstreams",
        ),
        pytest.param(
            {"upstreams": {"https://a.test": [{"priority": 1}]}},
            "upstreams.https://a.test[0].origin",
            id="one of several upstreams without an origin",
        ),
        pytest.param(
            {"upstreams": {"https://a.test": [{"origin": "http://b.test", "weight": 0}]}},
            "upstreams.https://a.test[0].weight",
            id="an upstream that is to get nothing",
        ),
        pytest.param(
            {"upstreams": {"https://a.test": [{"origin": "http://b.test", "secrets": {"KEY": 5}}]}},
            "upstreams.https://a.test[0].secrets",
            id="an upstream with a number for a secret",
        ),
        pytest.param({"ca_file": "certs/ca.pem"}, "ca_file", id="a relative path"),
        pytest.param({"ca_file": 5}, "ca_file", id="a number for a file"),
        pytest.param({"tls": {"http://a.test": {}}}, "tls", id="TLS of an origin without it"),
        pytest.param({"tls": {"https://a.test/v1": {}}}, "tls", id="TLS of an origin with a path"),
        pytest.param({"tls": {"https://a.test": {"ca": "/a"}}}, "tls.https://a.test.ca", id="a field of TLS"),
        pytest.param({"tls": {"https://a.test": {"client_key": "/a"}}}, "client_certificate", id="a key alone"),
        pytest.param({"tls": {"https://a.test": {"client_certificate": "/a"}}}, "client_key", id="no key"),
        pytest.param(
            {"tls": {"https://a.test": {"client_certificate": "/a", "client_key": "secret:1K"}}},
            "client_key",
            id="a bad name of a kept key",
        ),
        pytest.param({"secrets": {"1K": {}}}, "secrets", id="a bad name of a secret"),
        pytest.param({"secrets": {"K": {"in": "cookie"}}}, "secrets.K", id="an unknown place"),
        pytest.param({"secrets": {"K": {"in": []}}}, "in", id="a secret that goes nowhere"),
        pytest.param({"secrets": {"K": {"reveal": "yes"}}}, "secrets.K.reveal", id="a word for true"),
        pytest.param({"secrets": {"K": {"reveal": 1}}}, "secrets.K.reveal", id="a number for true"),
        pytest.param({"secrets": {"K": {"domains": ["*"]}}}, "domains", id="a secret for every domain"),
        pytest.param({"secrets": {"K": {"domains": ""}}}, "domains", id="an empty text for the domains of a secret"),
        pytest.param({"secrets": {"K": {"domains": False}}}, "domains", id="false for the domains of a secret"),
        pytest.param({"secrets": {"K": "value"}}, "secrets.K", id="a value in place of a rule"),
        pytest.param({"rate_limit": "5/s"}, "rate_limit", id="a text for a rate"),
        pytest.param({"rate_limit": {"requests": 5}}, "rate_limit", id="a rate without a window"),
        pytest.param({"rate_limit": {"requests": -1, "window": 1}}, "requests", id="a negative rate"),
        pytest.param({"rate_limit": {"requests": 1, "window": "0s"}}, "window", id="an empty window"),
        pytest.param({"timeout": "forever"}, "timeout", id="a word for a duration"),
        pytest.param({"timeout": 0}, "timeout", id="no time at all"),
        pytest.param({"timeout": float("inf")}, "timeout", id="infinite time"),
        pytest.param({"timeout": float("nan")}, "timeout", id="NaN"),
        pytest.param({"timeout": 10**400}, "timeout", id="a number that no float can hold"),
        pytest.param({"timeout": None}, "timeout", id="null for a limit"),
        pytest.param({"max_response_size": -1}, "max_response_size", id="a negative size"),
        pytest.param({"max_response_size": "9" * 400 + "GB"}, "max_response_size", id="a size beyond all bounds"),
        pytest.param({"max_streams": "3"}, "max_streams", id="a text for a count"),
        pytest.param({"max_streams": 1.5}, "max_streams", id="a fraction for a count"),
        pytest.param({"max_http_requests": True}, "max_http_requests", id="true for a count"),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_field(document: Any, field: str) -> None:
    error = refused(document)
    assert field in (error.field or "")
    assert field in str(error)


def test_a_mistake_is_told_in_short_however_large_the_value_is() -> None:
    for value in ({"a": [0] * 100_000}, "x" * 100_000, [[[[[[[["deep"]]]]]]]]):
        assert len(str(refused({"timeout": value}))) < 200


@pytest.mark.parametrize(
    ("text", "in_json"),
    [
        pytest.param("not = = toml", False, id="no TOML"),
        pytest.param("{", True, id="no JSON"),
        pytest.param("[]", True, id="a list"),
        pytest.param("null", True, id="null"),
        pytest.param("NaN", True, id="NaN"),
        pytest.param("a = " + "[" * 5000, False, id="TOML nested too deeply"),
        pytest.param("[" * 100_000, True, id="JSON nested too deeply"),
    ],
)
def test_a_text_that_is_no_policy_is_a_policy_error(text: str, in_json: bool) -> None:
    with pytest.raises(PolicyError):
        Policy.parse(text, in_json=in_json)


@pytest.mark.parametrize(
    "given_",
    [
        {"allowed_domains": "api.test"},
        {"allowed_methods": ["TRACE"]},
        {"timeout": 0},
        {"max_streams": -1},
        {"secrets": {"K": {"reveal": True}}},
        pytest.param({"allowed_domains": iter(["api.test"])}, id="what can be read once"),
        {"rate_limit": {"requests": 1, "window": 1}},
        {"upstreams": {"https://a.test": 5}},
    ],
    ids=repr,
)
def test_arguments_are_checked_like_documents(given_: dict[str, Any]) -> None:
    with pytest.raises(PolicyError) as error:
        Policy(**given_)
    assert error.value.field == next(iter(given_))


@pytest.mark.parametrize("given_", [{"reveal": 1}, {"domains": {}}, {"domains": ""}], ids=repr)
def test_a_rule_s_arguments_are_checked_like_documents(given_: dict[str, Any]) -> None:
    with pytest.raises(PolicyError) as error:
        SecretRule(**given_)
    assert error.value.field == next(iter(given_))


def test_a_secret_without_domains_is_bound_to_none_before_the_manifest_is_known() -> None:
    policy = Policy(allowed_domains=["a.test"], secrets={"K": SecretRule()})
    [grant] = policy.terms().secrets.values()
    assert grant.domains is None


@pytest.mark.parametrize(
    ("places", "read"),
    [
        (["header"], {"header"}),
        (["header:X-Custom"], {"header", "header:x-custom"}),
        (["url", "header:X-A", "header:x-a", "header:X-B"], {"header", "header:x-a", "header:x-b", "url"}),
    ],
)
def test_a_header_that_is_named_is_added_to_those_that_carry_credentials(places: list[str], read: set[str]) -> None:
    policy = Policy.from_document({"secrets": {"K": {"in": places}}})
    assert policy.secrets["K"].places == places, "as it was written"
    assert policy.terms().secrets[SecretName.parse("K")].places == read


@pytest.mark.parametrize("place", ["cookie", "header:", "header: X", "Header", "header:X:Y", "headers:X", ""])
def test_what_is_no_place_is_an_error_that_names_the_field(place: str) -> None:
    assert refused({"secrets": {"K": {"in": [place]}}}).field == "secrets.K.in"


def test_an_unknown_field_is_answered_with_the_known_ones() -> None:
    hint = refused({"domains": []}).hint or ""
    assert all(name in hint for name in FIELDS)


# Properties.

DOMAINS = st.sampled_from(["a.test", "*.b.test", "c.test:8443", "http://127.0.0.1:80"])
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "allowed_domains": st.lists(DOMAINS, max_size=3),
    "allowed_methods": st.lists(st.sampled_from(METHODS), max_size=3),
    "allowed_private": st.lists(st.sampled_from(["127.0.0.0/8", "10.1.2.3"]), max_size=2),
    "timeout": st.integers(1, 100),
    "cpu_time": st.sampled_from(["1s", "500ms"]),
    "max_request_size": st.sampled_from(["1MB", 5]),
    "max_response_size": st.sampled_from(["1MB", 5]),
    "max_streams": st.integers(0, 5),
    "max_http_requests": st.integers(0, 5),
}
DOCUMENTS = st.fixed_dictionaries({}, optional=GOOD)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _reads(document: Any) -> Terms | None:
    try:
        return Policy.from_document(document).terms()
    except PolicyError:
        return None


@given(DOCUMENTS, st.sampled_from(FIELDS), JUNK)
def test_a_malformed_edit_never_widens(document: dict[str, Any], field: str, junk: Any) -> None:
    """Whatever is written into one field: it is refused, or the other fields mean what they did, and this one is what
    was written, which is never more than a policy can say."""
    before, after = _reads(document), _reads({**document, field: junk})
    assert before is not None
    if after is None:
        return
    for name in ("domains", "methods", "private", "upstreams", "secrets", "rate"):
        if name != field.removeprefix("allowed_").removesuffix("_limit") and name != "secrets":
            assert getattr(after, name) == getattr(before, name)
    assert after.limits.timeout_s < float("inf")
    if field == "allowed_domains":
        assert len(after.domains) == len(junk)
        assert all(domain.host is not None for domain in after.domains)


@given(DOCUMENTS, st.text(max_size=12).filter(lambda name: name not in FIELDS), JUNK)
def test_no_unknown_field_is_ever_taken(document: dict[str, Any], field: str, junk: Any) -> None:
    assert _reads({**document, field: junk}) is None


@given(JUNK)
def test_any_document_is_a_policy_or_a_policy_error(document: Any) -> None:
    terms = _reads(document)
    assert terms is None or terms.domains == ()


@given(DOCUMENTS, st.sampled_from(sorted(GOOD)))
def test_removing_a_field_leaves_the_others_as_they_were(document: dict[str, Any], field: str) -> None:
    rest = {name: value for name, value in document.items() if name != field}
    before, after = Policy.from_document(document), Policy.from_document(rest)
    assert all(getattr(before, name) == getattr(after, name) for name in FIELDS if name != field)


@given(st.text())
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    for in_json in (False, True):
        try:
            policy = Policy.parse(text, in_json=in_json)
        except PolicyError:
            continue
        assert policy.terms().domains == ()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param('[secrets.A]\ndomains = ["*"]', "secrets.A.domains", id="a domain of a secret"),
        pytest.param('[secrets.A]\nin = "cookie"', "secrets.A.in", id="a place of a secret"),
        pytest.param("[secrets.A]\nin = []", "secrets.A.in", id="no place for a secret"),
        pytest.param('[rate_limit]\nrequests = 1\nwindow = "soon"', "rate_limit.window", id="the window of a rate"),
        pytest.param("[rate_limit]\nrequests = -1\nwindow = 1.0", "rate_limit.requests", id="the requests of a rate"),
    ],
)
def test_a_mistake_within_a_part_is_named_with_the_whole_path(text: str, path: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.parse(text)
    assert caught.value.field == path
    assert caught.value.message.startswith(f"{path}: ")
