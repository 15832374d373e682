"""Structured output: the smallest instance of a JSON Schema, and calls of function tools."""

from __future__ import annotations

import json
import math
from typing import Any

from host.fakes.openai import errors
from host.fakes.openai.text import sentence

_FORMATS = {
    "date-time": "2023-11-14T22:13:20Z",
    "date": "2023-11-14",
    "time": "22:13:20Z",
    "duration": "PT1S",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
# The keywords of numbers with their defaults. A minimum and its exclusive form may occur together.
_NUMERIC = {
    "multipleOf": 1,
    "minimum": -math.inf,
    "exclusiveMinimum": -math.inf,
    "maximum": math.inf,
    "exclusiveMaximum": math.inf,
}


def instance(schema: Any, word: str) -> Any:
    """Returns a value that fits `schema`, with `word` for free strings.

    It knows the keywords of OpenAI's structured outputs, but not `pattern`. Raises ApiError (400, code
    invalid_json_schema) if the schema is invalid or has no finite instance.
    """
    for max_depth in (8, 16, 32):  # shallow first, so that a recursive choice ends early
        try:
            return _Instances(schema, word, max_depth).of(schema)
        except _TooDeepError:
            continue
    raise _unusable("it has no finite instance that is small enough")


class _TooDeepError(Exception):
    pass


def _unusable(why: str) -> errors.ApiError:
    return errors.ApiError(400, f"Invalid schema: {why}.", param="schema", code="invalid_json_schema")


class _Instances:
    def __init__(self, root: Any, word: str, max_depth: int) -> None:
        self._root = root
        self._word = word
        self._max_depth = max_depth

    def of(self, schema: Any, depth: int = 0) -> Any:
        if depth > self._max_depth:
            raise _TooDeepError
        match schema:
            case True:
                return {}
            case {"$ref": str() as reference}:
                return self.of(self._resolved(reference), depth + 1)
            case {"const": constant}:
                return constant
            case {"enum": [first, *_]}:
                return first
            case {"anyOf": [*options, last]} | {"oneOf": [*options, last]}:
                return self._first_finite(options, last, depth + 1)
            case dict():
                return self._typed(schema, depth + 1)
            case _:
                raise _unusable("a schema is an object or true")

    def _typed(self, schema: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema or "required" in schema else "string")
        match kind[0] if isinstance(kind, list) and kind else kind:
            case "object":
                properties: dict[str, Any] = _container(schema, "properties", dict)
                names: list[str] = _container(schema, "required", list)
                return {name: self.of(properties.get(name, True), depth) for name in names}
            case "array":
                items: list[Any] = list(_container(schema, "prefixItems", list))
                items += [schema.get("items", True)] * (_whole(schema, "minItems") - len(items))
                return [self.of(item, depth) for item in items]
            case "string":
                return self._string(schema)
            case "integer" | "number" as number:
                return _number(schema, whole=number == "integer")
            case "boolean":
                return True
            case "null":
                return None
            case _:
                raise _unusable("a type is unknown")

    def _string(self, schema: dict[str, Any]) -> str:
        word = _FORMATS.get(str(schema.get("format")), self._word)
        shortest = _whole(schema, "minLength")
        return word.ljust(shortest, "x")[: _whole(schema, "maxLength", max(shortest, len(word)))]

    def _first_finite(self, options: list[Any], last: Any, depth: int) -> Any:
        for option in options:
            try:
                return self.of(option, depth)
            except _TooDeepError:
                continue
        return self.of(last, depth)

    def _resolved(self, reference: str) -> Any:
        at = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")  # RFC 6901
            if not isinstance(at, dict) or name not in at:
                raise _unusable(f"{reference} leads nowhere")
            at = at[name]
        return at


def _container(schema: dict[str, Any], keyword: str, kind: type[Any]) -> Any:
    value = schema.get(keyword, kind())
    if not isinstance(value, kind):
        raise _unusable(f"{keyword} has the wrong type")
    return value


def _whole(schema: dict[str, Any], keyword: str, default: int = 0) -> int:
    value = schema.get(keyword, default)
    if not isinstance(value, int) or not 0 <= value <= 10_000:
        raise _unusable(f"{keyword} is not a number from 0 to 10,000")
    return value


def _number(schema: dict[str, Any], *, whole: bool) -> float:
    """Returns 0 if it fits, else the multiple of `multipleOf` (default 1) next to a bound, else the middle."""
    step, *bounds = [schema.get(keyword, default) for keyword, default in _NUMERIC.items()]
    if not all(isinstance(value, int | float) for value in (step, *bounds)) or not 0 < step < math.inf:
        raise _unusable("a bound is not a number")
    low, high = max(bounds[:2]), min(bounds[2:])

    def fits(value: float) -> bool:
        return bounds[0] <= value <= bounds[2] and bounds[1] < value < bounds[3] and not (whole and value % 1)

    candidates: list[float] = [0]
    if low > -math.inf:
        candidates += [math.ceil(low / step) * step, (math.floor(low / step) + 1) * step]
    if high < math.inf:
        candidates += [math.floor(high / step) * step, (math.ceil(high / step) - 1) * step]
    for value in [*candidates, (low + high) / 2]:
        if fits(value):
            return int(value) if whole else value
    raise _unusable("no number is within the bounds")


# function tools


def function_of(tool: dict[str, Any]) -> dict[str, Any] | None:
    """The function in a tool of chat completions (nested) or of responses (flat); None for a tool of another type."""
    function = tool.get("function", tool) if tool.get("type") == "function" else None
    if function is None:
        return None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise errors.missing("tools[].function.name")
    return function


def forced_function(functions: list[dict[str, Any] | None], choice: Any) -> dict[str, Any] | None:
    """The function that `tool_choice` forces: the named one, the first for "required", else None."""
    known = {function["name"]: function for function in functions if function}
    match choice:
        case None | "none" | "auto":
            return None
        case "required" if known:
            return next(iter(known.values()))
        case {"type": "function", "function": {"name": str() as name}} | {"type": "function", "name": str() as name}:
            if name not in known:
                raise errors.wrong_value("tool_choice", f"Tool choice '{name}' not found in 'tools' parameter.")
            return known[name]
        case "required":
            raise errors.wrong_value("tool_choice", "it is only allowed when 'tools' are specified.")
        case str():
            raise errors.unsupported("tool_choice", choice, ("none", "auto", "required"))
        case dict():
            return None  # a hosted tool, for example: the fake has none
        case _:
            raise errors.wrong_type("tool_choice", "a string or an object", choice)


def function_arguments(function: dict[str, Any], seed: bytes) -> str:
    """Returns a JSON text that fits the function's `parameters`."""
    schema = function.get("parameters") or {"type": "object"}
    return json.dumps(instance(schema, sentence(seed, 1)[:-1].lower()), ensure_ascii=False)
