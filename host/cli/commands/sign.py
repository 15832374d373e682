"""`host sign`: vouches for a component with a key of the operator's.

`host signing-key`: the operator's own keys to sign components with, sealed in the vault.

`host verify`: whether a component is what it says it is, and who vouches for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from host.cli.inputs import blaming, opened, read_bytes, write_bytes
from host.cli.output.terminal import as_json, errors_shown, local_time, one_line, put, say, table
from host.cli.targets import is_reference, source_named
from host.core.names import Reference, SecretName
from host.errors import InputError

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace
    from host.trust.keys import SigningKey
    from host.trust.verification import VerifiedArtifact


@click.command("sign", short_help="Sign a component.")
@click.argument("source", metavar="FILE|REF", nargs=-1, required=True)
@click.option("--key", "name", metavar="NAME", help="The signing key, where there are several.")
def sign(*, source: tuple[str, ...], name: str | None) -> None:
    """Sign the component in FILE, with the signature in a file beside it; or the one that is installed as REF, with the
    signature kept there and pushed with it. The signature is a Sigstore bundle, which cosign verifies too:

    \b
    cosign verify-blob --key key.pem --bundle tool.wasm.sigstore.json --insecure-ignore-tlog tool.wasm
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown():
        named = source_named(source)
        with blaming("--key"):
            wanted = SecretName.parse(name) if name else None
        with opened() as workspace:
            key = workspace.signing_keys.get(wanted)
            if is_reference(named):
                _sign_installed(workspace, Reference.parse(named), key)
            else:
                _sign_file(workspace, named, key)


def _sign_file(workspace: Workspace, path: str, key: SigningKey) -> None:
    from host.core.audit import Event  # noqa: PLC0415 - not for `--help`
    from host.trust.artifact import admit  # noqa: PLC0415 - the same
    from host.trust.bundle import bundle_path  # noqa: PLC0415 - the same
    from host.trust.bundle import sign as signature_of  # noqa: PLC0415 - the same

    artifact = admit(read_bytes(path, "FILE"))
    named = artifact.manifest.reference if artifact.manifest else None
    if named is None or not named.version:
        raise InputError(
            f"FILE: the component in {path!r} says no name and version of itself, for which a signature would speak",
            field="FILE",
            hint="host build puts the folder's manifest.json inside, with id and version",
        )
    place = bundle_path(path, key.public)
    detail = {"reference": str(named), "digest": str(artifact.digest), "key": key.public.id, "at": str(place)}
    with workspace.audit_log.changing() as change:
        change.record(Event("component.signed", "", detail=detail))
    write_bytes(str(place), f"{signature_of(artifact.wasm, key).text()}\n".encode(), "FILE")
    put(str(place))
    say(f"signed {named} ({artifact.digest.short}) with {key.public.id}")


def _sign_installed(workspace: Workspace, reference: Reference, key: SigningKey) -> None:
    from host.trust.bundle import sign as signature_of  # noqa: PLC0415 - not for `--help`

    component = workspace.components.resolve(reference)
    wasm = workspace.verified(component).artifact.wasm
    if any(_holds(text, key, wasm) for text in workspace.components.bundles(component.digest)):
        say(f"{component.reference} ({component.digest.short}) is signed with {key.public.id} already")
        return
    workspace.components.add_bundle(component, signature_of(wasm, key).text())
    say(f"signed {component.reference} ({component.digest.short}) with {key.public.id}")


def _holds(text: str, key: SigningKey, wasm: bytes) -> bool:
    """Whether the bundle `text`, which anybody may have made, is a signature of `key`."""
    from host.trust.bundle import Bundle  # noqa: PLC0415 - not for `--help`

    try:
        bundle = Bundle.parse(text)
    except InputError:
        return False
    return bundle.hint == key.public.hint and key.public.verifies(wasm, bundle.signature)


@click.group("signing-key", short_help="Keep keys to sign components with.")
def signing_key() -> None:
    """Keep keys to sign components with. The private half never leaves the vault; others are given the public one."""


