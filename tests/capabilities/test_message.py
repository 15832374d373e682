"""The request message, read: whatever a guest writes is a RequestMessage or a GuestError, and nothing else."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.capabilities.message import (
    BodyDecoder,
    GuestError,
    RequestMessage,
    decode_body,
    length_in_json,
    read_body,
    read_message,
)
from host.core.operation import Attachment, Attachments
from host.core.strict_json import write_json
from tests.probing import asking

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "method",
            "url",
            "headers",
            "body",
            "body_encoding",
            "body_attachment",
            "multipart",
            "response_encoding",
            "error_encoding",
            "relay",
        ]
    ),
    JSON
    | st.sampled_from(["GET", "https://api.test/", "base64", "text"])
    | st.lists(st.dictionaries(st.sampled_from(["name", "value", "data", "attachment", "filename"]), JSON)),
)


def read(text: str) -> tuple[RequestMessage, tuple[bytes, str | None]]:
    message = read_message(text)
    return message, read_body(message, Attachments(1000), int)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    _read_or_refused(text)


@given(JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    _read_or_refused(json.dumps(value))


@given(FIELDS)
def test_any_fields_are_read_or_refused(fields: dict[str, Any]) -> None:
    _read_or_refused(json.dumps({"method": "POST", "url": "https://api.test/", **fields}))


def _read_or_refused(text: str) -> None:
    try:
        message, (body, _) = read(text)
    except GuestError as error:
        refused = error
    else:
        assert message.target.origin.startswith("http")
        assert isinstance(body, bytes)
        return
    assert refused.kind == "http_error"
    assert json.loads(refused.as_json()).keys() == {"error"}


@pytest.mark.parametrize("method", ["get", "Get", "GET"])
def test_a_method_is_read_in_any_case(method: str) -> None:
    assert read_message(json.dumps(asking(method=method))).method == "GET"


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_body_beside_multipart_is_no_body(empty: str | None) -> None:
    _, (body, content_type) = read(json.dumps(asking(body=empty, multipart=[{"name": "a", "value": "b"}])))
    assert b"b" in body
    assert content_type is not None
    assert content_type.startswith("multipart/form-data; boundary=")


@pytest.mark.parametrize("relay", [1, "true", [], {"a": 1}])
def test_only_true_asks_for_relay(relay: object) -> None:
    assert read_message(json.dumps(asking(relay=relay))).relay is False
    assert read_message(json.dumps(asking(relay=True))).relay is True


def test_an_error_is_encoded_like_an_answer_unless_it_says_otherwise() -> None:
    message = read_message(json.dumps(asking(response_encoding="base64")))
    assert (message.response_encoding, message.error_encoding) == ("base64", "base64")
    message = read_message(json.dumps(asking(response_encoding="base64", error_encoding="text")))
    assert (message.response_encoding, message.error_encoding) == ("base64", "text")


def test_unknown_fields_are_passed_over() -> None:
    assert read_message(json.dumps(asking(timeout_ms=5, follow_redirects=True))).method == "GET"


def test_the_boundary_of_multipart_is_new_every_time() -> None:
    text = json.dumps(asking(multipart=[{"name": "a", "value": "b"}]))
    assert read(text)[1][1] != read(text)[1][1]


def test_a_parts_own_names_come_before_those_of_its_attachment() -> None:
    held = Attachments(1000)
    ident = held.put(Attachment(b"x", "own.wav", "audio/wav"))
    part = {"name": "f", "attachment": ident, "filename": "given.mp3", "content_type": "audio/mpeg"}
    body, _ = read_body(read_message(json.dumps(asking(multipart=[part]))), held, int)
    assert b'filename="given.mp3"' in body
    assert b"Content-Type: audio/mpeg" in body


class TooLarge(Exception):
    """What the size check of these tests raises."""


def _at_most(most: int) -> Callable[[int], None]:
    def check(size: int) -> None:
        if size > most:
            raise TooLarge

    return check


def test_one_attachment_named_a_thousand_times_is_refused_before_the_body_is_put_together() -> None:
    held = Attachments(1 << 20)
    ident = held.put(Attachment(bytes(1 << 20)))
    message = read_message(json.dumps(asking(multipart=[{"name": "a", "attachment": ident}] * 1_000)))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            read_body(message, held, _at_most(4 << 20))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_message_of_empty_lists_is_refused_before_it_becomes_thirty_times_as_large() -> None:
    text = '{"method": "GET", "url": "https://api.test/", "x": [' + "[]," * 200_000 + "0]}"
    with pytest.raises(GuestError, match="values"):
        read_message(text)


def test_a_body_that_is_itself_large_json_is_one_value() -> None:
    body = json.dumps([{"a": '"'}] * 200_000)
    assert read(json.dumps(asking(method="POST", body=body)))[1] == (body.encode(), None)


def test_a_header_bomb_is_refused_before_secrets_make_it_longer() -> None:
    with pytest.raises(GuestError, match="bytes of headers"):
        read_message(json.dumps(asking(headers={"x": "host-secret-" * 10_000})))


@given(st.binary() | st.text().map(str.encode), st.lists(st.integers(0, 40), max_size=6))
def test_a_body_in_any_pieces_is_utf8_up_to_its_first_other_byte_and_latin1_from_there(
    body: bytes, cuts: list[int]
) -> None:
    decoder = BodyDecoder()
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    read = [decoder.decode(body[start:end], final=False) for start, end in itertools.pairwise(edges)]
    text = "".join([*read, decoder.decode(b"", final=True)])
    whole = body.decode("utf-8", "ignore").encode() == body
    utf8 = next(size for size in range(len(body), -1, -1) if _is_utf8(body[:size]))
    assert text == body[:utf8].decode() + body[utf8:].decode("latin-1")
    assert decode_body(body) == (text if whole else body.decode("latin-1"))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_length_of_a_text_in_json_is_known_before_it_is_written(text: str) -> None:
    assert length_in_json(text.encode()) == len(write_json(text).encode()) - 2


def test_so_is_that_of_each_single_byte_of_ascii() -> None:
    for byte in range(128):
        assert length_in_json(bytes([byte])) == len(write_json(chr(byte))) - 2
