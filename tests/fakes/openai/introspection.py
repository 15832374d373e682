"""OpenAI's API as its official Python SDK has it: every method that makes one request, its parameters and its answer.

`python -m tests.fakes.openai.introspection` writes `host/fakes/openai/specification.json` from it, which is all that
the fake knows of the SDK. Nothing is sent: `.ci/operations/sdk.py` calls the methods, of a client that keeps requests.
"""

from __future__ import annotations

import inspect
import json
import re
import typing
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Union

import openai
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from host.fakes.openai.structured import instance
from tests.catalyst.openai.arguments import SDK
from tests.conftest import ROOT

DOCUMENT = ROOT / "host/fakes/openai/specification.json"
FILE = ("a.txt", b"the content of a file", "text/plain")
_MARK = "--PATH"  # a path parameter is sent as its name with this behind it
# The fake answers these by hand, and needs no model for them.
_BY_HAND = ("responses.", "beta.responses.", "chat.", "beta.chat.", "completions.", "embeddings.", "models.")


@dataclass(frozen=True)
class Method:
    """One method of the SDK, such as `vector_stores.files.create`, and what it sent of itself."""

    name: str
    function: Callable[..., Any]
    given: dict[str, Any]  # its arguments, in which the value of a string is its name with a mark
    request: Any  # the SDK's options of a request
    answer: Any  # the SDK's type of the answer, or of each item of a `page`
    page: Any

    def arguments(self, text: Callable[[str], str]) -> dict[str, Any]:
        """A value for each required parameter. `text` gives that of a string by its parameter's name."""
        return {name: _told(value, text) for name, value in self.given.items()}

    @property
    def verb(self) -> str:
        return str(self.request.method).upper()

    @property
    def path(self) -> str:
        """With `{name}` for a parameter, and without the query that some have in it."""
        return re.sub(rf"([a-z_]+){_MARK}", r"{\1}", self.request.url.partition("?")[0])

    @property
    def path_parameters(self) -> list[str]:
        return re.findall(r"{([a-z_]+)}", self.path)

    @property
    def parameters(self) -> dict[str, Any]:
        """The types of the parameters of the query and the body, by name."""
        within = self.path_parameters
        return {name: hint for name, hint in hints(self.function).items() if name not in within}


@cache
def methods() -> dict[str, Method]:
    """By name, such as `chat.completions.create`, in alphabetical order: those that are one request and no helper."""
    client = SDK.client()
    found = {}
    for name, function in sorted(SDK.single(client)):
        known = hints(function)
        given = {param: value_of(known[param], param + _MARK) for param in required(function)}
        if (request := SDK.kept(client, function, given)) is not None:
            found[name] = Method(name, function, given, request, client.answer, client.page)
    return found


