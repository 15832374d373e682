"""Where `host run` and `host inspect` take a catalyst from: a file, with nothing but what the options grant, or what is
installed under a reference, with what is kept for it, to which they add.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from host.cli.authority import Given, Standing
from host.cli.files import blaming
from host.manifest import Manifest
from host.runtime import Catalyst, Host

if TYPE_CHECKING:
    from host.ahead import Ahead
    from host.workspace import Installed


class Origin(Protocol):
    """`name` is how messages call it, `standing` what it has before any option."""

    name: str
    standing: Standing

    @property
    def manifest(self) -> Manifest | None: ...

    def catalyst(self, granted: Given) -> AbstractContextManager[Catalyst]:
        """It, with what was granted, until the end of the `with`."""
        ...


class File:
    """A component that is loading already."""

    def __init__(self, ahead: Ahead, name: str) -> None:
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
        with Host(loader=loader) as host:
            yield host.load(
                artifact,
                policy=granted.policy,
                secrets=granted.secrets,
                config=granted.config,
                reference=self.name,
                wasi=granted.wasi,
            )


class Kept:
    """What is installed under a reference, or is pulled by it. To be used in a `with`."""

    def __init__(self, name: str, *, approved: bool = True) -> None:
        """`approved`: only bytes that may use what is granted. Raises what `Host.installed` does."""
        with ExitStack() as stack:
            self._host = stack.enter_context(Host())
            self._installed: Installed = self._host.installed(name, approved=approved)
            self._stack = stack.pop_all()
        self.name = str(self._installed.reference)
        kept = self._installed
        self.standing = Standing(kept.effective.policy, kept.config, frozenset(map(str, kept.secrets)))

    @property
    def manifest(self) -> Manifest | None:
        return self._installed.artifact.manifest

    def installation(self) -> dict[str, Any]:
        """How it came to be installed: reference, source, registered_at, approved, signers (key ids), versions."""
        component = self._installed.component
        versions = self._host.workspace.components.versions(component.reference.any_version)
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
        yield self._host.load(
            self._installed,
            policy=granted.policy,
            secrets=granted.secrets,
            config=granted.config,
            wasi=granted.wasi,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
