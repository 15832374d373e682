"""What a command reads and writes beside its options: the operator's state, references, files, times. An error names
its option.

People write a time as a duration (`90d`, `2w`, `1h`, `30m`), which is an age or a time to come; or as a local date and
time (`2026-11-20`, `2026-11-20T17:00`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from host.core.names import looks_like_oci, looks_like_reference
from host.core.quantities import CALENDAR_UNITS, examples, parse_duration
from host.errors import InputError, PolicyError

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace


@contextmanager
def opened() -> Iterator[Workspace]:
    """The workspace of the environment's state directory. Raises InputError, StateError."""
    from host.runtime.workspace import Workspace  # noqa: PLC0415 - takes longer than all the rest of `--help`

    with Workspace.open() as workspace:
        yield workspace


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


def write_bytes(path: str, content: bytes, option: str) -> None:
    """Raises InputError."""
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise InputError(f"{option}: cannot write {path!r}: {error.strerror}", field=option) from None


_PART_OF_A_DAY = re.compile(r"[0-9]+\.[0-9]+[dw]\Z")
_NONE = ("0d", "0w")
_LONGEST_S = 36_525 * 86_400.0
_SPANS = examples(CALENDAR_UNITS)
_DATES = "2026-11-20 or 2026-11-20T17:00"


def parse_past(text: str) -> float:
    """Unix time: so long ago (`90d`), or a date and time. Raises InputError."""
    seconds = _span(text)
    return _date(text, f"an age like {_SPANS}") if seconds is None else time.time() - seconds


def parse_future(text: str) -> float:
    """Unix time: in so long (`90d`), or a date and time. Raises InputError."""
    seconds = _span(text)
    return _date(text, f"a time to come like {_SPANS}") if seconds is None else time.time() + seconds


def parse_span(text: str) -> float:
    """Seconds: up to 100 years. Days and weeks (`90d`, `2w`) are whole numbers. Raises InputError."""
    seconds = _span(text)
    if seconds is None:
        raise InputError(f"{text[:80]!r} is not a duration", hint=f"like {_SPANS}")
    return seconds


def _span(text: str) -> float | None:
    if text in _NONE:
        return 0.0
    try:
        seconds = parse_duration(text, CALENDAR_UNITS)
    except PolicyError:
        return None
    return None if seconds > _LONGEST_S or _PART_OF_A_DAY.match(text) else seconds


def _date(text: str, instead: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()  # local, unless it names its zone
    except (ValueError, OverflowError, OSError):
        raise InputError(f"{text[:80]!r} is not a time", hint=f"{instead}, or a date like {_DATES}") from None
