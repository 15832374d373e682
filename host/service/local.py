"""Operations of an installed component without an event loop: the steps of `host.service.dispatch`, one after another.

For the operator at their own terminal, and for work in bulk. There are no limits: keys have some, and budgets are those
of a server. Start-up matters here, so nothing in this file imports asyncio.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from host.core.names import Reference
from host.service.request import OperationRequest, Resolved, Routing, TokenCount, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from host.core.operation import Result
    from host.runtime.catalyst import Catalyst
    from host.runtime.connections import EventConnection
    from host.runtime.events import EventStream
    from host.store.components import Component

_NO_ROUTING: Final = Routing()


def resolve_local(request: OperationRequest, component: Component) -> Resolved:
    """The request at this component, whatever its target. Raises Forbidden, InputError."""
    return resolve(replace(request, target=component.reference), _Only(component))


def run(resolved: Resolved, catalyst: Catalyst, into: Callable[[bytes], object] | None = None) -> Result:
    """The result, whatever its status; `into` as of `Catalyst.run`. Raises what `Catalyst.run` does."""
    return catalyst.run(
        resolved.input(),
        timeout=resolved.request.timeout_s,
        attachments=resolved.attachments,
        caller=resolved.caller(),
        counting=TokenCount(resolved.dialect),
        into=into,
    )


def stream(resolved: Resolved, catalyst: Catalyst) -> EventStream:
    """The events. Raises what `Catalyst.stream` does."""
    return catalyst.stream(
        resolved.input(),
        timeout=resolved.request.timeout_s,
        attachments=resolved.attachments,
        caller=resolved.caller(),
        counting=TokenCount(resolved.dialect),
    )


def connect(resolved: Resolved, catalyst: Catalyst) -> EventConnection:
    """The connection. Raises what `Catalyst.connect` does."""
    return catalyst.connect(
        resolved.input(),
        timeout=resolved.request.timeout_s,
        caller=resolved.caller(),
        counting=TokenCount(resolved.dialect),
    )


@dataclass(frozen=True, slots=True)
class _Only:
    """A catalog of one component."""

    only: Component
    routing: Routing = _NO_ROUTING

    def component(self, reference: Reference) -> Component:
        del reference
        return self.only
