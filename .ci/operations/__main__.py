"""Makes catalyst/openai/operations.json, the declaration of the OpenAI catalyst's operations.

    python .ci/operations                 from the official Python SDK that is installed
    python .ci/operations --openapi FILE  from an OpenAPI document
    python .ci/operations --check         says whether the file is what it would make
    python .ci/operations --to FILE       writes another file

catalyst/openai/words.json has what a person wrote: better descriptions and schemas, other names, operations that are
more than one request. It counts where the two differ.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import words

CATALYST = Path(__file__).parents[2] / "catalyst" / "openai"
FILE = CATALYST / "operations.json"
_FIELDS = (
    *("description", "method", "path", "request", "query", "headers", "parts", "without_files", "response", "stream"),
    *("secret", "apart", "public", "websocket", "aliases", "renamed", "plain", "paginated", "deprecated", "params"),
)  # in this order
_LOCAL = ("operations", "webhooks")  # what is no request, and so in no document
_DEFAULTS = {"request": "none", "response": "json", "stream": False, "aliases": [], "headers": {}, "query": []}
_FILE_SCHEMA = {
    "type": "object",
    "description": 'The file: {"$attachment": id} for bytes handed over with the run, or its base64 in data',
    "properties": {
        "$attachment": {"type": "string", "description": "The id of an attachment"},
        "data": {"type": "string", "description": "The bytes in base64"},
        "filename": {"type": "string", "description": "Its name; the ending tells the format"},
        "content_type": {"type": "string", "description": "Its media type, like audio/mpeg"},
    },
    "oneOf": [{"required": ["$attachment"]}, {"required": ["data"]}],
    "additionalProperties": False,
}


def declaration(rows: Iterable[dict[str, Any]], sockets: Iterable[dict[str, Any]], shared: Any) -> dict[str, Any]:
    """The document. `rows` and `sockets` have `params` (schemas), `shared` gives the definitions."""
    written = json.loads((CATALYST / "words.json").read_text(encoding="utf-8"))
    definitions = {"file": _FILE_SCHEMA}
    found: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda one: (len(one["name"]), one["name"])):
        same = next(
            (one for one in found.values() if (one["method"], one["path"]) == (row["method"], row["path"])), None
        )
        if same is None:
            found[row["name"]] = row
        else:
            same.setdefault("aliases", []).append(row["name"])
    for name, by_hand in written["operations"].items():
        if by_hand.get("like") in found:
            found[name] = _like(name, found[by_hand["like"]], by_hand)
        elif name in found or ("params" in by_hand and name.partition(".")[0] in _LOCAL):
            found[name] = _joined(found.get(name, {"name": name}), by_hand, definitions)
    definitions.update(shared())
    operations = {name: _operation(row, written) for name, row in sorted(found.items())}
    websockets = {row["name"]: _operation(row, written) for row in sorted(sockets, key=lambda one: one["name"])}
    _without_twins([*operations.values(), *websockets.values()], definitions)
    return {"operations": operations, "websockets": websockets, "$defs": dict(sorted(definitions.items()))}


def _like(name: str, row: Mapping[str, Any], by_hand: Mapping[str, Any]) -> dict[str, Any]:
    """An operation of several requests, with the parameters of another one: `without` some, and `also` others."""
    params = copy.deepcopy(row["params"])
    properties = params["properties"] | by_hand.get("also", {})
    without = by_hand.get("without", ())
    also = [one for one in by_hand.get("also", ()) if one not in by_hand.get("required", ())]
    required = [one for one in params.get("required", ()) if one not in (*without, *also)]
    required += [one for one in by_hand.get("required", ()) if one not in required]
    properties = {one: schema for one, schema in properties.items() if one not in without}
    made = {"type": "object", **({"required": required} if required else {}), "properties": properties}
    return {"name": name, "description": by_hand["description"], "params": made}


def _joined(row: dict[str, Any], by_hand: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A row with what was written of it. Its own `$defs` become shared ones, under names of their own."""
    joined = {**row, **by_hand, "aliases": [*by_hand.get("aliases", ()), *row.get("aliases", ())]}
    if "params" in by_hand:
        params = dict(by_hand["params"])
        own = params.pop("$defs", {})
        own.pop("file", None)
        text = json.dumps([params, own])
        for name in own:
            text = text.replace(f'"#/$defs/{name}"', f'"#/$defs/{row["name"]}.{name}"')
        params, own = json.loads(text)
        definitions.update({f"{row['name']}.{name}": one for name, one in own.items()})
        made = row.get("params", {}).get("properties", {})
        if made:
            params["properties"] = {**params.get("properties", {})}
            params["properties"] |= {name: one for name, one in made.items() if name not in params["properties"]}
        joined["params"] = params
    return joined


