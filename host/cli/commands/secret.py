"""A secret's value on its way in and out: where it is read from, what is doubtful about it, how little is shown.

`host secret`: what the operator keeps sealed, and who may use it.

`host secret grant` and `revoke`: which component may use which secret.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from host.cli.inputs import blaming, opened, read_text
from host.cli.output.missing_permissions import may_ask
from host.cli.output.terminal import as_json, as_line, errors_shown, local_time, one_line, put, say, table
from host.cli.targets import source_named
from host.core import environment
from host.core.audit import Event
from host.core.names import Reference, SecretName
from host.errors import InputError, NotFound
from host.policy.document import PLACES, Place
from host.policy.permissions import requested_by
from host.secrets.value import OPERATOR, SecretValue

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace
    from host.store.policies import Granted
    from host.store.vault.master import Place as KeyPlace
    from host.store.vault.sources import Found


_SOURCES = "env:VAR, file:PATH, keyring:SERVICE/USER, or - for standard input"
_LONG_ENOUGH = 20  # characters behind the beginning that all of a kind share: four of them are no help then

# How the keys of well-known services begin.
_KINDS: dict[str, tuple[str, ...]] = {
    "ANTHROPIC_API_KEY": ("sk-ant-",),
    "GITHUB_TOKEN": ("ghp_", "gho_", "ghs_", "ghu_", "github_pat_"),
    "GROQ_API_KEY": ("gsk_",),
    "HF_TOKEN": ("hf_",),
    "OPENAI_API_KEY": ("sk-",),
    "OPENROUTER_API_KEY": ("sk-or-",),
    "XAI_API_KEY": ("xai-",),
}


def named(text: str) -> tuple[SecretName, str | None]:
    """The name, and the value of `NAME=VALUE`. Raises InputError, which repeats nothing: it may be a value."""
    name, separator, value = text.partition("=")
    if (kind := _kind(name)) and len(name) >= _LONG_ENOUGH and any(map(str.isdigit, name)):
        raise InputError("NAME looks like a value", field="NAME", hint=f"host secret set {kind}, which asks for it")
    try:
        return SecretName.parse(name), value if separator else None
    except InputError as error:
        raise InputError("NAME is not the name of a secret", field="NAME", hint=error.hint) from None


def read_value(name: SecretName, source: str | None) -> SecretValue:
    """From `source`, or typed unseen on a terminal, or standard input where there is none. Raises InputError."""
    if source is None and sys.stdin.isatty():
        typed: str = click.prompt(f"value of {name}", hide_input=True, confirmation_prompt="once more", err=True)
        return SecretValue(typed)
    kind, _, where = (source or "-").partition(":")
    with blaming("--from" if source else "standard input"):
        match kind:
            case "-" if not where:
                return SecretValue.from_file_text(_standard_input())
            case "env" if where:
                return SecretValue(environment.variable(where))
            case "file" if where:
                return SecretValue.from_file_text(read_text(where, "--from"))
            case "keyring" if "/" in where:
                return _from_keyring(*where.rsplit("/", 1))
        raise InputError("there is no such source", hint=_SOURCES)


def doubt(name: SecretName, value: SecretValue) -> str | None:
    """What looks wrong with it, for a key of a kind that is known by its name or by how it begins."""
    expected, kind = _KINDS.get(str(name)), _kind(value.reveal())
    if expected is not None and kind != str(name):
        return f"{name} usually begins with {' or '.join(expected)}" + (
            f"; this looks like {kind}" if kind else "; this does not"
        )
    return None


def masked(value: SecretValue) -> str:
    """How its kind begins, and its last four characters, where that leaves enough unknown; else nothing of it."""
    text = value.reveal()
    kind = _kind(text)
    prefix = "" if kind is None else next(one for one in _KINDS[kind] if text.startswith(one))
    last = text[-4:] if len(text) - len(prefix) >= _LONG_ENOUGH else ""
    return f"{prefix}…{last}"


def _kind(text: str) -> str | None:
    """The kind of key that `text` begins like: of several the most particular."""
    found = [(len(one), kind) for kind, known in _KINDS.items() for one in known if text.startswith(one)]
    return max(found)[1] if found else None


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("it is not UTF-8") from None


def _from_keyring(service: str, user: str) -> SecretValue:
    from host.store.vault import master  # noqa: PLC0415 - brings cryptography

    found = master.read(service, user)
    if found is None:
        raise InputError(f"no keyring has a password of {user!r} for {service!r}")
    return SecretValue(found)


@click.group("secret", short_help="Keep secrets, and say who may use them.")
def command() -> None:
    """Keep secrets sealed, and say which component may use which. The component does not see a value, unless its grant
    says so: the host puts it into the requests that the component makes."""


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
def rotate_key(*, master: bool, place: KeyPlace | None) -> None:
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
        from host.store.vault.sources import SecretSources  # noqa: PLC0415 - not for `--help`

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
    workspace.audit_log.record(Event("secret.reveal", "", "allow", "the operator asked", {"name": str(name)}))


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


@command.command("grant", short_help="Let a component use a secret.")
@click.argument("reference", metavar="REF", nargs=-1, required=True)
@click.argument("name", metavar="NAME")
@click.option(
    "--domain", "domains", multiple=True, metavar="DOMAIN", help="Where it may go; without one: where its policy says."
)
@click.option(
    "--in",
    "places",
    multiple=True,
    type=click.Choice(PLACES),
    help="Where in a request; without one: in a header.",
)
@click.option("--reveal", is_flag=True, help="Let the component see the value, for one that computes with it.")
def grant(
    *,
    reference: tuple[str, ...],
    name: str,
    domains: tuple[str, ...],
    places: tuple[Place, ...],
    reveal: bool,
) -> None:
    """Let the component REF use the secret NAME: that version, or all versions where REF names none.

    \b
    host secret grant c:local.openai OPENAI_API_KEY
    host secret grant c:local.openai:0.1.0 OPENAI_API_KEY --domain api.openai.com
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown():
        named, secret = Reference.parse(source_named(reference)), SecretName.parse(name)
        with opened() as workspace:
            workspace.grants.grant(named, secret, domains=domains or None, places=places or ("header",), reveal=reveal)
            say(f"{secret} is granted to {_scope(named)}")
            if reveal:
                say("warning: it sees the value, and may do with it whatever it may do")
            for line in _open_ends(workspace, named, secret):
                say(line)


