"""The pages of its memory that a component writes when it runs, for its build (`host.component.build.wrapper`).

The examples that the build rehearsed run once more, each in a fresh instance of the core module that the component is
made of, and hear from the host what they heard then. Afterwards the system says which pages are no longer those of the
module. It may be a stranger's guest: what it answers goes nowhere, and its time is bounded.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, cast

from wasmtime import Config, Engine, Func, FuncType, Instance, Memory, Module, Store, Trap, WasmtimeError

from host.component.build.finish import Rehearsal
from host.component.build.fuse import REALLOC
from host.component.build.wrapper import MEMORY, POST_RETURN
from host.component.wasm import data_segments, sections
from host.core.strict_json import Json
from host.core.wit import RUN, provided
from host.sandbox.engine import MAX_MEMORY_BYTES, MAX_TABLE_ELEMENTS, MAX_TABLES, engine_config, has_room
from host.sandbox.lanes import TICK_S, Ticker

_LONGEST_S: Final = 20.0  # of one rehearsal, and after which no other begins
_MOST: Final = 10_000  # pages: a chat writes some 200
_DATA: Final = 11  # a section of a core module
_ENTRY_BYTES: Final = 8  # of a page, in /proc/PID/pagemap (Linux, admin-guide/mm/pagemap)
_PRESENT, _OF_A_FILE = 1 << 63, 1 << 61
_ANY_ADDRESS: Final = (1 << 32) - 1  # the library has 32 bits with a sign
_FAILED: Final = (WasmtimeError, Trap, LookupError, TypeError, AttributeError)  # another module, an odd address


class _Unheard(Exception):
    """The guest asks for what it was not told in its rehearsal, or cannot be asked."""


def first_bytes(core: bytes, rehearsals: Sequence[Rehearsal]) -> list[tuple[int, int]]:
    """The address of each page that at least half of the rehearsals write, and the byte that stands there when an
    instance of `core` begins. Those that cannot run again count for nothing. Raises OSError where the system does not
    say which pages were written."""
    if not rehearsals:
        return []
    engine = Engine(_config())
    ticker, until = Ticker(engine), time.monotonic() + _LONGEST_S
    written = list[list[int]]()
    try:
        module = Module(engine, core)
        with ticker.ticking():
            for one in rehearsals:
                if time.monotonic() < until and (pages := _written(engine, module, one)) is not None:
                    written.append(pages)
            counts = Counter(page for pages in written for page in pages)
            begin, end = _data(core)
            often = sorted(page for page, count in counts.items() if begin <= page < end and 2 * count >= len(written))
            with closing(_Guest(engine, module, ())) as guest:
                return guest.bytes_at(often[:_MOST])
    except (*_FAILED, _Unheard):  # whoever compiles it next says more
        return []
    finally:
        ticker.close()


def _config() -> Config:
    config = engine_config(0)
    config.cranelift_opt_level = "none"  # it runs for a moment
    return config


def _data(core: bytes) -> tuple[int, int]:
    """From the first page that the module brings to the end of the last one. What lies around is empty, and of no
    file."""
    found = [one for kind, at, _ in sections(core) if kind == _DATA for one in data_segments(core, at)]
    first, last = min((at for at, _, _ in found), default=0), max((end for _, end, _ in found), default=0)
    return first // mmap.PAGESIZE * mmap.PAGESIZE, last


def _written(engine: Engine, module: Module, rehearsal: Rehearsal) -> list[int] | None:
    """The addresses of the pages; None where it goes otherwise than in the rehearsal."""
    try:
        with closing(_Guest(engine, module, rehearsal.answers)) as guest:
            guest.run(rehearsal.text)
            return own_pages(*guest.place())
    except (*_FAILED, _Unheard):
        return None


def own_pages(start: int, size: int) -> list[int]:
    """Which pages of `size` bytes of this process's memory are no longer those of the file that is mapped there: how
    far each is from `start`. Raises OSError."""
    entries = array("Q")
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(start // mmap.PAGESIZE * _ENTRY_BYTES)
        entries.frombytes(pagemap.read(size // mmap.PAGESIZE * _ENTRY_BYTES))
    return [
        number * mmap.PAGESIZE for number, entry in enumerate(entries) if entry & _PRESENT and not entry & _OF_A_FILE
    ]


class _Guest:
    """An instance of the core module. It hears the `answers` one after the other, whatever it asks."""

    def __init__(self, engine: Engine, module: Module, answers: Sequence[Json]) -> None:
        """To be closed. Raises those of `_FAILED`, _Unheard."""
        if not has_room():  # the library would end the process
            raise _Unheard
        self._answers = iter(answers)
        self._makes_room = False
        self._store = Store(engine)
        self._store.set_limits(MAX_MEMORY_BYTES, MAX_TABLE_ELEMENTS, instances=1, tables=MAX_TABLES, memories=1)
        self._store.set_epoch_deadline(round(_LONGEST_S / TICK_S))
        imports = [self._import(one.module, one.name or "", one.type) for one in module.imports]
        exports = Instance(self._store, module, imports).exports(self._store)
        self._memory, self._realloc = cast("Memory", exports[MEMORY]), cast("Func", exports[REALLOC])
        self._run, self._end = cast("Func", exports[f"{RUN}#run"]), cast("Func", exports[POST_RETURN])

    def close(self) -> None:
        self._store.close()

    def run(self, text: str) -> None:
        """Raises those of `_FAILED`, _Unheard."""
        address, size = self._put(text)
        self._end(self._store, self._run(self._store, address, size))

    def place(self) -> tuple[int, int]:
        """Where the memory is in this process, and its size."""
        return ctypes.addressof(self._memory.data_ptr(self._store).contents), self._memory.data_len(self._store)

    def bytes_at(self, addresses: Sequence[int]) -> list[tuple[int, int]]:
        return [(at, self._memory.read(self._store, at, at + 1)[0]) for at in addresses]

    def _put(self, text: str) -> tuple[int, int]:
        """Address and size of a copy of `text` in the memory. A guest that makes room for it may call nothing."""
        encoded = text.encode("utf-8", "replace")
        self._makes_room = True
        address = int(self._realloc(self._store, 0, 0, 1, len(encoded))) & _ANY_ADDRESS
        self._makes_room = False
        self._memory.write(self._store, encoded, address)
        return address, len(encoded)

    def _import(self, interface: str, name: str, kind: object) -> Func:
        assert isinstance(kind, FuncType)
        signature = (provided(interface) or {}).get(name)
        return Func(self._store, kind, partial(self._tell, "?" if signature is None else signature.result))

    def _tell(self, kind: str | None, *arguments: int) -> int | None:
        """Answer a call, whose result is of this type (the Component Model's CanonicalABI.md)."""
        if self._makes_room:
            raise _Unheard
        match kind, next(self._answers, _Unheard):
            case None, None:
                return None
            case "bool", bool() as truth:
                return int(truth)
            case "string" | "result<string, string>", str() as text:
                told = (b"" if kind == "string" else bytes(4)) + struct.pack("<II", *self._put(text))
                self._memory.write(self._store, told, arguments[-1] & _ANY_ADDRESS)
                return None
        raise _Unheard
