"""Host → Catalyst → Result: the embedding API, and the one place where everything is put together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar
from weakref import WeakSet

from host import capabilities
from host.capabilities.upstream import LiveUpstream
from host.component.manifest import Manifest
from host.component.operations import OperationSpec
from host.component.schema import InputSchema
from host.core.attachments import Attachment
from host.core.audit import Both, NullSink, Sink
from host.core.limits import CEILING, Limits
from host.core.names import Digest, Reference, SecretName, looks_like_oci, looks_like_reference
from host.core.operation import Execution, Input, Operation, Result, read_input, read_output, write_input
from host.core.quantities import parse_duration
from host.core.sliding_window import RequestLimiter
from host.core.strict_json import Json
from host.egress import AddressPolicy, Egress
from host.errors import Denied, GuestException, GuestTrap, HostError, InputError, PolicyError, StateError
from host.policy.document import PLACES, Place, Policy, SecretGrant
from host.policy.domains import DomainPattern
from host.policy.permissions import Grant, compute_grant, requested_by
from host.run import CancelToken, Placeholders, Run
from host.runtime.events import AsyncEventStream, Channel, EventStream, Outcome
from host.runtime.loader import Loader
from host.runtime.threads import on_run_thread
from host.sandbox import Instances, Loaded, Sandbox
from host.sandbox.engine import MAX_MEMORY_BYTES, MAX_SANDBOXES
from host.secrets.redaction import Redactor
from host.secrets.value import SecretValue, new_placeholder
from host.trust.artifact import Artifact, admit, read_component

T = TypeVar("T")

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from host.runtime.workspace import Installed, Workspace

MAX_WAITING_RUNS = 16 * MAX_SANDBOXES  # threads: a run beyond the sandboxes waits in one, until its own deadline


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret's value and where it may go. `domains` None: to the policy's allowed_domains. `places`: header, url,
    body. With `reveal` the guest sees the value itself."""

    value: str = field(repr=False)
    domains: Sequence[str] | None = None
    reveal: bool = False
    places: Sequence[Place] = ("header",)


