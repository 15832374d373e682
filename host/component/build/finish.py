"""The component once more, with less in its memory, and with code that has run before.

A sandbox begins with the memory that the build left. So the component is made twice. The first time, the bytecode of
all that the catalyst imports is kept, and what it answers to the manifest's examples. The second time nothing is
compiled, of which some megabytes would stay behind; and the examples run until the interpreter has specialised their
code and filled its caches. Then they have to be answered as the first time, with the same questions to the host, word
for word: where they are not, the catalyst keeps something from one call to the next, and its examples are left out.
The objects that are there at the end are immortal: nobody counts references to them any more, so that a run writes into
fewer of the pages that it begins with. `catalyst.sdk.finishing` is the guest's side of this.

The guest runs in both, and may be a stranger's. Each time it has a fresh copy of its sources, and what it leaves
there is read as plain files only, within bounds.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from host.component.wasm import data_segments, sections
from host.core.strict_json import Json
from host.errors import BuildError

FIRST: Final = "catalyst_build"
"""The module that componentize-py imports."""

_AT_START: Final = "sitecustomize"
_FOLDER: Final = ".build"  # a name that no folder of a catalyst brings along
_EXAMPLES, _ANSWERS, _REHEARSING, _COMPILED, _OBJECTS = (
    f"{_FOLDER}/{name}" for name in ("examples", "answers", "rehearsing", "bytecode", "objects")
)
_MOST_KEPT_BYTES = 64 * 1024 * 1024  # a catalyst of 396 operations leaves some 4 MiB
_MOST_KEPT_FILES = 10_000

# CPython's own numbers, for 32 bits (Include/refcount.h; PEP 683).
_IMMORTAL = 1 << 30  # references, from which on none are counted
_MOST_REFERENCES = 1_000_000  # below the address of anything
_PAIR = struct.Struct("<II")

_MODULE, _DATA = 1, 11  # sections of a component and of a core module (WebAssembly core specification, 5.5)


class Rehearsal(NamedTuple):
    """One example: the input, and what the host answers in it, call by call. As the guest says: of any kind."""

    text: str
    answers: Sequence[Json]


IN_ORDER: Final = """\
from catalyst.sdk import surroundings

surroundings.begin()
import app

Run = app.Run
surroundings.seal()
"""

# Nothing but this is compiled the second time; the folder is where the guest finds the stage.
_BYTECODE = f"""\
import sys

sys.dont_write_bytecode = True
sys.pycache_prefix = __file__.rpartition("/")[0] + "/{_COMPILED}"
"""
_KEEPING = f"""
from catalyst.sdk import finishing

stage = __file__.rpartition("/")[0] + "/"
finishing.keep_answers(Run, stage + "{_FOLDER}/")
finishing.keep_bytecode(stage, {{"{FIRST}", "{_AT_START}"}})
"""
# What a run leaves behind that refers to itself is collected early. Objects are counted, not bytes: at CPython's own
# 2,000, those with 30 KB of text each fill a sandbox of 128 MB.
_FINISHING = f"""
import gc
import sys

import catalyst.sdk
from catalyst.sdk import finishing

