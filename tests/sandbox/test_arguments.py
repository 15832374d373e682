"""A guest's arguments are measured before anything is made of them: a long one costs its guest, not its host."""

from __future__ import annotations

import json
import time
import tracemalloc
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from wasmtime import wat2wasm

from host import Catalyst, Host, Policy, errors
from host.core.limits import MIB, Limits
from host.core.wit import IMPORTS
from host.run import Run, Stop

FETCH = "cyfr:http/fetch@0.1.0#request"
OPEN = "cyfr:http/streaming@0.1.0#request"
READ = "cyfr:http/streaming@0.1.0#read"
CLOSE = "cyfr:http/streaming@0.1.0#close"
GET = "cyfr:secrets/read@0.1.0#get"
EMIT = "catalyst:host/output@0.1.0#emit"
WRITE = "catalyst:host/log@0.1.0#write"

_RESULTS = {"string": "(result string)", "bool": "(result bool)", None: ""}
_RESULTS["result<string, string>"] = "(result (result string (error string)))"


def forwarding(called: str, *, encoding: str = "utf8", times: int = 1) -> bytes:
    """A guest that calls one host function with its input in every place, `times` times, and returns the text that it
    was told: of a result either text, of nothing or a bool the input's first four bytes."""
    interface, _, name = called.partition("#")
    signature = IMPORTS[interface][name]
    params = " ".join(f'(param "p{n}" string)' for n in range(len(signature.params)))
    core = "i32 " * (2 * len(signature.params))
    told = signature.result not in ("bool", None)
    returns = "(result i32)" if signature.result == "bool" else ""
    given = "(local.get $at) (local.get $size) " * len(signature.params) + ("(i32.const 16)" if told else "")
    call = f"(call $f {given})"
    shift = 4 if signature.result == "result<string, string>" else 0  # behind the case
    at, size = ("(i32.const 16)", "(i32.const 4)") if not told else (f"(i32.load (i32.const {16 + shift}))", f"(i32.load (i32.const {20 + shift}))")  # fmt: skip
    options = f"string-encoding={encoding} (memory $memory) (realloc $realloc)"
    text = f"""
    (component
      (import "{interface}" (instance $host (export "{name}" (func {params} {_RESULTS[signature.result]}))))
      (core module $libc
        (memory (export "memory") 1)
        (global $next (mut i32) (i32.const 1024))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
          (local $at i32)
          (local.set $at (global.get $next))
          (global.set $next (i32.add (local.get $at) (i32.and (i32.add (local.get 3) (i32.const 7)) (i32.const -8))))
          (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16)))
            (then (drop (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get 3) (i32.const 16)))))))
          (memory.copy (local.get $at) (local.get 0) (local.get 1))
          (local.get $at)))
      (core instance $c (instantiate $libc))
      (alias core export $c "memory" (core memory $memory))
      (alias core export $c "realloc" (core func $realloc))
      (core func $f (canon lower (func $host "{name}") {options}))
      (core module $m
        (import "c" "memory" (memory 1))
        (func $f (import "host" "f") (param {core}{"i32" if told else ""}) {returns})
        (func (export "run") (param $at i32) (param $size i32) (result i32)
          (local $left i32)
          (local.set $left (i32.const {times}))
          (loop $again
            {f"(drop {call})" if returns else call}
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
          (i32.store (i32.const 8) {at})
          (i32.store (i32.const 12) {size})
          (i32.const 8)))
      (core instance $i (instantiate $m
        (with "c" (instance $c)) (with "host" (instance (export "f" (func $f))))))
      (func $run (param "input" string) (result string) (canon lift (core func $i "run") {options}))
      (instance $out (export "run" (func $run)))
      (export "cyfr:catalyst/run@0.1.0" (instance $out)))
    """
    return bytes(wat2wasm(text))


def forwarded(host: Host, called: str, text: str, **options: Any) -> tuple[str, Run]:
    """What the guest was told, and the run."""
    catalyst, run = begun(host, called, **options)
    return catalyst._instances.run(text, run), run


