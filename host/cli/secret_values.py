"""Secret values on their way in: from a prompt, standard input, a variable, a file or a keyring.

A value becomes a SecretValue where it is read. A word of the command line that may hold one is a HiddenText.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import click

from host.cli.inputs import blaming, read_text
from host.cli.options import HiddenText
from host.core import environment
from host.core.names import SecretName
from host.errors import InputError
from host.secrets.value import SecretValue, looks_like_key

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")  # POSIX, Base Definitions, 3.216
_SOURCES = "env:VAR, file:PATH, keyring:SERVICE/USER, or - for standard input"
_NO_VALUE = "a value is never given on the command line, where other programs and the shell's history see it"


def parse_assignment(word: HiddenText) -> tuple[SecretName, SecretValue | None]:
    """The name, and the value of `NAME=VALUE`. Raises InputError, which does not repeat the word."""
    name, separator, value = word.split("=")
    if kind := looks_like_key(name):
        raise InputError("NAME looks like a value", field="NAME", hint=f"host secret set {kind}, which asks for it")
    try:
        parsed = SecretName.parse(name)
    except InputError as error:
        raise InputError("NAME is not the name of a secret", field="NAME", hint=error.hint) from None
    return parsed, SecretValue(value) if separator else None


def read_value(name: SecretName, source: HiddenText | None) -> SecretValue:
    """The value from `source` (`--from`). Without one it is typed unseen on a terminal, or read from standard input.
    Raises InputError."""
    if source is None and sys.stdin.isatty():
        return SecretValue(_prompt(name, confirmation_prompt="once more"))
    kind, _, where = (source or HiddenText("-")).split(":")
    with blaming("--from" if source else "standard input"):
        match kind:
            case "-" if not where:
                return _from_standard_input()
            case "keyring" if "/" in where:
                return _from_keyring(*where.rsplit("/", 1))
        value = _from_place(kind, where, "--from")
        if value is None:
            raise InputError("there is no such source", hint=_SOURCES)
        return value


def read_option(word: HiddenText) -> tuple[SecretName, SecretValue]:
    """The name and the value of `--secret NAME=SOURCE`, or of `--secret NAME`, which is NAME=env:NAME. Raises
    InputError, which does not repeat what may be a value."""
    name, separator, source = word.split("=")
    kind, _, where = source.partition(":") if separator else ("env", "", name)
    if not separator and not _VARIABLE.match(name):
        raise InputError("--secret takes NAME or NAME=SOURCE", field="--secret", hint=_NO_VALUE)
    with blaming(f"--secret {name}"):
        parsed = SecretName.parse(name)
        prompted = (kind, where) == ("prompt", "")
        value = ask(name) if prompted else _from_place(kind, where, "--secret")
        if value is None and prompted:
            raise InputError("a secret's value is empty")
        if value is None:
            raise InputError("the source is not env:VAR, file:PATH or prompt", hint=_NO_VALUE)
    return parsed, value


def ask(label: str) -> SecretValue | None:
    """A value that is typed unseen; None where nothing is typed. Raises InputError where there is no terminal."""
    if not sys.stdin.isatty():
        raise InputError("prompt needs a terminal", hint="use env:VAR or file:PATH")
    typed = _prompt(label, default="", show_default=False)
    return SecretValue(typed) if typed else None


def _prompt(label: object, **options: Any) -> str:
    typed: str = click.prompt(f"value of {label}", hide_input=True, err=True, **options)
    return typed


def _from_place(kind: str, where: str, option: str) -> SecretValue | None:
    """From `env:VAR` or `file:PATH`; None for any other source."""
    match kind:
        case "env" if where:
            return SecretValue(environment.variable(where))
        case "file" if where:
            return SecretValue.from_file_text(read_text(where, option))
    return None


def _from_standard_input() -> SecretValue:
    try:
        return SecretValue.from_file_text(sys.stdin.buffer.read().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError("it is not UTF-8") from None


def _from_keyring(service: str, user: str) -> SecretValue:
    from host.store.vault import master  # noqa: PLC0415 - brings cryptography

    found = master.read(service, user)
    if found is None:
        raise InputError(f"no keyring has a password of {user!r} for {service!r}")
    return SecretValue(found)
