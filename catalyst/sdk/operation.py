"""Operations as rows of a table: each row declares an endpoint, and checks and prepares its requests."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from difflib import get_close_matches
from string import Formatter
from typing import Any, Literal, NamedTuple

from catalyst.sdk import http
from catalyst.sdk.errors import Invalid

_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "number": (int, float),
    "bool": bool,
    "list": list,
    "object": dict,
}
_WORDS = {
    "str": "a string",
    "int": "an integer",
    "number": "a number",
    "bool": "true or false",
    "list": "an array",
    "object": "an object",
    "file": 'a file: {"$attachment": id} or {"data": base64}',
}
_JSON = {"Content-Type": "application/json"}
_STREAM = re.compile(r"(?:^|&)stream=")
_FILE_KEYS = frozenset({"$attachment", "data", "filename", "content_type"})


class Parameter(NamedTuple):
    """One parameter of `"model:str prompt:str|list mask?:file"`: its name, `?` if it is optional, its types."""

    name: str
    optional: bool
    types: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Parameter":
        name, _, listed = text.partition(":")
        types = tuple(listed.split("|"))
        if not _WORDS.keys() >= set(types):
            raise ValueError(f"{text!r} names an unknown type")
        return cls(name.removesuffix("?"), name.endswith("?"), types)

    def check(self, params: Mapping[str, Any]) -> None:
        """Raises Invalid if the parameter is missing or null, or of another type."""
        value = params.get(self.name)
        if value is None:
            if not self.optional:
                raise Invalid(self.name, f"{self.name} is required")
        elif not any(_is(kind, value) for kind in self.types):
            raise Invalid(self.name, f"{self.name} must be {' or '.join(_WORDS[kind] for kind in self.types)}")


class Prepared(NamedTuple):
    """A checked request.

    `target` is path and query, `content` the keyword arguments of `http.request` for the body, `answer` the kind of
    the answer. `headers` say what the body is, where `http.request` cannot tell. `answers` is how many were asked for.
    """

    method: str
    target: str
    content: dict[str, Any]
    answer: str
    stream: bool
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    answers: int = 1


@dataclass(frozen=True, slots=True)
class Operation:
    """One row.

    `name`: the operation. `aliases`: other names for it, separated by blanks. `path`: a template such as
    `/files/{file_id}`. `params`: the parameters to check (see Parameter) besides those in the path; others pass
    unchecked. `query`: the parameters for the URL; without a body, all are. `renamed`: other spellings of parameters,
    `{spelling: name}`. `plain`: the values of the parameter `response_format` with a text answer in place of JSON.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    name: str
    path: str
    _: KW_ONLY
    request: Literal["none", "json", "multipart"] = "none"
    response: Literal["json", "binary", "text"] = "json"
    stream: bool = False
    params: str = ""
    query: str = ""
    plain: str = ""
    aliases: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    _parameters: tuple[Parameter, ...] = field(init=False, repr=False)
    _in_path: tuple[str, ...] = field(init=False, repr=False)
    _in_query: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__  # for a frozen dataclass; parses the columns once and not for each call
        in_path = tuple(name for _, name, _, _ in Formatter().parse(self.path) if name)
        columns = (*(f"{name}:str" for name in in_path), *self.params.split())
        put(self, "_in_path", in_path)
        put(self, "_parameters", tuple(map(Parameter.parse, columns)))
        put(self, "_in_query", frozenset(self.query.split()))

    def prepare(
        self, params: Mapping[str, Any], *, stream: bool = False, query: str = "", body: dict[str, str] | None = None
    ) -> Prepared:
        """Returns the request for `params`. A parameter `stream` of an operation that streams also turns that on.
        `query` is added to the query as it is; `body` is the JSON body, of which `params` show the beginning. See Call.

        Raises Invalid for the first parameter that is missing or wrong.
        """
        given = {self.renamed.get(name, name): value for name, value in params.items()}
        if self.stream:
            stream = self._streams(given.pop("stream", None)) or stream
            if stream and (self.request != "none" or not _STREAM.search(query)):
                given["stream"] = True
        elif stream or given.get("stream") is True:
            raise Invalid("stream", f"{self.name} cannot stream")
        parts = given.pop("multipart") if self.request == "multipart" and _are_parts(given.get("multipart")) else None
        named = given if parts is None else {**_named(parts), **given}
        for parameter in self._parameters:
            if not query or self.request != "none" or parameter.name in self._in_path:
                parameter.check(named)
        answer = "text" if named.get("response_format") in self.plain.split() else self.response

        answers = _number_of_answers(named.get("n"))
        in_path = {name: given.pop(name) for name in self._in_path}
        in_query = {name: given.pop(name) for name in list(given) if self.request == "none" or name in self._in_query}
        target = http.path(self.path, **in_path) + http.query(in_query)
        if query:
            target += ("&" if in_query else "?") + query
        if self.request == "json" and body is not None:
            return Prepared(self.method, target, {"body": body}, answer, stream, _JSON, answers)
        if self.request == "json":
            content: dict[str, Any] = {"json": given}
        elif self.request == "multipart":
            content = {"multipart": [*(parts or ()), *_parts(given)]}
        else:
            content = {}
        return Prepared(self.method, target, content, answer, stream, answers=answers)

    def _streams(self, value: Any) -> bool:
        if value is not None and not isinstance(value, bool):
            raise Invalid("stream", "stream must be true or false")
        return bool(value)


