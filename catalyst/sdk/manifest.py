"""Rows of the table from the `operations` of the manifest, so that each operation is declared once.

The manifest is read when a module calls `declared_operations` at its top level: while the component is built. A running
component has the rows and no files.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from catalyst.sdk.operation import Operation

_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "number",
    "boolean": "bool",
    "array": "list",
    "object": "object",
}
_FILE = "#/$defs/file"  # the schema of a file in `$defs` of an operation's `params`


def declared_operations(
    module: str,
    *,
    optional: str = "",
    plain: Mapping[str, str] | None = None,
    renamed: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Operation]:
    """A row for each of the `operations` in the `manifest.json` beside `module` (a `__file__`).

    The rows check the parameters that the schema requires. `optional` names further parameters to check, separated by
    blanks. `plain` and `renamed` are columns that a manifest lacks, by the operation's name: see Operation.
    """
    path = module.rpartition("/")[0] + "/manifest.json"
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib would stay in every component
        declared = json.load(file)["operations"]
    return [
        Operation(
            row["method"],
            name,
            row["path"],
            request=row.get("request", "none"),
            response=row.get("response", "json"),
            stream=row.get("stream", False),
            params=" ".join(_checked(row, optional.split())),
            aliases=" ".join(row.get("aliases", ())),
            plain=(plain or {}).get(name, ""),
            renamed=(renamed or {}).get(name, {}),
        )
        for name, row in declared.items()
    ]


def _checked(row: Mapping[str, Any], optional: list[str]) -> Iterator[str]:
    """Yields the column `params`: `name:types` for required parameters, `name?:types` for optional ones."""
    schema = row.get("params", {})
    properties = schema.get("properties", {})
    required = schema.get("required") or schema.get("else", {}).get("required", ())  # in `else`: `if` has another way
    wanted = {**dict.fromkeys(required, ":"), **{name: "?:" for name in optional if name not in required}}
    for name, mark in wanted.items():
        if name in properties and f"{{{name}}}" not in row["path"]:  # the row adds those in the path itself
            yield f"{name}{mark}{_types(properties[name])}"


def _types(schema: Mapping[str, Any]) -> str:
    if schema.get("$ref") == _FILE:
        return "file"
    types = schema["type"]
    return "|".join(_TYPES[one] for one in ([types] if isinstance(types, str) else types) if one != "null")
