"""The answer to a line of a batch: the steps of `host.service.dispatch`, once, or again where a limit says when.

A line waits where nothing was done for it: a rate limit or a budget is spent, no sandbox is free, an upstream has too
many requests. Then it is asked again, for as long as the batch is patient. What the host's policy repeats, and where
failover goes, is as for any other request.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from host.core.json_pieces import without_numbers
from host.core.names import Digest, Reference
from host.core.operation import Result, strict_data
from host.core.repeating import was_not_processed
from host.core.strict_json import json_bytes, parse_json
from host.egress.retry import asked_wait_s
from host.errors import (
    ArtifactError,
    Busy,
    CircuitOpen,
    Denied,
    Forbidden,
    HostError,
    InputError,
    LimitExceeded,
    NotFound,
    PolicyError,
    StateError,
    TokenUnavailable,
    Unauthenticated,
)
from host.runtime.host import Host, cancelled_by_others
from host.runtime.threads import aside
from host.service import views
from host.service.accounts import Observer
from host.service.batches.lines import (
    PREFIX,
    BatchLine,
    BatchRequest,
    custom_id_of,
    idempotency_key,
    read_request,
)
from host.service.catalog import Catalog, Matched, Routes
from host.service.dialects import openai
from host.service.dialects.dialect import Tokens
from host.service.dispatch import Dispatch, Running, UsageRecorder
from host.service.limits import Budget, open_limiter
from host.service.operations import operations_of
from host.service.principal import MOST_REQUESTS, Admission, Admitted, Principal, weight
from host.service.request import OperationRequest, Resolved, Routing
from host.service.stored_objects import StoredObjects

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace
    from host.service.catalog import View

VIA: Final = "batch"
STOPS: Final = (StateError, ArtifactError, PolicyError, TokenUnavailable, Unauthenticated)
"""Errors that are no line's own: every other line would end in them as well. The batch stops, and can go on later."""

