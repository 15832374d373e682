"""`host policy check`: whether a request would be let through, and by which rule; without making it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from host.cli.foresight import Foreseen, foresee
from host.cli.show import as_json, as_words, errors_shown, put
from host.cli.state import opened
from host.contract import FETCH, STREAMING
from host.errors import Denied, InputError
from host.names import Domain, Reference
from host.policy.addresses import classify
from host.policy.grant import Allow, Decision, Deny, Grant, decide, deny_address
from host.policy.secrets import PLACES
from host.policy.urls import Target, UrlError


@click.command("check", short_help="Say whether a request would be allowed.")
@click.argument("reference", metavar="REF")
@click.argument("url", metavar="URL")
@click.option("--method", default="GET", show_default=True, metavar="METHOD", help="Of the request.")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
def check(*, reference: str, url: str, method: str, in_json: bool) -> None:
    """Say whether REF may send a request to URL, by which rule, and what would allow it. Nothing is sent and no name is
    looked up. Exit status 0: allowed; 3: denied."""
    with errors_shown(in_json=in_json):
        target = _target(url)
        with opened() as workspace:
            answer = _answer(target, method.upper(), foresee(workspace, Reference.parse(reference)))
        put(as_json(answer.as_dict()) if in_json else "\n".join(answer.lines()))
        sys.exit(0 if isinstance(answer.decision, Allow) else Denied.exit_status)


@dataclass(frozen=True, slots=True)
class Answer:
    """`sent_to` is where the operator sends the request instead, `address` what still depends on the address that it
    goes to; `secrets` may be put into it."""

    request: str
    decision: Decision
    sent_to: str
    address: str
    secrets: tuple[str, ...]
    installed: bool

    def as_dict(self) -> dict[str, Any]:
        denied = isinstance(self.decision, Deny)
        remedy = {"remedy": self.decision.remedy} if isinstance(self.decision, Deny) else {}
        return {
            "decision": "deny" if denied else "allow",
            "request": self.request,
            "rule": self.decision.rule,
            **remedy,
            "sent_to": self.sent_to or None,
            "address": self.address or None,
            "secrets": list(self.secrets),
            "installed": self.installed,
        }

    def lines(self) -> Iterator[str]:
        denied = isinstance(self.decision, Deny)
        yield as_words(f"{'deny' if denied else 'allow'}: {self.request}")
        rows = {
            "rule": self.decision.rule,
            "remedy": self.decision.remedy if isinstance(self.decision, Deny) else "",
            "sent to": self.sent_to,
            "address": self.address,
            "secrets": "; ".join(self.secrets),
            "note": "" if self.installed else "it is not installed: what its manifest asks for is not known",
        }
        for name, text in rows.items():
            if text:
                yield as_words(f"  {name:8} {text}")


def _target(url: str) -> Target:
    try:
        return Target.parse(url)
    except UrlError as error:
        raise InputError(f"URL: {error.reason}", field="URL") from None


def _answer(target: Target, method: str, foreseen: Foreseen) -> Answer:
    grant = foreseen.grant
    destination = grant.destination(target)
    decision, address = _decided(target, method, foreseen), ""
    if isinstance(decision, Allow):
        decision, address = _addressed(destination, decision, grant)
    allowed = isinstance(decision, Allow)
    return Answer(
        request=f"{method} {target.shown}",
        decision=decision,
        sent_to=destination.origin if allowed and destination is not target else "",
        address=address,
        secrets=tuple(_secrets(target, grant)) if allowed else (),
        installed=foreseen.component is not None,
    )


def _decided(target: Target, method: str, foreseen: Foreseen) -> Decision:
    grant = foreseen.grant
    if foreseen.component is not None and not grant.interfaces & {FETCH, STREAMING}:
        rule = "the component imports nothing that sends requests"
        return Deny("domain_blocked", rule, "no grant can allow it", grantable=False)
    return decide(target, method, grant)


def _addressed(destination: Target, allowed: Allow, grant: Grant) -> tuple[Decision, str]:
    """The decision with what is known of the address, and what is not known before the request is made."""
    from host.egress import Reach  # noqa: PLC0415 - what decides at each connection

    host = destination.host
    reach = Reach(private=grant.private, mapped=frozenset(map(str, grant.upstreams.values())))
    if str(destination.at) in reach.mapped:
        return allowed, "any: the operator named its origin in upstreams"
    if isinstance(host, Domain):
        private = f", or in {', '.join(map(str, grant.private))}" if grant.private else ""
        return allowed, f"decided at each connection: all that {host} resolves to has to be public{private}"
    if not reach.accepts(destination.at, host):
        return deny_address(destination.at, f"{host} is not public ({classify(host)})", grant), ""
    return allowed, "public" if classify(host) is None else "in allowed_private"


def _secrets(target: Target, grant: Grant) -> Iterator[str]:
    for secret in grant.secrets_for(target):
        places = ", ".join(place for place in PLACES if place in secret.places)
        yield f"{secret.name} in {places}"
