"""The options that grant authority, shared by the commands that need it.

What the options that grant authority (`host.cli.options`) mean: arguments to Policy, secrets and config.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import click

from host.cli.inputs import blaming, read_text
from host.core import environment
from host.core.names import SecretName
from host.core.strict_json import Json, parse_json
from host.errors import InputError, PolicyError
from host.policy.document import Policy
from host.secrets.value import SecretValue

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--policy", "policy_file", metavar="FILE", help="A policy, TOML or JSON; the options below add to it."
    ),
    click.option(
        "--allow-domain", multiple=True, metavar="DOMAIN", help="May be reached: api.openai.com, *.example.com."
    ),
    click.option(
        "--allow-private", multiple=True, metavar="CIDR", help="May be reached although private: 127.0.0.0/8."
    ),
    click.option("--upstream", multiple=True, metavar="ORIGIN=ORIGIN", help="Send requests for one origin to another."),
    click.option(
        "--secret",
        "secrets",
        multiple=True,
        metavar="NAME[=SOURCE]",
        help="A secret, from env:VAR, file:PATH or prompt; by name alone, from the variable of that name.",
    ),
    click.option(
        "--allow-import",
        multiple=True,
        metavar="NAME",
        help="A part of WASI beyond the harmless ones, such as wasi:io/poll; there are no files and no network in it.",
    ),
    click.option(
        "--config", multiple=True, metavar="KEY=VALUE", help="What the catalyst may read; KEY:=JSON for JSON."
    ),
)


def authority_options(command: F) -> F:
    """The decorator that adds them all; `host.cli.options.given` takes what they give."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")  # POSIX, Base Definitions, 3.216


@dataclass(frozen=True, slots=True)
class Found:
    """A secret's value that is there without an option, and where it is, in words."""

    value: str = field(repr=False)
    place: str


def in_environment(name: str) -> Found | None:
    """The variable of that name."""
    value = environment.optional(name)
    return Found(value, f"the variable {name} of your environment") if value else None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a catalyst has before any option is read: a policy, configuration, and the names of secrets. `find` looks
    for the value of one that is not granted, to be asked about."""

    policy: Policy = field(default_factory=Policy)
    config: Mapping[str, Json] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    find: Callable[[str], Found | None] = in_environment


@dataclass(slots=True)
class Given:
    """What the operator gave. `secrets` are values by name, `kept` the names of others that need no option."""

    policy: Policy
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    config: dict[str, Json] = field(default_factory=dict)
    wasi: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()
    find: Callable[[str], Found | None] = in_environment


def given(
    standing: Standing,
    *,
    policy_file: str | None,
    allow_domain: tuple[str, ...],
    allow_private: tuple[str, ...],
    upstream: tuple[str, ...],
    secrets: tuple[str, ...],
    config: tuple[str, ...],
    allow_import: tuple[str, ...] = (),
) -> Given:
    """`standing` and the options' additions to it; a policy from a file takes the place of its own. Raises InputError
    and PolicyError, which name the option."""
    policy = read_policy(policy_file) if policy_file else standing.policy
    with blaming("--allow-domain"):
        policy = with_domains(policy, *allow_domain)
    with blaming("--allow-private"):
        policy = replace(policy, allowed_private=(*policy.allowed_private, *allow_private))
    with blaming("--upstream", hint="like https://api.openai.com=http://127.0.0.1:8080"):
        policy = replace(policy, upstreams={**policy.upstreams, **dict(_pair(text) for text in upstream)})
    with blaming("--config", hint="KEY=VALUE for a text, KEY:=JSON for anything else"):
        settings = dict(setting(text) for text in config)
    values = dict(_secret(text) for text in secrets)
    return Given(policy, values, {**standing.config, **settings}, allow_import, standing.secrets, standing.find)


def with_domains(policy: Policy, *domains: str) -> Policy:
    """`policy`, and `domains` allowed."""
    return replace(policy, allowed_domains=(*policy.allowed_domains, *domains))


def read_policy(path: str) -> Policy:
    """The policy in a file: JSON where its name ends in `.json`, TOML otherwise. Raises InputError, PolicyError."""
    text = read_text(path, "--policy")
    try:
        return Policy.parse(text, in_json=path.endswith(".json"))
    except PolicyError as error:
        raise PolicyError(f"--policy {path}: {error.message}", field=error.field, hint=error.hint) from None


def _secret(text: str) -> tuple[str, str]:
    """Name and value. What may be a value itself, given by mistake, is not repeated."""
    name, separator, source = text.partition("=")
    kind, _, where = source.partition(":") if separator else ("env", "", name)
    if not separator and not _VARIABLE.match(name):
        raise InputError("--secret takes NAME or NAME=SOURCE", field="--secret", hint=_NO_VALUE)
    with blaming(f"--secret {name}"):
        SecretName.parse(name)
        match kind:
            case "env" if where:
                value = environment.variable(where)
            case "file" if where:
                value = SecretValue.from_file_text(read_text(where, "--secret")).reveal()
            case "prompt" if not where:
                value = ask_secret(name)
            case _:
                raise InputError("the source is not env:VAR, file:PATH or prompt", hint=_NO_VALUE)
        return name, SecretValue(value).reveal()


_NO_VALUE = "a value is never given on the command line, where other programs and the shell's history see it"


def ask_secret(name: str) -> str:
    """The value of a secret, typed unseen. Raises InputError where there is no terminal."""
    if not sys.stdin.isatty():
        raise InputError("prompt needs a terminal", hint="use env:VAR or file:PATH")
    value: str = click.prompt(f"value of {name}", hide_input=True, default="", show_default=False, err=True)
    return value


def setting(text: str) -> tuple[str, Json]:
    """The key and the value of `KEY=VALUE`, a text, or `KEY:=JSON`. Raises InputError."""
    key, value = _pair(text)
    return (key[:-1], parse_json(value, key[:-1])) if key.endswith(":") else (key, value)


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InputError(f"{text!r} has no = in it" if key else f"{text!r} has nothing before its =")
    return key, value
