"""`host policy`: what each component may reach and spend, by reference."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from host.cli.inputs import opened, read_text, write_bytes
from host.cli.options import json_option, output_option, yes_option
from host.cli.output.component import say_strange
from host.cli.output.policy_text import EXAMPLES, default, page, read_document, read_value, set_line, write_document
from host.cli.output.terminal import agree, as_json, as_words, errors_shown, put, say, table
from host.core import environment
from host.core.names import Reference
from host.core.strict_json import Json, kind_of
from host.errors import Denied, HostError, InputError, PolicyError
from host.policy.document import DEFAULT
from host.policy.permissions import Allow, Deny
from host.runtime.explain import DomainUse, Explanation, Reachability, explain, would_reach

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace


@click.group("policy", short_help="Keep what each component may reach and spend.")
def policy() -> None:
    """Keep what each component may reach and spend. REF names one version of a component (c:local.openai:0.1.0), or all
    versions (c:local.openai). A field that is set for a version replaces the one that is set for all."""


@policy.command("set", short_help="Set one field.")
@click.argument("reference", metavar="REF")
@click.argument("field", metavar="FIELD")
@click.argument("value", metavar="VALUE")
@json_option
def set_(*, reference: str, field: str, value: str, in_json: bool) -> None:
    """Set one field of a policy. The others stay. VALUE is JSON; a duration or a size needs no quotes.

    \b
    host policy set c:local.openai allowed_domains '["api.openai.com"]'
    host policy set c:local.openai:0.1.0 timeout 30s
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown(in_json=in_json):
        named = Reference.parse(reference)
        given = read_value(named, field, value)
        with opened() as workspace:
            try:
                workspace.policies.set(named, field, given)
            except PolicyError as error:
                if error.field == field and error.hint is None:
                    error.hint = set_line(named, field, EXAMPLES[field])
                raise
        if in_json:
            put(as_json({"reference": str(named), "set": {field: given}}))
        else:
            say(f"{field} is set for {_scope(named)}")
            say_strange(workspace, named)


@policy.command("show", short_help="Show what is set.")
@click.argument("reference", metavar="REF")
@click.option(
    "--effective", is_flag=True, help="Every field, with its source; and which allowed domains the manifest requests."
)
@json_option
def show(*, reference: str, effective: bool, in_json: bool) -> None:
    """Show what is set for exactly REF; with --effective, what a run of REF may reach and spend."""
    with errors_shown(in_json=in_json):
        named = Reference.parse(reference)
        with opened() as workspace:
            if effective:
                foreseen = explain(workspace, named)
                merged = workspace.policies.merged(foreseen.reference)
                values = {field: (merged[field].value if field in merged else default(field)) for field in EXAMPLES}
                origins = {field: str(merged[field].scope) if field in merged else DEFAULT for field in EXAMPLES}
                _show_effective(foreseen, values, origins, in_json=in_json)
            else:
                _show(named, workspace.policies.document(named), in_json=in_json)


def _show(reference: Reference, document: dict[str, Json], *, in_json: bool) -> None:
    if in_json:
        put(as_json(document))
    elif not document:
        say(f"nothing is set for {reference}; --effective shows what holds for it")
    else:
        put("\n".join(_rows((field, _value(value)) for field, value in document.items())))


def _show_effective(foreseen: Explanation, values: dict[str, Json], origins: dict[str, str], *, in_json: bool) -> None:
    use = foreseen.domain_use()
    if in_json:
        shown = {"reference": str(foreseen.reference), "policy": values, "origins": origins}
        put(as_json({**shown, "manifest": None if use is None else asdict(use)}))
        return
    rows = ((field, origins[field], _value(value)) for field, value in values.items())
    lines = [f"{foreseen.reference}", *_rows(rows)]
    put("\n".join([*lines, *(_domain_lines(use) if use else [])]))


def _domain_lines(use: DomainUse) -> Iterator[str]:
    yield ""
    yield f"its manifest leaves of allowed_domains: {', '.join(use.used) or 'nothing'}"
    if use.unused:
        yield f"it does not ask for {', '.join(use.unused)}: what is allowed there has no effect"
    if use.open:
        yield f"it asks for {', '.join(use.open)}, which is not allowed"


