"""Parameters to begin with: an example of the manifest, or each field that the schema requires, with a value that fits.

The manifest is a stranger's, and its schema may be anything. A value that cannot be worked out is null, and the work is
bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from host.component.manifest import Manifest
from host.component.operations import OperationSpec
from host.core.strict_json import Json

_DEPTH: Final = 8
_VALUES: Final = 200
_EMPTY: Final[Mapping[str, Json]] = {
    "string": "",
    "integer": 0,
    "number": 0,
    "boolean": False,
    "array": [],
    "object": {},
}


def starting(manifest: Manifest | None, spec: OperationSpec) -> Mapping[str, Json]:
    """For the operation `spec` of the catalyst with this manifest."""
    names = {spec.name, *spec.aliases}
    for example in manifest.examples if manifest else ():
        given = example.get("input")
        if isinstance(given, dict) and given.get("operation") in names and isinstance(given.get("params"), dict):
            params: dict[str, Json] = given["params"]
            return params
    made = _Maker(spec.params).value(spec.params, _DEPTH)
    return made if isinstance(made, dict) else dict.fromkeys(spec.in_path, "")


class _Maker:
    """Makes values for the schemas below `root`, a bounded number of them."""

    def __init__(self, root: Json) -> None:
        self._root = root
        self._left = _VALUES

    def value(self, schema: Json, depth: int) -> Json:
        self._left -= 1
        schema = self._referred(schema)
        if not isinstance(schema, dict) or not depth or self._left < 0:
            return None
        if "const" in schema:
            return schema["const"]
        for name in ("examples", "enum"):
            if isinstance(some := schema.get(name), list) and some:
                return some[0]
        if "default" in schema:
            return schema["default"]
        for name in ("anyOf", "oneOf", "allOf"):
            if isinstance(some := schema.get(name), list) and some and "type" not in schema:
                return self.value(some[0], depth - 1)
        kinds = schema.get("type")
        kind = next((one for one in kinds if one != "null"), "null") if isinstance(kinds, list) else kinds
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema, depth)
        if kind == "array" and schema.get("items"):
            return [self.value(schema["items"], depth - 1)]
        return _EMPTY.get(kind) if isinstance(kind, str) else None

    def _object(self, schema: Mapping[str, Json], depth: int) -> dict[str, Json]:
        properties, required = schema.get("properties"), schema.get("required")
        if not isinstance(properties, dict) or not isinstance(required, list):
            return {}
        names = [name for name in required[:_VALUES] if isinstance(name, str)]
        return {name: self.value(properties.get(name), depth - 1) for name in names if self._left > 0}

    def _referred(self, schema: Json) -> Json:
        """The schema that a `{"$ref": "#/$defs/name"}` names, also through several of them."""
        for _ in range(_DEPTH):
            name = schema.get("$ref") if isinstance(schema, dict) else None
            if not isinstance(name, str):
                return schema
            schema = self._root if name.startswith("#/") else None
            for step in name[2:].split("/"):
                schema = schema.get(step) if isinstance(schema, dict) else None
        return None
