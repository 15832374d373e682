"""Files that the command line names, and mistakes in what it says, each told with the option that is to blame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host.errors import InputError


@contextmanager
def blaming(option: str, *, hint: str | None = None) -> Iterator[None]:
    """Puts `option` before whatever InputError says inside, in place of the field; `hint` where it has none."""
    try:
        yield
    except InputError as error:
        said = error.message.removeprefix(f"{error.field}: ")
        raise InputError(f"{option}: {said}", field=option, hint=error.hint or hint) from None


def read_bytes(path: str, option: str) -> bytes:
    """The file's content. Raises InputError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{option}: cannot read {path!r}: {error.strerror}", field=option) from None


def read_text(path: str, option: str) -> str:
    """The file's content, which is UTF-8, without the byte order mark that some editors begin it with. Raises
    InputError."""
    try:
        return read_bytes(path, option).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{option}: {path!r} is not UTF-8", field=option) from None


def write_bytes(path: str, content: bytes, option: str) -> None:
    """Raises InputError."""
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise InputError(f"{option}: cannot write {path!r}: {error.strerror}", field=option) from None
