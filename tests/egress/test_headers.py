"""The headers that a guest may send, and the headers of a response that it may see."""

import pytest

from host.egress import EgressError
from host.egress.headers import incoming_fields, outgoing_fields
from host.policy.urls import Target

TARGET = Target.parse("https://api.test/")


def sent(*headers, method="GET", url="https://api.test/", body=b""):
    return {name.lower(): value for name, value in outgoing_fields(method, Target.parse(url), headers, body)}


def test_the_host_adds_its_own_fields():
    assert sent() == {b"host": b"api.test", b"user-agent": b"catalyst-host", b"accept-encoding": b"gzip"}


def test_a_guests_user_agent_stands():
    assert sent(("User-Agent", "me"))[b"user-agent"] == b"me"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.test:443/", b"api.test"),
        ("https://api.test:8443/", b"api.test:8443"),
        ("http://[::1]:8080/", b"[::1]:8080"),
        ("http://127.0.0.1/", b"127.0.0.1"),
    ],
)
def test_the_host_field_is_the_targets(url, host):
    assert sent(url=url)[b"host"] == host


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "hOsT",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Accept-Encoding",
        "Expect",
    ],
)
def test_a_field_that_is_the_hosts_is_dropped_from_the_guests(name):
    assert b"evil" not in sent((name, "evil"), method="POST", body=b"x").values()


@pytest.mark.parametrize(
    "name",
    [
        *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded", "Forwarded", "Via", "Proxy"),
        *("X-Original-URL", "X-Original-Host", "X-Original-Method", "X-Rewrite-URL", "X-Override-URL", "X-Host"),
        *("X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Cluster-Client-IP", "Client-IP"),
        *("X-Envoy-Original-Path", "X-Accel-Redirect", "X-Sendfile-Type", "X-Remote-User", "HTTP2-Settings"),
    ],
)
@pytest.mark.parametrize(
    "spell", [str, str.lower, lambda name: name.replace("-", "_"), lambda name: name.replace("-", ".")]
)
def test_a_guest_does_not_speak_for_a_proxy_in_any_spelling(name, spell):
    assert b"evil" not in sent((spell(name), "evil"), method="POST", body=b"x").values()


@pytest.mark.parametrize("name", ["Content_Length", "Transfer_Encoding", "content.length", "HOST", "Accept_Encoding"])
def test_a_guest_does_not_frame_its_request_by_a_name_that_servers_take_for_another(name):
    assert b"evil" not in sent((name, "evil"), method="POST", body=b"x").values()


def test_what_a_guest_nominates_as_hop_by_hop_is_dropped_with_its_connection():
    fields = sent(("X-Kept", "1"), ("X-Hop", "evil"), ("x_hop", "evil"), ("Connection", "close, X-Hop,"))
    assert b"evil" not in fields.values()
    assert fields[b"x-kept"] == b"1"


@pytest.mark.parametrize(
    "name", ["X-Forward", "X-Originator", "Proxied", "Viable", "X-Hosting", "Content-Range", "X_Token"]
)
def test_other_headers_stay_the_guests(name):
    assert sent((name, "kept"))[name.lower().encode()] == b"kept"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("X", "a\r\nEvil: 1", id="a line break in a value"),
        pytest.param("X", "a\nEvil: 1", id="a bare line feed in a value"),
        pytest.param("X", "a\rEvil: 1", id="a bare carriage return in a value"),
        pytest.param("X", "a\n", id="a line feed at the end of a value"),
        pytest.param("X", "a\x00b", id="a NUL in a value"),
        pytest.param("X", "a\x7fb", id="a DEL in a value"),
        pytest.param("X", "a\x1b[0m", id="an escape in a value"),
        pytest.param("X", "\u010a", id="a character whose low byte is a line feed"),
        pytest.param("X", "\ud800", id="a lone surrogate"),
        pytest.param("X\r\nEvil", "1", id="a line break in a name"),
        pytest.param("X: 1\r\nEvil", "1", id="a whole field in a name"),
        pytest.param("X ", "1", id="a space behind a name"),
        pytest.param("X\n", "1", id="a line feed behind a name"),
        pytest.param(" X", "1", id="a space before a name"),
        pytest.param("", "1", id="no name"),
        pytest.param("X:", "1", id="a colon in a name"),
        pytest.param("Ünïcode", "1", id="a name beyond ASCII"),
        pytest.param("Host", "a\r\nEvil: 1", id="a line break in a field that would be dropped"),
    ],
)
def test_header_injection_is_refused(name, value):
    with pytest.raises(EgressError) as caught:
        sent((name, value))
    assert caught.value.kind == "http_error"


def test_header_injection_sends_nothing(answering, ask):
    server = answering()
    with pytest.raises(EgressError):
        ask(server.url(), headers=(("X", "a\r\nContent-Length: 5"),))
    assert server.connections == 0


def test_a_refused_value_is_not_quoted():
    with pytest.raises(EgressError) as caught:
        sent(("Authorization", "Bearer sk-123\n"))
    assert "Authorization" in caught.value.message
    assert "sk-123" not in caught.value.message


def test_values_are_latin_1_with_tabs_and_without_the_space_around_them():
    assert sent(("X", " caf\xe9\tau lait "))[b"x"] == b"caf\xe9\tau lait"


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "", "GET / HTTP/1.1\r\nX:", "GE T"])
def test_smuggling_in_the_method_is_refused(method):
    with pytest.raises(EgressError):
        outgoing_fields(method, TARGET, (), b"")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(tuple((f"x-{number}", "1") for number in range(101)), id="too many"),
        pytest.param((("x", "1" * 65_536),), id="too large"),
    ],
)
def test_a_header_bomb_of_the_guest_is_refused(headers):
    with pytest.raises(EgressError):
        outgoing_fields("GET", TARGET, headers, b"")


def test_a_guest_cannot_frame_its_own_body(answering, ask, clock):
    server = answering()
    smuggled = b"0\r\n\r\nGET /admin HTTP/1.1\r\nHost: internal\r\n\r\n"
    headers = (("Transfer-Encoding", "chunked"), ("Content-Length", "3"), ("Host", "internal"))
    ask(server.url(), "POST", headers, smuggled).read_all(clock)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert body == smuggled
    assert b"transfer-encoding" not in head.lower()
    assert f"Host: 127.0.0.1:{server.port}\r\n".encode() in head
    assert head.lower().count(b"content-length: 44") == head.lower().count(b"content-length") == 1


def test_hop_by_hop_fields_are_not_shown_to_the_guest():
    raw = [
        (b"connection", b"close, X-Hop"),
        (b"x-hop", b"1"),
        (b"keep-alive", b"9"),
        (b"proxy-authenticate", b"1"),
        (b"x", b"2"),
    ]
    assert incoming_fields(raw) == (("x", "2"),)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param([(b"a", b"")] * 201, id="too many fields"),
        pytest.param([(b"a", b"b" * 65_532)], id="too large fields"),
        pytest.param([(b"transfer-encoding", b"chunked"), (b"content-length", b"5")], id="two framings"),
    ],
)
def test_a_head_that_is_too_much_or_ambiguous_is_refused(raw):
    with pytest.raises(EgressError) as caught:
        incoming_fields(raw)
    assert caught.value.kind == "http_error"
