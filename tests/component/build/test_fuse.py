"""A component fused into one core module: what it keeps, what it says, and what is refused of the tool that fuses."""

from __future__ import annotations

import functools
import os
import stat
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
from wasmtime import wat2wasm

from host import Host
from host.component import build as builder
from host.component import sbom
from host.component.build import componentize, fuse
from host.component.build.wrapper import core_imports
from host.component.wasm import as_section, custom_sections, read_outline, sections
from host.core.wit import IMPORTS, RUN
from host.errors import GuestException
from tests.conftest import GUESTS, python_guest, wat

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
    assert {(one.module, one.name) for one in core_imports(main)} == {(a, b) for a in IMPORTS for b in IMPORTS[a]}
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
        pytest.param("echo 'on stdout'; exit 1", "says 'on stdout'", id="it fails and says so on stdout"),
        pytest.param("printf 'at first\\nat last\\n' >&2; exit 1", "says 'at last'", id="it fails with two lines"),
        pytest.param("printf '%0999d' 7 >&2; exit 1", "says '0{200}'$", id="it fails with a long line"),
        pytest.param("cp many.wasm one.wasm; exit 3", "cannot fuse it", id="it fails after it wrote something"),
        pytest.param('echo "${KEY:-no key}" >&2; exit 1', "says 'no key'", id="it looks for keys of its caller"),
        pytest.param("exit 0", "cannot fuse it", id="it writes nothing"),
        pytest.param("printf nonsense > one.wasm", "another shape", id="it writes something else"),
        pytest.param(r"printf '\0asm\1\0\0\0\12\177' > one.wasm", "cut short", id="it writes half a module"),
        pytest.param("cp many.wasm one.wasm", "another shape", id="it writes what it read"),
        pytest.param("exec sleep 600", "does not run here", id="it does not end"),
    ],
)  # fmt: skip
def test_a_tool_that_does_not_do_it_is_an_answer_and_no_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    program = tool(tmp_path, script)
    monkeypatch.setattr(fuse, "_program", lambda: program)
    monkeypatch.setenv("KEY", "sk-of-the-caller")
    if "sleep" in script:
        monkeypatch.setattr(fuse, "_LONGEST_S", 0.2)
    with pytest.raises(fuse.Unfused, match=said):
        fuse.fused(wat("stubbed"))


def test_a_tool_that_cannot_be_run_is_an_answer_and_no_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuse, "_program", lambda: tmp_path)
    with pytest.raises(fuse.Unfused, match="meld-cli does not run here"):
        fuse.fused(wat("stubbed"))


@pytest.mark.parametrize(
    ("module", "why"),
    [
        pytest.param("", "11", id="no data"),
        pytest.param('(import "evil:corp/backdoor" "open" (func)) {data}', "imports evil:corp/backdoor", id="other imports"),
        pytest.param("(type (struct)) {data}", "no function's", id="types of another kind"),
    ],
)  # fmt: skip
def test_a_module_of_another_shape_is_an_answer_and_no_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, why: str
) -> None:
    stubs = " ".join(stub(number) for number in range(4))
    text = module.replace("{data}", '(memory 1) (data (i32.const 9) "x")')
    (tmp_path / "made.wasm").write_bytes(core(f"(module {text} {stubs})"))
    program = tool(tmp_path, f"cp {tmp_path}/made.wasm one.wasm")
    monkeypatch.setattr(fuse, "_program", lambda: program)
    with pytest.raises(fuse.Unfused, match=f"made a module of another shape: .*{why}"):
        fuse.fused(wat("stubbed"))


def test_a_module_whose_import_has_no_type_is_an_answer_and_no_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = core('(module (import "m" "f" (func)) (memory 1) (data (i32.const 9) "x"))')
    (tmp_path / "made.wasm").write_bytes(whole.replace(b"\1m\1f\0\0", b"\1m\1f\0\7"))
    program = tool(tmp_path, f"cp {tmp_path}/made.wasm one.wasm")
    monkeypatch.setattr(fuse, "_program", lambda: program)
    with pytest.raises(fuse.Unfused, match="made a module of another shape"):
        fuse.fused(wat("stubbed"))


@pytest.mark.parametrize(
    "files",
    [
        pytest.param((), id="no files"),
        pytest.param(("meld/__init__.py", "bin/melder"), id="other files"),
        pytest.param(("bin/meld",), id="one that is listed and not there"),
    ],
)
def test_a_package_without_its_program_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...]
) -> None:
    (tmp_path / "meld").mkdir()
    (tmp_path / "meld" / "__init__.py").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "melder").touch()
    listed = [SimpleNamespace(stem=Path(one).stem, locate=lambda one=one: tmp_path / one) for one in files]
    monkeypatch.setattr(fuse, "distribution", lambda _: SimpleNamespace(files=listed or None))
    with pytest.raises(fuse.Unfused, match="meld-cli has no program here"):
        fuse.fused(wat("stubbed"))


def test_the_program_is_that_of_the_package_and_no_other_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Desktops have a `meld` that shows differences."""
    monkeypatch.setenv("PATH", f"{tool(tmp_path, 'exit 1').parent}{os.pathsep}{os.environ['PATH']}")
    assert fuse._program().parent != tmp_path


def test_where_the_system_does_not_say_which_pages_are_written_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_bytes(*_: object) -> list[tuple[int, int]]:
        raise PermissionError(1, "Operation not permitted")

    notes, as_made = list[str](), unfused()  # made before its tool is another one
    monkeypatch.setattr(componentize, "component_of", lambda *_: as_made)
    wasm = builder.build(GUESTS / "probe", first_bytes=first_bytes, note=notes.append)
    assert len(modules(wasm)) == 3
    assert [one for one in notes if "which pages they write is not known: [Errno 1]" in one] == notes != []


def test_where_the_tool_is_missing_the_component_is_built_without_it_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    as_made = unfused()[:8] + b"".join(as_section(kind, unfused()[a:b]) for kind, a, b in sections(unfused()) if kind)
    monkeypatch.setattr(fuse, "distribution", missing)
    monkeypatch.setattr(componentize, "component_of", lambda *_: as_made)
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
    plain = "(func unreachable) (func unreachable)"
    assert mute == core(f'(module {plain} (memory 1) (data (i32.const 9) "x"))'), "nor is there a number left"
