"""Where the value of a secret comes from: the first place that has it, of those that the operator has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from host import environment
from host.errors import InputError
from host.names import SecretName
from host.secret import OPERATOR, SecretValue
from host.state.secretsfile import SecretsFile
from host.state.vault import Vault

SecretPlace = Literal["given", "store", "environment", "file"]


@dataclass(frozen=True, slots=True)
class Found:
    """A value, and where it is."""

    value: SecretValue
    place: SecretPlace
    path: Path | None = None  # of the file

    def __str__(self) -> str:
        words = {"given": "the program", "store": "the store", "environment": "the environment"}
        return words.get(self.place) or f"the file {self.path}"


class SecretSources:
    """In this order: what the program hands over, the store, the environment's variable of that name, a file.

    `file` defaults to the one that HOST_SECRETS names, and is read when it is first needed. A place that cannot be
    looked at is an error, and never passed over: VaultError, InputError.
    """

    def __init__(self, vault: Vault, file: Path | None = None) -> None:
        self._vault = vault
        self._path = file or environment.secrets_file()

    def find(self, name: SecretName, given: Mapping[SecretName, SecretValue] | None = None) -> Found | None:
        """The value of `name`; `given` has those that the program hands over."""
        return next(self._found(name, given or {}), None)

    def which(self, name: SecretName, given: Mapping[SecretName, SecretValue] | None = None) -> tuple[Found, ...]:
        """Every place that has `name`: the first is the one that answers."""
        return tuple(self._found(name, given or {}))

    @cached_property
    def file(self) -> SecretsFile | None:
        """The secrets file; None where none is named. Raises InputError."""
        return SecretsFile.read(self._path) if self._path else None

    def _found(self, name: SecretName, given: Mapping[SecretName, SecretValue]) -> Iterator[Found]:
        if name in given:
            yield Found(given[name], "given")
        if kept := self._vault.get(OPERATOR, name):
            yield Found(kept, "store")
        if text := environment.optional(str(name)):
            yield Found(_from_variable(name, text), "environment")
        if self.file and (value := self.file.value(name)):
            yield Found(value, "file", self.file.path)


def _from_variable(name: SecretName, text: str) -> SecretValue:
    try:
        return SecretValue(text)
    except InputError as error:
        raise InputError(f"the environment variable {name}: {error.message}", hint=error.hint) from None
