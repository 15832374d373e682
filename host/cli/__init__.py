"""The command line: it turns arguments into calls of `host.service` and `host.runtime`, and shows their results.

Results go to standard output, words and errors to standard error; `_EXIT_STATUS` lists the exit statuses. It may import
all of `host`, and decides nothing. A new command is a function in `commands/` and a line in `_COMMANDS`; a new way to
show something is a function in `output/`. Start-up is fast: what a command needs beyond its help, it imports when it
runs.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

import click

from host.core.installation import DISTRIBUTION, NAMES, typed_name

# The sections of the help, and where each command is: its module in `commands`, and its name there.
_COMMANDS: Mapping[str, Mapping[str, str]] = {
    "Run": {
        "run": "run:run",
        "batch": "batch:batch",
        "inspect": "inspect:inspect",
        "build": "build:build",
        "fake": "serve:fake",
    },
    "Keep": {
        "register": "component:register",
        "list": "component:list_",
        "search": "component:search",
        "unregister": "component:unregister",
        "approve": "component:approve",
        "pin": "component:pin",
        "unpin": "component:unpin",
        "secret": "secret:secret",
        "policy": "policy:policy",
        "config": "config:config",
    },
    "Serve": {
        "serve": "serve:serve",
        "mcp": "serve:mcp",
        "key": "key:key",
        "health": "health:health",
    },
    "Hand on": {
        "sign": "sign:sign",
        "verify": "sign:verify",
        "signing-key": "sign:signing_key",
        "trust": "trust:trust",
        "push": "component:push",
        "pull": "component:pull",
    },
    "Look back": {
        "runs": "runs:runs",
        "audit": "audit:audit",
        "docs": "docs:docs",
    },
}
_MODULES = {name: place for commands in _COMMANDS.values() for name, place in commands.items()}
COMMANDS = tuple(_MODULES)


class _LazyGroup(click.Group):
    """Imports the module of a command when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _MODULES:
            return None
        module, _, attribute = _MODULES[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"host.cli.commands.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _MODULES and not args[0].startswith("-"):
            from host.core.fields import did_you_mean  # noqa: PLC0415 - for mistakes alone

            hint = did_you_mean(args[0], COMMANDS, f"{ctx.info_name} --help lists them")
            ctx.fail(f"No such command {args[0][:80]!r}: {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:  # click would suggest the former names of options too
            found = error.ctx or ctx
            shown = [name for one in found.command.get_params(found) for name in (*one.opts, *one.secondary_opts)]
            options = [name for name in shown if name.startswith("--")]
            raise click.NoSuchOption(error.option_name, possibilities=options, ctx=found) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for section, names in _COMMANDS.items():
            with formatter.section(section):
                found = ((name, self.get_command(ctx, name)) for name in names)
                formatter.write_dl(
                    [(f"{name:{width}}", command.get_short_help_str()) for name, command in found if command]
                )


_EXIT_STATUS = """\b
Exit status:
  0    done
  1    the operation answered with an error status, or a registry failed
  2    usage: an argument, an input or a policy is malformed
  3    denied: the policy refused something, and the run failed
  4    the sandbox failed: an exception, a deadline, a limit
  5    the component or its manifest is not acceptable
  6    the host's own state: a cache, a port, a key
  130  interrupted
"""


def program() -> NoReturn:
    """The program `host`. It ends the process at once: a short life leaves little garbage, and the system frees a
    mapped component and its pool faster than Python would. Everything that has to be closed is closed by then."""
    gc.set_threshold(100_000)
    _open_standard_streams()
    if (name := typed_name()) != NAMES[0]:
        from host.cli.output.terminal import speak_as  # noqa: PLC0415 - few calls need it

        speak_as(name, COMMANDS)
    status: object = 0
    try:
        main()
    except SystemExit as ended:
        status = ended.code
    except Exception as error:  # noqa: BLE001 - a fault of ours, shown whole, unless it is standard output's
        if isinstance(error, OSError) and (why := _output_fails()):
            _say(f"error: cannot write to standard output: {why}")
        else:
            sys.excepthook(*sys.exc_info())
        status = 6
    if why := _output_fails():
        if status in (0, None):
            _say(f"error: cannot write to standard output: {why}")
        status = status or 6
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def _open_standard_streams() -> None:
    """Open those that were closed (`>&-`). Otherwise a file that is opened later would take their place, and be written
    to by mistake. A closed standard output is opened so that no result can be written to it, and none is lost in
    silence. Where a stream is not in UTF-8 (LANG=C), what it cannot show is written as an escape."""
    for name, mode in (("stdin", "r"), ("stdout", "r"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for the whole process
        elif name == "stdout" and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")


def _output_fails() -> str:
    """The reason why standard output takes nothing, or no more; "" if it does, and where its reader has gone: what it
    wanted, it has."""
    failed = sys.exc_info()[0] is not None
    if not sys.stdout.writable():
        return "it is closed" if failed else ""
    try:
        if failed:
            sys.stdout.write("\n")  # what could not be written is no longer in its buffer
        sys.stdout.flush()
    except OSError as error:
        return "" if error.errno == errno.EPIPE else error.strerror or type(error).__name__
    return ""


def _say(text: str) -> None:
    with suppress(OSError):
        click.echo(text, err=True)


@click.group(cls=_LazyGroup, epilog=_EXIT_STATUS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=DISTRIBUTION)
def main() -> None:
    """Run API plugins that you don't have to trust: WebAssembly components, each operation in a fresh sandbox, with
    only the HTTP, secrets and domains that you grant."""
