"""A component made twice: what is kept of the first time, what is rehearsed, and what is left out when it must be."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from wasmtime import wat2wasm

from host import Host, Policy
from host.component.build import componentize, finish
from host.core.wit import Ok
from host.errors import BuildError, GuestException
from host.fakes import FakeOpenAI
from tests.conftest import GUESTS, KEY, ROOT, openai_manifest, python_guest

EXAMPLE = {"operation": "x"}


class Guest:
    """Stands for componentize-py: what each build began with, and what the guest's side does in it."""

    def __init__(self, stage: Path, plant: Callable[[Path], None] = lambda _: None, /, **fails: bool) -> None:
        self.stage = stage
        self.plant = plant  # what it does in the folder that it was given, before it ends
        self.fails = fails
        self.begun: list[str] = []
        self.found: list[set[str]] = []
        self.examples: list[Any] = []

    def make(self, folder: Path) -> bytes:
        self.begun.append((folder / "catalyst_build.py").read_text())
        self.found.append({one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()})
        place = folder / ".build"
        step = "keep" if "keep_answers" in self.begun[-1] else "rehearse" if "rehearse" in self.begun[-1] else "plain"
        if step != "plain":
            self.examples.append(json.loads((place / "examples").read_text()))
            rehearsing = self.examples[-1] != [] and self.fails.get(step)
            (place / "rehearsing").write_text("true" if rehearsing else "false")
            self.plant(folder)
            if rehearsing or self.fails.get("always"):
                raise BuildError("componentize-py could not build it")
        return step.encode()


def run(guest: Guest) -> tuple[bytes, list[str]]:
    notes: list[str] = []
    return finish.finished(guest.make, guest.stage, [EXAMPLE], notes.append)[0], notes


def test_what_the_first_build_kept_the_second_one_rehearses(tmp_path: Path) -> None:
    guest = Guest(tmp_path)
    assert run(guest) == (b"rehearse", [])
    assert guest.examples == [[EXAMPLE], [EXAMPLE]]
    assert guest.found == [{"catalyst_build.py", "sitecustomize.py", ".build/examples"}] * 2
    assert [text.startswith(finish.IN_ORDER) for text in guest.begun] == [True, True]


@pytest.mark.parametrize(
    ("kept", "answers"),
    [
        pytest.param(
            '[[[["fetch", "request", "{}", "heard"], ["log", "write", "a", "b", null]], "out"]]',
            ["heard", None],
            id="calls",
        ),
        pytest.param('[[[], "out"]]', [], id="no call"),
        *(
            (text, None)
            for text in ("", "{", "1", "[]", "[1]", "[[[]]]", '[[[[]], "out"]]', '[[[1], "out"]]', "[" * 9_999)
        ),
    ],
)
def test_what_the_host_answered_in_a_rehearsal_is_handed_over_as_the_guest_kept_it(
    tmp_path: Path, kept: str, answers: list[Any] | None
) -> None:
    guest = Guest(tmp_path, lambda folder: void((folder / ".build/answers").write_text(kept)))
    found = finish.finished(guest.make, tmp_path, [EXAMPLE], print)[1]
    assert [*found] == ([] if answers is None else [finish.Rehearsal(json.dumps(EXAMPLE), answers)])


def void(_: object) -> None:
    """So that a lambda returns nothing."""


@pytest.mark.parametrize(
    ("step", "said"),
    [
        pytest.param("keep", "cannot be answered while it is built", id="an example that ends the first build"),
        pytest.param("rehearse", "depend on what ran before them", id="an example that is answered otherwise"),
    ],
)
def test_examples_that_cannot_be_rehearsed_are_left_out_and_that_is_said(tmp_path: Path, step: str, said: str) -> None:
    guest = Guest(tmp_path, **{step: True})
    wasm, notes = run(guest)
    assert wasm == b"rehearse"
    assert guest.examples[-1] == []
    assert len(notes) == 1
    assert notes[0].endswith(said)


def planted(folder: Path, name: str, target: Path) -> None:
    """A link of the guest's in place of what is there: a relative one, as WASI lets it make."""
    link = folder / name
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))


