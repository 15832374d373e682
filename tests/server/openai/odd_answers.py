"""Answers of an odd upstream, each a sentence: what a server in the world has been seen to send, or could.

`ODD` maps the sentence to the call that a client makes and the bytes that the upstream answers. The official SDKs get them
directly and through the gateway (`test_odd_upstreams.py`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.probing import chunk

CHAT = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}  # fmt: skip
RESPONSE = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-4o-mini", "error": None,
    "output": [{
        "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
    }],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "usage": {
        "input_tokens": 1, "output_tokens": 2, "total_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
    },
}  # fmt: skip
IMAGE = {"created": 1, "data": [{"b64_json": "aGVsbG8="}]}
SOUND = hashlib.shake_128(b"sound").digest(1024)  # no part of it is a part of the key
MODELS = {"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model", "created": 1, "owned_by": "openai"}]}
ERROR = {"error": {"message": "No such thing.", "type": "invalid_request_error", "param": "model", "code": "not_there"}}


def piece(text: str, index: int = 0, **more: Any) -> dict[str, Any]:
    """One chunk of a streamed chat."""
    choice = {"index": index, "delta": {"content": text}, "finish_reason": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    } | more


def data(value: Any, ending: str = "\n\n") -> bytes:
    return f"data: {json.dumps(value)}{ending}".encode()


def named(value: Mapping[str, Any], name: str | None = None) -> bytes:
    return f"event: {name or value['type']}\ndata: {json.dumps(value)}\n\n".encode()


DONE = b"data: [DONE]\n\n"
HELLO = data(piece("Hel")) + data(piece("lo"))
CREATED = {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "status": "in_progress"}}
DELTA = {
    "type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": "Hello",
    "sequence_number": 1, "logprobs": [],
}  # fmt: skip
COMPLETED = {"type": "response.completed", "sequence_number": 2, "response": RESPONSE}


@dataclass(frozen=True)
class Odd:
    """`call` names the SDK's call (`CALLS` here, `calls` in `node/differ.mjs`). `pieces` are written one by one. `hangs`:
    the connection stays open then; otherwise it closes. `differs` says why the gateway's answer is another; the test has
    the right one."""

    call: str
    pieces: Sequence[bytes]
    hangs: bool = False
    differs: str = ""
    attempts: Sequence[Sequence[bytes]] = field(
        default=()
    )  # the answers of the requests that follow, for the SDK's retries


def head(status: str = "200 OK", *headers: str, kind: str = "application/json") -> bytes:
    """Every answer ends its connection, as the upstream does not wait for more."""
    typed = [f"Content-Type: {kind}"] if kind else []
    lines = [f"HTTP/1.1 {status}", "Connection: close", *typed, *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def whole(body: Any, status: str = "200 OK", *headers: str, kind: str = "application/json") -> list[bytes]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [head(status, f"Content-Length: {len(raw)}", *headers, kind=kind) + raw]


def streamed(
    *pieces: bytes, kind: str = "text/event-stream", ended: bool = True, headers: Sequence[str] = ()
) -> list[bytes]:
    """In chunks; unless `ended`, the connection is cut after them."""
    begun = head("200 OK", "Transfer-Encoding: chunked", *headers, kind=kind)
    return [begun, *(chunk(one) for one in pieces), *([b"0\r\n\r\n"] if ended else [])]


def raw(text: str, kind: str = "application/json") -> list[bytes]:
    return whole(text.encode(), kind=kind)


def _zipped(value: Any, *, behind: bytes = b"") -> list[bytes]:
    return whole(gzip.compress(json.dumps(value).encode()) + behind, "200 OK", "Content-Encoding: gzip")


def _chat_text(text: str) -> str:
    """A completion with this JSON text as its message's `extra`."""
    return json.dumps(CHAT)[:-1] + f', "extra": {text}}}'


def _error(status: str, body: Any = None, *headers: str, kind: str = "application/json") -> list[bytes]:
    return whole(ERROR if body is None else body, status, *headers, kind=kind)


CAPITALS = "the Node SDK takes it for text"
CUT = "a cut is an error of the network to who speaks to the upstream, and an error of the gateway to others"
_NOT_JSON = "the gateway tells a page from an answer"

