"""The operations of the official Python SDK, by calling its methods: what a call would send says what its row is.

Each method gets a mark as the value of every parameter, and the client keeps the request in place of sending it. Where
a mark is found says where the parameter goes.
"""

from __future__ import annotations

import inspect
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from string import Formatter
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import openai
from openai._legacy_response import HttpxBinaryResponseContent
from openai._types import NotGiven, Omit

_TRANSPORT = frozenset({"self", "extra_headers", "extra_query", "extra_body", "timeout"})
_NOT_SENT = frozenset({"output_type", "tool_handlers"})  # parameters for the SDK's own use
# Words in the names of methods that make several requests, or the request of another method.
_HELPERS = frozenset({"parse", "stream", "poll", "connect", "upload", "prepare", "wait", "verify", "unwrap", "for"})
_ROOTS = ("with_raw_response", "with_streaming_response", "with_options", "copy")
_SHAPES = {type(None): "empty", HttpxBinaryResponseContent: "binary", str: "text"}
_FILE = b"a file"
_BETA = "OpenAI-Beta"


class Kept(Exception):
    """Ends a call of the SDK before anything is sent."""


class Client(openai.OpenAI):
    """Keeps `sent` (the request's options), `answer` and `page` of a call, and raises Kept. `answer` is the type of the
    answer, or of each item of a `page`, which is None for anything else."""

    answer: Any
    page: Any
    sent: Any

    def request(self, cast_to: Any, options: Any, **_: Any) -> Any:
        self.answer, self.page, self.sent = cast_to, None, options
        raise Kept

    def _request_api_list(self, model: Any, page: Any, options: Any) -> Any:
        self.answer, self.page, self.sent = model, page, options
        raise Kept


def client(base_url: str = "https://api.openai.com/v1") -> Client:
    return Client(api_key="sk-key", admin_api_key="sk-admin", webhook_secret="whsec_AAAA", base_url=base_url)  # noqa: S106


