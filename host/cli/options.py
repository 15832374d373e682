"""The options that grant authority, shared by the commands that need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

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
    """The decorator that adds them all; `host.cli.authority.given` takes what they give."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
