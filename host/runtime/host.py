"""Host → Catalyst → Result: the embedding API, and the one place where everything is put together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from host.core import forks
from host.core.audit import Sink
from host.core.limits import CEILING, Limits
from host.core.names import Reference, looks_like_oci, looks_like_reference
from host.core.sliding_window import RequestLimiter
from host.core.strict_json import Json
from host.core.waiting import start
from host.egress import Egress
from host.errors import HostError
from host.policy.document import Policy
from host.runtime.catalyst import Catalyst
from host.runtime.deployment import Deployment, Given, Secret
from host.runtime.executor import RunExecutor
from host.runtime.loader import Loader
from host.runtime.room import most_runs
from host.sandbox import CompileLimits
from host.sandbox.engine import MAX_MEMORY_BYTES
from host.secrets.value import SecretValue
from host.trust.artifact import Artifact, admit, read_component

if TYPE_CHECKING:
    from host.runtime.tokens import TokenKeeper
    from host.runtime.workspace import Installed, Workspace

_LOOK_S: Final = 0.5


class Host:
    """Loads catalysts. One per process: it has the engine, the compiled cache and the connections. Thread-safe. To be
    closed, or used in a `with`. In a child of a fork a Host of the parent's, and what it loaded, raise StateError:
    make it after the fork.

    `cache_dir` and `state_dir` default to the places in `host.core.environment`. `sink` gets every audit event.
    `limits` is the ceiling of every policy. `loader` is used in place of the directories, and closed with the host.
    `workspace` is the stored state, for catalysts loaded by reference; without one it is opened in `state_dir` for the
    first of them, and closed with the host. `limiter` counts the requests that policies limit (default: those of each
    loaded catalyst, in this process). `compile_limits` bound what compiling a component may take (default: those in the
    environment). `max_runs` are under way at once at most, 1 or more (default: as many as the system has room for, up
    to 2,008); others wait. Raises StateError, InputError.
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
        compile_limits: CompileLimits | None = None,
        max_runs: int | None = None,
    ) -> None:
        self._limiter = limiter
        self._loader = loader or Loader(cache_dir, state_dir, compile_limits=compile_limits)
        self._state_dir = state_dir
        self._workspace = workspace
        self._own = ExitStack()  # what was opened here, and is closed here
        self._egress = Egress()
        self._sink = sink
        self._ceiling = limits.narrowed(replace(limits, max_memory_bytes=MAX_MEMORY_BYTES))
        room = most_runs(self._loader.sandbox.lanes.slots)
        self._executor = RunExecutor(room if max_runs is None else min(max_runs, room))
        self._lock = threading.Lock()
        self._generation = forks.generation

    def __repr__(self) -> str:
        return f"<Host {'closed' if self._executor.closed else 'open'}>"

    def load(
        self,
        source: str | Path | bytes | Artifact | Reference | Installed,
        *,
        policy: Policy | None = None,
        secrets: Mapping[str, str | SecretValue | Secret] | None = None,
        config: Mapping[str, Json] | None = None,
        reference: str | None = None,
        wasi: Sequence[str] = (),
    ) -> Catalyst:
        """Load a catalyst, with the authority that the operator grants.

        `source` is a file, the bytes of a component, an Artifact, or the reference of an installed component
        (`c:local.openai`, `oci://…`). An installed component has its stored policy, secrets and configuration:
        `policy` takes the place of the stored one, `secrets` and `config` are added. Its runs are recorded in the
        workspace's audit log as well.

        For a file, `policy` None allows nothing. `secrets` are values by name; one without a Secret around it is bound
        to the policy's allowed_domains. The catalyst may read `config`. Messages name it by `reference` (default: the
        file's name, or the digest). `wasi` names interfaces of WASI that it may import beyond the harmless ones, such
        as `wasi:io/poll`; even so it sees no files, no network and no environment. Raises ArtifactError, InputError,
        PolicyError.
        """
        self._executor.check_open()
        given = Given.of(policy, secrets or {}, config or {}, wasi)
        deployment = self._deployment(source, given, reference)
        if deployment.stored is not None:
            self.workspace.protect(self._loader)
        loaded = self._loader.load(deployment.artifact, wasi=deployment.wasi)
        grant = deployment.grant(loaded.imports, self._ceiling)
        return Catalyst(deployment, loaded, grant, executor=self._executor, egress=self._egress, limiter=self._limiter)

    def _deployment(
        self, source: str | Path | bytes | Artifact | Reference | Installed, given: Given, reference: str | None
    ) -> Deployment:
        match source:
            case bytes():
                source = admit(source)
            case Reference():
                source = self.installed(source)
            case str() if looks_like_oci(source) or looks_like_reference(source):
                source = self.installed(source)
            case str() | Path():
                reference = reference or str(source)
                source = admit(read_component(source))
        if isinstance(source, Artifact):
            return Deployment.of_file(source, reference or source.digest.short, given, self._sink)
        return Deployment.of_installed(source, given, self.workspace, self._sink, self._token_keeper)

    @property
    def workspace(self) -> Workspace:
        """The stored state; opened at its first use. Raises StateError."""
        from host.runtime.workspace import Workspace  # noqa: PLC0415 - a file needs no database

        if self._generation != forks.generation:
            raise forks.made_before()
        with self._lock:
            if self._workspace is None:
                self._workspace = self._own.enter_context(Workspace.open(self._state_dir))
            return self._workspace

    @cached_property
    def _token_keeper(self) -> TokenKeeper:
        from host.runtime.tokens import TokenKeeper  # noqa: PLC0415 - a file has no tokens that expire

        return TokenKeeper(self.workspace, self._egress)

    def installed(self, reference: str | Reference, *, approved: bool = True) -> Installed:
        """The installed component `reference` (`c:local.openai`, or `oci://…`, which is pulled), verified, for `load`;
        with `approved` False also one that may not be run. Raises InputError, ArtifactError, StateError,
        RegistryError."""
        if isinstance(reference, str):
            return self.workspace.find(reference, self._loader, approved=approved)
        return self.workspace.installed(reference, approved=approved)

    def is_crowded(self, caller: str) -> bool:
        """Whether another run of the caller would wait long for its turn to compute: `caller` as in `Share`."""
        return self._executor.is_crowded(caller)

    def cancel_asked(self, asked: Callable[[Collection[str]], Collection[str]]) -> None:
        """Cancel the runs whose ids `asked` returns, of the ids of this host's runs: see `Cancellations.among`."""
        if runs := {run.id: run for run in self._executor.runs()}:
            for ident in asked(runs):
                runs[ident].cancel()

    def close(self) -> None:
        """Cancel all runs, wait for them, and release everything. Any number of times. In a child of a fork it does
        nothing: all of it is the parent's."""
        if self._generation != forks.generation:
            return
        self._executor.close()
        if "_token_keeper" in vars(self):
            self._token_keeper.close()
        self._egress.close()
        self._loader.close()
        self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def cancelled_by_others(host: Host, workspace: Workspace) -> Iterator[None]:
    """Inside, a run ends that `host runs cancel`, the console or a tool asks to end."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(_LOOK_S):
            with suppress(HostError):  # a database that is busy is asked again
                host.cancel_asked(workspace.cancellations.among)

    watching = start(look, name="host-cancellations")
    try:
        yield
    finally:
        done.set()
        watching.join(_LOOK_S)
