"""The operations that a manifest declares: their names, HTTP routes and parameters.

A component may have hundreds of them. Their schemas are long, and a run needs one of them at most, so they may stand in
a section of their own (`host.component.operation_schemas`): `OperationSpec.params` reads one when it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from host.component.operation_schemas import OperationSchemas, malformed, names_of
from host.core.fields import FieldReader
from host.core.headers import forwarded_header
from host.core.names import SecretName
from host.core.strict_json import Json
from host.errors import InputError, ManifestError

RouteMethod: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
RequestKind: TypeAlias = Literal["none", "json", "multipart", "raw"]
ResponseKind: TypeAlias = Literal["json", "binary", "text", "empty"]

MAX_OPERATIONS: Final = 2_000
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")
_PATH = re.compile(
    r"(/(?!\.{1,2}(/|\Z))([A-Za-z0-9_.:-]+|\{\+?[A-Za-z_][A-Za-z0-9_]*\}))+"  # no dot segments
    r"(\?[A-Za-z0-9_]+=[A-Za-z0-9_.-]*(&[A-Za-z0-9_]+=[A-Za-z0-9_.-]*)*)?\Z"
)
_PLACE = re.compile(r"\{\+?(\w+)\}")
_LONGEST = 200
_ALWAYS: Final = "always"
_METHODS: Final[tuple[RouteMethod, ...]] = get_args(RouteMethod)
_REQUESTS: Final[tuple[RequestKind, ...]] = get_args(RequestKind)
_RESPONSES: Final[tuple[ResponseKind, ...]] = get_args(ResponseKind)


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """One of a manifest's `operations`.

    `method` and `path` are its route below an API's base, such as `POST /chat/completions` or `GET /models/{model}`;
    both are empty for an operation without a route. The value of `{+path}` may have slashes. A path may end in a query
    that is always sent. `request` is the place of the parameters that are not in the path, in `query` or in headers
    (`in_headers`): for `none` the query, for `raw` one of them is the body. `parts` has the media types of parameters
    that are a part of a form, or the body. `without_files`: the request of a form that has no file in it. `response` is
    the form of the answer. `stream` is whether callers may ask for events, `always_streams` whether there is nothing
    else. `secret` is the secret that it uses, "" for the manifest's first. `websocket`: it is a connection. `apart`: it
    hands out credentials, or lets others act past this host. `public`: a public key may run it without being told so;
    None where no operation of the manifest says that. `route` is `path` without its query, "" for what no HTTP request
    reaches.

    `parameters` are the names that the schema of `params` lists, None where it lists none. `params` is the schema
    itself, read when it is asked for; `aliases` are other names of the operation.
    """

    name: str
    description: str = ""
    method: str = ""
    path: str = ""
    request: RequestKind = "none"
    response: ResponseKind = "json"
    stream: bool = False
    schema: Json = field(default=True, repr=False)  # or OperationSchemas, which has it
    aliases: tuple[str, ...] = ()
    in_path: tuple[str, ...] = field(default=(), compare=False)
    parameters: tuple[str, ...] | None = field(default=None, compare=False)
    query: tuple[str, ...] = ()
    in_headers: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    without_files: RequestKind | None = None
    secret: str = ""
    always_streams: bool = False
    websocket: bool = False
    apart: bool = False
    public: bool | None = None
    route: str = field(init=False, default="", compare=False)
    is_apart: bool = field(init=False, default=False, compare=False)  # only for keys that name its kind
    outside_body: frozenset[str] = field(
        init=False, default=frozenset(), compare=False
    )  # parameters of a request with one

    def __post_init__(self) -> None:
        object.__setattr__(self, "route", "" if self.websocket else self.path.partition("?")[0])
        object.__setattr__(self, "is_apart", self.apart or bool(self.secret))
        object.__setattr__(self, "outside_body", frozenset((*self.in_path, *self.query, *self.in_headers)))

    @property
    def params(self) -> Json:
        """The JSON Schema of the operation's `params`. Raises ManifestError where it cannot be read."""
        return self.schema.of(self.name) if isinstance(self.schema, OperationSchemas) else self.schema


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


