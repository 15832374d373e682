"""A request of OpenAI's API, as the parameters of an operation: what stands in the path, the query and the body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from host.component.operations import OperationSpec
from host.core.attachments import Attachment
from host.core.strict_json import Json, parse_object
from host.errors import InputError
from host.server.asgi import Receive, Scope, header, read_body

MAX_PARTS = 1_000
MAX_QUERY_FIELDS = 1_000
LARGE_BYTES = 64 * 1024  # a tenth of a millisecond to read; more is read while others are served
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Content:
    """What a request carries beside its path. `stream` is whether it asks for events; `large`, that it takes a while to
    look through."""

    params: Mapping[str, Json]
    attachments: Mapping[str, Attachment] = field(default_factory=dict)
    stream: bool = False
    large: bool = False

    @property
    def model(self) -> str | None:
        """Raises InputError where it is none."""
        model = self.params.get("model")
        if model is not None and not isinstance(model, str):
            raise InputError("model must be a string", field="model")
        return model or None


async def read_content(scope: Scope, receive: Receive, spec: OperationSpec, most: int) -> Content:
    """Raises InputError, which names what is wrong; TooLarge; Cancelled where the client left."""
    params: dict[str, Json] = _query(scope["query_string"])
    attachments: dict[str, Attachment] = {}
    body = await read_body(scope, receive, most)
    large = len(body) > LARGE_BYTES
    kind = (header(scope, "content-type") or "").partition(";")[0].strip().lower()
    if spec.request == "multipart":
        if kind != "multipart/form-data":
            raise InputError(f"the body has to be multipart/form-data, and is {kind or 'of no type'}", field="body")
        fields, attachments = await _form(scope, body)
        params |= fields
    elif spec.request == "json" and body:
        if kind and kind != "application/json" and not kind.endswith("+json"):
            raise InputError(f"the body has to be application/json, and is {kind[:100]}", field="body")
        params |= await asyncio.to_thread(parse_object, body, "the body") if large else parse_object(body, "the body")
    return Content(params, attachments, _stream(params), large=large)


def _stream(params: dict[str, Json]) -> bool:
    """Taken out of `params`: the operation is told beside them."""
    value = params.pop("stream", None)
    value = _BOOLEANS.get(value, value) if isinstance(value, str) else value
    if value is not None and not isinstance(value, bool):
        raise InputError("stream must be true or false", field="stream")
    return value is True


def _query(text: bytes) -> dict[str, Json]:
    """`a=1&b[]=2&b[]=3` as `{"a": "1", "b": ["2", "3"]}`; a name that comes twice is a list too."""
    try:
        query = text.decode("ascii")
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS, errors="strict")
    except ValueError:  # of which UnicodeDecodeError is one
        raise InputError("the query of the URL cannot be read", field="query") from None
    return _gathered(pairs)


async def _form(scope: Scope, body: bytes) -> tuple[dict[str, Json], dict[str, Attachment]]:
    """The fields of a form as parameters, and its files (RFC 7578) as attachments that those name."""
    from starlette.datastructures import Headers, UploadFile  # noqa: PLC0415 - uploads alone need it
    from starlette.formparsers import MultiPartException, MultiPartParser  # noqa: PLC0415 - as above

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        Headers(scope=scope), whole(), max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=len(body) + 1
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InputError(f"the form cannot be read: {error.message}", field="body") from None
    except (KeyError, ValueError):  # no boundary, or a header that is none
        raise InputError("the form cannot be read: its boundary or a header in it is malformed", field="body") from None
    pairs: list[tuple[str, Json]] = []
    attachments: dict[str, Attachment] = {}
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                ident = f"file{len(attachments)}"
                content = await value.read()
                attachments[ident] = Attachment(content, _plain(value.filename), _plain(value.content_type))
                pairs.append((name, {"$attachment": ident}))
            else:
                pairs.append((name, value))
    finally:
        await form.close()
    return _gathered(pairs), attachments


def _plain(text: str | None) -> str:
    """A name that can stand in a header of the request that goes on."""
    return "".join(char for char in text or "" if char.isprintable())[:255]


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
