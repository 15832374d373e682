"""What the standard library finds in a sandbox: no files, no clock, no randomness, no sockets, no output of its own.

The build calls `begin`, imports the catalyst's `app`, and calls `seal`. From there on `print`, `warnings` and
`logging` write to the catalyst's log, and what is not there raises an error that says so: without it, the first use
would end the sandbox without a word. What the standard library imports late is imported here.

It makes the OpenAI catalyst 3 % larger.
"""

import builtins
import codecs
import datetime as dt
import gc  # noqa: F401 - that it is there
import io
import linecache
import logging
import os
import random
import sys
import threading
import time
import traceback  # noqa: F401 - what `logging.exception` and catalysts use late
import warnings
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from catalyst.sdk import log

_CODECS = """
ascii base64_codec charmap cp1250 cp1251 cp1252 cp437 hex_codec idna iso8859_1 iso8859_15 iso8859_2 latin_1 punycode
raw_unicode_escape rot_13 unicode_escape utf_16 utf_16_be utf_16_le utf_32 utf_8_sig
"""
# What a module imports only when it is used, and so too late.
_LATE = {
    "_datetime": "_strptime",
    "asyncio": "concurrent.futures.thread",
    "concurrent.futures": "concurrent.futures.thread concurrent.futures._base",
    "email": "email.policy email.charset email.encoders email.generator email.headerregistry email.parser",
    "importlib.resources": "importlib.readers importlib.resources._adapters importlib.resources.readers",
    "locale": "encodings.aliases",
}
_CLOCK = "a catalyst has no clock: take the time from its input, or from an answer's Date header"
_RANDOM = "a catalyst has no randomness: `random` gives the same numbers in every run; take nonces from the input"
_FILES = "a catalyst has no files: read them at the top of a module, which happens at build time, or take attachments"
_SOCKETS = "a catalyst has no sockets: catalyst.sdk.http asks the host"
_THREADS = "a catalyst has one thread"
_sealed = False


class NotInASandbox(OSError):
    """Something that a sandbox has not was used."""


def seal() -> None:
    """The end of the build."""
    global _sealed  # noqa: PLW0603 - once, and for the component's life
    for name in _CODECS.split():
        import_module(f"encodings.{name}")
    for name, late in _LATE.items():
        if name in sys.modules or name == "_datetime":
            for one in late.split():
                import_module(one)
    if socket := sys.modules.get("socket"):
        _refuse(socket, "getaddrinfo gethostbyname create_connection socketpair", _SOCKETS)
        socket.socket.__init__ = _refusing("socket.socket", socket.socket.__init__, _SOCKETS)
    _sealed = True


def _refusing(name: str, function: Callable[..., Any], why: str) -> Callable[..., Any]:
    """`function` until the build ends."""

    def refusing(*arguments: Any, **options: Any) -> Any:
        if _sealed:
            raise NotInASandbox(f"{name}: {why}")
        return function(*arguments, **options)

    return refusing


def _refuse(module: Any, names: str, why: str) -> None:
    for name in names.split():
        if function := getattr(module, name, None):
            setattr(module, name, _refusing(f"{module.__name__}.{name}", function, why))


class _Lines(io.TextIOBase):
    """A standard stream: that of the build, and then the catalyst's log, a message for each line."""

    def __init__(self, build: Any, level: str) -> None:
        self.build = build
        self.level = level
        self.begun = ""

    encoding = "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not _sealed:
            return int(self.build.write(text)) if self.build else len(text)
        *lines, self.begun = (self.begun + text).split("\n")
        for line in lines:
            log.write(self.level, line)
        return len(text)

    def flush(self) -> None:
        if not _sealed and self.build:
            self.build.flush()

    def end(self) -> None:
        """What has no line break yet is a line too."""
        if self.begun:
            log.write(self.level, self.begun)
            self.begun = ""