def methods(root: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public method of every resource of a client, with its name, such as `chat.completions.create`."""
    yield from _methods(root, "")


def _methods(place: Any, name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    for attribute, value in sorted(inspect.getmembers(type(place))):
        if attribute.startswith("_") or attribute in _ROOTS:
            continue
        dotted = f"{name}.{attribute}" if name else attribute
        if inspect.isfunction(value):
            if name:
                yield dotted, getattr(place, attribute)
        elif type(value).__name__ in ("cached_property", "property"):
            inner = getattr(place, attribute)
            if type(inner).__module__.startswith("openai.resources"):
                yield from _methods(inner, dotted)


def hints(method: Callable[..., Any]) -> dict[str, Any]:
    """The types of the parameters of a method that are not about the transport."""
    found = typing.get_type_hints(method)
    names = inspect.signature(method).parameters.keys() - _TRANSPORT - _NOT_SENT
    return {name: found[name] for name in inspect.signature(method).parameters if name in names}


def takes_file(hint: Any) -> bool:
    return hint is bytes or any(map(takes_file, typing.get_args(hint)))


def takes_files(hint: Any) -> bool:
    """Whether a list of files fits."""
    return any(typing.get_origin(one) is Sequence and takes_file(one) for one in without_omitted(hint))


def single(root: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Those methods that are no helpers: they make one request of their own, if any."""
    for name, method in methods(root):
        if not _HELPERS & set(name.rpartition(".")[2].split("_")) or name.endswith("events.stream"):
            yield name, method


def operations() -> Iterator[dict[str, Any]]:
    """A row for each method that makes one request: all that `operations.json` has of it, but for words; and `hints`,
    the types of its parameters by their names in the API."""
    root = client()
    for name, method in single(root):
        if (row := _row(root, name, method)) is not None:
            yield row


def _mark(name: str, hint: Any) -> Any:
    if takes_file(hint):
        return _FILE
    if name == "response_format":
        return "json"  # what the SDK looks at
    mark = f"zz{name}zz"
    return [mark] if name == "betas" else mark


def kept(root: Client, method: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """What the method sends for these arguments; None if it looks at them first, and sends nothing."""
    try:
        with warnings.catch_warnings(action="ignore"):
            method(**given)
    except Kept:
        return root.sent
    except Exception:  # noqa: BLE001 - whatever it says of them
        return None
    return None


def _row(root: Client, name: str, method: Callable[..., Any]) -> dict[str, Any] | None:
    types = hints(method)
    given = {one: False if one == "stream" else _mark(one, hint) for one, hint in types.items()}
    if (sent := kept(root, method, given)) is None:
        return None
    answer, page = root.answer, root.page
    required = [one for one, p in inspect.signature(method).parameters.items() if one in types and p.default is p.empty]
    names = {f"zz{one}zz": one for one in types}  # by the mark

    path = sent.url
    for mark, one in names.items():
        path = path.replace(mark, f"{{{one}}}")
    query = {key: names.get(str(value), key) for key, value in _mapping(sent.params).items()}
    body = {key: names.get(str(value), key) for key, value in _mapping(sent.json_data).items()}
    files = [(one[0], one[1]) for one in (sent.files or ())]
    parts = {key: value[2] for key, value in files if isinstance(value, tuple)}
    headers = {_BETA if key.lower() == _BETA.lower() else key: text for key, text in _mapping(sent.headers).items()}
    headers = {key: text for key, text in headers.items() if not text.startswith("multipart/")}
    sent_as = {key: {"param": names[text]} if text in names else text for key, text in headers.items()}
    wire = {**query, **body}  # the name in the API: the name in Python
    python = {one: key for key, one in wire.items()}

    row: dict[str, Any] = {"name": name, "method": sent.method.upper(), "path": path}
    if parts:
        plain = kept(root, method, {one: given[one] for one in required})
        row |= {"request": "raw" if plain is not None and plain.content else "multipart", "parts": parts}
    elif files:
        row["request"] = "multipart"
        without = kept(root, method, {one: mark for one, mark in given.items() if mark != _FILE or one in required})
        if not any(one in required for one, mark in given.items() if mark == _FILE) and not _is_form(without):
            row["without_files"] = "json"
    else:
        row["request"] = "json" if sent.json_data is not None else "none"
    if query and row["request"] != "none":
        row["query"] = list(query)
    if sent_as:
        row["headers"] = sent_as
    row["response"] = "json" if page is not None else _SHAPES.get(answer, "json")
    if headers.get("Accept") == "text/event-stream":
        row["stream"] = "always"
    elif "stream" in types:
        row["stream"] = True
    if "bearer_auth" not in sent.security:
        row["secret"] = "OPENAI_ADMIN_KEY"  # noqa: S105 - its name
    if page is not None:
        row["paginated"] = True
    if hasattr(method, "__deprecated__"):
        row["deprecated"] = True
    in_path = [one for _, one, _, _ in Formatter().parse(path) if one]
    in_headers = [one["param"] for one in sent_as.values() if isinstance(one, dict)]
    ordered = [*in_path, *query.values(), *in_headers, *body.values(), *(key.removesuffix("[]") for key, _ in files)]
    row_types = {python.get(one, one): types[one] for one in dict.fromkeys(ordered)}
    row["hints"] = row_types
    row["python"] = python
    row["required"] = [python.get(one, one) for one in required]
    return row


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_form(sent: Any) -> bool:
    return any(str(text).startswith("multipart/") for text in _mapping(getattr(sent, "headers", None)).values())


def websockets() -> Iterator[dict[str, Any]]:
    """A row for each connection: `connect` of the resources that have one."""
    root = client()
    for name, method in methods(root):
        if name.rpartition(".")[2] != "connect":
            continue
        types = {one: hint for one, hint in hints(method).items() if _is_parameter(hint)}
        given = {one: f"zz{one}zz" for one in types}
        url, headers = _opened(method, given)
        parts = urlsplit(url)
        path = parts.path.removeprefix("/v1")
        for one, mark in given.items():
            path = path.replace(mark, f"{{{one}}}")
        fixed = "&".join(pair for pair in parts.query.split("&") if pair and "zz" not in pair)
        row = {"name": name, "method": "GET", "path": path + (f"?{fixed}" if fixed else ""), "websocket": True}
        if beta := {key: text for key, text in headers.items() if key.lower() == "openai-beta"}:
            row["headers"] = beta
        signature = inspect.signature(method).parameters
        row["hints"] = types
        row["required"] = [one for one in types if signature[one].default is inspect.Parameter.empty]
        yield row


def _is_parameter(hint: Any) -> bool:
    return hint is str or str in typing.get_args(hint)


def _opened(method: Callable[..., Any], given: Mapping[str, Any]) -> tuple[str, Mapping[str, str]]:
    """The URL and the headers with which the connection would be opened."""
    seen: list[Any] = []

    def connect(url: str, *_: Any, additional_headers: Any = None, **__: Any) -> Any:
        seen.append((url, dict(additional_headers or {})))
        raise Kept

    with patch("websockets.sync.client.connect", connect), suppress(Kept):
        method(**given).enter()
    [(url, headers)] = seen
    return url, headers


def without_omitted(hint: Any) -> list[Any]:
    """The members of a union, those for a parameter that is left out excepted."""
    import types as kinds

    if typing.get_origin(hint) in (typing.Union, kinds.UnionType):
        return [inner for one in typing.get_args(hint) for inner in without_omitted(one)]
    return [] if hint in (Omit, NotGiven) else [hint]
