"""`cyfr:http/fetch`, as wit/README.md has it, called from inside a sandbox."""

from __future__ import annotations

import base64
import gzip
import json
from ipaddress import IPv4Address
from typing import Any

import pytest

from host import Host, RateLimit, SecretRule, errors
from host.egress import Egress
from host.fakes.messages import Part, parse_multipart
from tests.conftest import with_enough_time
from tests.egress.conftest import Peer
from tests.probing import ORIGIN, TOKEN, answers, asking, error_type, fetched, origin_of, probe, response, serving

NOT_BASE64 = "no*base64"


def test_an_answer_has_its_status_its_headers_and_its_body(host: Host) -> None:
    with serving(response(b"caf\xc3\xa9", "201 Created", "Content-Type: text/plain", "X-One: 1")) as server:
        answer = fetched(probe(host, origin_of(server)))
    assert answer["status"] == 201
    assert answer["body"] == "café"
    assert (answer["headers"]["content-type"], answer["headers"]["x-one"]) == ("text/plain", "1")
    assert "body_encoding" not in answer


def test_repeated_headers_are_joined_and_named_in_lower_case(host: Host) -> None:
    with serving(response(b"", "200 OK", "X-Many: a", "x-MANY: b", "Set-Cookie: c=1", "Set-Cookie: d=2")) as server:
        headers = fetched(probe(host, origin_of(server)))["headers"]
    assert headers["x-many"] == "a, b"
    assert headers["set-cookie"] == "c=1, d=2"
    assert all(name == name.lower() for name in headers)


def test_the_guests_method_path_query_headers_and_body_arrive(host: Host) -> None:
    with serving(response()) as server:
        message = asking(f"{ORIGIN}/a/b?c=d&e=%20#not-this", "patch", headers={"X-Mine": "yes"}, body="hé")
        assert fetched(probe(host, origin_of(server)), message)["status"] == 200
        [request] = server.requests
    assert request.startswith(b"PATCH /a/b?c=d&e=%20 HTTP/1.1\r\n")
    assert b"\r\nx-mine: yes\r\n" in request.lower()
    assert b"\r\nhost: " in request.lower()
    assert request.endswith("\r\n\r\nhé".encode())


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
def test_a_redirect_comes_back_and_nothing_is_sent_on(host: Host, status: str) -> None:
    with serving(response()) as other:
        with serving(response(b"", status, f"Location: {other.url('/next')}")) as server:
            answer = fetched(probe(host, origin_of(server), allowed_private=["127.0.0.0/8"]))
            assert len(server.requests) == 1
        assert answer["status"] == int(status[:3])
        assert answer["headers"]["location"] == other.url("/next")
        assert other.requests == []


def test_an_error_status_is_an_answer_and_no_error(host: Host) -> None:
    with serving(response(b"none", "404 Not Found")) as server:
        answer = fetched(probe(host, origin_of(server)))
    assert (answer["status"], answer["body"]) == (404, "none")


def test_an_answer_to_head_has_no_body(host: Host) -> None:
    with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") as server:
        answer = fetched(probe(host, origin_of(server)), method="HEAD")
    assert (answer["status"], answer["body"]) == (200, "")


# What a guest may get wrong. Nothing of it may raise, and nothing of it may be sent.

MALFORMED_JSON = [
    pytest.param("", id="an empty text"),
    pytest.param("{", id="a text cut short"),
    pytest.param("nonsense", id="no JSON at all"),
    pytest.param("null", id="null"),
    pytest.param("true", id="a boolean"),
    pytest.param("17", id="a number"),
    pytest.param('"text"', id="a string"),
    pytest.param("[]", id="a list"),
    pytest.param('{"method": NaN}', id="NaN"),
    pytest.param('{"method": -Infinity}', id="infinity"),
    pytest.param('{"method": 1e999}', id="a number that is infinite once read"),
    pytest.param('{"method": ' + "9" * 5000 + "}", id="a number of 5,000 digits"),
    pytest.param("[" * 100_000, id="100,000 brackets that nobody closes"),
    pytest.param('{"a":' * 400 + "1" + "}" * 400, id="objects nested 400 deep"),
    pytest.param('{"a":' * 190 + r'"\ud800"' + "}" * 190, id="a lone surrogate nested 190 deep"),
    pytest.param('{"a":' * 900 + r'"\ud800"' + "}" * 900, id="a lone surrogate nested 900 deep"),
    pytest.param(r'{"method": "\ud800", "url": "https://api.test/"}', id="a lone surrogate for a method"),
    pytest.param("\x00\x01\x02", id="control characters"),
    pytest.param('{"method": "GET"} trailing', id="something after the object"),
]

