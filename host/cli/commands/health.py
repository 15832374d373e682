"""`host health`: whether the upstreams of installed catalysts answer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from host.cli.inputs import blaming, opened
from host.cli.options import json_option
from host.cli.output.terminal import as_json, errors_shown, one_line, put, say, table, terminal_width
from host.core.names import Reference
from host.core.quantities import parse_duration
from host.errors import HostError

if TYPE_CHECKING:
    from host.runtime.host import Host
    from host.service.health import Health

_ILL = 1  # the exit status


@click.command("health", short_help="Ask whether the upstreams of catalysts answer.")
@click.argument("reference", metavar="[REF]", required=False)
@click.option("--timeout", default="10s", show_default=True, metavar="DURATION", help="For each; at most 10s.")
@json_option
def health(*, reference: str | None, timeout: str, in_json: bool) -> None:
    """Ask the upstream of REF, or of every approved catalyst, for its models, which costs nothing. Of several upstreams
    of a catalyst each is asked. Each check is a run with a record. The exit status is 1 where one does not answer as it
    should."""
    with errors_shown(in_json=in_json):
        from host.runtime.host import Host  # noqa: PLC0415 - not for `--help`

        with blaming("--timeout"):
            timeout_s = parse_duration(timeout)
        with opened() as workspace, Host(workspace=workspace) as host:
            if reference is not None:
                names = [workspace.components.resolve(Reference.parse(reference)).reference]
            else:
                names = [one.reference for one in workspace.components.all() if one.approved and one.serves]
            found = _checked(host, names, timeout_s)
        if in_json:
            put(as_json([one.as_dict() for one in found]))
        elif not found:
            say("nothing is installed yet")
        else:
            several = any(one.upstream for one in found)
            named = ("upstream",) if several else ()
            rows = []
            for one in found:
                at = [one.upstream] if several else []
                rows.append([one.reference, *at, one.state, f"{one.took_s:.3f} s", one.cause, one_line(one.words)])
            for line in table(("reference", *named, "health", "took", "cause", "words"), rows, width=terminal_width()):
                put(line)
    if any(one.state == "ill" for one in found):
        sys.exit(_ILL)


def _checked(host: Host, names: list[Reference], timeout_s: float) -> list[Health]:
    """The health of each. One that does not load is ill, too."""
    from host.service.health import Health, checked  # noqa: PLC0415 - not for `--help`

    catalysts, found = [], list[Health]()
    for name in names:
        try:
            catalysts.append(host.load(name))
        except HostError as error:
            found.append(Health(str(name), "ill", error.code, str(error)))
    found += checked(catalysts, timeout_s)
    order = [str(name) for name in names]
    return sorted((one for one in found if one.reference in order), key=lambda one: order.index(one.reference))
