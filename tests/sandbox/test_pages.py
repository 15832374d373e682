"""The pages that a component writes when it runs: found by its build, written at the beginning of each sandbox."""

from __future__ import annotations

import gc
import mmap
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from wasmtime import wat2wasm

from host import Host, Policy
from host.component.build.finish import Rehearsal
from host.component.build.fuse import REALLOC
from host.component.build.wrapper import POST_RETURN
from host.component.wasm import data_segments, sections
from host.core.strict_json import Json
from host.core.wit import FETCH, LOG, OUTPUT, RUN, SECRETS
from host.fakes import FakeOpenAI
from host.sandbox import pages
from host.sandbox.instance import _Instance
from tests.conftest import KEY

PAGE = mmap.PAGESIZE
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
IMPORTS = f"""
    (import "{FETCH}" "request" (func $fetch (param i32 i32 i32)))
    (import "{SECRETS}" "get" (func $get (param i32 i32 i32)))
    (import "{OUTPUT}" "emit" (func $emit (param i32 i32) (result i32)))
    (import "{LOG}" "write" (func $write (param i32 i32 i32 i32)))
"""
WRITE = "(i32.store8 (i32.mul (i32.const {page}) (i32.const %d)) (i32.const 1))" % PAGE  # noqa: UP031 - braces


ROOM = """(global.set $free (i32.add (global.get $free) (local.get 3)))
    (i32.sub (global.get $free) (local.get 3))"""


def core(body: str, imports: str = IMPORTS, room: str = ROOM, more: str = "") -> bytes:
    """The module of a guest that brings eight pages of letters, does `body` when it runs, and `room` where it is asked
    for some."""
    letters = "".join(chr(ord("a") + page) * PAGE for page in range(8))
    return bytes(
        wat2wasm(f"""(module {imports}
            (memory (export "memory") 2)
            (data (i32.const 0) "{letters}")
            (global $free (mut i32) (i32.const 100000)) {more}
            (func (export "{REALLOC}") (param i32 i32 i32 i32) (result i32) {room})
            (func (export "{RUN}#run") (param i32 i32) (result i32) {body} (i32.const 90000))
            (func (export "{POST_RETURN}") (param i32)))""")
    )


def written(wasm: bytes, *answers: Sequence[Json]) -> list[int]:
    """The numbers of the pages, by the answers of each rehearsal."""
    found = pages.first_bytes(wasm, [Rehearsal("{}", each) for each in answers])
    assert [byte for _, byte in found] == [ord("a") + address // PAGE for address, _ in found]
    return [address // PAGE for address, _ in found]


def test_a_page_that_a_run_writes_is_found_with_what_stands_there_before() -> None:
    assert written(core(WRITE.format(page=5) + WRITE.format(page=2)), []) == [2, 5]


def test_a_page_that_is_only_read_is_none() -> None:
    assert written(core(f"(drop (i32.load (i32.const {3 * PAGE}))) {WRITE.format(page=4)}"), []) == [4]


def test_a_page_behind_what_the_module_brings_is_none() -> None:
    assert written(core(WRITE.format(page=9) + WRITE.format(page=1)), []) == [1]


@pytest.mark.parametrize(
    ("function", "at"), [pytest.param("$fetch", 4, id="a text"), pytest.param("$get", 8, id="a secret")]
)
def test_the_guest_hears_what_it_heard_in_the_rehearsal(function: str, at: int) -> None:
    """It writes to the page whose number is the size of the text."""
    place = 6 * PAGE
    size = f"(i32.load (i32.const {place + at}))"
    body = f"(call {function} (i32.const 8) (i32.const 2) (i32.const {place}))"
    body += f"(i32.store8 (i32.mul {size} (i32.const {PAGE})) (i32.const 1))"
    assert written(core(body), ["sevé"]) == [5, 6]
    assert written(core(body), ["é"]) == [2, 6]


@pytest.mark.parametrize(("answer", "page"), [(False, 0), (True, 1)])
def test_it_hears_a_truth_as_a_number(answer: bool, page: int) -> None:
    body = f"(i32.store8 (i32.mul (call $emit (i32.const 8) (i32.const 2)) (i32.const {PAGE})) (i32.const 1))"
    assert written(core(body), [answer]) == [page]


def test_what_most_of_the_rehearsals_write_counts() -> None:
    emitted = f"(i32.mul (call $emit (i32.const 8) (i32.const 2)) (i32.const {PAGE}))"
    wasm = core(f"(i32.store8 {emitted} (i32.const 1)) {WRITE.format(page=3)}")
    assert written(wasm, [True], [True], [False]) == [1, 3]
    assert written(wasm, [True], [False]) == [0, 1, 3]


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([], id="more than it was told"),
        pytest.param(["x"], id="what it was told is of another type"),
        pytest.param([{"a": []}], id="what it was told is of no type"),
    ],
)
def test_a_rehearsal_that_goes_otherwise_counts_for_nothing(answers: Sequence[Json]) -> None:
    wasm = core(f"{WRITE.format(page=3)} (drop (call $emit (i32.const 8) (i32.const 2)))")
    assert written(wasm, answers) == []
    assert written(wasm, answers, [True], answers) == [3]