@signing_key.command("generate", short_help="Make a key.")
@click.argument("name", metavar="NAME")
@click.option(
    "--algorithm",
    type=click.Choice(["ecdsa-p256", "ed25519"]),
    default="ecdsa-p256",
    show_default=True,
    help="ed25519 is verified here and by cosign, not by every Sigstore client.",
)
def generate(*, name: str, algorithm: str) -> None:
    """Make the key NAME, and print its public half (PEM): what others trust.

    \b
    host signing-key generate acme >acme.pem
    host trust add acme.pem --namespace acme
    host sign dist/tool.wasm --key acme
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown():
        named = _name(name)
        with opened() as workspace:
            key = workspace.signing_keys.generate(named, "ed25519" if algorithm == "ed25519" else "ecdsa-p256").public
        put(key.pem.rstrip("\n"))
        say(f"made {named}: {key.algorithm}, {key.id}")


@signing_key.command("list", short_help="List the keys.")
@click.option("--json", "in_json", is_flag=True, help="Print a JSON list.")
def list_(*, in_json: bool) -> None:
    """List the keys by name."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            found = workspace.signing_keys.all()
        if in_json:
            facts = [
                {
                    "name": str(one.name),
                    "id": one.public.id,
                    "algorithm": one.public.algorithm,
                    "made_at": one.made_at,
                    "public_key": one.public.pem,
                }
                for one in found
            ]
            put(as_json(facts))
            return
        if not found:
            say("there is no signing key: host signing-key generate NAME")
        rows = ((str(one.name), one.public.algorithm, local_time(one.made_at), one.public.id) for one in found)
        for line in table(("name", "algorithm", "made", "key"), rows):
            put(line)


@signing_key.command("export", short_help="Print a key's public half.")
@click.argument("name", metavar="NAME")
def export(*, name: str) -> None:
    """Print the public half of the key NAME (PEM), for those who are to trust it."""
    with errors_shown():
        named = _name(name)
        with opened() as workspace:
            put(workspace.signing_keys.get(named).public.pem.rstrip("\n"))


def _name(text: str) -> SecretName:
    try:
        return SecretName.parse(text)
    except InputError:
        raise InputError(
            f"{text[:80]!r} is not the name of a key", field="NAME", hint="letters, digits, _ . and -, like acme"
        ) from None


@click.command("verify", short_help="Say who vouches for a component.")
@click.argument("source", metavar="FILE|REF", nargs=-1, required=True)
@click.option("--as", "name", metavar="REF", help="What it has to be, where FILE is not to be asked.")
@click.option("--allow-older", is_flag=True, help="Although a newer version was installed before.")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
def verify(*, source: tuple[str, ...], name: str | None, allow_older: bool, in_json: bool) -> None:
    """Verify the component in FILE, by the signatures beside it, or the one that is installed as REF: as installing and
    running it does. Exits with 5 and names the step that failed, where one did."""
    with errors_shown(in_json=in_json):
        named = source_named(source)
        asked = Reference.parse(name) if name else None
        with opened() as workspace:
            if is_reference(named):
                component = workspace.components.resolve(Reference.parse(named))
                reference, verified = component.reference, workspace.verified(component)
            else:
                reference, verified = _verify_file(workspace, named, asked, older_allowed=allow_older)
            comments = {one.id: one.trusted.comment for one in workspace.trust.all()}
        if in_json:
            signers = [{"id": ident, "comment": comments.get(ident, "")} for ident in verified.signers]
            put(as_json({"reference": str(reference), "digest": str(verified.artifact.digest), "signers": signers}))
            return
        put(f"verified: {reference} {verified.artifact.digest}")
        for ident in verified.signers:
            put(one_line(f"signed by {ident} {comments.get(ident, '')}"))
        if not verified.signers:
            put(f"signed by nobody that is trusted: the namespace {reference.namespace} does not ask for it")


def _verify_file(
    workspace: Workspace, path: str, asked: Reference | None, *, older_allowed: bool
) -> tuple[Reference, VerifiedArtifact]:
    from host.runtime.workspace import named_by  # noqa: PLC0415 - the same
    from host.trust.bundle import bundles_beside  # noqa: PLC0415 - not for `--help`
    from host.trust.verification import verify  # noqa: PLC0415 - the same

    wasm = read_bytes(path, "FILE")
    reference = asked or named_by(wasm)
    verified = verify(
        wasm,
        bundles_beside(path),
        reference=reference,
        trust=workspace.trust.snapshot(),
        newest=workspace.components.newest(reference),
        older_allowed=older_allowed,
    )
    return reference, verified
