"""What was asked for, and what it comes to: a request, resolved against the catalog.

`Routing` names the catalyst for a model. Plain functions without an event loop, HTTP or I/O; `host.service.dispatch`
runs what they resolve.
"""

from __future__ import annotations

import base64
import binascii
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias
from urllib.parse import parse_qsl

from host.component.operations import OperationSpec, Passes
from host.core.headers import without_controls
from host.core.names import Reference
from host.core.operation import Attachment, Mention
from host.core.slots import Share
from host.core.strict_json import Json, as_written
from host.errors import Forbidden, HostError, InputError, NotFound
from host.service.dialects import openai
from host.service.dialects.dialect import Dialect, Estimate, Tokens
from host.service.operations import input_schema_of, operation_of, properties_of
from host.service.principal import OPERATOR, Principal
from host.service.targets import Failover, ModelTarget, group_of

if TYPE_CHECKING:
    from host.service.limits import Budget
    from host.service.principal import Admitted
    from host.store.components import Component


CatalystOrModel: TypeAlias = Reference | str | None
"""A catalyst by its reference (without a version: the latest); or a model's name, to be routed; or the default."""

_ENVELOPE = ("operation", "params", "stream")
_APART = ("body", "query")  # beside them (see Passes): they would go to the upstream unread


@dataclass(frozen=True, slots=True)
class Routed:
    """`model` is the name for the catalyst, with an alias replaced."""

    reference: Reference
    model: str


@dataclass(frozen=True, slots=True)
class Routing:
    """Which catalyst answers for a model: its `failover`, else the longest prefix of its name, else the default.

    `prefix_map`: the beginning of a model's name -> the catalyst that has it; `aliases`: another name -> the model;
    `default`: the catalyst for all other models, and for requests without a model; `failover`: a model's name, or the
    beginning of one with `*` behind it -> the targets that have it. `draw` chooses between targets. Raises InputError
    for an alias of an alias, and where the name of a target or of a `failover` is one."""

    prefix_map: Mapping[str, Reference] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    default: Reference | None = None
    failover: Mapping[str, Failover] = field(default_factory=dict)
    draw: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, group in self.failover.items():
            for model in (name, *(one.model for one in group.targets)):
                if model in self.aliases:
                    raise InputError(
                        f"{model!r} is an alias, for {self.aliases[model]!r}",
                        field=f"failover.{name}",
                        hint="name the model",
                    )
        for alias in self.aliases:
            if self.aliases[alias] in self.aliases:
                raise InputError(
                    f"the alias {alias!r} is for {self.aliases[alias]!r}, which is an alias itself",
                    field=f"aliases.{alias}",
                    hint="name the model",
                )

    def model(self, name: str) -> str:
        """The model's own name, where `name` is an alias; else `name`."""
        return self.aliases.get(name, name)

    def of_model(self, name: str) -> Routed:
        """Raises NotFound where no catalyst has the model."""
        model = self.model(name)
        if self.failover and (group := group_of(model, self.failover)) is not None:
            return Routed(group.targets[0].reference, group.targets[0].model or model)
        prefix = max((one for one in self.prefix_map if model.startswith(one)), key=len, default=None)
        reference = self.default if prefix is None else self.prefix_map[prefix]
        if reference is None:
            known = ", ".join(f"{one}…" for one in sorted(self.prefix_map)) or "none"
            hint = f"prefixes that one has: {known}"
            raise NotFound(f"no catalyst has the model {name[:200]!r}", field="model", hint=hint)
        return Routed(reference, model)

    def has(self, reference: Reference, model: str) -> bool:
        """Whether requests for this model, by its own name, go to this catalyst, or may."""
        if self.failover and (group := group_of(model, self.failover)) is not None:
            return any(one.reference == reference and one.model in ("", model) for one in group.targets)
        try:
            return self.of_model(model).reference == reference
        except NotFound:
            return False

    def of_rest(self) -> Reference:
        """The catalyst for a request without a model. Raises NotFound."""
        if self.default is None:
            raise NotFound(
                "no catalyst is the default, and the request names no model",
                hint="the operator names one: host serve --default c:local.openai",
            )
        return self.default

    @property
    def references(self) -> tuple[Reference, ...]:
        """Every catalyst of this routing once, the default first."""
        named = ([self.default] if self.default else []) + list(self.prefix_map.values())
        named += [target.reference for group in self.failover.values() for target in group.targets]
        return tuple(dict.fromkeys(named))

    @property
    def alternatives(self) -> tuple[tuple[Reference, ...], ...]:
        """For each group of requests the catalysts that may answer them, of which one has to be there."""
        alone = [one for one in (self.default, *self.prefix_map.values()) if one is not None]
        groups = (tuple([target.reference for target in group.targets]) for group in self.failover.values())
        return (*((one,) for one in dict.fromkeys(alone)), *groups)

    def with_default(self, reference: Reference | None) -> Routing:
        """With `reference` as the default, if no catalyst was named at all."""
        return self if self.references else replace(self, default=reference)


