"""`cyfr:secrets/read`: secrets by name, as placeholders. The host puts the values in when a request leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.core.names import SecretName
from host.core.wit import SECRETS, Err, Ok
from host.errors import InputError, Refusal
from host.policy.permissions import Grant, decide_secret
from host.run import Run
from host.secrets.value import SecretValue


class Secrets:
    interface = SECRETS

    def __init__(self, grant: Grant, secrets: Mapping[SecretName, SecretValue]) -> None:
        self._grant = grant
        self._secrets = secrets

    def functions(self) -> Mapping[str, Any]:
        return {"get": self.get}

    def get(self, run: Run, given: str) -> Ok | Err:
        try:
            name = SecretName.parse(given)
        except InputError as error:
            run.audit("secret.use", "deny", error.message)
            return Err(f"access-denied: {error.message}")
        decision = decide_secret(name, self._grant)
        if isinstance(decision, Refusal):
            return self._refused(run, name, decision)
        granted = self._grant.secrets[name]
        if run.first_use(str(name)):
            run.audit(
                "secret.reveal" if granted.reveal else "secret.use", "allow", decision.rule, {"secret": str(name)}
            )
        return Ok(self._secrets[name].reveal() if granted.reveal else run.placeholders.by_name[str(name)])

    def _refused(self, run: Run, name: SecretName, refusal: Refusal) -> Err:
        if run.first_use(str(name)):
            if name in self._grant.requested.optional_secrets:
                run.audit("secret.use", "deny", refusal.rule, {"secret": str(name), "optional": True})
            else:
                run.refuse("secret.use", refusal)
        return Err(f"access-denied: {name} not granted to {self._grant.reference}")
