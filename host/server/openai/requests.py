"""A request of OpenAI's API as an operation: its parameters, by query and body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import parse_qsl, quote

from host.component.operations import OperationSpec
from host.core.headers import without_controls
from host.core.operation import Attachment, Mention
from host.core.strict_json import Json, parse_json
from host.errors import InputError, UnsupportedMedia
from host.server.asgi import LARGE_BYTES, Receive, Scope, header, read_body, read_json
from host.server.openai.forms import read_form, text_of
from host.service.principal import Admitted

MAX_QUERY_FIELDS = 1_000
_IN_QUERY = "%[]!$&'()*+,;=:@/?"  # RFC 3986, 3.4; brackets are sent by most clients as they are
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_AS_ASCII = frozenset({"us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252"})
_BOOLEANS = {"true": True, "false": False}
_FORM = "multipart/form-data"


def path_below(scope: Scope) -> str:
    """The path as it was sent, below the place where this is mounted."""
    path: str = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0].decode("latin-1")
    return path.removeprefix(scope.get("root_path", "")).removesuffix("/")  # clients join URLs with one too many


@dataclass(frozen=True, slots=True)
class Content:
    """The query and the body of a request. `params` are of the body; where a request has none, of the query. `query` is
    its text. `stream` says that it asks for events, `large` that checking takes long."""

    params: Mapping[str, Json]
    query: str = ""
    attachments: Mapping[str, Attachment] = field(default_factory=dict)
    stream: bool = False
    large: bool = False


async def read_content(scope: Scope, receive: Receive, spec: OperationSpec, most: int, admitted: Admitted) -> Content:
    """Raises InputError, which names the field; TooLarge; LimitExceeded, Busy; Cancelled where the client left."""
    body = await read_body(scope, receive, most, admitted)
    large = len(body) > LARGE_BYTES
    given = header(scope, "content-type") or ""
    kind = given.partition(";")[0].strip().lower()
    query, fields = read_query(scope["query_string"]) if scope["query_string"] else ("", {})
    params: dict[str, Json] = fields if spec.request == "none" else {}
    attachments: dict[str, Attachment] = {}
    request = spec.request
    if request == "multipart" and spec.without_files == "json" and _is_json(kind):
        request = "json"
    if request == "multipart" or (request == "raw" and kind == _FORM):
        if kind != _FORM:
            raise InputError(f"the body has to be {_FORM}, and is {kind[:100] or 'of no type'}", field="body")
        read = partial(_form, given, body, spec.parts)
        params, attachments = await admitted.off_loop(read) if large else read()
    elif request == "raw":
        params = {next(iter(spec.parts), "body"): text_of(body)}
    elif request == "json" and body:
        if kind not in ("", "application/json") and not _is_json(kind):
            raise InputError(f"the body has to be application/json, and is {kind[:100]}", field="body")
        if "charset" in given.lower():
            _check_charset(given, body)
        params = await read_json(body, "the body", admitted, written=True)
    flagged = spec.stream or spec.request == "json"  # else `stream` is a field like any other
    stream = flagged and _stream(params, keep=request == "multipart")
    return Content(params, query, attachments, stream, large=large)


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