class Host:
    """One per process: the engine, its caches and ticker, and the road out. Thread-safe. To be closed, or used in a
    `with`.

    `cache_dir` and `state_dir` default to the places in `host.core.environment`; `sink` gets every audit event;
    `limits` is the ceiling of every policy. `loader` is one that has begun already, in place of the directories.
    `workspace` is what the operator keeps, for catalysts loaded by reference; without one it is opened in `state_dir`
    when the first of them is, and closed with the host. `limiter` counts the requests that policies limit (default:
    each loaded catalyst's, in this process). Raises StateError.
    """

    def __init__(
        self,
        *,
        cache_dir: str | Path | None = None,
        state_dir: str | Path | None = None,
        sink: Sink | None = None,
        limits: Limits = CEILING,
        loader: Loader | None = None,
        workspace: Workspace | None = None,
        limiter: RequestLimiter | None = None,
    ) -> None:
        self._limiter = limiter
        self._loader = loader or Loader(cache_dir, state_dir)
        self._state_dir = state_dir
        self._workspace = workspace
        self._own = ExitStack()  # what was opened here, and is closed here
        self._egress = Egress()
        self._sink: Sink = NullSink() if sink is None else sink
        self._ceiling = limits.narrowed(replace(limits, max_memory_bytes=MAX_MEMORY_BYTES))
        self._threads: ThreadPoolExecutor | None = None
        self._calls: WeakSet[Run] = WeakSet()
        self._lock = threading.Lock()
        self._closed = False

    def load(
        self,
        source: str | Path | bytes | Artifact | Reference | Installed,
        *,
        policy: Policy | None = None,
        secrets: Mapping[str, str | Secret] | None = None,
        config: Mapping[str, Json] | None = None,
        reference: str | None = None,
        wasi: Sequence[str] = (),
    ) -> Catalyst:
        """The catalyst in the file at `source`, in these bytes, or admitted before, with the authority that the
        operator grants; or the one that a reference (`c:local.openai`, `oci://…`) names, with what is kept for it: its
        policy, in place of which `policy` stands where it is given, its secrets and configuration, to which these are
        added. Its runs are recorded in the workspace's journal as well.

        `policy` None allows nothing. `secrets` are values by name; a bare string is bound to the policy's
        allowed_domains. `config` is what the catalyst may read. `reference` is how messages name it (default: the
        file's name, or the digest). `wasi` names interfaces of WASI that it may import beyond the harmless ones, such
        as `wasi:io/poll`; whatever they are, it sees no files, no network and no environment. Raises ArtifactError,
        InputError, PolicyError.
        """
        if self._closed:
            raise StateError("the host is closed")
        if not isinstance(source, str | Path | bytes | Artifact):
            kept = self.installed(source) if isinstance(source, Reference) else source
            return self._load_kept(kept, policy, secrets or {}, config or {}, wasi)
        if isinstance(source, str) and (looks_like_oci(source) or looks_like_reference(source)):
            return self._load_kept(self.installed(source), policy, secrets or {}, config or {}, wasi)
        named = "" if isinstance(source, bytes | Artifact) else str(source)
        artifact = source if isinstance(source, Artifact) else admit(_read(source))
        loaded = self._loader.load(artifact, wasi=wasi)
        values, bindings = _secrets(secrets or {})
        grant = compute_grant(
            reference=reference or named or artifact.digest.short,
            interfaces=loaded.imports,
            requested=requested_by(artifact.manifest, config or {}),
            policy=_policy(policy),
            secrets=bindings,
            ceiling=self._ceiling,
        )
        return Catalyst(self, artifact, loaded, grant, values, config or {}, self._sink)

    @property
    def workspace(self) -> Workspace:
        """What the operator keeps; opened when it is first asked for. Raises StateError."""
        from host.runtime.workspace import Workspace  # noqa: PLC0415 - a file needs none of it

        with self._lock:
            if self._workspace is None:
                self._workspace = self._own.enter_context(Workspace.open(self._state_dir))
            return self._workspace

    def installed(self, reference: str | Reference, *, approved: bool = True) -> Installed:
        """What `reference` (`c:local.openai`, `oci://…`, which is pulled) names, verified and with what is kept for it,
        for `load`; with `approved` False also bytes that may not be run. Raises InputError, ArtifactError, StateError,
        RegistryError."""
        if isinstance(reference, str):
            return self.workspace.find(reference, self._loader, approved=approved)
        return self.workspace.installed(reference, approved=approved)

    def _load_kept(
        self,
        kept: Installed,
        policy: Policy | None,
        secrets: Mapping[str, str | Secret],
        config: Mapping[str, Json],
        wasi: Sequence[str],
    ) -> Catalyst:
        loaded = self._loader.load(kept.artifact, wasi=(*kept.wasi, *wasi))
        values, bindings = _secrets(secrets)
        for name, binding in kept.secrets.items():
            bindings[name] = bindings.get(name) or binding
            if name not in values and (found := self.workspace.sources.find(name)) is not None:
                values[name] = found.value
        settings = {**kept.config, **config}
        grant = compute_grant(
            reference=str(kept.reference),
            interfaces=loaded.imports,
            requested=requested_by(kept.artifact.manifest, settings),
            policy=kept.effective.policy if policy is None else _policy(policy),
            secrets={name: binding for name, binding in bindings.items() if name in values},
            ceiling=self._ceiling,
            stored=kept.effective,
            valueless=bindings.keys() - values.keys(),
        )
        sink = Both(self._sink, self.workspace.audit_log)
        return Catalyst(self, kept.artifact, loaded, grant, values, settings, sink)

    def close(self) -> None:
        """Cancel what runs, wait for it, and give everything back. Any number of times."""
        with self._lock:
            self._closed = True
            calls = list(self._calls)
        for run in calls:
            run.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=True)
        self._egress.close()
        self._sandbox.close()
        self._own.close()

    @property
    def _sandbox(self) -> Sandbox:
        return self._loader.sandbox

    def _submit(self, work: Callable[[], T], cancel: Callable[[], None]) -> Future[T]:
        """Run `work` on one of the host's threads, which are there once something asks for them."""
        with self._lock:
            if self._closed:
                raise StateError("the host is closed")
            if self._threads is None:
                from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - `host run` needs none

                self._threads = ThreadPoolExecutor(MAX_WAITING_RUNS, thread_name_prefix="host-run")
            return self._threads.submit(on_run_thread, work, cancel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Catalyst:
    """A loaded catalyst with its authority: runs any number of operations, on any number of threads, each in a sandbox
    of its own. Made by `Host.load`."""

    def __init__(
        self,
        host: Host,
        artifact: Artifact,
        loaded: Loaded,
        grant: Grant,
        secrets: Mapping[SecretName, SecretValue],
        config: Mapping[str, Json],
        sink: Sink,
    ) -> None:
        self._host = host
        self._sink = sink
        self._artifact = artifact
        self.grant = grant
        self.imports = loaded.imports
        granted = {name: secrets[name] for name in grant.secrets}
        self._redactor = Redactor({str(name): value for name, value in granted.items()})
        reach = AddressPolicy(
            private=grant.private, mapped=frozenset(str(origin) for origin in grant.upstreams.values())
        )
        upstream = LiveUpstream(grant, host._egress.client(reach), granted)
        functions = capabilities.configure(
            grant, upstream=upstream, secrets=granted, config=config, limiter=host._limiter
        )
        self._instances: Instances = loaded.link(functions)
        self._input = _schema(artifact.manifest, "input")
        self.operations: Mapping[str, OperationSpec] = artifact.manifest.operations if artifact.manifest else {}
        self._named = {alias: one for one in self.operations.values() for alias in (one.name, *one.aliases)}
        self._params: dict[str, InputSchema] = {}  # compiled when they are first asked for
        _schema(artifact.manifest, "config").check(_settings(artifact.manifest, config), "config")

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
    def reference(self) -> str:
        return self.grant.reference

    def operation(self, name: str) -> OperationSpec | None:
        """The one of `operations` with this name or alias."""
        return self._named.get(name)

    def check(self, operation: Input) -> None:
        """Raises InputError where the input is none that the manifest describes, with the path of the field
        (`params.messages[0].role`); for whoever wants to know that before anything is begun. `run` leaves to the
        catalyst what it makes of an operation's `params`, and operations that the manifest does not name are its own
        business here too. Raises ManifestError where their schema is none that can be enforced."""
        given = read_input(operation)
        name = given.get("operation")
        try:
            self._input.check(given)
            if isinstance(name, str) and (found := self.operation(name)) is not None:
                self._params_of(found).check(given.get("params", {}), "params")
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"the input is not JSON: {error}") from None

    def _params_of(self, operation: OperationSpec) -> InputSchema:
        """Two threads may compile it: they make the same."""
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
    ) -> Result:
        """Run one operation (a mapping, an Operation or JSON text) and return its Result, whatever its status.

        `timeout` (seconds, or a text like `30s`) narrows the policy's; `attachments` (bytes, pathlib.Path or
        Attachment, by name) stand in the input as `{"$attachment": name}`; `caller` says on whose behalf it is, for the
        record: JSON, and no secret. Raises Denied where the run failed and was refused something, SandboxError,
        InputError, AuditError.
        """
        run = self._new_run(timeout, caller)
        text = self._text(operation, run, attachments)
        return on_run_thread(lambda: self._execute(run, text, cancel), run.cancel)

    def stream(
        self,
        operation: Input,
        *,
        timeout: str | float | None = None,
        attachments: Mapping[str, object] | None = None,
        cancel: CancelToken | None = None,
        caller: Mapping[str, Json] | None = None,
    ) -> EventStream:
        """Run one operation and iterate its events as they arrive; `.result` is there after the last. Leaving the loop
        early (`close`, or the end of a `with`) cancels the run. While iterating it raises what `run` raises, and
        OperationFailed where the operation ended in an error status."""
        run = self._new_run(timeout, caller)
        text = self._text(operation, run, attachments, stream=True)
        return EventStream(run, self._started(run, text, cancel))

    async def arun(
        self,
        operation: Input,
        *,
        timeout: str | float | None = None,  # noqa: ASYNC109 - the sandbox enforces it, not the event loop
        attachments: Mapping[str, object] | None = None,
        cancel: CancelToken | None = None,
        caller: Mapping[str, Json] | None = None,
    ) -> Result:
        """`run` for async code: cancelled with its task."""
        import asyncio  # noqa: PLC0415 - an eighth of a start-up, and only async code needs it

        run = self._new_run(timeout, caller)
        text = self._text(operation, run, attachments)
        running = asyncio.wrap_future(self._host._submit(lambda: self._execute(run, text, cancel), run.cancel))
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
        asks: bool = True,
        checked: bool = False,
    ) -> AsyncEventStream:
        """`stream` for async code: cancelled with its task, or when the iteration is left. Called where an event loop
        runs. Without `asks` the input stays as it is, and events come only where it asks for them itself.
        `checked`: the caller has called `check`."""
        run = self._new_run(timeout, caller)
        text = self._text(operation, run, attachments, stream=asks, checked=checked)
        return AsyncEventStream(run, lambda arrived: self._started(run, text, cancel, arrived))

    def _new_run(self, timeout: str | float | None, caller: Mapping[str, Json] | None) -> Run:
        limits = self.grant.limits
        if timeout is not None:
            limits = limits.narrowed(replace(limits, timeout_s=_seconds(timeout)))
        placeholders = Placeholders()
        for name in self.grant.secrets:
            placeholders.bind(str(name), new_placeholder())
        redactor = self._redactor.renamed(placeholders.by_name)
        host = self._host
        run = Run(limits=limits, sink=self._sink, redactor=redactor, placeholders=placeholders, caller=caller)
        with host._lock:
            host._calls.add(run)
        return run

    def _text(
        self,
        operation: Input,
        run: Run,
        attachments: Mapping[str, object] | None,
        *,
        stream: bool = False,
        checked: bool = False,
    ) -> str:
        """What the guest gets, once what the caller gave has the form that the manifest says: events, which may be
        asked for here, are the host's wish."""
        files = {name: Attachment.of(one) for name, one in (attachments or {}).items()}
        given = read_input(operation)
        text = write_input(_streamed(operation, given) if stream else given, run.attachments, files)
        if not checked:
            self._input.check(given)
        return text

    def _started(
        self, run: Run, text: str, cancel: CancelToken | None, arrived: Callable[[], None] | None = None
    ) -> Channel[Outcome]:
        channel: Channel[Outcome] = Channel(arrived)
        run.listener = lambda event: channel.put(event, run)

        def work() -> Result:
            return self._execute(run, text, cancel)

        def finished(future: Future[Result]) -> None:
            channel.end(future.exception() or future.result())

        self._host._submit(work, run.cancel).add_done_callback(finished)
        return channel

    def _execute(self, run: Run, text: str, cancel: CancelToken | None) -> Result:
        """The run itself, on the thread that it stays on: recorded before and after, and closed however it ends."""
        if self._host._closed:
            raise StateError("the host is closed")
        with ExitStack() as stack:
            stack.callback(run.close)
            if cancel is not None:
                stack.enter_context(cancel.watched(run.cancel))
            run.audit("run.started", detail=self._begun(run))
            try:
                stack.enter_context(self._host._sandbox.slots.taken(run))
                output = self._instances.run(text, run)
            except BaseException as error:
                code = error.code if isinstance(error, HostError) else type(error).__name__
                run.audit("run.ended", detail={"error": code, **_spent(run)})
                if run.refusals and isinstance(error, GuestException | GuestTrap):
                    raise self._recorded(Denied(run.refusals), run) from error
                raise self._recorded(error, run)  # noqa: B904 - the same exception
            outcome = read_output(output, run.attachments)
            run.audit("run.ended", detail={"status": outcome.status, **_spent(run)})
        result = Result(
            outcome.status,
            outcome.data,
            outcome.error,
            outcome.attachments,
            self._record(run),
            headers=outcome.headers,
            document=outcome.document,
        )
        if not result.ok and run.refusals:
            raise self._recorded(Denied(run.refusals, result), run)
        return result

    def _begun(self, run: Run) -> dict[str, Json]:
        """What goes into a run's first record. A run of which there is none after `timeout_s` was killed."""
        begun: dict[str, Json] = {"reference": self.reference, "digest": str(self.digest)}
        begun["timeout_s"] = run.limits.timeout_s
        return {**begun, "caller": dict(run.caller)} if run.caller else begun

    def _recorded(self, error: BaseException, run: Run) -> BaseException:
        """`error` with the run's record, if it is one of ours."""
        if isinstance(error, HostError):
            error.execution = self._record(run)
        return error

    def _record(self, run: Run) -> Execution:
        return Execution(
            id=run.id,
            reference=self.reference,
            digest=str(self.digest),
            started_at=run.started_at,
            duration_s=run.elapsed_s,
            meters=run.meters,
            decisions=tuple(run.events),
            refusals=tuple(run.refusals),
            logs=tuple(run.logs),
        )


