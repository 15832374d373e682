"""The servers: `host serve` over HTTP, `host mcp` over standard input and output, and `host fake` for tests."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from host.cli.inputs import blaming, opened
from host.cli.options import F
from host.cli.output.terminal import errors_shown, say
from host.core import installation
from host.core.fields import did_you_mean
from host.core.names import Reference
from host.core.quantities import parse_duration
from host.errors import InputError, StateError

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace
    from host.server.settings import ServerSettings


def _port_option(default: int) -> Callable[[F], F]:
    port = click.IntRange(0, 65535)
    return click.option(
        "--port", default=default, show_default=True, metavar="PORT", type=port, help="0 takes a free one."
    )


def _log_level_option(default: str, help_: str) -> Callable[[F], F]:
    levels = click.Choice(["debug", "info", "warning", "error"])
    return click.option("--log-level", type=levels, default=default, show_default=True, help=help_)


@click.command("serve", short_help="Serve OpenAI's API and MCP over catalysts.")
@_port_option(4000)
@click.option(
    "--host",
    "address",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="The address to listen on.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, 64),
    help="Processes: one for each core is usual.",
)
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    help="Settings in TOML, YAML or JSON, by its suffix; options add to them.",
)
@click.option("--route", multiple=True, metavar="PREFIX=REF", help="The catalyst for models that begin with PREFIX.")
@click.option("--default", metavar="REF", help="The catalyst for other models, and for requests without a model.")
@click.option("--alias", multiple=True, metavar="NAME=MODEL", help="Another name for a model.")
@click.option(
    "--allowed-host",
    multiple=True,
    metavar="NAME",
    help="Also answer to this name in the Host header: api.example.com; * for any.",
)
@click.option(
    "--cors-origin", multiple=True, metavar="ORIGIN", help="Allow pages of this origin: https://app.example.com."
)
@click.option(
    "--trusted-proxy", multiple=True, metavar="CIDR", help="Trust X-Forwarded-For of these proxies: 10.0.0.0/8."
)
@click.option(
    "--limits",
    metavar="URL",
    help="Count requests and tokens in Redis: redis://…",
    show_default="in the state's database",
)
@click.option(
    "--grace",
    default="30s",
    show_default=True,
    metavar="DURATION",
    help="How long requests may take when the server ends.",
)
@click.option("--tls-cert", metavar="FILE", help="A certificate, for https; with --tls-key.")
@click.option("--tls-key", metavar="FILE", help="Its private key.")
@click.option(
    "--log-format",
    type=click.Choice(["json", "text"]),
    help="The form of what is logged.",
    show_default="text on a terminal, else json",
)
@_log_level_option("info", "The least that is logged.")
def serve(**options: Any) -> None:
    """Serve the installed catalysts: OpenAI's API at /v1, MCP at /mcp, a console at /, /health, /ready and /metrics.

    \b
    host serve --port 4000
    curl http://127.0.0.1:4000/v1/chat/completions \\
        -H 'Content-Type: application/json' \\
        -d '{"model": "gpt-4o-mini",
             "messages": [{"role": "user", "content": "Hello"}]}'

    Clients need a key (`host key create`). While there is none, the users of this machine need none, and other machines
    cannot connect.
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown():
        _serve(**options)


def _serve(
    *,
    address: str,
    port: int,
    workers: int,
    grace: str,
    tls_cert: str | None,
    tls_key: str | None,
    log_format: str | None,
    log_level: str,
    **options: Any,
) -> None:
    try:
        from host.server import serving as program  # noqa: PLC0415 - not for `--help`
    except ModuleNotFoundError as error:
        raise StateError(
            f"the server needs {error.name}, which is not installed", hint=installation.remedy("serve")
        ) from None
    if bool(tls_cert) != bool(tls_key):
        raise InputError("--tls-cert and --tls-key go together", field="--tls-cert")
    with blaming("--grace"):
        grace_s = parse_duration(grace)
    serving = program.Serving(
        settings=_settings(**options),
        address=address,
        port=port,
        workers=workers,
        grace_s=grace_s,
        certificate=tls_cert,
        private_key=tls_key,
        log_level=log_level,
        log_format=log_format or ("text" if sys.stderr.isatty() else "json"),
    )
    with opened() as workspace:
        has_key = program.check(serving, workspace)
        catalog = _catalog(workspace, serving.settings)
    program.serve(serving, lambda url: _say_serving(url, catalog, has_key=has_key))


def _settings(
    *,
    config_file: str | None,
    route: tuple[str, ...],
    default: str | None,
    alias: tuple[str, ...],
    allowed_host: tuple[str, ...],
    cors_origin: tuple[str, ...],
    trusted_proxy: tuple[str, ...],
    limits: str | None,
) -> ServerSettings:
    from dataclasses import replace  # noqa: PLC0415 - not for `--help`

    from host.server.settings import ServerSettings, networks, origins  # noqa: PLC0415 - as above

    settings = ServerSettings.read(config_file) if config_file else ServerSettings()
    settings = settings.with_routes(
        routes=dict(_pair(text, "--route", "PREFIX=REF") for text in route),
        aliases=dict(_pair(text, "--alias", "NAME=MODEL") for text in alias),
        default=default,
    )
    return replace(
        settings,
        allowed_hosts=(*settings.allowed_hosts, *allowed_host),
        cors_origins=(*settings.cors_origins, *origins(cors_origin, "--cors-origin")),
        trusted_proxies=(*settings.trusted_proxies, *networks(trusted_proxy, "--trusted-proxy")),
        limits_url=limits or settings.limits_url,
    )


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name or not value:
        raise InputError(f"{option}: {text!r} is not {form}", field=option)
    return name, value


