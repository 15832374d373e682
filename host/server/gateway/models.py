"""The models of all providers, as one list; and where in a request a model is named."""

from __future__ import annotations

import asyncio
import logging

from host.errors import HostError, NotFound
from host.jsontext import Json
from host.names import Reference
from host.server.gateway.routes import Matched
from host.server.principal import Principal
from host.server.runner import Ask, Runner
from host.server.served import Served, View, operations_of

_LIST = "models.list"

_log = logging.getLogger(__name__)


def is_list(matched: Matched) -> bool:
    return matched.route.method == "GET" and matched.route.template == "/models"


def in_path(matched: Matched) -> str | None:
    """The model that the path names: `/models/{model}`."""
    return matched.values[0] if matched.route.template.startswith("/models/{") else None


async def listed(served: Served, runner: Runner, view: View, principal: Principal, request_id: str) -> dict[str, Json]:
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
        catalyst = await served.catalyst(view, reference)
        result = (await runner.run(Ask(principal, catalyst, _LIST, {}, request=request_id)))[1]
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
