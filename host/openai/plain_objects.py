"""What answers are where the official SDK is not installed: objects with the fields of the document."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from host.core.strict_json import Json, write_json


class Plain:
    """A JSON object: its fields are attributes, of which one that it lacks is None. `to_dict` and `model_dump` have the
    document itself."""

    def __init__(self, document: Mapping[str, Json]) -> None:
        vars(self)["_document"] = document

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        document = vars(self)["_document"]
        if name == "output_text" and document.get("object") == "response":
            return "".join(_texts(document))
        return plain(document.get(name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(vars(self)['_document'])!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and other.to_dict() == self.to_dict()

    __hash__ = None  # type: ignore[assignment]  # as of any mapping

    def to_dict(self) -> dict[str, Json]:
        return dict(vars(self)["_document"])

    model_dump = to_dict

    def to_json(self) -> str:
        return write_json(self.to_dict())

    model_dump_json = to_json


class PlainListing(Plain):
    """An object with a list of others as its `data`."""


class PlainBytes:
    """A binary answer."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")

    def read(self) -> bytes:
        return self.content

    async def aread(self) -> bytes:
        return self.content

    def iter_bytes(self, chunk_size: int = 64 * 1024) -> Iterator[bytes]:
        return (self.content[at : at + chunk_size] for at in range(0, len(self.content), chunk_size))

    def write_to_file(self, file: str | os.PathLike[str]) -> None:
        Path(file).write_bytes(self.content)


def plain(value: Json) -> Any:
    """`value`, with an object in place of each mapping in it."""
    if isinstance(value, dict):
        return (PlainListing if isinstance(value.get("data"), list) else Plain)(value)
    return [plain(one) for one in value] if isinstance(value, list) else value


def unplain(value: Any) -> Any:
    """`value`, with the document in place of each object that `plain` made, however deep in it: what is sent may have
    parts of an answer."""
    match value:
        case Plain():
            return value.to_dict()
        case Mapping():
            return {name: unplain(one) for name, one in value.items()}
        case list() | tuple():
            return [unplain(one) for one in value]
    return value


def _texts(response: Mapping[str, Any]) -> Iterator[str]:
    """The texts in the messages of a response, as the SDK joins them."""
    for item in response.get("output") or ():
        if item.get("type") == "message":
            yield from (part["text"] for part in item["content"] if part.get("type") == "output_text")
