"""A component around one core module: the imports of the component that the module was made of, and the contract's
export.

A core module asks for its imports before its memory is there, and the functions of a component need a memory to write
into. So there are three core modules: a shim, whose functions call what stands in its table; the module, which imports
these; and one that puts the component's functions into the table, which by then have the module's memory.

The last one may also write into the memory, what stands there already: one byte to each page that a run would write to
sooner or later. A page that is written before it, or one near it, was read is copied and that is all. One that was read
before has to be forgotten by every other processor that works for the process, which is interrupted for that: the two
hundred pages of a run took a third of its time.

In the text format:

    (component
      …the types and imports of the other component, byte by byte…
      (core module $main …) (core module $shim …) (core module $fixup …)
      (core instance $shim (instantiate $shim))
      (core instance $fetch (export "request" (func $shim "0"))) …
      (core instance $main (instantiate $main (with "cyfr:http/fetch@0.1.0" (instance $fetch)) …))
      (core func $request (canon lower (func $fetch "request") utf8 (memory $main "memory") (realloc …))) …
      (core instance (instantiate $fixup (with "" (instance
        (export "t" (table $shim "t")) (export "m" (memory $main "memory")) (export "0" (func $request)) …))))
      (type $run (func (param "input" string) (result string)))
      (func $run (type $run) (canon lift (core func $main "…#run") utf8 (memory …) (realloc …) (post-return …)))
      (instance $run (export "run" (func $run)))
      (export "cyfr:catalyst/run@0.1.0" (instance $run)))

The numbers are those of the Component Model's Binary.md and of the WebAssembly core specification, 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from host.component.wasm import (
    COMPONENT_PREAMBLE,
    CORE_PREAMBLE,
    as_section,
    leb128,
    name_at,
    read_outline,
    sections,
    sized,
    to_leb128,
    to_signed_leb128,
    vector,
)
from host.core.wit import RUN
from host.errors import BuildError

POST_RETURN: Final = f"cabi_post_{RUN}#run"
MEMORY: Final = "memory"

# Sections of a component.
_MODULE, _CORE_INSTANCE, _INSTANCE, _ALIAS, _TYPE, _CANON, _IMPORT, _EXPORT = 1, 2, 5, 6, 7, 8, 10, 11
# Sections of a core module.
_CORE_TYPES, _CORE_IMPORTS, _FUNCTIONS, _TABLES, _CORE_EXPORTS, _ELEMENTS, _CODE, _DATA = 1, 2, 3, 4, 7, 9, 10, 11
_FUNC, _TABLE, _MEMORY, _INSTANCE_SORT = b"\0", b"\1", b"\2", b"\x12"  # sorts within a core module's world
_STRING, _FUNCREF = b"\x73", b"\x70"
_FUNCTION_TYPE = 0x60


@dataclass(frozen=True, slots=True)
class CoreImport:
    """A function that a core module imports. `kind` is its type, as the binary has it."""

    module: str
    name: str
    kind: bytes


def wrap(other: bytes, core: bytes, realloc: str, first_bytes: Sequence[tuple[int, int]] = ()) -> bytes:
    """The component of the core module `core` with the imports of `other`. `realloc` is the export of `core` that
    makes room in its memory. `first_bytes` are written at the beginning: addresses, and what stands there. Raises
    BuildError where `core` does not fit `other`, lacks an export, or imports anything but functions; NotAComponent."""
    imported = core_imports(core)
    interfaces = read_outline(other).imports
    if unknown := {one.module for one in imported} - {*interfaces}:
        raise BuildError(f"it imports {', '.join(sorted(unknown))} beside the interfaces of its world")
    if missing := _missing(core, realloc):
        raise BuildError(f"it does not export {', '.join(missing)}")
    count, used = len(imported), [*dict.fromkeys(one.module for one in imported)]
    instances = [
        _exports((one.name, _FUNC, index) for index, one in enumerate(imported) if one.module == interface)
        for interface in used
    ]
    main = len(instances) + 1  # the first is the shim
    lowered = count + 3  # core functions before these: the shim's, and three of the module
    canonical = b"\0" + b"\3" + to_leb128(0) + b"\4" + to_leb128(count)  # utf8, memory, realloc
    head, types = _head(other)
    return b"".join((
        COMPONENT_PREAMBLE,
        head,
        *(as_section(_MODULE, module) for module in (core, _shim(imported), _fixup(imported, first_bytes))),
        _section(_CORE_INSTANCE, _instantiate(1)),
        _section(_ALIAS, *(_core_alias(_FUNC, 0, str(index)) for index in range(count)), _core_alias(_TABLE, 0, "t")),
        _section(_CORE_INSTANCE, *instances, _instantiate(0, *((name, at) for at, name in enumerate(used, start=1)))),
        _section(
            _ALIAS,
            _core_alias(_MEMORY, main, MEMORY),
            *(_core_alias(_FUNC, main, name) for name in (realloc, f"{RUN}#run", POST_RETURN)),
            *(b"\1\0" + to_leb128(interfaces.index(one.module)) + _name(one.name) for one in imported),
        ),
        _section(_CANON, *(b"\1\0" + to_leb128(index) + b"\3" + canonical for index in range(count))),
        _section(
            _CORE_INSTANCE,
            _exports((
                ("t", _TABLE, 0),
                ("m", _MEMORY, 0),
                *((str(index), _FUNC, lowered + index) for index in range(count)),
            )),
            _instantiate(2, ("", main + 1)),
        ),
        _section(_TYPE, b"\x40" + vector([_name("input") + _STRING]) + b"\0" + _STRING),
        _section(
            _CANON,
            b"\0\0" + to_leb128(count + 1) + b"\4" + canonical + b"\5" + to_leb128(count + 2) + to_leb128(types),
        ),
        _section(_INSTANCE, b"\1" + vector([b"\0" + _name("run") + b"\1" + to_leb128(count)])),
        _section(_EXPORT, b"\0" + _name(RUN) + b"\5" + to_leb128(len(interfaces)) + b"\0"),
    ))  # fmt: skip


def core_imports(core: bytes) -> list[CoreImport]:
    """The imports of a core module, in order. Raises BuildError where one is no function; NotAComponent."""
    parts = {kind: core[start:end] for kind, start, end in sections(core)}
    kinds = _function_types(parts.get(_CORE_TYPES, b"\0"))
    content = parts.get(_CORE_IMPORTS, b"\0")
    found, (count, at) = [], leb128(content, 0)
    for _ in range(count):
        module, at = name_at(content, at)
        name, at = name_at(content, at)
        if content[at : at + 1] != _FUNC:
            raise BuildError(f"it imports {module} {name}, which is no function")
        index, at = leb128(content, at + 1)
        found.append(CoreImport(module, name, kinds[index]))
    return found


def core_exports(content: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Name, sort and number of each export in a core module's section of them."""
    count, at = leb128(content, 0)
    for _ in range(count):
        name, at = name_at(content, at)
        sort = content[at : at + 1]
        index, at = leb128(content, at + 1)
        yield name, sort, index


