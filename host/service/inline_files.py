"""Files that stand among an operation's parameters in base64, for callers that have no other way to send bytes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from host.component.operations import OperationSpec
from host.core.operation import Attachment
from host.core.strict_json import Json
from host.errors import InputError

FIELDS = frozenset({"data", "filename", "content_type"})
_LONGEST_NAME = 255


def taken_out(
    spec: OperationSpec | None, params: Mapping[str, Json]
) -> tuple[Mapping[str, Json], dict[str, Attachment]]:
    """`params` with an attachment in place of each `{"data": base64, "filename", "content_type"}`. Only an operation
    that sends a form has files. Raises InputError."""
    if spec is None or spec.request != "multipart":
        return params, {}
    attachments: dict[str, Attachment] = {}

    def replaced(value: Json, path: str) -> Json:
        match value:
            case {"data": str(data)} if value.keys() <= FIELDS:
                ident = f"file{len(attachments)}"
                attachments[ident] = _attachment(data, value, path)
                return {"$attachment": ident}
            case list():
                return [replaced(one, f"{path}[{index}]") for index, one in enumerate(value)]
        return value

    return {name: replaced(value, f"params.{name}") for name, value in params.items()}, attachments


def _attachment(data: str, more: Mapping[str, Json], path: str) -> Attachment:
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{path}.data is not base64", field=f"{path}.data") from None
    return Attachment(content, _plain(more.get("filename")), _plain(more.get("content_type")))


def _plain(value: Json) -> str:
    """A name that can stand in a header of an HTTP request."""
    return "".join(char for char in value if char.isprintable())[:_LONGEST_NAME] if isinstance(value, str) else ""