WHOLE: dict[str, Odd] = {
    "a plain completion": Odd("chat", whole(CHAT)),
    "unknown fields are there": Odd("chat", whole({**CHAT, "cost": {"usd": 0.25}, "x": [1, None]})),
    "a number with an exponent": Odd("chat", raw(_chat_text("1e3"))),
    "a number of thirty digits": Odd("chat", raw(_chat_text("123456789012345678901234567890"))),
    "a number of many decimals": Odd("chat", raw(_chat_text("3.14159265358979323846"))),
    "a negative zero": Odd("chat", raw(_chat_text("-0"))),
    "a number beyond a double": Odd("chat", raw(_chat_text("1e400"))),
    "not a number": Odd("chat", raw(_chat_text("NaN"))),
    "negative infinity": Odd("chat", raw(_chat_text("-Infinity"))),
    "lists 300 deep": Odd("chat", raw(_chat_text("[" * 300 + "]" * 300))),
    "a name that comes twice": Odd("chat", raw(json.dumps(CHAT)[:-1] + ', "id": "second"}')),
    "text beyond ASCII, escaped": Odd("chat", raw(_chat_text('"\\u00e9\\ud83d\\ude00"'))),
    "text beyond ASCII, in UTF-8": Odd("chat", raw(_chat_text('"é😀\u2028"'))),
    "half a surrogate pair": Odd("chat", raw(_chat_text('"\\ud83d"'))),
    "blanks around": Odd("chat", raw("\r\n  " + json.dumps(CHAT, indent=3) + " \n")),
    "a mark in front": Odd("chat", whole(b"\xef\xbb\xbf" + json.dumps(CHAT).encode())),
    "a charset in the type": Odd("chat", whole(CHAT, kind="application/json; charset=utf-8")),
    "in chunks of one byte": Odd("chat", streamed(*(bytes([one]) for one in json.dumps(CHAT).encode()), kind="application/json")),
    "until the connection closes": Odd("chat", [head(), json.dumps(CHAT).encode()]),
    "compressed": Odd("chat", _zipped(CHAT)),
    "compressed as deflate": Odd("chat", whole(zlib.compress(json.dumps(CHAT).encode()), "200 OK", "Content-Encoding: deflate")),
    "an answer of another object": Odd("chat", whole({"hello": "world"})),
    "an empty object": Odd("chat", whole({})),
    "a null": Odd("chat", raw("null")),
    "status 201": Odd("chat", whole(CHAT, "201 Created")),
    "headers of the API": Odd("headers", whole(
        CHAT, "200 OK", "x-request-id: req_1", "x-ratelimit-remaining-requests: 59", "x-ratelimit-reset-tokens: 6m0s",
        "openai-processing-ms: 12", "openai-version: 2020-10-01", "openai-organization: org-1",
    )),
    "no usage": Odd("chat", whole({name: value for name, value in CHAT.items() if name != "usage"})),
    "no choices": Odd("chat", whole({**CHAT, "choices": []})),
    "two choices": Odd("chat", whole({**CHAT, "choices": [{**CHAT["choices"][0], "index": one} for one in (1, 0)]})),  # type: ignore[index]
    "a refusal and no content": Odd("chat", whole({**CHAT, "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None, "refusal": "No."}},
    ]})),
    "calls of tools": Odd("chat", whole({**CHAT, "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1e3}'}}],
    }}]})),
    "a response": Odd("responses", whole(RESPONSE)),
    "a response that failed": Odd("responses", whole({
        **RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "Boom."},
    })),
    "embeddings": Odd("embeddings", whole({"object": "list", "model": "m", "data": [
        {"object": "embedding", "index": 0, "embedding": [0.1, -0.0, 1e-7, 0.30000000000000004]},
    ], "usage": {"prompt_tokens": 1, "total_tokens": 1}})),
    "a moderation": Odd("moderation", whole({"id": "m", "model": "m", "results": []})),
    "a model": Odd("model", whole(MODELS["data"][0])),  # type: ignore[index]
    "an image": Odd("image", whole(IMAGE)),
    "speech": Odd("speech", whole(SOUND, kind="audio/mpeg")),
    "speech of no type": Odd("speech", whole(SOUND, kind="")),
    "empty speech": Odd("speech", whole(b"", kind="audio/mpeg")),
    "a file's content": Odd("content", whole(b'{"a": 1}\n{"b": 2}\n', kind="application/octet-stream")),
    "a file's content that is JSON": Odd("content", whole(b'{"error": 1e3}', kind="application/json")),
    "a transcription": Odd("transcription", whole({"text": "hello"})),
    "a transcription as text": Odd("transcript", whole("hello é\n".encode(), kind="text/plain; charset=utf-8")),
    "a file that was deleted": Odd("delete", whole({"id": "file-1", "object": "file", "deleted": True})),
    "files, page by page": Odd("files", whole({"object": "list", "data": [], "has_more": False})),
}  # fmt: skip

