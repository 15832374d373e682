"""`host secret`: secrets sealed in the vault, and the components that may use them."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from host.cli.inputs import opened, source_named
from host.cli.options import HIDDEN, HiddenText, aliased_option, json_option, yes_option
from host.cli.output.terminal import agree, as_json, as_line, errors_shown, local_time, one_line, put, say, table
from host.cli.secret_values import parse_assignment, read_value
from host.cli.token_sources import TokenWords, token_options
from host.core.audit import Event
from host.core.fields import did_you_mean
from host.core.names import Reference, SecretName
from host.errors import InputError, NotFound
from host.policy.document import SecretRule
from host.policy.permissions import requested_by
from host.runtime.explain import grant_secret
from host.secrets.value import OPERATOR, doubt, masked, require_strong, weakness

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace
    from host.store.policies import Granted
    from host.store.vault.master import KeyPlace
    from host.store.vault.sources import Found


@click.group("secret", short_help="Keep secrets, and say who may use them.")
def secret() -> None:
    """Keep secrets sealed, and say which component may use which. A component does not see the value, unless its grant
    says so: the host puts it into the requests that the component makes."""


@secret.command("set", short_help="Keep a secret.")
@click.argument("word", metavar="NAME", type=HIDDEN)
@click.option(
    "--from",
    "source",
    metavar="SOURCE",
    type=HIDDEN,
    help="env:VAR, file:PATH, keyring:SERVICE/USER, or - for standard input.",
    show_default="asked for on a terminal, else -",
)
@click.option("--weak", is_flag=True, help="Keep it although it can be guessed.")
@token_options
@json_option
def set_(*, word: HiddenText, source: HiddenText | None, weak: bool, in_json: bool, **tokens: Any) -> None:
    """Keep a secret. It replaces one of the same name. Without --from, the value is typed unseen on a terminal, or read
    from standard input.

    NAME=VALUE works too, but then the shell's history has the value, and for a moment every program on this machine can
    see it.

    With --oauth or --exec, tokens take the place of a value. They are renewed before they expire:

    \b
    host secret set AZURE_TOKEN --exec \\
        'az account get-access-token --scope https://ai.azure.com/.default'
    host secret set GATEWAY_TOKEN --client-id host \\
        --oauth https://login.acme.example/oauth2/token
    """  # noqa: D301 - the escapes are click's: these lines are not rewrapped
    with errors_shown(in_json=in_json):
        name, given = parse_assignment(word)
        if (kept := _set_source(name, TokenWords(**tokens), given is None and source is None and not weak)) is not None:
            put(as_json(kept)) if in_json else _say_source(name, kept)
            return
        if given is not None and source is not None:
            raise InputError("NAME=VALUE does not go with --from", field="--from")
        value = read_value(name, source) if given is None else given
        if not weak:
            require_strong(name, value, "to keep it all the same: --weak")
        with opened() as workspace:
            workspace.vault.set(OPERATOR, name, value)
            granted = _granted(workspace)[name]
        if given is not None:
            say(f"warning: the shell's history may have the value now; next time: host secret set {name}")
        for warning in filter(None, (doubt(name, value), weakness(value))):
            say(f"warning: {warning}")
        if in_json:
            facts = {"name": str(name), "masked": masked(value), "used_by": [str(one.reference) for one in granted]}
            put(as_json(facts))
            return
        say(f"{name} is kept ({masked(value)})")
        say(f"used by {_names(granted)}" if granted else f"next: host secret grant REF {name}")


def _set_source(name: SecretName, words: TokenWords, alone: bool) -> dict[str, object] | None:
    """Keep the source that `words` describe, and return the facts; None where they describe none."""
    found = words.source(name)
    if found is None:
        return None
    if not alone:
        raise InputError("--oauth and --exec take the place of a value, of --from and of --weak", field="NAME")
    with opened() as workspace:
        workspace.vault.set_source(name, found)
        used = [str(one.reference) for one in _granted(workspace)[name]]
    return {"name": str(name), "source": str(found), "used_by": used}


def _say_source(name: SecretName, kept: Mapping[str, object]) -> None:
    say(as_line(f"{name} is kept: {kept['source']}"))
    used = kept["used_by"]
    say(f"used by {', '.join(used)}" if isinstance(used, list) and used else f"next: host secret grant REF {name}")


@secret.command("get", short_help="Show that a secret is kept.")
@click.argument("name", metavar="NAME")
@click.option("--reveal", is_flag=True, help="Show the value itself. It asks first, and the audit log records it.")
@yes_option
@json_option
def get(*, name: str, reveal: bool, yes: bool, in_json: bool) -> None:
    """Show the beginning and the end of a secret: enough to tell it from another."""
    with errors_shown(in_json=in_json):
        parsed = SecretName.parse(name)
        with opened() as workspace:
            value = workspace.vault.get(OPERATOR, parsed)
            if value is None and (tokens := workspace.vault.source(parsed)) is not None:
                if reveal:
                    raise InputError(f"{parsed} has no value of its own: {tokens}", field="--reveal")
                put(as_json({"name": str(parsed), "source": str(tokens)}) if in_json else one_line(str(tokens)))
                return
            if value is None:
                raise _not_kept(workspace, parsed, f"host secret which {parsed} looks everywhere")
            if reveal:
                agree(f"Show the value of {parsed}?", yes=yes)
                _record_reveal(workspace, parsed)
        shown = value.reveal() if reveal else masked(value)
        put(as_json({"name": str(parsed), "value" if reveal else "masked": shown}) if in_json else shown)


@secret.command("list", short_help="List what is kept, and who may use it.")
@json_option
def list_(*, in_json: bool) -> None:
    """List the secrets that are kept or granted, by name."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            kept, granted = dict(workspace.vault.names(OPERATOR)), _granted(workspace)
        names = sorted({*kept, *granted}, key=str)
        if in_json:
            put(as_json([_secret_facts(name, kept.get(name), granted[name]) for name in names]))
            return
        if not names:
            say("no secret is kept: host secret set NAME")
        rows = ((str(name), _since(kept.get(name)), _names(granted[name]) or "nobody") for name in names)
        for line in table(("name", "kept since", "used by"), rows):
            put(line)


