"""The command line. Faces translate, they do not decide: each command turns arguments into a call of `host.runtime` and
shows what came of it, JSON on standard output and words on standard error.

Exit status: 0 done; 1 the operation answered with an error status; 2 usage; 3 denied by policy; 4 the sandbox failed;
5 the artifact is not acceptable; 6 the host's own state; 130 interrupted.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from typing import NoReturn

import click

_COMMANDS = {  # name -> module; each is imported when it is called for
    "approve": "host.cli.approve",
    "audit": "host.cli.audit",
    "build": "host.cli.build",
    "config": "host.cli.config",
    "fake": "host.cli.fake",
    "inspect": "host.cli.inspect",
    "list": "host.cli.list",
    "policy": "host.cli.policy",
    "pull": "host.cli.pull",
    "push": "host.cli.push",
    "register": "host.cli.register",
    "run": "host.cli.run",
    "runs": "host.cli.runs",
    "search": "host.cli.search",
    "secret": "host.cli.secret",
    "sign": "host.cli.sign",
    "signing-key": "host.cli.signing_key",
    "trust": "host.cli.trust",
    "unregister": "host.cli.unregister",
    "verify": "host.cli.verify",
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(_COMMANDS[cmd_name]).command
        return command


_EXIT_STATUS = """\b
Exit status:
  0    done
  1    the operation answered with an error status
  2    usage: an argument, an input or a policy is malformed
  3    denied: the policy refused something, and the run failed
  4    the sandbox failed: an exception, a deadline, a limit
  5    the component or its manifest is not acceptable
  6    the host's own state: a cache, a port, a key
  130  interrupted
"""


def program() -> NoReturn:
    """`host`: the command line, then the end of the process at once. A short life leaves little to collect, and the
    system takes back a mapped component and its pool faster than they could be given back piece by piece. Everything
    that has to be closed has been by then."""
    gc.set_threshold(50_000)
    _open_standard_streams()
    status: object = 0
    try:
        main()
    except SystemExit as ended:
        status = ended.code
    except Exception:  # noqa: BLE001 - a fault of ours, told whole
        sys.excepthook(*sys.exc_info())
        status = 6
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # whoever read it has gone
        status = status or 1
    os._exit(status if isinstance(status, int) else int(status is not None))


def _open_standard_streams() -> None:
    """Those that were closed (`>&-`), on the null device: nothing that is opened later can take their place, and be
    written to by mistake."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for the whole process


@click.group(cls=_Lazy, epilog=_EXIT_STATUS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="catalyst-host", prog_name="host")
def main() -> None:
    """Run API plugins that you don't have to trust: WebAssembly components, each operation in a fresh sandbox, with
    HTTP, secrets and domains only as you grant them."""
