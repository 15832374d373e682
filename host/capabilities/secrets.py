"""`cyfr:secrets/read`: secrets by name, as placeholders that the host replaces when a request leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.core.names import SecretName
from host.core.wit import SECRETS, Err, Ok
from host.errors import InputError, Refusal
from host.policy.permissions import Grant, decide_secret
from host.run import Call
from host.secrets.value import SecretValue


class Secrets:
    interface = SECRETS

    def __init__(self, grant: Grant, secrets: Mapping[SecretName, SecretValue]) -> None:
        self._grant = grant
        self._secrets = secrets

    def functions(self) -> Mapping[str, Any]:
        return {"get": self.get}

    def get(self, call: Call, given: str) -> Ok | Err:
        try:
            name = SecretName.parse(given)
        except InputError as error:
            call.audit("secret.use", "deny", error.message)
            return Err(f"access-denied: {error.message}")
        decision = decide_secret(name, self._grant)
        if isinstance(decision, Refusal):
            return self._refused(call, name, decision)
        granted = self._grant.secrets[name]
        if call.first_use(str(name)):
            call.audit(
                "secret.reveal" if granted.reveal else "secret.use", "allow", decision.rule, {"secret": str(name)}
            )
        return Ok(self._secrets[name].reveal() if granted.reveal else call.placeholders.by_name[str(name)])

    def _refused(self, call: Call, name: SecretName, refusal: Refusal) -> Err:
        if call.first_use(str(name)):
            if name in self._grant.asked.optional_secrets:
                call.audit("secret.use", "deny", refusal.rule, {"secret": str(name), "optional": True})
            else:
                call.refuse("secret.use", refusal)
        return Err(f"access-denied: {name} not granted to {self._grant.reference}")
