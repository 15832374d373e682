"""Rows of the table from the operations that a catalyst declares, so that each operation is declared once.

The files are read when a module calls `declared_operations` at its top level: while the component is built. A running
component has the rows and no files.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "number",
    "boolean": "bool",
    "array": "list",
    "object": "object",
}
_FILE = "#/$defs/file"  # the schema of a file in `$defs`
_COLUMNS = ("method", "path", "request", "response", "stream", "headers", "parts", "without_files", "secret", "renamed")


def declared_operations(module: str, *, optional: str = "", of: str = "operations") -> dict[str, str]:
    """What a Table is made of, from `operations` (or `of`) in the `operations.json` beside `module` (a `__file__`), or
    else in its `manifest.json`: by name the row as JSON, and by alias the name.

    The rows check the parameters that the schemas require. `optional` names further parameters to check, separated by
    blanks. Operations without a route have no row.
    """
    declared = _read(module.rpartition("/")[0], of)
    rows = {}
    for name, one in declared.items():
        if "path" not in one:
            continue
        row: dict[str, Any] = {"name": name, **{column: one[column] for column in _COLUMNS if one.get(column)}}
        columns = {
            "params": _checked(one, optional.split()),
            "query": one.get("query", ()),
            "plain": one.get("plain", ()),
        }
        row.update({column: " ".join(words) for column, words in columns.items()})
        rows[name] = json.dumps({key: value for key, value in row.items() if value}, separators=(",", ":"))
        rows.update(dict.fromkeys(one.get("aliases", ()), name))
    return rows


def _read(folder: str, part: str) -> dict[str, Any]:
    for name in ("operations.json", "manifest.json"):
        try:
            with open(f"{folder}/{name}", encoding="utf-8") as file:  # noqa: PTH123 - pathlib would stay in every component
                found: dict[str, Any] = json.load(file).get(part, {})
                return found
        except FileNotFoundError:
            continue
    return {}


def _checked(row: Mapping[str, Any], optional: list[str]) -> Iterator[str]:
    """Yields the column `params`: `name:types` for required parameters, `name?:types` for optional ones."""
    schema = row.get("params", {})
    properties = schema.get("properties", {})
    required = schema.get("required") or schema.get("else", {}).get("required", ())  # in `else`: `if` has another way
    wanted = {**dict.fromkeys(required, ":"), **{name: "?:" for name in optional if name not in required}}
    for name, mark in wanted.items():
        if name not in properties:
            continue
        types = _types(properties[name])
        in_path = not {f"{{{name}}}", f"{{+{name}}}"}.isdisjoint(row["path"].partition("?")[0].split("/"))
        if types and not (in_path and types == "str"):  # the row adds those in the path itself
            yield f"{name}{mark}{types}"


def _types(schema: Mapping[str, Any]) -> str:
    """The types of a schema, `|` between them; "" where it leaves them open."""
    if schema.get("$ref") == _FILE:
        return "file"
    found = [_types(one) for one in schema.get("anyOf", ())]
    types = schema.get("type", ())
    found += [_TYPES[one] for one in ([types] if isinstance(types, str) else types) if one != "null"]
    return "|".join(dict.fromkeys(found)) if all(found) else ""
