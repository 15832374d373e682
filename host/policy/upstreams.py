"""The part of a policy that says where the requests for an origin are sent: to another one, or to one of several.

With several, a request goes to the next one where the first does not serve it: see `host.capabilities.attempts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from reprlib import repr as shown  # short, of whatever size
from typing import Final

from host.core.names import SecretName
from host.core.preference import check_preference
from host.errors import InputError, PolicyError
from host.policy.reliability import in_field
from host.policy.urls import Origin

MOST_UPSTREAMS: Final = 16  # of one origin
_AN_ORIGIN: Final = "like https://api.openai.com"


@dataclass(frozen=True, kw_only=True)
class UpstreamRule:
    """One of several upstreams of an origin. Those of a lower `priority` come first; those of one priority share by
    `weight`, and where all have the same one, come in the order of the list. `secrets` has other secrets of the
    operator's that take the place of the catalyst's at this upstream, by the name of the latter."""

    origin: str
    priority: int = 1
    weight: int = 1
    secrets: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with in_field("origin"):
            read_origin(self.origin)
        try:
            check_preference(self, "an upstream")
        except InputError as error:
            raise PolicyError(f"{error.field}: {error.message}", field=error.field, hint=error.hint) from None
        with in_field("secrets"):
            _secrets(self.secrets)


@dataclass(frozen=True, slots=True)
class UpstreamPlace:
    """An UpstreamRule, parsed. `secrets`: a secret of the catalyst -> the operator's secret in its place."""

    origin: Origin
    priority: int = 1
    weight: int = 1
    secrets: Mapping[SecretName, SecretName] = field(default_factory=dict)

    def __str__(self) -> str:
        others = ", ".join(f"{other} as {name}" for name, other in self.secrets.items())
        return f"{self.origin} (with {others})" if others else str(self.origin)


def read_places(given: object) -> tuple[UpstreamPlace, ...]:
    """What `upstreams` has for one origin: a text, or a list of texts and UpstreamRules. Raises PolicyError."""
    if isinstance(given, str):
        return (UpstreamPlace(read_origin(given)),)
    if not isinstance(given, Sequence):
        raise PolicyError(f"{shown(given)} is not an origin, or a list of some", hint=_AN_ORIGIN)
    if not 1 <= len(given) <= MOST_UPSTREAMS:
        raise PolicyError(f"there are {len(given)} upstreams", hint=f"1 to {MOST_UPSTREAMS}")
    places = tuple(_place(one) for one in given)
    if len({one.origin for one in places}) < len(places):
        raise PolicyError("an upstream is named twice", hint="once, with a weight")
    return places


def _place(given: object) -> UpstreamPlace:
    if isinstance(given, UpstreamRule):
        return UpstreamPlace(read_origin(given.origin), given.priority, given.weight, _secrets(given.secrets))
    return UpstreamPlace(read_origin(given))


def _secrets(given: object) -> dict[SecretName, SecretName]:
    if not isinstance(given, Mapping):
        raise PolicyError(f"{shown(given)} is not a table", hint='like {OPENAI_API_KEY = "AZURE_API_KEY"}')
    return {_name(name): _name(other) for name, other in given.items()}


def _name(given: object) -> SecretName:
    if not isinstance(given, str):
        raise PolicyError(f"{shown(given)} is not the name of a secret")
    return SecretName.parse(given)


def read_origin(given: object) -> Origin:
    """Raises PolicyError, UrlError."""
    if not isinstance(given, str):
        raise PolicyError(f"{shown(given)} is not an origin", hint=_AN_ORIGIN)
    return Origin.parse(given)
