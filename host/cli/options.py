"""The options of `host run` and `host inspect` that grant permissions, and the type of words that may hold a secret.

`host.cli.permissions` reads the options.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class HiddenText:
    """A word of the command line that may hold a secret value, by intent (`NAME=VALUE`) or by mistake. No repr,
    traceback or error shows it; only `split` does."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def split(self, separator: str) -> tuple[str, str, str]:
        """As `str.partition` does."""
        return self._text.partition(separator)

    def __repr__(self) -> str:
        return "<HiddenText>"


class _HiddenType(click.ParamType[HiddenText]):
    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> HiddenText:
        del param, ctx
        return value if isinstance(value, HiddenText) else HiddenText(value)


HIDDEN: Final = _HiddenType()  # the click type of such a word

_OPTIONS = (
    click.option(
        "--policy", "policy_file", metavar="FILE", help="A policy, TOML or JSON; the options below add to it."
    ),
    click.option("--allow-domain", multiple=True, metavar="DOMAIN", help="Reach it: api.openai.com, *.example.com."),
    click.option("--allow-private", multiple=True, metavar="CIDR", help="Reach these private addresses: 127.0.0.0/8."),
    click.option("--upstream", multiple=True, metavar="ORIGIN=ORIGIN", help="Send requests for one origin to another."),
    click.option(
        "--secret",
        "secrets",
        multiple=True,
        type=HIDDEN,
        metavar="NAME[=SOURCE]",
        help="A secret, from env:VAR, file:PATH or prompt; by name alone, from the variable of that name.",
    ),
    click.option(
        "--secret-to",
        multiple=True,
        metavar="NAME=DOMAIN",
        help="A domain that the secret NAME goes to. By default: those that the manifest names for it, else the only "
        "one that is allowed.",
    ),
    click.option(
        "--allow-import",
        multiple=True,
        metavar="NAME",
        help="A part of WASI beyond the harmless ones, such as wasi:io/poll; there are no files and no network in it.",
    ),
    click.option(
        "--config", multiple=True, metavar="KEY=VALUE", help="Configuration for the catalyst; KEY:=JSON for JSON."
    ),
)


def permission_options(command: F) -> F:
    """The decorator that adds all of them. `read_permissions` takes their values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