def _spent(run: Run) -> dict[str, Json]:
    """What of a run's meters goes into its last record."""
    meters = run.meters
    return {
        "duration_s": round(run.elapsed_s, 6),
        "cpu_time_s": round(meters.cpu_time_s, 6),
        "http_requests": meters.http_requests,
        "sent_bytes": meters.sent_bytes,
        "received_bytes": meters.received_bytes,
    }


def _streamed(operation: Input, given: dict[str, Json]) -> dict[str, Json]:
    """Events are wanted, unless the input itself says that they are not."""
    return {**given, "stream": True} if isinstance(operation, Operation) else {"stream": True, **given}


def _schema(manifest: Manifest | None, name: str) -> InputSchema:
    """What the manifest says of its `input` or `config`. Raises ManifestError."""
    return InputSchema.compile(manifest.schemas.get(name, True) if manifest else True, f"schema.{name}")


def _settings(manifest: Manifest | None, config: Mapping[str, Json]) -> dict[str, Json]:
    """The config as the catalyst sees it: with its own defaults, which it fills in itself."""
    return {**(manifest.defaults if manifest else {}), **config}


def _policy(given: Policy | None) -> Policy:
    if given is None or isinstance(given, Policy):
        return given or Policy()
    raise InputError(f"the policy is a {type(given).__name__}", field="policy", hint="Policy(allowed_domains=[…])")


