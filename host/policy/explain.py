"""The permissions of a catalyst as rows to show to people: for each capability, whether the component imports it,
what is granted, and what its manifest requests beyond that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from host.core.headers import HEADER
from host.core.wit import CAPABILITIES, CONFIG, FETCH, LOG, OUTPUT, SECRETS, STREAMING, WASI_INERT, WEBSOCKET
from host.policy.document import PLACES, SecretGrant, listed_places
from host.policy.permissions import Grant, overlap
from host.policy.upstreams import UpstreamPlace

_TITLES = {
    FETCH: "HTTP requests",
    STREAMING: "streamed answers",
    SECRETS: "secrets",
    OUTPUT: "events to its caller",
    CONFIG: "its configuration",
    LOG: "log messages",
    WEBSOCKET: "WebSockets",
}
_PLACES = {"header": "a header", "url": "the URL", "body": "the body"}
_INERT = "inert: no directory is opened"
_SENT_TO = ", sent to "
_NEVER = ("files", "sockets", "environment variables", "other programs", "other catalysts")


def without_destination(granted: str) -> str:
    """An entry of `Permission.granted` without the origin that the operator sends its requests to."""
    return granted.partition(_SENT_TO)[0]


@dataclass(frozen=True, slots=True)
class Permission:
    """One row. `authority` is its title. `interface` is empty where no import provides it. `granted` lists what the
    operator grants, `asked` what the manifest requests beyond that; both are empty where no grant is needed. Of an
    inert interface `can` is false, and `granted` says why. The names of the fields are those of the JSON output."""

    authority: str
    interface: str
    imported: bool
    can: bool
    granted: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


def list_permissions(imports: Iterable[str], grant: Grant) -> Iterator[Permission]:
    """A row for every interface of the contract, imported or not; for each import of WASI; and for each thing that no
    import provides."""
    imported = frozenset(imports)
    for interface in CAPABILITIES.values():
        title = _TITLES[interface]
        if interface not in imported:
            yield Permission(title, interface, imported=False, can=False)
        elif interface in (FETCH, STREAMING, WEBSOCKET):
            domains, open_ = _domains(grant)
            yield Permission(title, interface, imported=True, can=bool(domains), granted=domains, asked=open_)
        elif interface == SECRETS:
            secrets, open_ = _secrets(grant)
            yield Permission(title, interface, imported=True, can=bool(secrets), granted=secrets, asked=open_)
        else:
            yield Permission(title, interface, imported=True, can=True)
    for interface in sorted(name for name in imported if name.startswith("wasi:")):
        inert = WASI_INERT.match(interface) is not None
        yield Permission(interface, interface, imported=True, can=not inert, granted=(_INERT,) if inert else ())
    for title in _NEVER:
        yield Permission(title, "", imported=False, can=False)


def _domains(grant: Grant) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The domains that it may reach, and the other domains that it requests."""
    wanted = grant.requested.domains
    allowed = [one for one in grant.domains if wanted is None or any(overlap(one, want) for want in wanted)]
    sent = {
        (source.scheme, source.host, source.port): shown_upstreams(places) for source, places in grant.upstreams.items()
    }
    return (
        tuple(
            f"{one}{_SENT_TO}{sent[at]}" if (at := (one.scheme, one.host, one.port)) in sent else str(one)
            for one in allowed
        ),
        tuple(str(want) for want in wanted or () if not any(overlap(one, want) for one in allowed)),
    )


def shown_upstreams(places: Sequence[UpstreamPlace]) -> str:
    """`https://a`; of several, by priority: `https://a or https://b, else https://c`."""
    ranks = groupby(sorted(places, key=attrgetter("priority")), key=attrgetter("priority"))
    return ", else ".join(" or ".join(_weighed(list(equals))) for _, equals in ranks)


def _weighed(equals: Sequence[UpstreamPlace]) -> list[str]:
    """With their shares, where these differ."""
    if len({one.weight for one in equals}) == 1:
        return list(map(str, equals))
    return [f"{one} ({one.weight} of {sum(other.weight for other in equals)})" for one in equals]


def _secrets(grant: Grant) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The secrets that it may use, with their destinations, and the other secrets that it requests."""
    return (
        tuple(_secret(one) for one in grant.secrets.values()),
        tuple(sorted(map(grant.requested.shown, (grant.requested.secrets or frozenset()).difference(grant.secrets)))),
    )


def _secret(grant: SecretGrant) -> str:
    domains = ", ".join(str(domain) for domain in grant.domains or ()) or "no domain"
    seen = "; the guest sees its value" if grant.reveal else ""
    places = " and ".join(_place(place, grant) for place in PLACES if place in grant.places)
    return f"{grant.name}, in {places}, to {domains}{seen}"


def _place(place: str, grant: SecretGrant) -> str:
    """Headers beyond those that carry credentials are named."""
    named = [one.removeprefix(HEADER) for one in listed_places(grant.places) if one.startswith(HEADER)]
    named += [f"{name}, which its manifest names" for name in sorted(grant.declared.difference(named))]
    return _PLACES[place] + (f" (also {'; '.join(named)})" if named and place == "header" else "")
