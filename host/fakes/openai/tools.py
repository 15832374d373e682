"""Function tools: whether one is called, and with which arguments."""

from __future__ import annotations

import json
from typing import Any

from host.fakes.openai import errors
from host.fakes.openai.schema import instance
from host.fakes.openai.text import sentence


def function_of(tool: dict[str, Any]) -> dict[str, Any] | None:
    """The function of a tool of chat completions (nested) or of responses (flat), None for tools of other types."""
    function = tool.get("function", tool) if tool.get("type") == "function" else None
    if function is None:
        return None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise errors.missing("tools[].function.name")
    return function


def chosen(functions: list[dict[str, Any] | None], choice: Any) -> dict[str, Any] | None:
    """The function that `tool_choice` forces: the first when it is "required", the named one, else none."""
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
            return None  # a hosted tool, say: not simulated
        case _:
            raise errors.wrong_type("tool_choice", "a string or an object", choice)


def arguments(function: dict[str, Any], seed: bytes) -> str:
    """A JSON text that fits the function's `parameters`."""
    schema = function.get("parameters") or {"type": "object"}
    return json.dumps(instance(schema, sentence(seed, 1)[:-1].lower()), ensure_ascii=False)
