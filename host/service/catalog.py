"""The operations of a catalyst whose manifest names none: those that CYFR's OpenAI catalyst has.

What is served, as the operator last left it: his keys, and the catalysts with the authority that he gave them.

A View is of one moment. Whoever asks for the current one is told of a change at most `LOOK_S` after it was made, by any
process that shares the state: the state's seal says by one number whether there was any.

Keys that are for some models: what a request names has to be one of those, by whichever face it comes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from host.component.operations import OperationSpec
from host.core.audit import Event
from host.core.names import Reference
from host.core.strict_json import Json
from host.errors import Forbidden, HostError, InputError, NotFound
from host.runtime.host import Catalyst, Host
from host.runtime.workspace import Installed, Workspace
from host.service.principal import Principal
from host.service.routing import Routing
from host.store.access.api_keys import KeyRing
from host.store.components import Component, latest

_ROWS: Final = (
    OperationSpec("chat.completions.create", method="POST", path="/chat/completions", request="json", stream=True),
    OperationSpec("models.list", method="GET", path="/models"),
    OperationSpec("models.get", method="GET", path="/models/{model_id}", in_path=("model_id",)),
    OperationSpec("embeddings.create", method="POST", path="/embeddings", request="json"),
    OperationSpec("moderations.create", method="POST", path="/moderations", request="json"),
    OperationSpec("images.generate", method="POST", path="/images/generations", request="json"),
    OperationSpec("audio.speech", method="POST", path="/audio/speech", request="json", response="binary"),
    OperationSpec("audio.transcriptions", method="POST", path="/audio/transcriptions", request="multipart"),
    OperationSpec("audio.translations", method="POST", path="/audio/translations", request="multipart"),
    OperationSpec("responses.create", method="POST", path="/responses", request="json"),
    OperationSpec("files.list", method="GET", path="/files"),
    OperationSpec("files.get", method="GET", path="/files/{file_id}", in_path=("file_id",)),
    OperationSpec("files.delete", method="DELETE", path="/files/{file_id}", in_path=("file_id",)),
)

DEFAULT_OPERATIONS: Final[Mapping[str, OperationSpec]] = {one.name: one for one in _ROWS}


T = TypeVar("T")

LOOK_S = 0.2
_AGAIN_S = 1.0  # after which what could not be loaded is tried again, where nothing has changed


class View:
    """What there was at one moment; thread-safe. Catalysts are loaded when they are first asked for."""

    def __init__(self, host: Host, workspace: Workspace, routing: Routing, stamp: object) -> None:
        self._host = host
        self.stamp = stamp
        self.keys: KeyRing = workspace.api_keys.snapshot()
        self.components: Sequence[Component] = workspace.components.all()
        self.routing = completed(routing, self.components)
        self._loaded: dict[Reference, Catalyst] = {}
        self._failed: dict[Reference, tuple[HostError, float]] = {}
        self._locks: dict[Reference, threading.Lock] = {}
        self._lock = threading.Lock()

    def component(self, reference: Reference) -> Component:
        """The component that `reference` names: that version, or the latest. Raises NotFound."""
        found = [
            one
            for one in self.components
            if one.reference.any_version == reference.any_version and reference.version in ("", one.reference.version)
        ]
        if not found:
            raise NotFound(f"there is no {reference}", field="reference", hint="host list shows what there is")
        return latest(found)

    def loaded(self, reference: Reference) -> Catalyst | None:
        """The catalyst that `reference` names, where it is loaded already."""
        return self._loaded.get(reference)

    def load(self, reference: Reference) -> Catalyst:
        """Verified, approved and loaded, with its authority: it takes some 50 ms the first time. One without a version
        is the latest, which may not be older than one that was there before. Raises HostError."""
        with self._lock:
            lock = self._locks.setdefault(reference, threading.Lock())
        with lock:
            if (found := self._loaded.get(reference)) is None:
                found = self._loaded[reference] = self._tried(reference)
            return found

    def _tried(self, reference: Reference) -> Catalyst:
        """What cannot be loaded is not tried again at once, whoever asks: each try may be put on record."""
        before, until = self._failed.get(reference, (None, 0.0))
        if before is not None and time.monotonic() < until:
            raise before.with_traceback(None)
        try:
            return self._host.load(reference)
        except HostError as error:
            self._failed[reference] = error, time.monotonic() + _AGAIN_S
            raise


class Catalog:
    """One per process. `current` and `catalyst` are for its event loop; blocking work is done on threads of its own."""

    def __init__(self, host: Host, workspace: Workspace, routing: Routing) -> None:
        self._host = host
        self._workspace = workspace
        self._routing = routing
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="host-served")
        self._view: View | None = None
        self._looked_at = 0.0
        self._looking: asyncio.Task[View] | None = None

    async def current(self) -> View:
        """Raises StateError where what is kept cannot be read, or is not what the operator left."""
        if self._view is not None and time.monotonic() - self._looked_at < LOOK_S:
            return self._view
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
            self._looking.add_done_callback(self._looked)
        return await asyncio.shield(self._looking)

    async def catalyst(self, view: View, reference: Reference) -> Catalyst:
        """Raises HostError."""
        found = view.loaded(reference)
        return found if found is not None else await self.off_loop(partial(view.load, reference))

    async def installed(self, name: str | Reference, *, approved: bool = True) -> Installed:
        """What `name` names, verified: a reference, or one of a registry (`oci://…`), which is pulled. With `approved`
        False also what may not be run. Raises HostError."""
        return await self.off_loop(lambda: self._host.installed(name, approved=approved))

    async def looked_into(self, installed: Installed) -> Catalyst:
        """It, with its authority, for somebody to see what that is. Raises HostError."""
        return await self.off_loop(lambda: self._host.load(installed))

    async def off_loop(self, work: Callable[[], T]) -> T:
        """What `work` returns, which may block."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def record_refusal(self, known: Mapping[str, Any], error: Forbidden) -> None:
        """On record: somebody with a key wanted what it is not for. Raises AuditError."""
        principal = known.get("principal")
        detail = {"key": principal.id if principal else "", "request": known.get("request_id", "")}
        event = Event("request.refused", "", "deny", error.message, {**detail, "route": known.get("route", "")})
        await self.off_loop(lambda: self._workspace.audit_log.record(event))

    def close(self) -> None:
        self._threads.shutdown(wait=True)

    async def _look(self) -> View:
        return await self.off_loop(self._newest)

    def _looked(self, task: asyncio.Task[View]) -> None:
        self._looking = None
        if not task.cancelled() and task.exception() is None:
            self._view, self._looked_at = task.result(), time.monotonic()

    def _newest(self) -> View:
        stamp = self._workspace.stamp()
        if self._view is not None and self._view.stamp == stamp:
            return self._view
        self._workspace.check()
        return View(self._host, self._workspace, self._routing, stamp)


def operations_of(component: Component) -> Mapping[str, OperationSpec]:
    """By name: what the manifest says, or where it says nothing (CYFR's do not), what such catalysts have."""
    if component.manifest is not None and component.manifest.operations:
        return component.manifest.operations
    return DEFAULT_OPERATIONS if _takes_operations(component) else {}


def _takes_operations(component: Component) -> bool:
    """Whether its input is the operation envelope, as far as its manifest says."""
    schema: Any = component.manifest.schemas.get("input") if component.manifest else None
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return isinstance(properties, dict) and "operation" in properties


def completed(routing: Routing, components: Sequence[Component]) -> Routing:
    """Where the operator named no catalyst, the only one there is with routes has all of them."""
    if routing.references:
        return routing
    subjects = {
        one.reference.any_version for one in components if any(spec.path for spec in operations_of(one).values())
    }
    return replace(routing, default=subjects.pop()) if len(subjects) == 1 else routing


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
