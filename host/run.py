"""The state of one run: its deadline, limits and meters, its cancellation, its refusals and its record.

A Run belongs to the thread that runs it. Only `cancel` may be called from another thread.
"""

from __future__ import annotations

import enum
import math
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

from host.core import forks
from host.core.audit import Event, EventKind, LogLine, Meters, Sink, failure_of
from host.core.conversation import Conversation
from host.core.limits import Limits
from host.core.names import SecretName
from host.core.operation import Attachments
from host.core.repeating import Cause
from host.core.sse import Comment, ServerSentEvent
from host.core.strict_json import Json, parse_json
from host.core.waiting import Turn
from host.core.wit import Cut
from host.errors import AuditError, HostError, InputError, Refusal, UpstreamTimeout
from host.secrets.redaction import Redactor
from host.secrets.value import Placeholders, SecretValue

MAX_EVENTS = 1_000  # kept with the result; the sink has all
MAX_LINES = 1_000  # messages of a guest; more are dropped and counted
MAX_DENIALS = 100  # that have a record each; one record at the end counts the rest


class Stop(enum.Enum):
    """Why the host ended a run before the guest did. The first reason counts."""

    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    CALLER = "caller"  # who took no events for too long
    CPU_TIME = "cpu_time"
    HOST_CALLS = "host_calls"
    OUTPUT = "output"
    FAULT = "fault"  # a host function failed: see Run.fault


class RunStopped(Exception):
    """The run must end (`Run.stopped` says why), in the middle of a host call."""


class CancelToken:
    """Cancels one run or several: `cancel()` from any thread, any number of times. It stays cancelled."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return "<CancelToken: cancelled>" if self.cancelled else "<CancelToken>"

    def cancel(self) -> None:
        with self._lock:
            self.cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    @contextmanager
    def watched(self, callback: Callable[[], None]) -> Iterator[None]:
        """Inside, `callback` is called once when the token is cancelled; at once if it is already."""
        with self._lock:
            cancelled = self.cancelled
            if not cancelled:
                self._callbacks.append(callback)
        if cancelled:
            callback()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)


@dataclass(frozen=True, slots=True)
class Overdue:
    """The last wait for an upstream that was over the policy's `limit`, of `waited_s` seconds. `words` say it to the
    operator, `remedy` is the line that raises the limit."""

    limit: str
    waited_s: float
    words: str
    remedy: str


def _raising(field: str, value: str) -> str:
    return f"raise {field} if that is too little, to {value} for example"


@dataclass(frozen=True, slots=True)
class GuestReport:
    """A guest's own account of its end, before it trapped: an exception's class name, message and traceback."""

    exception: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """The head of an upstream's answer that flows to the caller as it comes: events, or with `binary` the bytes of its
    body. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    binary: bool = False


Piece: TypeAlias = AnswerHead | Comment | bytes
"""What flows to the caller beside events."""


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """How a relayed stream ended: with `done`, an event that ends a stream and is none of its own, if the upstream sent
    one. `failed`: its last event was an error, so the listener knows."""

    done: ServerSentEvent | None = None
    failed: bool = False


class Counting(Protocol):
    """Reads what a run costs in what it answers. Called on the run's thread."""

    def event(self, text: str) -> None:
        """An event, as JSON text."""
        ...

    def facts(self, document: Json) -> Mapping[str, Json]:
        """For the last record of the run, whose answer is `document`, None for an answer that is none."""
        ...


_Held: TypeAlias = tuple[EventKind, Literal["allow", "deny"] | None, float]
"""Of a record: its kind, its decision, and its time."""


class Closable(Protocol):
    """Something that a run may leave open; it is closed with the run."""

    def close(self) -> None: ...


