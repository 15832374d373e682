"""`host policy check`: whether a request would be let through, and by which rule; without making it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from host.cli.show import as_json, as_words, errors_shown, put
from host.cli.state import opened
from host.errors import Denied
from host.foresight import Answer, would_reach
from host.names import Reference
from host.policy.grant import Allow, Deny


@click.command("check", short_help="Say whether a request would be allowed.")
@click.argument("reference", metavar="REF")
@click.argument("url", metavar="URL")
@click.option("--method", default="GET", show_default=True, metavar="METHOD", help="Of the request.")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
def check(*, reference: str, url: str, method: str, in_json: bool) -> None:
    """Say whether REF may send a request to URL, by which rule, and what would allow it. Nothing is sent and no name is
    looked up. Exit status 0: allowed; 3: denied."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            answer = would_reach(workspace, Reference.parse(reference), url, method.upper())
        put(as_json(answer.as_dict()) if in_json else "\n".join(_lines(answer)))
        sys.exit(0 if isinstance(answer.decision, Allow) else Denied.exit_status)


def _lines(answer: Answer) -> Iterator[str]:
    decision = answer.decision
    yield as_words(f"{'deny' if isinstance(decision, Deny) else 'allow'}: {answer.request}")
    rows = {
        "rule": decision.rule,
        "remedy": decision.remedy if isinstance(decision, Deny) else "",
        "sent to": answer.sent_to,
        "address": answer.address,
        "secrets": "; ".join(answer.secrets),
        "note": "" if answer.installed else "it is not installed: what its manifest asks for is not known",
    }
    for name, text in rows.items():
        if text:
            yield as_words(f"  {name:8} {text}")
