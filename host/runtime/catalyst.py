"""A loaded catalyst: one operation in, one Result or a stream of events out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from host import capabilities
from host.capabilities.exchange import LiveUpstream
from host.capabilities.secrets import CatalystSecrets
from host.component.manifest import Manifest
from host.component.operations import OperationSpec, Passes
from host.component.schema import InputSchema
from host.core.names import Digest
from host.core.operation import (
    Attachment,
    Execution,
    Input,
    Operation,
    Outcome,
    Result,
    no_room,
    read_input,
    read_output,
    write_input,
)
from host.core.quantities import parse_duration
from host.core.sliding_window import RequestLimiter
from host.core.slots import Share
from host.core.strict_json import Json, WrittenObject, write_body
from host.core.waiting import lacking
from host.egress import AddressPolicy, Egress
from host.errors import (
    Denied,
    GuestException,
    GuestTrap,
    HostError,
    InputError,
    MemoryExceeded,
    PolicyError,
    TooLarge,
)
from host.policy.permissions import Grant
from host.run import CancelToken, Counting, Piece, Run, RunStopped
from host.runtime.connections import _Connecting
from host.runtime.deployment import Deployment, schema_of, settings_of
from host.runtime.events import AsyncEventStream, Channel, EventStream, RunEnd
from host.runtime.executor import RunExecutor, on_run_thread
from host.sandbox import Instances, Loaded
from host.sandbox.failure import stopped
from host.secrets.redaction import Redactor
from host.secrets.value import Placeholders, new_placeholder

if TYPE_CHECKING:
    from concurrent.futures import Future


class Catalyst(_Connecting):
    """A loaded catalyst with its authority. It runs any number of operations, on any number of threads, each in a
    sandbox of its own. Made by `Host.load`."""

    def __init__(
        self,
        deployment: Deployment,
        loaded: Loaded,
        grant: Grant,
        *,
        executor: RunExecutor,
        egress: Egress,
        limiter: RequestLimiter | None = None,
    ) -> None:
        """`loaded` is the artifact of the deployment, `grant` its authority; the rest belongs to the host. Raises
        ManifestError, InputError."""
        artifact = deployment.artifact
        self.grant = grant
        self.reference: str = self.grant.reference
        self.imports = loaded.imports
        self._executor = executor
        self._sink = deployment.sink
        self._artifact = artifact
        self._digest = str(artifact.digest)
        values, tokens = deployment.held_for(grant)
        granted = {name: value for name, value in values.items() if name in grant.secrets}
        self._redactor = Redactor({str(name): value for name, value in granted.items()})
        stand_ins = deployment.stand_ins(grant)
        self._expiring = CatalystSecrets(values, tokens, grant.secrets, stand_ins) if tokens or stand_ins else None
        obtain = self._expiring.obtain if self._expiring else None
        mapped = frozenset(str(one.origin) for one in grant.named_upstreams)
        tls = deployment.tls()
        self._tls = tls.digests
        client = egress.client(
            AddressPolicy(private=grant.private, mapped=mapped),
            tls,
            max_connections=grant.limits.max_upstream_connections,
        )
        upstream = LiveUpstream(grant, client, values, obtain)
        functions = capabilities.configure(
            grant,
            upstream=upstream,
            sockets=partial(capabilities.live_sockets, upstream, grant, client),
            secrets=granted,
            config=deployment.config,
            obtain=obtain,
            limiter=limiter,
        )
        self._instances: Instances = loaded.link(functions, shared_by_key=grant.isolation == "key")
        self._input = schema_of(artifact.manifest, "input")
        self.operations: Mapping[str, OperationSpec] = artifact.manifest.operations if artifact.manifest else {}
        self.passes = artifact.manifest.passes if artifact.manifest else Passes()
        self._named = {alias: one for one in self.operations.values() for alias in (one.name, *one.aliases)}
        self._params: dict[str, InputSchema] = {}  # compiled when they are first asked for
        schema_of(artifact.manifest, "config").check(settings_of(artifact.manifest, deployment.config), "config")

    def __repr__(self) -> str:
        return f"<Catalyst {self.reference} ({self.digest.short})>"

    @property
    def manifest(self) -> Manifest | None:
        return self._artifact.manifest

    @property
    def digest(self) -> Digest:
        return self._artifact.digest

    @property
    def size(self) -> int:
        """Of the component, in bytes."""
        return len(self._artifact.wasm)

    @property
    def sbom(self) -> Mapping[str, Json] | None:
        """What the component contains, as its builder says: the CycloneDX document in it, or None. Raises
        ManifestError where it cannot be read."""
        from host.component.sbom import embedded  # noqa: PLC0415 - no run needs it

        return embedded(self._artifact.wasm)

    def operation(self, name: str) -> OperationSpec | None:
        """The one of `operations` with this name or alias."""
        return self._named.get(name)

    def check(self, operation: Input) -> None:
        """Check the input against the manifest, before a run. Raises InputError, with the path of the field
        (`params.messages[0].role`), and ManifestError for a schema that cannot be enforced.

        `run` checks the input too, but leaves an operation's `params` to the catalyst. An operation that the manifest
        does not name is not checked in either."""
        given = read_input(operation)
        name = given.get("operation")
        try:
            self._input.check(given)
            if "headers" in given:
                self._check_headers(given)
            if isinstance(name, str) and (found := self.operation(name)) is not None:
                self._params_of(found).check(given.get("params", {}), "params")
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"the input is not JSON: {error}") from None

    def _params_of(self, operation: OperationSpec) -> InputSchema:
        """Two threads may compile it; the results are the same."""
        if (known := self._params.get(operation.name)) is None:
            known = InputSchema.compile(operation.params, f"operations.{operation.name}.params")
            self._params[operation.name] = known
        return known

    def run(
        self,
        operation: Input,
        *,
        timeout: str | float | None = None,
        attachments: Mapping[str, object] | None = None,
        cancel: CancelToken | None = None,
        caller: Mapping[str, Json] | None = None,
        counting: Counting | None = None,
        into: Callable[[bytes], object] | None = None,
    ) -> Result:
        """Run one operation (a mapping, an Operation or JSON text) and return its Result, whatever its status.

        `timeout` (seconds, or a text like `30s`) narrows the policy's. `attachments` (bytes, pathlib.Path or
        Attachment, by name) stand in the input as `{"$attachment": name}`. `caller` names, for the record, on whose
        behalf the run is: JSON, and no secret; `counting` says for it what the run cost. `into` is called with each
        piece of a binary answer as it comes, on the run's thread, where the catalyst lets the host hand it on; the
        attachment in the result is empty then. False takes no more; what it raises ends the run. Raises Denied for a
        run that failed and was refused something, SandboxError, InputError, AuditError.
        """
        run = self._new_run(timeout, caller, counting)
        text = self._text(operation, run, attachments)
        run.taker = into and partial(_taken, into)
        return on_run_thread(lambda: self._execute(run, text, cancel), run.cancel)

    def stream(
        self,
        operation: Input,
        *,
        timeout: str | float | None = None,
        attachments: Mapping[str, object] | None = None,
        cancel: CancelToken | None = None,
        caller: Mapping[str, Json] | None = None,
        counting: Counting | None = None,
        asks: bool = True,
        takes_pieces: bool = False,
    ) -> EventStream:
        """Run one operation and iterate its events as they arrive; `.result` is there after the last. Leaving the loop
        early (`close`, or the end of a `with`) cancels the run. The iteration raises what `run` raises, and
        OperationFailed for an error status. `asks` and `takes_pieces` as of `astream`; pieces by `next_piece`."""
        run = self._new_run(timeout, caller, counting)
        text = self._text(operation, run, attachments, stream=asks)
        return EventStream(run, self._started(run, text, cancel, takes_pieces=takes_pieces))

    async def arun(
        self,
        operation: Input,
        *,
        timeout: str | float | None = None,  # noqa: ASYNC109 - the sandbox enforces it, not the event loop
        attachments: Mapping[str, object] | None = None,
        cancel: CancelToken | None = None,
        caller: Mapping[str, Json] | None = None,
        counting: Counting | None = None,
        upstreams: Collection[str] = (),
    ) -> Result:
        """`run` for async code: cancelled with its task. Of several upstreams that an origin has, the run goes to those
        among `upstreams`, given as origins, if any is."""
        import asyncio  # noqa: PLC0415 - an eighth of a start-up, and only async code needs it

        run = self._new_run(timeout, caller, counting, upstreams)
        text = self._text(operation, run, attachments)
        running = asyncio.wrap_future(self._executor.submit(lambda: self._execute(run, text, cancel)))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            run.cancel()
            await asyncio.wait([running])
            if not running.cancelled():
                running.exception()  # seen: it is the cancellation's own
            raise

    def astream(
        self,
        operation: Input,
        *,
        timeout: str | float | None = None,
        attachments: Mapping[str, object] | None = None,
        cancel: CancelToken | None = None,
        caller: Mapping[str, Json] | None = None,
        counting: Counting | None = None,
        asks: bool = True,
        checked: bool = False,
        share: Share | None = None,
        takes_pieces: bool = False,
        upstreams: Collection[str] = (),
    ) -> AsyncEventStream:
        """`stream` for async code: cancelled with its task, or when the iteration is left. Called in a running event
        loop. Without `asks` the input stays as it is, and there are events only if it asks for them itself. `checked`:
        the caller has called `check`; then the input is written on the run's thread, and what is wrong with its
        attachments ends the stream. `share` says what the run's slot counts for.
        `takes_pieces`: the caller reads the stream by `host.runtime.events.pieces`, and gets all that flows.
        `upstreams`: as in `arun`."""
        run = self._new_run(timeout, caller, counting, upstreams)
        write = partial(self._text, operation, run, attachments, stream=asks, checked=checked)
        text = write if checked else write()
        taking = partial(self._started, takes_pieces=takes_pieces)
        return AsyncEventStream(run, lambda arrived: taking(run, text, cancel, arrived, share))

    def _new_run(
        self,
        timeout: str | float | None,
        caller: Mapping[str, Json] | None,
        counting: Counting | None = None,
        upstreams: Collection[str] = (),
    ) -> Run:
        limits, raising = self.grant.limits, self.grant.raising
        if timeout is not None:
            seconds = _seconds(timeout)
            limits = limits.narrowed(replace(limits, timeout_s=seconds, stream_timeout_s=seconds))
            raising = partial(self._raising, seconds)
        placeholders = Placeholders()
        for name in self.grant.secrets:
            placeholders.bind(str(name), new_placeholder())
        renamed = self._redactor.renamed if self._expiring is None else self._expiring.redactor
        redactor = renamed(placeholders.by_name)
        run = Run(
            limits=limits,
            sink=self._sink,
            redactor=redactor,
            placeholders=placeholders,
            caller=caller,
            raising=raising,
            counting=counting,
        )
        run.upstreams.update(upstreams)
        self._executor.add(run)
        return run

    def _raising(self, seconds: float, field: str, value: str) -> str:
        """The remedy for a limit, of a run whose caller gave it so many seconds."""
        policy = {"timeout": self.grant.limits.timeout_s, "stream_timeout": self.grant.limits.stream_timeout_s}
        if seconds < policy.get(field, 0.0):
            return f"its caller set that: --timeout {value}, or timeout= in Python"
        return self.grant.raising(field, value)

    def _text(
        self,
        operation: Input,
        run: Run,
        attachments: Mapping[str, object] | None,
        *,
        stream: bool = False,
        checked: bool = False,
    ) -> str:
        """The guest's input as text, once `operation` matches the manifest's schema. With `stream` it asks for events,
        which the schema need not know."""
        files = {name: Attachment.of(one) for name, one in (attachments or {}).items()}
        given = read_input(operation)
        if not checked:
            self._input.check(given)
            if "headers" in given:
                self._check_headers(given)
        asked = _streamed(operation, given) if stream else given
        if not files and self.passes.body and (apart := self._with_body_apart(asked, run)) is not None:
            return apart
        return write_input(asked, run.attachments, files, mentions=checked)

    def _with_body_apart(self, given: Mapping[str, Json], run: Run) -> str | None:
        """The guest's input where it sends the body on as text: that is an attachment, and `params` are brief. None for
        an operation without such a body. Raises InputError, TooLarge."""
        found, params = self._named.get(given.get("operation", "")), given.get("params", {})
        if found is None or found.request != "json" or not isinstance(params, dict) or "body" in given:
            return None
        body = write_body(params, found.outside_body, stream=given.get("stream") is True, streams=found.stream)
        if (ident := run.attachments.put(Attachment(body.encode("utf-8", "replace")))) is None:
            raise no_room("the request's body", len(body))
        short: dict[str, Json] = {}
        for name, one in params.items():
            if name in found.outside_body:
                short[name] = one
            else:
                short[name] = one[:_LONGEST_BRIEF] if isinstance(one, str) else _EMPTY.get(type(one), one)
        return write_input(
            {**given, "params": short, "body": {"$attachment": ident}}, run.attachments, {}, mentions=True
        )

    def _check_headers(self, given: Mapping[str, Json]) -> None:
        """Raises InputError where `headers` beside the operation has one that the policy does not forward."""
        headers = given["headers"]
        if self.passes.headers is None or self._named.get(given.get("operation", "")) is None:
            return
        if not isinstance(headers, dict) or not all(isinstance(one, str) for one in headers.values()):
            raise InputError("headers is not an object of texts", field="headers")
        for name in headers:
            if name.lower() not in self.grant.forwards:
                raise InputError(
                    f"the header {name[:80]!r} is not one that {self.reference} sends on",
                    field=f"headers.{name[:80]}",
                    hint=f"those that it does: {', '.join(sorted(self.grant.forwards))}; or add it to forward_headers",
                )

    def _started(
        self,
        run: Run,
        text: str | Callable[[], str],
        cancel: CancelToken | None,
        arrived: Callable[[], None] | None = None,
        share: Share | None = None,
        *,
        takes_pieces: bool = False,
    ) -> Channel[RunEnd]:
        channel: Channel[RunEnd] = Channel(arrived)
        run.listener = lambda event: channel.put(event, run)
        run.taker = (lambda piece: channel.put(piece, run)) if takes_pieces else None

        def work() -> Result:
            return self._execute(run, text if isinstance(text, str) else text(), cancel, share)

        def finished(future: Future[Result]) -> None:
            channel.end(future.exception() or future.result())

        self._executor.submit(work).add_done_callback(finished)
        return channel

    def _execute(self, run: Run, text: str, cancel: CancelToken | None, share: Share | None = None) -> Result:
        """Run the guest, on the thread of the run: recorded before and after, and closed however it ends."""
        self._executor.check_open()
        if share is None:
            share = Share.of_embedder(str((run.caller or {}).get("key", "")), self.reference)
        with ExitStack() as stack:
            if cancel is not None:
                stack.enter_context(cancel.watched(run.cancel))
            run.audit("run.started", detail=self._begun(run))
            try:
                stack.enter_context(self._executor.under_way(run, share))
                try:
                    outcome = _read(self._instances.run(text, run), run)
                finally:
                    run.close()  # what is recorded of it comes before the end of the run
            except BaseException as error:
                run.audit_end({"error": _code(error)}, failure=_why(error))
                if isinstance(error, GuestException | GuestTrap) and run.behind is not None:
                    raise self._recorded(run.behind, run) from error
                if run.refusals and isinstance(error, GuestException | GuestTrap):
                    raise self._recorded(Denied(run.refusals), run) from error
                if isinstance(error, MemoryExceeded) and len(text) * _TIMES_OF_INPUT > run.limits.max_memory_bytes:
                    raise self._recorded(self._too_large(len(text), run), run) from error
                raise self._recorded(error, run)  # noqa: B904 - the same exception
            failed = not 200 <= outcome.status < 300
            behind = run.behind if failed else None
            how = {"status": outcome.status} if behind is None else {"error": behind.code}
            told = outcome.error if behind is None else behind.as_dict()
            document = outcome.data if outcome.brief is None else outcome.brief
            run.audit_end(how, document=document, failure=told if failed else None)
        if behind is not None:
            raise self._recorded(behind, run)
        result = outcome.result(self._record(run))
        if failed and run.refusals:
            raise self._recorded(Denied(run.refusals, result), run)
        return result

    def _too_large(self, size: int, run: Run) -> TooLarge:
        """For an input that takes all of the sandbox's memory to read."""
        most = run.limits.max_memory_bytes
        return TooLarge(
            f"an input of {size} characters does not fit a sandbox with {most} bytes of memory (max_memory_bytes)",
            hint=f"raise max_memory_bytes in the policy of {self.reference}",
        )

    def _begun(self, run: Run) -> dict[str, Json]:
        """The detail of a run's first record. A run without a last record after `timeout_s` was killed."""
        begun: dict[str, Json] = {"reference": self.reference, "digest": self._digest}
        if self._tls:
            begun["tls"] = {at: dict(digests) for at, digests in self._tls.items()}
        if self.grant.isolation != "operation":
            begun["isolation"] = self.grant.isolation
        begun["timeout_s"] = max(run.limits.timeout_s, run.limits.stream_timeout_s)
        return {**begun, "caller": dict(run.caller)} if run.caller else begun

    def _recorded(self, error: BaseException, run: Run) -> BaseException:
        """`error`, or Busy where the system lacks something; with the run's record if it is a HostError."""
        error = lacking(error) or error
        if isinstance(error, HostError):
            error.execution = self._record(run)
        return error

    def _record(self, run: Run) -> Execution:
        return Execution(
            id=run.id,
            reference=self.reference,
            digest=self._digest,
            started_at=run.started_at,
            duration_s=run.elapsed_s,
            meters=run.meters,
            decisions=tuple(run.events),
            refusals=tuple(run.refusals),
            logs=tuple(run.logs),
        )


