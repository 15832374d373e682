"""Operations as rows of a table: each row declares an endpoint, and checks and prepares its requests."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from difflib import get_close_matches
from json import loads
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
_RANGE = "range"  # of an attachment: where the part of it begins and ends


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
    the answer. `headers` are the operation's own, and say what the body is where `http.request` cannot tell. `answers`
    is how many were asked for. `secret` is the name of the secret to send, where it is not the usual one.
    """

    method: str
    target: str
    content: dict[str, Any]
    answer: str
    stream: bool
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    answers: int = 1
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One row.

    `name`: the operation. `aliases`: other names for it, separated by blanks. `path`: a template such as
    `/files/{file_id}`, in which slashes stay where it says `{+name}`; it may end in a query that is always sent.
    `params`: the parameters to check (see Parameter); those in the path are texts if it does not say more; others pass
    unchecked. `query`: the parameters for the URL; without a body, all are. `headers`: what is always sent, by name,
    or `{"param": name}` for a parameter's value. `parts`: the media types of parameters in a form or a raw body.
    `without_files`: "json" if a form without files is sent as JSON. `secret`: the name of the secret to send.
    `renamed`: other spellings of parameters, `{spelling: name}`. `plain`: the values of the parameter
    `response_format` with a text answer in place of JSON.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    name: str
    path: str
    _: KW_ONLY
    request: Literal["none", "json", "multipart", "raw"] = "none"
    response: Literal["json", "binary", "text", "empty"] = "json"
    stream: bool | Literal["always"] = False
    params: str = ""
    query: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    without_files: str = ""
    secret: str = ""
    plain: str = ""
    aliases: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    _parameters: tuple[Parameter, ...] = field(init=False, repr=False)
    _in_path: tuple[str, ...] = field(init=False, repr=False)
    _in_query: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__  # for a frozen dataclass; parses the columns once and not for each call
        in_path = tuple(name.removeprefix("+") for _, name, _, _ in Formatter().parse(self.path) if name)
        listed = tuple(map(Parameter.parse, self.params.split()))
        typed = {one.name for one in listed}
        put(self, "_in_path", in_path)
        put(
            self, "_parameters", (*(Parameter(name, False, ("str",)) for name in in_path if name not in typed), *listed)
        )
        put(self, "_in_query", frozenset(self.query.split()))

    def prepare(
        self, params: Mapping[str, Any], *, stream: bool = False, query: str = "", body: dict[str, str] | None = None
    ) -> Prepared:
        """Returns the request for `params`. A parameter `stream` of an operation that streams also turns that on.
        `query` is added to the query as it is; `body` is the JSON body, of which `params` show the beginning. See Call.

        Raises Invalid for the first parameter that is missing or wrong.
        """
        given = {self.renamed.get(name, name): value for name, value in params.items()}
        stream = self._streams(given, query, wanted=stream)
        parts = given.pop("multipart") if self.request == "multipart" and _are_parts(given.get("multipart")) else None
        named = given if parts is None else {**_named(parts), **given}
        for parameter in self._parameters:
            if not query or self.request != "none" or parameter.name in self._in_path:
                parameter.check(named)
        answer = "text" if named.get("response_format") in self.plain.split() else self.response

        answers = _number_of_answers(named.get("n"))
        target = http.path(self.path, **{name: given.pop(name) for name in self._in_path})
        headers = dict(self._headers(given))
        in_query = {name: given.pop(name) for name in list(given) if self.request == "none" or name in self._in_query}
        for text in (http.query(in_query)[1:], query):
            if text:
                target += ("&" if "?" in target else "?") + text
        if self.request == "json" and body is not None:
            headers, content = {**_JSON, **headers}, {"body": body}
        else:
            content, more = self._content(given, parts)
            headers.update(more)
        return Prepared(self.method, target, content, answer, stream, headers, answers, self.secret)

    def _streams(self, given: dict[str, Any], query: str, *, wanted: bool) -> bool:
        """Whether events are asked for; the request then says so as well. `stream: false` is sent as it was given."""
        value = given.get("stream")
        if not self.stream:
            if wanted or value is True:
                raise Invalid("stream", f"{self.name} cannot stream")
            return False
        if self.stream == "always":
            return True
        if value in ("true", "false") and self.request in ("none", "multipart"):
            value = value == "true"
        if value is not None and not isinstance(value, bool):
            raise Invalid("stream", "stream must be true or false")
        if (wanted or value) and (self.request != "none" or not _STREAM.search(query)):
            given["stream"] = True
        return wanted or bool(value)

    def _headers(self, given: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Yields the operation's own headers, and takes those out of `given` that are parameters."""
        for name, value in self.headers.items():
            if isinstance(value, str):
                yield name, value
                continue
            parameter = value["param"]
            told = given.pop(parameter, None)
            texts = told if isinstance(told, list) else [told]
            if told is not None and not all(isinstance(text, str) for text in texts):
                raise Invalid(parameter, f"{parameter} must be a string, or an array of strings")
            if told:
                yield name, ",".join(texts)

    def _content(
        self, given: dict[str, Any], parts: list[dict[str, Any]] | None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The arguments of `http.request` for the body, and the headers that say what it is."""
        if self.request == "none":
            return {}, {}
        if self.request == "raw" and list(given) == list(self.parts)[:1]:
            [(name, content_type), *_] = self.parts.items()
            if not isinstance(given[name], str):
                raise Invalid(name, f"{name} must be a string")
            return {"body": given[name]}, {"Content-Type": content_type}
        if self.request == "json" or (self.without_files and parts is None and not any(map(_has_file, given.values()))):
            return {"json": given}, {}
        return {"multipart": [*(parts or ()), *form(given, self.parts)]}, {}


class Table:
    """Operations by name and alias: `operations` are rows; `declared` are those of `declared_operations`, of which a
    row is parsed when it is asked for: a run needs one of hundreds."""

    def __init__(self, operations: Iterable[Operation] = (), declared: Mapping[str, str] | None = None) -> None:
        self._rows: dict[str, Operation] = {}
        self._declared = declared or {}
        for operation in operations:
            for name in (operation.name, *operation.aliases.split()):
                if name in self._rows or name in self._declared:
                    raise ValueError(f"two operations are called {name}")
                self._rows[name] = operation

    @property
    def names(self) -> list[str]:
        return sorted([*self._rows, *self._declared])

    def __contains__(self, name: str) -> bool:
        return name in self._rows or name in self._declared

    def find(self, name: str) -> Operation:
        """Raises Invalid for an unknown name, with the nearest names."""
        if (operation := self._rows.get(name)) is not None:
            return operation
        if (row := self._declared.get(name)) is not None:
            return Operation(**loads(row if row.startswith("{") else self._declared[row]))
        near = get_close_matches(name[:100], self.names, n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise Invalid("operation", f"unknown operation {name[:100]!r}{hint}")


def _is(kind: str, value: Any) -> bool:
    if kind == "file":
        return _is_file(value)
    return isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))


def _is_file(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() - {_RANGE} <= _FILE_KEYS:
        return False
    one_source = ("$attachment" in value) != ("data" in value)
    return one_source and all(isinstance(text, str) for name, text in value.items() if name != _RANGE)


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


def form(params: Mapping[str, Any], types: Mapping[str, str] = {}) -> Iterator[dict[str, Any]]:
    """Yields the parts of a form in the order of the official SDK: first fields as in `http.fields`, those of one name
    together, then files, and of several in one parameter each as `name[]`; then what has a media type in `types`."""
    fields: dict[str, list[str]] = {}
    files: list[dict[str, Any]] = []
    typed: list[dict[str, Any]] = []
    for name, value in params.items():
        if _is_file(value):
            files.append(_file_part(name, value))
        elif isinstance(value, list) and any(map(_is_file, value)):
            files += [one for item in value for one in form({f"{name}[]": item})]
        elif name in types:
            text = http.serialised(value) if types[name] == _JSON["Content-Type"] else value
            typed.append({"name": name, "value": text, "content_type": types[name]})
        else:
            for key, text in http.fields({name: value}):
                fields.setdefault(key, []).append(text)
    yield from ({"name": name, "value": text} for name, texts in fields.items() for text in texts)
    yield from files
    yield from typed


def _has_file(value: Any) -> bool:
    return _is_file(value) or (isinstance(value, list) and any(map(_is_file, value)))


def _file_part(name: str, value: dict[str, Any]) -> dict[str, Any]:
    """The default filename is `upload`, as in the official SDK: a part without a filename would be a plain field."""
    part = {"name": name, "filename": "upload", **value}
    if "$attachment" in part:
        part["attachment"] = part.pop("$attachment")
    return part