def _catalog(workspace: Workspace, settings: ServerSettings) -> list[str]:
    """A line for each catalyst that models are routed to. Raises NotFound for one that is not there."""
    from host.service.catalog import completed  # noqa: PLC0415 - not for `--help`

    components = workspace.components.all()
    routing = completed(settings.routing, components, workspace.components.in_order())
    for reference in routing.references:
        workspace.components.resolve(reference)
    lines = [f"models {prefix}… by {reference}" for prefix, reference in sorted(routing.prefix_map.items())]
    for model, group in sorted(routing.failover.items()):
        lines.append(f"model {model} by {', '.join(str(one.reference) for one in group.targets)}")
    if routing.default is not None:
        lines.append(f"{'other' if lines else 'all'} models by {routing.default}")
    if not lines:
        said = "nothing is installed yet (host register FILE; no restart is needed)"
        if waiting := [one for one in components if not one.approved]:
            said = f"what is installed waits for its approval (host approve {waiting[0].reference})"
        elif components:
            said = "what is installed has no operations by routes"
        lines.append(f"no catalyst has any model: {said}")
    return lines


def _say_serving(url: str, catalog: list[str], *, has_key: bool) -> None:
    say(f"serving on {url} (Ctrl-C ends it)")
    for what, path in (("OpenAI's API", "/v1"), ("MCP", "/mcp"), ("console", "/")):
        say(f"  {what:12}  {url}{path}")
    for line in catalog:
        say(f"  {line}")
    if not has_key:
        say("there is no key: any is accepted, on this machine alone (host key create ends that)")


class _DesktopClients(click.Command):
    """Its help has the command by which a desktop client can start this program: it has another PATH than a shell."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        command, *arguments = installation.absolute_command()
        parts = {"COMMAND": json.dumps(command), "ARGUMENTS": json.dumps([*arguments, "mcp"])}
        self.help = re.sub("|".join(parts), lambda found: parts[found[0]], self.help or "")
        super().format_help_text(ctx, formatter)


@click.command("mcp", cls=_DesktopClients, short_help="Serve MCP to a desktop client, over standard input and output.")
@click.option("--reference", "references", multiple=True, metavar="REF", help="Only this catalyst.", show_default="all")
@click.option(
    "--tool",
    "listed",
    multiple=True,
    metavar="GLOB",
    help="Where there are more than 40 tools, list these operations, like 'chat.*'; the others are found by search.",
)
@click.option(
    "--manage",
    is_flag=True,
    help="Add the tools that set secrets and policies. Careful: an agent may obey texts of strangers.",
)
@_log_level_option("warning", "The least that is logged, on standard error.")
def mcp(*, references: tuple[str, ...], listed: tuple[str, ...], manage: bool, log_level: str) -> None:
    """Serve the installed catalysts as tools, by the Model Context Protocol, to the program that starts this one. Each
    run is in a sandbox, with the grants of its catalyst and nothing else.

    In the configuration of a desktop client:

    \b
    {
      "mcpServers": {
        "catalysts": {"command": COMMAND, "args": ARGUMENTS}
      }
    }

    A client does not have your shell's environment either: what you set there, such as HOST_STATE_DIR, goes into "env".

    The client may run operations, and see runs and components. To change anything takes --manage. It ends at the end of
    its standard input.
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown():
        only = [Reference.parse(text) for text in references]
        try:
            from host.server.mcp.stdio import serve_standard_streams  # noqa: PLC0415 - as above
            from host.server.observability import logs  # noqa: PLC0415 - not for `--help`
            from host.store.access.api_keys import operation_glob  # noqa: PLC0415 - brings a database
        except ModuleNotFoundError as error:
            raise StateError(
                f"this needs {error.name}, which is not installed", hint=installation.remedy("serve")
            ) from None
        if only:
            with opened() as workspace:
                there = {one.reference for one in workspace.components.all()}
            known = {str(one) for version in there for one in (version, version.any_version)}
            for reference in only:
                if str(reference) not in known:
                    hint = did_you_mean(str(reference), sorted(known), "it is served once it is there: host register")
                    say(f"note: there is no {reference}: {hint}")
        if sys.stdin.isatty():
            say("reading MCP messages from standard input, which a client usually writes (Ctrl-D ends it)")
        logs.configure(level=log_level, in_json=not sys.stderr.isatty())
        serve_standard_streams(only, listed=[operation_glob(text) for text in listed], manage=manage)


@click.group("fake", short_help="Run a stand-in for an outside service.")
def fake() -> None:
    """Run a deterministic fake of an outside service, on the loopback interface."""


@fake.command("openai", short_help="A deterministic OpenAI API.")
@_port_option(4747)
@click.option(
    "--shape",
    type=click.Choice(["azure", "ollama", "vllm", "localai", "lmstudio", "openrouter", "groq", "proxy"]),
    help="The paths, the keys and the errors of another server of the same API.",
    show_default="OpenAI's own",
)
def openai(port: int, shape: str | None) -> None:
    """Serve an OpenAI API whose answers depend on the requests alone: no key, no cost, no network.

    It has every operation of the official SDK. What is made there stays until it is deleted, expires or the fake ends.
    Administration takes a key that begins with `sk-admin`. Requests to /__parlel/faults script faults, those to
    /__parlel/clock set the clock forward, and /__parlel/requests has what arrived.
    """
    from host.fakes import FakeOpenAI  # noqa: PLC0415 - only this fake needs it

    with errors_shown():
        fake = FakeOpenAI(port=port, shape=shape or "")
        fake.serve_forever(lambda _: click.echo(f"fake OpenAI on {fake.base_url} (any key will do; Ctrl-C ends it)"))
