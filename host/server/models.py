"""Keys that are for some models: what a request names has to be one of those, by whichever face it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.errors import InputError
from host.jsontext import Json
from host.operations import OperationSpec
from host.server.principal import Principal
from host.server.served import View

_NAMES = ("model", "model_id")  # the second is CYFR's, of what stands in a path


def check_model(
    principal: Principal, view: View, spec: OperationSpec | None, given: Mapping[str, Any], schema: Json = True
) -> dict[str, Any]:
    """`given`, an operation's parameters or a whole input, with a model's own name in place of its alias. A key for
    some models has to name one of those, unless what takes it says that it takes none: the operation, or without one
    the input's `schema`. Raises Forbidden, InputError."""
    in_path = spec.in_path[:1] if spec is not None and spec.path.startswith("/models/{") else ()
    found = dict(given)
    named = [name for name in dict.fromkeys((*in_path, *_NAMES)) if given.get(name)]
    for name in named:
        if not isinstance(model := given[name], str):
            raise InputError(f"{name} must be a string", field=f"params.{name}" if spec else name)
        found[name] = view.routing.aliases.get(model, model)
        principal.require_model(model, found[name])
    if _form_made_ready(spec, given) or not (named or _takes_none(spec, schema)):
        principal.require_any_model()
    return found


def takes_one(spec: OperationSpec) -> bool:
    """Whether the operation has a model among its parameters, be it one that may be left out."""
    properties = spec.params.get("properties") if isinstance(spec.params, dict) else None
    return isinstance(properties, dict) and "model" in properties


def _form_made_ready(spec: OperationSpec | None, given: Mapping[str, Any]) -> bool:
    """Which stands in place of all other parameters, and may name any model."""
    return spec is not None and spec.request == "multipart" and given.get("multipart") is not None


def _takes_none(spec: OperationSpec | None, schema: Json) -> bool:
    if spec is None:
        properties = schema.get("properties") if isinstance(schema, dict) else None
        return isinstance(properties, dict) and "model" not in properties
    if spec.path.startswith("/models/{"):
        return False
    return not takes_one(spec) if isinstance(spec.params, dict) else spec.method in ("GET", "DELETE")
