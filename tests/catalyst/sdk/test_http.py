import base64
import json
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies

fresh = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def http(guest):
    return guest("catalyst.sdk.http")


@fresh
@given(value=strategies.text(strategies.characters(codec="utf-8"), min_size=1))
def test_a_path_parameter_is_one_segment_and_can_be_read_back(http, value):
    assume(value not in (".", ".."))
    path = http.path("/files/{file_id}/content", file_id=value)
    root, files, segment, content = path.split("/")
    assert (root, files, content) == ("", "files", "content")
    assert unquote(segment) == value
    assert path.isascii()
    assert not set("?#\\ ") & set(path)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="nothing"),
        pytest.param(".", id="this folder"),
        pytest.param("..", id="the folder above"),
        pytest.param("\ud800", id="half a surrogate pair"),
        pytest.param(0.5, id="a number with a fraction"),
        pytest.param(True, id="a flag"),
        pytest.param(None, id="null"),
        pytest.param({"a": 1}, id="an object"),
    ],
)
def test_what_cannot_be_a_segment_is_refused_by_name(http, guest, value):
    with pytest.raises(Exception) as caught:
        http.path("/files/{file_id}", file_id=value)
    assert caught.value.status == 400
    assert caught.value.error["param"] == "file_id"


@pytest.mark.parametrize(
    ("parameters", "query"),
    [
        pytest.param({}, "", id="no parameters, no question mark"),
        pytest.param({"limit": 20, "order": "asc"}, "?limit=20&order=asc", id="numbers and words"),
        pytest.param(
            {"a": True, "b": False, "c": None}, "?a=true&b=false", id="booleans are words and null is left out"
        ),
        pytest.param({"include": ["x", "y"]}, "?include%5B%5D=x&include%5B%5D=y", id="lists repeat with brackets"),
        pytest.param({"created": {"gte": 1, "lt": 2}}, "?created%5Bgte%5D=1&created%5Blt%5D=2", id="objects nest"),
        pytest.param({"q": "a&b=c d#é+"}, "?q=a%26b%3Dc+d%23%C3%A9%2B", id="a value adds no parameter"),
        pytest.param({"a&b": "1"}, "?a%26b=1", id="neither does a name"),
    ],
)
def test_queries_are_written_as_the_official_sdk_does(http, parameters, query):
    assert http.query(parameters) == query


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({}, {}, id="no body"),
        pytest.param({"json": {"a": "é"}}, {"body": '{"a":"é"}'}, id="a document"),
        pytest.param({"json": {"a": "é\ud800"}}, {"body": '{"a":"\\u00e9\\ud800"}'}, id="half a surrogate pair"),
        pytest.param({"body": "text"}, {"body": "text"}, id="text"),
        pytest.param({"body": b"\xff"}, {"body": "/w==", "body_encoding": "base64"}, id="bytes"),
        pytest.param({"body": {"$attachment": "a1"}}, {"body_attachment": "a1"}, id="an attachment"),
        pytest.param(
            {"multipart": [{"name": "a", "value": "1"}]}, {"multipart": [{"name": "a", "value": "1"}]}, id="parts"
        ),
        pytest.param({"response": "bytes"}, {"response_encoding": "base64"}, id="an answer in bytes"),
        pytest.param(
            {"response": "attachment"},
            {"response_encoding": "attachment", "error_encoding": "text"},
            id="an answer that stays with the host, unless it is an error",
        ),
    ],
)
def test_a_request_is_written_as_the_contract_says(http, world, arguments, message):
    world.answer("ok")
    http.request("POST", "https://x.test/", headers={"X-A": "1"}, **arguments)
    headers = {"X-A": "1", "Content-Type": "application/json"} if "json" in arguments else {"X-A": "1"}
    assert world.requests == [{"method": "POST", "url": "https://x.test/", "headers": headers, **message}]


def test_a_document_keeps_the_content_type_that_it_was_given(http, world):
    world.answer()
    http.request("POST", "https://x.test/", headers={"Content-Type": "application/ld+json"}, json={})
    assert world.requests[0]["headers"] == {"Content-Type": "application/ld+json"}


def test_a_number_that_json_cannot_write_is_refused_before_anything_is_sent(http, world):
    with pytest.raises(Exception) as caught:
        http.request("POST", "https://x.test/", json={"a": float("inf")})
    assert caught.value.status == 400
    assert world.requests == []


def test_a_response_is_text_bytes_and_document(http, world):
    world.answer('{"a": 1}')
    response = http.request("GET", "https://x.test/")
    assert (response.text, response.content, response.json()) == ('{"a": 1}', b'{"a": 1}', {"a": 1})


def test_a_response_in_base64_is_decoded(http, world):
    world.answer(base64.b64encode(b"\xff{}").decode(), body_encoding="base64")
    response = http.request("GET", "https://x.test/", response="bytes")
    assert response.content == b"\xff{}"
    assert response.text == "\ufffd{}"


@pytest.mark.parametrize(("status", "ok"), [(199, False), (200, True), (299, True), (300, False), (404, False)])
def test_only_2xx_is_ok(http, world, status, ok):
    world.answer(status=status)
    assert http.request("GET", "https://x.test/").ok is ok


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("domain_blocked", 403),
        ("method_blocked", 403),
        ("private_ip_blocked", 403),
        ("rate_limited", 429),
        ("circuit_open", 503),
        ("timeout", 504),
        ("request_too_large", 413),
        ("response_too_large", 502),
        ("dns_error", 502),
        ("http_error", 502),
        ("a_type_of_tomorrow", 502),
    ],
)
def test_a_refusal_of_the_host_keeps_its_type_and_words(http, world, kind, status):
    world.answers.append({"error": {"type": kind, "message": "because"}})
    with pytest.raises(Exception) as caught:
        http.request("GET", "https://x.test/")
    assert caught.value.as_result() == {"status": status, "error": {"type": kind, "message": "because"}}


def test_a_refusal_in_mere_words_is_understood_too(http, world):
    world.answers.append({"error": "no"})
    with pytest.raises(Exception) as caught:
        http.request("GET", "https://x.test/")
    assert caught.value.as_result() == {"status": 502, "error": {"type": "http_error", "message": "no"}}


def test_without_the_interface_a_request_is_an_error_and_not_a_crash(guest):
    http = guest("catalyst.sdk.http", ())
    with pytest.raises(Exception) as caught:
        http.request("GET", "https://x.test/")
    assert "manifest" in json.dumps(caught.value.as_result())


@pytest.mark.parametrize("interface", ["output", "config", "log"])
def test_an_interface_of_ours_proves_that_bodies_can_stay_with_the_host(guest, interface):
    assert guest("catalyst.sdk.http", ("fetch", interface)).ATTACHMENTS
    assert not guest("catalyst.sdk.http", ("fetch",)).ATTACHMENTS
