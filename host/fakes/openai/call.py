"""The call that a handler gets: the request, its parameters, and the state of the fake.

Every reader of Params takes a name, treats null as absent, and raises ApiError (400, with `param` and `code`) for a
value that OpenAI would refuse.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn, TypeVar

from host.fakes.messages import FakeRequest, FakeResponse, MultipartError, Part, parse_multipart
from host.fakes.openai import errors
from host.fakes.openai.specification import ApiOperation
from host.fakes.openai.store import Store

T = TypeVar("T")

_MAX_RESPONSES = 10_000
_UNREADABLE = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
)


@dataclass
class StoredResponse:
    """A response of `/v1/responses` in the state. `input` are its own items, `conversation` all items up to it.

    `before` are the statuses that it still goes through in the background: the first is the one that it has.
    """

    response: dict[str, Any]  # as it is in the end
    input: list[dict[str, Any]]
    conversation: list[dict[str, Any]]
    before: list[str] = field(default_factory=list)


@dataclass
class RealtimeState:
    """What outlives a connection. `client_secrets` have the session that each was made for, by its value. `calls` have
    their status, by id, and `live` the settings of live sessions."""

    client_secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    live: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class FakeState:
    """The state that outlives a request. `next_number` makes the identifiers of equal requests differ."""

    objects: Store = field(default_factory=Store)
    responses: dict[str, StoredResponse] = field(default_factory=dict)  # by id, the newest 10,000
    realtime: RealtimeState = field(default_factory=RealtimeState)

    def next_number(self) -> int:
        return self.objects.next_number()

    def keep(self, stored: StoredResponse) -> None:
        self.responses[stored.response["id"]] = stored
        if len(self.responses) > _MAX_RESPONSES:
            del self.responses[next(iter(self.responses))]


@dataclass(frozen=True)
class ApiCall:
    """One request, with the parameters in its path and its operation. `api` answers other requests as part of it."""

    request: FakeRequest
    state: FakeState
    path: dict[str, str] = field(default_factory=dict)
    operation: ApiOperation | None = None
    api: Callable[[FakeRequest], FakeResponse] | None = None

    @property
    def store(self) -> Store:
        return self.state.objects

    @cached_property
    def params(self) -> Params:
        """The parameters of the JSON body."""
        return Params.from_json(self.request.body)

    @cached_property
    def query(self) -> Params:
        return Params(self.request.arguments, textual=True)

    @cached_property
    def form(self) -> Form:
        return Form.of(self.request)

    @property
    def is_form(self) -> bool:
        return self.request.headers.get("content-type", "").lower().startswith("multipart/")

    @property
    def files(self) -> dict[str, Part]:
        """The files of a form by name; none of a body in JSON."""
        return {name.removesuffix("[]"): part for name, part in self.form.files.items()} if self.is_form else {}


Handler = Callable[[ApiCall], FakeResponse]
EndpointTable = Mapping[str, Mapping[str, Handler]]  # by path, with {names} for parameters, and by method


@dataclass(frozen=True)
class Form:
    """A multipart body: its plain fields as parameters (`name[]` as an array), and its files by name."""

    params: Params
    files: dict[str, Part]
    parts: list[Part]

    @classmethod
    def of(cls, request: FakeRequest) -> Form:
        try:
            parts = parse_multipart(request.body, request.headers.get("content-type", ""))
        except MultipartError as error:
            raise errors.ApiError(400, f"Could not parse multipart form: {error}.") from error
        values: dict[str, Any] = {}
        for part in (part for part in parts if part.filename is None):
            text = part.content.decode("utf-8", "replace")
            if part.name.endswith("[]"):
                values.setdefault(part.name.removesuffix("[]"), []).append(text)
            else:
                values[part.name] = text
        files = [part for part in parts if part.filename is not None]
        return cls(Params(values, textual=True), {part.name: part for part in files}, files)

    def file(self, name: str) -> Part:
        if name not in self.files:
            raise errors.missing(name)
        return self.files[name]


class Params:
    """Parameters by name. `textual` ones come from a form or a query, with numbers and booleans as text."""

    def __init__(self, values: Mapping[str, Any], *, textual: bool = False) -> None:
        self._values = values
        self._textual = textual

    @classmethod
    def from_json(cls, body: bytes) -> Params:
        try:
            values = json.loads(body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise errors.ApiError(400, _UNREADABLE) from error
        if not isinstance(values, dict):
            raise errors.ApiError(400, _UNREADABLE)
        return cls(values)

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def raw(self, name: str) -> Any:
        return self._values.get(name)

    def all(self) -> dict[str, Any]:
        """Every parameter that is given."""
        return {name: value for name, value in self._values.items() if value is not None}

    def typed(self, types: Mapping[str, str]) -> Params:
        """Textual parameters as values of `types` (what is expected: the names), with `a[b]` as what is within `a`.

        A value that is no text of its type stays as it is, for a check to refuse.
        """
        expected = {name: words for words, names in types.items() for name in names.split()}
        values: dict[str, Any] = {}
        for name, value in self._values.items():
            key, bracket, inner = name.partition("[")
            if bracket:
                within = values.setdefault(key, {})
                if isinstance(within, dict):
                    within[inner.rstrip("]")] = _value_of_text(value, "an integer")
            else:
                values[name] = _value_of_text(value, expected.get(name, "a string"))
        return Params(values)

    def required(self, name: str) -> Any:
        if name not in self:
            raise errors.missing(name)
        return self._values[name]

    def required_text(self, name: str) -> str:
        self.required(name)
        return self.text(name, "")

    def text(self, name: str, default: T) -> str | T:
        value: str | T = self._typed(name, str, "a string", default)
        return value

    def flag(self, name: str) -> bool:
        """False if it is absent."""
        value = self.raw(name)
        if self._textual and value in {"true", "false"}:
            return bool(value == "true")
        flag: bool = self._typed(name, bool, "a boolean", False)
        return flag

    def integer(self, name: str, default: T, *, low: int = 1, high: int | None = None) -> int | T:
        value = self.raw(name)
        if self._textual and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise errors.wrong_type(name, "an integer", value)
        if value < low:
            raise errors.outside(name, value, low, above=False, kind="integer")
        if high is not None and value > high:
            raise errors.outside(name, value, high, above=True, kind="integer")
        return value

    def check_number(self, name: str, low: float, high: float) -> None:
        """Validates a number without another effect, such as `temperature`."""
        value = self.raw(name)
        if self._textual and isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise errors.wrong_type(name, "a decimal number", value) from None
        if value is None:
            return
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise errors.wrong_type(name, "a decimal number", value)
        if not low <= value <= high:
            above = not value < low
            raise errors.outside(name, value, high if above else low, above=above, kind="decimal")

    def choice(self, name: str, supported: tuple[str, ...], default: str) -> str:
        value = self.text(name, default)
        if value not in supported:
            raise errors.unsupported(name, value, supported)
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Empty if it is absent."""
        value: dict[str, Any] = self._typed(name, dict, "an object", {})
        return value

    def objects(self, name: str) -> list[dict[str, Any]]:
        """An array of objects, empty if it is absent."""
        values: list[Any] = self._typed(name, list, "an array of objects", [])
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                raise errors.wrong_type(f"{name}[{index}]", "an object", value)
        return values

    def texts(self, name: str, *, at_most: int) -> list[str]:
        """A string or an array of strings; empty if it is absent."""
        value = self.raw(name)
        values = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
            raise errors.wrong_type(name, "a string or an array of strings", value)
        if len(values) > at_most:
            raise errors.wrong_value(name, f"array too long. Expected at most {at_most} items, but got {len(values)}.")
        return values

    def _typed(self, name: str, kind: type[Any], expected: str, default: Any) -> Any:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise errors.wrong_type(name, expected, value)
        return value


def _value_of_text(text: Any, expected: str) -> Any:
    if not isinstance(text, str) or "a string" in expected.split(" or "):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, str) else value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
