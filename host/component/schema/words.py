"""Mistakes as people read them. A value may be a secret: it is shown only where it comes near to what it was to be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from host.component.schema.checking import Path
from host.core.strict_json import Json, clean_text, kind_of

_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]{0,63}\Z")
_MAX_SHOWN = 60  # characters of a value or a name
_MAX_PATH = 200
_MAX_LISTED = 8
_MAX_COMPARED = 500

TYPES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


def field_of(at: Path) -> str:
    """`params.messages[0].content`; a name that is none of a programmer's is in quotes, as JSON."""
    steps: list[str] = []
    while at is not None:
        at, key = at
        if isinstance(key, int):
            steps.append(f"[{key}]")
        else:
            steps.append(f".{key}" if _PLAIN.match(key) else f"[{shown(key)}]")
    path = "".join(reversed(steps)).removeprefix(".")
    return path if len(path) <= _MAX_PATH else f"…{path[-_MAX_PATH:]}"


Told: TypeAlias = tuple[str, str | None]  # what goes on where the name of a field ends, and a hint


def not_of_type(value: Json, types: Iterable[str]) -> Told:
    wanted = " or ".join(TYPES[one] for one in types)
    kind = kind_of(value)
    return f"has to be {wanted}, and is {'a boolean' if kind == 'boolean' else TYPES.get(kind, kind)}", None


def none_of(value: Json, options: Sequence[Json]) -> Told:
    near = nearest(value, [one for one in options if isinstance(one, str)])
    given = f"is {shown(value)}, which " if near else ""
    return f"{given}is none of the {len(options)} that it may be", near or f"it may be {listed(options)}"


def not_known(name: str, known: Iterable[str]) -> Callable[[], Told]:
    names = tuple(known)
    return lambda: ("is not known here", nearest(name, names) or f"known are {listed(names, quoted=False) or 'none'}")


def nearest(value: Json, options: Sequence[str]) -> str | None:
    """`did you mean …?`, where something comes near."""
    if not isinstance(value, str) or not options:
        return None
    from difflib import get_close_matches  # noqa: PLC0415 - for a mistake alone

    near = get_close_matches(value[:_MAX_SHOWN], options[:_MAX_COMPARED], n=3, cutoff=0.5)
    return f"did you mean {listed(near, quoted=False)}?" if near else None


def listed(options: Sequence[Json], *, quoted: bool = True) -> str:
    names = [name(one) if isinstance(one, str) and not quoted else shown(one) for one in options[:_MAX_LISTED]]
    return ", ".join(names) + (f", … ({len(options)} in all)" if len(options) > _MAX_LISTED else "")


def name(text: str) -> str:
    """A name out of a schema: bare where that cannot be mistaken for the host's own words."""
    return text if len(text) <= _MAX_SHOWN and all(map(_PLAIN.match, text.split("."))) else shown(text)


def shown(value: Json) -> str:
    """As JSON, cut where it is long: nothing in it can be taken for the host's own words."""
    text = clean_text(json.dumps(value[:_MAX_SHOWN] if isinstance(value, str) else value, ensure_ascii=False))
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