@secret.command("delete", short_help="Delete a secret.")
@click.argument("name", metavar="NAME|--all", required=False)
@click.option("--all", "everything", is_flag=True, help="Delete all of them, also damaged ones.")
@yes_option
@json_option
def delete(*, name: str | None, everything: bool, yes: bool, in_json: bool) -> None:
    """Delete the secret NAME, or all that are kept. Grants stay."""
    with errors_shown(in_json=in_json):
        if (name is None) is not everything:
            raise InputError("NAME or --all, and not both", field="NAME")
        with opened() as workspace:
            if name is None:
                agree("Delete all secrets for good?", yes=yes)
                workspace.vault.clear(OPERATOR)
                say("no secret is kept any more")
                if in_json:
                    put(as_json({"name": None, "used_by": []}))
                return
            parsed = SecretName.parse(name)
            if parsed in dict(workspace.vault.names(OPERATOR)):
                agree(f"Delete {parsed} for good?", yes=yes)
            if not workspace.vault.delete(OPERATOR, parsed):
                raise _not_kept(workspace, parsed, "host secret list shows what is")
            granted = _granted(workspace)[parsed]
        if in_json:
            put(as_json({"name": str(parsed), "used_by": [str(one.reference) for one in granted]}))
            return
        say(f"{parsed} is deleted")
        for one in granted:
            say(f"it is still granted: host secret revoke {one.reference} {parsed}")