MALFORMED_MESSAGES = [
    pytest.param({}, "method", id="an empty object"),
    pytest.param({"url": f"{ORIGIN}/"}, "method", id="no method"),
    pytest.param({"method": "GET"}, "url", id="no url"),
    pytest.param(asking(method=""), "method", id="an empty method"),
    pytest.param({"method": 5, "url": f"{ORIGIN}/"}, "method", id="a number for a method"),
    pytest.param(asking(method="GET /x HTTP/1.1\r\nX: "), "method", id="a request line for a method"),
    pytest.param(asking(method="G" * 1000), "method", id="a method of 1,000 letters"),
    pytest.param(asking(method="\x1b[31m"), "method", id="a terminal escape for a method"),
    pytest.param({"method": "GET", "url": ["x"]}, "url", id="a list for a url"),
    pytest.param(asking(""), "url", id="an empty url"),
    pytest.param(asking("/relative"), "url", id="a relative url"),
    pytest.param(asking("https://"), "url", id="a url without a host"),
    pytest.param(asking("ftp://api.test/"), "url", id="another scheme"),
    pytest.param(asking("https://user:pass@api.test/"), "url", id="userinfo"),
    pytest.param(asking("https://api.test\\@evil.test/"), "url", id="a backslash"),
    pytest.param(asking("https://api.test/ x"), "url", id="a blank in the path"),
    pytest.param(asking("https://api.test/" + "a" * 9000), "url", id="a url of 9,000 characters"),
    pytest.param(asking(headers=["X: y"]), "headers", id="headers as a list"),
    pytest.param(asking(headers={"X-Count": 5}), "X-Count", id="a header that is a number"),
    pytest.param(asking(body={"a": 1}), "body", id="a body that is an object"),
    pytest.param(asking(body=NOT_BASE64, body_encoding="base64"), "base64", id="a body that is not base64"),
    pytest.param(asking(body="ä", body_encoding="base64"), "base64", id="a base64 body that is not ASCII"),
    pytest.param(asking(body="x", body_encoding="rot13"), "body_encoding", id="an unknown body encoding"),
    pytest.param(asking(body_attachment="att_none"), "body_attachment", id="an attachment that does not exist"),
    pytest.param(asking(body_attachment=7), "body_attachment", id="an attachment's id that is a number"),
    pytest.param(asking(response_encoding="zip"), "response_encoding", id="an unknown response encoding"),
    pytest.param(asking(response_encoding=["text"]), "response_encoding", id="a list for a response encoding"),
    pytest.param(asking(error_encoding="zip"), "error_encoding", id="an unknown error encoding"),
    pytest.param(asking(body="x", multipart=[{"name": "a", "value": "b"}]), "multipart", id="body and multipart"),
    pytest.param(asking(body="x", body_attachment="att_1"), "body_attachment", id="body and body_attachment"),
    pytest.param(
        asking(body_attachment="att_1", multipart=[{"name": "a", "value": "b"}]),
        "multipart",
        id="body_attachment and multipart",
    ),
    pytest.param(asking(multipart=[]), "multipart", id="multipart without a part"),
    pytest.param(asking(multipart={"name": "a"}), "multipart", id="multipart that is an object"),
    pytest.param(asking(multipart=["a"]), "multipart[0]", id="a part that is a string"),
    pytest.param(asking(multipart=[{"value": "b"}]), "multipart[0].name", id="a part without a name"),
    pytest.param(asking(multipart=[{"name": 5, "value": "b"}]), "multipart[0].name", id="a part's name is a number"),
    pytest.param(asking(multipart=[{"name": "a"}]), "multipart[0]", id="a part with no content"),
    pytest.param(asking(multipart=[{"name": "a", "value": 5}]), "multipart[0]", id="a part's value is a number"),
    pytest.param(
        asking(multipart=[{"name": "a", "value": "b"}, {"name": "c", "data": NOT_BASE64}]),
        "multipart[1].data",
        id="a part that is not base64",
    ),
    pytest.param(
        asking(multipart=[{"name": "a", "attachment": "att_none"}]),
        "multipart[0].attachment",
        id="a part whose attachment does not exist",
    ),
    pytest.param(
        asking(multipart=[{"name": "a", "data": "", "content_type": "text/plain\r\nX: y"}]),
        "multipart[0].content_type",
        id="a part's type with a line break",
    ),
    *(
        pytest.param(asking(after_ms=given), "after_ms", id=f"a wait of {given!r}")
        for given in (-1, 600_001, 0.5, True, "5", [])
    ),
]