@command.command("revoke", short_help="Take a grant back.")
@click.argument("reference", metavar="REF", nargs=-1, required=True)
@click.argument("name", metavar="NAME")
def revoke(*, reference: tuple[str, ...], name: str) -> None:
    """Take back that the component REF may use the secret NAME; where REF names no version, from every version."""
    with errors_shown():
        named, secret = Reference.parse(source_named(reference)), SecretName.parse(name)
        with opened() as workspace:
            workspace.grants.revoke(named, secret)
            left = secret in workspace.grants.of(named)
        say(f"{secret} is no longer granted to {_scope(named)}" + (" alone" if left else ""))
        if left:
            say(f"all versions still have it: host secret revoke {named.any_version} {secret}")


def _open_ends(workspace: Workspace, reference: Reference, name: SecretName) -> Iterator[str]:
    """What is missing before the component can use it."""
    there = workspace.components.versions(reference)
    if not there:
        yield f"note: nothing is registered as {reference} yet: host register"
    asked = [requested_by(one.manifest, {}).secrets for one in there if one.manifest is not None]
    if asked and all(names is not None and name not in names for names in asked):
        yield f"note: its manifest does not ask for {name}, and so nothing comes of it"
    try:
        if workspace.sources.find(name) is None:
            yield f"next: host secret set {name}"
    except InputError as error:
        yield f"note: {error.message}"
    if not workspace.policies.effective(reference).policy.allowed_domains:
        named = {text: None for one in there if one.manifest for text in one.manifest.domains or () if "{" not in text}
        said = shlex.quote(json.dumps([*named] or ["DOMAIN"]))
        yield as_line(f"next: host policy set {reference} allowed_domains {said}")


def _scope(reference: Reference) -> str:
    return str(reference) if reference.version else f"{reference}, all versions"