def _missing(core: bytes, realloc: str) -> list[str]:
    """What the component needs of the exports of `core` and does not find."""
    found = {
        (name, sort)
        for kind, start, end in sections(core)
        if kind == _CORE_EXPORTS
        for name, sort, _ in core_exports(core[start:end])
    }
    needed = [(MEMORY, _MEMORY), *((name, _FUNC) for name in (realloc, f"{RUN}#run", POST_RETURN))]
    return [name for name, sort in needed if (name, sort) not in found]


def _function_types(content: bytes) -> list[bytes]:
    found, (count, at) = [], leb128(content, 0)
    for _ in range(count):
        begin = at
        if content[at] != _FUNCTION_TYPE:
            raise BuildError("it has a type that is no function's")
        parameters, at = leb128(content, at + 1)
        results, at = leb128(content, at + parameters)  # a byte each
        at += results
        found.append(content[begin:at])
    return found


def _head(other: bytes) -> tuple[bytes, int]:
    """The sections of a component's types and imports, and the number of its types. Raises BuildError where others
    stand between."""
    begin, types, imports = len(COMPONENT_PREAMBLE), 0, 0
    for kind, start, end in sections(other):
        if kind not in (_TYPE, _IMPORT):
            break
        types += leb128(other, start)[0] if kind == _TYPE else 0
        imports += leb128(other, start)[0] if kind == _IMPORT else 0
        begin = end
    if imports != len(read_outline(other).imports):
        raise BuildError("its imports do not stand at its beginning")
    return other[len(COMPONENT_PREAMBLE) : begin], types


