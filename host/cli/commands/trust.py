"""`host trust`: the keys whose signatures count, and the rules of namespaces."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from host.cli.inputs import blaming, opened, read_bytes
from host.cli.options import aliased_option, json_option, yes_option
from host.cli.output.terminal import agree, as_json, errors_shown, local_time, put, say, table
from host.errors import InputError

if TYPE_CHECKING:
    from host.store.trusted_keys import KeptKey, TrustStore
    from host.trust.keys import PublicKey
    from host.trust.verification import Rule

_MAX_STDIN = 64 * 1024


@click.group("trust", short_help="Say whose signatures count.")
def trust() -> None:
    """Say whose signatures count. A component is installed and run only with the signature of a key that is trusted for
    its namespace. By default the namespace local needs none."""


@trust.command("add", short_help="Trust a key for namespaces.")
@click.argument("key", metavar="KEY")
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    required=True,
    metavar="NAMESPACE",
    help="It may sign for this namespace.",
)
@click.option("--comment", default="", metavar="TEXT", help="The owner of the key.")
@json_option
def add(*, key: str, namespaces: tuple[str, ...], comment: str, in_json: bool) -> None:
    """Trust KEY: a file with a public key (PEM), - for standard input, or the id of a key that is already trusted, to
    add namespaces."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            kept = workspace.trust.add(_key(workspace.trust, key), namespaces, comment)
        if in_json:
            put(as_json(_key_facts(kept)))
            return
        put(kept.id)
        say(f"trusted for {', '.join(sorted(kept.trusted.namespaces))}")


@trust.command("list", short_help="List who is trusted for what.")
@json_option
def list_(*, in_json: bool) -> None:
    """List the trusted and the revoked keys, and the namespaces whose rule is not the default."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            keys, rules = workspace.trust.all(), workspace.trust.rules()
        if in_json:
            named = {namespace: _rule_facts(rule) for namespace, rule in rules.items()}
            put(as_json({"keys": [_key_facts(one) for one in keys], "rules": named}))
            return
        if not keys:
            say("no key is trusted: host trust add KEY.pem --namespace N")
        for line in table(("key", "algorithm", "namespaces", "state", "comment"), map(_row, keys)):
            put(line)
        if keys and rules:
            put("")
        for line in table(("namespace", "asks for"), ((name, _asks_for(rule)) for name, rule in rules.items())):
            put(line)


@trust.command("revoke", short_help="Never trust a key again.")
@click.argument("key", metavar="KEY")
@yes_option
@json_option
def revoke(*, key: str, yes: bool, in_json: bool) -> None:
    """Never trust KEY again. Components that it signed are no longer installed or run, whenever it signed them. KEY is
    its id, or the beginning of it, as `host trust list` shows it."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            ident = workspace.trust.key(key).id
            agree(f"Never trust {ident} again, nor what it signed?", yes=yes)
            kept = workspace.trust.revoke(ident)
        if in_json:
            put(as_json(_key_facts(kept)))
        else:
            say(f"revoked: {kept.id}")


@trust.command("require", short_help="Say what a namespace asks for.")
@click.argument("namespace", metavar="NAMESPACE")
@click.option(
    "--threshold",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="How many different keys.",
)
@click.option("--unsigned", is_flag=True, help="Need no signature; invalid ones are still refused.")
@aliased_option(
    "--reset",
    "default",
    aliases=["--default"],
    is_flag=True,
    help="Go back to what holds for every namespace: one signature, none for local.",
)
@json_option
def require(*, namespace: str, threshold: int, unsigned: bool, default: bool, in_json: bool) -> None:
    """Say how many keys have to sign a component of NAMESPACE."""
    with errors_shown(in_json=in_json):
        from host.trust.verification import Rule  # noqa: PLC0415 - not for `--help`

        if unsigned + default + (threshold > 1) > 1:
            raise InputError("one of --threshold, --unsigned and --reset", field="--threshold")
        rule = None if default else Rule(require_signature=not unsigned, threshold=threshold)
        with opened() as workspace:
            workspace.trust.require(namespace, rule)
            now = workspace.trust.snapshot().rule(namespace)
        if in_json:
            put(as_json({"namespace": namespace, **_rule_facts(now)}))
        else:
            say(f"{namespace} asks for {_asks_for(now)}")


def _key(store: TrustStore, named: str) -> PublicKey:
    from host.trust.keys import PublicKey  # noqa: PLC0415 - not for `--help`

    if named.startswith("sha256:"):
        return store.key(named).trusted.key
    pem = sys.stdin.buffer.read(_MAX_STDIN) if named == "-" else read_bytes(named, "KEY")
    with blaming("KEY"):
        return PublicKey.parse(pem)


def _key_facts(kept: KeptKey) -> dict[str, Any]:
    return {
        "id": kept.id,
        "algorithm": kept.trusted.key.algorithm,
        "namespaces": sorted(kept.trusted.namespaces),
        "comment": kept.trusted.comment,
        "added_at": kept.added_at,
        "revoked_at": kept.revoked_at,
        "public_key": kept.trusted.key.pem,
    }


def _row(kept: KeptKey) -> tuple[str, ...]:
    state = "trusted" if kept.revoked_at is None else f"revoked {local_time(kept.revoked_at)}"
    namespaces = ", ".join(sorted(kept.trusted.namespaces))
    return kept.id[:19], kept.trusted.key.algorithm, namespaces, state, kept.trusted.comment


def _rule_facts(rule: Rule) -> dict[str, Any]:
    return {"require_signature": rule.require_signature, "threshold": rule.threshold}


def _asks_for(rule: Rule) -> str:
    if not rule.require_signature:
        return "no signature"
    return (
        "the signature of a trusted key" if rule.threshold == 1 else f"the signatures of {rule.threshold} trusted keys"
    )
