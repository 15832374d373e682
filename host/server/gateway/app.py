"""The gateway: who asks, for which operation, of which catalyst; then the run, and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from host.errors import Cancelled, Forbidden, HostError, InputError, OperationFailed
from host.names import Reference
from host.operations import OperationSpec
from host.registry.component import Component
from host.server.asgi import Leaving, Receive, Scope, Send, encoded, header, send_whole, state
from host.server.auth import principal_of
from host.server.gateway import answers, errors, models
from host.server.gateway.requests import Content, read_content
from host.server.gateway.routes import Matched, Routes
from host.server.models import check_model
from host.server.principal import Principal
from host.server.runner import Ask, Runner, Running
from host.server.served import Served, View, operations_of
from host.server.settings import ServerSettings
from host.server.statuses import final

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

    def __init__(self, served: Served, runner: Runner, settings: ServerSettings) -> None:
        self._served = served
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
        view = await self._served.current()
        principal = principal_of(scope, view.keys, self._settings)
        known = state(scope)
        known |= {"key": principal.name, "principal": principal}
        matched = self._matched(view, scope)
        if not isinstance(matched, Matched):
            await _send_no_route(scope, matched, send, empty=not view.components)
            return
        known["route"] = f"{matched.route.method} {PREFIX}{matched.route.template}"
        principal.require("run")
        if models.is_list(matched) and header(scope, CATALYST) is None:
            listed = await models.listed(self._served, self._runner, view, principal, known["request_id"])
            await send_whole(send, 200, encoded(listed))
            return
        asked = await self._understood(scope, receive, view, principal, matched)
        known |= {"catalyst": str(asked.reference), "operation": asked.spec.name}
        catalyst = await self._served.catalyst(view, asked.reference)
        principal.require_catalyst(Reference.parse(catalyst.reference))  # which may be newer than what was looked up
        running = await self._runner.start(
            Ask(
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
            more = {**errors.handed_on(result.headers), **_about(running)}
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
        model = models.in_path(matched) or content.model
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
        last = answers.failure(errors.of_host(error)[1])
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
    status, body, headers = errors.of_host(error)
    await send_whole(send, status, encoded(body), headers=headers)


async def _send_no_route(scope: Scope, allowed: Sequence[str], send: Send, *, empty: bool) -> None:
    at = f"{scope['method'][:20]} {scope['path'][:200]}"
    if allowed:
        shown = errors.body(f"Not a method of this path: {at}", errors.INVALID, code="method_not_supported")
        await send_whole(send, 405, encoded(shown), headers={"allow": ", ".join(allowed)})
    else:
        said = f"Unknown request URL: {at}"
        if empty:  # so that nobody looks for the mistake in his URL
            said += " (nothing is installed yet; the operator does it: host register FILE)"
        shown = errors.body(said, errors.INVALID, code="unknown_url")
        await send_whole(send, 404, encoded(shown))
