"""What a handler gets: the request, the parameters in its path, and the state of the fake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from host.fakes import multipart
from host.fakes.messages import Request, Response
from host.fakes.openai import errors
from host.fakes.openai.params import Params

MAX_RESPONSES = 10_000


@dataclass(frozen=True)
class Turn:
    """A response that was kept, the items it was asked with, and those with the whole conversation before them."""

    response: dict[str, Any]
    asked: list[dict[str, Any]]
    conversation: list[dict[str, Any]]


@dataclass
class Store:
    """What outlives a request. `next_number` is for the identifiers that two equal requests must not share."""

    files: dict[str, tuple[dict[str, Any], bytes]] = field(default_factory=dict)  # by id: the file object, the content
    turns: dict[str, Turn] = field(default_factory=dict)  # by response id, the newest MAX_RESPONSES
    numbers: int = 0

    def next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def keep(self, turn: Turn) -> None:
        self.turns[turn.response["id"]] = turn
        if len(self.turns) > MAX_RESPONSES:
            del self.turns[next(iter(self.turns))]


@dataclass(frozen=True)
class Call:
    request: Request
    store: Store
    path: dict[str, str] = field(default_factory=dict)

    @cached_property
    def params(self) -> Params:
        """Those of the JSON body."""
        return Params.from_json(self.request.body)

    @cached_property
    def query(self) -> Params:
        return Params(self.request.arguments, textual=True)

    @cached_property
    def form(self) -> Form:
        return Form.read(self.request)


@dataclass(frozen=True)
class Form:
    """A multipart body: its plain fields as parameters (`name[]` as an array), and its files by name."""

    params: Params
    files: dict[str, multipart.Part]

    @classmethod
    def read(cls, request: Request) -> Form:
        try:
            parts = multipart.parse(request.body, request.headers.get("content-type", ""))
        except multipart.MultipartError as error:
            raise errors.ApiError(400, f"Could not parse multipart form: {error}.") from error
        values: dict[str, Any] = {}
        for part in (part for part in parts if part.filename is None):
            text = part.content.decode("utf-8", "replace")
            if part.name.endswith("[]"):
                values.setdefault(part.name.removesuffix("[]"), []).append(text)
            else:
                values[part.name] = text
        return cls(Params(values, textual=True), {part.name: part for part in parts if part.filename is not None})

    def file(self, name: str) -> multipart.Part:
        if name not in self.files:
            raise errors.missing(name)
        return self.files[name]


Handler = Callable[[Call], Response]