def read_operations(given: Json, schemas: OperationSchemas | None = None) -> Mapping[str, OperationSpec]:
    """The operations by name, in the manifest's order. No two share a name or an alias. `schemas` has those schemas
    that are apart. Raises ManifestError."""
    fields = FieldReader(given, error=malformed, at="operations")
    if len(fields.given) > MAX_OPERATIONS:
        raise ManifestError(f"the manifest: operations are more than {MAX_OPERATIONS}")
    marked = any(isinstance(one, dict) and "public" in one for one in fields.given.values())
    found = {name: _read(name, one, schemas, marked=marked) for name, one in fields.tables()}
    names = set(found)
    routes: dict[str, str] = {}
    for one in found.values():
        for alias in one.aliases:
            if alias in names:
                raise malformed(f"operations.{one.name}.aliases:", f"{alias} is taken already")
            names.add(alias)
        route = f"{one.method} {_PLACE.sub('{}', one.path)}"
        if one.route and (other := routes.setdefault(route, one.name)) != one.name:
            raise malformed(f"operations.{one.name}.path:", f"{one.method} {one.path} is operations.{other} already")
    return found


def routed(operations: Iterable[OperationSpec]) -> Iterator[OperationSpec]:
    """The operations that requests of a server run, one for each route. Of those that differ in the query of their path
    alone it is the one without a query: the request's own query goes on."""
    found: dict[str, OperationSpec] = {}
    for one in operations:
        if one.route:
            at = f"{one.method} {_PLACE.sub('{}', one.route)}"
            if at not in found or "?" not in one.path:
                found[at] = one
    yield from found.values()


def _read(name: str, fields: FieldReader, schemas: OperationSchemas | None, *, marked: bool) -> OperationSpec:
    """The operation from the fields that the manifest has under `name`. Fields that this host does not know are passed
    over. `marked`: some operation of the manifest has the field `public`. Raises ManifestError, which names the
    field."""
    if not _is_name(name):
        raise malformed(fields.at, "is no name of an operation: words with dots between them")
    given = fields.given
    method, path = fields.choice("method", _METHODS, default=""), fields.text("path", default="")
    in_path = tuple(_PLACE.findall(path)) if "{" in path else ()
    wrong = len(path) > _LONGEST or len(set(in_path)) < len(in_path) or path.count("{+") > 1
    if path and (wrong or not _PATH.match(path)):
        raise fields.error("path", "is no path like /models/{model}")
    if bool(method) != bool(path):
        raise fields.error("path" if method else "method", "is missing: a route has both")
    aliases = fields.of_kind("aliases", list, "a list of names", default=[])
    if not all(isinstance(one, str) and _is_name(one) for one in aliases):
        raise fields.error("aliases", "is not a list of names")
    stream = fields.of_kind("stream", (bool, str), 'true, false or "always"', default=False)
    if isinstance(stream, str) and stream != _ALWAYS:
        raise fields.error("stream", f'is true, false or "{_ALWAYS}"')
    schema: Json = True
    parameters: tuple[str, ...] | None = None
    if "params" in given:
        schema = fields.of_kind("params", (dict, bool), "a schema: an object, true or false", default=True)
        parameters = names_of(schema)
    elif "parameters" in given:  # the schema is in the section
        parameters = fields.texts("parameters") if given["parameters"] is not None else None
        schema = schemas if schemas is not None else True
    return OperationSpec(
        name=name,
        description=fields.text("description", default=""),
        method=method,
        path=path,
        request=fields.choice("request", _REQUESTS, default="none"),
        response=fields.choice("response", _RESPONSES, default="json"),
        stream=bool(stream),
        schema=schema,
        aliases=tuple(aliases),
        in_path=in_path,
        parameters=parameters,
        query=fields.texts("query") if "query" in given else (),
        in_headers=_in_headers(fields.table("headers")) if "headers" in given else (),
        parts=_parts(fields.table("parts")) if "parts" in given else {},
        without_files=fields.choice("without_files", _REQUESTS, default="none") if "without_files" in given else None,
        secret=_secret(fields) if "secret" in given else "",
        always_streams=stream == _ALWAYS,
        websocket="websocket" in given and fields.flag("websocket"),
        apart="apart" in given and fields.flag("apart"),
        public=fields.flag("public", default=False) if marked else None,
    )


def _in_headers(fields: FieldReader) -> tuple[str, ...]:
    """The parameters that are sent as headers: `{"OpenAI-Beta": {"param": "betas"}}`. The others are fixed texts."""
    return tuple(fields.table(name).text("param") for name, one in fields.given.items() if not isinstance(one, str))


def _parts(fields: FieldReader) -> Mapping[str, str]:
    return {name: fields.text(name) for name in fields.given}


def _secret(fields: FieldReader) -> str:
    try:
        return str(SecretName.parse(fields.text("secret")))
    except InputError as error:
        raise fields.error("secret", f"is not acceptable: {error.message}") from None


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST and bool(_NAME.match(text))