class InstalledComponents(Protocol):
    """What is installed, and how models are routed to it."""

    @property
    def routing(self) -> Routing: ...

    def component(self, reference: Reference) -> Component:
        """Raises NotFound."""
        ...


class RouteOperation(Protocol):
    """An operation by its route: each catalyst has its own name for it, and for the parameters in the path."""

    def spec(self, reference: Reference) -> OperationSpec:
        """The operation at the catalyst of this reference, which has a version. Raises NotFound."""
        ...

    def in_path(self, spec: OperationSpec) -> Mapping[str, Json]:
        """The parameters in the path."""
        ...


@dataclass(frozen=True, slots=True)
class OperationRequest:
    """One operation, as the caller asked for it.

    `query` is the text of its query, `headers` are all headers of its HTTP request, in lower case: the catalyst says
    which of these it sends on. `operation` is a name or a route. With "" the catalyst takes no operations, and `more`
    is its whole input; with None `more` is a whole input that may be the operation envelope. Else `more` is what the
    input has beside the envelope.

    `inline_files`: files stand among the parameters in base64. `counts_tokens`: a stream says at its end what it cost.
    `large`: the input takes long to check, which is done beside the event loop where the request was `admitted`.
    `takes_pieces`: the face hands an answer on as it comes, the bytes of a binary one too.
    `request_id` and `via`, the face, are for the audit log.
    """

    principal: Principal
    target: CatalystOrModel = None
    operation: str | RouteOperation | None = None
    params: Mapping[str, Json] = field(default_factory=dict)
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: bool = False
    attachments: Mapping[str, Attachment] = field(default_factory=dict)
    more: Mapping[str, Json] = field(default_factory=dict)
    timeout_s: float | None = None
    request_id: str = ""
    via: str = ""
    inline_files: bool = False
    counts_tokens: bool = False
    large: bool = False
    takes_pieces: bool = False
    admitted: Admitted | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A request that the caller may make, at one catalyst. In `params`, or in `more` of a whole input, models have
    their own names in place of aliases. `reference` is for loading the catalyst, `component` what it named at the time;
    `spec` is None for an operation that the component does not list, and for a whole input. `others` are the targets of
    its `failover` that come next; `upstreams`, of several of its catalyst, those where what it names was made."""

    request: OperationRequest
    reference: Reference
    component: Component
    operation: str
    spec: OperationSpec | None
    params: Mapping[str, Json]
    more: Mapping[str, Json]
    stream: bool
    attachments: Mapping[str, Attachment]
    dialect: Dialect = openai
    failover: Failover | None = None
    others: tuple[ModelTarget, ...] = ()
    upstreams: tuple[str, ...] = ()

    @property
    def flows(self) -> bool:
        """Whether the answer may flow to a caller who takes pieces."""
        return self.request.takes_pieces and (self.stream or (self.spec is not None and self.spec.response == "binary"))

    def input(self) -> dict[str, Json]:
        """The catalyst's input, to be checked. Of a query that goes on as it is, what is there several times is left to
        the upstream."""
        if not self.operation:
            return dict(self.more)
        params = dict(self.params)
        if self.request.query and self.passes_query and not _has_body(self.spec):
            params = {name: one for name, one in params.items() if not isinstance(one, list)}
        return {**self.more, "operation": self.operation, "params": params, "stream": self.stream}

    @property
    def passes_query(self) -> bool:
        manifest = self.component.manifest
        return manifest is not None and manifest.passes.query

    def sent(self, params: Mapping[str, Json], passes: Passes, forwards: Collection[str]) -> dict[str, Json]:
        """The catalyst's input, with `params` in place of its own: beside them the query and the headers that it sends
        on (see Passes), of those that it `forwards`."""
        if not self.operation:
            return dict(self.more)
        request, more, in_path = self.request, dict(self.more), self.spec.in_path if self.spec else ()
        if request.query and passes.query:
            if _has_body(self.spec):
                more["query"] = request.query
            elif all(params.get(name) is one for name, one in request.params.items() if name not in in_path):
                params = {name: one for name, one in params.items() if name in in_path or name not in request.params}
                more["query"] = request.query
        if request.headers and passes.headers is not None and self.spec is not None:
            given = {}
            for name in forwards:
                if name in request.headers:
                    given[name] = request.headers[name]
            if given:
                more["headers"] = given
        return {**more, "operation": self.operation, "params": params, "stream": self.stream}

    @property
    def comes_later(self) -> bool:
        """Whether the answer goes on without the request."""
        return self.dialect.comes_later(self.spec, self.params)

    def estimate(self) -> Estimate:
        """What the run may cost. It takes a walk through the parameters."""
        return self.dialect.estimate(self.spec, self.params if self.operation else self.more, self.attachments)

    def share(self, budgets: Mapping[Reference, Budget]) -> Share:
        """What the run's slot counts for: its key, and its catalyst."""
        catalyst = self.component.reference.any_version
        principal = self.request.principal
        if not self.request.via:
            return Share.of_embedder("", str(catalyst))
        of_catalyst = budgets[catalyst].concurrency if catalyst in budgets else None
        if principal is OPERATOR:  # alone in their own process
            return replace(Share.of_embedder("", str(catalyst)), most_of_catalyst=of_catalyst)
        most = None if principal.key is None else principal.key.concurrency
        return Share(principal.id, str(catalyst), most, of_catalyst)

    def caller(self) -> dict[str, Json]:
        """What is asked for, and on whose behalf, for the audit log. Of the operator's own runs only the former."""
        request, principal = self.request, self.request.principal
        given = self.more if not self.operation else self.params
        operation: Json = self.operation
        if not request.via:  # the whole input, as it was typed
            operation, inner = given.get("operation"), given.get("params")
            given = inner if isinstance(inner, dict) else given
        known: dict[str, Json] = {"via": request.via} if request.via else {}
        known |= {"operation": operation[:200]} if isinstance(operation, str) else {}
        known |= {"model": model[:200]} if isinstance(model := given.get("model"), str) else {}
        known |= {"request": request.request_id} if request.via else {}
        return known if principal.key is None else {"key": principal.id, "name": principal.name, **known}


