"""`host verify`: whether a component is what it says it is, and who vouches for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from host.cli.files import read_bytes
from host.cli.show import as_json, errors_shown, one_line, put
from host.cli.sources import is_reference, source_named
from host.cli.state import opened
from host.names import Reference

if TYPE_CHECKING:
    from host.trust.verification import Verified
    from host.workspace import Workspace


@click.command("verify", short_help="Say who vouches for a component.")
@click.argument("source", metavar="FILE|REF", nargs=-1, required=True)
@click.option("--as", "name", metavar="REF", help="What it has to be, where FILE is not to be asked.")
@click.option("--allow-older", is_flag=True, help="Although a newer version was installed before.")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
def command(*, source: tuple[str, ...], name: str | None, allow_older: bool, in_json: bool) -> None:
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
) -> tuple[Reference, Verified]:
    from host.trust.files import bundles_beside  # noqa: PLC0415 - not for `--help`
    from host.trust.verification import verify  # noqa: PLC0415 - the same
    from host.workspace import named_by  # noqa: PLC0415 - the same

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
