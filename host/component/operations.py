"""The operations that a manifest names: what each is called, which HTTP route it stands for, and what it takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from host.core.strict_json import Json, kind_of
from host.errors import ManifestError

RouteMethod: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
RequestKind: TypeAlias = Literal["none", "json", "multipart"]
ResponseKind: TypeAlias = Literal["json", "binary", "text"]

MAX_OPERATIONS: Final = 2_000
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")
_PATH = re.compile(r"(/(?!\.{1,2}(/|\Z))([A-Za-z0-9_.:-]+|\{[A-Za-z_][A-Za-z0-9_]*\}))+\Z")  # no dot segments
_PLACE = re.compile(r"\{\w+\}")
_LONGEST = 200
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "method": get_args(RouteMethod),
    "request": get_args(RequestKind),
    "response": get_args(ResponseKind),
}


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """One of a manifest's `operations`.

    `method` and `path` are its route below an API's base, such as `POST /chat/completions` or `GET /models/{model}`;
    both empty where it has none. `request` says where the parameters go that are not in the path: of `none` into the
    query; `response` what comes back. `stream` is whether events may be asked for. `params` is the JSON Schema of the
    operation's `params`; `aliases` are other names for it.
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

    @classmethod
    def read(cls, name: str, given: Json, where: str) -> OperationSpec:
        """From what the manifest has under `name`. Fields that this host does not know are passed over. Raises
        ManifestError, which names the field."""
        if not _is_name(name):
            raise ManifestError(f"the manifest: {where} is no name of an operation: words with dots between them")
        if not isinstance(given, dict):
            raise _wrong(where, given, "an object")
        method, path = _choice(given, "method", "", where), _text(given, "path", where)
        in_path = tuple(part[1:-1] for part in path.split("/") if part.startswith("{"))
        if path and (len(path) > _LONGEST or not _PATH.match(path) or len(set(in_path)) < len(in_path)):
            raise ManifestError(f"the manifest: {where}.path is no path like /models/{{model}}")
        if bool(method) != bool(path):
            raise ManifestError(f"the manifest: {where}.{'path' if method else 'method'} is missing: a route has both")
        params = given.get("params", True)
        if not isinstance(params, dict | bool):
            raise _wrong(f"{where}.params", params, "a schema: an object, true or false")
        stream = given.get("stream", False)
        if not isinstance(stream, bool):
            raise _wrong(f"{where}.stream", stream, "true or false")
        aliases = given.get("aliases", [])
        if not isinstance(aliases, list) or not all(isinstance(one, str) and _is_name(one) for one in aliases):
            raise _wrong(f"{where}.aliases", aliases, "a list of names")
        return cls(
            name=name,
            description=_text(given, "description", where),
            method=method,
            path=path,
            request=_choice(given, "request", "none", where),  # type: ignore[arg-type]  # it is one of them
            response=_choice(given, "response", "json", where),  # type: ignore[arg-type]  # as above
            stream=stream,
            params=params,
            aliases=tuple(str(one) for one in aliases),
            in_path=in_path,
        )


def read_operations(given: Json) -> Mapping[str, OperationSpec]:
    """By name, in the manifest's order. No two share a name, an alias or a route. Raises ManifestError."""
    if not isinstance(given, dict):
        raise _wrong("operations", given, "an object")
    if len(given) > MAX_OPERATIONS:
        raise ManifestError(f"the manifest: operations are more than {MAX_OPERATIONS}")
    found = {name: OperationSpec.read(name, one, f"operations.{name[:80]}") for name, one in given.items()}
    names = set(found)
    routes: dict[str, str] = {}
    for one in found.values():
        for alias in one.aliases:
            if alias in names:
                raise ManifestError(f"the manifest: operations.{one.name}.aliases: {alias} is taken already")
            names.add(alias)
        route = f"{one.method} {_PLACE.sub('{}', one.path)}"
        if one.path and (other := routes.setdefault(route, one.name)) != one.name:
            raise ManifestError(
                f"the manifest: operations.{one.name}.path: {one.method} {one.path} is operations.{other} already"
            )
    return found


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST and bool(_NAME.match(text))


def _text(given: Mapping[str, Json], name: str, where: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str):
        raise _wrong(f"{where}.{name}", value, "a string")
    return value


def _choice(given: Mapping[str, Json], name: str, default: str, where: str) -> str:
    value = given.get(name, default)
    if value == default or value in _CHOICES[name]:
        return str(value)
    raise ManifestError(f"the manifest: {where}.{name} is one of {', '.join(_CHOICES[name])}")


def _wrong(where: str, value: Json, wanted: str) -> ManifestError:
    return ManifestError(f"the manifest: {where} is a JSON {kind_of(value)}, not {wanted}")