@secret.command("grant", short_help="Let a component use a secret.")
@click.argument("reference", metavar="REF", nargs=-1, required=True)
@click.argument("name", metavar="NAME")
@aliased_option(
    "--allow-domain",
    "domains",
    aliases=["--domain", "--to"],
    multiple=True,
    metavar="DOMAIN",
    help="Where it may go.",
    show_default="where the policy or the manifest says, else the only allowed domain",
)
@click.option(
    "--in",
    "places",
    multiple=True,
    metavar="PLACE",
    help="Where in a request: header (those that carry credentials), header:NAME (that one too), url, body.",
    show_default="header",
)
@click.option("--reveal", is_flag=True, help="Let the component see the value, to compute with it.")
@json_option
def grant(
    *,
    reference: tuple[str, ...],
    name: str,
    domains: tuple[str, ...],
    places: tuple[str, ...],
    reveal: bool,
    in_json: bool,
) -> None:
    """Let the component REF use the secret NAME: that version, or all versions where REF names none.

    \b
    host secret grant c:local.openai OPENAI_API_KEY
    host secret grant c:local.openai:0.1.0 OPENAI_API_KEY \\
        --allow-domain api.openai.com
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown(in_json=in_json):
        at, wanted = Reference.parse(source_named(reference)), SecretName.parse(name)
        with opened() as workspace:
            given = SecretRule(domains=domains or None, places=places or ("header",), reveal=reveal)
            grant_secret(workspace, at, wanted, given)
            if in_json:
                put(as_json({"reference": str(at), "name": str(wanted), **_rule_facts(given)}))
                return
            say(f"{wanted} is granted to {_scope(at)}")
            if reveal:
                say("warning: it sees the value, and can send it wherever it may send requests")
            for line in _next_steps(workspace, at, wanted):
                say(line)


@secret.command("revoke", short_help="Take a grant back.")
@click.argument("reference", metavar="REF", nargs=-1, required=True)
@click.argument("name", metavar="NAME")
@json_option
def revoke(*, reference: tuple[str, ...], name: str, in_json: bool) -> None:
    """Take back the grant of the secret NAME to the component REF: to that version, or to all versions where REF names
    none."""
    with errors_shown(in_json=in_json):
        at, wanted = Reference.parse(source_named(reference)), SecretName.parse(name)
        with opened() as workspace:
            workspace.grants.revoke(at, wanted)
            left = wanted in workspace.grants.of(at)
        if in_json:
            put(as_json({"reference": str(at), "name": str(wanted), "granted": left}))
            return
        say(f"{wanted} is no longer granted to {_scope(at)}" + (" alone" if left else ""))
        if left:
            say(f"all versions still have it: host secret revoke {at.any_version} {wanted}")


@secret.command("which", short_help="Say where a secret comes from.")
@click.argument("name", metavar="NAME")
@click.option(
    "--secrets-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A file of NAME=VALUE lines.",
    show_default="the one that HOST_SECRETS names",
)
@json_option
def which(*, name: str, secrets_file: Path | None, in_json: bool) -> None:
    """Say where the value of the secret NAME comes from, and which other places have one. The order is: the store
    (`host secret set`), the environment variable of that name, the secrets file."""
    with errors_shown(in_json=in_json):
        from host.store.vault.sources import SecretSources  # noqa: PLC0415 - not for `--help`

        parsed = SecretName.parse(name)
        with opened() as workspace:
            sources = SecretSources(workspace.vault, secrets_file)
            found, file = sources.which(parsed), sources.file
            if not found:
                known = map(str, dict(workspace.vault.names(OPERATOR)))
                hint = did_you_mean(str(parsed), known, f"host secret set {parsed}")
                raise NotFound(f"{parsed} is nowhere to be found", hint=hint)
        if in_json:
            put(as_json({"name": str(parsed), "from": _place(found[0]), "also": [_place(one) for one in found[1:]]}))
        else:
            put("\n".join(_answer(found)))
        if file is not None and file.exposed:
            say(f"warning: others can read {file.path}: chmod 600 {file.path}")


@secret.command("rotate-key", short_help="Seal all secrets anew, with new keys.")
@click.option("--master", is_flag=True, help="Make a new master key too. It seals the keys.")
@click.option(
    "--place",
    type=click.Choice(["environment", "keyring", "file"]),
    help="Where to keep the new master key.",
    show_default="HOST_MASTER_KEY if it is set, else a keyring, else a file",
)
@json_option
def rotate_key(*, master: bool, place: KeyPlace | None, in_json: bool) -> None:
    """Seal all secrets anew with a new key, and delete the old key.

    To replace a master key in HOST_MASTER_KEY, put the new one before it, with a space between them.
    """
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            rotated = workspace.vault.rotate(new_master=master or place is not None, place=place)
            folder = workspace.state_dir
        if in_json:
            put(as_json({"secrets": rotated.secrets, "before": rotated.before, "after": rotated.after}))
            return
        say(f"{rotated.secrets} secret{' is' if rotated.secrets == 1 else 's are'} sealed with a new key")
        kept = {"environment": "in HOST_MASTER_KEY", "keyring": "in the keyring", "file": f"in a file in {folder}"}
        if rotated.after is not None:
            say(f"the new master key is {kept[rotated.after]}")
        if rotated.before == "environment":
            say("nothing needs the one before any more: take it out of HOST_MASTER_KEY")


def _rule_facts(rule: SecretRule) -> dict[str, object]:
    """As in a policy; `domains` None: where the policy or the manifest says."""
    domains = None if rule.domains is None else list(map(str, rule.domains))
    return {"domains": domains, "in": list(map(str, rule.places)), "reveal": rule.reveal}


def _record_reveal(workspace: Workspace, name: SecretName) -> None:
    workspace.audit_log.record(Event("secret.reveal", "", "allow", "the operator asked", {"name": str(name)}))


def _granted(workspace: Workspace) -> dict[SecretName, list[Granted]]:
    """The grants of each secret; none for a secret that is granted to nobody."""
    found: dict[SecretName, list[Granted]] = defaultdict(list)
    for one in workspace.grants.all():
        found[one.secret].append(one)
    return found


def _secret_facts(name: SecretName, kept_since: float | None, granted: list[Granted]) -> dict[str, object]:
    return {"name": str(name), "kept_since": kept_since, "used_by": [str(one.reference) for one in granted]}


def _names(granted: list[Granted]) -> str:
    return ", ".join(str(one.reference) for one in granted)


def _since(at: float | None) -> str:
    return "not kept" if at is None else local_time(at)


def _place(found: Found) -> dict[str, str]:
    return {"place": found.place, **({"path": str(found.path)} if found.path else {})}


def _answer(found: tuple[Found, ...]) -> Iterator[str]:
    first, *others = found
    yield one_line(f"{first}{_shown(first)}")
    for one in others:
        yield one_line(f"not used: {one}{_shown(one)}")


def _shown(found: Found) -> str:
    return f" ({masked(found.value)})" if found.value else ""


def _not_kept(workspace: Workspace, name: SecretName, hint: str) -> NotFound:
    near = did_you_mean(str(name), map(str, dict(workspace.vault.names(OPERATOR))), hint)
    return NotFound(f"{name} is not kept", hint=near)


def _next_steps(workspace: Workspace, reference: Reference, name: SecretName) -> Iterator[str]:
    """Notes and commands for what the component still lacks to use the secret."""
    there = workspace.components.versions(reference)
    if not there:
        known = (str(one.reference.any_version) for one in workspace.components.all())
        yield f"note: nothing is registered as {reference} yet: {did_you_mean(str(reference), known, 'host register')}"
    asked = [requested_by(one.manifest, {}).secrets for one in there if one.manifest is not None]
    if asked and all(names is not None and name not in names for names in asked):
        wanted = {str(one) for names in asked for one in names or ()}
        hint = did_you_mean(str(name), sorted(wanted), "nothing comes of the grant")
        yield f"note: its manifest does not ask for {name}: {hint}"
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
