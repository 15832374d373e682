"""What is kept, opened for one command: imported no sooner, since it takes longer than all the rest of a command.

Files that the command line names, and mistakes in what it says, each told with the option that is to blame.

Times as people write them: a span (`90d`, `2w`, `1h`, `30m`), which is an age or a time to come, or a local date and
time (`2026-11-20`, `2026-11-20T17:00`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from host.core.quantities import parse_duration
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


_LONG = re.compile(r"([0-9]{1,5})([dw])\Z")
_DAY_S = 86_400.0
_SPANS = "30m, 1h, 90d or 2w"
_DATES = "2026-11-20 or 2026-11-20T17:00"


def moment(text: str) -> float:
    """Unix time, so long ago or then. Raises InputError."""
    found = _span(text)
    return _date(text, f"an age like {_SPANS}") if found is None else time.time() - found


def deadline(text: str) -> float:
    """Unix time, in so long or then. Raises InputError."""
    found = _span(text)
    return _date(text, f"a time to come like {_SPANS}") if found is None else time.time() + found


def span(text: str) -> float:
    """Seconds. Raises InputError."""
    found = _span(text)
    if found is None:
        raise InputError(f"{text[:80]!r} is no span of time", hint=f"like {_SPANS}")
    return found


def _span(text: str) -> float | None:
    if match := _LONG.match(text):
        return float(match[1]) * _DAY_S * (7 if match[2] == "w" else 1)
    try:
        return parse_duration(text)
    except PolicyError:
        return None


def _date(text: str, instead: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()  # local, unless it names its zone
    except (ValueError, OverflowError, OSError):
        raise InputError(f"{text[:80]!r} is no time", hint=f"{instead}, or a date like {_DATES}") from None
