"""The parameters of an operation's tool: those of the operation, as an agent fills them in; and files among them, taken
out again before the run.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from host.attachments import Attachment
from host.errors import InputError
from host.jsontext import Json
from host.operations import OperationSpec

_FILE: Final[dict[str, Json]] = {
    "type": "object",
    "description": "A file",
    "properties": {
        "data": {"type": "string", "description": "Its bytes, in base64", "contentEncoding": "base64"},
        "filename": {"type": "string", "description": "Its name; the ending tells the format"},
        "content_type": {"type": "string", "description": "Its media type, like audio/mpeg"},
    },
    "required": ["data"],
    "additionalProperties": False,
}
_LONGEST_NAME = 255


def input_schema(spec: OperationSpec) -> dict[str, Json]:
    """That of `spec.params`, as the schema of an object. `stream` is not in it: events come as progress, to whoever
    asks for that. A file is its bytes: a client has no attachments to name."""
    schema: Any = _with_files(spec.params) if isinstance(spec.params, dict) else {}
    found = {**schema, "type": "object"}
    properties = found.get("properties")
    if spec.stream and isinstance(properties, dict):
        found["properties"] = {name: one for name, one in properties.items() if name != "stream"}
        if isinstance(required := found.get("required"), list):
            found["required"] = [name for name in required if name != "stream"]
    return found


def document_schema(schema: Json) -> dict[str, Json]:
    """Of a whole input."""
    found: dict[str, Json] = {**schema, "type": "object"} if isinstance(schema, dict) else {"type": "object"}
    return found


def with_attachments(
    spec: OperationSpec | None, params: Mapping[str, Json]
) -> tuple[Mapping[str, Json], dict[str, Attachment]]:
    """`params` with each file that is given as its bytes as an attachment, which stays with the host: for an operation
    that sends a form. Raises InputError."""
    if spec is None or spec.request != "multipart":
        return params, {}
    attachments: dict[str, Attachment] = {}

    def taken_out(value: Json, path: str) -> Json:
        match value:
            case {"data": str(data)} if value.keys() <= {"data", "filename", "content_type"}:
                ident = f"file{len(attachments)}"
                attachments[ident] = _attachment(data, value, path)
                return {"$attachment": ident}
            case list():
                return [taken_out(one, f"{path}[{index}]") for index, one in enumerate(value)]
        return value

    return {name: taken_out(value, f"params.{name}") for name, value in params.items()}, attachments


def _attachment(data: str, more: Mapping[str, Json], path: str) -> Attachment:
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{path}.data is not base64", field=f"{path}.data") from None
    return Attachment(content, _plain(more.get("filename")), _plain(more.get("content_type")))


def _plain(value: Json) -> str:
    """A name that can stand in a header of the request that goes on."""
    return "".join(char for char in value if char.isprintable())[:_LONGEST_NAME] if isinstance(value, str) else ""


def _with_files(schema: Json) -> Json:
    """The schema, in which what may name an attachment is a file."""
    match schema:
        case {"properties": {"$attachment": _}}:
            return _FILE
        case dict():
            return {name: _with_files(one) for name, one in schema.items()}
        case list():
            return [_with_files(one) for one in schema]
    return schema
