"""`cyfr:secrets/read`: secrets by name, as placeholders. The host puts the values in when a request leaves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from host.core.audit import EventKind
from host.core.names import SecretName
from host.core.wit import SECRETS, Err, Ok
from host.egress import Deadline
from host.errors import HostError, InputError, Refusal
from host.policy.permissions import Grant, decide_secret
from host.run import Run
from host.secrets.redaction import Redactor
from host.secrets.value import SecretValue


class Secrets:
    interface = SECRETS

    def __init__(
        self,
        grant: Grant,
        secrets: Mapping[SecretName, SecretValue],
        obtain: Callable[[Run, SecretName], None] | None = None,
    ) -> None:
        """`secrets` are the values that stay. `obtain` puts any other, a token that expires, into `Run.tokens`, or
        raises HostError."""
        self._grant = grant
        self._secrets = secrets
        self._obtain = obtain

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
        if not (name in self._secrets or self._obtain is None) and (lost := unobtained(run, name, self._obtain)):
            run.unavailable = lost
            return Err(f"token-unavailable: no token for {name}")
        if run.first_use(str(name)):
            kind: EventKind = "secret.reveal" if granted.reveal else "secret.use"
            run.audit(kind, "allow", decision.rule, {"secret": str(name)}, held=not granted.reveal)
        if granted.reveal:
            return Ok((run.tokens.get(name) or self._secrets[name]).reveal())
        return Ok(run.placeholders.by_name[str(name)])

    def _refused(self, run: Run, name: SecretName, refusal: Refusal) -> Err:
        if run.first_use(str(name)):
            if name in self._grant.requested.optional_secrets:
                run.audit("secret.use", "deny", refusal.rule, {"secret": str(name), "optional": True})
            else:
                run.refuse("secret.use", refusal)
        return Err(f"access-denied: {name} not granted to {self._grant.reference}")


def unobtained(run: Run, name: SecretName, obtain: Callable[[Run, SecretName], None]) -> HostError | None:
    """Let `run` have a value of the token `name`. Returns why there is none to be had, once that is on record."""
    run.settle()  # it may be asked for, elsewhere
    try:
        obtain(run, name)
    except HostError as error:
        run.audit("secret.use", "deny", str(error), {"secret": str(name)})
        return error
    return None


class ExpiringToken(Protocol):
    """A secret whose value is renewed. Thread-safe."""

    @property
    def known(self) -> tuple[SecretValue, ...]:
        """The values that an answer may show: the last one, and the one before it."""
        ...

    def obtain(self, clock: Deadline) -> SecretValue:
        """A value that is valid now. Raises HostError."""
        ...


class CatalystSecrets:
    """The secrets of one loaded catalyst: `values`, and `tokens` that expire. Its `own` ones show by their
    placeholders, one that stands in for another at some upstream by the placeholder of that, and one that is both, by
    both. Thread-safe."""

    def __init__(
        self,
        values: Mapping[SecretName, SecretValue],
        tokens: Mapping[SecretName, ExpiringToken],
        own: Collection[SecretName],
        stand_ins: Collection[tuple[SecretName, SecretName]] = (),
    ) -> None:
        """`stand_ins` are pairs: one of its own, and the other one."""
        self._shown = [(name, name) for name in (*values, *tokens) if name in own] + list(stand_ins)
        self._values = values
        self._tokens = tokens
        self._made: tuple[tuple[SecretValue, ...], dict[str, str], Redactor] | None = None

    def redactor(self, by_name: Mapping[str, str]) -> Redactor:
        """For a run with these placeholders: it knows each value, and of each token the last two."""
        known = [
            (name, value)
            for name, source in self._shown
            for value in ((self._values[source],) if source in self._values else self._tokens[source].known)
        ]
        made = self._made
        if made is None or not _same(made[0], [value for _, value in known]):
            keys = {f"{name} {number}": (str(name), value) for number, (name, value) in enumerate(known)}
            redactor = Redactor({key: value for key, (_, value) in keys.items()})
            names = {key: name for key, (name, _) in keys.items()}
            made = self._made = tuple(value for _, value in known), names, redactor
        return made[2].renamed({key: by_name[name] for key, name in made[1].items()})

    def obtain(self, run: Run, name: SecretName) -> None:
        """Let `run` use the token `name`, for as long as it goes on. Raises HostError."""
        if name not in run.tokens:
            run.tokens[name] = self._tokens[name].obtain(run)
            run.redactor = self.redactor(run.placeholders.by_name)


def _same(some: tuple[SecretValue, ...], others: list[SecretValue]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
