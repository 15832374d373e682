"""The options that grant authority, shared by the commands that need it: arguments to Policy, secrets and config."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from host import environment
from host.errors import InputError, PolicyError
from host.jsontext import Json, parse_json
from host.policy.document import Policy
from host.redaction import SecretValue

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Given:
    """What the operator gave. `secrets` are values by name."""

    policy: Policy
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    config: dict[str, Json] = field(default_factory=dict)


def authority_options(command: F) -> F:
    for option in reversed(
        (
            click.option(
                "--policy", "policy_file", metavar="FILE", help="A policy, TOML or JSON; the options below add to it."
            ),
            click.option(
                "--allow-domain", multiple=True, metavar="DOMAIN", help="May be reached: api.openai.com, *.example.com."
            ),
            click.option(
                "--allow-private", multiple=True, metavar="CIDR", help="May be reached although private: 127.0.0.0/8."
            ),
            click.option(
                "--upstream", multiple=True, metavar="ORIGIN=ORIGIN", help="Send requests for one origin to another."
            ),
            click.option(
                "--secret",
                "secrets",
                multiple=True,
                metavar="NAME[=SOURCE]",
                help="A secret, from env:VAR, file:PATH or prompt; by name alone, from the variable of that name.",
            ),
            click.option(
                "--config", multiple=True, metavar="KEY=VALUE", help="What the catalyst may read; KEY:=JSON for JSON."
            ),
        )
    ):
        command = option(command)
    return command


def given(
    policy_file: str | None,
    allow_domain: tuple[str, ...],
    allow_private: tuple[str, ...],
    upstream: tuple[str, ...],
    secrets: tuple[str, ...],
    config: tuple[str, ...],
) -> Given:
    """Raises PolicyError and InputError, which name the option."""
    policy = read_policy(policy_file) if policy_file else Policy()
    upstreams = dict(_pair(text, "--upstream", "ORIGIN=ORIGIN") for text in upstream)
    return Given(
        widened(policy, allow_domain, allow_private, upstreams),
        dict(_secret(text) for text in secrets),
        dict(_setting(text) for text in config),
    )


def widened(
    policy: Policy,
    domains: tuple[str, ...] = (),
    private: tuple[str, ...] = (),
    upstreams: Mapping[str, str] | None = None,
) -> Policy:
    """`policy` and what the options add."""
    return replace(
        policy,
        allowed_domains=(*policy.allowed_domains, *domains),
        allowed_private=(*policy.allowed_private, *private),
        upstreams={**policy.upstreams, **(upstreams or {})},
    )


def read_policy(path: str) -> Policy:
    """The policy in a file: JSON where its name ends in `.json`, TOML otherwise. Raises PolicyError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PolicyError(f"cannot read the policy {path!r}: {said}") from None
    return Policy.parse(text, in_json=path.endswith(".json"))


def _secret(text: str) -> tuple[str, str]:
    name, separator, source = text.partition("=")
    kind, _, where = source.partition(":")
    if not separator:
        kind, where = "env", name
    match kind:
        case "env" if where:
            return name, environment.variable(where)
        case "file" if where:
            return name, _secret_file(name, where)
        case "prompt" if not where:
            return name, ask_secret(name)
    raise InputError(
        f"--secret {name}: the source is not env:VAR, file:PATH or prompt",
        field="--secret",
        hint="a value is never given on the command line, where other programs and the shell's history see it",
    )


def _secret_file(name: str, path: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"--secret {name}: cannot read {path!r}: {said}", field="--secret") from None
    return SecretValue.from_file_text(text).reveal()


def ask_secret(name: str) -> str:
    """The value of a secret, typed unseen. Raises InputError where there is no terminal."""
    if not sys.stdin.isatty():
        raise InputError(f"--secret {name}=prompt needs a terminal", field="--secret", hint="use env:VAR or file:PATH")
    value: str = click.prompt(f"value of {name}", hide_input=True, default="", show_default=False, err=True)
    return value


def _setting(text: str) -> tuple[str, Json]:
    key, value = _pair(text, "--config", "KEY=VALUE")
    if key.endswith(":"):
        return key[:-1], parse_json(value, f"--config {key[:-1]}")
    return key, value


def _pair(text: str, option: str, shape: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InputError(f"{option} {text!r} is not {shape}", field=option)
    return key, value
