"""The target of `host run` and `host inspect`: a file, with the permissions that the options grant; or an installed
component by its reference, with the permissions that the operator gave it, to which the options add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from host.cli.inputs import blaming, opened
from host.cli.output import missing_permissions
from host.cli.output.component import lacking
from host.cli.permissions import OfferedSecret, RunPermissions
from host.component.manifest import Manifest
from host.core.names import SecretName
from host.errors import Refusal
from host.runtime.preload import Preload

if TYPE_CHECKING:
    from host.core.operation import Attachment, Result
    from host.core.strict_json import Json
    from host.runtime.catalyst import Catalyst
    from host.runtime.connections import EventConnection
    from host.runtime.events import EventStream
    from host.runtime.loader import Loader
    from host.service.request import Resolved
    from host.trust.artifact import Artifact


@dataclass(frozen=True)
class Job:
    """What `host run` is to do: the whole input of the catalyst, with the attachments that it names. `into` gets the
    bytes of a binary answer as they come."""

    input: Mapping[str, Json]
    attachments: Mapping[str, Attachment]
    timeout_s: float | None
    into: Callable[[bytes], object] | None = None


class RunTarget(Protocol):
    """Where a catalyst comes from. `name` is for messages; `permissions` are those before any option."""

    name: str
    permissions: RunPermissions

    @property
    def manifest(self) -> Manifest | None: ...

    def catalyst(self, granted: RunPermissions) -> AbstractContextManager[Catalyst]:
        """The catalyst with the granted permissions, until the end of the `with`."""
        ...

    def run(self, catalyst: Catalyst, job: Job) -> Result:
        """One run. Raises what `Catalyst.run` does."""
        ...

    def stream(self, catalyst: Catalyst, job: Job) -> EventStream:
        """The events of one run. Raises what `Catalyst.stream` does."""
        ...

    def connect(self, catalyst: Catalyst, job: Job) -> EventConnection:
        """The connection that one run opens. Raises what `Catalyst.connect` does."""
        ...

    def hint(self, granted: RunPermissions, refusals: Sequence[Refusal]) -> str | None:
        """For the error after a denial: the commands or options that allow all that the manifest requests."""
        ...


class FileTarget:
    """The component in a file, which is loading already."""

    def __init__(self, ahead: Preload[tuple[Artifact, Loader]], name: str) -> None:
        self.name = name
        self.permissions = RunPermissions()
        self._ahead = ahead

    @property
    def manifest(self) -> Manifest | None:
        with blaming("FILE"):
            return self._ahead.loaded()[0].manifest

    @contextmanager
    def catalyst(self, granted: RunPermissions) -> Iterator[Catalyst]:
        with blaming("FILE"):
            artifact, loader = self._ahead.loaded()
        from host.runtime.host import Host  # noqa: PLC0415 - imported by others while the component loads

        with Host(loader=loader) as host:
            yield host.load(
                artifact,
                policy=granted.policy,
                secrets=granted.bound(),
                config=granted.config,
                reference=self.name,
                wasi=granted.wasi,
            )

    def run(self, catalyst: Catalyst, job: Job) -> Result:
        return catalyst.run(job.input, timeout=job.timeout_s, attachments=job.attachments, into=job.into)

    def stream(self, catalyst: Catalyst, job: Job) -> EventStream:
        return catalyst.stream(job.input, timeout=job.timeout_s, attachments=job.attachments)

    def connect(self, catalyst: Catalyst, job: Job) -> EventConnection:
        return catalyst.connect(job.input, timeout=job.timeout_s)

    def hint(self, granted: RunPermissions, refusals: Sequence[Refusal]) -> str | None:
        return missing_permissions.unmet(self.manifest, granted).hint(refusals)


class InstalledTarget:
    """The component that is installed under a reference, or is pulled by it. To be used in a `with`."""

    def __init__(self, name: str, *, approved: bool = True, wasi: Iterable[str] = ()) -> None:
        """Begins to load it. `approved`: refuse bytes that the operator did not approve. `wasi`: interfaces that it may
        import beyond those that the operator allowed. Raises what `Workspace.find` does."""
        with ExitStack() as stack:
            self._workspace = stack.enter_context(opened())
            from host.runtime.loader import Loader  # noqa: PLC0415 - not where there is nothing to be opened

            self._loader = Loader()
            self._installed = self._workspace.find(name, self._loader, approved=approved)
            self._stack = stack.pop_all()
        kept = self._installed
        self._ahead = Preload(partial(self._loader.load, kept.artifact, wasi=(*kept.wasi, *wasi)))
        self.name = str(kept.reference)
        secrets = frozenset(map(str, kept.secrets))
        self.permissions = RunPermissions(
            policy=kept.effective.policy, config=kept.config, granted=secrets, find=self._find
        )

    @property
    def manifest(self) -> Manifest | None:
        return self._installed.artifact.manifest

    def _find(self, name: str) -> OfferedSecret | None:
        found = self._workspace.sources.find(SecretName.parse(name))
        return OfferedSecret(found.value, f"the one in {found}") if found and found.value else None

    def installation(self) -> dict[str, Any]:
        """Facts of the installation: reference, source, registered_at, approved, serves, pinned, signers (ids of keys),
        versions, and of those that wait for approval their references, with their digests."""
        from host.service import views  # noqa: PLC0415 - `host run` shows no component

        facts = views.of_installed(self._installed)
        versions = self._workspace.components.versions(self._installed.reference.any_version)
        shown = views.picked(facts, "reference", "source", "registered_at", "approved", "serves", "pinned", "signers")
        known = dict.fromkeys(one.reference.version for one in versions)
        waiting = {str(one.reference): str(one.digest) for one in versions if not one.approved}
        return {**shown, "versions": list(known), "waiting": waiting}

    @contextmanager
    def catalyst(self, granted: RunPermissions) -> Iterator[Catalyst]:
        self._ahead.loaded()
        from host.runtime.host import Host, cancelled_by_others  # noqa: PLC0415 - see FileTarget

        with Host(loader=self._loader, workspace=self._workspace) as host:
            catalyst = host.load(
                self._installed,
                policy=granted.policy,
                secrets=granted.bound(),
                config=granted.config,
                wasi=granted.wasi,
            )
            with cancelled_by_others(host, self._workspace):
                yield catalyst

    def run(self, catalyst: Catalyst, job: Job) -> Result:
        from host.service import local  # noqa: PLC0415 - see FileTarget

        return local.run(self._resolved(job), catalyst, job.into)

    def stream(self, catalyst: Catalyst, job: Job) -> EventStream:
        from host.service import local  # noqa: PLC0415 - see FileTarget

        return local.stream(self._resolved(job), catalyst)

    def connect(self, catalyst: Catalyst, job: Job) -> EventConnection:
        from host.service import local  # noqa: PLC0415 - see FileTarget

        return local.connect(self._resolved(job), catalyst)

    def _resolved(self, job: Job) -> Resolved:
        from host.service.local import resolve_local  # noqa: PLC0415 - see FileTarget
        from host.service.principal import OPERATOR  # noqa: PLC0415 - see FileTarget
        from host.service.request import OperationRequest  # noqa: PLC0415 - see FileTarget

        request = OperationRequest(
            principal=OPERATOR,
            operation="",  # the input goes to the catalyst as it was typed
            more=job.input,
            attachments=job.attachments,
            timeout_s=job.timeout_s,
        )
        return resolve_local(request, self._installed.component)

    def hint(self, granted: RunPermissions, refusals: Sequence[Refusal]) -> str | None:
        del granted
        if not any(refusal.grantable for refusal in refusals):
            return None
        lines = lacking(self._workspace, self._installed.component)
        return "\n".join(["to allow all that its manifest asks for:", *lines]) if len(lines) > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
