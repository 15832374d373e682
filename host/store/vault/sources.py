r"""The places that a secret's value may come from: the caller, the vault, the environment, a file.

The file has `NAME=VALUE` lines, as shells and `.env` files have them. `export` may stand before a name, and `#` begins
a comment at the beginning of a line or behind white space. A value is bare, up to white space; or within '…',
literally; or within "…", where a backslash escapes one of `"\$` and a backtick. Nothing is ever expanded: a value that
a shell would expand is an error. If a name occurs twice, the last one counts. A name without a value counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from host.core import environment
from host.core.names import SecretName
from host.errors import InputError
from host.secrets.value import OPERATOR, SecretValue
from host.store.vault.secrets import Vault
from host.store.vault.tokens import TokenSource

_MAX_BYTES = 1 << 20
_LINE = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)=
        (?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s'"]*))
        (?:\s+\#.*|\s*)\Z""",
    re.VERBOSE,
)
_EXPANDED = re.compile(r"(?<!\\)(?:\\\\)*(?:`|\$[({A-Za-z_])")
_ESCAPED = re.compile(r'\\(["\\$`])')


@dataclass(frozen=True, slots=True)
class _Assignment:
    line: int
    text: str = field(repr=False)
    expanded: bool


@dataclass(frozen=True, slots=True)
class SecretsFile:
    """`exposed`: other users of this machine can read the file. Errors name a line by its number and never quote it."""

    path: Path
    exposed: bool
    _found: dict[SecretName, _Assignment] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> SecretsFile:
        """Raises InputError if the file cannot be read or a line cannot be parsed."""
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
                exposed = bool(path.stat().st_mode & 0o077)
            text = content.decode("utf-8-sig")
        except OSError as error:
            raise InputError(f"cannot read the secrets file {str(path)!r}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InputError(f"the secrets file {str(path)!r} is not UTF-8") from None
        if len(content) > _MAX_BYTES:
            raise InputError(f"the secrets file {str(path)!r} is larger than 1 MiB")
        return cls(path, exposed, dict(_assignment(path, number, line) for number, line in _lines(text)))

    def value(self, name: SecretName) -> SecretValue | None:
        """None if the file has no such name. Raises InputError for a value that no secret can have."""
        found = self._found.get(name)
        if found is None or not found.text:
            return None
        if found.expanded:
            raise _mistake(self.path, found.line, "nothing is expanded here", "what has $ or ` in it stands within '…'")
        try:
            return SecretValue(found.text)
        except InputError as error:
            raise _mistake(self.path, found.line, error.message, error.hint) from None


def _lines(text: str) -> list[tuple[int, str]]:
    """The lines that are neither empty nor comments, with their numbers."""
    return [
        (number, line)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]


def _assignment(path: Path, number: int, line: str) -> tuple[SecretName, _Assignment]:
    match = _LINE.match(line)
    if match is None:
        raise _mistake(path, number, "not NAME=VALUE", "a value with spaces or quotes in it stands within '…'")
    name = SecretName.parse(match["name"])
    if (single := match["single"]) is not None:
        return name, _Assignment(number, single, expanded=False)
    text = match["bare"] if match["double"] is None else match["double"]
    return name, _Assignment(number, _ESCAPED.sub(r"\1", text), expanded=bool(_EXPANDED.search(text)))


def _mistake(path: Path, line: int, said: str, hint: str | None) -> InputError:
    return InputError(f"the secrets file {str(path)!r}, line {line}: {said}", hint=hint)


SecretPlace = Literal["given", "store", "environment", "file"]


@dataclass(frozen=True, slots=True)
class Found:
    """A value, and the place that it comes from. In the store there may be a `source` of tokens in its place: then
    `value` is None."""

    value: SecretValue | None
    place: SecretPlace
    path: Path | None = None  # of the file
    source: TokenSource | None = None

    def __str__(self) -> str:
        words = {"given": "the program", "store": "the store", "environment": "the environment"}
        said = words.get(self.place) or f"the file {self.path}"
        return f"{said}: {self.source}" if self.source else said


class SecretSources:
    """Looks for a value in this order: the caller's values, the vault, the environment variable of that name, a file.

    `file` defaults to the one that HOST_SECRETS names, and is read on first use. A place that cannot be read is an
    error, VaultError or InputError, and never skipped.
    """

    def __init__(self, vault: Vault, file: Path | None = None) -> None:
        self._vault = vault
        self._path = file or environment.secrets_file()

    def find(self, name: SecretName, given: Mapping[SecretName, SecretValue] | None = None) -> Found | None:
        """The value of `name`; `given` are the caller's values."""
        return next(self._found(name, given or {}), None)

    def which(self, name: SecretName, given: Mapping[SecretName, SecretValue] | None = None) -> tuple[Found, ...]:
        """Every place that has `name`, the one that `find` uses first."""
        return tuple(self._found(name, given or {}))

    @cached_property
    def file(self) -> SecretsFile | None:
        """The secrets file; None where none is named. Raises InputError."""
        return SecretsFile.read(self._path) if self._path else None

    def _found(self, name: SecretName, given: Mapping[SecretName, SecretValue]) -> Iterator[Found]:
        if name in given:
            yield Found(given[name], "given")
        if stored := self._vault.get(OPERATOR, name):
            yield Found(stored, "store")
        elif source := self._vault.source(name):
            yield Found(None, "store", source=source)
        if text := environment.optional(str(name)):
            yield Found(_from_variable(name, text), "environment")
        if self.file and (value := self.file.value(name)):
            yield Found(value, "file", self.file.path)


def _from_variable(name: SecretName, text: str) -> SecretValue:
    try:
        return SecretValue(text)
    except InputError as error:
        raise InputError(f"the environment variable {name}: {error.message}", hint=error.hint) from None
