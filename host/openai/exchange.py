"""One request of OpenAI's API, run as an operation: what it asks of the catalyst, and what its answer begins with."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

from host.component.operations import OperationSpec
from host.core.names import Reference
from host.core.operation import Attachment, Result
from host.core.strict_json import Json, WrittenObject
from host.errors import InputError, NotFound, UpstreamTimeout
from host.openai.messages import (
    about_bytes,
    content_of,
    events,
    form_of,
    gathered,
    handed_on,
    last_of,
    place_of,
    whole,
)
from host.run import AnswerHead, Piece, StreamEnd
from host.runtime.catalyst import Catalyst
from host.runtime.events import KEEPALIVE, is_event
from host.service.catalog import Matched, Routes

T = TypeVar("T")

CALLER: Final[Mapping[str, Json]] = {"via": "client"}
"""The caller of a client's runs, for their records."""

EVENTS: Final = "text/event-stream; charset=utf-8"
_HERE: Final = Reference.parse("c:local.openai:0.0.0")  # the one catalyst of these routes
HIDDEN: Final = "a secret of the catalyst"  # in the place of a key, which the SDK wants and nobody sends
_OF_THE_SDK: Final = frozenset(  # or of its connection: the catalyst and the host set their own
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}
)
_OF_THE_SDK_PREFIX: Final = "x-stainless-"
_UNKNOWING: Final = frozenset({"idempotency-key", "openai-beta"})  # that some catalysts know of, and others set


@dataclass(frozen=True, slots=True)
class Asked:
    """An input of the catalyst. `flows`: its answer comes in pieces."""

    input: Mapping[str, Json]
    attachments: Mapping[str, Attachment]
    spec: OperationSpec
    flows: bool


class HttpOperations:
    """The operations of a catalyst, by the requests that ask for them."""

    def __init__(self, catalyst: Catalyst) -> None:
        self._catalyst = catalyst
        self._routes = Routes([(_HERE, catalyst.operations.values())])

    def asked(self, method: str, path: str, query: bytes, headers: Mapping[str, str], body: bytes) -> Asked:
        """`path` is below the API's base, as it would be sent; `headers` have lower-case names. Raises NotFound where
        no operation has the path, and InputError."""
        matched = self._routes.find(method, path.removesuffix("/"))
        if not isinstance(matched, Matched):
            raise NotFound(
                f"{self._catalyst.reference} has no operation for {method} {path[:200]}",
                hint=f"the path has other methods: {', '.join(matched)}" if matched else None,
            )
        spec, given = matched.spec(_HERE), headers.get("content-type", "")
        form, document = form_of(spec, given, body), None
        if body and form == "json":
            document = WrittenObject.read(body, "the body")
        content = content_of(spec, form, given, body, query, document)
        flows = content.stream or spec.always_streams or spec.response == "binary"
        return Asked(
            self.input(
                spec,
                matched.in_path(spec),
                content.params,
                content.query,
                self.without_the_sdks(headers),
                stream=content.stream,
            ),
            content.attachments,
            spec,
            flows,
        )

    def input(
        self,
        spec: OperationSpec,
        in_path: Mapping[str, Json],
        params: Mapping[str, Json],
        query: str,
        headers: Mapping[str, str],
        *,
        stream: bool,
    ) -> dict[str, Json]:
        """The catalyst's input. `headers` are the caller's own, with lower-case names. Raises InputError for one that
        the catalyst does not send on, and for a query beside a body where it takes none."""
        passes, more = self._catalyst.passes, dict[str, Json]()
        if query and passes.query:
            params = params if spec.request != "none" else {}
            more["query"] = query
        elif query and spec.request != "none":
            raise InputError(f"{self._catalyst.reference} takes no query beside a body", field="query")
        if sent := self._sent_on(headers):
            more["headers"] = sent
        if in_path:
            found = {**params, **in_path}
            params = params.changed(found) if isinstance(params, WrittenObject) else found
        return {**more, "operation": spec.name, "params": params, "stream": stream}

    def without_the_sdks(self, headers: Mapping[str, str]) -> dict[str, str]:
        """`headers` of the SDK, without those that it sets itself and that the catalyst does not send on."""
        forwards = self._catalyst.grant.forwards
        return {
            name: value
            for name, value in headers.items()
            if name in forwards
            or not (
                name in _OF_THE_SDK
                or name in _UNKNOWING
                or name.startswith(_OF_THE_SDK_PREFIX)
                or (name == "authorization" and value == f"Bearer {HIDDEN}")
            )
        }

    def _sent_on(self, headers: Mapping[str, str]) -> dict[str, Json]:
        forwards = self._catalyst.grant.forwards if self._catalyst.passes.headers is not None else frozenset[str]()
        for name in headers:
            if name == "authorization":
                raise InputError(
                    "a request cannot bring its own key",
                    field="headers.authorization",
                    hint="the key is a secret of the catalyst",
                )
            if name not in forwards:
                raise InputError(
                    f"the header {name[:80]!r} is not one that {self._catalyst.reference} sends on",
                    field=f"headers.{name[:80]}",
                    hint=f"those that it does: {', '.join(sorted(forwards)) or 'none'}; or add it to forward_headers",
                )
        return dict(headers)