class Table:
    """Operations by name and alias."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._rows: dict[str, Operation] = {}
        for operation in operations:
            for name in (operation.name, *operation.aliases.split()):
                if name in self._rows:
                    raise ValueError(f"two operations are called {name}")
                self._rows[name] = operation

    @property
    def names(self) -> list[str]:
        return sorted(self._rows)

    def find(self, name: str) -> Operation:
        """Raises Invalid for an unknown name, with the nearest names."""
        if (operation := self._rows.get(name)) is not None:
            return operation
        near = get_close_matches(name[:100], self._rows, n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise Invalid("operation", f"unknown operation {name[:100]!r}{hint}")


def _is(kind: str, value: Any) -> bool:
    if kind == "file":
        return _is_file(value)
    return isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))


def _is_file(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() <= _FILE_KEYS:
        return False
    one_source = ("$attachment" in value) != ("data" in value)
    return one_source and all(isinstance(text, str) for text in value.values())


def _number_of_answers(given: Any) -> int:
    """By the parameter `n`, which is a text in a form."""
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 10:
        given = int(given)
    return int(given) if isinstance(given, int | float) and 1 < given < 1e9 else 1


def _are_parts(value: Any) -> bool:
    """Whether `value` is a form that the caller made ready, and no field that is called `multipart`."""
    return isinstance(value, list) and all(isinstance(part, dict) and not _is_file(part) for part in value)


def _named(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the caller's own multipart parts as parameters by name, for the checks."""
    named: dict[str, Any] = {}
    for index, part in enumerate(parts):
        if not isinstance(part.get("name"), str):
            raise Invalid("multipart", f"multipart[{index}] must be an object with a name")
        name = part["name"].removesuffix("[]")
        if "value" in part:
            named[name] = part["value"]
        elif "data" in part:
            named[name] = {"data": part["data"]}
        else:
            named[name] = {"$attachment": part.get("attachment")}
    return named


def _parts(params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields multipart parts for parameters: files, lists of files as `name[]`, everything else as in `http.fields`."""
    for name, value in params.items():
        if _is_file(value):
            yield _file_part(name, value)
        elif isinstance(value, list) and any(map(_is_file, value)):
            for item in value:
                yield from _parts({f"{name}[]": item})
        else:
            yield from ({"name": key, "value": text} for key, text in http.fields({name: value}))


def _file_part(name: str, value: dict[str, Any]) -> dict[str, Any]:
    """The default filename is `upload`, as in the official SDK: a part without a filename would be a plain field."""
    part = {"name": name, "filename": "upload", **value}
    if "$attachment" in part:
        part["attachment"] = part.pop("$attachment")
    return part
