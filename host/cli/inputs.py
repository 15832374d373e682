"""What a command reads and writes beside its options: the operator's state, references and files. An error names its
option."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from host.cli.output.terminal import put
from host.core import environment
from host.core.names import looks_like_oci, looks_like_reference
from host.errors import InputError

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace


@contextmanager
def opened() -> Iterator[Workspace]:
    """The workspace of the environment's state directory. Raises InputError, StateError."""
    from host.runtime.workspace import Workspace  # noqa: PLC0415 - takes longer than all the rest of `--help`

    with Workspace.open() as workspace:
        yield workspace


def present() -> bool:
    """Whether there is a state already, without opening it."""
    from host.store.database import FILE  # noqa: PLC0415 - as above

    return bool(environment.database()) or (environment.state_dir() / FILE).exists()


@contextmanager
def blaming(option: str, *, hint: str | None = None) -> Iterator[None]:
    """Put `option` in the place of the field in an InputError that is raised inside, and add `hint` if it has none."""
    try:
        yield
    except InputError as error:
        said = error.message.removeprefix(f"{error.field}: ")
        raise InputError(f"{option}: {said}", field=option, hint=error.hint or hint) from None


def source_named(words: Sequence[str]) -> str:
    """The one file or reference that `words` name. `c local.openai`, also as one word, stands for `c:local.openai`.
    Raises InputError."""
    parts = words[0].split() if len(words) == 1 else words
    if len(parts) == 2 and looks_like_reference(f"{parts[0]}:"):
        return ":".join(parts)
    if len(words) != 1:
        raise InputError(f"one FILE or REF, not {len(words)}: {' '.join(words)}", field="FILE|REF")
    return words[0]


def is_reference(name: str) -> bool:
    """Whether `name` is a reference, and no file. (A file of such a name is `./c:x`.)"""
    return looks_like_oci(name) or looks_like_reference(name)


def read_bytes(path: str, option: str) -> bytes:
    """The file's content. Raises InputError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{option}: cannot read {path!r}: {error.strerror}", field=option) from None


def read_text(path: str, option: str) -> str:
    """The file's content, which has to be UTF-8, without the byte order mark of some editors. Raises InputError."""
    try:
        return read_bytes(path, option).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{option}: {path!r} is not UTF-8", field=option) from None


def write_output(path: str, content: str | bytes, option: str = "--output") -> None:
    """Text as a line, or bytes as they are, to a file; to standard output where `path` is `-`. Raises InputError,
    StateError."""
    if path == "-":
        put(content)
    else:
        write_bytes(path, content if isinstance(content, bytes) else f"{content}\n".encode(), option)


def write_bytes(path: str, content: bytes, option: str) -> None:
    """Raises InputError."""
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise InputError(f"{option}: cannot write {path!r}: {error.strerror}", field=option) from None
