"""`host sign`: vouches for a component with a key of the operator's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from host.cli.files import blaming, read_bytes, write_bytes
from host.cli.show import errors_shown, put, say
from host.cli.sources import is_reference, source_named
from host.cli.state import opened
from host.errors import InputError
from host.names import Reference, SecretName

if TYPE_CHECKING:
    from host.trust.keys import SigningKey
    from host.workspace import Workspace


@click.command("sign", short_help="Sign a component.")
@click.argument("source", metavar="FILE|REF", nargs=-1, required=True)
@click.option("--key", "name", metavar="NAME", help="The signing key, where there are several.")
def command(*, source: tuple[str, ...], name: str | None) -> None:
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
    from host.audit import Event  # noqa: PLC0415 - not for `--help`
    from host.trust.artifact import admit  # noqa: PLC0415 - the same
    from host.trust.bundle import sign  # noqa: PLC0415 - the same
    from host.trust.files import bundle_path  # noqa: PLC0415 - the same

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
    with workspace.journal.changing() as change:
        change.record(Event("component.signed", "", detail=detail))
    write_bytes(str(place), f"{sign(artifact.wasm, key).text()}\n".encode(), "FILE")
    put(str(place))
    say(f"signed {named} ({artifact.digest.short}) with {key.public.id}")


def _sign_installed(workspace: Workspace, reference: Reference, key: SigningKey) -> None:
    from host.trust.bundle import sign  # noqa: PLC0415 - not for `--help`

    component = workspace.components.resolve(reference)
    wasm = workspace.verified(component).artifact.wasm
    if any(_holds(text, key, wasm) for text in workspace.components.bundles(component.digest)):
        say(f"{component.reference} ({component.digest.short}) is signed with {key.public.id} already")
        return
    workspace.components.add_bundle(component, sign(wasm, key).text())
    say(f"signed {component.reference} ({component.digest.short}) with {key.public.id}")


def _holds(text: str, key: SigningKey, wasm: bytes) -> bool:
    """Whether the bundle `text`, which anybody may have made, is a signature of `key`."""
    from host.trust.bundle import Bundle  # noqa: PLC0415 - not for `--help`

    try:
        bundle = Bundle.parse(text)
    except InputError:
        return False
    return bundle.hint == key.public.hint and key.public.verifies(wasm, bundle.signature)
