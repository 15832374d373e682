"""Operations about operations: what there is, and how each one is called. They send nothing."""

import zlib
from json import loads
from typing import Any

from operations import DECLARED

from catalyst.sdk.errors import Invalid

_SHOWN = ("method", "path", "description")
_MOST = 1_000


def listed(params: dict[str, Any]) -> dict[str, Any]:
    """The operations whose names or descriptions have every word of `query`; all of them without one. `limit` is how
    many at most."""
    query, limit = params.get("query") or "", params.get("limit") or _MOST
    if not isinstance(query, str):
        raise Invalid("query", "query must be a string")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise Invalid("limit", "limit must be an integer above 0")
    words = query.lower().split()
    found = []
    for name, one in _declared()["operations"].items():
        told = " ".join((name, *one.get("aliases", ()), one["description"])).lower()
        if all(word in told for word in words):
            found.append({"name": name, **{field: one[field] for field in _SHOWN if field in one}})
    return {"status": 200, "data": {"operations": found[:limit], "count": len(found)}}


def described(params: dict[str, Any]) -> dict[str, Any]:
    """The declaration of `operation`, by its name or another name of it, with the definitions that its schema uses."""
    declared, name = _declared(), params.get("operation")
    if not isinstance(name, str):
        raise Invalid("operation", "operation must be a string: the name of an operation")
    rows = {**declared["operations"], **declared["websockets"]}
    found = next(((key, one) for key, one in rows.items() if name == key or name in one.get("aliases", ())), None)
    if found is None:
        raise Invalid("operation", f"operation: there is none called {name[:100]!r}; operations.list finds them")
    schema = {**found[1]["params"]}
    used: dict[str, Any] = {}
    new = _mentioned(schema)
    while new:
        used |= {one: declared["$defs"][one] for one in new}
        new = _mentioned([used[one] for one in new]) - used.keys()
    if used:
        schema["$defs"] = used
    return {"status": 200, "data": {"name": found[0], **found[1], "params": schema}}


def _declared() -> Any:
    return loads(zlib.decompress(DECLARED))


def _mentioned(value: Any) -> set[str]:
    """The definitions that a schema refers to itself."""
    if isinstance(value, dict):
        own = {value["$ref"].removeprefix("#/$defs/")} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(_mentioned, value.values()))
    return set().union(*map(_mentioned, value)) if isinstance(value, list) else set()
