"""The catalog: keys, installed components with their routes, and catalysts with the permissions that the operator gave
them.

A `View` is the catalog at one moment. `Catalog.current` notices a change at most `LOOK_S` seconds after it was made, by
any process that shares the state: the number of the state's digest says whether there was one.

Nobody waits for the state longer than `ANSWER_S`. What may take longer with good reason, compiling and pulling, has
threads of its own, so that nothing else waits for it.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, TypeVar
from urllib.parse import unquote

from host.component.operations import OperationSpec, routed
from host.core.audit import Event
from host.core.names import Digest, Reference, looks_like_oci
from host.core.strict_json import Json
from host.core.waiting import ANSWER_S
from host.errors import DeadlineExceeded, HostError, NotApproved, NotFound
from host.runtime.catalyst import Catalyst
from host.runtime.host import Host
from host.runtime.threads import Workers
from host.runtime.workspace import Installed, Workspace
from host.service.dialects import openai
from host.service.operations import operations_of
from host.service.request import Routing
from host.store.access.api_keys import KeyRing
from host.store.components import Component, latest
from host.store.tables import seals
from host.store.vault.secrets import TOKENS

T = TypeVar("T")

LOOK_S = 0.2
_AGAIN_S = 1.0  # after which a failed load is tried again, where nothing has changed
_THREADS: Final = 4
_END_S: Final = 1.0
_LOAD_S: Final = 130.0  # longer than the limit for compiling


class View:
    """The catalog at one moment, at which the state was checked. Thread-safe. A catalyst is loaded when it is first
    asked for.

    `components` are those that are approved: they alone have routes, operations and models, and count. `all` has those
    that wait for approval too, so that people see them and that errors name the remedy."""

    def __init__(
        self,
        host: Host,
        workspace: Workspace,
        routing: Routing,
        stamp: object,
        tokens: str,
        rest: str,
        only: Collection[Digest] | None = None,
    ) -> None:
        self._host = host
        self._only = only
        self.stamp = stamp
        self.tokens, self.rest = tokens, rest  # digests of what is kept of tokens, and of the state without it
        self.keys: KeyRing = workspace.api_keys.snapshot()
        self.all: Sequence[Component] = workspace.components.all()
        self.components: Sequence[Component] = [one for one in self.all if one.approved]
        self.routing = completed(routing, self.all, workspace.components.in_order())
        self._by_reference = _by_reference(self.all)
        self._loaded: dict[Reference, Catalyst] = {}
        self._failed: dict[Reference, tuple[HostError, float]] = {}
        self._locks: dict[Reference, threading.Lock] = {}
        self._lock = threading.Lock()

    def component(self, reference: Reference) -> Component:
        """The component of this reference: of its version, or the latest. Raises NotFound."""
        found = self._by_reference.get(reference)
        if found is None:
            raise NotFound(f"there is no {reference}", field="reference", hint="host list shows what there is")
        return found

    def loaded(self, reference: Reference) -> Catalyst | None:
        """The catalyst of this reference, if it is loaded already."""
        return self._loaded.get(reference)

    def load(self, reference: Reference) -> Catalyst:
        """The catalyst of this reference: verified, approved, loaded, with its permissions. Takes some 50 ms the first
        time. A reference without a version means the latest, which may not be older than one that was there before.
        Raises HostError."""
        with self._lock:
            lock = self._locks.setdefault(reference, threading.Lock())
        with lock:
            if (found := self._loaded.get(reference)) is None:
                found = self._loaded[reference] = self._tried(reference)
            return found

    def _tried(self, reference: Reference) -> Catalyst:
        """A failed load is not repeated at once, whoever asks: each one may write to the audit log."""
        before, until = self._failed.get(reference, (None, 0.0))
        if before is not None and time.monotonic() < until:
            raise before.with_traceback(None)
        try:
            return self._checked(self._host.load(reference))
        except HostError as error:
            self._failed[reference] = error, time.monotonic() + _AGAIN_S
            raise

    def _checked(self, catalyst: Catalyst) -> Catalyst:
        if self._only is not None and catalyst.digest not in self._only:
            others = ", ".join(sorted(map(str, self._only)))
            said = f"{catalyst.reference} is {catalyst.digest}, and what may run is {others}"
            raise NotApproved(said, hint="install these bytes again, or begin anew with those that are there now")
        return catalyst


class Catalog:
    """One per process. `current` and `catalyst` are for its event loop; blocking work has threads of its own."""

    def __init__(
        self, host: Host, workspace: Workspace, routing: Routing, only: Collection[Digest] | None = None
    ) -> None:
        """`only`: the digests of what may be loaded; None: all that is approved."""
        self._only = only
        self._host = host
        self._workspace = workspace
        self._routing = routing
        self._threads = Workers("host-catalog", _THREADS)
        self._loads = Workers("host-load", _THREADS)
        self._looks = Workers("host-look", 1)  # every request waits for a look, and none for what others read
        self._view: View | None = None
        self._looked_at = 0.0
        self._looking: asyncio.Task[View] | None = None
        self._loading: dict[tuple[View, Reference], asyncio.Task[Catalyst]] = {}

    async def current(self) -> View:
        """Raises StateError where the state cannot be read, or is not as the operator left it."""
        if self._view is not None and time.monotonic() - self._looked_at < LOOK_S:
            return self._view
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
            self._looking.add_done_callback(self._looked)
        return await asyncio.shield(self._looking)

    async def catalyst(self, view: View, reference: Reference, within_s: float | None = None) -> Catalyst:
        """`View.load`, off the event loop, once for all that wait for it. It may have to be compiled, which goes on
        where the caller has no time for it. Raises DeadlineExceeded after `within_s` seconds, HostError."""
        if (found := view.loaded(reference)) is not None:
            return found
        at = view, reference
        if (loading := self._loading.get(at)) is None:
            work = self._loads.answer(partial(view.load, reference), _LOAD_S)
            loading = self._loading[at] = asyncio.get_running_loop().create_task(work)
            loading.add_done_callback(lambda task: self._loaded(at, task))
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.shield(loading)
        except TimeoutError:
            raise DeadlineExceeded(
                "the catalyst was still loading when the time of the run was over", hint="try again: it goes on loading"
            ) from None

    async def installed(self, name: str | Reference, *, approved: bool = True) -> Installed:
        """The verified component of a reference; one of a registry (`oci://…`) is pulled, if the registry answers in
        time. With `approved` False also one that may not be run. Raises HostError."""
        if isinstance(name, str) and looks_like_oci(name):
            await self._loads.answer(lambda: self._workspace.reach(name), ANSWER_S)
        return await self._loads.answer(lambda: self._host.installed(name, approved=approved), _LOAD_S)

    async def inspected(self, installed: Installed) -> Catalyst:
        """The catalyst with its permissions, to be shown and not run. Raises HostError."""
        return await self._loads.answer(lambda: self._host.load(installed), _LOAD_S)

    async def off_loop(self, work: Callable[[], T], within_s: float = ANSWER_S) -> T:
        """The result of `work`, which reads or writes the state, within so many seconds, its time in the queue
        included. Raises what `work` raises; Busy where it was not begun, and so never is; StateError where it was begun
        and does not end: it changes nothing any more, unless it is at its end already."""
        return await self._threads.answer(work, within_s)

    async def record(self, event: Event) -> None:
        """Write `event` to the audit log. Raises AuditError, StateError."""
        await self.off_loop(lambda: self._workspace.audit_log.record(event))

    def close(self) -> None:
        """Work that does not end is left to the end of the process."""
        self._threads.close(_END_S)
        self._loads.close(_END_S)
        self._looks.close(_END_S)

    async def _look(self) -> View:
        return await self._looks.answer(self._newest, ANSWER_S)

    def _looked(self, task: asyncio.Task[View]) -> None:
        self._looking = None
        if not task.cancelled() and task.exception() is None:
            self._view, self._looked_at = task.result(), time.monotonic()

    def _loaded(self, at: tuple[View, Reference], task: asyncio.Task[Catalyst]) -> None:
        del self._loading[at]
        if not task.cancelled():
            task.exception()  # it is retrieved, also where no caller is left

    def _newest(self) -> View:
        stamp = self._workspace.stamp()
        if self._view is not None and self._view.stamp == stamp:
            return self._view
        with self._workspace.sealed() as state:
            stamp, (tokens, rest) = self._workspace.stamp(), state.apart(seals, owner=TOKENS)
            if (view := self._view) is not None and view.tokens != tokens and view.rest == rest:
                view.stamp, view.tokens = stamp, tokens  # a token was renewed: catalysts stay loaded
                return view
            return View(self._host, self._workspace, self._routing, stamp, tokens, rest, self._only)


def completed(routing: Routing, components: Iterable[Component], order: Iterable[Reference]) -> Routing:
    """`routing`, with a default if it names no catalyst at all: the first of `order` (see `Components.in_order`) that
    has routes. So the first catalyst that was installed and approved stays the default, whatever comes after it, until
    the operator names another."""
    found = _by_reference(components)
    return routing.with_default(next((one for one in order if one in found and _has_routes(found[one])), None))


def _has_routes(component: Component) -> bool:
    return any(spec.route for spec in operations_of(component).values())


def _by_reference(components: Iterable[Component]) -> dict[Reference, Component]:
    """Each component under its reference with its version, approved bytes before others that wait; the one that serves
    under each name without one, too."""
    components = sorted(components, key=lambda one: one.approved)
    found = {one.reference: one for one in components}
    versions: dict[Reference, list[Component]] = {}
    for one in components:
        versions.setdefault(one.reference.any_version, []).append(one)
    return found | {reference: latest(some) for reference, some in versions.items()}


_NAMED = re.compile(r"\{(\+?)\w+\}")
_MOST_STEPS = 128  # of a path: no operation's has more
_MODEL = ("/{model}", "/{model_id}")
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
