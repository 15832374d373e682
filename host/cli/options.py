"""The options that commands share: those that grant permissions, in `host run` and `host inspect`; `--json`, `--yes`
and `--output`; options that have earlier names too; and the type of words that may hold a secret.

`host.cli.permissions` reads the options that grant. A thing has one name on the whole command line, and its value one
word: a DURATION is `30s` or `90d`, a FILE is a path. `tests/conformance/test_vocabulary.py` lists the words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from click.parser import _OptionParser

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


class AliasedOption(click.Option):
    """An option that has other names too, which no help shows: an earlier version had them, and scripts use them."""

    def __init__(self, *arguments: Any, aliases: Sequence[str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.aliases = tuple(aliases)

    def add_to_parser(self, parser: _OptionParser, ctx: click.Context) -> None:
        shown = self.opts
        self.opts = [*shown, *self.aliases]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown


def aliased_option(*names: str, aliases: Sequence[str], **options: Any) -> Callable[[F], F]:
    """The decorator that adds an `AliasedOption`. The rest is as in `click.option`."""
    return click.option(*names, cls=AliasedOption, aliases=aliases, **options)


json_option = click.option("--json", "in_json", is_flag=True, help="Print JSON: the result, and errors too.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask. Without a terminal it is needed.")
allow_import_option = click.option(
    "--allow-import",
    multiple=True,
    metavar="NAME",
    help="A part of WASI beyond the harmless ones, such as wasi:io/poll; there are no files and no network in it.",
)


def output_option(help_: str, **options: Any) -> Callable[[F], F]:
    """The decorator that adds `--output`. `host.cli.inputs.write_output` takes its value: - is standard output."""
    return click.option("-o", "--output", metavar="FILE", help=help_, **options)


_OPTIONS = (
    click.option(
        "--policy", "policy_file", metavar="FILE", help="A policy, TOML or JSON; the options below add to it."
    ),
    aliased_option(
        "--allow-domain",
        aliases=["--domain"],
        multiple=True,
        metavar="DOMAIN",
        help="Reach it: api.openai.com, *.example.com.",
    ),
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
        help="A domain that the secret NAME goes to.",
        show_default="those that the manifest names for it, else the only one that is allowed",
    ),
    allow_import_option,
    click.option(
        "--config", multiple=True, metavar="KEY=VALUE", help="Configuration for the catalyst; KEY:=JSON for JSON."
    ),
)


def permission_options(command: F) -> F:
    """The decorator that adds all of them. `read_permissions` takes their values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