ERRORS: dict[str, Odd] = {
    **{
        f"an error with status {status.partition(' ')[0]}": Odd("chat", _error(status))
        for status in (
            "400 Bad Request", "401 Unauthorized", "402 Payment Required", "403 Forbidden", "404 Not Found",
            "405 Method Not Allowed", "409 Conflict", "413 Too Large", "418 Teapot", "422 Unprocessable", "429 Too Many",
            "451 Legal", "500 Internal", "502 Bad Gateway", "503 Unavailable", "504 Timeout", "520 Unknown", "529 Overloaded",
        )
    },
    "an error with null in every field": Odd("chat", _error("400 Bad", {"error": {
        "message": "No.", "type": None, "param": None, "code": None,
    }})),
    "an error whose code is a number": Odd("chat", _error("429 Slow", {"error": {"message": "No.", "code": 429}})),
    "an error with more fields": Odd("chat", _error("400 Bad", {"error": {**ERROR["error"], "innererror": {"a": [1]}}})),
    "an error beside other fields": Odd("chat", _error("400 Bad", {**ERROR, "request_id": "r"})),
    "an error with its own headers": Odd("chat", _error("429 Slow", None, "x-request-id: req_9", "x-ratelimit-remaining-tokens: 0")),
    "an error of an empty stream": Odd("chat_stream", _error("429 Slow")),
    "an error of a response's stream": Odd("responses_stream", _error("404 Not Found")),
    "an error of speech": Odd("speech", _error("400 Bad")),
    "an error of a transcription": Odd("transcription", _error("400 Bad")),
    "an error of a transcript": Odd("transcript", _error("413 Too Large")),
    "an error of a file's content": Odd("content", _error("404 Not Found")),
    "an error that says not to retry": Odd("chat_twice", _error("503 No", None, "x-should-retry: false"), attempts=[whole(CHAT)]),
    "an error that asks for a retry": Odd(
        "chat_twice", _error("400 Bad", None, "x-should-retry: true", "retry-after-ms: 1"), attempts=[whole(CHAT)]
    ),
    "a second attempt that succeeds": Odd("chat_twice", _error("503 No", None, "retry-after-ms: 1"), attempts=[whole(CHAT)]),
    "a second attempt that fails": Odd(
        "chat_twice", _error("500 No", None, "retry-after-ms: 1"), attempts=[_error("429 Slow", None, "retry-after: 7")]
    ),
}  # fmt: skip

