"""A component binary, read without compiling it: its custom sections, its imports and exports, and how much there is
of everything.

The binary format is a preamble of eight bytes, then sections: an id, a size in LEB128, that many bytes; a custom
section (id 0) begins with its name (WebAssembly core specification 5.5; Component Model, Binary.md). Core modules and
components inside are sections too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from host.errors import ContractError, ManifestError, NotAComponent

COMPONENT_PREAMBLE = b"\0asm\x0d\0\x01\0"
CORE_PREAMBLE = b"\0asm\x01\0\0\0"

MANIFEST_SECTION = "catalyst:manifest"
SCHEMAS_SECTION = "catalyst:schemas"
SBOM_SECTION = "catalyst:sbom"
NOTICE_SECTION = "catalyst:notice"

MAX_SECTION_BYTES = 1 << 20
MAX_SCHEMAS_BYTES = 4 << 20
"""Of the section with the operations' schemas: 400 operations of a large API take some 700 KiB."""

_CUSTOM, _MODULE, _COMPONENT, _START, _IMPORTS, _EXPORTS = 0, 1, 4, 9, 10, 11
_NAMES: Final = {
    _MODULE: "core modules", 2: "core instances", 3: "core types", _COMPONENT: "components", 5: "instances",
    6: "aliases", 7: "types", 8: "functions", _START: "start functions", _IMPORTS: "imports", _EXPORTS: "exports",
    12: "values",
}  # fmt: skip

# Some five to ten times as much as a component of 300 operations or one with all of WASI has.
MAX_SECTIONS = 10_000
MAX_IMPORTS = 1_000
MAX_EXPORTS = 1_000
MAX_NESTING = 8
MAX_ITEMS = 20_000
"""Of each other kind: types, aliases, instances, functions."""
MAX_PARTS = 1_000
"""Core modules, and components."""
MAX_OUTLINE_BYTES = 1 << 20
"""What is neither a core module nor a custom section: names and types."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The names of a component's imports and exports, in order, as its binary has them."""

    imports: tuple[str, ...]
    exports: tuple[str, ...]


def check_component(wasm: bytes) -> None:
    """Raises NotAComponent, which says what else it is."""
    if not wasm.startswith(COMPONENT_PREAMBLE):
        raise NotAComponent(
            _what_it_is(wasm), hint="`host build` makes one from Python, wit-component from a core module"
        )


