"""Checks a component's imports and exports against the contract, by interface, version and type, before it is
instantiated. wasmtime-py links by name alone, so nothing else would check them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from wasmtime import Engine
from wasmtime.component import (
    Bool,
    Component,
    ComponentInstanceType,
    FuncType,
    ResultType,
    String,
    ValType,
)

from host.core.wit import EXPORTS, IMPORTS, WASI_ALLOWED, WASI_LINKED, Signature
from host.errors import ContractError

_MAX_SHOWN_PARAMS = 8
_MAX_SHOWN_IMPORTS = 12


def check_contract(component: Component, engine: Engine, *, wasi: Iterable[str] = ()) -> tuple[str, ...]:
    """The names of the component's imports, in order. Raises ContractError, which names every import that the host does
    not provide, and otherwise the first that is of another type. `wasi` names interfaces of WASI beyond the harmless
    ones (`wasi:io/poll`, with or without a version) that the operator lets this component import."""
    kind = component.type
    imports = kind.imports(engine)
    if missing := missing_imports(imports, wasi=wasi):
        raise missing
    for name, extern in imports.items():
        if name in IMPORTS:
            _check_interface(name, extern.ty, IMPORTS[name], engine, subset=True)
    exports = kind.exports(engine)
    for name, functions in EXPORTS.items():
        if name not in exports:
            raise ContractError(
                f"does not export {name}", subject=name, hint="a catalyst exports run: func(string) -> string"
            )
        _check_interface(name, exports[name].ty, functions, engine, subset=False)
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
    if not isinstance(kind, ComponentInstanceType):
        raise ContractError(f"{name} is not an interface", subject=name)
    found = kind.exports(engine)
    for function, extern in found.items():
        if function not in wanted:
            if subset:
                raise ContractError(f"{name} has no {_shown(function)}", subject=f"{name}#{_shown(function)}")
            continue
        kind_of = extern.ty
        signature = _signature(kind_of) if isinstance(kind_of, FuncType) else "not a function"
        if signature != _written(wanted[function]):
            raise ContractError(
                f"{name}#{function} is {signature}, not {_written(wanted[function])}", subject=f"{name}#{function}"
            )
    for function in () if subset else wanted:
        if function not in found:
            raise ContractError(f"{name} lacks {function}", subject=f"{name}#{function}")


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
        case ResultType() if isinstance(kind.ok, String) and isinstance(kind.err, String):
            return "result<string, string>"  # no other is of the contract, and what nests may be huge when written out
        case None:
            return "_"
        case _:
            return type(kind).__name__.removesuffix("Type").lower()


def _shown(name: str) -> str:
    """A name from the component: short, and without anything that a terminal would obey."""
    return "".join(c if c.isprintable() and c.isascii() else "?" for c in name[:120])