def begun(
    host: Host, called: str, *, encoding: str = "utf8", times: int = 1, listening: bool = False, **policy: Any
) -> tuple[Catalyst, Run]:
    catalyst = host.load(forwarding(called, encoding=encoding, times=times), policy=Policy(**policy))
    run = catalyst._new_run(None, None)
    run.limits = replace(run.limits, max_log_bytes=1000)
    if listening:
        run.listener = lambda event: True
    return catalyst, run


LIMITS = {"max_request_size": "1KiB", "max_output_size": "8MiB", "max_memory_bytes": 512 * MIB}
TOO_LONG = "x" * 200_000  # for each but an event


@pytest.mark.parametrize("encoding", ["utf8", "utf16"])
@pytest.mark.parametrize(
    ("called", "told"),
    [
        pytest.param(FETCH, "request_too_large", id="a request"),
        pytest.param(OPEN, "request_too_large", id="a streamed request"),
        pytest.param(READ, "invalid_handle", id="a handle"),
        pytest.param(CLOSE, '{"ok":true}', id="a handle to close"),
        pytest.param(GET, "access-denied: ", id="a secret's name"),
    ],
)
def test_an_argument_beyond_its_room_gets_an_error_value(host: Host, called: str, told: str, encoding: str) -> None:
    answer, _ = forwarded(host, called, TOO_LONG, encoding=encoding, **LIMITS)
    assert told in answer
    assert len(answer) < 400


def test_a_request_that_is_too_long_is_recorded_as_a_refusal_that_names_the_remedy(host: Host) -> None:
    _, run = forwarded(host, FETCH, TOO_LONG, **LIMITS)
    assert [(one.kind, one.remedy) for one in run.refusals] == [("request_too_large", "raise max_request_size")]
    assert [(event.kind, event.decision) for event in run.events] == [("http.request", "deny")]


def test_a_message_that_is_too_long_is_cut_and_counted_whole(host: Host) -> None:
    _, run = forwarded(host, WRITE, TOO_LONG, **LIMITS)
    assert [(line.level, line.message) for line in run.logs] == [("info", "x" * 1000)]
    assert run.meters.log_bytes == len(TOO_LONG)


def test_an_event_that_is_too_long_ends_the_run_and_reaches_nobody(host: Host) -> None:
    catalyst, run = begun(host, EMIT, listening=True, **{**LIMITS, "max_output_size": 1000})
    with pytest.raises(errors.OutputTooLarge):
        catalyst._instances.run("y" * 1001, run)
    assert run.meters.emitted_bytes == 1001
    catalyst, run = begun(host, EMIT, listening=True, **{**LIMITS, "max_output_size": 1000})
    assert catalyst._instances.run("y" * 1000, run)


