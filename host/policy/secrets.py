"""Which secret may go where."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

from host.names import SecretName
from host.policy.domains import DomainPattern
from host.policy.urls import Origin, Target

Place = Literal["header", "url", "body"]
PLACES: tuple[Place, ...] = ("header", "url", "body")


@dataclass(frozen=True, slots=True)
class SecretGrant:
    """The secret `name` may be put into `places` of requests to `domains`; with `reveal` the guest sees its value.
    `domains` None stands for the policy's own until the grant is made, and covers nothing."""

    name: SecretName
    domains: tuple[DomainPattern, ...] | None
    places: frozenset[Place] = frozenset({"header"})
    reveal: bool = False

    def goes_to(self, target: Target, mapped: Container[Origin]) -> bool:
        """Whether the secret may travel to `target`: one of its domains, over https or to an origin that the operator
        sends elsewhere (`mapped` has the origins as the catalyst names them)."""
        over_tls = target.scheme == "https" or target.at in mapped
        return over_tls and any(domain.matches(target) for domain in self.domains or ())