def _has_body(spec: OperationSpec | None) -> bool:
    return spec is not None and spec.request != "none"


@dataclass(slots=True)
class TokenCount:
    """The `tokens` of one run, as far as its answer says: None where it does not. `said` is its last event with a
    count. A `host.run.Counting`: the run's thread writes it."""

    dialect: Dialect
    tokens: Tokens | None = None
    said: str = ""

    def event(self, text: str) -> None:
        if self._counts(self.dialect.tokens_of_event(text)):
            self.said = text

    def facts(self, document: Json) -> Mapping[str, Json]:
        self._counts(self.dialect.tokens_of_document(document))
        return {} if self.tokens is None else {"input_tokens": self.tokens.input, "output_tokens": self.tokens.output}

    def _counts(self, found: Tokens | None) -> bool:
        if found is not None:
            self.tokens = found if self.tokens is None else found.merged(self.tokens)
        return found is not None


def resolve(request: OperationRequest, catalog: InstalledComponents, at: ModelTarget | None = None) -> Resolved:
    """The steps before a run, in this order: the caller may run operations; the target is an installed component; the
    caller may use that; the component has the operation; the caller may run that one; the caller may use the models
    that the parameters name. With `at`, the target is that one; without it, where there are several, the first that the
    caller may use. Raises Forbidden, NotFound, InputError."""
    request.principal.require("run")
    if at is None and catalog.routing.failover and (found := _among_targets(request, catalog)) is not None:
        return found
    reference = _catalyst_of(request.target, catalog.routing) if at is None else at.reference
    component = catalog.component(reference)
    request.principal.require_catalyst(component.reference)
    understood = _understood(request, reference, component)
    if request.principal.key is not None or (understood.spec is not None and understood.spec.is_apart):
        request.principal.require_operation(understood.operation, understood.spec)
    if understood.more and understood.operation and request.principal.limited:
        _check_more(understood)
    if request.query:
        _check_query(understood)
    given = understood.params if understood.operation else understood.more
    checked = _with_own_names(understood, given, catalog.routing, at)
    if not understood.operation:
        return replace(understood, more=checked)
    if not request.inline_files:
        return replace(understood, params=checked)
    params, attachments = taken_out(understood.spec, checked)
    return replace(understood, params=params, attachments=attachments)