def _taken(into: Callable[[bytes], object], piece: Piece) -> bool:
    return not isinstance(piece, bytes) or into(piece) is not False


_TIMES_OF_INPUT: Final = 16  # that a guest's memory may be larger than an input that fills it
_EMPTY: Final[Mapping[type, Json]] = {dict: {}, WrittenObject: {}, list: [], tuple: []}
_LONGEST_BRIEF: Final = 1_000  # characters of a text in `params`, where the body is apart


def _code(error: BaseException) -> str:
    return error.code if isinstance(error, HostError) else type(error).__name__


def _why(error: BaseException) -> dict[str, Json]:
    """An error for the record; of a fault of ours its kind, since its words may hold anything."""
    return error.as_dict() if isinstance(error, HostError) else {"type": _code(error)}


def _read(output: str, run: Run) -> Outcome:
    """The outcome in the guest's output, read within the run's own deadline."""
    try:
        return read_output(output, run.attachments, most_bytes=run.limits.max_output_bytes, check=run.go_on)
    except RunStopped:
        assert run.stopped is not None
        raise stopped(run.stopped, run) from None


def _streamed(operation: Input, given: dict[str, Json]) -> dict[str, Json]:
    """The input, asking for events unless it says itself that it wants none."""
    return {**given, "stream": True} if isinstance(operation, Operation) else {"stream": True, **given}


def _seconds(timeout: str | float) -> float:
    try:
        return parse_duration(timeout)
    except PolicyError as error:
        raise InputError(f"timeout: {error.message}", field="timeout", hint=error.hint) from None