def end() -> None:
    """The end of a run: all that was printed is in the log."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _Lines):
            stream.end()


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"


def _emit(handler: Any, record: logging.LogRecord, before: Any = logging.StreamHandler.emit) -> None:
    if _sealed and isinstance(handler.stream, _Lines):
        log.write(_level(record.levelno), handler.format(record))
    else:
        before(handler, record)


def _warn(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
    log.warning(f"{category.__name__}: {message}")


def _not_loaded(name: str) -> None:
    """A codec that nobody loaded, where there is one of that name."""
    from encodings.aliases import aliases  # noqa: PLC0415 - loaded by Python itself

    known = aliases.get(name.replace("-", "_"), name.replace("-", "_"))
    if _sealed and known in set(aliases.values()):
        raise LookupError(f"the codec {name} is not loaded: import encodings.{known} at the top of a module")


def _with_a_time(function: Any, needed: int) -> Any:
    refused = _refusing(f"time.{function.__name__}", function, _CLOCK)
    return lambda *arguments: function(*arguments) if len(arguments) > needed else refused(*arguments)


def _seeded(self: Any, a: Any = None, version: int = 2, before: Any = random.Random.seed) -> None:
    if _sealed and a is None:
        raise NotInASandbox(f"random.seed: {_RANDOM}")
    before(self, a, version)


def begin() -> None:
    """The beginning of the build, before the catalyst's modules are imported. Not for a process that is no sandbox."""
    sys.stdout, sys.stderr, sys.stdin = _Lines(sys.stdout, "info"), _Lines(sys.stderr, "warning"), io.StringIO()
    logging.StreamHandler.emit = _emit  # type: ignore[assignment,method-assign]  # so that a level stays a level
    clock: Any = SimpleNamespace(time=lambda: 0.0, time_ns=lambda: 0, localtime=time.gmtime, strftime=time.strftime)
    logging.time = clock  # type: ignore[attr-defined]  # a record has a time, which the host's log knows better
    warnings.showwarning = _warn
    linecache.updatecache = lambda *_, **__: []  # source lines are files
    linecache.checkcache = lambda *_: None
    codecs.register(_not_loaded)
    names = "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns sleep"
    _refuse(time, f"{names} thread_time clock_gettime get_clock_info", _CLOCK)
    threading._time = time.monotonic  # type: ignore[attr-defined]  # noqa: SLF001 - how long a lock is waited for
    threading.Thread.start = _refusing("Thread.start", threading.Thread.start, _THREADS)  # type: ignore[method-assign]
    for name, needed in (("localtime", 0), ("gmtime", 0), ("ctime", 0), ("asctime", 0), ("strftime", 1)):
        setattr(time, name, _with_a_time(getattr(time, name), needed))
    _refuse(os, "urandom getrandom", _RANDOM)
    random.Random.seed = _seeded  # type: ignore[method-assign]
    random.seed = random._inst.seed  # noqa: SLF001 - the module's own generator
    random._urandom = os.urandom  # type: ignore[attr-defined]  # noqa: SLF001 - what SystemRandom and `secrets` take
    builtins.open = io.open = _refusing("open", builtins.open, _FILES)
    _refuse(
        os, "open stat lstat listdir scandir mkdir makedirs remove unlink rename replace rmdir access readlink", _FILES
    )
    _without_now()


def _without_now() -> None:
    """`datetime.now()` asks the clock in C, and its class cannot be changed: one of the same name takes its place."""
    dt.date = _standing_in(dt.date, "today")  # type: ignore[misc]
    dt.datetime = _standing_in(dt.datetime, "now utcnow today")  # type: ignore[misc]


def _standing_in(original: Any, names: str) -> Any:
    class Meta(type):
        """What C code makes is of the original class."""

        def __instancecheck__(cls, one: object) -> bool:
            return isinstance(one, original) if cls is made else type.__instancecheck__(cls, one)

        def __subclasscheck__(cls, one: type) -> bool:
            return issubclass(one, original) if cls is made else type.__subclasscheck__(cls, one)

    refused = {}
    for name in names.split():
        refused[name] = classmethod(_refusing(f"{original.__name__}.{name}", getattr(original, name), _CLOCK))
    made: Any = Meta(original.__name__, (original,), {**refused, "__module__": "datetime"})
    return made
