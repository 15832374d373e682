"""A request of OpenAI's API as an operation: its route, by method and path; its parameters, by path, query and body."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias
from urllib.parse import parse_qsl, quote, unquote

from host.component.operations import OperationSpec, routed
from host.core.headers import without_controls
from host.core.names import Reference
from host.core.operation import Attachment, Mention
from host.core.strict_json import Json, parse_json
from host.errors import InputError, NotFound, UnsupportedMedia
from host.server.asgi import LARGE_BYTES, Receive, Scope, header, read_body, read_json
from host.server.openai.forms import read_form, text_of
from host.service.dialects import openai
from host.service.principal import Admitted

MAX_QUERY_FIELDS = 1_000
_IN_QUERY = "%[]!$&'()*+,;=:@/?"  # RFC 3986, 3.4; brackets are sent by most clients as they are
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_AS_ASCII = frozenset({"us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252"})
_BOOLEANS = {"true": True, "false": False}
_NAMED = re.compile(r"\{(\+?)\w+\}")
_MOST_STEPS = 128  # of a path: no operation's has more
_MODEL = ("/{model}", "/{model_id}")
_FORM = "multipart/form-data"
_UNNAMED = frozenset({"", ".", ".."})  # no steps of a name: a path with them is another path (RFC 3986, 6.2.2.3)


@dataclass(frozen=True, slots=True)
class Route:
    """`template` is a path such as `/models/{model}`. `specs` are the operations of the catalysts that declare it, by
    references with a version: their names may differ, and those of the parameters in the path."""

    method: str
    template: str
    specs: dict[Reference, OperationSpec]

    def spec(self, reference: Reference) -> OperationSpec:
        """Raises NotFound."""
        found = self.specs.get(reference)
        if found is None:
            others = ", ".join(map(str, self.specs))
            raise NotFound(f"{reference} has no {self}", hint=f"those that have it: {others}")
        return found

    def __str__(self) -> str:
        return f"{self.method} {self.template}"


@dataclass(frozen=True, slots=True)
class Matched:
    """A route that a request matched. `values` are the parameters in the path, decoded, in the template's order."""

    route: Route
    values: tuple[str, ...] = ()

    @property
    def lists_models(self) -> bool:
        return self.route.method == "GET" and self.route.template == "/models"

    @property
    def spends(self) -> bool:
        """Whether the operation costs tokens, whatever its parameters."""
        return any(openai.estimate(spec, {}, {}).needed for spec in self.route.specs.values())

    def spec(self, reference: Reference) -> OperationSpec:
        """The operation at this catalyst. Raises NotFound."""
        return self.route.specs.get(reference) or self.route.spec(reference)

    def in_path(self, spec: OperationSpec) -> dict[str, Json]:
        return dict(zip(spec.in_path, self.values, strict=True))


def path_below(scope: Scope) -> str:
    """The path as it was sent, below the place where this is mounted."""
    path: str = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0].decode("latin-1")
    return path.removeprefix(scope.get("root_path", "")).removesuffix("/")  # clients join URLs with one too many


class _Step:
    """Where a path has come to, step by step. `literals` are the words that may come next; `named` comes after any
    other step (`{name}`), and `rest` after one or more (`{+name}`). `methods` are the routes that end here."""

    __slots__ = ("literals", "methods", "named", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, _Step] = {}
        self.named: _Step | None = None
        self.rest: _Step | None = None
        self.methods: dict[str, Route] = {}

    def reach(self, step: str) -> _Step:
        """Where the step of a shape leads."""
        if step == "{}":
            self.named = self.named or _Step()
            return self.named
        if step == "{+}":
            self.rest = self.rest or _Step()
            return self.rest
        return self.literals.setdefault(step, _Step())

    def ends(self, steps: Sequence[str], at: int = 0, values: tuple[str, ...] = ()) -> Iterator[_End]:
        """The routes of the steps from `at` on, with the values of their names: a word before any step, that before
        several, and few of them before many."""
        if at == len(steps):
            if self.methods:
                yield self.methods, values
            return
        step = steps[at]
        if (literal := self.literals.get(step)) is not None:
            yield from literal.ends(steps, at + 1, values)
        if self.named is not None and _UNNAMED.isdisjoint((value := unquote(step)).split("/")):
            yield from self.named.ends(steps, at + 1, (*values, value))
        if self.rest is not None:
            for end in range(at + 1, len(steps) + 1):
                value = unquote("/".join(steps[at:end]))
                if _UNNAMED.isdisjoint(value.split("/")):
                    yield from self.rest.ends(steps, end, (*values, value))


