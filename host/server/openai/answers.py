"""Answers of OpenAI's API: documents, bytes, text, events (WHATWG HTML, 9.2), and errors.

Every error has OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`. `type` is OpenAI's own word where
there is one; for denials and failures of the sandbox it is the host's code.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping

from host.component.operations import OperationSpec
from host.core.operation import Result
from host.core.strict_json import Json, write_json
from host.errors import Denied, HostError, InputError, LimitExceeded, NotFound, OperationFailed, Unauthenticated
from host.server.asgi import JSON, encoded
from host.server.http_errors import headers_of, status_of, words_outside
from host.service.dialects import openai

DONE = b"data: [DONE]\n\n"
_TYPE = re.compile(r'\s*\{\s*"type"\s*:\s*"([a-z0-9_.]{1,100})"')
_MEDIA_TYPE = re.compile(r"[a-zA-Z0-9!#$&^_.+-]+/[a-zA-Z0-9!#$&^_.+-]+(?:; ?[a-zA-Z0-9-]+=[a-zA-Z0-9._\"-]+)*\Z")
_BINARY = "application/octet-stream"
_WITHOUT_BODY = frozenset({204, 205, 304})  # RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5


def whole(result: Result, spec: OperationSpec | None) -> tuple[bytes, str]:
    """The body and its media type. `spec` is that of the operation, where it is known."""
    if result.status in _WITHOUT_BODY:
        return b"", JSON
    if not result.ok:
        return encoded(of_upstream(result.error)), JSON
    if result.document is not None:
        return result.document, JSON
    match result.data:
        case {"$attachment": str(ident), **more} if ident in result.attachments:
            held = result.attachments[ident]
            return held.data, _media_type(more.get("content_type") or held.content_type)
        case {"response_encoding": "base64"} if (found := _in_base64(result.data)) is not None:
            return found
        case str() as text if spec and (spec.response == "text" or spec.request == "multipart"):  # a transcription
            return text.encode("utf-8", "replace"), "text/plain; charset=utf-8"
    return encoded(result.data), JSON


def events(texts: Iterable[str]) -> bytes:
    """JSON texts as events. An event whose document has a type is named by it, as OpenAI does."""
    return "".join(map(_event, texts)).encode("utf-8", "replace")


def gathered(result: Result) -> list[str]:
    """The events of a catalyst that gathered them and handed out none."""
    return [write_json(event) for event in openai.events_of(result.data)]


def ends_with_done(first: str) -> bool:
    """Whether a stream with this first event ends in `[DONE]`: one whose events have types does not."""
    return _TYPE.match(first) is None


def failure(error: Mapping[str, Json]) -> bytes:
    """An error in the middle of a stream, after the status."""
    return f"event: error\ndata: {write_json(error)}\n\n".encode("utf-8", "replace")


def _event(text: str) -> str:
    data = text
    if "\n" in text or "\r" in text:  # each ends a line
        data = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\ndata: ")
    named = _TYPE.match(text)
    return f"event: {named[1]}\ndata: {data}\n\n" if named else f"data: {data}\n\n"


def _in_base64(found: Mapping[str, Json]) -> tuple[bytes, str] | None:
    """Bytes from a catalyst that knows no attachments."""
    for name, media_type in (("audio_base64", "audio/mpeg"), ("base64", _BINARY)):
        text = found.get(name)
        if isinstance(text, str):
            try:
                return base64.b64decode(text, validate=True), media_type
            except (binascii.Error, ValueError):
                return None
    return None


def _media_type(given: Json) -> str:
    """The media type that a guest gave, if it is one, and none that a browser would run."""
    text = given if isinstance(given, str) and len(given) < 200 and _MEDIA_TYPE.match(given) else _BINARY
    lowered = text.lower()
    return _BINARY if "html" in lowered or "xml" in lowered or "javascript" in lowered else text


_HANDED_ON = frozenset({"retry-after", "retry-after-ms", "x-should-retry"})

INVALID = "invalid_request_error"


def body(message: str, kind: str, *, code: str | None = None, param: str | None = None) -> dict[str, Json]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def of_host(error: HostError) -> tuple[int, dict[str, Json], dict[str, str]]:
    """Status, body and headers. A guest's last words stay in the log."""
    headers = dict(headers_of(error))
    match error:
        case OperationFailed():
            return status_of(error), of_upstream(error.result.error), handed_on(error.result.headers)
        case Unauthenticated():
            shown = body(str(error), INVALID, code="invalid_api_key")
        case LimitExceeded():
            shown = body(str(error), error.unit, code="rate_limit_exceeded")
        case NotFound() if error.field == "model":
            shown = body(str(error), INVALID, code="model_not_found", param="model")
        case InputError() if status_of(error) < 500:  # mistakes of the caller, not of the operator
            param = error.field.removeprefix("params.") if error.field else None
            shown = body(str(error), INVALID, code=error.code, param=param)
        case Denied():
            kinds = [refusal.kind for refusal in error.refusals]
            shown = body(error.message, error.code, code=kinds[0] if kinds else None)
        case _:
            shown = body(words_outside(error) or str(error), error.code, code=error.code)
    return status_of(error), shown, headers


def handed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers about retries among those that a guest handed on. A guest may set no others: no cookie, no length."""
    known = {name: value for name, value in headers.items() if name in _HANDED_ON or name.startswith("x-ratelimit-")}
    upstream = headers.get("x-request-id")
    return known if upstream is None else {**known, "x-upstream-request-id": upstream}


def of_upstream(error: Json) -> dict[str, Json]:
    """The error of an operation, with OpenAI's four fields at least."""
    known = error if isinstance(error, dict) else {"message": str(error)}
    return {"error": {"message": None, "type": "upstream_error", "param": None, "code": None, **known}}