def lower(headers: Mapping[str, T] | None) -> dict[str, T]:
    """`headers` with names in lower case."""
    return {name.lower(): value for name, value in (headers or {}).items()}


def in_time(piece: str | Piece | None, patience_s: float | None) -> str | Piece | None:
    """`piece` of a stream whose caller waits so long for each. Raises UpstreamTimeout where that time has gone by."""
    if piece is KEEPALIVE:
        raise UpstreamTimeout(
            f"nothing came for {patience_s} s, the timeout that the caller set", waited_s=patience_s or 0.0
        )
    return piece


Next: TypeAlias = str | Piece | Result
"""What comes next of a run: an event, a piece, or the end."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The head of an answer. `body` is all of it, or None where it flows: then `begun` has come of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None = None
    begun: list[Next] = field(default_factory=list)
    result: Result | None = None


def answer_of(result: Result, spec: OperationSpec) -> HttpAnswer:
    """The answer of a run that has ended."""
    body, media_type = whole(result, spec)
    headers = {**handed_on(result.headers), **place_of(result), "content-type": media_type}
    return HttpAnswer(result.status, headers, body, result=result)


def opening(asked: Asked) -> Generator[None, Next, HttpAnswer]:
    """The answer of a run whose answer flows. What comes of it is to be sent into this generator, one by one."""
    head: AnswerHead | None = None
    piece = yield
    if isinstance(piece, AnswerHead):
        head = piece
        if head.binary:
            return HttpAnswer(head.status, {**handed_on(head.headers), **about_bytes(head.headers)})
        piece = yield
    if isinstance(piece, Result) and not (piece.ok and asked.input["stream"] and piece.document is None):
        return answer_of(piece, asked.spec)
    if isinstance(piece, Result) and head is None and not gathered(piece):
        return answer_of(piece, asked.spec)
    headers = handed_on(head.headers) if head is not None else {}
    return HttpAnswer(200, {**headers, "content-type": EVENTS}, begun=[piece])


class Flow:
    """The body of an answer that flows, as bytes: each piece, and after the last one the end."""

    def __init__(self, answer: HttpAnswer) -> None:
        self._events = answer.headers["content-type"] == EVENTS
        self._first: str | None = None

    def bytes_of(self, piece: str | Piece) -> bytes:
        if isinstance(piece, bytes):
            return piece
        if self._first is None and is_event(piece):
            self._first = piece
        return events([piece])

    def end(self, result: Result, upstream: StreamEnd | None) -> Iterator[bytes]:
        if not self._events:
            return
        if self._first is None and (found := gathered(result)):
            self._first = found[0]
            yield events(found)
        yield last_of(self._first or "", upstream)
