"""What is kept, opened for one command: imported no sooner, since it takes longer than all the rest of a command.

Files that the command line names, and mistakes in what it says, each told with the option that is to blame.

Times: a duration (`90d`, `2w`, `1h`, `30m`), which is an age or a time to come; or a local date and time (`2026-11-20`,
`2026-11-20T17:00`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from host.core.quantities import CALENDAR_UNITS, examples, parse_duration
from host.errors import InputError, PolicyError

if TYPE_CHECKING:
    from host.runtime.workspace import Workspace


@contextmanager
def opened() -> Iterator[Workspace]:
    """The workspace of the environment's state directory. Raises InputError, StateError."""
    from host.runtime.workspace import Workspace  # noqa: PLC0415 - not for `--help`

    with Workspace.open() as workspace:
        yield workspace


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


_PART_OF_A_DAY = re.compile(r"[0-9]+\.[0-9]+[dw]\Z")
_NONE = ("0d", "0w")
_LONGEST_S = 36_525 * 86_400.0
_SPANS = examples(CALENDAR_UNITS)
_DATES = "2026-11-20 or 2026-11-20T17:00"


def moment(text: str) -> float:
    """Unix time: so long ago (`90d`), or a date and time. Raises InputError."""
    seconds = _span(text)
    return _date(text, f"an age like {_SPANS}") if seconds is None else time.time() - seconds


def deadline(text: str) -> float:
    """Unix time: in so long (`90d`), or a date and time. Raises InputError."""
    seconds = _span(text)
    return _date(text, f"a time to come like {_SPANS}") if seconds is None else time.time() + seconds


def span(text: str) -> float:
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
