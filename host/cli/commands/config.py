"""`host config`: the configuration that each component reads, by reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from host.cli.inputs import blaming, opened
from host.cli.options import json_option, yes_option
from host.cli.output.component import say_strange
from host.cli.output.terminal import agree, as_json, errors_shown, put, say, table
from host.cli.permissions import parse_setting
from host.core.names import Reference
from host.core.strict_json import Json

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace


@click.group("config", short_help="Keep what each component may read.")
def config() -> None:
    """Keep the configuration that each component reads: base_url, organization, the keys in its manifest. REF names one
    version of a component (c:local.openai:0.1.0), or all versions (c:local.openai). Secrets belong in `host secret`."""


@config.command("set", short_help="Set one key, or several.")
@click.argument("reference", metavar="REF")
@click.argument("words", metavar="KEY VALUE | KEY=VALUE | KEY:=JSON ...", nargs=-1, required=True)
@json_option
def set_(*, reference: str, words: tuple[str, ...], in_json: bool) -> None:
    """Set one key to a text, or several to texts and JSON values. A mistake in one changes none.

    \b
    host config set c:local.openai base_url https://llm.example/v1
    host config set c:local.openai organization=org-1 headers:='{"X-Team": "a"}'
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown(in_json=in_json):
        named, given = Reference.parse(reference), _given(words)
        with opened() as workspace:
            _check(workspace, named, given)
            workspace.config.update(named, given)
            say_strange(workspace, named)
        if in_json:
            put(as_json({"reference": str(named), "set": given}))
        else:
            say(f"set for {named}: {', '.join(given)}")


@config.command("show", short_help="Show what is set.")
@click.argument("reference", metavar="[REF]", required=False)
@click.option("--effective", is_flag=True, help="All that REF reads: set for its version, and for all versions.")
@json_option
def show(*, reference: str | None, effective: bool, in_json: bool) -> None:
    """Show the configuration that is set for exactly REF, or, without REF, all that is set."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            if reference is None:
                found = {str(one): document for one, document in workspace.config.all().items()}
            else:
                named = Reference.parse(reference)
                found = workspace.config.effective(named) if effective else workspace.config.document(named)
        if in_json:
            put(as_json(found))
        elif not found:
            say("nothing is set")
        for line in () if in_json else table(("key" if reference else "reference", "value"), _rows(found)):
            put(line)


@config.command("unset", short_help="Forget one key, or all.")
@click.argument("reference", metavar="REF")
@click.argument("key", metavar="[KEY]", required=False)
@yes_option
@json_option
def unset(*, reference: str, key: str | None, yes: bool, in_json: bool) -> None:
    """Forget what is set for exactly REF: one key, or all of them."""
    with errors_shown(in_json=in_json):
        named = Reference.parse(reference)
        with opened() as workspace:
            if key is None and (there := workspace.config.document(named)):
                agree(f"Forget {', '.join(there)}, set for {named}?", yes=yes)
            gone = workspace.config.reset(named, key)
        if in_json:
            put(as_json({"reference": str(named), "unset": list(gone)}))
        elif gone:
            say(f"no longer set for {named}: {', '.join(gone)}")
        else:
            say(f"{key} was not set for {named}" if key else f"nothing was set for {named}")


def _check(workspace: Workspace, reference: Reference, given: dict[str, Json]) -> None:
    """Raises InputError where a manifest says what may be set, and one of the `given` keys or values is not that. Keys
    may be set one by one, so that none is missing here."""
    from host.component.schema import InputSchema  # noqa: PLC0415 - for a component that is there

    for component in workspace.components.versions(reference)[-1:]:
        schema = component.manifest.schemas.get("config") if component.manifest else None
        if isinstance(schema, dict):
            any_of_them = {word: one for word, one in schema.items() if word != "required"}
            InputSchema.compile(any_of_them, "schema.config").check(given, "config")


def _given(words: tuple[str, ...]) -> dict[str, Json]:
    if len(words) == 2 and "=" not in words[0]:
        return {words[0]: words[1]}
    with blaming("KEY=VALUE", hint="KEY VALUE or KEY=VALUE for a text, KEY:=JSON for anything else"):
        return dict(map(parse_setting, words))


def _rows(found: dict[str, Json]) -> list[tuple[str, str]]:
    return [(key, value if isinstance(value, str) else as_json(value, pretty=False)) for key, value in found.items()]