def _among_targets(request: OperationRequest, catalog: InstalledComponents) -> Resolved | None:
    """The request at the first target that the caller may use; None where its model has no `failover`."""
    routing = catalog.routing
    if not isinstance(request.target, str):
        return None
    if (group := group_of(routing.model(request.target), routing.failover)) is None:
        return None
    order, errors = group.order(routing.draw), list[HostError]()
    for number, target in enumerate(order, 1):
        try:
            return replace(resolve(request, catalog, target), failover=group, others=order[number:])
        except (Forbidden, NotFound) as error:
            errors.append(error)
    raise errors[0]


def _catalyst_of(target: CatalystOrModel, routing: Routing) -> Reference:
    if isinstance(target, Reference):
        return target
    return routing.of_rest() if target is None else routing.of_model(target).reference


def _understood(request: OperationRequest, reference: Reference, component: Component) -> Resolved:
    """The request without any check of what the caller may name."""
    operation, params, more, stream = request.operation, request.params, request.more, request.stream
    spec: OperationSpec | None = None
    if operation is None:
        operation, params, more, stream = _envelope(more, input_schema_of(component))
    if not isinstance(operation, str):
        spec = operation.spec(component.reference)
        if in_path := operation.in_path(spec):
            params = as_written({**params, **in_path}, params)
        operation = spec.name
    elif operation:
        spec = operation_of(component, operation)
        if request.operation is None and spec is not None and spec.stream and params.get("stream") is True:
            stream = True  # where OpenAI's API has it
            params = as_written({name: value for name, value in params.items() if name != "stream"}, params)
    stream = stream or (spec is not None and spec.always_streams)
    return Resolved(request, reference, component, operation, spec, params, more, stream, request.attachments)


def _with_own_names(
    resolved: Resolved, given: Mapping[str, Json], routing: Routing, at: ModelTarget | None
) -> Mapping[str, Json]:
    """`given` with each model's own name in place of its alias, and the name that the target `at` has for it. A key for
    some models may name those alone, and has to name one unless the operation takes none. Raises Forbidden,
    InputError."""
    principal, spec = resolved.request.principal, resolved.spec
    if not routing.aliases and not principal.for_some_models and (at is None or not at.model):
        return given
    asked = resolved.request.target
    renamed = {routing.model(asked): at.model} if at is not None and at.model and isinstance(asked, str) else {}
    found = dict(given)
    for name in resolved.dialect.model_params(spec, given):
        if not isinstance(model := given[name], str):
            raise InputError(f"{name} must be a string", field=f"params.{name}" if spec else name)
        own = routing.model(model)
        found[name] = renamed.get(own, own)
        principal.require_model(model, own, renamed.get(own, own))
    if principal.for_some_models:
        for other in resolved.dialect.other_models(given):
            if not isinstance(other, str):
                principal.require_any_model()
            principal.require_model(other)
        schema = True if resolved.operation else input_schema_of(resolved.component)
        if resolved.dialect.names_unseen(spec, given, schema):
            principal.require_any_model()
    return as_written(found, given)


