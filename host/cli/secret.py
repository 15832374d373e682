"""`host secret`: what the operator keeps sealed, and who may use it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from host.audit import Event
from host.cli.needs import may_ask
from host.cli.secret_grant import grant, revoke
from host.cli.secret_value import doubt, masked, named, read_value
from host.cli.show import as_json, errors_shown, local_time, one_line, put, say
from host.cli.state import opened
from host.cli.table import table
from host.errors import InputError, NotFound
from host.names import SecretName
from host.secret import OPERATOR, SecretValue

if TYPE_CHECKING:
    from host.state.grants import Granted
    from host.state.master import Place
    from host.state.sources import Found
    from host.workspace import Workspace


@click.group("secret", short_help="Keep secrets, and say who may use them.")
def command() -> None:
    """Keep secrets sealed, and say which component may use which. The component does not see a value, unless its grant
    says so: the host puts it into the requests that the component makes."""


command.add_command(grant)
command.add_command(revoke)


@command.command("set", short_help="Keep a secret.")
@click.argument("name", metavar="NAME")
@click.option(
    "--from", "source", metavar="SOURCE", help="env:VAR, file:PATH, keyring:SERVICE/USER, or - for standard input."
)
def set_(*, name: str, source: str | None) -> None:
    """Keep a secret, in place of one of that name. Without --from, its value is typed unseen on a terminal, and read
    from standard input elsewhere.

    NAME=VALUE works too, but then the shell's history has it, and for a moment every program on this machine.
    """
    with errors_shown():
        parsed, given = named(name)
        if given is not None and source is not None:
            raise InputError("NAME=VALUE does not go with --from", field="--from")
        value = read_value(parsed, source) if given is None else SecretValue(given)
        with opened() as workspace:
            workspace.vault.set(OPERATOR, parsed, value)
            granted = _granted(workspace)[parsed]
        if given is not None:
            say(f"warning: the shell's history may have the value now; next time: host secret set {parsed}")
        if said := doubt(parsed, value):
            say(f"warning: {said}")
        say(f"{parsed} is kept ({masked(value)})")
        say(f"used by {_names(granted)}" if granted else f"next: host secret grant REF {parsed}")


@command.command("get", short_help="Show that a secret is there.")
@click.argument("name", metavar="NAME")
@click.option("--reveal", is_flag=True, help="The value itself: asked about on a terminal, and recorded.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def get(*, name: str, reveal: bool, yes: bool) -> None:
    """Show enough of a secret that is kept to tell it from another."""
    with errors_shown():
        parsed = SecretName.parse(name)
        with opened() as workspace:
            value = workspace.vault.get(OPERATOR, parsed)
            if value is None:
                raise NotFound(f"{parsed} is not kept", hint=f"host secret which {parsed} looks everywhere")
            if reveal:
                _agree(f"Show the value of {parsed}?", yes=yes)
                _record_reveal(workspace, parsed)
        put(value.reveal() if reveal else masked(value))


@command.command("list", short_help="List what is kept, and who may use it.")
@click.option("--json", "in_json", is_flag=True, help="Print a JSON list.")
def list_(*, in_json: bool) -> None:
    """List the secrets that are kept or granted, by name."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            kept, granted = dict(workspace.vault.names(OPERATOR)), _granted(workspace)
        names = sorted({*kept, *granted}, key=str)
        if in_json:
            put(as_json([_facts(name, kept.get(name), granted[name]) for name in names]))
            return
        if not names:
            say("no secret is kept: host secret set NAME")
        rows = ((str(name), _since(kept.get(name)), _names(granted[name]) or "nobody") for name in names)
        for line in table(("name", "kept since", "used by"), rows):
            put(line)


