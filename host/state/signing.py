"""The operator's own keys to sign with, each sealed in the vault: no grant reaches what has another owner."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from host.errors import InputError, NotFound, VaultError
from host.names import SecretName
from host.secret import SecretValue
from host.state.vault import Vault
from host.trust.keys import Algorithm, PublicKey, SigningKey

OWNER: Final = "signing-keys"
_GENERATE = "host signing-key generate NAME makes one"


@dataclass(frozen=True, slots=True)
class OwnKey:
    """`made_at` is Unix time in seconds."""

    name: SecretName
    public: PublicKey
    made_at: float


class SigningKeys:
    """One per process, thread-safe. Every method raises StateError."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def generate(self, name: SecretName, algorithm: Algorithm = "ecdsa-p256") -> SigningKey:
        """Raises InputError where there is one of that name: what it signed would be nobody's."""
        if name in self._names():
            raise InputError(f"there is a signing key {name} already", field="name", hint="give this one another name")
        key = SigningKey.generate(algorithm)
        self._vault.set(OWNER, name, SecretValue(base64.b64encode(key.private_pem().encode()).decode()))
        return key

    def get(self, name: SecretName | None = None) -> SigningKey:
        """The key `name`; None: the only one. Raises NotFound, and InputError where there are several."""
        if name is None:
            name = self._only()
        value = self._vault.get(OWNER, name)
        if value is None:
            raise NotFound(f"there is no signing key {name}", field="name", hint=_GENERATE)
        return _opened(name, value)

    def all(self) -> list[OwnKey]:
        """Sorted by name."""
        return [OwnKey(name, self.get(name).public, made_at) for name, made_at in self._names().items()]

    def _names(self) -> dict[SecretName, float]:
        return dict(self._vault.names(OWNER))

    def _only(self) -> SecretName:
        names = list(self._names())
        if not names:
            raise NotFound("there is no signing key", field="name", hint=_GENERATE)
        if len(names) > 1:
            raise InputError(
                f"there are {len(names)} signing keys: {', '.join(map(str, names))}", field="name", hint="--key NAME"
            )
        return names[0]


def _opened(name: SecretName, value: SecretValue) -> SigningKey:
    try:
        return SigningKey.parse(base64.b64decode(value.reveal(), validate=True))
    except (ValueError, InputError):
        raise VaultError(f"the signing key {name} cannot be read") from None