def _seconds(timeout: str | float) -> float:
    try:
        return parse_duration(timeout)
    except PolicyError as error:
        raise InputError(f"timeout: {error.message}", field="timeout", hint=error.hint) from None


def _read(source: str | Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else read_component(source)


def _secrets(
    given: Mapping[str, str | Secret],
) -> tuple[dict[SecretName, SecretValue], dict[SecretName, SecretGrant | None]]:
    values: dict[SecretName, SecretValue] = {}
    bindings: dict[SecretName, SecretGrant | None] = {}
    for text, one in given.items():
        name = SecretName.parse(text)
        secret = one if isinstance(one, Secret) else Secret(one)
        try:
            values[name] = SecretValue(secret.value)
        except InputError as error:
            raise InputError(f"secret {name}: {error.message}", field=f"secrets.{name}") from None
        bindings[name] = _binding(name, secret)
    return values, bindings


def _binding(name: SecretName, secret: Secret) -> SecretGrant | None:
    if secret.domains is None and not secret.reveal and tuple(secret.places) == ("header",):
        return None
    unknown = set(secret.places) - set(PLACES)
    if unknown or not secret.places:
        raise InputError(f"secret {name}: places are of " + ", ".join(PLACES), field="places")
    if isinstance(secret.domains, str):
        raise InputError(f"secret {name}: domains are a list", field="domains", hint=f'domains=["{secret.domains}"]')
    domains = None if secret.domains is None else tuple(DomainPattern.parse(domain) for domain in secret.domains)
    return SecretGrant(name, domains, frozenset(secret.places), secret.reveal)