@pytest.mark.parametrize(
    ("body", "imports"),
    [
        pytest.param("unreachable", IMPORTS, id="a trap"),
        pytest.param("(call $x)", '(import "other:one/two" "x" (func $x))', id="a call of what is not of the contract"),
        pytest.param("(call $write (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1))", IMPORTS, id="silence"),
    ],
)
def test_a_guest_that_fails_has_no_pages(body: str, imports: str) -> None:
    assert written(core(body, imports), []) == []


def test_a_guest_whose_room_for_an_answer_is_outside_its_memory_has_no_pages() -> None:
    text = core(
        f"(call $fetch (i32.const 8) (i32.const 2) (i32.const 0)) {WRITE.format(page=1)}", room="(i32.const -9)"
    )
    assert written(text, ["answer"]) == []


def test_a_guest_that_calls_the_host_while_it_makes_room_for_an_answer_has_no_pages() -> None:
    call = "(call $fetch (i32.const 8) (i32.const 2) (i32.const 0))"
    assert written(core(call, room=f"{call} (i32.const 8)"), ["answer"] * 100_000) == []


def test_where_there_is_no_room_for_a_sandbox_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "has_room", lambda: False)
    assert written(core(WRITE.format(page=5)), []) == []


def test_nothing_is_left_of_the_guests() -> None:
    left = {id(one) for one in gc.get_objects() if isinstance(one, pages._Guest)}
    written(core(WRITE.format(page=5)), [], [])
    gc.collect()
    assert {id(one) for one in gc.get_objects() if isinstance(one, pages._Guest)} <= left


def test_guests_that_take_long_are_not_all_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_LONGEST_S", 0.1)
    began = time.monotonic()
    assert written(core("(loop (br 0))"), *[[]] * 1_000) == []
    assert time.monotonic() - began < 60


def test_a_guest_that_calls_the_host_at_its_start_has_no_pages() -> None:
    start = "(func $begin (drop (call $emit (i32.const 0) (i32.const 1)))) (start $begin)"
    assert written(core(WRITE.format(page=1), IMPORTS, ROOM, start), [True]) == []


def test_the_pages_are_no_more_than_a_component_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_MOST", 2)
    assert written(core("".join(WRITE.format(page=page) for page in range(5))), []) == [0, 1]


def test_a_guest_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_LONGEST_S", 0.05)
    assert written(core(f"(loop {WRITE.format(page=1)} (br 0))"), [], []) == []


@pytest.mark.parametrize("wasm", [b"", b"\0asm\x01\0\0\0", b"no module"])
def test_what_is_no_such_module_has_no_pages(wasm: bytes) -> None:
    assert pages.first_bytes(wasm, [Rehearsal("{}", [])]) == []


def test_nearly_all_pages_that_a_chat_writes_are_written_at_its_beginning(
    host: Host, openai_wasm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = [openai_wasm[start:end] for kind, start, end in sections(openai_wasm) if kind == 1]
    at = next(start for kind, start, _ in sections(modules[2]) if kind == 11)
    first = {address for address, _, _ in data_segments(modules[2], at)}
    data = next(start for kind, start, _ in sections(modules[0]) if kind == 11)
    image = min(address for address, _, _ in data_segments(modules[0], data)) // PAGE * PAGE
    found: list[set[int]] = []
    close = _Instance.close

    def closing(self: Any) -> None:
        for line in Path("/proc/self/maps").read_text().splitlines():
            if " rw-p " in line and "compiled" in line:
                start, end = (int(one, 16) for one in re.split("[- ]", line)[:2])
                if own := pages.own_pages(start, end - start):
                    found.append({image + address for address in own})
        close(self)

    monkeypatch.setattr(_Instance, "close", closing)
    with FakeOpenAI(port=0) as fake:
        policy = Policy(allowed_domains=["api.openai.com"], upstreams={"https://api.openai.com": fake.url})
        catalyst = host.load(openai_wasm, policy=policy, secrets={"OPENAI_API_KEY": KEY})
        assert catalyst.run({"operation": "chat.completions.create", "params": CHAT}).ok
    assert any(len(each & first) > 0.8 * len(each) and len(each & first) > 0.8 * len(first) for each in found)
