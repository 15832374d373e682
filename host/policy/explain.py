"""What a catalyst can and cannot reach, authority by authority: what it imports ∩ what its manifest asks for ∩ what the
operator granted, for people to see.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from host.core.wit import CAPABILITIES, CONFIG, FETCH, LOG, OUTPUT, SECRETS, STREAMING
from host.policy.document import PLACES, Place, SecretGrant
from host.policy.permissions import Asked, Grant, overlap

_TITLES = {
    FETCH: "HTTP requests",
    STREAMING: "streamed answers",
    SECRETS: "secrets",
    OUTPUT: "events to its caller",
    CONFIG: "its configuration",
    LOG: "log messages",
}
_PLACES: dict[Place, str] = {"header": "a header", "url": "the URL", "body": "the body"}
_NEVER = ("files", "sockets", "environment variables", "other programs", "other catalysts")


@dataclass(frozen=True, slots=True)
class Row:
    """One authority; `interface` is empty where no import leads to it. `granted` is what of it the operator grants,
    `asked` what the manifest asks for beyond that: both empty where no grant is needed."""

    authority: str
    interface: str
    imported: bool
    can: bool
    granted: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


def authorities(imports: Iterable[str], grant: Grant) -> Iterator[Row]:
    """A row for every interface of the contract, imported or not, for what else is imported, and for what no import
    leads to."""
    imported = frozenset(imports)
    for interface in CAPABILITIES.values():
        title = _TITLES[interface]
        if interface not in imported:
            yield Row(title, interface, imported=False, can=False)
        elif interface in (FETCH, STREAMING):
            domains, open_ = _domains(grant, grant.asked)
            yield Row(title, interface, imported=True, can=bool(domains), granted=domains, asked=open_)
        elif interface == SECRETS:
            secrets, open_ = _secrets(grant, grant.asked)
            yield Row(title, interface, imported=True, can=bool(secrets), granted=secrets, asked=open_)
        else:
            yield Row(title, interface, imported=True, can=True)
    for interface in sorted(name for name in imported if name.startswith("wasi:")):
        yield Row(interface, interface, imported=True, can=True)
    for title in _NEVER:
        yield Row(title, "", imported=False, can=False)


def _domains(grant: Grant, asked: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The domains that it can reach, and those that it asks for and cannot."""
    wanted = asked.domains
    allowed = [one for one in grant.domains if wanted is None or any(overlap(one, want) for want in wanted)]
    sent = {(source.scheme, source.host, source.port): target for source, target in grant.upstreams.items()}
    return (
        tuple(
            f"{one}, sent to {sent[at]}" if (at := (one.scheme, one.host, one.port)) in sent else str(one)
            for one in allowed
        ),
        tuple(str(want) for want in wanted or () if not any(overlap(one, want) for one in allowed)),
    )


def _secrets(grant: Grant, asked: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The secrets that it can use, with where they go, and those that it asks for and cannot."""
    return (
        tuple(_secret(one) for one in grant.secrets.values()),
        tuple(sorted(str(name) for name in asked.secrets or () if name not in grant.secrets)),
    )


def _secret(grant: SecretGrant) -> str:
    domains = ", ".join(str(domain) for domain in grant.domains or ()) or "no domain"
    seen = "; the guest sees its value" if grant.reveal else ""
    places = " and ".join(_PLACES[place] for place in PLACES if place in grant.places)
    return f"{grant.name}, in {places}, to {domains}{seen}"
