"""Checks a component's imports and exports against the contract, by interface, version and type, before it is
instantiated. wasmtime-py links by name alone, so nothing else would check them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from ctypes import byref
from typing import Any

from wasmtime import Engine
from wasmtime import _ffi as ffi
from wasmtime.component import (
    U8,
    U32,
    U64,
    Bool,
    BorrowType,
    Component,
    ComponentInstanceType,
    FuncType,
    ListType,
    ResultType,
    String,
    ValType,
)
from wasmtime.component._types import ComponentExtern

from host.core.wit import EXPORTS, IMPORTS, POLL, WAITS, WASI_ALLOWED, WASI_LINKED, Signature, provided
from host.errors import ContractError

_MAX_SHOWN_PARAMS = 8
_MAX_SHOWN_IMPORTS = 12


def check_contract(component: Component, engine: Engine, *, wasi: Iterable[str] = ()) -> tuple[str, ...]:
    """The names of the component's imports, in order. Raises ContractError, which names every import that the host does
    not provide, and otherwise the first that is of another type. `wasi` names interfaces of WASI beyond the harmless
    ones (`wasi:io/poll`, with or without a version) that the operator lets this component import. Looks up what the
    contract names, and never walks through all that a component exports."""
    try:
        return _checked(component, engine, wasi)
    except TypeError:  # from the library: a kind of type that it does not know
        raise ContractError("has a type that no interface of the contract has", subject="types") from None


def _checked(component: Component, engine: Engine, wasi: Iterable[str]) -> tuple[str, ...]:
    kind = component.type
    imports = kind.imports(engine)  # at most MAX_IMPORTS of host.component.wasm
    if missing := missing_imports(imports, wasi=wasi):
        raise missing
    for name, extern in imports.items():
        if (functions := provided(name)) is not None:
            _check_interface(name, extern.ty, functions, engine, subset=True)
        elif name.partition("@")[0] == POLL:
            _check_waits(name, extern.ty, engine)
    for name, functions in EXPORTS.items():
        exported = _named(ffi.wasmtime_component_type_export_get, kind, engine, name)
        if exported is None:
            raise ContractError(
                f"does not export {name}", subject=name, hint="a catalyst exports run: func(string) -> string"
            )
        _check_interface(name, exported.ty, functions, engine, subset=False)
    return tuple(imports)


def missing_imports(imports: Iterable[str], *, wasi: Iterable[str] = ()) -> ContractError | None:
    """The error that names all of `imports` that the host does not provide; None where it provides all."""
    allowed = frozenset(name for name in wasi if WASI_LINKED.match(name))
    missing = [
        name
        for name in imports
        if name not in IMPORTS and not WASI_ALLOWED.match(name) and allowed.isdisjoint((name, name.partition("@")[0]))
    ]
    if not missing:
        return None
    shown = [_shown(name) for name in missing[:_MAX_SHOWN_IMPORTS]]
    more = f" and {len(missing) - len(shown)} more" if len(missing) > len(shown) else ""
    return ContractError(
        f"imports {', '.join(shown)}{more}, which this host does not provide", subject=shown[0], hint=_remedy(missing)
    )


def _remedy(missing: Sequence[str]) -> str:
    """What an operator may do; nothing helps where one of them is beyond every permission."""
    if all(WASI_LINKED.match(name) for name in missing[:_MAX_SHOWN_IMPORTS]):
        options = " ".join(f"--allow-import {name}" for name in missing[:_MAX_SHOWN_IMPORTS])
        return f"an operator may let it: add {options}, or wasi=[…]; there are no files and no network in it"
    return "it provides " + ", ".join(IMPORTS)


def _check_interface(name: str, kind: object, wanted: Mapping[str, Signature], engine: Engine, *, subset: bool) -> None:
    """With `subset` the interface may lack functions of `wanted`, and have no others; else the other way round."""
    if not isinstance(kind, ComponentInstanceType):
        raise ContractError(f"{name} is not an interface", subject=name)
    if subset:
        for function in _first_names(kind, engine, len(wanted) + 1):
            if function not in wanted:
                raise ContractError(f"{name} has no {_shown(function)}", subject=f"{name}#{_shown(function)}")
    for function, signature in wanted.items():
        extern = _named(ffi.wasmtime_component_instance_type_export_get, kind, engine, function)
        if extern is None:
            if subset:
                continue
            raise ContractError(f"{name} lacks {function}", subject=f"{name}#{function}")
        kind_of = extern.ty
        found = _signature(kind_of) if isinstance(kind_of, FuncType) else "not a function"
        if found != _written(signature):
            raise ContractError(
                f"{name}#{function} is {found}, not {_written(signature)}", subject=f"{name}#{function}"
            )


def _check_waits(name: str, kind: object, engine: Engine) -> None:
    """Checks those functions of `wasi:io/poll` that the host provides; wasmtime checks the rest."""
    if not isinstance(kind, ComponentInstanceType):
        raise ContractError(f"{name} is not an interface", subject=name)
    for function, wanted in WAITS.items():
        extern = _named(ffi.wasmtime_component_instance_type_export_get, kind, engine, function)
        found = wanted if extern is None else "not a function"
        if extern is not None and isinstance(extern.ty, FuncType):
            found = _signature(extern.ty)
        if found != wanted:
            raise ContractError(f"{name}#{function} is {found}, not {wanted}", subject=f"{name}#{function}")


def _named(get: Any, kind: Any, engine: Engine, name: str) -> ComponentExtern | None:
    """The export `name`, looked up by the function `get` of the C API."""
    encoded, item = name.encode(), ctypes.POINTER(ffi.wasmtime_component_extern_t)()
    if not get(kind.ptr(), engine.ptr(), ctypes.create_string_buffer(encoded), len(encoded), byref(item)):
        return None
    return ComponentExtern._from_ptr(item)  # noqa: SLF001 - the library has no other way in


def _first_names(kind: ComponentInstanceType, engine: Engine, most: int) -> list[str]:
    """The names of the first exports of an instance, at most so many."""
    names = []
    count = ffi.wasmtime_component_instance_type_export_count(kind.ptr(), engine.ptr())
    for at in range(min(count, most)):
        name, size = ctypes.POINTER(ctypes.c_char)(), ctypes.c_size_t()
        item = ctypes.POINTER(ffi.wasmtime_component_extern_t)()
        ffi.wasmtime_component_instance_type_export_nth(
            kind.ptr(), engine.ptr(), at, byref(name), byref(size), byref(item)
        )
        ComponentExtern._from_ptr(item)  # noqa: SLF001 - it gives the memory back
        names.append(ctypes.string_at(name, size.value).decode("utf-8", "replace"))
    return names


def _signature(kind: FuncType) -> str:
    params = ", ".join(_type(of) for _, of in kind.params[:_MAX_SHOWN_PARAMS])
    params += ", …" if len(kind.params) > _MAX_SHOWN_PARAMS else ""
    result = kind.result
    return f"func({params})" + (f" -> {_type(result)}" if result is not None else "")


def _written(signature: Signature) -> str:
    return f"func({', '.join(signature.params)})" + (f" -> {signature.result}" if signature.result else "")


def _type(kind: ValType | None) -> str:
    match kind:
        case String():
            return "string"
        case Bool():
            return "bool"
        case U32():
            return "u32"
        case U64():
            return "u64"
        case BorrowType():
            return "borrow"
        case ListType() if isinstance(kind.element, U8 | U32 | BorrowType):
            return f"list<{_type(kind.element)}>"
        case ResultType() if isinstance(kind.ok, String) and isinstance(kind.err, String):
            return "result<string, string>"  # no other is of the contract, and what nests may be huge when written out
        case None:
            return "_"
        case _:
            return type(kind).__name__.removesuffix("Type").lower()


def _shown(name: str) -> str:
    """A name from the component: short, and without anything that a terminal would obey."""
    return "".join(c if c.isprintable() and c.isascii() else "?" for c in name[:120])
