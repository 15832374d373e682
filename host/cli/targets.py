"""What a command line names: a file, or something that is installed or to be pulled.

Where `host run` and `host inspect` take a catalyst from: a file, with nothing but what the options grant, or what is
installed under a reference, with what is kept for it, to which they add.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from host.cli.inputs import blaming, opened
from host.cli.options import Found, Given, Standing
from host.cli.output import missing_permissions
from host.cli.output.component import lacking
from host.component.manifest import Manifest
from host.core.names import SecretName, looks_like_oci, looks_like_reference
from host.errors import InputError, Refusal
from host.runtime.preload import Preload

if TYPE_CHECKING:
    from host.runtime.host import Catalyst
    from host.runtime.loader import Loader
    from host.trust.artifact import Artifact


def source_named(words: Sequence[str]) -> str:
    """The one source among `words`: `c local.openai`, also as one word, stands for `c:local.openai`. Raises
    InputError."""
    parts = words[0].split() if len(words) == 1 else words
    if len(parts) == 2 and looks_like_reference(f"{parts[0]}:"):
        return ":".join(parts)
    if len(words) != 1:
        raise InputError(f"one FILE or REF, not {len(words)}: {' '.join(words)}", field="FILE|REF")
    return words[0]


def is_reference(name: str) -> bool:
    """Whether `name` is a reference and no file (a file of such a name is `./c:x`)."""
    return looks_like_oci(name) or looks_like_reference(name)


class Origin(Protocol):
    """`name` is how messages call it, `standing` what it has before any option."""

    name: str
    standing: Standing

    @property
    def manifest(self) -> Manifest | None: ...

    def catalyst(self, granted: Given) -> AbstractContextManager[Catalyst]:
        """It, with what was granted, until the end of the `with`."""
        ...

    def hint(self, granted: Given, refusals: Sequence[Refusal]) -> str | None:
        """After a denial: what would allow all that the manifest asks for."""
        ...


class File:
    """A component that is loading already."""

    def __init__(self, ahead: Preload[tuple[Artifact, Loader]], name: str) -> None:
        self.name = name
        self.standing = Standing()
        self._ahead = ahead

    @property
    def manifest(self) -> Manifest | None:
        with blaming("FILE"):
            return self._ahead.loaded()[0].manifest

    @contextmanager
    def catalyst(self, granted: Given) -> Iterator[Catalyst]:
        with blaming("FILE"):
            artifact, loader = self._ahead.loaded()
        from host.runtime.host import Host  # noqa: PLC0415 - imported by others while the component loads

        with Host(loader=loader) as host:
            yield host.load(
                artifact,
                policy=granted.policy,
                secrets=granted.secrets,
                config=granted.config,
                reference=self.name,
                wasi=granted.wasi,
            )

    def hint(self, granted: Given, refusals: Sequence[Refusal]) -> str | None:
        return missing_permissions.unmet(self.manifest, granted).hint(refusals)


class Kept:
    """What is installed under a reference, or is pulled by it, and is loading from then on. To be used in a `with`."""

    def __init__(self, name: str, *, approved: bool = True, wasi: Iterable[str] = ()) -> None:
        """`approved`: only bytes that may use what is granted. `wasi`: what it may import beyond what is kept for it.
        Raises what `Host.installed` does."""
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
        self.standing = Standing(kept.effective.policy, kept.config, secrets, self._find)

    @property
    def manifest(self) -> Manifest | None:
        return self._installed.artifact.manifest

    def _find(self, name: str) -> Found | None:
        found = self._workspace.sources.find(SecretName.parse(name))
        return Found(found.value.reveal(), f"the one in {found}") if found else None

    def installation(self) -> dict[str, Any]:
        """How it came to be installed: reference, source, registered_at, approved, signers (key ids), versions."""
        component = self._installed.component
        versions = self._workspace.components.versions(component.reference.any_version)
        return {
            "reference": str(component.reference),
            "source": component.source,
            "registered_at": component.registered_at,
            "approved": component.approved,
            "signers": list(self._installed.signers),
            "versions": [one.reference.version for one in versions],
        }

    @contextmanager
    def catalyst(self, granted: Given) -> Iterator[Catalyst]:
        self._ahead.loaded()
        from host.runtime.host import Host  # noqa: PLC0415 - see File

        with Host(loader=self._loader, workspace=self._workspace) as host:
            yield host.load(
                self._installed,
                policy=granted.policy,
                secrets=granted.secrets,
                config=granted.config,
                wasi=granted.wasi,
            )

    def hint(self, granted: Given, refusals: Sequence[Refusal]) -> str | None:
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
