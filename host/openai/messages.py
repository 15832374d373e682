"""The messages of OpenAI's API: a request as an operation, a result as its answer.

Of a request: its parameters, by query and body; `host.service.catalog` has its route. Of an answer: its body, its media
type and its headers.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote

from host.component.operations import OperationSpec, RequestKind
from host.core.headers import without_controls
from host.core.operation import Attachment, Mention, Result
from host.core.sse import Comment, ServerSentEvent
from host.core.strict_json import Json, json_bytes, parse_json, write_json
from host.errors import InputError, UnsupportedMedia
from host.openai.forms import read_form, text_of
from host.run import Piece, StreamEnd
from host.service.dialects import openai

MAX_QUERY_FIELDS = 1_000
_IN_QUERY = "%[]!$&'()*+,;=:@/?"  # RFC 3986, 3.4; brackets are sent by most clients as they are
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_AS_ASCII = frozenset({"us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252"})
_BOOLEANS = {"true": True, "false": False}
_FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Content:
    """The query and the body of a request. `params` are of the body; where a request has none, of the query. `query` is
    its text. `stream` says that it asks for events, `large` that checking takes long."""

    params: Mapping[str, Json]
    query: str = ""
    attachments: Mapping[str, Attachment] = field(default_factory=dict)
    stream: bool = False
    large: bool = False


def form_of(spec: OperationSpec, content_type: str, body: bytes) -> RequestKind:
    """The form of a body of this type, for the operation. Raises InputError, of which UnsupportedMedia is one, for a
    type that it does not take."""
    kind = content_type.partition(";")[0].strip().lower()
    if spec.request == "multipart" and spec.without_files == "json" and _is_json(kind):
        form: RequestKind = "json"
    elif spec.request == "multipart" or (spec.request == "raw" and kind == _FORM):
        if kind != _FORM:
            raise InputError(f"the body has to be {_FORM}, and is {kind[:100] or 'of no type'}", field="body")
        return "multipart"
    else:
        form = spec.request
    if form == "json" and body:
        if kind not in ("", "application/json") and not _is_json(kind):
            raise InputError(f"the body has to be application/json, and is {kind[:100]}", field="body")
        if "charset" in content_type.lower():
            _check_charset(content_type, body)
    return form


def content_of(
    spec: OperationSpec,
    form: RequestKind,
    content_type: str,
    body: bytes,
    query: bytes = b"",
    document: dict[str, Json] | None = None,
) -> Content:
    """The content of a request whose body has this form (`form_of`). `query` is its text; `document` the object in a
    JSON body, which is read by now. Raises InputError, which names the field."""
    text, fields = read_query(query) if query else ("", {})
    params: dict[str, Json] = fields if spec.request == "none" else {}
    attachments: dict[str, Attachment] = {}
    if form == "multipart":
        params, attachments = _form(content_type, body, spec.parts)
    elif form == "raw":
        params = {next(iter(spec.parts), "body"): text_of(body)}
    elif form == "json" and document is not None:
        params = document
    flagged = spec.stream or spec.request == "json"  # else `stream` is a field like any other
    stream = flagged and _stream(params, keep=form == "multipart")
    return Content(params, text, attachments, stream)


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def _check_charset(content_type: str, body: bytes) -> None:
    """JSON is UTF-8 (RFC 8259, 8.1). A charset that agrees with it on this body is passed over, as others do. Raises
    UnsupportedMedia."""
    found = _CHARSET.search(content_type)
    charset = found[1].lower() if found else ""
    if charset not in ("utf-8", "utf8") and not (charset in _AS_ASCII and body.isascii()):
        raise UnsupportedMedia(f"JSON is read in UTF-8, and not in {charset[:40] or 'another charset'}", field="body")


def _stream(params: dict[str, Json], *, keep: bool) -> bool:
    """Takes `stream` out of `params`: an operation has it beside them. With `keep` it stays in its place, as the flag
    that it is: a form has an order."""
    value = params.get("stream") if keep else params.pop("stream", None)
    value = _BOOLEANS.get(value, value) if isinstance(value, str) else value
    if value is not None and not isinstance(value, bool):
        raise InputError("stream must be true or false", field="stream")
    if keep and value is not None:
        params["stream"] = value
    return value is True


def read_query(text: bytes) -> tuple[str, dict[str, Json]]:
    """The query as it is to be sent on, percent-encoded where it has characters that no URL has; and as parameters:
    `a=1&b[]=2&b[]=3` as `{"a": "1", "b": ["2", "3"]}`; a name that comes twice is a list too. Raises InputError."""
    try:
        query = text.decode("ascii")
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS, errors="strict")
    except ValueError:  # of which UnicodeDecodeError is one
        raise InputError("the query of the URL cannot be read", field="query") from None
    return quote(query, safe=_IN_QUERY), _gathered(pairs)


def _form(content_type: str, body: bytes, types: Mapping[str, str]) -> tuple[dict[str, Json], dict[str, Attachment]]:
    """The fields of a form as parameters, and its files as attachments that the parameters name. `types` are the media
    types of fields: one of JSON is read."""
    pairs: list[tuple[str, Json]] = []
    attachments: dict[str, Attachment] = {}
    for part in read_form(content_type, body):
        if part.filename is None:
            text = text_of(part.content)
            pairs.append((part.name, parse_json(text, part.name) if _is_json(types.get(part.name, "")) else text))
        else:
            ident = f"file{len(attachments)}"
            attachments[ident] = Attachment(part.content, without_controls(part.filename), _plain(part.content_type))
            pairs.append((part.name, Mention(ident)))
    return _gathered(pairs), attachments


def _plain(text: str) -> str:
    """A media type that can stand in a header of the upstream request."""
    return "".join(char for char in text if char.isprintable())[:255]


def _gathered(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for given, value in pairs:
        name = given.removesuffix("[]")
        if name in found:
            earlier = found[name]
            found[name] = [*earlier, value] if isinstance(earlier, list) else [earlier, value]
        else:
            found[name] = [value] if given.endswith("[]") else value
    return found


# Answers --------------------------------------------------------------------------------------------------------------

JSON: Final = "application/json"
DONE = b"data: [DONE]\n\n"
_DISPOSITION = re.compile(r"[ -~]{1,1000}\Z")
_TYPE = re.compile("[a-z0-9_.]{1,100}")
_TYPE_FIRST = re.compile(rf'\s*\{{\s*"type"\s*:\s*"({_TYPE.pattern})"')
_MEDIA_TYPE = re.compile(r"[a-zA-Z0-9!#$&^_.+-]+/[a-zA-Z0-9!#$&^_.+-]+(?:; ?[a-zA-Z0-9-]+=[a-zA-Z0-9._\"-]+)*\Z")
_JSON_TYPE = re.compile(r"application/(?:[a-zA-Z0-9.-]+\+)?json(?:; ?charset=[\"a-zA-Z0-9_-]+)?\Z")
_BINARY = "application/octet-stream"
_WITHOUT_BODY = frozenset({204, 205, 304})  # RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5


def whole(result: Result, spec: OperationSpec | None) -> tuple[bytes, str]:
    """The body and its media type. `spec` is that of the operation, where it is known. A document, also that of an
    error, is handed on as it came."""
    if result.status in _WITHOUT_BODY:
        return b"", JSON
    if result.document is not None:
        return result.document, result.content_type if _JSON_TYPE.match(result.content_type) else JSON
    if not result.ok:
        return json_bytes(of_upstream(result.error)), JSON
    if spec is not None and spec.response == "empty":
        return b"", JSON
    match result.data:
        case {"$attachment": str(ident), **more} if ident in result.attachments:
            held = result.attachments[ident]
            return held.data, _media_type(more.get("content_type") or held.content_type)
        case {"response_encoding": "base64"} if (found := _in_base64(result.data)) is not None:
            return found
        case str() as text if spec and (spec.response == "text" or spec.request == "multipart"):  # a transcription
            return text.encode("utf-8", "replace"), "text/plain; charset=utf-8"
    return json_bytes(result.data), JSON


def events(pieces: Iterable[str | Piece]) -> bytes:
    """JSON texts as events, and comments; other pieces are passed over. An upstream's own events have the fields that
    it sent. Of others, one whose document has a type is named by it, as OpenAI does."""
    return "".join([_event(one) for one in pieces if isinstance(one, str)]).encode("utf-8", "replace")


def gathered(result: Result) -> list[str]:
    """The events of a catalyst that gathered them and handed out none. A document in their place is none."""
    return [] if result.document is not None else [write_json(event) for event in openai.events_of(result.data)]


def instead(result: Result) -> list[str]:
    """What stands in place of events, where an upstream that began a stream sent none: a document, or nothing."""
    if result.document is not None:
        return [result.document.decode("utf-8", "replace")]
    return gathered(result)


def about_bytes(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of an answer in bytes that flows, from those of the upstream's."""
    shown = {"content-type": _media_type(headers.get("content-type"))}
    if (length := headers.get("content-length", "")).isascii() and length.isdigit():
        shown["content-length"] = length
    if _DISPOSITION.match(named := headers.get("content-disposition", "")):
        shown["content-disposition"] = named
    return shown