_LEAST_WAIT_S, _MOST_WAIT_S = 1.0, 60.0  # where nothing says how long, or it is longer
_MOST_REFUSALS: Final = 8  # by an upstream, of one line


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The answer to a line: `text` is the line of the results, or of the errors where it `failed`, without its end."""

    number: int
    text: bytes
    failed: bool
    tokens: Tokens = field(default_factory=Tokens)


class Engine(Protocol):
    """Where the lines of a batch are run."""

    async def answer(self, batch: str, line: BatchLine, stopping: asyncio.Event) -> BatchAnswer | None:
        """The answer to a line of the batch of this id. None where the batch was `stopping` while the line waited for a
        limit: nothing was done for it. Raises one of STOPS. Cancelled with its task."""
        ...


@dataclass(frozen=True, slots=True)
class Asking:
    """On whose behalf a batch asks, and how. `principal` returns the caller as the catalog has them now, or raises
    Unauthenticated. `target`: the catalyst for all lines; None: the one that has the line's model. `told` renders an
    error for the caller. `patience_s`: for how long a line may wait for a limit. What comes later stops the batch,
    as does a limit that has more in `longest_s` at the earliest: it can go on then."""

    principal: Callable[[View], Principal]
    target: Reference | None = None
    timeout_s: float | None = None
    told: Callable[[HostError], Mapping[str, Any]] = HostError.as_dict
    patience_s: float = 600.0
    longest_s: float = math.inf


class OwnDispatch:
    """The dispatch of this process alone, over the state of `workspace`, with its `catalog`; what it opens, `stack`
    closes. So many lines run at once: `concurrency`. `limits_url` as of `open_limiter`; `only` as of Catalog. Raises
    HostError."""

    def __init__(
        self,
        stack: ExitStack,
        workspace: Workspace,
        routing: Routing,
        budgets: Mapping[Reference, Budget],
        limits_url: str | None,
        concurrency: int,
        only: Collection[Digest] | None = None,
    ) -> None:
        limiter = open_limiter(limits_url, workspace)
        stack.callback(limiter.close)
        host = stack.enter_context(Host(workspace=workspace, limiter=limiter))
        self.catalog = Catalog(host, workspace, routing, only)
        stack.callback(self.catalog.close)
        usage = UsageRecorder(workspace.usage)
        stack.callback(usage.close)
        admission = Admission(most_requests=MOST_REQUESTS + 2 * concurrency)  # a caller who is alone gets half
        stack.callback(admission.close)
        observers: list[Observer[Running]] = []
        objects = StoredObjects(self.catalog, workspace.made_objects, routing, observers)
        self.dispatch = Dispatch(self.catalog, limiter, usage, observers, budgets, admission, objects)
        stack.enter_context(cancelled_by_others(host, workspace))

    async def load_first(self, target: Reference | None) -> None:
        """Load what the first line is likely to need: `target`, or the default. Raises HostError."""
        view = await self.catalog.current()
        if target is not None:
            await self.catalog.catalyst(view, view.component(target).reference)
            return
        if not view.routing.references:
            raise nowhere()
        if view.routing.default is not None:
            await self.catalog.catalyst(view, view.routing.default)


def nowhere() -> NotFound:
    return NotFound("no catalyst is installed that lines could go to", hint="host register FILE installs one")


@dataclass(slots=True)
class _Asked:
    """A line on its way: what its answer begins with, once it was read. Its body is not kept while it waits."""

    batch: str
    line: BatchLine
    custom_id: str = ""
    path: str = PREFIX

    @property
    def key(self) -> str:
        return idempotency_key(self.batch, self.line.number)

    @property
    def large(self) -> bool:
        return len(self.line.text) > _LARGE


class DispatchEngine:
    """Runs lines by the dispatch of this process. One for each batch."""

    def __init__(self, catalog: Catalog, dispatch: Dispatch, asking: Asking) -> None:
        self._catalog = catalog
        self._dispatch = dispatch
        self._asking = asking
        self._routes: tuple[View, Routes] | None = None

    async def answer(self, batch: str, line: BatchLine, stopping: asyncio.Event) -> BatchAnswer | None:
        asked = _Asked(batch, line)
        until = time.monotonic() + self._asking.patience_s
        waits = refusals = 0  # for limits of the host; by the upstream
        while True:
            try:
                result, tokens = await self._run(asked)
            except HostError as error:
                wait_s = _wait_after(error, waits)
                if isinstance(error, STOPS) and not isinstance(error, Busy):
                    raise
                if wait_s is None:
                    return _failed(asked, error, self._asking.told)
                if wait_s > self._asking.longest_s or time.monotonic() + wait_s > until:
                    raise _out_of_patience(error) from None
                wait_s = min(wait_s, _MOST_WAIT_S)  # the operator may widen the limit meanwhile
                waits += 1
            else:
                refused_s = None if result.ok or refusals >= _MOST_REFUSALS else _wait_of(result, asked, refusals)
                if refused_s is None or time.monotonic() + refused_s > until:
                    large = len(result.document or b"") > _LARGE or bool(result.attachments)
                    answered = partial(_answered, asked, result, tokens)
                    return await aside(answered) if large else answered()
                wait_s = refused_s
                refusals += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await stopping.wait()
                return None

    async def _run(self, asked: _Asked) -> tuple[Result, Tokens]:
        """One run. Raises HostError."""
        view = await self._catalog.current()
        principal = self._asking.principal(view)
        early = None if asked.large else self._read(asked, view)  # a large line is admitted before it is read
        spends = early is None or early[1] is None or early[1].spends
        async with self._dispatch.admitted(principal, spends=spends) as admitted:
            try:
                return await self._ran(asked, view, admitted, early)
            except Forbidden as error:
                route = f"POST {PREFIX}{asked.path[:200]}" if asked.path else ""
                raise await self._dispatch.refused(error, principal, request_id=asked.key, route=route) from None

    async def _ran(
        self, asked: _Asked, view: View, admitted: Admitted, early: tuple[BatchRequest, Matched | None] | None
    ) -> tuple[Result, Tokens]:
        """Raises HostError."""
        if early is None:
            admitted.reserve(await admitted.off_loop(partial(weight, asked.line.text)))
            early = await admitted.off_loop(partial(self._read, asked, view))
        else:
            admitted.reserve(weight(asked.line.text))
        request, matched = early
        found = OperationRequest(
            principal=admitted.principal,
            target=self._asking.target or _model_of(request, matched),
            operation=matched,
            params=request.body if matched else {},
            more={} if matched else request.body,
            headers={"idempotency-key": asked.key},
            timeout_s=self._asking.timeout_s,
            request_id=asked.key,
            via=VIA,
            large=asked.large,
            admitted=admitted,
        )
        resolving = partial(self._dispatch.resolve, found, view)
        resolved = await admitted.off_loop(resolving) if asked.large else resolving()
        _check_no_stream(resolved)
        async with await self._dispatch.start(resolved, view) as running:
            return await running.result(), running.tokens or Tokens()

    def _read(self, asked: _Asked, view: View) -> tuple[BatchRequest, Matched | None]:
        """Raises InputError, NotFound."""
        try:
            request = read_request(asked.line)
        except InputError:
            asked.custom_id = custom_id_of(asked.line)
            raise
        asked.custom_id, asked.path = request.custom_id, request.path
        return request, self._matched(view, request.path) if request.path else None

    def _matched(self, view: View, path: str) -> Matched:
        """Raises NotFound, InputError."""
        if self._routes is None or self._routes[0] is not view:
            declared = ((one.reference, operations_of(one).values()) for one in view.components)
            self._routes = view, Routes(declared)
        found = self._routes[1].find("POST", path.removesuffix("/"))
        if not isinstance(found, Matched):
            raise NotFound(f"no catalyst takes POST {PREFIX}{path[:200]}", field="url")
        for spec in found.route.specs.values():
            if spec.request != "json":
                raise InputError(f"{PREFIX}{path[:200]} takes a form or no body, which a line cannot have", field="url")
        return found


_LARGE: Final = 64 * 1024  # as of a request to a server, beyond which its checks are done beside the event loop


def _model_of(request: BatchRequest, matched: Matched | None) -> str | None:
    """The name of the model by which the line is routed. Raises InputError."""
    if matched is not None:
        return openai.model_of(matched.route.template, matched.values, request.body)
    params = request.body.get("params")
    return openai.model_of("", (), params) if isinstance(params, dict) else None


def _check_no_stream(resolved: Resolved) -> None:
    """Raises InputError."""
    if resolved.stream or (resolved.spec is not None and resolved.spec.websocket):
        raise InputError(f"{resolved.operation} has events, and a batch has no streams", field="operation")


def _wait_after(error: HostError, waits: int) -> float | None:
    """Seconds after which the line is asked again, of which nothing was done; None where that would change nothing, or
    where a part of it may have been done."""
    if error.execution is not None and error.execution.meters.http_requests:
        return None  # an operation of several requests: it was refused in its midst
    match error:
        case LimitExceeded() | CircuitOpen():
            return max(0.05, error.retry_after_s)
        case Busy():
            return _backoff_s(waits)
        case Denied() if error.refusals and error.refusals[0].kind == "rate_limited":
            return _backoff_s(waits)
    return None


def _wait_of(result: Result, asked: _Asked, refusals: int) -> float | None:
    """The same for an answer of an upstream that did nothing."""
    if not asked.path and result.execution.meters.http_requests > 1:
        return None  # it may be the answer to the second of several requests
    if result.headers.get("x-should-retry", "").strip().lower() == "false":
        return None
    headers = tuple(result.headers.items())
    if not was_not_processed(result.status, headers):
        return None
    wished_s = asked_wait_s(headers)
    return _backoff_s(refusals) if wished_s is None else max(0.05, wished_s)


def _backoff_s(refusals: int) -> float:
    return min(_MOST_WAIT_S, _LEAST_WAIT_S * 2.0 ** min(refusals, 10))


def _out_of_patience(error: HostError) -> HostError:
    """The batch stops: what it waits for comes later than it waits."""
    if isinstance(error, LimitExceeded):
        said = f"{error.message}, and has more in {error.retry_after_s:.0f} s"
        return Busy(said, hint="go on then, or with another key or budget")
    return Busy(error.message, hint=error.hint)


def failed_answer(batch: str, line: BatchLine, error: HostError) -> BatchAnswer:
    """The answer to a line that ended in `error` elsewhere: no result of it is known."""
    asked = _Asked(batch, line)
    try:
        request = read_request(line)
        asked.custom_id, asked.path = request.custom_id, request.path
    except InputError:
        asked.custom_id = custom_id_of(line)
    return _failed(asked, error, HostError.as_dict)


def _failed(asked: _Asked, error: HostError, told: Callable[[HostError], Mapping[str, Any]]) -> BatchAnswer:
    more = dict(told(error))
    said = {"code": more.pop("type"), "message": more.pop("message"), "line": asked.line.number, **more}
    if asked.path:
        text = _of_request(asked, b"null", json_bytes(said))
    else:
        text = _of_operation(asked, b'"error":' + json_bytes(said))
    return BatchAnswer(asked.line.number, text, failed=True)


def _answered(asked: _Asked, result: Result, tokens: Tokens) -> BatchAnswer:
    if asked.path:
        run = json_bytes(result.execution.id)
        body = _data(result) if result.ok else _error_body(result)
        response = b'{"status_code":%d,"request_id":%s,"body":%s}' % (result.status, run, body)
        text = _of_request(asked, response, b"null")
    else:
        name, told = (b"data", _data(result)) if result.ok else (b"error", json_bytes(result.error))
        text = _of_operation(asked, b'"status":%d,"%s":%s' % (result.status, name, told))
    return BatchAnswer(asked.line.number, text, failed=not result.ok, tokens=tokens)


def _data(result: Result) -> bytes:
    """The data of a success as JSON on one line: as it came where strict readers take it."""
    if result.document is not None and (result.brief is None or _is_strict(result.document)):
        return result.document.replace(b"\r", b" ").replace(b"\n", b" ")  # in JSON they are blanks
    return json_bytes(views.with_bytes(strict_data(result), result))


def _error_body(result: Result) -> bytes:
    """The body of an error as it came, or one of the same form."""
    if result.document is not None and _is_strict(result.document):
        return result.document.replace(b"\r", b" ").replace(b"\n", b" ")
    return json_bytes({"error": result.error})


def _is_strict(document: bytes) -> bool:
    """Embeddings may have more numbers than are read at once: they are only looked at."""
    try:
        text = document.decode()
        infinite = "NaN" in text or "Infinity" in text
        parse_json(text if infinite else without_numbers(text, lambda: None), "the answer")
    except (InputError, UnicodeDecodeError):
        return False
    return True


def _of_request(asked: _Asked, response: bytes, error: bytes) -> bytes:
    own, custom_id = asked.key.encode(), json_bytes(asked.custom_id or None)
    return b'{"id":"%s","custom_id":%s,"response":%s,"error":%s}' % (own, custom_id, response, error)


def _of_operation(asked: _Asked, told: bytes) -> bytes:
    named = b'"custom_id":%s,' % json_bytes(asked.custom_id) if asked.custom_id else b""
    return b'{"id":"%s",%s"line":%d,%s}' % (asked.key.encode(), named, asked.line.number, told)
