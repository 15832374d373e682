"""Reading the parameters of a request. Every reader takes a name, treats null as absent, and raises ApiError (400, with
`param` and `code`) for a value that OpenAI would refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from host.fakes.openai import errors

T = TypeVar("T")

_UNREADABLE = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
)


class Params:
    """`textual` parameters come from a form or a query, where numbers and booleans are written as text."""

    def __init__(self, values: Mapping[str, Any], *, textual: bool = False) -> None:
        self._values = values
        self._textual = textual

    @classmethod
    def from_json(cls, body: bytes) -> Params:
        try:
            values = json.loads(body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise errors.ApiError(400, _UNREADABLE) from error
        if not isinstance(values, dict):
            raise errors.ApiError(400, _UNREADABLE)
        return cls(values)

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def raw(self, name: str) -> Any:
        return self._values.get(name)

    def required(self, name: str) -> Any:
        if name not in self:
            raise errors.missing(name)
        return self._values[name]

    def required_text(self, name: str) -> str:
        self.required(name)
        return self.text(name, "")

    def text(self, name: str, default: T) -> str | T:
        value: str | T = self._typed(name, str, "a string", default)
        return value

    def flag(self, name: str) -> bool:
        """False where it is absent."""
        value = self.raw(name)
        if self._textual and value in {"true", "false"}:
            return bool(value == "true")
        flag: bool = self._typed(name, bool, "a boolean", False)
        return flag

    def integer(self, name: str, default: T, *, low: int = 1, high: int | None = None) -> int | T:
        value = self.raw(name)
        if self._textual and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise errors.wrong_type(name, "an integer", value)
        if value < low:
            raise errors.outside(name, value, low, above=False, kind="integer")
        if high is not None and value > high:
            raise errors.outside(name, value, high, above=True, kind="integer")
        return value

    def check_number(self, name: str, low: float, high: float) -> None:
        """For what is validated and has no other effect, such as `temperature`."""
        value = self.raw(name)
        if self._textual and isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise errors.wrong_type(name, "a decimal number", value) from None
        if value is None:
            return
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise errors.wrong_type(name, "a decimal number", value)
        if not low <= value <= high:
            above = not value < low
            raise errors.outside(name, value, high if above else low, above=above, kind="decimal")

    def choice(self, name: str, supported: tuple[str, ...], default: str) -> str:
        value = self.text(name, default)
        if value not in supported:
            raise errors.unsupported(name, value, supported)
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Empty where it is absent."""
        value: dict[str, Any] = self._typed(name, dict, "an object", {})
        return value

    def objects(self, name: str) -> list[dict[str, Any]]:
        """An array of objects, empty where it is absent."""
        values: list[Any] = self._typed(name, list, "an array of objects", [])
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                raise errors.wrong_type(f"{name}[{index}]", "an object", value)
        return values

    def texts(self, name: str, *, at_most: int) -> list[str]:
        """A string, or an array of them; empty where it is absent."""
        value = self.raw(name)
        values = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
            raise errors.wrong_type(name, "a string or an array of strings", value)
        if len(values) > at_most:
            raise errors.wrong_value(name, f"array too long. Expected at most {at_most} items, but got {len(values)}.")
        return values

    def _typed(self, name: str, kind: type[Any], expected: str, default: Any) -> Any:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise errors.wrong_type(name, expected, value)
        return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
