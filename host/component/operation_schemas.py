"""The schemas of a component's operations: a custom section of its own, of which one schema is read at a time.

A manifest may have an operation's schema in its field `params`. For hundreds of operations that is long, and everybody
who wants to know a name would parse all of it. So a builder may put the schemas into the section `catalyst:schemas`,
and leave in the manifest the names of the parameters alone. The section has a line for each schema: a name, a blank,
and the schema as JSON.

    chat.completions.create {"type":"object","required":["model","messages"],"properties":{…}}
    $defs/file {"type":"object","required":["$attachment"]}

`$defs/NAME` is shared: `{"$ref": "#/$defs/NAME"}` in any of the other schemas, or in another shared one, stands for it.
The digest and the signatures of the component cover the section as they cover the manifest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from host.component.schema_bounds import values_in
from host.component.wasm import MAX_SCHEMAS_BYTES
from host.core.strict_json import Json, parse_json
from host.errors import InputError, ManifestError

MAX_SCHEMA_BYTES: Final = 1 << 20
"""Of one schema, without what it shares with others."""
MAX_LINES: Final = 8_000

_SHARED: Final = "$defs/"
_REF: Final = "#/$defs/"
_DEFINED = re.compile(r"[A-Za-z0-9_.-]{1,200}\Z")


class OperationSchemas:
    """The schemas in the section of a component, by the names of its operations. `read` gives the section's bytes,
    none for a component without one; it is called when the first schema is asked for. Two threads may call it twice,
    with the same result."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._lines: Mapping[str, bytes] | None = None

    @property
    def lines(self) -> Mapping[str, bytes]:
        """The text of each schema. Raises ManifestError for a section that is malformed."""
        if self._lines is None:
            self._lines = _lines(self._read())
        return self._lines

    def of(self, operation: str) -> Json:
        """The schema of the operation's `params`, with the shared ones that it needs; True where there is no section.
        Raises ManifestError, which names the operation, also where the section lacks it."""
        at = f"operations.{operation}.params"
        if not self.lines:
            return True
        if (text := self.lines.get(operation)) is None:
            raise malformed(at, "has no line in the component's schemas")
        schema = _parsed(text, at)
        if not isinstance(schema, dict):
            return schema
        own = schema.get("$defs", {})
        shared = self._shared(schema, at, own if isinstance(own, dict) else {})
        return {**schema, "$defs": {**shared, **own}} if shared else schema

    def _shared(self, schema: Json, at: str, own: Mapping[str, Json]) -> dict[str, Json]:
        """The shared schemas that `schema` refers to, and those that these refer to."""
        found: dict[str, Json] = {}
        left = [*_referred(schema)]
        while left:
            name = left.pop()
            if name in found or name in own:
                continue
            if (text := self.lines.get(f"{_SHARED}{name}")) is None:
                raise malformed(at, f"refers to $defs.{name[:80]}, which is not there")
            found[name] = _parsed(text, f"$defs.{name}")
            left += _referred(found[name])
        return found


def section_of(operations: Mapping[str, Json], shared: Mapping[str, Json]) -> bytes:
    """The section for the schemas in `params` of `operations`, and for the `shared` ones. Raises ManifestError."""
    written = [(name, one["params"]) for name, one in operations.items() if isinstance(one, dict) and "params" in one]
    for name in shared:
        if not _DEFINED.match(name):
            raise malformed(f"$defs.{name[:80]}", "is no name of a schema: letters, digits, dots, _ and -")
    lines = [*written, *((f"{_SHARED}{name}", one) for name, one in shared.items())]
    text = "".join(f"{name} {json.dumps(one, separators=(',', ':'))}\n" for name, one in lines).encode()
    if len(text) > MAX_SCHEMAS_BYTES:
        raise ManifestError(f"the schemas of the operations are larger than {MAX_SCHEMAS_BYTES} bytes")
    return text


def unused(lines: Iterable[str], operations: Collection[str]) -> Iterator[str]:
    """The names of schemas that belong to none of the `operations`, and are not shared."""
    return (one for one in lines if one not in operations and not one.startswith(_SHARED))


def names_of(schema: Json) -> tuple[str, ...] | None:
    """The names of the parameters that the schema of `params` lists; None where it lists none."""
    listed = schema.get("properties") if isinstance(schema, dict) else None
    return tuple(listed) if isinstance(listed, dict) else None


def malformed(at: str, problem: str) -> ManifestError:
    """The error for a problem of the manifest's field at the path `at`."""
    return ManifestError(f"the manifest: {at} {problem}")


def _lines(section: bytes) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    for line in section.removesuffix(b"\n").split(b"\n") if section else ():
        given, blank, text = line.partition(b" ")
        if not blank or not given.isascii():
            raise ManifestError("the schemas of the component are malformed: a line has no name")
        name = given.decode("ascii")
        if name in found:
            raise ManifestError(f"the schemas of the component have {name[:80]!r} twice")
        if len(text) > MAX_SCHEMA_BYTES:
            raise ManifestError(f"the schemas of the component: {name[:80]!r} is larger than {MAX_SCHEMA_BYTES} bytes")
        if len(found) >= MAX_LINES:
            raise ManifestError(f"the schemas of the component are more than {MAX_LINES:,}")
        found[name] = text
    return found


def _parsed(text: bytes, at: str) -> Json:
    try:
        schema = parse_json(text, at, names_once=True)
    except InputError as error:
        raise ManifestError(f"the manifest: {error.message}") from None
    if not isinstance(schema, dict | bool):
        raise malformed(at, "is not a schema: an object, true or false")
    return schema


def _referred(schema: Json) -> Iterator[str]:
    """The names of the shared schemas that `schema` refers to: by `#/$defs/NAME`, or by a place in it."""
    for one in values_in(schema):
        ref = one.get("$ref") if isinstance(one, dict) else None
        if isinstance(ref, str) and ref.startswith(_REF):
            yield ref.removeprefix(_REF).partition("/")[0]
