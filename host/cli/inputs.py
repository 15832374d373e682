"""What a command reads and writes beside its options: the operator's state, references and files. An error names its
option."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from host.cli.output.terminal import put
from host.core import environment
from host.core.names import looks_like_oci, looks_like_reference
from host.errors import InputError, StateError

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


class OutputFile:
    """Takes bytes as they come into a file, or with `-` to standard output. A file appears under its name once it is
    whole: to be used in a `with`, at whose end what was not kept is gone. `written` counts the bytes; None before the
    first."""

    def __init__(self, path: str, option: str) -> None:
        self.written: int | None = None
        self._path = path
        self._option = option
        self._place = Path(path).resolve()  # of a link, what it leads to
        self._file: IO[bytes] | None = None
        self._failed: OSError | None = None

    def write(self, data: bytes) -> bool:
        """Returns False where no more can be written; `keep` says why then."""
        self.written = (self.written or 0) + len(data)
        try:
            if self._file is None:
                self._file = self._opened()
            self._file.write(data)
            if self._path == "-":
                self._file.flush()
        except OSError as error:
            self._failed = error
        return self._failed is None

    def keep(self) -> None:
        """The answer is whole. Raises InputError; StateError and BrokenPipeError for standard output."""
        try:
            if self._failed is not None:
                raise self._failed
            if self._file is None or self._path == "-":
                return
            self._file.close()
            if (part := Path(self._file.name)) != self._place:
                if self._place.exists():
                    part.chmod(self._place.stat().st_mode & 0o7777)
                part.replace(self._place)
            self._file = None
        except OSError as error:
            if self._path == "-":
                if error.errno == errno.EPIPE:  # the reader has gone: click ends the program silently
                    raise
                raise StateError(f"cannot write to standard output: {error.strerror}") from None
            said = f"{self._option}: cannot write {self._path!r}: {error.strerror}"
            raise InputError(said, field=self._option) from None

    def _opened(self) -> IO[bytes]:
        if self._path == "-":
            return sys.stdout.buffer
        if self._place.exists() and not (self._place.is_file() and os.access(self._place.parent, os.W_OK)):
            return self._place.open("wb")  # a pipe, a device, or one where nothing can be put beside it
        return self._place.with_name(f".{self._place.name[:100]}.{os.getpid()}.part").open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None or self._path == "-":
            return
        with suppress(OSError):
            self._file.close()
        if (part := Path(self._file.name)) != self._place:
            part.unlink(missing_ok=True)
