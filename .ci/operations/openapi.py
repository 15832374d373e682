"""The operations of an OpenAPI document (3.0 and 3.1, as JSON).

A document has no names such as `chat.completions.create`: an operation that is declared already keeps its name, found
by its method and path, and a new one gets that of its path, such as `widgets.parts.list` for `GET /widgets/{id}/parts`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

_METHODS = ("get", "post", "put", "patch", "delete")
_VERBS = {"GET": "retrieve", "POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_BODIES = {"application/json": "json", "multipart/form-data": "multipart"}
_KEPT = ("headers", "parts", "without_files", "secret", "stream", "query")  # what a document does not say, or not so
_SHOWN = 10  # values of a list in a description
FILE = {"$ref": "#/$defs/file"}


def read(
    document: Path, declared: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Callable[[], dict[str, Any]]]:
    """The operations, the connections (those that are declared: OpenAPI has none), and what gives the definitions.

    Raises ValueError or KeyError for a document that is none.
    """
    found = json.loads(document.read_text(encoding="utf-8"))
    known = json.loads(declared.read_text(encoding="utf-8"))
    document_ = _Document(found, known["operations"])
    sockets = [{**one, "name": name} for name, one in known["websockets"].items()]
    return list(document_.operations()), sockets, lambda: document_.definitions


class _Document:
    def __init__(self, document: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        self._document = document
        self._known = {
            (one["method"], _shape(one["path"])): (name, one)
            for name, one in known.items()
            if "path" in one and "?" not in one["path"]
        }
        self.definitions: dict[str, Any] = {}

    def operations(self) -> Iterator[dict[str, Any]]:
        for path, item in self._document["paths"].items():
            for method in _METHODS:
                if isinstance(one := item.get(method), dict):
                    yield self._row(
                        method.upper(), path, [*item.get("parameters", ()), *one.get("parameters", ())], one
                    )

    def _row(self, method: str, path: str, parameters: list[Any], one: Mapping[str, Any]) -> dict[str, Any]:
        name, before = self._known.get((method, _shape(path)), (_name(method, path), {}))
        row: dict[str, Any] = {"name": name, "method": method, "path": path}
        properties: dict[str, Any] = {}
        required: list[str] = []
        places: dict[str, list[str]] = {"path": [], "query": [], "header": []}
        for parameter in map(self._resolved, parameters):
            places.setdefault(parameter["in"], []).append(parameter["name"])
            if parameter["in"] in ("path", "query"):
                is_required = bool(parameter.get("required"))
                properties[parameter["name"]] = self._schema(parameter.get("schema", {}), null=not is_required)
                required += [parameter["name"]] * is_required
        content = self._resolved(one.get("requestBody", {})).get("content", {})
        kind = next((kind for kind in _BODIES if kind in content), next(iter(content), None))
        if kind is not None:
            row["request"] = _BODIES.get(kind, before.get("request", "raw"))
            body = self._object(content[kind].get("schema", {}))
            for key, schema in body.get("properties", {}).items():
                is_required = key in body.get("required", ())
                is_file = schema.get("format") == "binary"
                properties[key] = FILE if is_file else self._schema(schema, null=not is_required)
                required += [key] * is_required
            if places["query"]:
                row["query"] = places["query"]
        row["response"] = before.get("response") or self._response(one)
        row |= {field: before[field] for field in _KEPT if field in before}
        if one.get("deprecated"):
            row["deprecated"] = True
        if before.get("paginated"):
            row["paginated"] = True
        row["params"] = {"type": "object", **({"required": required} if required else {}), "properties": properties}
        return row

    def _response(self, one: Mapping[str, Any]) -> str:
        answers = [self._resolved(two) for code, two in one.get("responses", {}).items() if str(code).startswith("2")]
        kinds = {kind for answer in answers for kind in answer.get("content", {})}
        if not kinds:
            return "empty" if answers else "json"
        if any("json" in kind for kind in kinds):
            return "json"
        return "text" if all(kind.startswith("text/") for kind in kinds) else "binary"

    def _resolved(self, value: Any) -> Any:
        """What a `$ref` stands for."""
        while isinstance(value, dict) and isinstance(reference := value.get("$ref"), str):
            value = self._document
            for part in reference.removeprefix("#/").split("/"):
                value = value[part.replace("~1", "/").replace("~0", "~")]
        return value

    def _object(self, schema: Any) -> dict[str, Any]:
        """The fields of an object, those of its `allOf` and the first of several forms included."""
        schema = self._resolved(schema)
        found = {"properties": dict(schema.get("properties", {})), "required": list(schema.get("required", ()))}
        forms = [*schema.get("allOf", ()), *schema.get("oneOf", ())[:1], *schema.get("anyOf", ())[:1]]
        for inner in map(self._object, forms):
            found["properties"] = {**inner["properties"], **found["properties"]}
            found["required"] += [one for one in inner["required"] if one not in found["required"]]
        return found

    def _schema(self, schema: Any, *, null: bool = False) -> dict[str, Any]:
        """The types of a value, and of a list those of its items; a definition for an object that has a name."""
        reference = schema.get("$ref", "") if isinstance(schema, dict) else ""
        whole = self._resolved(schema)
        kinds = self._kinds(whole)
        if null:
            kinds.add("null")
        made: dict[str, Any] = {"type": sorted(kinds) if len(kinds) > 1 else next(iter(kinds))} if kinds else {}
        if reference and "object" in kinds and self._object(whole)["properties"]:
            made["$ref"] = f"#/$defs/{self._defined(reference, whole)}"
        if "array" in kinds and isinstance(whole.get("items"), dict):
            made["items"] = self._schema(whole["items"])
        values = [value for value in whole.get("enum", ()) if isinstance(value, str)]
        if values:
            made["description"] = ", ".join(values[:_SHOWN]) + (", …" if len(values) > _SHOWN else "")
        return made

    def _defined(self, reference: str, whole: Any) -> str:
        name = reference.rpartition("/")[2]
        if name not in self.definitions:
            self.definitions[name] = {}  # for one that holds itself
            fields = self._object(whole)
            properties = {
                key: self._schema(one, null=key not in fields["required"]) for key, one in fields["properties"].items()
            }
            required = {"required": sorted(fields["required"])} if fields["required"] else {}
            self.definitions[name] = {**required, "properties": properties}
        return name

    def _kinds(self, schema: Any) -> set[str]:
        schema = self._resolved(schema)
        told = schema.get("type", ())
        kinds = {told} if isinstance(told, str) else set(told)
        if schema.get("nullable"):
            kinds.add("null")
        for form in ("anyOf", "oneOf", "allOf"):
            for inner in schema.get(form, ()):
                kinds |= self._kinds(inner)
        if not kinds and "properties" in schema:
            kinds.add("object")
        return kinds


def _shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path.partition("?")[0])


def _name(method: str, path: str) -> str:
    """The name for an operation that nobody has named."""
    parts = [part for part in path.strip("/").split("/") if part]
    resources = [re.sub(r"\W", "_", part) for part in parts if not part.startswith("{")]
    ends_with_id = parts[-1].startswith("{")
    verb = "list" if method == "GET" and not ends_with_id and resources[-1].endswith("s") else _VERBS[method]
    return ".".join([*resources, verb])
