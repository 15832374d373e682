"""A guest that chooses how a secret is sent or how the answer is formed, so that an honest upstream gives it away."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from host import Host, Secret
from host.capabilities import exchange
from host.capabilities.message import GuestError
from host.component.manifest import Manifest
from host.core.headers import CREDENTIALS
from host.errors import InputError, ManifestError, PolicyError
from host.policy.document import Policy
from host.secrets.value import SecretValue, Substitution, new_placeholder
from tests.probing import ORIGIN, TOKEN, answers, asking, calls, error_type, origin_of, probe, response, serving

GET = ["secrets.get", "TOKEN"]


def sent(host: Host, message: dict[str, Any], secret: Any = TOKEN, **policy: Any) -> bytes:
    """The request that the upstream got for `message`, in which `$0` stands for the placeholder."""
    with serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": secret}, **policy)
        _, answer = answers(one, GET, ["fetch.request", message])
        assert "error" not in answer, answer
        [request] = server.requests
    return request


def field_names(request: bytes) -> list[str]:
    head = request.partition(b"\r\n\r\n")[0].decode("latin-1")
    return [line.partition(":")[0].lower() for line in head.split("\r\n")[1:]]


# Where a secret may stand.


@pytest.mark.parametrize("name", ["Authorization", "authorization", "X-API-Key", "x-goog-api-key", "Private-Token"])
def test_a_secret_goes_into_a_header_that_carries_credentials(host: Host, name: str) -> None:
    assert f"{name}: {TOKEN}\r\n".encode() in sent(host, asking(headers={name: "$0"}))


@pytest.mark.parametrize(
    "name",
    [
        "X-Request-Id",
        "X-Correlation-Id",
        "Traceparent",
        "User-Agent",
        "Referer",
        "Origin",
        "Cookie",
        "Content-Type",
        "Accept",
        "Accept-Language",
        "Idempotency-Key",
        "If-None-Match",
        "X-Anything",
        "X_Api_Key",
        "X.Api.Key",
        "X-Api-Key-",
        "Authorization2",
    ],
)
def test_a_guest_that_puts_a_secret_into_a_header_that_is_echoed_gets_its_placeholder_back(
    host: Host, name: str
) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        result = one.run(calls(GET, ["fetch.request", asking(headers={name: "$0", "Authorization": "Bearer $0"})]))
        [request] = server.requests
    assert request.count(TOKEN.encode()) == 1, "in Authorization alone"
    assert f"{name}: host-secret-".encode() in request
    [refusal] = result.execution.refusals
    assert refusal.kind == "secret_denied"
    if name != "Accept":
        assert f"header:{name.lower()}" in refusal.remedy


def test_a_header_that_the_grant_names_is_added_to_the_default_ones(host: Host) -> None:
    secret = Secret(TOKEN, places=["header:X-Custom"])
    request = sent(host, asking(headers={"x-custom": "a $0", "Authorization": "b $0", "X-Other": "c $0"}), secret)
    assert f"x-custom: a {TOKEN}".encode() in request
    assert f"Authorization: b {TOKEN}".encode() in request
    assert b"X-Other: c host-secret-" in request


def test_a_header_that_one_secret_may_stand_in_takes_no_other_secret(host: Host) -> None:
    given = {"TOKEN": Secret(TOKEN, places=["header:X-Custom"]), "OTHER": Secret("other-0123456789abcdef")}
    message = asking(headers={"X-Custom": "$0 $1"})
    with serving(response()) as server:
        answers(
            probe(host, origin_of(server), secrets=given), GET, ["secrets.get", "OTHER"], ["fetch.request", message]
        )
        [request] = server.requests
    assert f"X-Custom: {TOKEN} host-secret-".encode() in request


@pytest.mark.parametrize("place", ["url", "body"])
def test_a_secret_for_another_place_goes_into_no_header(host: Host, place: str) -> None:
    message = asking(headers={"Authorization": "$0"})
    assert TOKEN.encode() not in sent(host, message, Secret(TOKEN, places=[place]))


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Connection",
        "Proxy-Authorization",
        "X-Forwarded-For",
        "Range",
        "Accept",
        "X-HTTP-Method-Override",
        "a b",
        "",
    ],
)
def test_a_grant_cannot_name_a_header_that_no_secret_belongs_in(name: str) -> None:
    with pytest.raises(PolicyError, match="in: "):
        Policy.from_document({"secrets": {"TOKEN": {"in": f"header:{name}"}}})
    with pytest.raises(InputError, match="TOKEN"):
        Host().load(b"", secrets={"TOKEN": Secret(TOKEN, places=[f"header:{name}"])})


def test_the_default_names_carry_credentials_and_nothing_of_the_hosts() -> None:
    assert {"authorization", "x-api-key", "api-key", "x-goog-api-key"} <= CREDENTIALS
    assert not CREDENTIALS & {"proxy-authorization", "cookie", "x-request-id"}
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in CREDENTIALS)


# The header that a manifest declares.


def needing(*places: str) -> bytes:
    return json.dumps({"secrets": [{"name": "TOKEN", "in": list(places)}]}).encode()


@pytest.mark.parametrize(
    "name", ["X-Request-Id", "User-Agent", "Cookie", "Traceparent", "Content-Type", "Range", "a b"]
)
def test_a_manifest_cannot_declare_a_header_that_servers_show_again(name: str) -> None:
    with pytest.raises(ManifestError, match=r"secrets\[0\]\.in"):
        Manifest.parse(needing(f"header:{name}"))


# What a request with a secret may not say.

SHAPES = {
    "Range": "bytes=0-44",
    "If-Range": '"x"',
    "Request-Range": "bytes=0-44",
    "X-Range": "bytes=0-44",
    "X-MS-Range": "bytes=0-44",
    "range": "bytes=-10",
    "Accept-Charset": "utf-16",
    "TE": "trailers",
    "Expect": "100-continue",
    "A-IM": "range",
    "Accept_Charset": "utf-16",
    "X_Ms_Range": "bytes=1-2",
    "Accept-Encoding": "identity",
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("place", ["header", "url", "body"])
def test_a_guest_that_asks_for_a_slice_or_a_charset_of_the_answer_sends_its_secret_without_that(
    host: Host, name: str, place: str
) -> None:
    message = asking(f"{ORIGIN}/?k=$0", "POST", headers={"Authorization": "$0", name: SHAPES[name]}, body="$0")
    request = sent(host, message, Secret(TOKEN, places=[place]))
    assert TOKEN.encode() in request
    assert SHAPES[name].encode() not in request


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text/html;charset=utf-16", "text/html"),
        ('text/html; Charset="utf-16";q=0.5, */*', "text/html;q=0.5, */*"),
        ("text/html ; q=1;charset = utf-7", "text/html ; q=1"),
        ("text/html;charset*=utf-8''utf-16", "text/html"),
        ('text/html;charset="utf\\"-16"', "text/html"),
        ('text/html;x="charset=a";charset="utf-16', None),
        ("application/json; odata=verbose", "application/json; odata=verbose"),
        ("charset=utf-16", None),
    ],
)
def test_a_guest_that_names_a_charset_in_accept_sends_its_secret_without_that(
    host: Host, value: str, expected: str | None
) -> None:
    request = sent(host, asking(headers={"Authorization": "$0", "Accept": value}))
    found = [line for line in request.decode("latin-1").split("\r\n") if line.lower().startswith("accept:")]
    assert found == ([] if expected is None else [f"Accept: {expected}"])


def test_a_guest_that_asks_later_for_a_slice_of_what_the_upstream_kept_gets_no_slice(host: Host) -> None:
    """The second request carries no secret, and goes to an origin that may show the first again."""
    with serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        first = asking(headers={"Authorization": "$0"})
        answers(one, GET, ["fetch.request", first], ["fetch.request", asking(headers={"Range": "bytes=0-44"})])
        assert "range" not in field_names(server.requests[1])


def test_without_a_secret_for_its_origin_a_request_may_ask_for_a_slice(host: Host) -> None:
    with serving(response()) as server:
        answers(probe(host, origin_of(server)), ["fetch.request", asking(headers={"Range": "bytes=0-1"})])
        assert b"Range: bytes=0-1" in server.requests[0]


def test_the_record_says_which_headers_a_request_with_a_secret_went_without(host: Host) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        message = asking(headers={"Authorization": "$0", "Range": "bytes=0-1", "Accept": "*/*;charset=x"})
        result = one.run(calls(GET, ["fetch.request", message]))
    used = [
        event.detail for event in result.execution.decisions if event.kind == "secret.use" and "origin" in event.detail
    ]
    assert used == [{"secret": "TOKEN", "origin": ORIGIN, "without": ["Range", "charset in Accept"]}]


@pytest.mark.parametrize("other", ["AUTHORIZATION", "authorization"])
def test_a_guest_that_gives_the_header_of_a_secret_twice_sends_nothing(host: Host, other: str) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        _, answer = (
            answers(one, GET, ["fetch.request", asking(headers={"Authorization": "$0", other: "x"})])
            if other != "Authorization"
            else (None, None)
        )
        assert error_type(answer) == "http_error"
        assert "twice" in answer["error"]["message"]
        assert server.requests == []


@pytest.mark.parametrize(
    "value",
    [
        "x" * 33 + "$0",
        "Bearer " + "x" * 26 + "$0",
        "$0$0",
        "$0, $0",
        "Bearer $0 $0",
        'Digest a="' + "b" * 40 + '", c="$0"',
    ],
)
@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key"])
def test_a_guest_that_moves_a_secret_to_where_an_upstream_cuts_its_echo_sends_nothing(
    host: Host, name: str, value: str
) -> None:
    """An upstream that shows the first 100 characters of a header would show as many of the secret as the guest likes,
    fewer than are replaced; from there it could guess on."""
    with serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        _, answer = answers(one, GET, ["fetch.request", asking(headers={name: value})])
        assert error_type(answer) == "http_error"
        assert name in answer["error"]["message"]
        assert server.requests == []


@pytest.mark.parametrize(
    "value", ["Bearer $0", 'Token token="$0"', 'OAuth oauth_consumer_key="$0", a="' + "b" * 99 + '"']
)
def test_a_secret_goes_out_behind_the_words_of_its_scheme(host: Host, value: str) -> None:
    assert value.replace("$0", TOKEN).encode() in sent(host, asking(headers={"Authorization": value}))


def test_a_secret_may_stand_in_the_base64_of_basic_behind_a_long_name() -> None:
    placeholder = new_placeholder()
    value = SecretValue("q7Zk2VwXm9Rt4LbYc8")
    given = base64.b64encode(f"{'u' * 60}:{placeholder}".encode()).decode()
    _, used = Substitution({placeholder: value}).apply_header("Authorization", f"Basic {given}")
    assert used == {placeholder}
    exchange.check_not_moved("Authorization", f"Basic {given}", used)


def test_two_secrets_may_stand_in_one_header() -> None:
    for one, other in ((new_placeholder(), new_placeholder()) for _ in range(8)):  # in either order of a set
        used = frozenset({one, other})
        exchange.check_not_moved("Authorization", f"token {one}:{other}", used)
        with pytest.raises(GuestError, match="twice, or behind"):
            exchange.check_not_moved("Authorization", f"{'x' * 20}{one}{'y' * 20}{other}", used)


# Methods that go around the policy.

OVERRIDES = [
    "X-HTTP-Method-Override",
    "x-http-method-override",
    "X_HTTP_Method_Override",
    "X.HTTP.Method.Override",
    "X-HTTP_METHOD-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X_Method_Override",
    "HTTP-Method-Override",
]


@pytest.mark.parametrize("name", OVERRIDES)
@pytest.mark.parametrize("method", ["DELETE", "delete", " Delete ", "DELETE, GET", "TRACE", "$0"])
def test_a_guest_that_overrides_the_method_does_not_go_around_the_policy(host: Host, name: str, method: str) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), allowed_methods=["GET", "POST"])
        result = one.run(calls(["echo", "x"], ["fetch.request", asking(method="POST", headers={name: method})]))
        assert server.requests == []
    assert error_type(result.data[1]) == "method_blocked"
    [refusal] = result.execution.refusals
    assert refusal.kind == "method_blocked"


def test_a_method_override_that_the_policy_allows_goes_out(host: Host) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), allowed_methods=["POST", "DELETE"])
        answers(one, ["fetch.request", asking(method="POST", headers={"X-HTTP-Method-Override": "delete"})])
        assert b"X-HTTP-Method-Override: delete" in server.requests[0]


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_request_with_a_secret_overrides_no_method_at_all(host: Host, name: str) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        message = asking(method="POST", headers={"Authorization": "$0", name: "GET"})
        _, answer = answers(one, GET, ["fetch.request", message])
        assert error_type(answer) == "method_blocked"
        assert server.requests == []


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(asking(f"{ORIGIN}/x?_method=DELETE", "POST"), id="in the query"),
        pytest.param(asking(f"{ORIGIN}/x?a=1&_METHOD=delete", "POST"), id="in another case"),
        pytest.param(asking(f"{ORIGIN}/x?%5Fmethod=%44ELETE", "POST"), id="in percents"),
        pytest.param(asking(f"{ORIGIN}/x?.method=DELETE", "POST"), id="as PHP reads it"),
        pytest.param(asking(f"{ORIGIN}/x?a;_method=DELETE", "POST"), id="behind a semicolon"),
        pytest.param(asking(f"{ORIGIN}/x?_HttpMethod=DELETE", "POST"), id="as Salesforce has it"),
        pytest.param(asking(f"{ORIGIN}/x?method=delete"), id="as Graph has it"),
        pytest.param(asking(method="POST", headers=FORM, body="a=1&_method=DELETE"), id="in a form"),
        pytest.param(asking(method="POST", headers=FORM, body="%5fmethod=+DELETE"), id="in a form, in percents"),
        pytest.param(asking(method="POST", body="_method=DELETE"), id="in a form without a type"),
        pytest.param(
            asking(method="POST", multipart=[{"name": "_method", "value": "DELETE"}]), id="in a part of a form"
        ),
    ],
)
def test_a_guest_that_names_a_method_in_a_form_does_not_go_around_the_policy(host: Host, message: Any) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), allowed_methods=["GET", "POST"])
        [answer] = answers(one, ["fetch.request", message])
        assert error_type(answer) == "method_blocked"
        assert server.requests == []


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(asking(f"{ORIGIN}/x?method=flickr.photos.search"), id="a method of something else"),
        pytest.param(asking(f"{ORIGIN}/x?_method=post", "POST"), id="a method that is allowed"),
        pytest.param(asking(method="POST", headers=FORM, body="note=_method%3DDELETE"), id="in a value"),
        pytest.param(
            asking(method="POST", headers={"Content-Type": "application/json"}, body='{"x": "&_method=DELETE"}'),
            id="in JSON",
        ),
    ],
)
def test_what_overrides_no_method_goes_out(host: Host, message: Any) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), allowed_methods=["GET", "POST"])
        [answer] = answers(one, ["fetch.request", message])
        assert answer["status"] == 200