@pytest.mark.parametrize("step", ["keep", "rehearse"])
@pytest.mark.parametrize(
    "name", ["catalyst_build.py", "sitecustomize.py", "app.py", ".build/answers", ".build/examples"]
)
def test_a_link_that_a_guest_plants_for_the_next_build_leads_nowhere(tmp_path: Path, step: str, name: str) -> None:
    stage, victim = tmp_path / "stage", tmp_path / "victim"
    stage.mkdir()
    (stage / "app.py").write_text("MINE = 1\n")
    victim.write_text("precious")
    guest = Guest(stage, lambda folder: planted(folder, name, victim), **{step: True})
    assert run(guest)[0] == b"rehearse"
    assert victim.read_text() == "precious"
    assert [one.name for one in stage.iterdir()] == ["app.py"]
    assert [one.name for one in tmp_path.iterdir() if one != stage] == ["victim"]


@pytest.mark.parametrize("name", [".build", ".build/bytecode", ".build/bytecode/more"])
def test_a_folder_of_the_builder_that_a_guest_links_to_is_not_brought_to_its_next_build(
    tmp_path: Path, name: str
) -> None:
    stage, secrets = tmp_path / "stage", tmp_path / "secrets"
    for folder in (stage, secrets, secrets / "bytecode"):
        folder.mkdir()
    (secrets / "answers").write_text("key")
    (secrets / "bytecode" / "key.pyc").write_text("key")

    def plant(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        planted(folder, name, secrets)

    guest = Guest(stage, plant)
    run(guest)
    assert guest.found[-1] == {"catalyst_build.py", "sitecustomize.py", ".build/examples"}


def test_a_state_of_its_rehearsal_that_is_a_device_without_end_is_not_read(tmp_path: Path) -> None:
    guest = Guest(tmp_path, lambda folder: planted(folder, ".build/rehearsing", Path("/dev/zero")), keep=True)
    with pytest.raises(BuildError):
        run(guest)


def test_bytecode_that_a_guest_keeps_is_there_in_its_next_build_and_other_files_are_not(tmp_path: Path) -> None:
    def plant(folder: Path) -> None:
        (folder / "app.py").write_text("CHANGED = 1\n")
        (folder / "more.py").write_text("MORE = 1\n")
        (folder / ".build" / "bytecode" / "0").mkdir(parents=True, exist_ok=True)
        (folder / ".build" / "bytecode" / "0" / "app.pyc").write_bytes(b"code")

    stage = tmp_path / "stage"
    stage.mkdir()
    (stage / "app.py").write_text("MINE = 1\n")
    guest = Guest(stage, plant)
    run(guest)
    assert guest.found[-1] - guest.found[0] == {".build/bytecode/0/app.pyc"}
    assert (stage / "app.py").read_text() == "MINE = 1\n"


@pytest.mark.parametrize(
    ("files", "size"),
    [pytest.param(1, 64 * 1024 * 1024, id="large ones"), pytest.param(10_001, 0, id="many of them")],
)
def test_what_a_guest_keeps_for_its_next_build_is_bounded(tmp_path: Path, files: int, size: int) -> None:
    def plant(folder: Path) -> None:
        (place := folder / ".build" / "bytecode").mkdir()
        for number in range(files):
            with (place / str(number)).open("wb") as file:
                file.truncate(size)

    with pytest.raises(BuildError, match="more than 10000 files or 64 MiB"):
        run(Guest(tmp_path, plant))


def test_a_build_that_fails_by_itself_fails(tmp_path: Path) -> None:
    with pytest.raises(BuildError):
        run(Guest(tmp_path, always=True))


def test_a_catalyst_with_a_module_of_that_name_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("MINE = 1\n")
    wasm, notes = run(Guest(tmp_path))
    assert (wasm, len(notes)) == (b"plain", 1)
    assert (tmp_path / "sitecustomize.py").read_text() == "MINE = 1\n"


def test_a_catalyst_that_counts_begins_at_nothing_though_it_has_an_example(host: Host) -> None:
    """Rehearsed, it would remember the rehearsal; so its build leaves that out."""
    folder = GUESTS / "remembers"
    assert json.loads((folder / "manifest.json").read_text())["examples"]
    assert host.load(python_guest(folder)).run({"mine": 1}).data == [{"mine": 1}]


def answered(host: Host, wasm: bytes) -> list[Any]:
    """What the catalyst answers, asks its upstream and logs, for each example of its manifest and some more."""
    inputs = [one["input"] for one in openai_manifest().examples]
    inputs += [
        {"operation": "operations.list", "params": {"query": "embedding"}},
        {"operation": "models.retrieve", "params": {}},
        {"operation": "webhooks.verify_signature", "params": {"payload": "x", "headers": {}}},
    ]
    with FakeOpenAI(port=0) as fake:
        policy = Policy(allowed_domains=["api.openai.com"], upstreams={"https://api.openai.com": fake.url})
        catalyst = host.load(wasm, policy=policy, secrets={"OPENAI_API_KEY": KEY})
        found: list[Any] = []
        for one in inputs:
            result = catalyst.run(one)
            found.append([result.status, result.data, [(line.level, line.message) for line in result.execution.logs]])
        asked: Callable[[Any], list[Any]] = lambda one: [one["method"], one["path"], one["body"]]  # noqa: E731
        return [found, [asked(one) for one in fake.requests]]


def test_the_finished_component_answers_word_for_word_as_the_quick_one(host: Host, openai_wasm: bytes) -> None:
    quick = python_guest(ROOT / "catalyst" / "openai", quick=True)
    assert answered(host, openai_wasm) == answered(host, quick)


def test_a_component_has_no_way_back_to_its_rehearsal(host: Host) -> None:
    with pytest.raises(GuestException, match=r"catalyst\.sdk\.finishing is not there"):
        host.load(python_guest(GUESTS / "raises")).run({"code": "import catalyst.sdk.finishing"})


def test_a_component_has_a_library_without_docstrings_and_a_catalyst_with_its_own(host: Host) -> None:
    asked = "import json, app\nresult = [json.__doc__, app.__doc__ is None]"
    assert host.load(python_guest(GUESTS / "raises")).run({"code": asked}).data == [None, False]


def test_no_references_are_counted_to_what_a_sandbox_begins_with(host: Host) -> None:
    asked = "import sys, json, app\nmine = []\nresult = [sys._is_immortal(one) for one in (json, json.dumps, app.Run, mine)]"
    assert host.load(python_guest(GUESTS / "raises")).run({"code": asked}).data == [True, True, True, False]


NONE, TYPE, LIVE, GONE, LINK, OTHER, LAST = 1000, 1100, 1200, 1300, 1400, 1500, 1604


def with_memory(none: int) -> bytes:
    """A component whose memory has what stands for None, for an object with 7 references, and for some that have gone:
    counted to nothing, linked into a free list, of another type, and at the end of what is written."""
    words = {NONE: (none, TYPE), LIVE: (7, TYPE), GONE: (0, TYPE), LINK: (1_500_000, TYPE), OTHER: (7, TYPE + 8)}
    written = {address: struct.pack("<II", *pair) for address, pair in words.items()} | {LAST: bytes((7, 0, 0, 0))}
    data = "".join(f'(data (i32.const {address}) "{escaped(content)}")' for address, content in written.items())
    return bytes(wat2wasm(f"(component (core module (memory 1) {data}))"))


def escaped(content: bytes) -> str:
    return "".join("\\" + f"{byte:02x}" for byte in content)


def counts(wasm: bytes) -> dict[int, int]:
    """The number at each of the addresses, as the component's memory has it."""
    memory = finish._Memory(wasm)
    return {address: memory.pair(address)[0] for address in (LIVE, GONE, LINK, OTHER, LAST)}


def listed(*addresses: int) -> bytes:
    return b"".join(struct.pack("<II", address, TYPE) for address in (NONE, *addresses))


def test_of_the_objects_that_are_listed_those_that_are_still_there_become_immortal() -> None:
    never = 7 << 28
    before = with_memory(never)
    after = finish.immortal(before, listed(LIVE, GONE, LINK, OTHER, LAST, 5, 1 << 31, 2**32 - 1, LIVE) + b"cut")
    assert counts(after) == {**counts(before), LIVE: never}
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 2, "of one number, two bytes"


@pytest.mark.parametrize("objects", [b"", b"short", listed(LIVE)], ids=["none", "cut", "without an immortal None"])
def test_a_list_of_objects_that_does_not_fit_changes_nothing(objects: bytes) -> None:
    before = with_memory(7)
    assert finish.immortal(before, objects) == before


def test_a_long_run_gives_back_what_refers_to_itself(host: Host) -> None:
    """Two million of these would take some 200 MB."""
    code = "for _ in range(2_000_000):\n    one = []\n    one.append(one)\nresult = 'done'"
    catalyst = host.load(python_guest(GUESTS / "raises"), policy=Policy(max_memory_bytes="64MB"))
    assert catalyst.run({"code": code}).data == "done"


def test_large_texts_that_refer_to_themselves_do_not_fill_a_sandbox(host: Host) -> None:
    """The collector counts objects: 20,000 of these would take some 600 MB."""
    code = "for i in range(20_000):\n    one = [str(i) * 6_000]\n    one.append(one)\nresult = 'done'"
    catalyst = host.load(python_guest(GUESTS / "raises"), policy=Policy(max_memory_bytes="128MB"))
    assert catalyst.run({"code": code}).data == "done"


@pytest.fixture
def finishing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The guest's side of it, in this interpreter."""
    for name in ("componentize_py_runtime", "componentize_py_types"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["componentize_py_runtime"].call_import = None  # type: ignore[attr-defined]
    sys.modules["componentize_py_types"].Ok = Ok  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("finishing", ROOT / "catalyst" / "sdk" / "finishing.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("states", [2, 4, 5, 8, 10, 20, 100])
def test_a_catalyst_that_turns_over_a_few_hosts_is_seen_to_remember(
    tmp_path: Path, finishing: Any, states: int
) -> None:
    """Its rehearsal would end where it began, if the number of rounds were a multiple of that of the hosts."""

    def catalyst() -> Callable[[], Any]:
        turns = itertools.cycle(range(states))
        return lambda: SimpleNamespace(run=lambda _: next(turns))

    folder = f"{tmp_path}/"
    (tmp_path / "examples").write_text("[{}]")
    finishing.keep_answers(catalyst(), folder)
    with pytest.raises(AssertionError, match="answered otherwise"):
        finishing.rehearse(catalyst(), folder)


def test_an_example_that_polls_for_ever_ends(tmp_path: Path, finishing: Any) -> None:
    finishing._functions[0] = ("config", "get")

    def poll(_: str) -> str:
        while sys.modules["componentize_py_runtime"].call_import(0, []) != "done":  # type: ignore[attr-defined]
            pass
        return "{}"

    (tmp_path / "examples").write_text("[{}]")
    with pytest.raises(BaseException, match="calls the host more than 1000 times"):
        finishing.keep_answers(lambda: SimpleNamespace(run=poll), f"{tmp_path}/")
    assert (tmp_path / "rehearsing").read_text() == "true"


def test_a_guest_that_never_ends_its_build_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(componentize, "_LONGEST_S", 0.2)
    monkeypatch.setattr(componentize, "_PROGRAM", "while True: pass")
    with pytest.raises(BuildError, match=r"did not end within 0\.2 s"):
        componentize.component_of(tmp_path, "built", tmp_path, "app", tmp_path / "built.wasm")


def test_a_catalyst_that_fails_in_its_second_build_alone_is_built_once(tmp_path: Path) -> None:
    def plant(folder: Path) -> None:
        if "rehearse" in (folder / "catalyst_build.py").read_text():
            raise BuildError("componentize-py could not build it:\nTypeError: __doc__ is None")

    wasm, notes = run(Guest(tmp_path, plant))
    assert wasm == b"plain"
    assert [note.rpartition(": ")[2] for note in notes] == ["__doc__ is None"]