def _operation(row: dict[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """The row as it is written: fields in one order, none that only repeats the default, and everything described."""
    row.setdefault("description", words.operation(row["name"], row.get("path", ""), written["nouns"]))
    for name, schema in row.get("params", {}).get("properties", {}).items():
        own = written["operations"].get(row["name"], {})
        whose = written["operations"].get(own.get("like"), own)
        by_hand = whose.get("params", {}).get("properties", {}).keys() | own.get("also", {}).keys()
        if name not in by_hand and ("$ref" not in schema or "type" in schema):
            values = f" ({schema['description']})" if "description" in schema else ""
            schema["description"] = words.parameter(row["name"], name, written["parameters"]) + values
    kept = {name: row[name] for name in _FIELDS if name in row}
    return {name: value for name, value in kept.items() if name not in _DEFAULTS or value != _DEFAULTS[name]}


def _without_twins(operations: Iterable[dict[str, Any]], definitions: dict[str, Any]) -> None:
    """Makes one definition of those that are the same, and drops those that nothing refers to."""
    operations = list(operations)
    while True:
        first: dict[str, str] = {}
        twins = {}
        for name, one in sorted(definitions.items(), key=lambda pair: (len(pair[0]), pair[0])):
            twin = first.setdefault(json.dumps(one, sort_keys=True), name)
            if twin != name:
                twins[name] = twin
        _point([*operations, *definitions.values()], twins)
        gone = twins.keys() or definitions.keys() - _used(operations, definitions)
        if not gone:
            return
        for name in gone:
            del definitions[name]


def _used(operations: Iterable[dict[str, Any]], definitions: Mapping[str, Any]) -> set[str]:
    """The definitions that an operation refers to, or one that is referred to."""
    found: set[str] = set()
    new = set(_references(operations))
    while new:
        found |= new
        new = set(_references([definitions[name] for name in new])) - found
    return found


def _references(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].removeprefix("#/$defs/")
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _point(value: Any, twins: Mapping[str, str]) -> None:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str) and (twin := twins.get(reference.removeprefix("#/$defs/"))):
            value["$ref"] = f"#/$defs/{twin}"
        for inner in value.values():
            _point(inner, twins)
    elif isinstance(value, list):
        for inner in value:
            _point(inner, twins)


def from_sdk() -> dict[str, Any]:
    import sdk
    from schemas import Schemas

    schemas = Schemas()

    def with_params(row: dict[str, Any]) -> dict[str, Any]:
        types, required = row.pop("hints"), row.pop("required")
        text = set(row.get("query", ())) | {name for name in types if f"{{{name}}}" in row["path"]}
        everywhere = row.get("request", "none") in ("none", "multipart")
        properties = {}
        for name, hint in types.items():
            in_text = everywhere or name in text
            made = schemas.parameter(name, hint, required=name in required, in_text=in_text)
            if f"{{{name}}}" in row["path"] and made.get("type") == "string":
                made["minLength"] = 1
            properties[name] = made
        row["params"] = {"type": "object"}
        if required:
            row["params"]["required"] = [name for name in types if name in required]
        if properties:
            row["params"]["properties"] = properties
        return row

    rows, sockets = [with_params(row) for row in sdk.operations()], [with_params(row) for row in sdk.websockets()]
    return declaration(rows, sockets, schemas.rendered)


def as_text(document: Mapping[str, Any]) -> str:
    """JSON with a line for each operation and each definition, so that a difference shows which one it is in."""
    sections = []
    for section, entries in document.items():
        lines = [f"{json.dumps(name)}: {json.dumps(one, ensure_ascii=False)}" for name, one in entries.items()]
        sections.append(f"{json.dumps(section)}: {{\n" + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openapi", type=Path, metavar="FILE", help="an OpenAPI document, JSON")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the file is another")
    parser.add_argument("--to", type=Path, default=FILE, metavar="FILE", help="what is written")
    options = parser.parse_args()
    if options.openapi:
        import openapi

        made = as_text(declaration(*openapi.read(options.openapi, FILE)))
    else:
        made = as_text(from_sdk())
    if options.check:
        if FILE.read_text(encoding="utf-8") == made:
            return 0
        print(f"{FILE} is not what this makes: run python .ci/operations", file=sys.stderr)
        return 1
    options.to.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