class Run:
    """`listener` receives each emitted event as JSON text, on the run's thread. It may block for backpressure, and
    returns False when nobody wants more. A `taker` receives in the same way what flows beside events: the heads of
    answers, comments, and the bytes of an answer that is no events. Without one these stay with the run. `sink` gets
    the run's audit events. `redactor` knows the run's secrets. `caller` names, for the record, on whose behalf the run
    is; `counting` says for it what the run cost. `raising` returns the remedy for a limit, by its name in a policy,
    that is to have another value."""

    def __init__(
        self,
        *,
        limits: Limits,
        sink: Sink | None,
        redactor: Redactor,
        placeholders: Placeholders,
        listener: Callable[[str], bool] | None = None,
        taker: Callable[[Piece], bool] | None = None,
        caller: Mapping[str, Any] | None = None,
        raising: Callable[[str, str], str] = _raising,
        counting: Counting | None = None,
    ) -> None:
        self.id = "run_" + secrets.token_hex(12)
        self.limits = limits
        self.redactor = redactor
        self.placeholders = placeholders
        self.listener = listener
        self.taker = taker
        self.caller = caller
        self.key = str((caller or {}).get("key") or "")  # the API key that it is for, if any
        self.raising = raising
        self.counting = counting
        self.meters = Meters()
        self.attachments = Attachments(limits.max_attachment_bytes)
        self.events: list[Event] = []
        self.refusals: list[Refusal] = []
        self.logs: list[LogLine] = []
        self.report: GuestReport | None = None
        self.streams: dict[str, Closable] = {}
        self.conversation: Conversation | None = None  # with a caller who exchanges messages
        self.stream_end: StreamEnd | None = None  # of the last stream that was relayed
        self.stopped: Stop | None = None
        self.fault: BaseException | None = None
        self.overdue: Overdue | None = None  # until the next request
        self.unserved: Cause | None = None  # why the last request was not served
        self.once_only = False  # whether one was sent that may not be sent again
        self.upstreams: set[str] = set()  # those of several, as origins, where what it works with is: it goes on there
        self.tokens: dict[SecretName, SecretValue] = {}  # those that expire: the run keeps the ones that it began with
        self.unavailable: HostError | None = None  # why a token that it asked for cannot be had
        self.unsent: HostError | None = None  # why the last request was not sent
        self.flows = False  # whether the answer has begun to flow to the caller
        self.turn: Turn | None = None  # where runs take turns
        self._sink = sink
        self._record_all: Callable[[Sequence[Event]], None] | None = getattr(sink, "record_all", None)
        self._held: list[_Held] = []  # records that are not yet written
        self._said: list[tuple[str, dict[str, Any]]] = []  # and the rule and the detail of each, not yet redacted
        self.blocked_requests = 0  # refused before they were sent; they count towards max_http_requests
        self._used: set[str] = set()
        self._refused: set[Refusal] = set()  # those in `refusals`
        self._denials = 0
        self._unrecorded: Counter[str] = Counter()  # denials beyond MAX_DENIALS, by kind and type
        self._own_emitted_bytes = 0
        self._token = CancelToken()
        self._generation = forks.generation
        self.started_at = time.time()
        self._started = time.monotonic()
        self._deadline = self._started + limits.timeout_s
        self._cpu_started = math.inf  # until it begins, on whichever thread that is
        self._cpu_due = math.inf  # when its CPU time can be over: no thread computes for longer than time passes

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    # time

    def remaining(self) -> float:
        """Seconds left of the run; 0 or less when it is over or cancelled."""
        return 0.0 if self._token.cancelled else self._deadline - time.monotonic()

    def begin_flow(self) -> None:
        """The answer begins to flow to the caller, and the run has the time of a stream."""
        self.flows = True
        self._deadline = self._started + self.limits.stream_timeout_s

    @property
    def time_limit(self) -> tuple[str, float]:
        """The policy's name of the limit of the whole run, and its seconds."""
        return ("stream_timeout", self.limits.stream_timeout_s) if self.flows else ("timeout", self.limits.timeout_s)

    @property
    def waited_for(self) -> Literal["upstream", "caller", "guest"]:
        """The party that most of the time went to."""
        upstream, caller = self.meters.upstream_time_s, self.meters.caller_time_s
        guest = self.elapsed_s - upstream - caller
        if guest >= max(upstream, caller):
            return "guest"
        return "upstream" if upstream >= caller else "caller"

    @property
    def behind(self) -> HostError | None:
        """What is known to be behind a failure of the run, where nothing was refused it."""
        late = self.overdue
        if self.unavailable is not None or self.refusals:
            return self.unavailable
        if self.unsent is not None or late is None:
            return self.unsent
        return UpstreamTimeout(late.words, limit=late.limit, waited_s=late.waited_s, hint=late.remedy)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def check(self) -> Stop | None:
        """Why the run must end now; None if it may go on. Called at every epoch and around every host call, on the
        run's thread."""
        if self.stopped is None:
            if self._token.cancelled:
                self.stopped = Stop.CANCELLED
            elif (now := time.monotonic()) >= self._deadline:
                self.stopped = Stop.DEADLINE
            elif now >= self._cpu_due:  # the clock of a thread is slow to read
                if (left := self.limits.cpu_time_s - self._cpu_time()) <= 0:
                    self.stopped = Stop.CPU_TIME
                self._cpu_due = now + left
        return self.stopped

    def stop(self, why: Stop) -> None:
        self.stopped = self.stopped or why

    def fail(self, fault: BaseException) -> None:
        """A host function raised `fault`: the run ends, and its caller gets the exception."""
        self.fault = self.fault or fault
        self.stop(Stop.FAULT)

    def begin_cpu_time(self) -> None:
        """Start the CPU clock on the thread that runs the guest."""
        self._cpu_started = time.thread_time()
        self._cpu_due = time.monotonic() + self.limits.cpu_time_s

    def end_cpu_time(self) -> None:
        self.meters.cpu_time_s = self._cpu_time()

    def _cpu_time(self) -> float:
        """CPU seconds of the run's thread since the guest began; 0 before that."""
        return max(0.0, time.thread_time() - self._cpu_started)

    def excuse(self, cpu_s: float) -> None:
        """So much CPU time of this thread was the host's own work, which does not grow with what the guest does."""
        self._cpu_started += cpu_s

    def redacted(self, text: str) -> str:
        """`text` without secrets. Raises RunStopped if the run must end before that is done."""
        return self.redactor.text(text, self.go_on)

    def go_on(self) -> None:
        """Raises RunStopped if the run must end: to be called within work that takes long."""
        if self.check() is not None:
            raise RunStopped

    def wait(self, seconds: float) -> None:
        """Returns after that time. Raises RunStopped as soon as the run must end."""
        if seconds > 0:
            woken = threading.Event()
            with self.interruptible(woken.set):
                woken.wait(min(seconds, max(0.0, self.remaining())))
        self.go_on()

    # cancellation

    def cancel(self) -> None:
        """Cancel the run, from any thread. A blocked host call wakes; the guest stops at the next epoch. A child of a
        fork cannot: it would hang up the connections of its parent."""
        if not self.inherited:
            self._token.cancel()

    @property
    def inherited(self) -> bool:
        """Whether this process is a child of a fork, and the run is its parent's."""
        return self._generation != forks.generation

    @property
    def cancelled(self) -> bool:
        return self._token.cancelled

    def interruptible(self, abort: Callable[[], None]) -> AbstractContextManager[None]:
        """Inside, the run waits, and `abort` is called once, from the cancelling thread, when the run is cancelled."""
        self.step_aside()
        return self._token.watched(abort)

    def step_aside(self) -> None:
        """The run waits: its turn to compute is somebody else's until the guest goes on."""
        if self.turn is not None:
            self.turn.leave()

    # output

    def emit(self, event: str, *, relayed: bool = False) -> bool:
        """Hand one event, a JSON text, to the listener. Returns whether the listener took it.

        A guest's own event counts towards its output limit and is redacted here; a relayed one, a ServerSentEvent,
        was counted as a response, and redacted by the capability that relays it."""
        if self.listener is None:
            return False
        self.settle()
        if not self.flows:
            self.begin_flow()
        size = event.size if isinstance(event, Cut) else len(event.encode("utf-8", "replace"))
        self.meters.emitted_bytes += size
        self.meters.events += 1
        if not relayed:
            self._own_emitted_bytes += size
            if self._own_emitted_bytes > self.limits.max_output_bytes:
                self.stop(Stop.OUTPUT)
                return False
            event = self.redacted(event)
        if self.counting is not None:
            self.counting.event(event)
        return self.listener(event)

    def hand_over(self, piece: Piece) -> bool:
        """Hand what flows beside events to the taker. Returns whether it was taken."""
        if self.taker is None:
            return False
        self.settle()
        if not self.flows:
            self.begin_flow()
        if isinstance(piece, bytes):
            self.meters.emitted_bytes += len(piece)
        return self.taker(piece)

    def close(self) -> None:
        """Close the streams that the run left open, all of them. On its thread, however the run ended."""
        with ExitStack() as closing:
            for stream in self.streams.values():
                closing.callback(stream.close)
            self.streams.clear()

    # record

    def audit(
        self,
        kind: EventKind,
        decision: Literal["allow", "deny"] | None = None,
        rule: str = "",
        detail: Mapping[str, Any] | None = None,
        *,
        held: bool = False,
    ) -> None:
        """Record an event, before its effect. Raises AuditError if that fails; the effect must not happen then. A guest
        can cause any number of denials: after MAX_DENIALS they are counted. A `held` one may wait for the next, to be
        written with it: whoever holds one calls `settle` before the effect."""
        if decision == "deny" and kind != "run.refused":
            self._denials += 1
            if self._denials > MAX_DENIALS:
                self._unrecorded[f"{kind} {(detail or {}).get('type', '')}".rstrip()] += 1
                return
        self._held.append((kind, decision, time.time()))
        self._said.append((rule, dict(detail or {})))
        if not held or self._record_all is None:
            self.settle()

    def settle(self) -> None:
        """Write the records that are held, in order, together. Raises AuditError; their effects must not happen
        then."""
        if not self._held:
            return
        held, said, self._held, self._said = self._held, self._said, [], []
        events = []
        for (kind, decision, at), (rule, detail) in zip(held, self.redactor.json(said), strict=True):
            events.append(Event(kind, self.id, decision, rule, detail, at))
        try:
            if self._record_all is not None:
                self._record_all(events)
            elif self._sink is not None:
                for event in events:
                    self._sink.record(event)
        except AuditError:
            raise
        except Exception as error:
            raise AuditError(f"the audit sink failed: {type(error).__name__}") from error
        for event in events:
            if len(self.events) < MAX_EVENTS and event.kind != "run.failed":  # the caller has the error and the log
                self.events.append(event)

    def audit_end(self, end: Mapping[str, Any], *, document: Json = None, failure: Json = None) -> None:
        """Record the end of the run and its meters: `end` is its status or its error's code, `document` its answer.
        Before it the number of denials that have no record of their own, and of a run that failed, why: its `failure`,
        and the last of what the guest logged."""
        if self._unrecorded:
            self.audit("run.refused", "deny", f"{self._unrecorded.total()} more denials", self._unrecorded)
        if failure is not None and self._sink is not None:
            self.audit("run.failed", detail=failure_of(failure, self.logs))
        counted = {} if self.counting is None else self.counting.facts(document)
        spent = {
            "duration_s": round(time.monotonic() - self._started, 6),
            "cpu_time_s": round(self.meters.cpu_time_s, 6),
            "http_requests": self.meters.http_requests,
            "sent_bytes": self.meters.sent_bytes,
            "received_bytes": self.meters.received_bytes,
        }
        if self.meters.retries or self.meters.moved:
            spent |= {"retries": self.meters.retries, "moved": self.meters.moved}
        rare = {"waited_s": round(self.meters.waited_s, 6), "earlier_runs": self.meters.earlier_runs}
        spent |= {name: value for name, value in rare.items() if value}
        self.audit("run.ended", detail={**end, **counted, **spent})

    def refuse(self, kind: EventKind, refusal: Refusal) -> None:
        """Record a refusal, and keep it for the run's caller."""
        subject, rule, remedy = self.redactor.json((refusal.subject, refusal.rule, refusal.remedy))
        refusal = replace(refusal, subject=subject, rule=rule, remedy=remedy)
        self.audit(kind, "deny", refusal.rule, {"type": refusal.kind, "subject": refusal.subject})
        if refusal not in self._refused and len(self.refusals) < MAX_EVENTS:
            self._refused.add(refusal)
            self.refusals.append(refusal)

    def first_use(self, name: str) -> bool:
        """Whether this is the run's first use of the secret `name`: only that is recorded. Of names that are not
        granted there may be any number: only so many are remembered."""
        first = name not in self._used
        if name in self.placeholders.by_name or len(self._used) < MAX_EVENTS:
            self._used.add(name)
        return first

    def note(self, level: str, message: str) -> None:
        """Keep a log message of the guest, redacted and capped. A `fatal` one is its report of its own end."""
        room = self.limits.max_log_bytes - self.meters.log_bytes
        self.meters.log_bytes += message.size if isinstance(message, Cut) else len(message)
        if level == "fatal" and self.report is None:
            self.report = _report(self.redacted(message))
        elif room > 0 and len(self.logs) < MAX_LINES:
            self.logs.append(LogLine(level, self.redacted(message)[:room]))


def _report(message: str) -> GuestReport | None:
    try:
        said = parse_json(message, "the report")
    except InputError:
        said = None
    if not isinstance(said, dict):
        return GuestReport("", message[:1_000], "")
    name, text, traceback = (str(said.get(key) or "") for key in ("exception", "message", "traceback"))
    return GuestReport(name[:200], text[:1_000], traceback[-16_384:])