@pytest.mark.parametrize("interface", ["fetch", "streaming"])
@pytest.mark.parametrize("text", MALFORMED_JSON)
def test_text_that_is_no_request_is_an_http_error(host: Host, interface: str, text: str) -> None:
    with serving(response()) as server:
        [answer] = answers(probe(host, origin_of(server)), [f"{interface}.request", text])
        assert error_type(answer) == "http_error"
        assert server.connections == 0


@pytest.mark.parametrize("interface", ["fetch", "streaming"])
@pytest.mark.parametrize(("message", "blamed"), MALFORMED_MESSAGES)
def test_a_malformed_request_is_an_http_error_that_names_the_field(
    host: Host, interface: str, message: Any, blamed: str
) -> None:
    with serving(response()) as server:
        [answer] = answers(probe(host, origin_of(server)), [f"{interface}.request", message])
        assert error_type(answer) == "http_error"
        assert blamed in answer["error"]["message"]
        assert len(answer["error"]["message"]) <= 1000
        assert server.connections == 0


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"X-A": "b\r\nX-Evil: 1"}, id="a value with CR LF"),
        pytest.param({"X-A": "b\nX-Evil: 1"}, id="a value with LF"),
        pytest.param({"X-A": "b\x00c"}, id="a value with NUL"),
        pytest.param({"X-A\r\nX-Evil": "1"}, id="a name with CR LF"),
        pytest.param({"X A": "1"}, id="a name with a blank"),
        pytest.param({"": "1"}, id="an empty name"),
    ],
)
def test_header_injection_sends_nothing(host: Host, headers: dict[str, str]) -> None:
    with serving(response()) as server:
        answer = fetched(probe(host, origin_of(server)), headers=headers)
        assert error_type(answer) == "http_error"
        assert server.requests == []


# The order of checks: each request is wrong in two ways, and the earlier check speaks.


@pytest.mark.parametrize(
    ("message", "said"),
    [
        pytest.param({"method": "PUT"}, "http_error", id="parse before method"),
        pytest.param(asking("https://other.test/", "PUT"), "method_blocked", id="method before domain"),
        pytest.param(
            asking("https://other.test/", "POST", body=NOT_BASE64, body_encoding="base64"),
            "domain_blocked",
            id="domain before body",
        ),
        pytest.param(
            asking(method="POST", body=NOT_BASE64 * 10, body_encoding="base64"), "http_error", id="body before size"
        ),
        pytest.param(asking(method="POST", body="12345678901"), "request_too_large", id="size before rate"),
        pytest.param(asking(), "rate_limited", id="rate before address"),
    ],
)
def test_the_first_check_that_fails_is_the_one_that_speaks(host: Host, message: Any, said: str) -> None:
    strict = probe(
        host,
        allowed_domains=["api.test", "http://127.0.0.1:9"],
        allowed_methods=["GET", "POST"],
        max_request_size=10,
        max_http_requests=0,
    )
    assert error_type(fetched(strict, message)) == said


