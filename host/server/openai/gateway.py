"""The gateway: who asks, for which operation, of which catalyst; then the run, and its answer.

The models of all providers, as one list; and where in a request a model is named.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from host.component.operations import OperationSpec
from host.core.names import Reference
from host.core.strict_json import Json
from host.errors import Cancelled, Forbidden, HostError, InputError, NotFound, OperationFailed
from host.server.asgi import Leaving, Receive, Scope, Send, encoded, header, send_whole, state
from host.server.auth import principal_of
from host.server.http_errors import final
from host.server.openai import answers
from host.server.openai.requests import Content, read_content
from host.server.openai.routes import Matched, Routes
from host.server.settings import ServerSettings
from host.service.catalog import Catalog, View, check_model, operations_of
from host.service.dispatch import Dispatch, OperationRequest, Running
from host.service.principal import Principal
from host.store.components import Component

PREFIX = "/v1"
CATALYST = "x-catalyst"  # of a request: which catalyst it is for, whatever its model; of an answer: which one answered
RUN = "x-catalyst-run"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was understood. `reference` is the catalyst's as it is loaded: without a version, the latest."""

    reference: Reference
    spec: OperationSpec
    content: Content


class Gateway:
    """An ASGI application, below `/v1`."""

    def __init__(self, catalog: Catalog, runner: Dispatch, settings: ServerSettings) -> None:
        self._catalog = catalog
        self._runner = runner
        self._settings = settings
        self._routes: tuple[View, Routes] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        except Cancelled as error:
            if not state(scope).get("left"):
                await _send_error(scope, send, error)
        except Forbidden as error:
            await _send_error(scope, send, await self._runner.refused(state(scope), error))
        except HostError as error:
            await _send_error(scope, send, error)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        view = await self._catalog.current()
        principal = principal_of(scope, view.keys, self._settings)
        known = state(scope)
        known |= {"key": principal.name, "principal": principal}
        matched = self._matched(view, scope)
        if not isinstance(matched, Matched):
            await _send_no_route(scope, matched, send, empty=not view.components)
            return
        known["route"] = f"{matched.route.method} {PREFIX}{matched.route.template}"
        principal.require("run")
        if is_list(matched) and header(scope, CATALYST) is None:
            models = await listed(self._catalog, self._runner, view, principal, known["request_id"])
            await send_whole(send, 200, encoded(models))
            return
        asked = await self._understood(scope, receive, view, principal, matched)
        known |= {"catalyst": str(asked.reference), "operation": asked.spec.name}
        catalyst = await self._catalog.catalyst(view, asked.reference)
        principal.require_catalyst(Reference.parse(catalyst.reference))  # which may be newer than what was looked up
        running = await self._runner.start(
            OperationRequest(
                principal=principal,
                catalyst=catalyst,
                operation=asked.spec.name,
                params=asked.content.params,
                stream=asked.content.stream,
                attachments=asked.content.attachments,
                request=known["request_id"],
                large=asked.content.large,
            )
        )
        known["run"] = running.id

        def leave() -> None:
            known["left"] = True
            running.cancel()

        with Leaving(receive, leave):
            async with running:
                if asked.content.stream and await _streamed(running, send):
                    return
                result = await running.result()
            body, media_type = answers.whole(result, asked.spec)
            more = {**answers.handed_on(result.headers), **_about(running)}
            await send_whole(send, final(result.status), body, media_type, more)

    def _matched(self, view: View, scope: Scope) -> Matched | Sequence[str]:
        if self._routes is None or self._routes[0] is not view:
            self._routes = view, Routes((one.reference, operations_of(one).values()) for one in _known_first(view))
        path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0].decode("latin-1")
        return self._routes[1].find(scope["method"], path.removeprefix(scope.get("root_path", "")))

    async def _understood(
        self, scope: Scope, receive: Receive, view: View, principal: Principal, matched: Matched
    ) -> Asked:
        """Which catalyst it is for: the one that the request names, or that has its model, or the default. Raises
        InputError, NotFound, Forbidden."""
        some = next(iter(matched.route.specs.values()))  # how the body is read is the same for all that have the route
        content = await read_content(scope, receive, some, self._settings.max_body_bytes)
        model = in_path(matched) or content.model
        if (given := header(scope, CATALYST)) is not None:
            reference = _named(given)
        elif model is not None:
            reference = view.routing.of_model(model).reference
        else:
            reference = view.routing.of_rest()
        there = view.component(reference).reference
        principal.require_catalyst(there)
        spec = matched.route.spec(there)
        params = check_model(principal, view, spec, {**content.params, **matched.in_path(spec)})
        return Asked(reference, spec, replace(content, params=params))


