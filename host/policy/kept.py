"""A policy that the operator keeps for a component, and the lines that would add to what it may do."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from host.names import Reference
from host.policy.document import Policy
from host.policy.secrets import PLACES, SecretGrant

DEFAULT: Final = "default"
_MOST_SHOWN = 20  # entries of a list in a line to be pasted; a longer one is for an editor


@dataclass(frozen=True, slots=True)
class Effective:
    """What is kept for `reference`: the defaults, over them the fields that were set for all its versions, over those
    the ones of its version. `origins` says for each field which of them it is: `default`, or the reference."""

    reference: Reference
    policy: Policy
    origins: Mapping[str, str]

    def adding(self, field: Literal["allowed_domains", "allowed_methods", "allowed_private"], entry: str) -> str:
        """The command that adds `entry` to the list `field` where it was set (where it was not, for all versions), and
        takes nothing from it."""
        origin = self.origins[field]
        scope = str(self.reference.any_version) if origin == DEFAULT else origin
        entries = [*getattr(self.policy, field), entry]
        if len(entries) > _MOST_SHOWN:
            return shlex.join(["host", "policy", "edit", scope])
        return shlex.join(["host", "policy", "set", scope, field, json.dumps(entries)])

    def granting(self, secret: SecretGrant, domain: str) -> str:
        """The command that lets a secret, which is granted already, go to `domain` too. For this very version: there it
        takes the place of any other grant."""
        domains = dict.fromkeys([*map(str, secret.domains or ()), domain])
        words = ["host", "secret", "grant", str(self.reference), str(secret.name)]
        words += [word for one in domains for word in ("--domain", one)]
        words += [word for one in PLACES if one in secret.places for word in ("--in", one)]
        return shlex.join([*words, "--reveal"] if secret.reveal else words)