def last_of(first: str, end: StreamEnd | None) -> bytes:
    """What follows the events of a stream: `[DONE]` where the upstream sent it. Of a stream that was not relayed nobody
    knows. It has one if its `first` event has no type, like OpenAI's."""
    if end is not None:
        return b"" if end.done is None else events([end.done])
    return b"" if _type_of(first) else DONE


def failure(error: Mapping[str, Json]) -> bytes:
    """An error in the middle of a stream, after the status."""
    return b"event: error\ndata: %s\n\n" % json_bytes(error)


def _event(text: str) -> str:
    if isinstance(text, Comment):
        return f": {text}\n\n"
    data = text
    if "\n" in text or "\r" in text:  # each ends a line
        data = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\ndata: ")
    if not isinstance(text, ServerSentEvent):
        named = _type_of(text)
        return f"event: {named}\ndata: {data}\n\n" if named else f"data: {data}\n\n"
    more = "" if text.event is None else f"event: {text.event}\n"
    if text.id is not None:
        more += f"id: {text.id}\n"
    if text.retry is not None:
        more += f"retry: {text.retry}\n"
    return more + "data: " + data + "\n\n"


def _type_of(text: str) -> str:
    """The type of an event's document; "" where it has none that can be a name."""
    if '"type"' not in text:
        return ""
    if named := _TYPE_FIRST.match(text):
        return named[1]
    try:
        document = parse_json(text, "the event")
    except InputError:
        return ""
    found = document.get("type") if isinstance(document, dict) else None
    return found if isinstance(found, str) and _TYPE.fullmatch(found) else ""


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


