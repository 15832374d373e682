"""What stands in the query and the body, as parameters."""

from __future__ import annotations

import asyncio
import codecs
import gzip
import zlib
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from host.component.operations import OperationSpec, read_operations
from host.core.operation import Attachment
from host.errors import Cancelled, InputError, TooLarge, UnsupportedMedia
from host.openai import forms
from host.openai.messages import Content
from host.server.asgi import LARGE_BYTES
from host.server.openai.gateway import read_content
from host.service.principal import OPERATOR, Admission

FORM = (
    b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--x\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n'
    b'--x\r\nContent-Disposition: form-data; name="include[]"\r\n\r\na\r\n'
    b'--x\r\nContent-Disposition: form-data; name="include[]"\r\n\r\nb\r\n'
    b'--x\r\nContent-Disposition: form-data; name="chunking_strategy[type]"\r\n\r\nserver_vad\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a\xe2\x82\xac.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\nRIFF\0\r\n--x--\r\n"
)


def spec(request: str = "json", *, stream: bool = True) -> OperationSpec:
    return read_operations({"x": {"method": "POST", "path": "/x", "request": request, "stream": stream}})["x"]


def read_by(scope: Any, receive: Any, found: OperationSpec, most: int) -> Content:
    """For a caller who is admitted."""

    async def within() -> Content:
        with closing(Admission()) as admission:
            return await read_content(scope, receive, found, most, admission.enter(OPERATOR))

    return asyncio.run(within())


def read(
    body: bytes = b"",
    *,
    query: str = "",
    kind: str = "application/json",
    request: str = "json",
    most: int = 10_000_000,
    coding: str = "",
    stream: bool = True,
) -> Content:
    headers = [(b"content-type", kind.encode()), *([(b"content-encoding", coding.encode())] if coding else ())]
    scope: Any = {"type": "http", "query_string": query.encode(), "headers": headers}
    halves = [body[: len(body) // 2], body[len(body) // 2 :]]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": halves.pop(0), "more_body": bool(halves)}

    return read_by(scope, receive, spec(request, stream=stream), most)


@pytest.mark.parametrize(
    ("query", "params"),
    [
        ("", {}),
        ("a=1&b=", {"a": "1", "b": ""}),
        ("a=1&a=2&a=3", {"a": ["1", "2", "3"]}),
        ("a[]=1", {"a": ["1"]}),
        ("a%5B%5D=1&a%5B%5D=2", {"a": ["1", "2"]}),
        ("a=%E2%82%AC+b", {"a": "€ b"}),
    ],
)
def test_a_query_is_parameters(query: str, params: dict[str, Any]) -> None:
    assert read(query=query, request="none").params == params


@pytest.mark.parametrize("query", ["a=%ff", "&".join(f"a{n}=1" for n in range(2_000)), "a=\u20ac"])
def test_a_query_that_cannot_be_read_is_a_mistake(query: str) -> None:
    with pytest.raises(InputError) as raised:
        read(query=query, request="none")
    assert raised.value.field == "query"


def test_a_query_beside_a_body_is_no_part_of_it() -> None:
    query = "a=2&b=3&stream=true"
    assert read(b'{"a": 1}', query=query) == Content({"a": 1}, query)


def test_a_query_goes_on_as_it_came() -> None:
    for query in ("a=1&b=2&a=3", "a[]=1&a%5B%5D=2", "a=&b", "a=+%20%2f%2F", "a=~!$'()*,;:@/?"):
        assert read(query=query, request="none").query == query
    assert read(query='a="<>{}|^`\\"', request="none").query == "a=%22%3C%3E%7B%7D%7C%5E%60%5C%22"


def test_stream_is_a_field_like_any_other_where_there_is_none() -> None:
    content = read(FORM, kind="multipart/form-data; boundary=x", request="multipart", stream=False)
    assert (content.params["stream"], content.stream) == ("true", False)
    assert read(query="stream=true", request="none", stream=False).params == {"stream": "true"}


def test_a_body_of_a_request_that_has_none_is_passed_over() -> None:
    assert read(b"whatever", request="none").params == {}


@pytest.mark.parametrize(
    ("given", "stream"), [('"true"', True), ("true", True), ("false", False), ('"false"', False), ("null", False)]
)
def test_a_stream_is_asked_for_in_every_spelling(given: str, stream: bool) -> None:
    assert read(b'{"stream": %s}' % given.encode()) == Content({}, stream=stream)


def test_a_byte_order_mark_is_passed_over() -> None:
    assert read(codecs.BOM_UTF8 + b'{"a": 1}').params == {"a": 1}


def zstd(data: bytes) -> bytes:
    packed: bytes = pytest.importorskip("backports.zstd").compress(data)
    return packed


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


CODINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("X-GZip ", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", bare),
    ("zstd", zstd),
    ("identity", bytes),
]


@pytest.mark.parametrize(("coding", "pack"), CODINGS)
def test_a_body_in_a_content_coding_is_read(coding: str, pack: Callable[[bytes], bytes]) -> None:
    text = b'{"a": "%s"}' % (b"x" * 1_000_000)
    assert read(pack(text), coding=coding).params == {"a": "x" * 1_000_000}
    assert read(pack(FORM), kind="multipart/form-data; boundary=x", request="multipart", coding=coding).attachments


@pytest.mark.parametrize(("coding", "pack"), CODINGS[:-1])
def test_a_body_is_as_large_as_it_is_without_its_coding(coding: str, pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(TooLarge, match="10000000 bytes"):
        read(pack(b" " * 10_000_001), coding=coding)
    with pytest.raises(InputError, match="damaged, or ends too early"):
        read(pack(b" " * 10_000)[:-5], coding=coding)
    with pytest.raises(InputError, match="damaged"):
        read(b"{}", coding=coding)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "compress", "aws-chunked"])
def test_a_body_in_another_content_coding_is_not_read(coding: str) -> None:
    with pytest.raises(UnsupportedMedia):
        read(b"{}", coding=coding)


def test_a_form_has_fields_lists_and_files() -> None:
    content = read(FORM, kind="multipart/form-data; boundary=x", request="multipart")
    assert content.stream is True
    assert content.params == {
        "model": "whisper-1",
        "include": ["a", "b"],
        "chunking_strategy[type]": "server_vad",
        "file": {"$attachment": "file0"},
        "stream": True,
    }
    assert content.attachments == {"file0": Attachment(b"RIFF\0", "a€.wav", "audio/wav")}


def test_a_form_with_too_many_parts_is_a_mistake() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    with pytest.raises(InputError):
        read(part * (forms.MAX_PARTS + 1) + b"--x--\r\n", kind="multipart/form-data; boundary=x", request="multipart")


def test_a_body_that_is_too_large_is_told_when_it_is() -> None:
    with pytest.raises(TooLarge, match="10 bytes"):
        read(b"[" + b" " * 20 + b"]", most=10)


def test_a_large_body_is_read_all_the_same() -> None:
    text = b'{"a": "%s"}' % (b"x" * LARGE_BYTES)
    content = read(text)
    assert len(content.params["a"]) == LARGE_BYTES
    assert content.large


def test_a_client_that_leaves_in_the_middle_is_not_answered() -> None:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    scope: Any = {"type": "http", "query_string": b"", "headers": []}
    with pytest.raises(Cancelled):
        read_by(scope, receive, spec(), 100)


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.server.asgi.BODY_S", 0.01)

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    scope: Any = {"type": "http", "query_string": b"", "headers": []}
    with pytest.raises(InputError, match="did not come"):
        read_by(scope, receive, spec(), 100)
