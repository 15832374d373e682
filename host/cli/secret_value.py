"""A secret's value on its way in and out: where it is read from, what is doubtful about it, how little is shown."""

from __future__ import annotations

import sys

import click

from host import environment
from host.cli.files import blaming, read_text
from host.errors import InputError
from host.names import SecretName
from host.secret import SecretValue
from host.state import keyrings

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
    found = keyrings.read(service, user)
    if found is None:
        raise InputError(f"no keyring has a password of {user!r} for {service!r}")
    return SecretValue(found)
