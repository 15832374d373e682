"""What people see: results on standard output, as JSON or in tables, and words and errors on standard error.

Nothing that a terminal would obey is in any of them.
"""

from __future__ import annotations

import errno
import json
import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final, NoReturn

import click

from host.core.strict_json import clean_text, foreign_text
from host.errors import Denied, GuestException, GuestTrap, HostError, InputError, RunRecord, StateError

# What JSON may hold as it is, but a terminal acts on: DEL and the C1 controls, and what reorders or hides text.
_TERMINAL = re.compile("[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
_NOT_ASCII = re.compile(r"[^\x00-\x7e]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")
_MAX_LINE = 300
_ROOMY = 120  # columns
SHORT_ID = 12  # characters of a run's id, which name it in `host runs show`


def as_json(value: Any, *, pretty: bool | None = None) -> str:
    """JSON to be shown: on a terminal with indents, elsewhere on one line; ASCII where the output cannot do more."""
    pretty = sys.stdout.isatty() if pretty is None else pretty
    plain = (sys.stdout.encoding or "ascii").lower().replace("-", "") != "utf8"
    layout: dict[str, Any] = {"indent": 2} if pretty else {"separators": (",", ":")}
    text = json.dumps(value, ensure_ascii=plain, **layout)
    return _TERMINAL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def document_text(document: bytes) -> str:
    """Somebody else's JSON as it came, in the characters that the output can do, and with escapes for what a terminal
    would act on."""
    text = _TERMINAL.sub(_escaped, _CONTROL.sub(_escaped, foreign_text(document).strip()))
    plain = (sys.stdout.encoding or "ascii").lower().replace("-", "") != "utf8"
    return _NOT_ASCII.sub(_escaped, text) if plain else clean_text(text)


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def as_words(text: str) -> str:
    """Text from a guest or a server: with its line breaks and tabs, and nothing else that a terminal obeys."""
    return _TERMINAL.sub("\ufffd", _CONTROL.sub("\ufffd", text))


def as_line(text: str) -> str:
    """As `as_words`, without line breaks, and uncut: for a command that people copy."""
    return as_words(text).replace("\n", "\ufffd")


def one_line(text: str) -> str:
    """As `as_words`, on one line, so that it cannot pass for words of the host's own; at most 300 characters."""
    line = " ".join(as_words(text).split())
    return line if len(line) <= _MAX_LINE else line[: _MAX_LINE - 1] + "…"


class _Typed:
    """How the words of this program name its commands."""

    def __init__(self) -> None:
        self._name, self._commands = "", re.compile("(?!)")

    def begin_with(self, name: str, commands: Iterable[str]) -> None:
        self._name = name
        self._commands = re.compile(rf"(?<![\w./-])(?<!the )(?<!-m )host(?= (?:{'|'.join(commands)})\b)")

    def __call__(self, text: str) -> str:
        return self._commands.sub(self._name, text)


as_typed = _Typed()


class _TypedHelp(click.HelpFormatter):
    def getvalue(self) -> str:
        return as_typed(super().getvalue())


def speak_as(name: str, commands: Iterable[str]) -> None:
    """Begin `commands` in hints, words and help with `name`, the name by which the program was started, and not with
    `host`. For this process, and for the host's own words alone."""
    as_typed.begin_with(name, commands)
    click.Context.formatter_class = _TypedHelp


def say(text: str) -> None:
    """Words, on standard error. Where they cannot be written, what they are about is done all the same."""
    _say(as_words(as_typed(text)))


def _say(line: str) -> None:
    with suppress(OSError):
        click.echo(line, err=True)


def say_logs(execution: RunRecord) -> None:
    """What a guest logged, a line each, debug left out."""
    for line in execution.logs:
        if line.level != "debug":
            _say(f"log: {line.level}: {one_line(line.message)}")


def say_rerouted(execution: RunRecord) -> None:
    """What failed at another origin than the guest asked for: the guest's own error names the one that it asked for."""
    for event in execution.decisions:
        if event.kind == "http.request" and event.decision is None:
            say(f"{one_line(event.rule)} ({one_line(event.detail['url'])} is sent to {event.detail['sent_to']})")


def put(content: str | bytes) -> None:
    """A line of text, or bytes as they are, on standard output. Raises StateError where they cannot be written."""
    try:
        click.echo(content, nl=isinstance(content, str))
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader has gone: click ends the program silently
            raise
        raise StateError(f"cannot write to standard output: {error.strerror or 'it is closed'}") from None


def may_ask() -> bool:
    """Whether there is a terminal to ask on."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(question: str) -> bool:
    return click.confirm(question, default=False, err=True)


def agree(question: str, *, yes: bool) -> None:
    """Ask before what cannot be undone, unless `yes`. Raises InputError where the answer is no, or there is no terminal
    to ask on."""
    if yes:
        return
    if not may_ask():
        raise InputError(f"{question} There is no terminal to ask on: add --yes to do it", field="--yes")
    if not confirmed(question):
        raise InputError("nothing was done", field="--yes")


@contextmanager
def errors_shown(*, in_json: bool = False) -> Iterator[None]:
    """Turn an error that is raised inside into words, or JSON, and the exit status that `host.cli` lists."""
    try:
        yield
    except HostError as error:
        _end(error, in_json=in_json)
    except (KeyboardInterrupt, click.Abort):  # click's is what Ctrl-C and Ctrl-D at a question become
        say("interrupted")
        sys.exit(130)


def _end(error: HostError, *, in_json: bool) -> NoReturn:
    if in_json:
        record = {} if error.execution is None else {"execution": error.execution.as_dict()}
        shown = error.as_dict()
        if error.hint:
            shown["hint"] = as_typed(error.hint)
        click.echo(as_json({"error": shown, **record}))
    else:
        if error.execution is not None:
            say_logs(error.execution)
        say(error.message if isinstance(error, Denied) else f"error: {error.message}")
        if isinstance(error, GuestException) and error.traceback:
            click.echo(as_words(error.traceback.rstrip()), err=True)
        if isinstance(error, GuestTrap) and error.stderr:
            click.echo(as_words(error.stderr.rstrip()), err=True)
        if error.hint:
            say(f"hint: {error.hint}")
    sys.exit(error.exit_status)


def local_time(at: float, *, short: bool = False) -> str:
    """Unix time as people read it, in their zone: `2026-11-20 17:05:09`, or in short `11-20 17:05`."""
    return time.strftime("%m-%d %H:%M" if short else "%Y-%m-%d %H:%M:%S", time.localtime(at))


def size(count: int) -> str:
    """Bytes as people read them: `18.3 MB`."""
    if count < 1000:
        return f"{count} B"
    amount = float(count)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95 or unit == "GB":  # what is shown as 1000.0 belongs to the next
            return f"{amount:.1f} {unit}"
    raise AssertionError


_OF_TERMINAL: Final = -1
_LEAST: Final = 4  # columns of a cell


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    width: int | None = _OF_TERMINAL,
    spared: Collection[str] = (),
) -> Iterator[str]:
    """The lines of a table, the head first; none without rows. Columns are as wide as their cells. Where a line would
    be wider than `width` (default: the terminal's; None: any), the last column is cut to the length of its name, then
    the widest others, then the first, then all of them; those that are `spared` come after all that."""
    shown = [[one_line(cell) for cell in row] for row in rows]
    if not shown:
        return
    shown.insert(0, [name.upper() for name in head])
    width = terminal_width() if width == _OF_TERMINAL else width
    found = [max(map(columns_of, column)) for column in zip(*shown, strict=True)]
    if width is not None:
        found = _fitted(found, head, width, spared)
    for row in shown:
        cells = zip(row, found, strict=True)
        yield "  ".join(_padded(_cut(cell, most), most) for cell, most in cells).rstrip()


def _fitted(wide: Sequence[int], head: Sequence[str], width: int, spared: Collection[str]) -> list[int]:
    """The widths of the columns so that a line fits, as far as it can."""
    found, names, shortest = list(wide), [len(name) for name in head], [_LEAST] * len(head)
    over = sum(found) + 2 * (len(found) - 1) - width
    cut = [one for one, name in enumerate(head) if name not in spared]
    first, last = ([one for one in cut if one == end] for end in (0, len(head) - 1))
    others = [one for one in cut if 0 < one < len(head) - 1]
    for group, least in (
        (last, names),
        (others, names),
        (first, names),
        ([*others, *last, *first], shortest),
        (range(len(head)), shortest),
    ):
        while over > 0:
            most = max(group, key=lambda one: found[one] - least[one], default=0)
            if not group or found[most] <= least[most]:
                break
            found[most] -= 1
            over -= 1
    return found


def columns_of(text: str) -> int:
    """How many columns a terminal takes for it: two for a wide character, none for one that combines with another."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # noqa: PLC0415 - most tables are ASCII

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def _padded(text: str, most: int) -> str:
    return text + " " * (most - columns_of(text))


def terminal_width() -> int | None:
    """In columns; None where standard output is no terminal."""
    import shutil  # noqa: PLC0415 - it imports three compressors, and a table alone needs it

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def is_narrow(width: int | None) -> bool:
    """Whether a terminal of that width has no room for whole ids of runs and whole times."""
    return width is not None and width < _ROOMY


def _cut(text: str, most: int) -> str:
    if columns_of(text) <= most:
        return text
    while text and columns_of(text) > most - 1:
        text = text[:-1]
    return f"{text}…"


@contextmanager
def working(what: str, *, after_s: float = 1.0) -> Iterator[None]:
    """Inside, `what` is said once, on a terminal, if it takes long."""
    if not sys.stderr.isatty():
        yield
        return
    from threading import Event  # noqa: PLC0415 - on a terminal alone

    from host.core.waiting import start  # noqa: PLC0415 - as above

    done = Event()

    def tell() -> None:
        if not done.wait(after_s):
            say(f"{what} …")

    start(tell, name="host-working")
    try:
        yield
    finally:
        done.set()


class ProgressBars:
    """One bar after another. A `host.oci.blobs.Progress`."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._bar: Any = None

    def begin(self, name: str, total: int) -> None:
        self.end()
        if sys.stderr.isatty():
            self._bar = self._open.enter_context(
                click.progressbar(length=total, label=name, file=sys.stderr, show_pos=False)
            )

    def advance(self, count: int) -> None:
        if self._bar is not None:
            self._bar.update(count)

    def end(self) -> None:
        self._bar = None
        self._open.close()
