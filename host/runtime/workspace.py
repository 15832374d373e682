"""The stored state of one installation, opened together: its components, and what each may do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from host.component.manifest import Manifest, embedded_text, self_contained
from host.core import environment
from host.core.audit import Event
from host.core.installation import component_file
from host.core.names import Digest, Reference, SecretName, looks_like_oci
from host.core.strict_json import Json
from host.core.wit import EXPORTS
from host.errors import ArtifactError, InputError, NotApproved, RegistryError
from host.oci.reference import OciReference
from host.policy.document import Effective, SecretGrant
from host.store import schema
from host.store.access.cancellations import Cancellations
from host.store.access.counters import Counters
from host.store.audit_log.log import AuditLog
from host.store.blobs import Blobs
from host.store.components import Component, Components, Review
from host.store.database import Database
from host.store.policies import Config, Imports, Policies, SecretGrants
from host.store.sql import select
from host.store.tables import state_seal
from host.store.trusted_keys import TrustStore
from host.store.vault.keys import Keys
from host.store.vault.secrets import Vault
from host.store.vault.sources import SecretSources
from host.trust.artifact import Artifact, read_component
from host.trust.bundle import bundles_beside, speaking_of
from host.trust.verification import VerifiedArtifact, verify

if TYPE_CHECKING:
    from host.oci.blobs import Progress
    from host.oci.client import RegistryClient
    from host.runtime.loader import Loader
    from host.store.access.api_keys import ApiKeys
    from host.store.access.batches import Batches
    from host.store.access.made_objects import MadeObjects
    from host.store.access.usage import Usage
    from host.store.state_digest import State
    from host.store.vault.master import MasterKey
    from host.store.vault.secrets import SigningKeys


_SEAL = select(state_seal.c.seq, state_seal.c.mac)


@dataclass(frozen=True, slots=True)
class Installed:
    """A component that was resolved and verified, with its stored policy, configuration and grants. `secrets` are the
    granted names, each with its destinations (None: where the policy says); `wasi` the interfaces of WASI that it may
    import beyond the harmless ones."""

    component: Component
    artifact: Artifact
    signers: tuple[str, ...]
    effective: Effective
    config: Mapping[str, Json] = field(repr=False)
    secrets: Mapping[SecretName, SecretGrant | None]
    wasi: tuple[str, ...]

    @property
    def reference(self) -> Reference:
        return self.component.reference


class Workspace:
    """One per process, thread-safe; to be closed, or used in a `with`. Its parts share one database. Every change is
    recorded in `audit_log`, in the transaction that makes it."""

    def __init__(self, database: Database, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.database = database
        self.keys = Keys(state_dir)
        self.audit_log = AuditLog(database, self.keys, state_dir)
        self.components = Components(self.audit_log, Blobs(database, state_dir))
        self.config = Config(self.audit_log)
        self.imports = Imports(self.audit_log)
        self.policies = Policies(self.audit_log)
        self.grants = SecretGrants(self.audit_log)
        self.trust = TrustStore(self.audit_log)
        self.vault = Vault(self.audit_log, self.keys)
        self.sources = SecretSources(self.vault)
        self.counters = Counters(database, keys=self.keys)
        self.cancellations = Cancellations(database)

    def __repr__(self) -> str:
        return f"<Workspace in {self.state_dir}>"

    @classmethod
    def open(cls, state_dir: str | Path | None = None, database: str | None = None) -> Workspace:
        """The state in `state_dir` (default: `environment.state_dir()`), or in the PostgreSQL database at the URL
        `database` (default: `environment.database()`). Raises InputError, StateError."""
        folder = Path(state_dir) if state_dir else environment.state_dir()
        opened = cls(Database.open(folder, database or environment.database()), folder)
        opened.keys.finish_rotations(opened.database)
        return opened

    # parts that a run of the command line does without, each imported with its first use

    @cached_property
    def api_keys(self) -> ApiKeys:
        from host.store.access.api_keys import ApiKeys  # noqa: PLC0415 - see above

        return ApiKeys(self.audit_log)

    @cached_property
    def usage(self) -> Usage:
        from host.store.access.usage import Usage  # noqa: PLC0415 - see above

        return Usage(self.database)

    @cached_property
    def made_objects(self) -> MadeObjects:
        from host.store.access.made_objects import MadeObjects  # noqa: PLC0415 - see above

        return MadeObjects(self.database)

    @cached_property
    def batches(self) -> Batches:
        from host.store.access.batches import Batches  # noqa: PLC0415 - see above

        return Batches(self.database, self.keys)

    @cached_property
    def signing_keys(self) -> SigningKeys:
        from host.store.vault.secrets import SigningKeys  # noqa: PLC0415 - see above

        return SigningKeys(self.vault)

    def protect(self, loader: Loader) -> None:
        """Let `loader` trust compiled code by a key of this state alone, if it has the same state directory."""
        loader.protect(self.state_dir, self._master)

    @cached_property
    def _master(self) -> MasterKey:
        """Made with the first keys, if there are none yet."""
        with self.database.reading() as connection:
            found = self.keys.master(connection)
        if found is None:
            with self.audit_log.changing() as change:  # which makes them
                found = self.keys.master(change.connection)
        assert found is not None, "all keys are encrypted with it"
        return found

    # install

    def register(
        self,
        path: str | Path,
        loader: Loader,
        *,
        reference: Reference | None = None,
        replace: bool = False,
        older: bool = False,
        wasi: Sequence[str] = (),
    ) -> Component:
        """Install the component in the file at `path`, with the manifest and the signature bundles beside it.

        `reference` names it if its manifest does not. `replace` allows other bytes for an installed version, `older` a
        version older than the newest one that ever was installed. The component is compiled, so that its imports are
        known. Raises InputError, ArtifactError, StateError."""
        path = component_file(path)
        wasm = self_contained(read_component(path), path)
        return self.install(
            wasm,
            loader,
            bundles=bundles_beside(path),
            reference=reference,
            source=str(path.absolute()),
            replace=replace,
            older=older,
            wasi=wasi,
        )

    def install(
        self,
        wasm: bytes,
        loader: Loader,
        *,
        bundles: Sequence[str],
        source: str,
        reference: Reference | None = None,
        replace: bool = False,
        older: bool = False,
        wasi: Sequence[str] = (),
    ) -> Component:
        """Install the component `wasm` from anywhere; see `register`. Nothing is stored unless every check passes."""
        named = reference or named_by(wasm)
        with self._refusals(named):
            verified = self._verify(wasm, bundles, named, source, older=older)
            if verified.artifact.manifest is not None:
                verified.artifact.manifest.check_schemas()
            self.protect(loader)
            loaded = loader.load(verified.artifact, wasi=wasi)
        component = self.components.register(
            named,
            wasm,
            manifest=(embedded_text(wasm) or b"").decode(),
            imports=loaded.imports,
            bundles=speaking_of(verified.artifact.digest, bundles),
            source=source,
            replace=replace,
            config=self.config.effective(named),
        )
        for name in wasi:
            self.imports.set(named, name, True)
        return component

    def pull(
        self,
        source: str,
        loader: Loader,
        *,
        replace: bool = False,
        older: bool = False,
        wasi: Sequence[str] = (),
        plain_http: bool = False,
        progress: Progress | None = None,
        only: Digest | None = None,
    ) -> Component:
        """Install the component at the OCI reference `source`, with the signatures attached to it there. A reference
        with a digest means these very bytes, however old; they are not fetched twice. `only`: the digest of the one
        component that will do. Raises what `register` does, and RegistryError."""
        from host.oci.transfer import pull  # noqa: PLC0415 - brings httpx2

        named = OciReference.parse(source)
        if named.digest is not None and (known := self.components.from_source(str(named))) is not None:
            return known
        with self._registry(named, plain_http=plain_http) as registry:
            pulled = pull(registry, held=self.components.held, progress=progress)
        if only is not None and pulled.layer != only:
            raise RegistryError(f"{named} is another component by now: its digest is {pulled.layer}, and not {only}")
        component = self.install(
            pulled.wasm,
            loader,
            bundles=pulled.bundles,
            source=str(named),
            replace=replace,
            older=older or named.digest is not None,
            wasi=wasi,
        )
        self._moved("component.pulled", component, named, pulled.digest)
        return component

    def reach(self, source: str) -> None:
        """Ask the registry of the OCI reference `source` whether it has that, and fetch nothing. Raises RegistryError,
        InputError."""
        named = OciReference.parse(source)
        with self._registry(named, plain_http=False) as registry:
            registry.manifest()

    def push(
        self,
        reference: Reference,
        target: str,
        *,
        plain_http: bool = False,
        progress: Progress | None = None,
    ) -> Digest:
        """Upload the component `reference`, verified, with its signatures, to the OCI reference `target`. Returns the
        digest of its manifest there. Raises NotFound, VerificationFailed, InputError, RegistryError, StateError."""
        from host.oci.layout import lay_out  # noqa: PLC0415 - for this alone
        from host.oci.transfer import push  # noqa: PLC0415 - brings httpx2

        named = OciReference.parse(target)
        component = self.components.resolve(reference)
        artifact = self.verified(component).artifact
        imports, exports, manifest = component.imports, tuple(EXPORTS), artifact.manifest
        digest = lay_out(artifact.wasm, imports=imports, exports=exports, manifest=manifest).descriptor.digest
        self._moved("component.pushed", component, named, digest)
        with self._registry(named, plain_http=plain_http) as registry:
            return push(
                registry,
                wasm=artifact.wasm,
                imports=imports,
                exports=exports,
                manifest=manifest,
                bundles=self.components.bundles(component.digest),
                progress=progress,
            )

    def _registry(self, named: OciReference, *, plain_http: bool) -> RegistryClient:
        from host.oci.auth import DockerCredentials  # noqa: PLC0415 - as above
        from host.oci.client import RegistryClient  # noqa: PLC0415 - brings httpx2

        return RegistryClient(named, DockerCredentials(environment.docker_config()), plain_http=plain_http)

    def _moved(
        self,
        kind: Literal["component.pulled", "component.pushed"],
        component: Component,
        at: OciReference,
        digest: Digest,
    ) -> None:
        detail = {"reference": str(component.reference), "digest": str(component.digest), "at": str(at)}
        self.audit_log.record(Event(kind, "", detail={**detail, "manifest": str(digest)}))

    # use

    def find(self, name: str, loader: Loader, *, approved: bool = True) -> Installed:
        """The component that `name` names: a reference, or one of a registry (`oci://…`), which is pulled. Raises what
        `installed` and `pull` do."""
        named = self.pull(name, loader).reference if looks_like_oci(name) else Reference.parse(name)
        return self.installed(named, approved=approved)

    def installed(self, named: Reference | Component, *, approved: bool = True) -> Installed:
        """The installed component of a reference, ready to run; with `approved` False also one that was not approved,
        to be shown. All of it is read at one moment, and checked against the state digest. Raises NotFound,
        VerificationFailed, NotApproved, StateError."""
        with self.sealed():
            return self._installed(named, approved=approved)

    def _installed(self, named: Reference | Component, *, approved: bool) -> Installed:
        if isinstance(named, Reference):
            component, older = self.components.resolve(named, unread=True), bool(named.version)
        else:
            component, older = self.components.now(named), True
        verified = self._verified(component, older=older or component.pinned)
        if component.manifest is None:
            component = replace(component, manifest=verified.artifact.manifest)
        if approved and not component.approved:
            raise self._not_approved(component)
        at = component.reference
        return Installed(
            component=component,
            artifact=verified.artifact,
            signers=verified.signers,
            effective=self.policies.effective(at),
            config=self.config.effective(at),
            secrets=self.grants.of(at),
            wasi=tuple(self.imports.merged(at)),
        )

    def verified(self, component: Component, *, older: bool = True) -> VerifiedArtifact:
        """The bytes of `component`, verified anew, and their signers. Raises VerificationFailed."""
        with self.sealed():
            return self._verified(component, older=older)

    def _verified(self, component: Component, *, older: bool) -> VerifiedArtifact:
        with self._refusals(component.reference):
            wasm = self.components.content(component)
            bundles = self.components.bundles(component.digest)
            at, pinned = component.reference, component.digest
            return self._verify(wasm, bundles, at, component.source, pinned=pinned, older=older)

    def stamp(self) -> tuple[int, str]:
        """A value that changes with every change of the state: the number and the mac of the state digest. Reads one
        row, and does not check the digest: `check` does. Raises StateError, also for a schema that was changed."""
        with self.database.reading() as connection:
            schema.check(connection)
            row = connection.execute(_SEAL).first()
        return (0, "") if row is None else (row.seq, row.mac.hex())

    def check(self) -> None:
        """Raises StateError if the state is not the one that its digest was computed of."""
        with self.sealed():
            pass

    @contextmanager
    def sealed(self) -> Iterator[State]:
        """Inside, all reads see one moment, whose state digest was checked: of this. Raises StateError."""
        with self.database.snapshot() as connection:
            yield self.audit_log.check(connection)

    def review(self, component: Component) -> Review:
        """What the approval of `component` would allow, compared with the approved version."""
        return self.components.review(component, self.config.effective(component.reference))

    def _verify(
        self,
        wasm: bytes,
        bundles: Sequence[str],
        reference: Reference,
        source: str,
        *,
        pinned: Digest | None = None,
        older: bool,
    ) -> VerifiedArtifact:
        trust = self.trust.snapshot()
        return verify(
            wasm,
            bundles,
            reference=reference,
            trust=trust.elsewhere() if looks_like_oci(source) else trust,
            pinned=pinned,
            newest=self.components.newest(reference),
            older_allowed=older,
        )

    @contextmanager
    def _refusals(self, reference: Reference) -> Iterator[None]:
        """Inside, an ArtifactError is recorded as a refusal of the artifact."""
        try:
            yield
        except ArtifactError as error:
            detail = {"reference": str(reference), **error.as_dict()}
            self.audit_log.record(Event("component.refused", "", "deny", error.code, detail))
            raise

    def _not_approved(self, component: Component) -> NotApproved:
        review = self.review(component)
        more = ", ".join(f"{kind} {name}" for kind, name in review.difference.more)
        error = NotApproved(
            f"these bytes of {component.reference} were not approved: they ask for "
            + (f"more than those that were ({more})" if more and review.before else "what was granted to others"),
            hint=f"host approve {component.reference} shows the difference, and approves",
        )
        self.audit_log.record(
            Event(
                "component.refused",
                "",
                "deny",
                error.code,
                {"reference": str(component.reference), "digest": str(component.digest)},
            )
        )
        return error

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def named_by(wasm: bytes) -> Reference:
    """The reference, with its version, in the manifest of a component. Raises InputError if there is none,
    ArtifactError."""
    manifest = Manifest.embedded(wasm)
    named = manifest.reference if manifest else None
    if named is None or not named.version:
        lacks = "its manifest has no id or no version" if manifest else "it has no manifest"
        raise InputError(
            f"the component does not say what it is: {lacks}",
            field="reference",
            hint="say it: --as c:local.NAME:0.1.0",
        )
    return named