async def _streamed(running: Running, send: Send) -> bool:
    """Send events as they come, after the first of them; whether there was any. Raises HostError before that; after it
    an error is an event."""
    try:
        texts = await running.texts()
    except OperationFailed:
        return False  # which is an answer like any other
    if not texts:
        texts = answers.collected(await running.result())
        if not texts:
            return False
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),  # nginx's word for: hand each event on as it comes
        *((name.encode(), value.encode()) for name, value in _about(running).items()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    last = answers.DONE if answers.ends_with_done(texts[0]) else b""
    try:
        while texts:
            await send({"type": "http.response.body", "body": answers.events(texts), "more_body": True})
            texts = await running.texts()
    except HostError as error:
        last = answers.failure(answers.of_host(error)[1])
    await send({"type": "http.response.body", "body": last})
    return True


def _known_first(view: View) -> Sequence[Component]:
    """Those that the operator routes to go before others: how a body is read is for them to say, and not for whatever
    else declares the same route."""
    routed = [one.any_version for one in view.routing.references]
    return sorted(view.components, key=lambda one: (not one.approved, one.reference.any_version not in routed))


def _about(running: Running) -> dict[str, str]:
    return {CATALYST: running.ask.catalyst.reference, RUN: running.id}


def _named(given: str) -> Reference:
    try:
        return Reference.parse(given)
    except InputError as error:
        raise InputError(f"{CATALYST}: {error.message}", field=CATALYST, hint=error.hint) from None


async def _send_error(scope: Scope, send: Send, error: HostError) -> None:
    state(scope)["error"] = error.code
    status, body, headers = answers.of_host(error)
    await send_whole(send, status, encoded(body), headers=headers)


async def _send_no_route(scope: Scope, allowed: Sequence[str], send: Send, *, empty: bool) -> None:
    at = f"{scope['method'][:20]} {scope['path'][:200]}"
    if allowed:
        shown = answers.body(f"Not a method of this path: {at}", answers.INVALID, code="method_not_supported")
        await send_whole(send, 405, encoded(shown), headers={"allow": ", ".join(allowed)})
    else:
        said = f"Unknown request URL: {at}"
        if empty:  # so that nobody looks for the mistake in his URL
            said += " (nothing is installed yet; the operator does it: host register FILE)"
        shown = answers.body(said, answers.INVALID, code="unknown_url")
        await send_whole(send, 404, encoded(shown))


_LIST = "models.list"

_log = logging.getLogger(__name__)


def is_list(matched: Matched) -> bool:
    return matched.route.method == "GET" and matched.route.template == "/models"


def in_path(matched: Matched) -> str | None:
    """The model that the path names: `/models/{model}`."""
    return matched.values[0] if matched.route.template.startswith("/models/{") else None


async def listed(
    catalog: Catalog, runner: Dispatch, view: View, principal: Principal, request_id: str
) -> dict[str, Json]:
    """Every model that a provider lists, that is routed to it, and that the key is for; aliases as well. A provider
    that fails is left out, unless all do: then its error is raised."""
    routed = [(reference, view.component(reference)) for reference in view.routing.references]
    references = [
        reference
        for reference, component in routed
        if _LIST in operations_of(component) and principal.may_use(component.reference)
    ]
    if not references:
        raise NotFound("no catalyst that is served lists models", hint="the operator routes one: host serve --default")

    async def ask(reference: Reference) -> list[Json]:
        catalyst = await catalog.catalyst(view, reference)
        result = (await runner.run(OperationRequest(principal, catalyst, _LIST, {}, request=request_id)))[1]
        result.raise_for_status()
        data = result.data.get("data") if isinstance(result.data, dict) else None
        own = [one for one in data if _is_of(one, reference, view)] if isinstance(data, list) else []
        return [one for one in own if principal.may_ask(one["id"])]

    answers = await asyncio.gather(*map(ask, references), return_exceptions=True)
    failed = [one for one in answers if isinstance(one, BaseException)]
    for error in failed:
        if not isinstance(error, HostError) or len(failed) == len(answers):
            raise error
        _log.warning("a provider's models could not be listed: %s", error.code)
    found: dict[str, Json] = {}
    for answer in answers:
        found |= {} if isinstance(answer, BaseException) else {one["id"]: one for one in answer}
    for alias, model in sorted(view.routing.aliases.items()):
        if principal.may_ask(alias):
            found[alias] = {"id": alias, "object": "model", "created": 0, "owned_by": f"alias of {model}"}
    return {"object": "list", "data": list(found.values())}


def _is_of(model: Json, reference: Reference, view: View) -> bool:
    """Whether it is a model, and this catalyst the one that would be asked for it."""
    ident = model.get("id") if isinstance(model, dict) else None
    return isinstance(ident, str) and bool(ident) and view.routing.of_model(ident).reference == reference
