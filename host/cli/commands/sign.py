"""`host sign`, `host verify` and `host signing-key`: signatures of components, and the operator's keys for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from host.cli.inputs import blaming, is_reference, opened, read_bytes, source_named, write_bytes, write_output
from host.cli.options import json_option, output_option
from host.cli.output.terminal import as_json, errors_shown, local_time, one_line, put, say, table
from host.core.names import Reference, SecretName
from host.errors import InputError

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace
    from host.trust.keys import PublicKey, SigningKey


@click.command("sign", short_help="Sign a component.")
@click.argument("source", metavar="FILE|REF", nargs=-1, required=True)
@click.option("--key", "name", metavar="NAME", help="The signing key.", show_default="the only one")
@json_option
def sign(*, source: tuple[str, ...], name: str | None, in_json: bool) -> None:
    """Sign the component in FILE, or the one that is installed as REF. The signature of a FILE is a file beside it; the
    signature of a REF is stored with the component, and pushed with it. It is a Sigstore bundle, which cosign verifies:

    \b
    cosign verify-blob --key key.pem --bundle tool.wasm.sigstore.json \\
        --insecure-ignore-tlog tool.wasm
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown(in_json=in_json):
        named = source_named(source)
        with blaming("--key"):
            wanted = SecretName.parse(name) if name else None
        with opened() as workspace:
            key = workspace.signing_keys.get(wanted)
            if is_reference(named):
                facts = _sign_installed(workspace, Reference.parse(named), key, in_json=in_json)
            else:
                facts = _sign_file(workspace, named, key, in_json=in_json)
        if in_json:
            put(as_json({**facts, "key": key.public.id}))


def _sign_file(workspace: Workspace, path: str, key: SigningKey, *, in_json: bool) -> dict[str, str]:
    from host.runtime.signing import sign_file  # noqa: PLC0415 - not for `--help`

    reference, artifact, place, text = sign_file(workspace, path, read_bytes(path, "FILE"), key)
    write_bytes(str(place), text.encode(), "FILE")
    if not in_json:
        put(str(place))
        say(f"signed {reference} ({artifact.digest.short}) with {key.public.id}")
    return {"reference": str(reference), "digest": str(artifact.digest), "signature": str(place)}


def _sign_installed(workspace: Workspace, reference: Reference, key: SigningKey, *, in_json: bool) -> dict[str, str]:
    from host.runtime.signing import sign_installed  # noqa: PLC0415 - not for `--help`

    component, new = sign_installed(workspace, reference, key)
    named = f"{component.reference} ({component.digest.short})"
    if not in_json:
        say(f"signed {named} with {key.public.id}" if new else f"{named} is signed with {key.public.id} already")
    return {"reference": str(component.reference), "digest": str(component.digest)}


@click.command("verify", short_help="Say who vouches for a component.")
@click.argument("source", metavar="FILE|REF", nargs=-1, required=True)
@click.option("--as", "name", metavar="REF", help="The reference that it has to be, whatever its manifest says.")
@click.option("--allow-older", is_flag=True, help="Accept it although a newer version was installed before.")
@json_option
def verify(*, source: tuple[str, ...], name: str | None, allow_older: bool, in_json: bool) -> None:
    """Verify the component in FILE, by the signatures beside it, or the one that is installed as REF, as installing and
    running do. If a step fails, it is named, and the exit status is 5."""
    with errors_shown(in_json=in_json):
        from host.runtime.signing import verify_file  # noqa: PLC0415 - not for `--help`

        named = source_named(source)
        asked = Reference.parse(name) if name else None
        with opened() as workspace:
            if is_reference(named):
                component = workspace.components.resolve(Reference.parse(named))
                reference, verified = component.reference, workspace.verified(component)
            else:
                wasm = read_bytes(named, "FILE")
                reference, verified = verify_file(workspace, named, wasm, asked, older_allowed=allow_older)
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


@click.group("signing-key", short_help="Keep keys to sign components with.")
def signing_key() -> None:
    """Keep keys to sign components with. The private half never leaves the vault. Others get the public half."""


@signing_key.command("generate", short_help="Make a key.")
@click.argument("name", metavar="NAME")
@click.option(
    "--algorithm",
    type=click.Choice(["ecdsa-p256", "ed25519"]),
    default="ecdsa-p256",
    show_default=True,
    help="Cosign verifies ed25519 too; not every Sigstore client does.",
)
@output_option("Write the public half to this file; - is standard output.", default="-", show_default=True)
@json_option
def generate(*, name: str, algorithm: str, output: str, in_json: bool) -> None:
    """Make the key NAME, and print its public half (PEM), which others trust.

    \b
    host signing-key generate acme -o acme.pem
    host trust add acme.pem --namespace acme
    host sign dist/tool.wasm --key acme
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown(in_json=in_json):
        named = _key_name(name)
        with opened() as workspace:
            key = workspace.signing_keys.generate(named, "ed25519" if algorithm == "ed25519" else "ecdsa-p256").public
        _put_key(named, key, output, in_json=in_json)
        say(f"made {named}: {key.algorithm}, {key.id}")


@signing_key.command("list", short_help="List the keys.")
@json_option
def list_(*, in_json: bool) -> None:
    """List the keys by name."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            found = workspace.signing_keys.all()
        if in_json:
            put(as_json([{**_key_facts(one.name, one.public), "made_at": one.made_at} for one in found]))
            return
        if not found:
            say("there is no signing key: host signing-key generate NAME")
        rows = ((str(one.name), one.public.algorithm, local_time(one.made_at), one.public.id) for one in found)
        for line in table(("name", "algorithm", "made", "key"), rows):
            put(line)


@signing_key.command("export", short_help="Print a key's public half.")
@click.argument("name", metavar="NAME")
@output_option("Write it to this file; - is standard output.", default="-", show_default=True)
@json_option
def export(*, name: str, output: str, in_json: bool) -> None:
    """Print the public half of the key NAME (PEM), for others to trust."""
    with errors_shown(in_json=in_json):
        named = _key_name(name)
        with opened() as workspace:
            key = workspace.signing_keys.get(named).public
        _put_key(named, key, output, in_json=in_json)


def _put_key(name: SecretName, key: PublicKey, output: str, *, in_json: bool) -> None:
    """To a file as PEM; to standard output as PEM or JSON."""
    if output != "-":
        write_output(output, key.pem.rstrip("\n"))
    if in_json:
        put(as_json(_key_facts(name, key)))
    elif output == "-":
        put(key.pem.rstrip("\n"))


def _key_facts(name: SecretName, key: PublicKey) -> dict[str, Any]:
    return {"name": str(name), "id": key.id, "algorithm": key.algorithm, "public_key": key.pem}


def _key_name(text: str) -> SecretName:
    try:
        return SecretName.parse(text)
    except InputError:
        raise InputError(
            f"{text[:80]!r} is not the name of a key", field="NAME", hint="letters, digits, _ . and -, like acme"
        ) from None
