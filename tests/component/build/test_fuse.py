"""A component fused into one core module: what it keeps, what it says, and what is refused of the tool that fuses."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from wasmtime import wat2wasm

from host import Host
from host.component import build as builder
from host.component import sbom
from host.component.build import componentize, fuse
from host.component.build.wrapper import wrap
from host.component.wasm import as_section, custom_sections, read_outline, sections
from host.core.wit import IMPORTS, RUN
from host.errors import BuildError, GuestException
from tests.conftest import GUESTS, python_guest

MODULE = 1  # of a component's sections


@functools.cache
def unfused() -> bytes:
    return python_guest(GUESTS / "probe")


def modules(wasm: bytes) -> list[bytes]:
    return [wasm[start:end] for kind, start, end in sections(wasm) if kind == MODULE]


def test_it_has_one_module_with_code_of_the_guest_and_the_same_imports(host: Host) -> None:
    before, after = unfused(), fuse.fused(unfused())
    assert len(modules(before)) > 30
    main, *small = modules(after)
    assert [len(one) < 1_000 for one in small] == [True, True]
    assert len(main) > 0.9 * max(map(len, modules(before)))
    assert read_outline(after).imports == read_outline(before).imports == tuple(IMPORTS)
    assert read_outline(after).exports == (RUN,)
    assert [*custom_sections(after)] == []


def test_fusing_one_component_twice_makes_the_same_bytes() -> None:
    assert fuse.fused(unfused()) == fuse.fused(unfused())


def test_an_older_component_runs_as_before(host: Host) -> None:
    calls = {"calls": [["echo", "a"]]}
    answers = [host.load(wasm).run(calls).data for wasm in (unfused(), fuse.fused(unfused()))]
    assert answers == [["a"], ["a"]]


def test_what_no_sandbox_has_names_itself_before_it_traps(host: Host) -> None:
    """The clock that C code reads, past all that the SDK refuses in Python."""
    with pytest.raises(GuestException) as caught:
        host.load(python_guest(GUESTS / "raises")).run({"code": "import datetime\ndatetime.datetime.__mro__[1].now()"})
    assert caught.value.message.endswith(
        "NotInASandbox: wasi:clocks/wall-clock@0.2.0 now was called, which a sandbox does not have"
    )


def tool(place: Path, script: str) -> Path:
    program = place / "meld"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("echo 'error: no such thing' >&2; exit 1", "cannot fuse it, and says 'error: no such thing'", id="it fails"),
        pytest.param("exit 1", "says 'nothing'", id="it fails without a word"),
        pytest.param("exit 0", "cannot fuse it", id="it writes nothing"),
        pytest.param("printf nonsense > one.wasm", "another shape", id="it writes something else"),
        pytest.param("cp many.wasm one.wasm", "another shape", id="it writes what it read"),
        pytest.param("exec sleep 600", "does not run here", id="it does not end"),
    ],
)  # fmt: skip
def test_a_tool_that_does_not_do_it_is_an_answer_and_no_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    program = tool(tmp_path, script)
    monkeypatch.setattr(fuse, "_program", lambda: program)
    if "sleep" in script:
        monkeypatch.setattr(fuse, "_LONGEST_S", 0.2)
    with pytest.raises(fuse.Unfused, match=said):
        fuse.fused(unfused())


def test_the_program_is_that_of_the_package_and_no_other_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Desktops have a `meld` that shows differences."""
    monkeypatch.setenv("PATH", f"{tool(tmp_path, 'exit 1').parent}{os.pathsep}{os.environ['PATH']}")
    assert fuse._program().parent != tmp_path


def test_where_the_tool_is_missing_the_component_is_built_without_it_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(fuse, "distribution", missing)
    monkeypatch.setattr(componentize, "component_of", lambda *_: as_made)
    as_made = unfused()[:8] + b"".join(as_section(kind, unfused()[a:b]) for kind, a, b in sections(unfused()) if kind)
    notes: list[str] = []
    wasm = builder.build(GUESTS / "probe", note=notes.append)
    assert len(modules(wasm)) > 30
    assert [one for one in notes if "meld-cli is not installed: install the extra 'build'" in one] == notes != []
    document = sbom.embedded(wasm)
    assert document is not None
    assert "meld-cli" not in str(document["metadata"])


def test_the_parts_list_names_the_tool(openai_wasm: bytes) -> None:
    document = sbom.embedded(openai_wasm)
    assert document is not None
    assert "pkg:pypi/meld-cli@" in str(document["metadata"]["tools"])


def core(text: str) -> bytes:
    return bytes(wat2wasm(text))


WRITE = '(import "catalyst:host/log@0.1.0" "write" (func (param i32 i32 i32 i32)))'
STUBS = ["wasi:a b", "wasi:c d"]


def stub(number: int) -> str:
    return f"(func (drop (i32.const {0x5AFE_0000 + number})) unreachable)"


@pytest.mark.parametrize(
    "functions",
    [
        pytest.param([stub(0)], id="one is missing"),
        pytest.param([stub(0), stub(1), stub(1)], id="one is there twice"),
        pytest.param([stub(0), f"(func {stub(1)[6:-13]} nop unreachable)"], id="one has other code"),
    ],
)
def test_a_fused_module_without_each_of_the_stubs_once_is_refused(functions: list[str]) -> None:
    with pytest.raises(fuse.Unfused, match="left out some of the functions that trap"):
        fuse._telling(core(f'(module {WRITE} {" ".join(functions)} (memory 1) (data (i32.const 9) "x"))'), STUBS)


def test_stubs_speak_where_the_catalyst_may_write_to_the_log_and_nowhere_else() -> None:
    rest = f'{stub(0)} {stub(1)} (memory 1) (data (i32.const 9) "x")'
    assert b"wasi:a b was called" in fuse._telling(core(f"(module {WRITE} {rest})"), STUBS)
    mute = fuse._telling(core(f"(module {rest})"), STUBS)
    assert b"was called" not in mute
    assert b"\xfe" not in mute, "nor is there a number left"


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
        wrap(unfused(), core(f"(module {imports} {rest})"), fuse.REALLOC)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda text: text.replace(f'"{RUN}#run"', '"other#run"'), "run", id="without the run"),
        pytest.param(lambda text: text.replace('"meld:realloc/0"', '"x"'), "realloc", id="without room for texts"),
        pytest.param(lambda text: text.replace("(param i32 i32) (result i32)", "(param i32)"), "signature|type", id="of another type"),
    ],
)  # fmt: skip
def test_a_module_that_is_not_what_it_should_be_is_refused_when_it_is_compiled(
    host: Host, change: Callable[[str], str], said: str
) -> None:
    whole = wrap(unfused(), core(f"(module {WRITE} {FITS})"), fuse.REALLOC)
    host.load(whole)
    with pytest.raises(Exception, match=said) as refused:
        host.load(wrap(unfused(), core(f"(module {WRITE} {change(FITS)})"), fuse.REALLOC))
    assert type(refused.value).__name__ == "CompileError"