@pytest.mark.parametrize("character", ["a", "é", "€", "😀"])
@pytest.mark.parametrize("encoding", ["utf8", "utf16", "latin1+utf16"])
def test_the_room_is_bytes_of_utf8_whatever_encoding_the_guest_has(host: Host, encoding: str, character: str) -> None:
    """A handle of 1,024 bytes is looked for, one of 1,025 is cut: as far as it can be told, by what was decoded."""
    size = len(character.encode())
    fits = "h" * (1024 % size) + character * (1024 // size)
    seen: list[str] = []
    for text in (fits, fits + "h"):
        wasm = forwarding(READ, encoding=encoding)
        catalyst = host.load(wasm)
        functions = {"cyfr:http/streaming@0.1.0": {"read": lambda run, given: seen.append(given) or "{}"}}
        sandboxed = host._loader.load(catalyst._artifact).link(functions)
        assert sandboxed.run(text, catalyst._new_run(None, None)) == "{}"
    assert [(type(one).__name__, getattr(one, "size", None)) for one in seen] == [("str", None), ("Cut", 1025)]
    assert seen[0] == fits
    assert len(seen[1].encode()) <= 1026


def test_two_arguments_may_be_one_text_and_are_measured_apart(host: Host) -> None:
    """A level and a message at one address: the level is cut, the message whole."""
    _, run = forwarded(host, WRITE, "error" + "x" * 500, **LIMITS)
    assert [(line.level, line.message) for line in run.logs] == [("info", "error" + "x" * 500)]


@pytest.mark.parametrize("called", [FETCH, OPEN, READ, GET, WRITE])
def test_an_argument_of_many_mebibytes_is_not_copied(host: Host, called: str) -> None:
    catalyst, run = begun(host, called, **LIMITS)
    text = "x" * (50 * MIB)  # wasmtime itself lets a call bring 128
    tracemalloc.start()
    try:
        catalyst._instances.run(text, run)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 54 * MIB, "the input itself is encoded once"


def test_a_hundred_mebibytes_do_not_take_the_process_to_a_gibibyte(host: Host) -> None:
    catalyst, run = begun(host, FETCH, times=4, **LIMITS)
    text = "x" * (100 * MIB)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: proc(5)
    before = _peak()
    catalyst._instances.run(text, run)
    assert _peak() - before < 500 * MIB


def _peak() -> int:
    """The most memory that this process had, in bytes."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def test_messages_without_a_letter_do_not_fill_the_memory(host: Host) -> None:
    _, run = forwarded(host, WRITE, "", times=50_000, **LIMITS)
    assert len(run.logs) <= 1_000


HEAD = '{"method":"POST","url":"https://api.test/","body":"'


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(r"\ud800", id="high halves"),
        pytest.param(r"\udfff\n", id="low halves and others"),
        pytest.param(r"\ud83d\ude00", id="characters in halves"),
        pytest.param(r"\u0041", id="letters as escapes"),
        pytest.param("\\\\", id="backslashes"),
        pytest.param(",[{", id="what looks like values"),
        pytest.param('","', id="names without an end"),
        pytest.param("é,", id="text that is not ASCII"),
        pytest.param('":"","', id="empty texts"),
        pytest.param('":[1,2.5e1],"', id="small lists"),
        pytest.param('":' + "[" * 150 + "]" * 150 + ',"', id="deep lists"),
    ],
)
def test_a_text_that_is_slow_to_read_cannot_outlive_the_deadline(host: Host, piece: str) -> None:
    """The run is asked whether it must end at short intervals, in processor time: other tests run beside this one."""
    catalyst, run = begun(host, FETCH, max_memory_bytes=256 * MIB, max_request_size="32MiB")
    text = HEAD + piece * (40 * MIB // len(piece.encode())) + '"}'
    assert len(text.encode()) < _room(run.limits)
    asked = [time.thread_time()]

    def check(of: Run) -> Stop | None:
        asked.append(time.thread_time())
        return Run.check(of)

    run.check = partial(check, run)  # type: ignore[method-assign]
    answer = json.loads(catalyst._instances.run(text, run))
    assert answer["error"]["type"] in ("http_error", "domain_blocked")
    assert max(after - before for before, after in pairwise(asked)) < 0.6


@pytest.mark.parametrize("piece", [r"\ud800", '":[],"'])
def test_a_text_that_is_slow_to_read_ends_with_the_run(host: Host, piece: str) -> None:
    catalyst, run = begun(host, FETCH, max_memory_bytes=256 * MIB, max_request_size="32MiB", timeout=0.5)
    text = HEAD + piece * (40 * MIB // len(piece.encode())) + '"}'
    run._deadline = time.monotonic() + 0.1
    with pytest.raises(errors.DeadlineExceeded):
        catalyst._instances.run(text, run)


def test_the_default_limits_leave_room_for_an_upload_of_the_largest_size() -> None:
    most = Limits().max_request_bytes
    assert _room(Limits()) > most * 4 / 3 + 32 * 1024


def _room(limits: Limits) -> int:
    """Of a request."""
    fixed, limit, tenths = IMPORTS["cyfr:http/fetch@0.1.0"]["request"].rooms[0]
    return fixed + getattr(limits, limit) * tenths // 10