@pytest.mark.parametrize("wrong", ["method", "domain", "body", "size"])
def test_a_request_refused_by_an_earlier_check_does_not_count_towards_the_rate(host: Host, wrong: str) -> None:
    bad = {
        "method": asking(method="DELETE"),
        "domain": asking("https://other.test/"),
        "body": asking(method="POST", body=NOT_BASE64, body_encoding="base64"),
        "size": asking(method="POST", body="x" * 11),
    }[wrong]
    once = RateLimit(requests=1, window="1h")
    with serving(response()) as server:
        one = probe(host, origin_of(server), allowed_methods=["GET", "POST"], max_request_size=10, rate_limit=once)
        refused, allowed = answers(one, ["fetch.request", bad], ["fetch.request", asking()])
    assert "error" in refused
    assert allowed["status"] == 200


# Each error type, and what would allow it.


def test_a_method_that_is_not_granted_is_blocked_and_the_message_says_what_would_allow_it(host: Host) -> None:
    answer = fetched(probe(host, allowed_methods=["GET"]), method="DELETE")
    assert error_type(answer) == "method_blocked"
    assert "add DELETE to allowed_methods" in answer["error"]["message"]


def test_a_method_that_no_policy_can_name_is_blocked_and_the_message_promises_nothing(host: Host) -> None:
    answer = fetched(probe(host), method="TRACE")
    assert error_type(answer) == "method_blocked"
    assert "no grant can allow it" in answer["error"]["message"]


def test_a_domain_that_is_not_granted_is_blocked_and_the_message_says_what_would_allow_it(host: Host) -> None:
    answer = fetched(probe(host), url="https://other.test:8443/path?secret=1")
    assert error_type(answer) == "domain_blocked"
    assert "--allow-domain other.test:8443" in answer["error"]["message"]
    assert "secret=1" not in answer["error"]["message"]


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://api.test/", id="the same domain over http"),
        pytest.param("https://api.test:444/", id="the same domain at another port"),
        pytest.param("https://sub.api.test/", id="a subdomain"),
        pytest.param("https://evilapi.test/", id="a suffix"),
    ],
)
def test_what_only_looks_like_the_granted_domain_is_blocked(host: Host, url: str) -> None:
    assert error_type(fetched(probe(host), url=url)) == "domain_blocked"


def test_a_loopback_address_is_blocked_although_its_origin_is_granted(host: Host) -> None:
    with serving(response()) as server:
        answer = fetched(probe(host, allowed_domains=[origin_of(server)]), url=server.url())
        assert error_type(answer) == "private_ip_blocked"
        assert "--allow-private" in answer["error"]["message"]
        assert server.connections == 0