STREAMS: dict[str, Odd] = {
    "a plain stream": Odd("chat_stream", streamed(HELLO, DONE)),
    "a stream of one byte a chunk": Odd("chat_stream", streamed(*(bytes([one]) for one in HELLO + DONE))),
    "a stream in one chunk": Odd("chat_stream", streamed(HELLO + DONE)),
    "a stream that stays open after its end": Odd("chat_stream", streamed(HELLO, DONE, ended=False), hangs=True),
    "a stream without [DONE]": Odd("chat_stream", streamed(HELLO)),
    "a stream with events after [DONE]": Odd("chat_stream", streamed(HELLO, DONE, data(piece("more")))),
    "a stream of carriage returns": Odd("chat_stream", streamed((HELLO + DONE).replace(b"\n", b"\r\n"))),
    "a stream without blanks after colons": Odd("chat_stream", streamed((HELLO + DONE).replace(b"data: ", b"data:"))),
    "a stream with comments": Odd("chat_stream", streamed(b": hello\n\n", HELLO, b": ping\n\n:\n\n", DONE)),
    "a stream with ids and times": Odd("chat_stream", streamed(b"id: 7\nretry: 10\n" + HELLO, DONE)),
    "data of two lines": Odd("chat_stream", streamed(b'data: {"id": "c", "choices":\ndata: []}\n\n', DONE)),
    "an empty stream": Odd("chat_stream", streamed()),
    "a stream of [DONE] alone": Odd("chat_stream", streamed(DONE)),
    "usage in a last event": Odd("chat_stream", streamed(HELLO, data({**piece(""), "choices": [], "usage": CHAT["usage"]}), DONE)),
    "two choices in turn": Odd("chat_stream", streamed(*(data(piece(text, index)) for text, index in (("a", 0), ("x", 1), ("b", 0))), DONE)),
    "unknown fields in events": Odd("chat_stream", streamed(data({**piece("a"), "provider": {"x": 1e-7}}), DONE)),
    "numbers as they were written": Odd("chat_stream", streamed(b'data: {"id": "c", "choices": [], "n": 1e3, "m": 1.10}\n\n', DONE)),
    "text that two chunks share": Odd("chat_stream", streamed(*((d := data(piece("é😀")).decode().encode("unicode_escape"))[:0],), data(piece("x")), DONE)),
    "characters cut in two": Odd("chat_stream", streamed(
        (e := 'data: {"id": "c", "choices": [], "t": "é😀"}\n\n'.encode())[:38], e[38:41], e[41:], DONE,
    )),
    "an event of 300 kB": Odd("chat_stream", streamed(data(piece("x" * 300_000)), DONE)),
    "a hundred events": Odd("chat_stream", streamed(*(data(piece(str(one))) for one in range(100)), DONE)),
    "a stream of a charset": Odd("chat_stream", streamed(HELLO, DONE, kind="text/event-stream; charset=utf-8")),
    "an error event": Odd("chat_stream", streamed(HELLO, data({"error": {"message": "Boom.", "type": "server_error", "code": "x"}}))),
    "an error as the first event": Odd("chat_stream", streamed(data({"error": {"message": "Boom.", "type": "server_error"}}))),
    "a long error event": Odd("chat_stream", streamed(HELLO, data({"error": {"message": "x" * 6_000, "type": "server_error"}}))),
    "an error event before others": Odd("chat_stream", streamed(data({"error": {"message": "Boom."}}), HELLO, DONE)),
    "a response, event by event": Odd("responses_stream", streamed(*map(named, (CREATED, DELTA, COMPLETED)))),
    "a response that stays open after its end": Odd(
        "responses_stream", streamed(*map(named, (CREATED, DELTA, COMPLETED)), ended=False), hangs=True,
        differs="the gateway knows the last event of a response; the SDK waits for the end of the body",
    ),
    "a response whose type comes last": Odd("responses_stream", streamed(*(
        named({**{name: value for name, value in one.items() if name != "type"}, "type": one["type"]}) for one in (CREATED, COMPLETED)
    ))),
    "a response of events without names": Odd("responses_stream", streamed(*(data(one) for one in (CREATED, DELTA, COMPLETED)))),
    "a response that failed in the middle": Odd("responses_stream", streamed(named(CREATED), named({
        "type": "response.failed", "sequence_number": 1,
        "response": {**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "Boom."}},
    }))),
    "a response that is incomplete": Odd("responses_stream", streamed(named(CREATED), named({
        "type": "response.incomplete", "sequence_number": 1,
        "response": {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    }))),
    "a response of unknown events": Odd("responses_stream", streamed(
        named(CREATED), named({"type": "response.new_thing", "sequence_number": 1, "x": 1}), named(COMPLETED),
    )),
    "an error in a response": Odd("responses_stream", streamed(named(CREATED), named({
        "type": "error", "code": "server_error", "message": "Boom.", "param": None, "sequence_number": 1,
    }))),
    "an error event of its own name": Odd("responses_stream", streamed(
        named(CREATED), named({"error": {"message": "Boom.", "code": "server_error"}}, "error"),
    )),
    "an image, piece by piece": Odd("image_stream", streamed(
        named({"type": "image_generation.partial_image", "b64_json": "aGU=", "partial_image_index": 0}),
        named({"type": "image_generation.completed", "b64_json": "aGVsbG8=", "usage": {"total_tokens": 3}}),
    )),
    "a transcription, piece by piece": Odd("transcription_stream", streamed(
        named({"type": "transcript.text.delta", "delta": "hel"}), named({"type": "transcript.text.done", "text": "hello"}),
    )),
    "a completion, piece by piece": Odd("completions_stream", streamed(
        data({"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [{"index": 0, "text": "a"}]}), DONE,
    )),
}  # fmt: skip
STREAMS.pop("text that two chunks share")

# What the gateway makes another, and a better, answer of.
BETTER: dict[str, Odd] = {
    "models in a bare list": Odd("models", whole(MODELS["data"]), differs="the gateway gives the list of OpenAI's API"),
    "a type in capitals": Odd("chat", whole(CHAT, kind="Application/JSON"), differs=CAPITALS),
    "a page in place of a completion": Odd("chat", whole(b"<html>Sign in</html>", kind="text/html"), differs=_NOT_JSON),
    "half a document": Odd("chat", raw('{"id": "chatcmpl-1", "cho'), differs=_NOT_JSON),
    "a completion that is cut": Odd("chat", [head("200 OK", "Content-Length: 400") + b'{"id":'], differs=CUT),
    "nothing at all": Odd("chat", [], differs=CUT),
    "no HTTP": Odd("chat", [b"SSH-2.0-OpenSSH_9.2\r\n"], differs=CUT),
    "a response that stays open after its end": Odd(
        "responses_stream",
        streamed(*map(named, (CREATED, DELTA, COMPLETED)), ended=False),
        hangs=True,
        differs="the gateway knows the last event of a response; the SDK waits for the end of the body",
    ),
    "a stream that is cut between events": Odd("chat_stream", streamed(HELLO, ended=False), differs=CUT),
    "a stream that is cut within an event": Odd("chat_stream", [
        head(kind="text/event-stream"), HELLO + b'data: {"id": "c", "choices": [{"delta": {"con',
    ], differs=CUT),
}  # fmt: skip

ODD: dict[str, Odd] = WHOLE | ERRORS | STREAMS | BETTER