_End: TypeAlias = tuple[dict[str, "Route"], tuple[str, ...]]


class Routes:
    """The routes of all catalysts, from their operations by references with a version. A word in a path comes before a
    name: `/files/search` before `/files/{file_id}`. A model's name at the end of a path may have slashes, where no
    other route has as many steps: `/models/meta-llama/Llama-3`. However many routes there are, a path is found in as
    many looks as it has steps."""

    def __init__(self, declared: Iterable[tuple[Reference, Iterable[OperationSpec]]], *, sockets: bool = False) -> None:
        """`sockets`: the routes of WebSockets, in place of those of requests."""
        self._exact: dict[str, dict[str, Route]] = {}
        self._root = _Step()
        self._of_models: list[tuple[str, dict[str, Route]]] = []  # by what stands before the model
        shapes: dict[str, dict[str, Route]] = {}
        for reference, specs in declared:
            for spec in [one for one in specs if one.websocket] if sockets else routed(specs):
                route = spec.path.partition("?")[0] if sockets else spec.route
                shape = _NAMED.sub(r"{\1}", route)
                methods = shapes.setdefault(shape, {})
                methods.setdefault(spec.method, Route(spec.method, route, {})).specs[reference] = spec
        for shape, methods in shapes.items():
            if shape.count("{}") == 1 and next(iter(methods.values())).template.endswith(_MODEL):
                self._of_models.append((shape.removesuffix("{}"), methods))
            if "{" not in shape:
                self._exact[shape] = methods
            else:
                step = self._root
                for name in shape.split("/"):
                    step = step.reach(name)
                step.methods = methods

    def find(self, method: str, path: str) -> Matched | Sequence[str]:
        """The route of `path`, which is as it was sent; else the methods of this path, none for an unknown path. HEAD
        matches as GET."""
        method = "GET" if method == "HEAD" else method
        if (methods := self._exact.get(path)) is not None and method in methods:
            return Matched(methods[method])
        allowed = set(methods or ())
        steps = path.split("/", _MOST_STEPS)
        if len(steps) > _MOST_STEPS:
            return sorted(allowed)
        for others, values in self._root.ends(steps):
            if method in others:
                return Matched(others[method], values)
            allowed |= others.keys()
        for before, others in self._of_models if not allowed else ():
            model = unquote(path.removeprefix(before))
            if path.startswith(before) and _UNNAMED.isdisjoint(model.split("/")):
                return Matched(others[method], (model,)) if method in others else sorted(others)
        return sorted(allowed)


@dataclass(frozen=True, slots=True)
class Content:
    """The query and the body of a request. `params` are of the body; where a request has none, of the query. `query` is
    its text. `stream` says that it asks for events, `large` that checking takes long."""

    params: Mapping[str, Json]
    query: str = ""
    attachments: Mapping[str, Attachment] = field(default_factory=dict)
    stream: bool = False
    large: bool = False


