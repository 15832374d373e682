"""`host policy`: what the operator allows each component, kept by reference."""

from __future__ import annotations

from collections.abc import Mapping

import click

from host.cli.files import read_text, write_bytes
from host.cli.policy_check import check
from host.cli.policy_edit import edit
from host.cli.policy_show import show
from host.cli.policy_text import EXAMPLES, read_document, read_value, set_line, write_document
from host.cli.show import as_json, errors_shown, put, say
from host.cli.state import opened
from host.cli.table import table
from host.errors import InputError, PolicyError
from host.jsontext import Json, kind_of
from host.names import Reference


@click.group("policy", short_help="Keep what each component may reach and spend.")
def command() -> None:
    """Keep what each component may reach and spend. REF is a component of one version (c:local.openai:0.1.0), or of all
    (c:local.openai); what is set for a version takes the place of what is set for all, field by field."""


command.add_command(check)
command.add_command(edit)
command.add_command(show)


@command.command("set", short_help="Set one field.")
@click.argument("reference", metavar="REF")
@click.argument("field", metavar="FIELD")
@click.argument("value", metavar="VALUE")
def set_(*, reference: str, field: str, value: str) -> None:
    """Set one field of a policy, and leave the others as they are. VALUE is JSON; a duration or a size needs no quotes.

    \b
    host policy set c:local.openai allowed_domains '["api.openai.com"]'
    host policy set c:local.openai:0.1.0 timeout 30s
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown():
        named = Reference.parse(reference)
        given = read_value(named, field, value)
        with opened() as workspace:
            try:
                workspace.policies.set(named, field, given)
            except PolicyError as error:
                if error.field == field and error.hint is None:
                    error.hint = set_line(named, field, EXAMPLES[field])
                raise
        say(f"{field} is set for {_scope(named)}")


@command.command("list", short_help="List what is set, and for what.")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
def list_(*, in_json: bool) -> None:
    """List the references that something is set for, and which fields."""
    with errors_shown():
        with opened() as workspace:
            found = workspace.policies.all()
        if in_json:
            put(as_json(_by_name(found)))
            return
        if not found:
            say("no policy is set: every component may reach nothing")
        for line in table(("reference", "fields"), ((str(one), ", ".join(fields)) for one, fields in found.items())):
            put(line)


@command.command("reset", short_help="Go back to the default.")
@click.argument("reference", metavar="REF")
@click.argument("field", metavar="[FIELD]", required=False)
def reset(*, reference: str, field: str | None) -> None:
    """Forget what is set for exactly REF: one field, or all of them."""
    with errors_shown():
        named = Reference.parse(reference)
        with opened() as workspace:
            gone = workspace.policies.reset(named, field)
        if gone:
            say(f"no longer set for {_scope(named)}: {', '.join(gone)}")
        else:
            say(f"{field} was not set for {_scope(named)}" if field else f"nothing was set for {_scope(named)}")


@command.command("export", short_help="Write what is set to a file.")
@click.argument("words", metavar="REF|--all [FILE]", nargs=-1)
@click.option("--all", "every", is_flag=True, help="The policies of all references, in one document.")
def export(*, words: tuple[str, ...], every: bool) -> None:
    """Write what is set for exactly REF, as `host run --policy` and `host policy import` read it: TOML, or JSON where
    FILE ends in .json; without FILE, JSON on standard output."""
    with errors_shown():
        named, file = _named(words, every=every)
        with opened() as workspace:
            document = _by_name(workspace.policies.all()) if named is None else workspace.policies.document(named)
        if file is None:
            put(as_json(document))
        else:
            write_bytes(file, write_document(document, in_json=file.endswith(".json")).encode(), "FILE")


@command.command("import", short_help="Set what a file says.")
@click.argument("words", metavar="REF|--all FILE", nargs=-1)
@click.option("--all", "every", is_flag=True, help="For each reference in a document that `export --all` wrote.")
def import_(*, words: tuple[str, ...], every: bool) -> None:
    """Make what FILE says all that is set for REF: TOML, or JSON where its name ends in .json. A mistake in it changes
    nothing. With --all, references that FILE does not name stay as they are."""
    with errors_shown():
        named, file = _named(words, every=every)
        if file is None:
            raise InputError("there is no FILE to read", field="FILE")
        document = read_document(read_text(file, "FILE"), f"FILE {file}", in_json=file.endswith(".json"))
        documents = _by_reference(document) if named is None else {named: document}
        with opened() as workspace:
            workspace.policies.replace_all(documents)
        say(f"set: {', '.join(map(str, documents)) or 'nothing'}")


def _named(words: tuple[str, ...], *, every: bool) -> tuple[Reference | None, str | None]:
    """The reference (None: all of them), and the file where there is one."""
    least = 0 if every else 1
    if not least <= len(words) <= least + 1:
        takes = "FILE beside --all" if every else "REF (or --all) and FILE"
        raise InputError(f"this takes {takes}, and was given {len(words)} words")
    named = None if every else Reference.parse(words[0])
    return named, words[least] if len(words) > least else None


def _by_name(documents: Mapping[Reference, dict[str, Json]]) -> dict[str, Json]:
    return {str(reference): document for reference, document in documents.items()}


def _by_reference(document: Mapping[str, Json]) -> dict[Reference, dict[str, Json]]:
    found: dict[Reference, dict[str, Json]] = {}
    for name, one in document.items():
        if not isinstance(one, dict):
            raise InputError(
                f"{name} is a JSON {kind_of(one)}, not a policy",
                field=name,
                hint="--all reads what `host policy export --all` wrote; one policy goes to one REF",
            )
        reference = Reference.parse(name)
        if reference in found:
            raise InputError(f"{reference} is there twice: which one counts?", field=name)
        found[reference] = one
    return found


def _scope(reference: Reference) -> str:
    return str(reference) if reference.version else f"all versions of {reference}"