_HANDED_ON = frozenset({"retry-after", "retry-after-ms", "x-should-retry", "x-request-id"})
_LOCATION = re.compile(r"(/(?!\.{1,2}(/|\Z))[\w.~%:@+-]{1,200}){1,16}", re.ASCII)
_HANDED_ON_PREFIXES = ("x-ratelimit-", "openai-")


def handed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """The upstream's headers about retries, limits and the request, among those that a guest handed on. A guest may set
    no others: no cookie, no length. The upstream's id of the request is there by a second name too: a client that gave
    the request an id gets that one back by the first."""
    known = {
        name: value for name, value in headers.items() if name in _HANDED_ON or name.startswith(_HANDED_ON_PREFIXES)
    }
    upstream = headers.get("x-request-id")
    return known if upstream is None else {**known, "x-upstream-request-id": upstream}


def place_of(result: Result) -> dict[str, str]:
    """Where a success says that it made something: a path, such as that of a call, whose id is nowhere else."""
    place = result.headers.get("location", "") if 200 <= result.status < 300 else ""
    return {"location": place} if _LOCATION.fullmatch(place) else {}


def of_upstream(error: Json) -> dict[str, Json]:
    """The error of an operation, with OpenAI's four fields at least."""
    known = error if isinstance(error, dict) else {"message": str(error)}
    return {"error": {"message": None, "type": "upstream_error", "param": None, "code": None, **known}}
