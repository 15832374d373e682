"""The models of all providers, as one list."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

from host.core.names import Reference
from host.core.strict_json import Json
from host.errors import HostError, NotFound
from host.service.catalog import View
from host.service.dialects import openai
from host.service.dispatch import Dispatch
from host.service.operations import operations_of
from host.service.principal import Principal
from host.service.request import OperationRequest

_log = logging.getLogger(__name__)


async def list_models(dispatch: Dispatch, view: View, asked: OperationRequest) -> dict[str, Json]:
    """The answer to `asked`, which names no catalyst: every model of the key that its provider lists and that is routed
    to that provider, the aliases, and the models that have several targets. A provider that fails is left out, unless
    all fail: then raises the error of the first. Raises NotFound where none lists models."""
    principal = asked.principal
    principal.require("run")
    references = [one for one in view.routing.references if _lists_models(one, view, principal)]
    if not references:
        raise NotFound("no catalyst that is served lists models", hint="the operator routes one: host serve --default")

    async def listed(reference: Reference) -> list[dict[str, Any]]:
        result = await dispatch.run(replace(asked, target=reference, operation=openai.LIST_MODELS), view)
        result.raise_for_status()
        models = openai.models_of(result.data)
        return [one for one in models if view.routing.has(reference, one["id"])]

    answers = await asyncio.gather(*map(listed, references), return_exceptions=True)
    _raise_if_all_failed(answers)
    found: dict[str, Json] = {}
    for answer in answers:
        if not isinstance(answer, BaseException):
            found |= {one["id"]: one for one in answer if principal.may_ask(one["id"])}
    for alias, model in sorted(view.routing.aliases.items()):
        if principal.may_ask(alias):
            found[alias] = openai.alias_entry(alias, model)
    for name, group in sorted(view.routing.failover.items()):
        if not name.endswith("*") and name not in found and principal.may_ask(name):
            found[name] = openai.alias_entry(name, group.targets[0].model or name)
    return openai.model_list(list(found.values()))


def _lists_models(reference: Reference, view: View, principal: Principal) -> bool:
    try:
        component = view.component(reference)
    except NotFound:
        return False
    return openai.LIST_MODELS in operations_of(component) and principal.may_use(component.reference)


def _raise_if_all_failed(answers: list[Any]) -> None:
    failed = [one for one in answers if isinstance(one, BaseException)]
    for error in failed:
        if not isinstance(error, HostError) or len(failed) == len(answers):
            raise error
        _log.warning("the models of a provider could not be listed: %s", error.code)