def _shim(imported: Sequence[CoreImport]) -> bytes:
    """The core module that exports a table `t`, and functions `0`, `1`, … that call what stands there."""
    count = len(imported)
    bodies = []
    for index, one in enumerate(imported):
        arguments = b"".join(b"\x20" + to_leb128(at) for at in range(leb128(one.kind, 1)[0]))
        call = b"\x41" + to_signed_leb128(index) + b"\x11" + to_leb128(index) + b"\0"  # i32.const, call_indirect
        bodies.append(sized(b"\0" + arguments + call + b"\x0b"))
    return CORE_PREAMBLE + b"".join((
        _section(_CORE_TYPES, *(one.kind for one in imported)),
        _section(_FUNCTIONS, *(to_leb128(index) for index in range(count))),
        _section(_TABLES, _table(count)),
        _section(
            _CORE_EXPORTS,
            *(_name(str(index)) + _FUNC + to_leb128(index) for index in range(count)),
            _name("t") + _TABLE + to_leb128(0),
        ),
        _section(_CODE, *bodies),
    ))  # fmt: skip


def _fixup(imported: Sequence[CoreImport], first_bytes: Sequence[tuple[int, int]]) -> bytes:
    """The core module that puts the functions `0`, `1`, … into the table `t`, and the `first_bytes` into the memory
    `m`."""
    count = len(imported)
    return CORE_PREAMBLE + b"".join((
        _section(_CORE_TYPES, *(one.kind for one in imported)),
        _section(
            _CORE_IMPORTS,
            _name("") + _name("t") + _TABLE + _table(count),
            _name("") + _name("m") + _MEMORY + b"\0\1",  # of a page or more
            *(_name("") + _name(str(index)) + _FUNC + to_leb128(index) for index in range(count)),
        ),
        _section(_ELEMENTS, b"\0\x41\0\x0b" + vector([to_leb128(index) for index in range(count)])),  # from 0 on
        _section(
            _DATA,
            *(b"\0\x41" + to_signed_leb128(address) + b"\x0b" + sized(bytes((byte,))) for address, byte in first_bytes),
        ),
    ))  # fmt: skip


def _table(count: int) -> bytes:
    return _FUNCREF + b"\1" + to_leb128(count) * 2  # at least and at most


def _section(kind: int, *items: bytes) -> bytes:
    return as_section(kind, vector(items))


def _name(name: str) -> bytes:
    return sized(name.encode())


def _core_alias(sort: bytes, instance: int, name: str) -> bytes:
    """An export of a core instance."""
    return b"\0" + sort + b"\1" + to_leb128(instance) + _name(name)


def _instantiate(module: int, *arguments: tuple[str, int]) -> bytes:
    """A core instance of the module with that number, which imports from those instances by name."""
    return b"\0" + to_leb128(module) + vector([_name(name) + _INSTANCE_SORT + to_leb128(at) for name, at in arguments])


def _exports(items: Iterable[tuple[str, bytes, int]]) -> bytes:
    """A core instance of nothing but these: name, sort and number."""
    return b"\1" + vector([_name(name) + sort + to_leb128(index) for name, sort, index in items])