def test_a_name_that_resolves_to_a_private_address_is_blocked(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(response()) as server:
        monkeypatch.setattr(host, "_egress", Egress(resolver=lambda name: (IPv4Address("127.0.0.1"),)))
        granted = probe(host, allowed_domains=[f"http://rebound.test:{server.port}"])
        answer = fetched(granted, url=server.url(host="rebound.test"))
        assert error_type(answer) == "private_ip_blocked"
        assert "127.0.0.1" not in answer["error"]["message"]
        assert server.connections == 0


def test_one_private_answer_among_public_ones_is_enough_to_block(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = (IPv4Address("93.184.216.34"), IPv4Address("10.0.0.1"))
    monkeypatch.setattr(host, "_egress", Egress(resolver=lambda name: addresses))
    assert error_type(fetched(probe(host))) == "private_ip_blocked"


def test_a_private_network_that_the_policy_names_may_be_reached(host: Host) -> None:
    with serving(response()) as server:
        granted = probe(host, allowed_domains=[origin_of(server)], allowed_private=["127.0.0.1"])
        assert fetched(granted, url=server.url())["status"] == 200


def test_a_name_that_does_not_resolve_is_a_dns_error(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_egress", Egress(resolver=lambda name: ()))
    answer = fetched(probe(host))
    assert error_type(answer) == "dns_error"
    assert "api.test" in answer["error"]["message"]


def test_a_server_that_does_not_listen_is_an_http_error(host: Host) -> None:
    with serving(response()) as server:
        gone = origin_of(server)
    assert error_type(fetched(probe(host, gone))) == "http_error"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="a server that hangs up"),
        pytest.param(b"garbage\r\n\r\n", id="an answer that is not HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", id="a body cut short"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", id="a malformed chunk"),
    ],
)
def test_an_answer_that_breaks_is_an_http_error(host: Host, said: bytes) -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(said)

    with serving(behave) as server:
        assert error_type(fetched(probe(host, origin_of(server)), method="POST")) == "http_error"


def test_a_request_of_exactly_the_limit_is_sent_and_one_byte_more_is_not(host: Host) -> None:
    with serving(response()) as server:
        small = probe(host, origin_of(server), max_request_size=10)
        assert fetched(small, method="POST", body="é" * 5)["status"] == 200
        answer = fetched(small, method="POST", body="é" * 5 + "x")
        assert error_type(answer) == "request_too_large"
        assert "max_request_size" in answer["error"]["message"]
        assert len(server.requests) == 1


def test_the_size_of_a_request_is_that_of_its_decoded_body(host: Host) -> None:
    with serving(response()) as server:
        small = probe(host, origin_of(server), max_request_size=30)
        encoded = base64.b64encode(b"x" * 30).decode()
        assert fetched(small, method="POST", body=encoded, body_encoding="base64")["status"] == 200


@pytest.mark.parametrize(
    ("head", "body"),
    [
        pytest.param("Content-Length: 11", b"x" * 11, id="declared too long"),
        pytest.param("Transfer-Encoding: chunked", b"b\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n", id="chunked too long"),
        pytest.param("Content-Length: 1000000", b"", id="declared far too long and never sent"),
    ],
)
def test_an_answer_over_the_limit_is_refused(host: Host, head: str, body: bytes) -> None:
    with serving(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body) as server:
        answer = fetched(probe(host, origin_of(server), max_response_size=10))
    assert error_type(answer) == "response_too_large"
    assert "max_response_size" in answer["error"]["message"]


def test_a_compressed_answer_counts_decompressed(host: Host) -> None:
    squeezed = gzip.compress(b" " * 100_000)
    assert len(squeezed) < 1000
    with serving(response(squeezed, "200 OK", "Content-Encoding: gzip")) as server:
        answer = fetched(probe(host, origin_of(server), max_response_size=1000))
        assert error_type(answer) == "response_too_large"
        assert fetched(probe(host, origin_of(server)))["body"] == " " * 100_000


def test_requests_over_the_rate_are_refused_and_told_when_to_come_back(host: Host) -> None:
    with serving(response()) as server:
        limited = probe(host, origin_of(server), rate_limit=RateLimit(requests=2, window="1h"))
        first, second, third = answers(limited, *[["fetch.request", asking()]] * 3)
        assert (first["status"], second["status"]) == (200, 200)
        assert error_type(third) == "rate_limited"
        assert "retry after 3" in third["error"]["message"]  # 3,600 s, or some less
        assert error_type(fetched(limited)) == "rate_limited"  # the rate is the catalyst's, not the run's
        assert len(server.requests) == 2


def test_a_run_may_make_so_many_requests_and_the_next_run_as_many_again(host: Host) -> None:
    with serving(response()) as server:
        limited = probe(host, origin_of(server), max_http_requests=2)
        for _ in range(2):
            *allowed, third = answers(limited, *[["fetch.request", asking()]] * 3)
            assert [one["status"] for one in allowed] == [200, 200]
            assert error_type(third) == "rate_limited"
            assert "max_http_requests" in third["error"]["message"]


def test_a_server_that_never_answers_ends_with_the_run(host: Host) -> None:
    with serving(lambda peer: peer.request() and peer.hang()) as server:
        one = probe(host, origin_of(server))

        def attempt(seconds: float) -> None:
            with pytest.raises(errors.DeadlineExceeded):
                answers(one, ["fetch.request", asking()], timeout=seconds)
            assert server.connections

        with_enough_time(attempt, 0.2)
        assert server.hung_up.wait(60)


# Encodings.

BINARY = bytes(range(256))


def test_a_base64_body_arrives_as_bytes(host: Host) -> None:
    with serving(response()) as server:
        fetched(
            probe(host, origin_of(server)),
            method="POST",
            body=base64.b64encode(BINARY).decode(),
            body_encoding="base64",
        )
        [request] = server.requests
    assert request.partition(b"\r\n\r\n")[2] == BINARY


def test_a_binary_answer_comes_back_as_base64_when_asked(host: Host) -> None:
    with serving(response(BINARY)) as server:
        answer = fetched(probe(host, origin_of(server)), response_encoding="base64")
    assert answer["body_encoding"] == "base64"
    assert base64.b64decode(answer["body"]) == BINARY


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(b"a\xff\xfeb", "aÿþb", id="bytes that no UTF-8 has"),
        pytest.param("naïve café €".encode("cp1252", "replace"), "naïve café \x80", id="a page of an old server"),
        pytest.param("é".encode() + b"\xe9", "Ã©é", id="UTF-8 first, which is then Latin-1 like the rest"),
        pytest.param("aé".encode()[:-1], "aÃ", id="a character that the end cuts"),
        pytest.param(b"\xed\xa0\x80", "í\xa0\x80", id="a lone surrogate, written as UTF-8 would"),
        pytest.param(b"\xc0\xaf", "À¯", id="an overlong slash"),
        pytest.param("日本 😀".encode(), "日本 😀", id="UTF-8"),
        pytest.param("\ufffd".encode(), "\ufffd", id="a replacement character that the upstream sent"),
    ],
)
def test_a_body_that_is_not_utf8_is_given_as_latin1_and_no_byte_is_lost(host: Host, body: bytes, text: str) -> None:
    with serving(response(body)) as server:
        assert fetched(probe(host, origin_of(server)))["body"] == text


