"""A component of many core modules, made one of a single core module.

componentize-py links some 38 core modules in every sandbox anew, and fills a table of 5,700 functions that one of them
imports: nearly all the time that a fresh sandbox takes. In one module of its own table and memory, wasmtime does none
of that. `meld` makes the module; its own components do not fit this shape, so `wrapper` puts one around it.

What the sandbox does not have of WASI is in the component as functions that trap. The one that is called says so in
the log first, if the catalyst may write to it: the trap would tell nothing.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from host.component.build.wrapper import core_exports, core_imports, wrap
from host.component.wasm import (
    COMPONENT_PREAMBLE,
    CORE_PREAMBLE,
    as_section,
    custom_sections,
    leb128,
    name_at,
    sections,
    sized,
    to_leb128,
    to_signed_leb128,
    vector,
)
from host.core import environment, installation
from host.core.wit import LOG
from host.errors import BuildError, NotAComponent

TOOL: Final = "meld-cli"
REALLOC: Final = "meld:realloc/0"
_LONGEST_S = 300.0

_TYPES, _FUNCTIONS, _EXPORTS, _CODE, _DATA, _DATA_COUNT = 1, 3, 7, 10, 11, 12
_MODULE = 1  # of a component's sections
_TRAPS = b"\0\0\x0b"  # a function without locals: unreachable, end
_FIRST_STUB = 0x5AFE_0000  # a number that no compiler puts where `_marked` does
_SCRATCH = 16  # an address below all data and the stack's end: the instance is not used after its trap
_LEVEL = b"fatal"
_OF_A_PANIC = "wasi:cli/stderr@"  # by which a guest that was ended says so: the reason is told before
_CORE_MODULES = b"\0\x11"  # the sort, in the names of a component


class Unfused(Exception):
    """It was not done, and the component is as it was. The text says why."""


def fused(wasm: bytes, first_bytes: Callable[[bytes], Sequence[tuple[int, int]]] = lambda _: ()) -> bytes:
    """The component with one core module in place of its own: the same imports, and of its exports the contract's.
    Custom sections are left out. One input has one output. `first_bytes` is asked what to write into the memory of the
    core module at the beginning, see `wrapper`. Raises Unfused."""
    program = _program()
    marked, stubs = _marked(wasm)
    with tempfile.TemporaryDirectory(prefix="host-build-") as place:
        before, after = Path(place, "many.wasm"), Path(place, "one.wasm")
        before.write_bytes(marked)
        # What it adds in custom sections is left out with them, so none of its options about these is needed.
        argv = [str(program), "fuse", before.name, "--output", after.name, "--memory", "shared", "--exports", "world"]
        try:
            done = subprocess.run(  # noqa: S603 - the program of a pinned package
                argv, cwd=place, capture_output=True, text=True, check=False, timeout=_LONGEST_S,
                env=environment.for_children(),
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unfused(f"{TOOL} does not run here: {error}") from None
        if done.returncode != 0 or not after.is_file():
            said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
            raise Unfused(f"{TOOL} cannot fuse it, and says {said[-1][:200]!r}")
        core = after.read_bytes()
    try:
        core = _telling(core, stubs)
        return wrap(wasm, core, REALLOC, first_bytes(core))
    except (NotAComponent, BuildError, IndexError, KeyError) as error:
        raise Unfused(f"{TOOL} made a module of another shape: {error}") from None


def _program() -> Path:
    """The program of the package, wherever that is installed: a `meld` in PATH may be another one."""
    try:
        files = distribution(TOOL).files or ()
    except PackageNotFoundError:
        raise Unfused(f"{TOOL} is not installed: {installation.remedy('build')}") from None
    for file in files:
        if file.stem == "meld" and (found := Path(str(file.locate()))).is_file():
            return found
    raise Unfused(f"{TOOL} has no program here")


def _marked(wasm: bytes) -> tuple[bytes, Sequence[str]]:
    """The component with a number in each of its functions that only trap, and what each of these stands for."""
    names = _module_names(wasm)
    made, count = [COMPONENT_PREAMBLE], 0
    stubs: list[str] = []
    for kind, start, end in sections(wasm):
        content = wasm[start:end]
        if kind == _MODULE:
            if found := _stubs_of(content):
                interface = names.get(count, "").rpartition("adapter:")[2]
                numbered = [sized(_numbered(len(stubs) + index)) for index in range(len(found))]
                stubs += [f"{interface} {name}".lstrip() for name in found]
                content = _joined(_parts(content) | {_CODE: vector(numbered)})
            count += 1
        made.append(as_section(kind, content))
    return b"".join(made), stubs


def _stubs_of(module: bytes) -> Sequence[str]:
    """The exports of a core module in which every function only traps, in the order of its functions; empty for
    another one."""
    parts = _parts(module)
    if parts.keys() != {_TYPES, _FUNCTIONS, _EXPORTS, _CODE}:
        return ()
    bodies = [*_bodies(parts[_CODE])]
    if any(body != _TRAPS for body in bodies):
        return ()
    named = {index: name for name, _, index in core_exports(parts[_EXPORTS])}
    return [named.get(index, "?") for index in range(len(bodies))]


def _telling(core: bytes, stubs: Sequence[str]) -> bytes:
    """The fused module without custom sections, and with stubs that say what was called. Raises Unfused unless each
    of them is there once."""
    parts = _parts(core)
    write = next((at for at, one in enumerate(core_imports(core)) if (one.module, one.name) == (LOG, "write")), None)
    segments, at = leb128(parts[_DATA], 0)
    numbers = {_numbered(index): index for index in range(len(stubs))}
    found, words, bodies = [], b"", []
    for body in _bodies(parts[_CODE]):
        if (number := numbers.get(body)) is None:
            bodies.append(sized(body))
            continue
        found.append(number)
        if write is None or stubs[number].startswith(_OF_A_PANIC):
            bodies.append(sized(_TRAPS))
            continue
        said = _LEVEL + _report(stubs[number])
        bodies.append(sized(_saying(write, segments, len(words), len(said))))
        words += said
    if sorted(found) != [*range(len(stubs))]:
        raise Unfused(f"{TOOL} left out some of the functions that trap")
    parts[_CODE] = vector(bodies)
    if words:  # one more segment of data, that is in no memory until one of them puts it there
        parts[_DATA] = to_leb128(segments + 1) + parts[_DATA][at:] + b"\1" + sized(words)
        parts[_DATA_COUNT] = to_leb128(segments + 1)
    return _joined(parts)


def _report(stub: str) -> bytes:
    """The message of level `fatal` by which a guest says why it ends (wit/README.md)."""
    message = f"{stub} was called, which a sandbox does not have"
    return json.dumps({"exception": "NotInASandbox", "message": message, "traceback": ""}).encode()


def _numbered(number: int) -> bytes:
    """A function that traps, with a number in it: i32.const, drop, unreachable, end."""
    return b"\0\x41" + to_signed_leb128(_FIRST_STUB + number) + b"\x1a\0\x0b"


def _saying(write: int, segment: int, at: int, size: int) -> bytes:
    """A function that copies a part of the segment of data, a level and a message, into the memory, hands it to the
    log, and traps."""
    copied = b"".join(b"\x41" + to_signed_leb128(number) for number in (_SCRATCH, at, size))
    copied += b"\xfc\x08" + to_leb128(segment) + b"\0"  # memory.init
    level = len(_LEVEL)
    arguments = (_SCRATCH, level, _SCRATCH + level, size - level)
    called = b"".join(b"\x41" + to_signed_leb128(number) for number in arguments) + b"\x10" + to_leb128(write)
    return b"\0" + copied + called + b"\0\x0b"


def _bodies(code: bytes) -> Iterator[bytes]:
    """Each function's body, without its size."""
    count, at = leb128(code, 0)
    for _ in range(count):
        size, start = leb128(code, at)
        at = start + size
        yield code[start:at]


def _parts(module: bytes) -> dict[int, bytes]:
    """The sections of a core module by their kind, in order, without the custom ones."""
    return {kind: module[start:end] for kind, start, end in sections(module) if kind != 0}


def _joined(parts: Mapping[int, bytes]) -> bytes:
    return CORE_PREAMBLE + b"".join(as_section(kind, content) for kind, content in parts.items())


def _module_names(wasm: bytes) -> dict[int, str]:
    """The names of a component's core modules by their number, as its section `component-name` has them."""
    names: dict[int, str] = {}
    for section, content in custom_sections(wasm):
        at = 0
        while section == "component-name" and at < len(content):
            kind = content[at]
            size, start = leb128(content, at + 1)
            at = start + size
            if kind == 1 and content.startswith(_CORE_MODULES, start):
                count, place = leb128(content, start + len(_CORE_MODULES))
                for _ in range(count):
                    index, place = leb128(content, place)
                    names[index], place = name_at(content, place)
    return names
