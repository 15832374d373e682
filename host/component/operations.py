"""The operations that a manifest declares: their names, HTTP routes and parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from host.core.fields import FieldReader
from host.core.headers import forwarded_header
from host.core.strict_json import Json
from host.errors import InputError, ManifestError

RouteMethod: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
RequestKind: TypeAlias = Literal["none", "json", "multipart"]
ResponseKind: TypeAlias = Literal["json", "binary", "text"]

MAX_OPERATIONS: Final = 2_000
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")
_PATH = re.compile(r"(/(?!\.{1,2}(/|\Z))([A-Za-z0-9_.:-]+|\{[A-Za-z_][A-Za-z0-9_]*\}))+\Z")  # no dot segments
_PLACE = re.compile(r"\{\w+\}")
_LONGEST = 200
_METHODS: Final[tuple[RouteMethod, ...]] = get_args(RouteMethod)
_REQUESTS: Final[tuple[RequestKind, ...]] = get_args(RequestKind)
_RESPONSES: Final[tuple[ResponseKind, ...]] = get_args(ResponseKind)


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """One of a manifest's `operations`.

    `method` and `path` are its route below an API's base, such as `POST /chat/completions` or `GET /models/{model}`;
    both are empty for an operation without a route. `request` is the place of the parameters that are not in the path:
    for `none` the query. `response` is the form of the answer. `stream` is whether callers may ask for events. `params`
    is the JSON Schema of the operation's `params`; `aliases` are other names.
    """

    name: str
    description: str = ""
    method: str = ""
    path: str = ""
    request: RequestKind = "none"
    response: ResponseKind = "json"
    stream: bool = False
    params: Json = True
    aliases: tuple[str, ...] = ()
    in_path: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Passes:
    """The parts of a caller's request that a catalyst sends on as they came: keys of its input, beside `params`.

    `query`: the text of the query, added to what the operation itself puts there. `body`: the text of a JSON body, an
    attachment; `params` are brief then: lists and objects in them are empty, long texts cut. `headers`: names of
    headers, in lower case, to which a policy may add; None: the catalyst knows of none.
    """

    query: bool = False
    body: bool = False
    headers: tuple[str, ...] | None = None


def read_passes(fields: FieldReader) -> Passes:
    """Raises ManifestError, which names the field, also for a header that no caller's request may set."""
    names: list[str] = []
    for at, name in enumerate(fields.texts("headers") if "headers" in fields else ()):
        try:
            names.append(forwarded_header(name))
        except InputError as error:
            raise fields.error(f"headers[{at}]", f"is not acceptable: {error.message}") from None
    headers = tuple(dict.fromkeys(names)) if "headers" in fields else None
    return Passes(fields.flag("query", default=False), fields.flag("body", default=False), headers)


def read_operations(given: Json) -> Mapping[str, OperationSpec]:
    """The operations by name, in the manifest's order. No two share a name, an alias or a route. Raises
    ManifestError."""
    fields = FieldReader(given, error=malformed, at="operations")
    if len(fields.given) > MAX_OPERATIONS:
        raise ManifestError(f"the manifest: operations are more than {MAX_OPERATIONS}")
    found = {name: _read(name, one) for name, one in fields.tables()}
    names = set(found)
    routes: dict[str, str] = {}
    for one in found.values():
        for alias in one.aliases:
            if alias in names:
                raise malformed(f"operations.{one.name}.aliases:", f"{alias} is taken already")
            names.add(alias)
        route = f"{one.method} {_PLACE.sub('{}', one.path)}"
        if one.path and (other := routes.setdefault(route, one.name)) != one.name:
            raise malformed(f"operations.{one.name}.path:", f"{one.method} {one.path} is operations.{other} already")
    return found


def _read(name: str, fields: FieldReader) -> OperationSpec:
    """The operation from the fields that the manifest has under `name`. Fields that this host does not know are passed
    over. Raises ManifestError, which names the field."""
    if not _is_name(name):
        raise malformed(fields.at, "is no name of an operation: words with dots between them")
    method, path = fields.choice("method", _METHODS, default=""), fields.text("path", default="")
    in_path = tuple(part[1:-1] for part in path.split("/") if part.startswith("{"))
    if path and (len(path) > _LONGEST or not _PATH.match(path) or len(set(in_path)) < len(in_path)):
        raise fields.error("path", "is no path like /models/{model}")
    if bool(method) != bool(path):
        raise fields.error("path" if method else "method", "is missing: a route has both")
    aliases = fields.of_kind("aliases", list, "a list of names", default=[])
    if not all(isinstance(one, str) and _is_name(one) for one in aliases):
        raise fields.error("aliases", "is not a list of names")
    return OperationSpec(
        name=name,
        description=fields.text("description", default=""),
        method=method,
        path=path,
        request=fields.choice("request", _REQUESTS, default="none"),
        response=fields.choice("response", _RESPONSES, default="json"),
        stream=fields.flag("stream", default=False),
        params=fields.of_kind("params", (dict, bool), "a schema: an object, true or false", default=True),
        aliases=tuple(aliases),
        in_path=in_path,
    )


def malformed(at: str, problem: str) -> ManifestError:
    """The error for a problem of the manifest's field at the path `at`."""
    return ManifestError(f"the manifest: {at} {problem}")


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST and bool(_NAME.match(text))
