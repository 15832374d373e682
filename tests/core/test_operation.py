"""What goes into a run and what comes out of it, whatever a caller or a guest makes of it."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host import Operation
from host.core.operation import (
    UNREAD_BYTES,
    Attachment,
    Attachments,
    Execution,
    Outcome,
    Result,
    read_input,
    read_output,
    write_input,
)
from host.errors import InputError, OutputInvalid


def written(value: Any, **given_: Attachment) -> Any:
    return json.loads(write_input(value, Attachments(100), given_))


def read(output: Any, held: Attachments | None = None) -> Outcome:
    return read_output(output if isinstance(output, str) else json.dumps(output), held or Attachments(100))


# In.


@pytest.mark.parametrize(
    "given_",
    [
        Operation("models.list", {"a": 1}, stream=True),
        {"operation": "models.list", "params": {"a": 1}, "stream": True},
        '{"operation": "models.list", "params": {"a": 1}, "stream": true}',
        b'{"operation": "models.list", "params": {"a": 1}, "stream": true}',
    ],
    ids=["an Operation", "a mapping", "JSON text", "JSON bytes"],
)
def test_the_same_operation_in_every_form(given_: Any) -> None:
    assert read_input(given_) == {"operation": "models.list", "params": {"a": 1}, "stream": True}


def test_an_operation_has_no_params_and_does_not_stream_unless_it_says_so() -> None:
    assert read_input(Operation("x")) == {"operation": "x", "params": {}, "stream": False}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"models.list"', "NaN", b"\xff", "[" * 100_000])
def test_a_text_that_is_no_json_object_is_an_input_error(text: str | bytes) -> None:
    with pytest.raises(InputError, match="the input"):
        read_input(text)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"a": {1, 2}}, id="a set"),
        pytest.param({"a": b"bytes"}, id="bytes"),
        pytest.param({"a": float("nan")}, id="NaN"),
        pytest.param({"a": float("inf")}, id="infinity"),
        pytest.param({("a", "b"): 1}, id="a tuple for a key"),
        pytest.param({"a": object()}, id="an object"),
    ],
)
def test_a_mapping_that_is_no_json_is_an_input_error(value: Any) -> None:
    with pytest.raises(InputError, match="not JSON"):
        written(value)


@pytest.mark.parametrize("wrap", [lambda inner: {"a": inner}, lambda inner: [inner], lambda inner: (inner,)])
@pytest.mark.parametrize("attached", [False, True])
def test_an_input_may_be_nested_deeply_and_not_too_deeply(wrap: Any, attached: bool) -> None:
    given_ = {"f": Attachment(b"x")} if attached else {}
    inner: Any = {"$attachment": "f"} if attached else 1
    for _ in range(190):
        inner = wrap(inner)
    assert written({"in": inner}, **given_)
    for _ in range(2000):
        inner = wrap(inner)
    with pytest.raises(InputError, match="nested"):
        written({"in": inner}, **given_)


def test_an_attachment_stands_in_the_input_with_what_is_known_of_it() -> None:
    shown = written({"params": {"file": {"$attachment": "clip"}}}, clip=Attachment(b"abc", "a.mp3", "audio/mpeg"))
    file = shown["params"]["file"]
    assert file.pop("$attachment").startswith("att_")
    assert file == {"filename": "a.mp3", "content_type": "audio/mpeg"}


def test_what_the_caller_says_of_an_attachment_comes_before_what_is_known() -> None:
    [file] = written({"f": [{"$attachment": "clip", "filename": "b.wav"}]}, clip=Attachment(b"abc", "a.mp3"))["f"]
    assert file["filename"] == "b.wav"


@pytest.mark.parametrize("name", ["other", "", 5, None, ["clip"], {"a": 1}], ids=repr)
def test_an_attachment_that_was_not_handed_over_is_an_input_error_that_says_where(name: Any) -> None:
    with pytest.raises(InputError) as error:
        written({"params": {"files": [{"$attachment": name}]}, "more": {"$attachment": "clip"}}, clip=Attachment(b""))
    assert error.value.field == "params.files[0]"


def test_an_attachment_that_the_input_does_not_mention_is_an_input_error() -> None:
    with pytest.raises(InputError) as error:
        written({"params": {}}, clip=Attachment(b"abc"))
    assert error.value.field == "clip"


def test_an_attachment_that_is_too_large_is_an_input_error() -> None:
    with pytest.raises(InputError, match="max_attachment_bytes"):
        written({"f": {"$attachment": "clip"}}, clip=Attachment(b"x" * 101))


# Out.


@pytest.mark.parametrize(
    ("output", "status", "data", "error"),
    [
        pytest.param({"status": 200, "data": {"a": 1}}, 200, {"a": 1}, None, id="a success"),
        pytest.param({"status": 201}, 201, None, None, id="a success without data"),
        pytest.param(
            {"status": 404, "error": {"type": "x", "message": "y"}},
            404,
            None,
            {"type": "x", "message": "y"},
            id="an error",
        ),
        pytest.param({"status": 404, "error": "words"}, 404, None, "words", id="an error that is a text"),
        pytest.param(
            {"status": 500}, 500, None, {"type": "error", "message": "status 500"}, id="an error without a word"
        ),
        pytest.param(
            {"status": 302, "data": 1}, 302, None, {"type": "error", "message": "status 302"}, id="a redirect"
        ),
        pytest.param({"a": 1}, 200, {"a": 1}, None, id="an object without a status"),
        pytest.param({"error": {"type": "x"}}, 500, None, {"type": "x"}, id="an error without a status"),
        pytest.param(
            {"status": "200", "data": 1}, 200, {"status": "200", "data": 1}, None, id="a status that is a text"
        ),
        pytest.param({"status": True, "data": 1}, 200, {"status": True, "data": 1}, None, id="a status that is true"),
        pytest.param({"status": 200.0}, 200, {"status": 200.0}, None, id="a status with a fraction"),
        pytest.param({"status": 99, "error": 1}, 500, None, 1, id="a status below all"),
        pytest.param({"status": 10**30, "error": 1}, 500, None, 1, id="a status above all"),
        pytest.param([1], 200, [1], None, id="a list"),
        pytest.param("null", 200, None, None, id="null"),
        pytest.param("words", 200, {"raw": "words"}, None, id="no JSON"),
        pytest.param("", 200, {"raw": ""}, None, id="nothing"),
        pytest.param("9" * 5000, 200, {"raw": "9" * 5000}, None, id="a huge integer"),
        pytest.param("NaN", 200, {"raw": "NaN"}, None, id="a word that is no JSON"),
        pytest.param("{'a': nan}", 200, {"raw": "{'a': nan}"}, None, id="Python's own notation"),
        pytest.param('{"a": ', 200, {"raw": '{"a": '}, None, id="JSON that is cut off"),
        pytest.param(r'{"data": "\ud800", "status": 200}', 200, "\ufffd", None, id="a lone surrogate"),
        pytest.param("\ud800", 200, {"raw": "\ufffd"}, None, id="a lone surrogate that is no JSON"),
    ],
)
def test_what_a_guest_returned(output: Any, status: int, data: Any, error: Any) -> None:
    assert read(output) == Outcome(status, data, error, {})


@pytest.mark.parametrize(
    "output",
    [
        pytest.param('{"status": 200, "data": NaN}', id="NaN"),
        pytest.param('{"data": [1, -Infinity]}', id="infinity"),
        pytest.param(" [1e999]", id="a number without end"),
        pytest.param('{"a": ' + "9" * 5000 + "}", id="a huge integer"),
        pytest.param('{"a": "\n"}', id="a line break within a string"),
        pytest.param("[" * 300 + "]" * 300, id="nested too deeply"),
        pytest.param('{"a":' * 300 + '{"$attachment": "x"}' + "}" * 300, id="nested too deeply, with an attachment"),
        pytest.param("[" * 100_000 + "]" * 100_000, id="nested far too deeply"),
    ],
)
def test_what_is_json_but_for_something_is_the_guests_error_and_no_success(output: str) -> None:
    with pytest.raises(OutputInvalid) as ended:
        read(output)
    assert (ended.value.blame, ended.value.exit_status) == ("guest", 4)
    assert "the output" in ended.value.message


@given(st.text())
def test_reading_an_output_never_raises(text: str) -> None:
    assert 100 <= read(text).status <= 599


def holding(*contents: bytes) -> tuple[Attachments, list[str]]:
    held = Attachments(1000)
    ids = [held.put(Attachment(content)) for content in contents]
    return held, [ident for ident in ids if ident is not None]


def test_an_attachment_in_the_output_goes_to_the_caller_and_others_do_not() -> None:
    held, (one, _) = holding(b"one", b"two")
    outcome = read({"status": 200, "data": [{"$attachment": one, "size": 3}]}, held)
    assert outcome.data == [{"$attachment": one, "size": 3}]
    assert {ident: found.data for ident, found in outcome.attachments.items()} == {one: b"one"}


@pytest.mark.parametrize(
    ("content", "data"),
    [
        pytest.param(b'{"a": [1]}', {"a": [1]}, id="a document"),
        pytest.param(b"not JSON", {"raw": "not JSON"}, id="what is no JSON"),
        pytest.param(b"\xff", {"raw": "\ufffd"}, id="what is no text"),
        pytest.param(b"[" * 900, {"raw": "[" * 900}, id="what is nested too deeply"),
    ],
)
def test_a_json_id_stands_for_the_document_in_those_bytes(content: bytes, data: Any) -> None:
    held, (ident,) = holding(content)
    assert read({"status": 200, "data": {"of": {"$json": ident}}}, held).data == {"of": data}
    if data == {"a": [1]}:
        assert read({"status": 200, "data": {"$json": ident}}, held).data == data


def test_what_is_spliced_in_is_not_looked_at_again() -> None:
    held, (secret,) = holding(b"1")
    ident = held.put(Attachment(json.dumps({"$attachment": secret}).encode()))
    outcome = read({"status": 200, "data": {"$json": ident}}, held)
    assert outcome.data == {"$attachment": secret}
    assert outcome.attachments == {}


def test_a_small_output_cannot_stand_for_more_than_the_run_may_hold() -> None:
    """A document is spliced in once: many references to a large one would be a bomb."""
    held, (ident,) = holding(b"[" + b"1," * 400 + b"1]")
    data = read({"status": 200, "data": [{"$json": ident}] * 10_000}, held).data
    assert len(data[0]) == 401
    assert data[1:] == [{"$json": ident}] * 9_999


@pytest.mark.parametrize("ident", ["att_unknown", 5, None, ["x"], {"a": 1}], ids=repr)
@pytest.mark.parametrize("key", ["$json", "$attachment"])
def test_an_id_that_stands_for_nothing_stays_as_it_is(key: str, ident: Any) -> None:
    outcome = read({"status": 200, "data": {key: ident}})
    assert outcome.data == {key: ident}
    assert outcome.attachments == {}


@pytest.mark.parametrize("status", [200, 429, 503])
def test_the_headers_of_the_upstream_that_a_guest_hands_on(status: int) -> None:
    headers = {"retry-after": "20", "x-ratelimit-remaining-requests": "0", "x-request-id": "req a!~"}
    assert read({"status": status, "error": {}, "headers": headers}).headers == headers
    assert read({"status": status, "error": {}}).headers == {}


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"Retry-After": "20"}, id="a name in capitals"),
        pytest.param({"": "20"}, id="no name"),
        pytest.param({"retry after": "20"}, id="a name with a blank"),
        pytest.param({"retry-after:": "20"}, id="a name with a colon"),
        pytest.param({"retry-after\r\nset-cookie": "20"}, id="two lines in a name"),
        pytest.param({"a" * 65: "20"}, id="a long name"),
        pytest.param({"retry-after": ""}, id="no value"),
        pytest.param({"retry-after": 20}, id="a number"),
        pytest.param({"retry-after": None}, id="null"),
        pytest.param({"retry-after": ["20"]}, id="a list"),
        pytest.param({"retry-after": "20\r\nset-cookie: a=1"}, id="two lines"),
        pytest.param({"retry-after": "20\n"}, id="a line break at the end"),
        pytest.param({"retry-after": " 20"}, id="a blank at the beginning"),
        pytest.param({"retry-after": "20 "}, id="a blank at the end"),
        pytest.param({"retry-after": "2\x000"}, id="NUL"),
        pytest.param({"retry-after": "\x1b[2J"}, id="what a terminal obeys"),
        pytest.param({"retry-after": "é"}, id="what is not ASCII"),
        pytest.param({"retry-after": "x" * 257}, id="a long value"),
    ],
)
def test_a_header_that_cannot_be_written_to_the_wire_is_passed_over(header: dict[str, Any]) -> None:
    outcome = read({"status": 429, "error": {"type": "t"}, "headers": {**header, "x-request-id": "x" * 256}})
    assert outcome == Outcome(429, None, {"type": "t"}, {}, {"x-request-id": "x" * 256})


@pytest.mark.parametrize(
    "headers", [None, [], "retry-after: 20", 5, {f"x-ratelimit-{n}": "1" for n in range(17)}], ids=type
)
def test_headers_that_are_none_or_too_many_are_passed_over_as_a_whole(headers: Any) -> None:
    assert read({"status": 429, "error": {}, "headers": headers}).headers == {}


def test_without_a_status_headers_are_data_like_any_other() -> None:
    outcome = read({"data": 1, "headers": {"retry-after": "20"}})
    assert (outcome.data, outcome.headers) == ({"data": 1, "headers": {"retry-after": "20"}}, {})


def test_a_document_that_is_all_of_the_data_is_there_as_the_text_that_came() -> None:
    text = b'{ "a": [1.0, 1e2] }'
    held, (ident,) = holding(text)
    outcome = read({"status": 200, "data": {"$json": ident}}, held)
    assert (outcome.data, outcome.document) == ({"a": [1.0, 100.0]}, text)


@pytest.mark.parametrize(
    ("content", "output"),
    [
        pytest.param(b"{}", {"status": 200, "data": {"of": {"$json": "ID"}}}, id="it is a part of the data"),
        pytest.param(b"{}", {"status": 200, "data": {"$json": "ID", "more": 1}}, id="there is more beside it"),
        pytest.param(b"{}", {"status": 404, "error": {"$json": "ID"}}, id="it is the error"),
        pytest.param(b"{}", {"status": 404, "data": {"$json": "ID"}}, id="the status is no success"),
        pytest.param(b"{}", {"data": {"$json": "ID"}}, id="there is no status"),
        pytest.param(b"no JSON", {"status": 200, "data": {"$json": "ID"}}, id="it is no JSON"),
        pytest.param(b"\xff", {"status": 200, "data": {"$json": "ID"}}, id="it is no text"),
        pytest.param(b"{}", {"status": 200, "data": {"$json": "another"}}, id="there is none of that id"),
        pytest.param(b"{}", {"status": 200, "data": {"$json": 5}}, id="the id is a number"),
    ],
)
def test_there_is_no_document_where(content: bytes, output: Any) -> None:
    held, (ident,) = holding(content)
    assert read(json.dumps(output).replace('"ID"', f'"{ident}"'), held).document is None


def result_of(outcome: Outcome) -> Result:
    return outcome.result(Execution("run_1", "c:local.x", "sha256:0", 0.0, 0.0, None, (), (), ()))  # type: ignore[arg-type]


NAN = float("nan")


@pytest.mark.parametrize(
    ("document", "data"),
    [
        pytest.param(b'{"a": NaN, "b": [-Infinity, Infinity]}', {"a": NAN, "b": [-inf, inf]}, id="NaN and infinity"),
        pytest.param(b'{"a": 1e400, "b": -1E400}', {"a": inf, "b": -inf}, id="numbers without end"),
        pytest.param(b'{"a": 12345678901234567890123}', {"a": 12345678901234567890123}, id="a long integer"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", {"a": inf}, id="an endless integer"),
        pytest.param(b'{"a": ' + b"[" * 299 + b"]" * 299 + b"}", None, id="300 levels"),
        pytest.param('{"a": "caf\xe9"}'.encode("latin-1"), {"a": "caf\xe9"}, id="Latin-1"),
        pytest.param('{"a": "\u20ac"}'.encode("utf-16"), {"a": "\u20ac"}, id="UTF-16"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', {"a": 1}, id="a byte order mark"),
        pytest.param(b'{"a": "one\ntwo\x00"}', {"a": "one\ntwo\x00"}, id="control characters"),
        pytest.param(b'{"a": "\\ud800"}', {"a": "\ufffd"}, id="a lone surrogate"),
        pytest.param(b'{"a": 1, "a": 2}', {"a": 2}, id="a name twice"),
        pytest.param(b' \n{"a" : 1.10}\t ', {"a": 1.1}, id="white space"),
        pytest.param(b"[1.0, 1e2, -0]", [1.0, 100.0, 0], id="other spellings of numbers"),
        pytest.param(b"null", None, id="null"),
    ],
)
@pytest.mark.parametrize("long", [False, True])
def test_a_document_that_other_readers_take_passes_as_it_came(document: bytes, data: Any, long: bool) -> None:
    document += (b" \0" if b"\0" in document[:6] else b" ") * (UNREAD_BYTES if long else 0)
    held = Attachments(4 * UNREAD_BYTES)
    ident = held.put(Attachment(document, content_type="application/json; charset=x"))
    outcome = read({"status": 201, "data": {"$json": ident}, "headers": {"x-request-id": "r"}}, held)
    result = result_of(outcome)
    assert (outcome.status, outcome.error, outcome.headers) == (201, None, {"x-request-id": "r"})
    assert (result.document, result.content_type) == (document, "application/json; charset=x")
    if data is not None:
        assert repr(result.data) == repr(data)


def test_the_tokens_of_a_document_are_known_without_its_values() -> None:
    held = Attachments(100_000_000)
    row = ",".join(["0.125"] * 3072)
    text = f'{{"data":[{",".join([f"[{row}]"] * 2048)}],"model":"m","usage":{{"prompt_tokens":7}}}}'.encode()
    ident = held.put(Attachment(text))
    result = result_of(read({"status": 200, "data": {"$json": ident}}, held))
    assert result.document is text
    assert result.known["usage"] == {"prompt_tokens": 7}
    assert (len(result.data["data"]), result.data["data"][2047][3071]) == (2048, 0.125)


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        pytest.param(
            b"<html>\n<h1>Hi</h1>",
            "text/html; charset=utf-8",
            r"(text/html, 18 bytes) is not JSON; it begins with '<html>\n<h1>Hi</h1>'",
            id="a page",
        ),
        pytest.param(
            b'{"a": [1, 2', "application/json", "(application/json, 11 bytes) is not JSON", id="a part of JSON"
        ),
        pytest.param(b'{"a": 1}{"b": 2}', "", "(a body without a type, 16 bytes)", id="two documents"),
        pytest.param(b"{'a': 1}", "", "is not JSON", id="Python"),
        pytest.param(b"x" * 10_000, "", "'" + "x" * 200 + "'", id="a long text"),
        pytest.param(b"\x1b[2J", "", r"'\x1b[2J'", id="what a terminal obeys"),
    ],
)
def test_what_is_no_json_where_json_was_promised_is_a_failure_of_the_upstream(
    content: bytes, kind: str, said: str
) -> None:
    held = Attachments(20_000)
    ident = held.put(Attachment(content, content_type=kind))
    outcome = read({"status": 200, "data": {"$json": ident}, "headers": {"x-request-id": "r"}}, held)
    assert (outcome.status, outcome.data, outcome.document) == (502, None, None)
    assert outcome.headers == {"x-request-id": "r", "x-should-retry": "false"}
    assert (outcome.error["type"], outcome.error["code"]) == ("upstream_error", "not_json")
    assert said in outcome.error["message"]
    assert len(outcome.error["message"]) < 500