def _check_query(resolved: Resolved) -> None:
    """Raises InputError for a query beside a body where the catalyst has no place for it, Forbidden where one that is
    not among the parameters may name a model for a key that is for some."""
    request, spec = resolved.request, resolved.spec
    if spec is None or not (spec.request != "none" or request.params.keys() & set(spec.in_path)):
        return
    if spec.request != "none" and not resolved.passes_query:
        raise InputError(f"{resolved.component.reference} takes no query beside a body", field="query")
    if request.principal.for_some_models:
        named = {name: [value] for name, value in parse_qsl(request.query, keep_blank_values=True)}
        if any(True for _ in resolved.dialect.other_models({"": named})):
            request.principal.require_any_model()


def _check_more(resolved: Resolved) -> None:
    """What stands beside the envelope goes to the catalyst unread. A catalyst that reads names without their case would
    take another operation or model from there. Raises Forbidden, InputError."""
    principal, manifest = resolved.request.principal, resolved.component.manifest
    for name in resolved.more:
        if name.casefold().strip() in _ENVELOPE:
            raise InputError(f"input.{name[:80]!r} stands beside another of that name", field="input")
        if name in _APART and manifest is not None and manifest.passes != Passes():
            raise InputError(f"input.{name} cannot be given here", field=f"input.{name}", hint="put it into params")
    if principal.for_some_models and any(True for _ in resolved.dialect.other_models({"": resolved.more})):
        principal.require_any_model()


def _envelope(given: Mapping[str, Json], schema: Json) -> tuple[str, Mapping[str, Json], Mapping[str, Json], bool]:
    """Operation, parameters, what else there is, and `stream`, of a whole input; operation "" where it is no envelope.
    It is none where the catalyst's schema has an `operation` of its own kind, without `params`. Raises InputError."""
    if "operation" not in given:
        return "", {}, given, False
    operation, params, stream = (given.get(name) for name in _ENVELOPE)
    if not isinstance(operation, str):
        raise InputError("input.operation is not a string", field="input.operation")
    properties = properties_of(schema)
    if not ("params" in given or properties is None or "params" in properties):
        return "", {}, given, False
    if not isinstance(params, dict) and "params" in given:
        raise InputError("input.params is not an object", field="input.params")
    if not isinstance(stream, bool) and "stream" in given:
        raise InputError("input.stream is neither true nor false", field="input.stream")
    more = {name: value for name, value in given.items() if name not in _ENVELOPE}
    return operation, params if isinstance(params, dict) else {}, more, stream is True


FIELDS = frozenset({"data", "filename", "content_type"})
_LONGEST_NAME = 1_000


def taken_out(
    spec: OperationSpec | None, params: Mapping[str, Json]
) -> tuple[Mapping[str, Json], dict[str, Attachment]]:
    """`params` with an attachment in place of each `{"data": base64, "filename", "content_type"}`, for callers that
    have no other way to send bytes. Only an operation that sends a form has files. Raises InputError."""
    if spec is None or spec.request != "multipart":
        return params, {}
    attachments: dict[str, Attachment] = {}

    def replaced(value: Json, path: str) -> Json:
        match value:
            case {"data": str(data)} if value.keys() <= FIELDS:
                ident = f"file{len(attachments)}"
                attachments[ident] = _attachment(data, value, path)
                return Mention(ident)
            case list():
                return [replaced(one, f"{path}[{index}]") for index, one in enumerate(value)]
        return value

    return {name: replaced(value, f"params.{name}") for name, value in params.items()}, attachments


def _attachment(data: str, more: Mapping[str, Json], path: str) -> Attachment:
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{path}.data is not base64", field=f"{path}.data") from None
    filename, content_type = more.get("filename"), more.get("content_type")
    named = without_controls(filename) if isinstance(filename, str) else ""
    kind = "".join(filter(str.isprintable, content_type)) if isinstance(content_type, str) else ""
    return Attachment(content, named[:_LONGEST_NAME], kind[:_LONGEST_NAME])
