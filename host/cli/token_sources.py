"""The options of `host secret set` for tokens that expire: an OAuth token endpoint, or a program that prints them."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from host.cli.inputs import blaming
from host.cli.options import HIDDEN, HiddenText
from host.cli.secret_values import read_value
from host.core.names import SecretName
from host.core.quantities import parse_duration
from host.errors import InputError
from host.store.vault.tokens import UNKNOWN_LIFE_S, CommandSource, OAuthSource, TokenSource

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--oauth", metavar="URL", help="In place of a value: tokens of this OAuth 2.0 token endpoint."),
    click.option("--client-id", metavar="TEXT", help="The client, for --oauth."),
    click.option(
        "--client-secret",
        type=HIDDEN,
        metavar="SOURCE",
        help="Its secret, from a source as in --from. Without --refresh-token it is asked for.",
    ),
    click.option(
        "--refresh-token", type=HIDDEN, metavar="SOURCE", help="A refresh token, in place of client credentials."
    ),
    click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="What the tokens are for."),
    click.option("--param", "more", multiple=True, metavar="NAME=TEXT", help="Another parameter: audience, resource."),
    click.option("--in-body", is_flag=True, help="Send the client's credentials in the body, not in a header."),
    click.option(
        "--allow-private",
        multiple=True,
        metavar="CIDR",
        help="The token endpoint may be there: 10.0.0.0/8.",
    ),
    click.option("--ca-file", metavar="FILE", help="The certificate authorities that count at the token endpoint."),
    click.option("--exec", "command", metavar="COMMAND", help="In place of a value: tokens that this program prints."),
    click.option("--env", "variables", multiple=True, metavar="NAME", help="A variable that the program gets."),
    click.option(
        "--lifetime",
        metavar="DURATION",
        help="How long its token is valid, where it does not say.",
        show_default="5m",
    ),
)


def token_options(command: F) -> F:
    """The decorator that adds all of them. `TokenWords` takes their values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class TokenWords:
    """What was typed of these options."""

    oauth: str | None
    client_id: str | None
    client_secret: HiddenText | None
    refresh_token: HiddenText | None
    scopes: tuple[str, ...]
    more: tuple[str, ...]
    in_body: bool
    allow_private: tuple[str, ...]
    ca_file: str | None
    command: str | None
    variables: tuple[str, ...]
    lifetime: str | None

    def source(self, name: SecretName) -> TokenSource | None:
        """The source that they describe; None for none. Raises InputError, which names the option."""
        if self.oauth is not None and self.command is not None:
            raise InputError("--oauth does not go with --exec", field="--exec")
        of_program = {"--env": self.variables, "--lifetime": self.lifetime}
        of_endpoint = {
            "--client-id": self.client_id,
            "--client-secret": self.client_secret,
            "--refresh-token": self.refresh_token,
            "--scope": self.scopes,
            "--param": self.more,
            "--in-body": self.in_body,
            "--allow-private": self.allow_private,
            "--ca-file": self.ca_file,
        }
        if self.oauth is None:
            _none_of(of_endpoint, "--oauth URL")
        if self.command is None:
            _none_of(of_program, "--exec COMMAND")
        if self.oauth is not None:
            return self._endpoint(self.oauth, name)
        return None if self.command is None else self._program(self.command)

    def _endpoint(self, url: str, name: SecretName) -> OAuthSource:
        if self.client_id is None:
            raise InputError("--oauth needs --client-id ID", field="--client-id")
        with blaming("--param", hint="NAME=TEXT, like audience=https://api.acme.example"):
            more = dict(map(_parameter, self.more))
        refresh = None if self.refresh_token is None else read_value(name, self.refresh_token)
        wanted = self.client_secret is not None or refresh is None
        secret = read_value(name, self.client_secret) if wanted else None
        with blaming("--oauth"):
            return OAuthSource(
                token_url=url,
                client_id=self.client_id,
                client_secret=secret,
                refresh_token=refresh,
                scope=" ".join(self.scopes),
                credentials="body" if self.in_body else "basic",
                more=more,
                private=self.allow_private,
                ca_file=None if self.ca_file is None else str(Path(self.ca_file).absolute()),
            )

    def _program(self, command: str) -> CommandSource:
        """Found in PATH now, so that nothing that comes before it there takes its place later."""
        with blaming("--exec", hint="a program and its arguments, quoted as for a shell; no shell reads them"):
            try:
                words = shlex.split(command)
            except ValueError:
                raise InputError("a quotation mark is not closed") from None
            if not words:
                raise InputError("it names no program")
            if (found := shutil.which(words[0])) is None:
                raise InputError(f"there is no program {words[0][:80]}", hint="is it installed, and in PATH?")
            argv = (str(Path(found).absolute()), *words[1:])
        with blaming("--lifetime"):
            life_s = UNKNOWN_LIFE_S if self.lifetime is None else parse_duration(self.lifetime)
            return CommandSource(argv=argv, environment=self.variables, life_s=life_s)


def _none_of(options: Mapping[str, object], needed: str) -> None:
    for option, value in options.items():
        if value:
            raise InputError(f"{option} goes with {needed}", field=option)


def _parameter(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InputError(f"{text[:80]!r} has no = in it" if name else "it has no name")
    if name in ("grant_type", "client_id", "client_secret", "refresh_token", "scope"):
        raise InputError(f"{name} is no parameter of yours")
    return name, value