@command.command("delete", short_help="Delete a secret.")
@click.argument("name", metavar="NAME|--all", required=False)
@click.option("--all", "everything", is_flag=True, help="All of them, also where one was damaged.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(*, name: str | None, everything: bool, yes: bool) -> None:
    """Delete the secret NAME, or all that are kept. Grants stay."""
    with errors_shown():
        if (name is None) is not everything:
            raise InputError("NAME or --all, and not both", field="NAME")
        with opened() as workspace:
            if name is None:
                _agree("Delete all secrets?", yes=yes)
                workspace.vault.clear(OPERATOR)
                say("no secret is kept any more")
                return
            parsed = SecretName.parse(name)
            if not workspace.vault.delete(OPERATOR, parsed):
                raise NotFound(f"{parsed} is not kept", hint="host secret list shows what is")
            granted = _granted(workspace)[parsed]
        say(f"{parsed} is deleted")
        for one in granted:
            say(f"it is still granted: host secret revoke {one.reference} {parsed}")


@command.command("rotate-key", short_help="Seal all secrets anew, with new keys.")
@click.option("--master", is_flag=True, help="A new master key too, which seals the keys.")
@click.option(
    "--place",
    type=click.Choice(["environment", "keyring", "file"]),
    help="Where the new master key is kept; without it: HOST_MASTER_KEY if that is set, else a keyring, else a file.",
)
def rotate_key(*, master: bool, place: Place | None) -> None:
    """Seal all secrets anew with a new key, and drop the one before.

    To replace a master key in HOST_MASTER_KEY, put the new one before it, with a space between them.
    """
    with errors_shown():
        with opened() as workspace:
            rotated = workspace.vault.rotate(new_master=master or place is not None, place=place)
            folder = workspace.state_dir
        say(f"{rotated.secrets} secret{' is' if rotated.secrets == 1 else 's are'} sealed with a new key")
        kept = {"environment": "in HOST_MASTER_KEY", "keyring": "in the keyring", "file": f"in a file in {folder}"}
        if rotated.after is not None:
            say(f"the new master key is {kept[rotated.after]}")
        if rotated.before == "environment":
            say("nothing needs the one before any more: take it out of HOST_MASTER_KEY")


@command.command("which", short_help="Say where a secret comes from.")
@click.argument("name", metavar="NAME")
@click.option("--secrets-file", type=click.Path(path_type=Path), help="In place of the one that HOST_SECRETS names.")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
def which(*, name: str, secrets_file: Path | None, in_json: bool) -> None:
    """Say which place answers for the secret NAME, and which others have it: the store (`host secret set`), then the
    environment's variable of that name, then the secrets file."""
    with errors_shown(in_json=in_json):
        from host.state.sources import SecretSources  # noqa: PLC0415 - not for `--help`

        parsed = SecretName.parse(name)
        with opened() as workspace:
            sources = SecretSources(workspace.vault, secrets_file)
            found, file = sources.which(parsed), sources.file
        if not found:
            raise NotFound(f"{parsed} is nowhere to be found", hint=f"host secret set {parsed}")
        if in_json:
            put(as_json({"name": str(parsed), "from": _place(found[0]), "also": [_place(one) for one in found[1:]]}))
        else:
            put("\n".join(_answer(found)))
        if file is not None and file.exposed:
            say(f"warning: others can read {file.path}: chmod 600 {file.path}")


def _agree(question: str, *, yes: bool) -> None:
    """Raises InputError where the answer is no, or nobody can be asked."""
    if not yes and not (may_ask() and click.confirm(question, default=False, err=True)):
        raise InputError("nothing was done", field="--yes", hint="answer with yes, or add --yes")


def _record_reveal(workspace: Workspace, name: SecretName) -> None:
    workspace.journal.record(Event("secret.reveal", "", "allow", "the operator asked", {"name": str(name)}))


def _granted(workspace: Workspace) -> dict[SecretName, list[Granted]]:
    """By secret, also for those that are granted to nobody."""
    found: dict[SecretName, list[Granted]] = defaultdict(list)
    for one in workspace.grants.all():
        found[one.secret].append(one)
    return found


def _facts(name: SecretName, kept_since: float | None, granted: list[Granted]) -> dict[str, object]:
    return {"name": str(name), "kept_since": kept_since, "used_by": [str(one.reference) for one in granted]}


def _names(granted: list[Granted]) -> str:
    return ", ".join(str(one.reference) for one in granted)


def _since(at: float | None) -> str:
    return "not kept" if at is None else local_time(at)


def _place(found: Found) -> dict[str, str]:
    return {"place": found.place, **({"path": str(found.path)} if found.path else {})}


def _answer(found: tuple[Found, ...]) -> Iterator[str]:
    first, *others = found
    yield one_line(f"{first} ({masked(first.value)})")
    for one in others:
        yield one_line(f"not used: {one} ({masked(one.value)})")