def custom_sections(wasm: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each custom section of the outermost component, in order; of a section larger than
    `most_bytes` of its name only that much and a byte, by which it is known. Raises NotAComponent where the sections
    don't add up, ContractError for too many."""
    check_component(wasm)
    for found, (kind, start, end) in enumerate(sections(wasm), start=1):
        _check_most("sections", found, MAX_SECTIONS)
        if kind == 0:
            name_size, name_start = leb128(wasm, start)
            content = name_start + name_size
            if content > end:
                raise NotAComponent("a custom section of the component is malformed")
            name = wasm[name_start : min(content, name_start + MAX_SECTION_BYTES)].decode("utf-8", "replace")
            yield name, wasm[content : min(end, content + most_bytes(name) + 1)]


def sections(wasm: bytes) -> Iterator[tuple[int, int, int]]:
    """The kind of each section of a component or a core module, and where its content begins and ends. Raises
    NotAComponent where they don't add up."""
    at = len(COMPONENT_PREAMBLE)
    while at < len(wasm):
        kind = wasm[at]
        size, start = leb128(wasm, at + 1)
        at = start + size
        if at > len(wasm):
            raise NotAComponent("the component is cut short")
        yield kind, start, at


def most_bytes(section: str) -> int:
    """That a custom section of this name may have."""
    return MAX_SCHEMAS_BYTES if section == SCHEMAS_SECTION else MAX_SECTION_BYTES


def only_section(wasm: bytes, section: str, what: str) -> bytes | None:
    """The content of the custom section of this name; None without one. Raises ManifestError for two of them, since
    readers could differ over which counts, and for one that is too large; NotAComponent."""
    found = [content for name, content in custom_sections(wasm) if name == section]
    if len(found) > 1:
        raise ManifestError(f"the component has more than one {what}")
    if found and len(found[0]) > most_bytes(section):
        raise ManifestError(f"the {what} is larger than {most_bytes(section)} bytes")
    return found[0] if found else None


def read_outline(wasm: bytes) -> Outline:
    """The outline of the component in `wasm`, read in a time that its number of sections bounds. Raises NotAComponent
    where the sections don't add up, and ContractError where there is more of anything than a catalyst has: a compiler,
    or a check of its types, could take minutes for it."""
    check_component(wasm)
    counts: Counter[str] = Counter()
    imports: list[str] = []
    exports: list[str] = []
    pending = [(len(COMPONENT_PREAMBLE), len(wasm), 0)]
    while pending:
        at, stop, depth = pending.pop()
        while at < stop:
            kind = wasm[at]
            size, start = leb128(wasm, at + 1)
            at = start + size
            if at > stop:
                raise NotAComponent("the component is cut short")
            _count(counts, "sections", 1, MAX_SECTIONS)
            if kind == _COMPONENT:
                _check_most("levels of components", depth + 1, MAX_NESTING)
                pending.append((start + len(COMPONENT_PREAMBLE), at, depth + 1))
            if kind in (_CUSTOM, _MODULE, _COMPONENT):
                if kind != _CUSTOM:
                    _count(counts, _NAMES[kind], 1, MAX_PARTS)
                continue
            if kind not in _NAMES:
                raise NotAComponent(f"the component has a section of an unknown kind, {kind}")
            _count(counts, "bytes of names and types", size, MAX_OUTLINE_BYTES)
            items = 1 if kind == _START else leb128(wasm, start)[0]
            _count(counts, _NAMES[kind], items, {_IMPORTS: MAX_IMPORTS, _EXPORTS: MAX_EXPORTS}.get(kind, MAX_ITEMS))
            if depth == 0 and kind in (_IMPORTS, _EXPORTS):
                read = _imported if kind == _IMPORTS else _exported
                (imports if kind == _IMPORTS else exports).extend(_names(wasm[start:at], read))
    return Outline(tuple(imports), tuple(exports))


def append_section(wasm: bytes, name: str, content: bytes) -> bytes:
    """`wasm` with one more custom section at its end."""
    return wasm + as_section(0, sized(name.encode()) + content)


def as_section(kind: int, content: bytes) -> bytes:
    return bytes((kind,)) + sized(content)


def sized(content: bytes) -> bytes:
    """With its size before it, as names, sections and the bodies of functions are written."""
    return to_leb128(len(content)) + content


def vector(items: Sequence[bytes]) -> bytes:
    """With their number before them."""
    return to_leb128(len(items)) + b"".join(items)


def _count(counts: Counter[str], what: str, more: int, most: int) -> None:
    counts[what] += more
    _check_most(what, counts[what], most)


def _check_most(what: str, found: int, most: int) -> None:
    if found > most:
        raise ContractError(f"the component has more than {most:,} {what}", subject=what)


def _names(section: bytes, item: Callable[[bytes, int], int]) -> Iterator[str]:
    """The names in a section of imports or exports; `item` tells where the rest of an entry ends."""
    count, at = leb128(section, 0)
    try:
        for _ in range(count):
            form = section[at]
            size, start = leb128(section, at + 1)
            at = start + size
            yield section[start:at].decode("utf-8", "replace")
            if form == 2:  # a version's suffix follows
                size, at = leb128(section, at)
                at += size
            at = item(section, at)
    except IndexError:
        raise NotAComponent("a section of the component is malformed") from None


def _imported(section: bytes, at: int) -> int:
    """The end of the type that an import has (externdesc)."""
    sort = section[at]
    at += 2 if sort == 0 else 1  # of a core module, its sort in turn
    if sort in (2, 3):  # a value or a type, with a bound
        if sort == 3 and section[at] == 1:
            return at + 1
        at += 1
    return leb128(section, at)[1]


def _exported(section: bytes, at: int) -> int:
    """The end of what an export stands for: a sort and an index, and perhaps a type."""
    at += 2 if section[at] == 0 else 1
    at = leb128(section, at)[1]
    return _imported(section, at + 1) if section[at] == 1 else at + 1


def leb128(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number of at most 32 bits, and where it ends."""
    value = shift = 0
    while at < len(data) and shift < 35:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise NotAComponent("a section of the component is malformed")


def to_leb128(value: int) -> bytes:
    encoded = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        encoded.append(low | (0x80 if value else 0))
        if not value:
            return bytes(encoded)


def to_signed_leb128(value: int) -> bytes:
    """A number from 0 on as a signed one, whose highest bit is the sign."""
    encoded = to_leb128(value)
    return encoded[:-1] + bytes((encoded[-1] | 0x80, 0)) if encoded[-1] & 0x40 else encoded


def name_at(data: bytes, at: int) -> tuple[str, int]:
    """The name that begins at `at`, and where it ends."""
    size, start = leb128(data, at)
    return data[start : start + size].decode("utf-8", "replace"), start + size


def data_segments(module: bytes, at: int, offset: int = 0) -> Iterator[tuple[int, int, int]]:
    """The segments of data that have an address, in the section at `at` of a core module: the first address, the one
    after the last, and the place of the content, from `offset` on."""
    count, at = leb128(module, at)
    for _ in range(count):
        mode, at = leb128(module, at)
        address = None
        if mode == 0:
            address, at = leb128(module, at + 1)  # i32.const, with a sign that no address of ours has
            at += 1  # end
        size, at = leb128(module, at)
        if address is not None:
            yield address, address + size, offset + at
        at += size


def _what_it_is(content: bytes) -> str:
    if content.startswith(CORE_PREAMBLE):
        return "this is a core WebAssembly module, not a component"
    if content.startswith(b"\0asm"):
        return "this is a WebAssembly binary of an unknown version, not a component"
    if content[:64].lstrip().startswith((b"(component", b"(module")):
        return "this is WebAssembly text, not a component binary"
    return "this is not a WebAssembly component" if content else "the file is empty"
