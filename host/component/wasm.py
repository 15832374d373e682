"""Custom sections of a component binary: read without compiling it, and appended.

The binary format is a preamble of eight bytes, then sections: an id, a size in LEB128, that many bytes; a custom
section (id 0) begins with its name (WebAssembly core specification 5.5; Component Model, Binary.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from host.errors import NotAComponent

COMPONENT_PREAMBLE = b"\0asm\x0d\0\x01\0"
CORE_PREAMBLE = b"\0asm\x01\0\0\0"

MANIFEST_SECTION = "catalyst:manifest"

MAX_SECTION_BYTES = 1 << 20


def check_component(wasm: bytes) -> None:
    """Raises NotAComponent, which says what else it is."""
    if not wasm.startswith(COMPONENT_PREAMBLE):
        raise NotAComponent(
            _what_it_is(wasm), hint="`host build` makes one from Python, wit-component from a core module"
        )


def custom_sections(wasm: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each custom section of the outermost component, in order; of a section larger than 1 MiB only
    that much and a byte, by which it is known. Raises NotAComponent where the sections don't add up."""
    check_component(wasm)
    at = len(COMPONENT_PREAMBLE)
    while at < len(wasm):
        kind = wasm[at]
        size, start = _leb128(wasm, at + 1)
        end = start + size
        if end > len(wasm):
            raise NotAComponent("the component is cut short")
        if kind == 0:
            name_size, name_start = _leb128(wasm, start)
            content = name_start + name_size
            if content > end:
                raise NotAComponent("a custom section of the component is malformed")
            name = wasm[name_start : min(content, name_start + MAX_SECTION_BYTES)].decode("utf-8", "replace")
            yield name, wasm[content : min(end, content + MAX_SECTION_BYTES + 1)]
        at = end


def append_section(wasm: bytes, name: str, content: bytes) -> bytes:
    """`wasm` with one more custom section at its end."""
    encoded = name.encode()
    body = _to_leb128(len(encoded)) + encoded + content
    return wasm + b"\0" + _to_leb128(len(body)) + body


def _leb128(data: bytes, at: int) -> tuple[int, int]:
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


def _to_leb128(value: int) -> bytes:
    encoded = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        encoded.append(low | (0x80 if value else 0))
        if not value:
            return bytes(encoded)


def _what_it_is(content: bytes) -> str:
    if content.startswith(CORE_PREAMBLE):
        return "this is a core WebAssembly module, not a component"
    if content.startswith(b"\0asm"):
        return "this is a WebAssembly binary of an unknown version, not a component"
    if content[:64].lstrip().startswith((b"(component", b"(module")):
        return "this is WebAssembly text, not a component binary"
    return "this is not a WebAssembly component" if content else "the file is empty"