async def read_content(scope: Scope, receive: Receive, spec: OperationSpec, most: int, admitted: Admitted) -> Content:
    """Raises InputError, which names the field; TooLarge; LimitExceeded, Busy; Cancelled where the client left."""
    body = await read_body(scope, receive, most, admitted)
    large = len(body) > LARGE_BYTES
    given = header(scope, "content-type") or ""
    kind = given.partition(";")[0].strip().lower()
    query, fields = read_query(scope["query_string"]) if scope["query_string"] else ("", {})
    params: dict[str, Json] = fields if spec.request == "none" else {}
    attachments: dict[str, Attachment] = {}
    request = spec.request
    if request == "multipart" and spec.without_files == "json" and _is_json(kind):
        request = "json"
    if request == "multipart" or (request == "raw" and kind == _FORM):
        if kind != _FORM:
            raise InputError(f"the body has to be {_FORM}, and is {kind[:100] or 'of no type'}", field="body")
        read = partial(_form, given, body, spec.parts)
        params, attachments = await admitted.off_loop(read) if large else read()
    elif request == "raw":
        params = {next(iter(spec.parts), "body"): text_of(body)}
    elif request == "json" and body:
        if kind not in ("", "application/json") and not _is_json(kind):
            raise InputError(f"the body has to be application/json, and is {kind[:100]}", field="body")
        if "charset" in given.lower():
            _check_charset(given, body)
        params = await read_json(body, "the body", admitted, written=True)
    flagged = spec.stream or spec.request == "json"  # else `stream` is a field like any other
    stream = flagged and _stream(params, keep=request == "multipart")
    return Content(params, query, attachments, stream, large=large)


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def _check_charset(content_type: str, body: bytes) -> None:
    """JSON is UTF-8 (RFC 8259, 8.1). A charset that agrees with it on this body is passed over, as others do. Raises
    UnsupportedMedia."""
    found = _CHARSET.search(content_type)
    charset = found[1].lower() if found else ""
    if charset not in ("utf-8", "utf8") and not (charset in _AS_ASCII and body.isascii()):
        raise UnsupportedMedia(f"JSON is read in UTF-8, and not in {charset[:40] or 'another charset'}", field="body")


def _stream(params: dict[str, Json], *, keep: bool) -> bool:
    """Takes `stream` out of `params`: an operation has it beside them. With `keep` it stays in its place, as the flag
    that it is: a form has an order."""
    value = params.get("stream") if keep else params.pop("stream", None)
    value = _BOOLEANS.get(value, value) if isinstance(value, str) else value
    if value is not None and not isinstance(value, bool):
        raise InputError("stream must be true or false", field="stream")
    if keep and value is not None:
        params["stream"] = value
    return value is True


def read_query(text: bytes) -> tuple[str, dict[str, Json]]:
    """The query as it is to be sent on, percent-encoded where it has characters that no URL has; and as parameters:
    `a=1&b[]=2&b[]=3` as `{"a": "1", "b": ["2", "3"]}`; a name that comes twice is a list too. Raises InputError."""
    try:
        query = text.decode("ascii")
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS, errors="strict")
    except ValueError:  # of which UnicodeDecodeError is one
        raise InputError("the query of the URL cannot be read", field="query") from None
    return quote(query, safe=_IN_QUERY), _gathered(pairs)


def _form(content_type: str, body: bytes, types: Mapping[str, str]) -> tuple[dict[str, Json], dict[str, Attachment]]:
    """The fields of a form as parameters, and its files as attachments that the parameters name. `types` are the media
    types of fields: one of JSON is read."""
    pairs: list[tuple[str, Json]] = []
    attachments: dict[str, Attachment] = {}
    for part in read_form(content_type, body):
        if part.filename is None:
            text = text_of(part.content)
            pairs.append((part.name, parse_json(text, part.name) if _is_json(types.get(part.name, "")) else text))
        else:
            ident = f"file{len(attachments)}"
            attachments[ident] = Attachment(part.content, without_controls(part.filename), _plain(part.content_type))
            pairs.append((part.name, Mention(ident)))
    return _gathered(pairs), attachments


def _plain(text: str) -> str:
    """A media type that can stand in a header of the upstream request."""
    return "".join(char for char in text if char.isprintable())[:255]


def _gathered(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for given, value in pairs:
        name = given.removesuffix("[]")
        if name in found:
            earlier = found[name]
            found[name] = [*earlier, value] if isinstance(earlier, list) else [earlier, value]
        else:
            found[name] = [value] if given.endswith("[]") else value
    return found