def test_an_attachment_stays_with_the_host_and_reaches_the_caller_byte_for_byte(host: Host) -> None:
    with serving(response(BINARY, "200 OK", "Content-Type: audio/mpeg")) as server:
        result = probe(host, origin_of(server)).run(
            {
                "calls": [["fetch.request", asking(response_encoding="attachment")]],
                "return": {"status": 200, "data": "see raw"},
                "raw": '{"status": 200, "data": {"$attachment": "$0.attachment", "size": $0.size}}',
            }
        )
    assert result.content == BINARY
    assert result.data["size"] == 256
    [attachment] = result.attachments.values()
    assert attachment.content_type == "audio/mpeg"


def test_an_attached_answer_has_no_body_for_the_guest(host: Host) -> None:
    with serving(response(BINARY)) as server:
        answer = fetched(probe(host, origin_of(server)), response_encoding="attachment")
    assert answer.keys() == {"status", "headers", "attachment", "size"}
    assert answer["size"] == 256


@pytest.mark.parametrize(
    ("message", "keys"),
    [
        pytest.param({"response_encoding": "attachment"}, {"attachment", "size"}, id="as the answer, by default"),
        pytest.param({"response_encoding": "attachment", "error_encoding": "text"}, {"body"}, id="as text"),
        pytest.param({"error_encoding": "base64"}, {"body", "body_encoding"}, id="as base64"),
    ],
)
def test_an_answer_outside_2xx_comes_back_as_error_encoding_says(
    host: Host, message: dict[str, str], keys: set[str]
) -> None:
    with serving(response(b"no", "500 Internal Server Error")) as server:
        answer = fetched(probe(host, origin_of(server)), **message)
    assert answer.keys() == {"status", "headers"} | keys


def test_error_encoding_does_not_change_an_answer_that_went_well(host: Host) -> None:
    with serving(response(b"yes")) as server:
        answer = fetched(probe(host, origin_of(server)), error_encoding="base64")
    assert answer["body"] == "yes"


def test_attachments_of_a_run_have_a_limit(host: Host) -> None:
    with Host(limits=_attaching(300)) as small, serving(response(BINARY)) as server:
        first, second = answers(
            probe(small, origin_of(server)), *[["fetch.request", asking(response_encoding="attachment")]] * 2
        )
    assert first["size"] == 256
    assert error_type(second) == "response_too_large"


def _attaching(most: int) -> Any:
    from dataclasses import replace

    from host.core.limits import CEILING

    return replace(CEILING, max_attachment_bytes=most)


# Multipart.


