"""Requests for stored objects go where the objects were made.

A file, a response or a thread exists at one of several catalysts, or at one of several upstreams of a catalyst. Where
an answer makes one, that is remembered; a later request that names it, by the same API key, goes there and nowhere
else. So goes one that names a model, if that has a target there. An id that is not remembered changes nothing. The
memory is in the state, so all workers have it (`host.store.access.made_objects`); what this process learned a moment
ago it knows at once. Without several targets for a model, or several upstreams, there is nothing to remember.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from host.core.names import Reference
from host.core.strict_json import Json
from host.errors import HostError, InputError, StateError
from host.service.accounts import Ended, Observer
from host.service.request import Resolved, resolve
from host.service.targets import ModelTarget, group_of

if TYPE_CHECKING:
    from host.runtime.catalyst import Catalyst
    from host.service.catalog import Catalog, View
    from host.service.request import Routing
    from host.store.access.made_objects import MadeObjects

_log = logging.getLogger(__name__)
_RECENT: Final = 4_096  # in memory


class Answered(Protocol):
    """A run that has ended, as far as this module needs it. `said` is its answer, or its first event; `upstreams` are
    those of several where it made something."""

    resolved: Resolved
    catalyst: Catalyst

    @property
    def upstreams(self) -> Collection[str]: ...

    @property
    def said(self) -> Json: ...


class StoredObjects(Observer[Answered]):
    """One per process, for its event loop. It joins the `observers` once there may be something to remember."""

    def __init__(self, catalog: Catalog, made: MadeObjects, routing: Routing, observers: list[Observer[Any]]) -> None:
        self.active = bool(routing.failover)
        self._observers = observers
        if self.active:
            observers.append(self)
        self._catalog = catalog
        self._made = made
        self._recent: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._writing: set[asyncio.Task[None]] = set()

    async def pinned(self, resolved: Resolved, view: View) -> Resolved:
        """The request at the catalyst that made what it names; as it is where that is not known, or the caller has
        named a catalyst. Raises what `resolve` does, StateError."""
        request = resolved.request
        if isinstance(request.target, Reference) or not resolved.operation:
            return resolved
        ids = resolved.dialect.ids_of(resolved.spec, resolved.params)
        place = await self._place_of(request.principal.id, ids) if ids else None
        if place is None:
            return resolved
        place, _, _ = place.partition(" ")
        targets = [ModelTarget(one) for one in view.routing.references]
        if request.target:
            group = group_of(view.routing.model(request.target), view.routing.failover)
            targets = [] if group is None else list(group.targets)
        at = next((one for one in targets if str(one.reference.any_version) == place), None)
        return resolved if at is None else resolve(request, view, at)

    async def at_upstreams(self, resolved: Resolved, catalyst: Catalyst) -> Resolved:
        """The request at the upstreams of its `catalyst` that made what it names; as it is where that is not known.
        Raises StateError."""
        if self not in self._observers:
            self._observers.append(self)
        ids = resolved.dialect.ids_of(resolved.spec, resolved.params) if resolved.operation else ()
        place = await self._place_of(resolved.request.principal.id, ids) if ids else None
        at, *upstreams = (place or "").split(" ")
        if at != str(Reference.parse(catalyst.reference).any_version):
            return resolved
        return replace(resolved, upstreams=tuple(upstreams))

    async def _place_of(self, key: str, ids: Sequence[str]) -> str | None:
        for one in ids:
            if (found := self._recent.get((key, one))) is not None:
                return found
        return await self._catalog.off_loop(partial(self._made.place_of, key, ids))

    def ended(self, running: Answered, how: Ended) -> None:
        """Remember what the answer made."""
        if not (self.active or running.catalyst.grant.several_upstreams) or not how.outcome.startswith("2"):
            return
        resolved, said = running.resolved, None
        with suppress(InputError, StateError):
            said = running.said
        key, at = resolved.request.principal.id, Reference.parse(running.catalyst.reference).any_version
        place = " ".join([str(at), *sorted(running.upstreams)])
        made = resolved.dialect.ids_made(resolved.spec, resolved.params, said)
        if fresh := [one for one in made if self._recent.get((key, one)) != place]:
            for one in fresh:
                self._recent[key, one] = place
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
            task = asyncio.get_running_loop().create_task(self._remember(key, fresh, place))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _remember(self, key: str, ids: Sequence[str], place: str) -> None:
        try:
            await self._catalog.off_loop(partial(self._made.remember, key, ids, place))
        except HostError as error:
            _log.warning("where an object was made could not be kept: %s", error.code)
