"""A small component, before and after it was fused: what it calls, with what, and what comes back."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping

import pytest
from wasmtime import Engine, Store, WasmtimeError, wat2wasm
from wasmtime.component import Component, Linker, LinkerInstance

from host import Host
from host.component.build import fuse
from host.component.build.wrapper import wrap
from host.component.wasm import append_section, as_section, custom_sections, data_segments, read_outline, sections
from host.core.wit import LOG, OUTPUT, RUN, STREAMING, WEBSOCKET
from host.errors import BuildError, CompileError
from tests.conftest import wat

OTHER = "test:other/log@0.1.0"
CLOCK = "wasi:clocks/wall-clock@0.2.0"
ENGINE = Engine()
ANSWERS = {
    (OTHER, "write"): None,
    (STREAMING, "read"): "what was réad",
    (OUTPUT, "emit"): False,
    (LOG, "write"): None,
    (LOG, "flush"): None,
    (WEBSOCKET, "receive"): "what was received",
}


@functools.cache
def before() -> bytes:
    return wat("stubbed")


@functools.cache
def after() -> bytes:
    return fuse.fused(before())


def binary(text: str) -> bytes:
    return bytes(wat2wasm(text))


def without_custom_sections(wasm: bytes) -> bytes:
    return wasm[:8] + b"".join(as_section(kind, wasm[at:end]) for kind, at, end in sections(wasm) if kind)


class Guest:
    """A component in one instance, with what it has called."""

    def __init__(self, wasm: bytes, answers: Mapping[tuple[str, str], object] = ANSWERS) -> None:
        self._answers = answers
        self.calls: list[tuple[object, ...]] = []
        component, linker = Component(ENGINE, wasm), Linker(ENGINE)
        with linker.root() as root:
            for interface in {one for one, _ in answers}:
                with root.add_instance(interface) as instance:
                    self._define(instance, interface)
        linker.define_unknown_imports_as_traps(component)
        self._store = Store(ENGINE)
        made = linker.instantiate(self._store, component)
        found = made.get_export_index(self._store, RUN)
        found = made.get_export_index(self._store, "run", found)
        assert found is not None
        self._run = made.get_func(self._store, found)

    def _define(self, instance: LinkerInstance, interface: str) -> None:
        def answering(name: str) -> Callable[..., object]:
            def called(_: object, *arguments: object) -> object:
                self.calls.append((interface, name, *arguments))
                return self._answers[interface, name]

            return called

        for one, name in self._answers:
            if one == interface:
                instance.add_func(name, answering(name))

    def run(self, text: str) -> object:
        assert self._run is not None
        return self._run(self._store, text)


@pytest.mark.parametrize(
    ("text", "answer", "call"),
    [
        pytest.param("l is logged", "l is logged", (LOG, "write", "info", "l is logged"), id="four words"),
        pytest.param("f too", "f too", (LOG, "flush", "info", "f too"), id="a second function of an interface"),
        pytest.param("t é", "t é", (OTHER, "write", "info", "t é"), id="a function of the same name elsewhere"),
        pytest.param("some", "what was réad", (STREAMING, "read", "some"), id="three words, and a text comes back"),
        pytest.param("w", "what was received", (WEBSOCKET, "receive", "w", 300), id="a text and a number"),
        pytest.param("o", "n", (OUTPUT, "emit", "o"), id="two words, and one comes back"),
    ],
)
@pytest.mark.parametrize("made", [before, after], ids=["before", "after"])
def test_a_call_arrives_where_it_was_sent_with_its_arguments_and_its_answer_comes_back(
    made: Callable[[], bytes], text: str, answer: str, call: tuple[object, ...]
) -> None:
    guest = Guest(made())
    assert guest.run(text) == answer
    assert guest.calls == [call]


def test_imports_that_are_not_called_stay_and_so_does_the_type_of_the_run() -> None:
    assert read_outline(after()) == read_outline(before())
    types = []
    for wasm in (before(), after()):
        run = Component(ENGINE, wasm).type.exports(ENGINE)[RUN].ty.exports(ENGINE)["run"].ty
        types.append((repr(run.params), repr(run.result)))
    assert types[0] == types[1]


def test_every_answer_is_given_back_to_the_guest_that_made_it() -> None:
    """Runs that share an instance would fill its memory."""
    guest = Guest(after())
    assert [guest.run("g") for _ in range(3)] == ["0", "1", "2"]


@pytest.mark.parametrize(("text", "function"), [("c", "now"), ("r", "resolution")])
def test_each_function_that_traps_says_first_which_one_it_is(text: str, function: str) -> None:
    guest = Guest(after())
    with pytest.raises(WasmtimeError, match="unreachable"):
        guest.run(text)
    [(interface, name, level, message)] = guest.calls
    assert (interface, name, level) == (LOG, "write", "fatal")
    said = f"{CLOCK} {function} was called, which a sandbox does not have"
    assert json.loads(str(message)) == {"exception": "NotInASandbox", "message": said, "traceback": ""}


def test_the_stderr_of_a_panic_traps_without_a_word() -> None:
    """The guest has said before why it ends, and the first to say so is believed."""
    guest = Guest(after())
    with pytest.raises(WasmtimeError, match="unreachable"):
        guest.run("e")
    assert guest.calls == []


def test_without_names_of_modules_the_function_alone_is_told() -> None:
    guest = Guest(fuse.fused(without_custom_sections(before())))
    with pytest.raises(WasmtimeError):
        guest.run("c")
    assert json.loads(str(guest.calls[0][3]))["message"].startswith("now was called")


def test_no_other_custom_section_names_modules() -> None:
    [(_, names)] = custom_sections(before())
    lying = append_section(before(), "other", names.replace(b"wall-clock", b"mall-clock"))
    assert fuse.fused(lying) == after()


@pytest.mark.parametrize(
    "module",
    [
        pytest.param('(func (export "a") unreachable) (memory 1)', id="a memory"),
        pytest.param('(import "" "f" (func)) (func (export "a") unreachable)', id="an import"),
        pytest.param('(func (export "a") unreachable) (func (export "b"))', id="a function that returns"),
        pytest.param('(func (export "a") nop unreachable)', id="a function that does something first"),
    ],
)
def test_a_module_with_anything_but_functions_that_trap_stays_as_it_is(module: str) -> None:
    component = without_custom_sections(binary(f"(component (core module {module}))"))
    assert fuse._marked(component) == (component, [])


WRITE = '(import "catalyst:host/log@0.1.0" "write" (func (param i32 i32 i32 i32)))'
FITS = (
    '(memory (export "memory") 1) (func (export "meld:realloc/0") (param i32 i32 i32 i32) (result i32) unreachable)'
    f'(func (export "{RUN}#run") (param i32 i32) (result i32) unreachable)'
    f'(func (export "cabi_post_{RUN}#run") (param i32))'
)


@pytest.mark.parametrize(
    ("imports", "said"),
    [
        pytest.param('(import "evil:corp/backdoor" "open" (func))', "imports evil:corp/backdoor beside", id="what the world has not"),
        pytest.param('(import "catalyst:host/log@0.1.0" "memory" (memory 1))', "is no function", id="a memory"),
    ],
)  # fmt: skip
def test_a_module_that_asks_for_more_than_the_component_did_gets_none_around_it(imports: str, said: str) -> None:
    rest = FITS if "memory 1" not in imports else ""
    with pytest.raises(BuildError, match=said):
        wrap(before(), binary(f"(module {imports} {rest})"), fuse.REALLOC)


@pytest.mark.parametrize("name", ["memory", fuse.REALLOC, f"{RUN}#run", f"cabi_post_{RUN}#run"])
@pytest.mark.parametrize(
    "instead", ["", '(global (export "{name}") i32 (i32.const 0))'], ids=["nothing", "no such thing"]
)
def test_a_module_that_lacks_an_export_gets_no_component_around_it(name: str, instead: str) -> None:
    lacking = FITS.replace(f'"{name}"', '"x"') + instead.replace("{name}", name)
    with pytest.raises(BuildError, match=f"it does not export {re.escape(name)}$"):
        wrap(before(), binary(f"(module {lacking})"), fuse.REALLOC)


def test_a_module_whose_run_has_another_type_is_refused_when_it_is_compiled(host: Host) -> None:
    world = f'(import "{LOG}" (instance (export "write" (func (param "level" string) (param "message" string)))))'
    other = binary(f"(component {world})")
    host.load(wrap(other, binary(f"(module {WRITE} {FITS})"), fuse.REALLOC))
    unlike = FITS.replace("(param i32 i32) (result i32)", "(param i32)")
    with pytest.raises(CompileError, match=r"signature|type"):
        host.load(wrap(other, binary(f"(module {WRITE} {unlike})"), fuse.REALLOC))


def test_of_many_functions_each_is_the_one_that_is_called() -> None:
    """Numbers from 64 on take two bytes where they have a sign."""
    many = [f"f{number}" for number in range(200)]
    interface = " ".join(f'(export "{one}" (func))' for one in many)
    imports = " ".join(f'(import "{OTHER}" "{one}" (func ${one}))' for one in many)
    does = " ".join(f"(call ${one})" for one in many)
    fits = FITS.replace("(result i32) unreachable", "(result i32) (i32.const 1024)", 1)
    fits = fits.replace("(result i32) unreachable", f"(result i32) {does} (i32.const 512)", 1)
    other = binary(f'(component (import "{OTHER}" (instance {interface})))')
    whole = wrap(other, binary(f"(module {imports} {fits})"), fuse.REALLOC)
    guest = Guest(whole, {(OTHER, one): None for one in many})
    assert guest.run("x") == ""
    assert guest.calls == [(OTHER, one) for one in many]


@pytest.mark.parametrize(
    "component",
    [
        pytest.param('(import "a:b/c" (instance)) (core module) (import "a:b/d" (instance))', id="a module between"),
        pytest.param('(core module) (import "a:b/c" (instance))', id="a module before"),
    ],
)
def test_a_component_whose_imports_do_not_come_first_is_left_as_it_is(component: str) -> None:
    other = binary(f"(component {component})")
    with pytest.raises(BuildError, match="do not stand at its beginning"):
        wrap(other, binary(f"(module {FITS})"), fuse.REALLOC)


def test_what_stands_in_the_memory_at_the_beginning_is_written_once_more() -> None:
    asked: list[bytes] = []

    def first_bytes(core: bytes) -> list[tuple[int, int]]:
        asked.append(core)
        return [(5, 7), (4_096, 0), (65_535, 255)]

    wasm = fuse.fused(before(), first_bytes)
    modules = [wasm[start:end] for kind, start, end in sections(wasm) if kind == 1]
    assert asked == modules[:1]
    at = next(start for kind, start, _ in sections(modules[2]) if kind == 11)
    found = [(address, end - address, modules[2][place]) for address, end, place in data_segments(modules[2], at)]
    assert found == [(5, 1, 7), (4_096, 1, 0), (65_535, 1, 255)]
    assert Guest(wasm).run("s") == "what was réad"