def _rows(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """In columns, uncut: a permission that is cut off would not be seen."""
    listed = [tuple(map(as_words, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*listed, strict=True)]
    for row in listed:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _value(value: Json) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else as_json(value, pretty=False)


@policy.command("list", short_help="List what is set, and for what.")
@json_option
def list_(*, in_json: bool) -> None:
    """List the references with a policy, and the fields that it sets."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            found = workspace.policies.all()
        if in_json:
            put(as_json(_by_name(found)))
            return
        if not found:
            say("no policy is set: every component may reach nothing")
        for line in table(("reference", "fields"), ((str(one), ", ".join(fields)) for one, fields in found.items())):
            put(line)


@policy.command("reset", short_help="Go back to the default.")
@click.argument("reference", metavar="REF")
@click.argument("field", metavar="[FIELD]", required=False)
@yes_option
@json_option
def reset(*, reference: str, field: str | None, yes: bool, in_json: bool) -> None:
    """Reset one field, or all, of the policy that is set for exactly REF."""
    with errors_shown(in_json=in_json):
        named = Reference.parse(reference)
        with opened() as workspace:
            if field is None and (there := workspace.policies.document(named)):
                agree(f"Forget {', '.join(there)}, set for {_scope(named)}?", yes=yes)
            gone = workspace.policies.reset(named, field)
        if in_json:
            put(as_json({"reference": str(named), "reset": list(gone)}))
        elif gone:
            say(f"no longer set for {_scope(named)}: {', '.join(gone)}")
        else:
            say(f"{field} was not set for {_scope(named)}" if field else f"nothing was set for {_scope(named)}")


@policy.command("check", short_help="Say whether a request would be allowed.")
@click.argument("reference", metavar="REF")
@click.argument("url", metavar="URL")
@click.option("--method", default="GET", show_default=True, metavar="METHOD", help="The method of the request.")
@json_option
def check(*, reference: str, url: str, method: str, in_json: bool) -> None:
    """Say whether REF may send a request to URL, by which rule, and how to allow it. Nothing is sent, and no name is
    looked up. Exit status 0: allowed; 3: denied."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            answer = would_reach(workspace, Reference.parse(reference), url, method.upper())
        put(as_json(answer.as_dict()) if in_json else "\n".join(_answer_lines(answer)))
        sys.exit(0 if isinstance(answer.decision, Allow) else Denied.exit_status)


def _answer_lines(answer: Reachability) -> Iterator[str]:
    decision = answer.decision
    yield as_words(f"{'deny' if isinstance(decision, Deny) else 'allow'}: {answer.request}")
    rows = {
        "rule": decision.rule,
        "remedy": decision.remedy if isinstance(decision, Deny) else "",
        "sent to": answer.sent_to,
        "address": answer.address,
        "secrets": "; ".join(answer.secrets),
        "note": "" if answer.installed else "it is not installed: what its manifest asks for is not known",
    }
    for name, text in rows.items():
        if text:
            yield as_words(f"  {name:8} {text}")


@policy.command("export", short_help="Write what is set to a file.")
@click.argument("words", metavar="REF|--all", nargs=-1)
@click.option("--all", "every", is_flag=True, help="The policies of all references, in one document.")
@output_option(
    "Write to this file, JSON if its name ends in .json, else TOML; - is standard output.",
    show_default="JSON to standard output",
)
def export(*, words: tuple[str, ...], every: bool, output: str | None) -> None:
    """Write the policy that is set for exactly REF, for `host run --policy` and `host policy import`."""
    with errors_shown():
        named, file = _reference_and_file((*words, output) if output else words, every=every)
        with opened() as workspace:
            document = _by_name(workspace.policies.all()) if named is None else workspace.policies.document(named)
        if file in (None, "-"):
            put(as_json(document))
        else:
            write_bytes(file, write_document(document, in_json=file.endswith(".json")).encode(), "FILE")


@policy.command("import", short_help="Set what a file says.")
@click.argument("words", metavar="REF|--all FILE", nargs=-1)
@click.option("--all", "every", is_flag=True, help="For each reference in a document that `export --all` wrote.")
@json_option
def import_(*, words: tuple[str, ...], every: bool, in_json: bool) -> None:
    """Replace the policy that is set for REF by the one in FILE: JSON if its name ends in .json, else TOML. A mistake
    in it changes nothing. With --all, references that are not in FILE keep their policies."""
    with errors_shown(in_json=in_json):
        named, file = _reference_and_file(words, every=every)
        if file is None:
            raise InputError("there is no FILE to read", field="FILE")
        document = read_document(read_text(file, "FILE"), f"FILE {file}", in_json=file.endswith(".json"))
        documents = _by_reference(document) if named is None else {named: document}
        with opened() as workspace:
            workspace.policies.replace_all(documents)
        if in_json:
            put(as_json({"set": [str(one) for one in documents]}))
        else:
            say(f"set: {', '.join(map(str, documents)) or 'nothing'}")


def _reference_and_file(words: tuple[str, ...], *, every: bool) -> tuple[Reference | None, str | None]:
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


@policy.command("edit", short_help="Change a policy in an editor.")
@click.argument("reference", metavar="REF")
def edit(*, reference: str) -> None:
    """Edit the policy that is set for exactly REF in $VISUAL or $EDITOR, as TOML. A mistake changes nothing."""
    with errors_shown():
        named = Reference.parse(reference)
        with opened() as workspace:
            changed = _edit(workspace, named)
        say(f"the policy of {named} is set" if changed else f"the policy of {named} is as it was")


def _edit(workspace: Workspace, reference: Reference) -> bool:
    before = workspace.policies.document(reference)
    text, in_json = _text_to_edit(reference, before)
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
                raise InputError(
                    "the policy is as it was", hint=_save_draft(reference, edited, in_json=in_json)
                ) from None
            text = edited
        else:
            return document != before


def _text_to_edit(reference: Reference, document: dict[str, Json]) -> tuple[str, bool]:
    """The text to edit, and whether it is JSON, which holds what TOML cannot."""
    try:
        return page(reference, document), False
    except InputError:
        return write_document(document, in_json=True), True


def _in_editor(text: str, *, in_json: bool) -> str | None:
    """The text that was saved, or None. Raises InputError."""
    try:
        return click.edit(text, editor=environment.editor(), extension=_suffix(in_json=in_json))
    except click.ClickException as error:
        raise InputError(f"the editor failed: {error.format_message()}", hint="EDITOR names one") from None


def _save_draft(reference: Reference, text: str, *, in_json: bool) -> str:
    """Save the text in a file that only this user can read. Returns the hint with the command that imports it."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="host-policy-", suffix=_suffix(in_json=in_json), delete=False
    ) as file:
        file.write(text)
    return f"what you wrote is in {file.name}: host policy import {reference} {file.name}"


def _suffix(*, in_json: bool) -> str:
    return ".json" if in_json else ".toml"


def _scope(reference: Reference) -> str:
    return str(reference) if reference.version else f"all versions of {reference}"