folder = __file__.rpartition("/")[0] + "/"
finishing.rehearse(Run, folder + "{_FOLDER}/")
gc.collect()
finishing.list_objects(folder + "{_OBJECTS}")
del finishing, catalyst.sdk.finishing, sys.modules["catalyst.sdk.finishing"]
sys.pycache_prefix = None
gc.collect()
gc.freeze()
gc.set_threshold(1_000, 10, 0)
"""


def finished(
    make: Callable[[Path], bytes], stage: Path, examples: Sequence[Json], note: Callable[[str], None]
) -> tuple[bytes, Sequence[Rehearsal]]:
    """What `make` makes of the sources in `stage`, the second time, and what happened in those of the `examples` that
    were rehearsed: they are inputs of the catalyst. `make` gets a copy of the sources and may change that. `note` is
    told what is left out, in a sentence. Raises BuildError."""
    if (begins := stage / f"{_AT_START}.py").exists():
        note(f"its memory is larger than it could be: its own {begins.name} takes the place of the build's")
        return made(make, stage, IN_ORDER), ()
    besides = {begins.name: _BYTECODE.encode(), _EXAMPLES: json.dumps([*examples]).encode()}
    _step(make, stage, _KEEPING, besides, note)
    try:
        return _step(make, stage, _FINISHING, besides, note), _rehearsals(examples, besides.get(_ANSWERS, b""))
    except BuildError as error:
        why = str(error).splitlines()[-1]
        note(f"its memory is larger than it could be: it was built once, as it cannot be built of its bytecode: {why}")
        return made(make, stage, IN_ORDER), ()


def _rehearsals(examples: Sequence[Json], kept: bytes) -> Sequence[Rehearsal]:
    """What the guest kept of each example, see `catalyst.sdk.finishing.keep_answers`; none where it kept something
    else."""
    try:
        calls = [calls for calls, _ in json.loads(kept)]
        return [
            Rehearsal(json.dumps(one), [call[-1] for call in asked]) for one, asked in zip(examples, calls, strict=True)
        ]
    except (ValueError, TypeError, LookupError, RecursionError):
        return ()


def _step(
    make: Callable[[Path], bytes], stage: Path, last: str, besides: dict[str, bytes], note: Callable[[str], None]
) -> bytes:
    """One of the two times, and once more without the examples where these fail. What the next one needs is added to
    the files `besides`. Raises BuildError."""
    with _copied(stage, IN_ORDER + last, besides) as folder:
        try:
            return _made_and_kept(make, folder, besides)
        except BuildError:
            if _read(folder, _REHEARSING, len(b"true")) != b"true":
                raise
    why = "cannot be answered while it is built" if last is _KEEPING else "depend on what ran before them"
    note(f"its first calls are slower than they could be: the examples of its manifest {why}")
    besides |= {_EXAMPLES: b"[]", _ANSWERS: b"[]"}
    with _copied(stage, IN_ORDER + last, besides) as folder:
        return _made_and_kept(make, folder, besides)


def _made_and_kept(make: Callable[[Path], bytes], folder: Path, besides: dict[str, bytes]) -> bytes:
    wasm = make(folder)
    besides |= _kept(folder)
    objects = _read(folder, _OBJECTS, _MOST_KEPT_BYTES)
    return wasm if objects is None else immortal(wasm, objects)


def made(make: Callable[[Path], bytes], stage: Path, first: str) -> bytes:
    """What `make` makes of a copy of the sources in `stage`, with the text `first` as the module to begin with."""
    with _copied(stage, first, {}) as folder:
        return make(folder)


@contextmanager
def _copied(stage: Path, first: str, besides: Mapping[str, bytes]) -> Iterator[Path]:
    """A copy of the stage that one `make` may use: the guest can write in it, and put links there that lead out of it.
    So the files `besides` are written before, and nothing is written after."""
    with tempfile.TemporaryDirectory(prefix="stage-", dir=stage.parent) as place:
        folder = Path(place, "stage")
        shutil.copytree(stage, folder)
        for name, content in {f"{FIRST}.py": first.encode(), **besides}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        yield folder


def _kept(folder: Path) -> dict[str, bytes]:
    """The answers and the bytecode that the guest left, by their paths in the folder. Raises BuildError."""
    kept: dict[str, bytes] = {}
    left = _MOST_KEPT_BYTES
    for name in (_ANSWERS, *_files(folder, _COMPILED)):
        if (content := _read(folder, name, left)) is not None:
            kept[name] = content
            left -= len(content)
        if left <= 0 or len(kept) > _MOST_KEPT_FILES:
            raise BuildError(
                f"the catalyst leaves more than {_MOST_KEPT_FILES} files or {_MOST_KEPT_BYTES >> 20} MiB in its build"
            )
    return kept


def _files(folder: Path, name: str) -> Iterator[str]:
    """The paths of what is in the folder `name` of `folder`, without going through a link."""
    if _is_own_folder(folder, name):
        for place, _, files in os.walk(folder / name):
            yield from (Path(place, file).relative_to(folder).as_posix() for file in files)


def _read(folder: Path, name: str, most: int) -> bytes | None:
    """The beginning of a file in the folder, of up to `most` bytes; None for what is no plain file of the folder
    itself. The guest has ended: nothing changes between the look and the reading."""
    file = folder / name
    try:
        if not _is_own_folder(folder, str(Path(name).parent)) or not stat.S_ISREG(file.lstat().st_mode):
            return None
        with file.open("rb") as opened:
            return opened.read(most)
    except OSError:
        return None


def _is_own_folder(folder: Path, name: str) -> bool:
    """Whether the path `name` in the folder leads to a folder, and through no link."""
    try:
        return all(
            stat.S_ISDIR(one.lstat().st_mode)
            for one in (folder / name, *(folder / name).parents)
            if one.is_relative_to(folder)
        )
    except OSError:
        return False


def immortal(wasm: bytes, objects: bytes) -> bytes:
    """The component in whose memory no references to `objects` are counted: the address of each and that of its type,
    as `catalyst.sdk.finishing.list_objects` writes them. Those that have gone since are left alone.

    An object begins with its count and its type. Where one has gone, there is another number: a link of a list of free
    memory is an address, and what is only free has no references. Raises NotAComponent."""
    memory = _Memory(wasm)
    pairs = [*_PAIR.iter_unpack(objects[: len(objects) // _PAIR.size * _PAIR.size])]
    never = memory.pair(pairs[0][0])[0] if pairs else 0  # the first is None, of which there are no counts
    if never >= _IMMORTAL:
        for address, kind in dict.fromkeys(pairs):
            count, found = memory.pair(address)
            if 0 < count < _MOST_REFERENCES and found == kind:
                memory.put(address, never)
    return bytes(memory.wasm)


class _Memory:
    """The memory that a component of componentize-py begins with: the data of one of its core modules, where it stands
    in `wasm`."""

    def __init__(self, wasm: bytes) -> None:
        """Raises NotAComponent."""
        self.wasm = bytearray(wasm)
        self._segments: list[tuple[int, int, int]] = []  # the first address, the one after the last, place in `wasm`
        for kind, start, end in sections(wasm):
            if kind == _MODULE:
                module = wasm[start:end]
                data = next((at for kind, at, _ in sections(module) if kind == _DATA), None)
                self._segments += [] if data is None else data_segments(module, data, start)
        self._segments.sort()
        self._starts = [start for start, _, _ in self._segments]

    def pair(self, address: int) -> tuple[int, int]:
        """The two numbers of four bytes at `address`; zeros where they do not stand in one segment."""
        place = self._place(address)
        return (0, 0) if place is None else _PAIR.unpack_from(self.wasm, place)

    def put(self, address: int, number: int) -> None:
        """Write a number where `pair` has found one."""
        place = self._place(address)
        assert place is not None
        self.wasm[place : place + 4] = number.to_bytes(4, "little")

    def _place(self, address: int) -> int | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        start, end, place = self._segments[index]
        return place + address - start if address + _PAIR.size <= end else None