def test_multipart_arrives_as_its_parts(host: Host) -> None:
    parts = [
        {"name": "model", "value": "whisper-1"},
        {
            "name": "file",
            "data": base64.b64encode(BINARY).decode(),
            "filename": 'a b"c.mp3',
            "content_type": "audio/mpeg",
        },
        {"name": "bare", "data": base64.b64encode(b"x").decode()},
    ]
    with serving(response()) as server:
        message = asking(method="POST", multipart=parts, headers={"Content-Type": "text/plain", "X-Kept": "1"})
        assert fetched(probe(host, origin_of(server)), message)["status"] == 200
        [request] = server.requests
    model, file, bare = _parts(request)
    assert (model.name, model.content, model.filename) == ("model", b"whisper-1", None)
    assert (file.name, file.content, file.content_type) == ("file", BINARY, "audio/mpeg")
    assert file.filename is not None
    assert (bare.name, bare.filename, bare.content_type) == ("bare", "bare", "application/octet-stream")
    assert b"text/plain" not in request.partition(b"\r\n\r\n")[0]  # the guest's own content type gives way


def _parts(request: bytes) -> list[Part]:
    head, _, body = request.partition(b"\r\n\r\n")
    [kind] = [
        line.partition(b":")[2].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"content-type")
    ]
    return parse_multipart(body, kind.decode())


def test_an_attachment_goes_out_as_a_part_under_its_own_name(host: Host) -> None:
    from host import Attachment

    message = asking(method="POST", multipart=[{"name": "file", "attachment": "$0.$attachment"}])
    with serving(response()) as server:
        given = {"up": Attachment(BINARY, "clip.wav", "audio/wav")}
        probe(host, origin_of(server)).run(
            {"calls": [["echo", {"$attachment": "up"}], ["fetch.request", message]]}, attachments=given
        )
        [part] = _parts(server.requests[0])
    assert (part.filename, part.content_type, part.content) == ("clip.wav", "audio/wav", BINARY)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([0, 4], b"0123"),
        ([4, 10], b"456789"),
        ([9, 10], b"9"),
        pytest.param([10, 10], None, id="nothing"),
        pytest.param([5, 11], None, id="beyond the end"),
        pytest.param([-5, 5], None, id="from the end"),
        pytest.param([5, 4], None, id="backwards"),
        pytest.param([False, True], None, id="flags"),
        pytest.param([0, 4, 8], None, id="three numbers"),
        pytest.param("0-4", None, id="a text"),
    ],
)
def test_a_part_may_be_a_range_of_an_attachment(host: Host, given: object, sent: bytes | None) -> None:
    part = {"name": "file", "attachment": "$0.$attachment", "range": given}
    calls = [["echo", {"$attachment": "up"}], ["fetch.request", asking(method="POST", multipart=[part])]]
    with serving(response()) as server:
        result = probe(host, origin_of(server)).run({"calls": calls}, attachments={"up": b"0123456789"})
        if sent is None:
            assert server.requests == []
            assert error_type(result.data[1]) == "http_error"
        else:
            [found] = _parts(server.requests[0])
            assert found.content == sent


def test_a_value_of_a_form_may_have_a_media_type_and_a_file_gets_that_of_its_name(host: Host) -> None:
    parts = [
        {"name": "session", "value": "{}", "content_type": "application/json"},
        {"name": "a", "data": "AA==", "filename": "a.png"},
        {"name": "b", "data": "AA=="},
    ]
    with serving(response()) as server:
        fetched(probe(host, origin_of(server)), asking(method="POST", multipart=parts))
        found = [(part.filename, part.content_type) for part in _parts(server.requests[0])]
    assert found == [(None, "application/json"), ("a.png", "image/png"), ("b", "application/octet-stream")]


def test_an_attachment_goes_out_as_a_whole_body(host: Host) -> None:
    message = asking(method="POST", body_attachment="$0.$attachment")
    with serving(response()) as server:
        probe(host, origin_of(server)).run(
            {"calls": [["echo", {"$attachment": "up"}], ["fetch.request", message]]}, attachments={"up": BINARY}
        )
        assert server.requests[0].partition(b"\r\n\r\n")[2] == BINARY


def test_an_attachment_of_another_run_does_not_exist(host: Host) -> None:
    with serving(response(BINARY)) as server:
        one = probe(host, origin_of(server))
        ident = fetched(one, response_encoding="attachment")["attachment"]
        answer = fetched(one, method="POST", body_attachment=ident)
        assert error_type(answer) == "http_error"
        assert len(server.requests) == 1


