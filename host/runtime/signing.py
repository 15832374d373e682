"""Signing components, and verifying files: with the keys, the trust and the audit log of a workspace."""

from __future__ import annotations

from pathlib import Path

from host.core.audit import Event
from host.core.names import Reference
from host.errors import InputError
from host.runtime.workspace import Workspace, named_by
from host.store.components import Component
from host.trust.artifact import Artifact, admit
from host.trust.bundle import Bundle, bundle_path, bundles_beside
from host.trust.bundle import sign as sign_bytes
from host.trust.keys import SigningKey
from host.trust.verification import VerifiedArtifact, verify


def sign_file(workspace: Workspace, path: str, wasm: bytes, key: SigningKey) -> tuple[Reference, Artifact, Path, str]:
    """Sign `wasm`, the content of the file at `path`, and record that. Returns the reference, the artifact, and the
    path and the text of the bundle, which the caller writes. Raises InputError, ArtifactError."""
    artifact = admit(wasm)
    reference = artifact.manifest.reference if artifact.manifest else None
    if reference is None or not reference.version:
        raise InputError(
            f"FILE: the component in {path!r} has no name and version of its own, which a signature would vouch for",
            field="FILE",
            hint="host build puts the folder's manifest.json inside, with id and version",
        )
    place = bundle_path(path, key.public)
    detail = {"reference": str(reference), "digest": str(artifact.digest), "key": key.public.id, "at": str(place)}
    with workspace.audit_log.changing() as change:
        change.record(Event("component.signed", "", detail=detail))
    return reference, artifact, place, f"{sign_bytes(artifact.wasm, key).text()}\n"


def sign_installed(workspace: Workspace, reference: Reference, key: SigningKey) -> tuple[Component, bool]:
    """Sign the installed component. Returns it, and False if `key` had signed it before. Raises NotFound,
    VerificationFailed."""
    component = workspace.components.resolve(reference)
    wasm = workspace.verified(component).artifact.wasm
    if any(_signs(text, key, wasm) for text in workspace.components.bundles(component.digest)):
        return component, False
    workspace.components.add_bundle(component, sign_bytes(wasm, key).text())
    return component, True


def _signs(text: str, key: SigningKey, wasm: bytes) -> bool:
    """Whether `text` is a bundle with a signature of `key`. Anybody may have made it."""
    try:
        bundle = Bundle.parse(text)
    except InputError:
        return False
    return bundle.hint == key.public.hint and key.public.verifies(wasm, bundle.signature)


def verify_file(
    workspace: Workspace, path: str, wasm: bytes, reference: Reference | None, *, older_allowed: bool
) -> tuple[Reference, VerifiedArtifact]:
    """Verify `wasm`, the content of the file at `path`, by the bundles beside it: as the component `reference`, or as
    the one that its manifest names. Raises InputError, VerificationFailed."""
    named = reference or named_by(wasm)
    verified = verify(
        wasm,
        bundles_beside(path),
        reference=named,
        trust=workspace.trust.snapshot(),
        newest=workspace.components.newest(named),
        older_allowed=older_allowed,
    )
    return named, verified
