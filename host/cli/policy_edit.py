"""`host policy edit`: a policy in an editor, and nothing lost where it has a mistake in it."""

from __future__ import annotations

import sys
import tempfile
from typing import TYPE_CHECKING

import click

from host import environment
from host.cli.policy_text import page, read_document, write_document
from host.cli.show import errors_shown, say
from host.cli.state import opened
from host.errors import HostError, InputError
from host.jsontext import Json
from host.names import Reference

if TYPE_CHECKING:
    from host.workspace import Workspace


@click.command("edit", short_help="Change a policy in an editor.")
@click.argument("reference", metavar="REF")
def edit(*, reference: str) -> None:
    """Change what is set for exactly REF in $VISUAL or $EDITOR, as TOML. A mistake changes nothing."""
    with errors_shown():
        named = Reference.parse(reference)
        with opened() as workspace:
            changed = _edited(workspace, named)
        say(f"the policy of {named} is set" if changed else f"the policy of {named} is as it was")


def _edited(workspace: Workspace, reference: Reference) -> bool:
    before = workspace.policies.document(reference)
    text, in_json = _begin(reference, before)
    while True:
        edited = _in_editor(text, in_json=in_json)
        if edited is None:
            return False
        try:
            document = read_document(edited, "the policy", in_json=in_json)
            workspace.policies.replace(reference, document, before=before)
        except HostError as error:
            say(f"error: {error}")
            if not (sys.stdin.isatty() and click.confirm("Edit it again?", default=True, err=True)):
                raise InputError("the policy is as it was", hint=_put_by(reference, edited, in_json=in_json)) from None
            text = edited
        else:
            return document != before


def _begin(reference: Reference, document: dict[str, Json]) -> tuple[str, bool]:
    """What is edited, and whether it is JSON: because TOML cannot hold it."""
    try:
        return page(reference, document), False
    except InputError:
        return write_document(document, in_json=True), True


def _in_editor(text: str, *, in_json: bool) -> str | None:
    """What was saved, or None where nothing was. Raises InputError."""
    try:
        return click.edit(text, editor=environment.editor(), extension=_suffix(in_json=in_json))
    except click.ClickException as error:
        raise InputError(f"the editor failed: {error.format_message()}", hint="EDITOR names one") from None


def _put_by(reference: Reference, text: str, *, in_json: bool) -> str:
    """Keep what was written, in a file for this user alone, and say how to go on with it."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="host-policy-", suffix=_suffix(in_json=in_json), delete=False
    ) as file:
        file.write(text)
    return f"what you wrote is in {file.name}: host policy import {reference} {file.name}"


def _suffix(*, in_json: bool) -> str:
    return ".json" if in_json else ".toml"