def _told(value: Any, text: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {name: _told(one, text) for name, one in value.items()}
    if isinstance(value, list):
        return [_told(one, text) for one in value]
    return text(value.removesuffix(_MARK)) if isinstance(value, str) and value.endswith(_MARK) else value


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return inspect.unwrap(getattr(function, "__func__", function))


@cache
def hints(function: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = SDK.hints(function)
    return found


def required(function: Callable[..., Any]) -> list[str]:
    """The parameters without a default; of overloads, those of the first."""
    signature = inspect.signature(next(iter(typing.get_overloads(_plain(function))), function))
    return [name for name, one in signature.parameters.items() if name != "self" and one.default is one.empty]


def _always(function: Callable[..., Any], name: str) -> bool:
    """Whether every overload requires the parameter."""
    overloads = [inspect.signature(one).parameters for one in typing.get_overloads(_plain(function))]
    return all(name in one and one[name].default is inspect.Parameter.empty for one in overloads)


def value_of(hint: Any, text: str) -> Any:
    """The smallest value of a type; `text` where a string will do."""
    if str in SDK.without_omitted(hint):
        return text
    if SDK.takes_file(hint):
        return [FILE] if SDK.takes_files(hint) else FILE
    return instance(_schema(hint), text)


class Schemas(GenerateJsonSchema):
    """Pydantic's, where what has no JSON Schema (the content of a file) is anything."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        del schema, error_info
        return {}

    def generator_schema(self, schema: Any) -> dict[str, Any]:
        return {"type": "array", "items": self.generate_inner(schema["items_schema"])}


def _schema(hint: Any) -> Any:
    if SDK.takes_file(hint):
        return {}
    return TypeAdapter(Union[tuple(SDK.without_omitted(hint))]).json_schema(schema_generator=Schemas)  # noqa: UP007 - of a tuple


# the document


def specification() -> dict[str, Any]:
    """`{"source", "operations": {NAME: …}, "models": {NAME: JSON Schema}}`.

    An operation has its `method` and `path`; the `types` and `choices` of its body's parameters and the `required`
    ones; `form` if they come as a form, `admin` if it takes an admin key; and its `answer`: a JSON Schema, "binary",
    "text" or null for nothing, or the schema of each item of a `page`, which is a "cursor" (`after`), a
    "conversation" (with `last_id`), a "next" or a "token" (with `next`), or whole ("page").
    """
    found = methods()
    adapters: list[Any] = [
        (name, "serialization", TypeAdapter(one.answer))
        for name, one in found.items()
        if _is_json(one.answer) and not name.startswith(_BY_HAND)
    ]
    with warnings.catch_warnings(action="ignore"):
        schemas, document = TypeAdapter.json_schemas(adapters, schema_generator=Schemas)
    operations = {name: _operation(one, schemas.get((name, "serialization"))) for name, one in found.items()}
    models = {name.removeprefix("openai__types__"): _small(schema) for name, schema in document["$defs"].items()}
    return {"source": f"openai {openai.__version__}", "operations": operations, "models": dict(sorted(models.items()))}


def _is_json(answer: Any) -> bool:
    return answer not in (str, type(None)) and "BinaryResponse" not in str(answer)


def _operation(method: Method, schema: Any) -> dict[str, Any]:
    request, page, answer = method.request, method.page, method.answer
    found: dict[str, Any] = {"method": method.verb, "path": f"/v1{method.path}"}
    if "bearer_auth" not in (request.security or {"bearer_auth": True}):
        found["admin"] = True
    if found["method"] == "POST":
        if request.headers and "multipart" in str(request.headers):
            found["form"] = True
        body = {name: _schema(hint) for name, hint in method.parameters.items()}
        needed = [name for name in required(method.function) if name in body and _always(method.function, name)]
        types_of: dict[str, list[str]] = {}
        for name, one in body.items():
            if words := _words(one, one.get("$defs", {})):
                types_of.setdefault(" or ".join(words), []).append(name)
        choices = {name: names for name, one in body.items() if (names := _choices(one, one.get("$defs", {})))}
        found |= {"required": needed} if needed else {}
        found |= {"types": {words: " ".join(names) for words, names in types_of.items()}} if types_of else {}
        found |= {"choices": choices} if choices else {}
    if page is not None:
        found["page"] = re.sub(r"Sync([A-Za-z]*?)(Cursor)?Page.*", r"\1", page.__name__).lower() or "cursor"
    found["answer"] = (
        (_small(schema) if schema else None if answer is type(None) else "text" if answer is str else "binary")
        if schema or not _is_json(answer)
        else {}
    )
    return found


_WORDS = {
    "string": "a string", "integer": "an integer", "number": "a decimal number", "boolean": "a boolean",
    "array": "an array", "object": "an object",
}  # fmt: skip
_ARRAYS = {"string": "an array of strings", "object": "an array of objects"}


def _options(schema: Any, known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in schema:
        yield from _options(known[schema["$ref"].rpartition("/")[2]], known)
    elif "anyOf" in schema or "oneOf" in schema:
        for one in schema.get("anyOf", schema.get("oneOf")):
            yield from _options(one, known)
    elif schema.get("type") != "null":
        yield schema


def _words(schema: Any, known: dict[str, Any]) -> list[str]:
    """In words, the types of a parameter; none if it may be anything."""
    options = list(_options(schema, known))
    kinds = [one.get("type") for one in options]
    items = [deeper.get("type") for one in options for deeper in _options(one.get("items", {}), known)]
    words = {**_WORDS, "array": _ARRAYS.get(items[0], "an array") if len(set(items)) == 1 else "an array"}
    return [] if None in kinds else [said for kind, said in words.items() if kind in kinds]


def _choices(schema: Any, known: dict[str, Any]) -> list[str]:
    """The strings of a parameter that takes no others."""
    options = list(_options(schema, known))
    if not all(one.get("type") == "string" and ("enum" in one or "const" in one) for one in options):
        return []
    return sorted({name for one in options for name in one.get("enum", [one.get("const")])})


def _small(schema: Any) -> Any:
    """`schema` without words for people, and without null: what may be null may be left out."""
    if isinstance(schema, list):
        return [_small(one) for one in schema if one != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema.replace("#/$defs/openai__types__", "#/$defs/") if isinstance(schema, str) else schema
    words = {"title", "description", "default", "discriminator", "examples", "deprecated"}
    small = {
        name: {key: _small(one) for key, one in value.items()} if name in ("properties", "$defs") else _small(value)
        for name, value in schema.items()
        if name not in words and not (name == "additionalProperties" and value is True)
    }
    for name in ("anyOf", "oneOf", "enum"):  # Python has one union of equal members, in the order of the first to ask
        if name in small:
            small[name] = sorted(small[name], key=json.dumps)
    if len(options := small.get("anyOf", ())) == 1:
        del small["anyOf"]
        small |= options[0]
    return small


def document() -> str:
    """The specification as text, with a line for each operation and each model."""
    whole = specification()
    parts = [f'"source": {json.dumps(whole["source"])}']
    for name in ("operations", "models"):
        rows = [f"{json.dumps(key)}: {json.dumps(one, separators=(',', ':'))}" for key, one in whole[name].items()]
        parts.append(f'"{name}": {{\n' + ",\n".join(rows) + "\n}")
    return "{" + ",\n".join(parts) + "}\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