def test_a_part_cannot_smuggle_a_header_through_its_names(host: Host) -> None:
    parts = [{"name": 'a"\r\nX-Evil: 1\r\n', "data": "", "filename": 'b"\r\n\r\nevil'}]
    with serving(response()) as server:
        fetched(probe(host, origin_of(server)), method="POST", multipart=parts)
        body = server.requests[0].partition(b"\r\n\r\n")[2]
    assert b"\r\nX-Evil" not in body
    assert b"\r\n\r\nevil" not in body


def test_the_headers_that_are_the_hosts_cannot_be_set_by_a_guest(host: Host) -> None:
    forged = {"Host": "evil.test", "Content-Length": "999", "Transfer-Encoding": "chunked", "Connection": "upgrade"}
    with serving(response()) as server:
        answer = fetched(probe(host, origin_of(server)), method="POST", body="x", headers=forged)
        sent = b"".join(server.requests).lower()
    assert b"evil.test" not in sent
    assert b": 999" not in sent  # which a port may end in
    assert answer.get("status", 200) == 200 or error_type(answer) == "http_error"


def test_what_a_guest_asks_for_is_parsed_the_same_way_as_it_is_written(host: Host) -> None:
    """Duplicate keys: the value that is decided on is the one that is sent."""
    with serving(response()) as server:
        text = json.dumps(asking()).replace('"url"', '"url": "https://evil.test/", "url"')
        assert fetched(probe(host, origin_of(server)), text)["status"] == 200
        assert server.requests[0].startswith(b"GET /x ")


def _short(body: bytes) -> bytes:
    """An answer whose connection ends within its body."""
    return b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 99\r\n\r\n" + body


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        pytest.param(
            response(b"\x0b\x02", "429 No", "Retry-After: 7", "Content-Encoding: br"),
            "content coding br",
            id="an unknown coding",
        ),
        pytest.param(
            response(b"no", "429 No", "Retry-After: 7", "Content-Encoding: gzip"), "is damaged", id="a damaged one"
        ),
        pytest.param(response(bytes(9_999), "429 No", "Retry-After: 7"), "larger than 5000 bytes", id="a large body"),
        pytest.param(
            response(b"no", "429 No", "Retry-After: 7", "Content-Type: text/plain; charset=utf-7"),
            "charset",
            id="a charset that cannot be searched",
        ),
        pytest.param(_short(b'{"error":'), "closed the connection within the body", id="a body that is cut off"),
    ],
)
@pytest.mark.parametrize("call", ["fetch.request", "streaming.request"])
def test_an_error_whose_body_cannot_be_read_keeps_its_status_and_says_why(
    host: Host, sent: bytes, said: str, call: str
) -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(sent)

    token = {"secrets": {"TOKEN": TOKEN}, "policy_secrets": {"TOKEN": SecretRule(domains=["api.test"])}}
    with serving(behave) as server:
        catalyst = probe(host, origin_of(server), max_response_size=5_000, **token)
        found, *more = answers(
            catalyst, [call, asking()], *([["streaming.read", "$0.handle"]] if call != "fetch.request" else [])
        )
    body = more[0]["data"] if more else found["body"]
    assert (found["status"], found["headers"]["retry-after"]) == (429, "7")
    error = json.loads(body)["error"]
    assert error["type"] == "upstream_error"
    assert said in error["message"]
    assert "answered 429" in error["message"]


@pytest.mark.parametrize("coding", ["utf-8", "UTF-8", "none", "identity", "gzip", "GZIP, identity"])
def test_an_answer_is_read_as_browsers_and_curl_read_it(host: Host, coding: str) -> None:
    body = gzip.compress(b'{"a":1}') + bytes(100) if "gzip" in coding.lower() else b'{"a":1}'
    with serving(response(body, "200 OK", f"Content-Encoding: {coding}")) as server:
        found = fetched(probe(host, origin_of(server)))
    assert (found["body"], "content-encoding" in found["headers"]) == ('{"a":1}', False)
