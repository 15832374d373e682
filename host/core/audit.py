"""Audit events: their types, and the protocol of a sink that keeps them.

An event is recorded before its effect. If the sink fails (AuditError), the effect does not happen.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

from host.core.strict_json import Json, write_json

# `http.waited` is written before a wait, `http.given_up` where a failed request is not repeated although it could be;
# `http.moved` before a request goes to another of several upstreams, with the reason; `breaker.probed` before the one
# request that an open circuit lets through. `run.refused` counts the denials of a run beyond those that have a record
# each, `run.failed` has its error and the log of the guest: see `failure_of`. `run.moved` says as which run its request
# went on: see host.service.failover.
RunKind = Literal[
    "run.started",
    "run.failed",
    "run.ended",
    "run.refused",
    "run.moved",
    "http.request",
    "http.waited",
    "http.moved",
    "http.given_up",
    "breaker.opened",
    "breaker.probed",
    "breaker.closed",
    "websocket.closed",
    "secret.use",
    "secret.reveal",
    "log",
]

# What happened without a run, and changed nothing that is kept; as does a `secret.reveal` to the operator.
# `secret.asked` is written before a token endpoint or a program is asked, and again where it gave no token.
# `batch.asked` is written before a key's batch, or a file of one, is made, cancelled or deleted; `batch.gathered` when
# a batch on a cluster ends, with the head of each node's audit log.
OtherKind = Literal[
    "component.refused",
    "component.pulled",
    "component.pushed",
    "request.refused",
    "batch.asked",
    "batch.gathered",
    "secret.asked",
    "audit.mended",
]

# What the operator changed: recorded in the transaction that changes it (host.store.audit_log.log).
ChangeKind = Literal[
    "component.built",
    "component.registered",
    "component.unregistered",
    "component.approved",
    "component.pinned",
    "component.unpinned",
    "component.signed",
    "policy.changed",
    "config.changed",
    "import.changed",
    "secret.set",
    "secret.refreshed",
    "secret.deleted",
    "secret.granted",
    "secret.revoked",
    "key.rotated",
    "trust.added",
    "trust.revoked",
    "trust.ruled",
    "api_key.created",
    "api_key.changed",
    "api_key.rotated",
    "api_key.revoked",
    "audit.pruned",
    "audit.accepted",
]
CHANGES: Final[tuple[ChangeKind, ...]] = get_args(ChangeKind)

EventKind: TypeAlias = RunKind | OtherKind | ChangeKind  # `run` is empty but for the first
KINDS: Final[tuple[EventKind, ...]] = (*get_args(RunKind), *get_args(OtherKind), *CHANGES)


@dataclass(frozen=True, slots=True)
class Event:
    """One record, of a run or of an operator's change. `decision` is `allow` or `deny` for a
    capability, None for anything else; `detail` holds plain JSON values and never a secret. `at` is Unix time in
    seconds."""

    kind: EventKind
    run: str
    decision: Literal["allow", "deny"] | None = None
    rule: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.time)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One message of a catalyst's log."""

    level: str
    message: str


MAX_FAILURE_BYTES = 16 * 1024  # of the record of a failure: its error, traceback and log
_LONGEST: Final = {"traceback": -8_192, "stderr": -4_096, "message": 2_000}  # characters; negative: of the end


def failure_of(error: Json, logs: Sequence[LogLine]) -> dict[str, Json]:
    """A failure for the record, of at most MAX_FAILURE_BYTES: `error`, an object where it has names; `logs`, the last
    lines, each as `[level, message]`; `dropped`, how many there were before them."""
    given = error if isinstance(error, dict) else {"message": error}
    shown: dict[str, Json] = {}
    room = MAX_FAILURE_BYTES - 200  # for what is around it
    for name in sorted(given, key=lambda name: name in _LONGEST)[:40]:  # what is long comes last
        value, called = given[name], name[:100]
        if not isinstance(value, int | float | None):
            most = _LONGEST.get(name, 500)
            while _written(value := _cut(value, most)) + _written(called) > room // 2 and most not in (0, -1):
                most = int(most / 2)
        if (room := room - _written(value) - _written(called)) > 0:
            shown[called] = value
    kept: list[Json] = []
    for line in reversed(logs):
        one: list[Json] = [line.level, line.message[:2_000]]
        if (room := room - _written(one)) <= 0:
            break
        kept.insert(0, one)
    dropped = len(logs) - len(kept)
    return {"error": shown, **({"logs": kept} if kept else {}), **({"dropped": dropped} if dropped else {})}


def _cut(value: Json, most: int) -> str:
    text = value if isinstance(value, str) else write_json(value)
    return text[:most] if most >= 0 else text[most:]


def _written(value: Json) -> int:
    """How many bytes it takes in a record."""
    return len(json.dumps(value)) + 2


@dataclass(slots=True)
class Meters:
    """The consumption of a run so far. Times in seconds, sizes in bytes."""

    http_requests: int = 0  # repeats included
    retries: int = 0
    moved: int = 0  # times that an upstream of several was passed over, or did not serve a request
    opened_circuits: int = 0  # by a failure of this run
    closed_circuits: int = 0
    host_calls: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    emitted_bytes: int = 0
    events: int = 0
    log_bytes: int = 0
    cpu_time_s: float = 0.0
    sandbox_time_s: float = 0.0
    upstream_time_s: float = 0.0  # that it waited for upstreams
    waited_s: float = 0.0  # of that, before repeats, for room under the throttle, and where the guest asked for it
    earlier_runs: int = 0  # that had its sandbox before it: of its key, where a policy lets them share one
    caller_time_s: float = 0.0  # that it waited for its caller to take events


class Sink(Protocol):
    """Keeps events. `record` returns once the event is as safe as the sink makes it, and is called from any thread. A
    sink may have `record_all` as well, which does the same for several events at once, in their order."""

    def record(self, event: Event) -> None: ...


class NullSink:
    """Keeps nothing: for hosts that need only the record in each Result."""

    def record(self, event: Event) -> None:
        del event


class Both:
    """Two sinks: `first`, then `second`. If either fails, the effect does not happen."""

    def __init__(self, first: Sink, second: Sink) -> None:
        self._sinks = (first, second)

    def record(self, event: Event) -> None:
        for sink in self._sinks:
            sink.record(event)

    def record_all(self, events: Sequence[Event]) -> None:
        for sink in self._sinks:
            if (record_all := getattr(sink, "record_all", None)) is not None:
                record_all(events)
            else:
                for event in events:
                    sink.record(event)
