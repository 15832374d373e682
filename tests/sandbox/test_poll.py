"""A guest that an operator lets wait, waits no longer than its run: `wasi:io/poll` in the host."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from wasmtime import wat2wasm

from host import CancelToken, Host, Policy, errors
from tests.conftest import GUESTS, late, wat

WAITS = (GUESTS / "hostile" / "waits_forever.wat").read_text()
BLOCKS = "(call $block (call $after (i64.const 0x7fffffffffffffff)))"
ALLOWED = ["wasi:io/poll"]
TIMEOUT_S = 0.5
LATE_S = 0.5


def _waiting(body: str, *, version: str = "0.2.3") -> bytes:
    """The guest with `body` in place of its endless wait."""
    assert BLOCKS in WAITS
    return bytes(wat2wasm(WAITS.replace(BLOCKS, body).replace("@0.2.3", f"@{version}")))


@pytest.fixture(autouse=True)
def _the_next_run_works(host: Host) -> Iterator[None]:
    yield
    assert host.load(wat("rust_like")).run({}).ok


ENDLESS = {
    "blocks": BLOCKS,
    "polls one": "(i32.store (i32.const 32) (call $after (i64.const 0x7fffffffffffffff)))"
    "(call $poll (i32.const 32) (i32.const 1) (i32.const 16))",
    "polls the same one twice": "(i32.store (i32.const 32) (call $after (i64.const 0x7fffffffffffffff)))"
    "(i32.store (i32.const 36) (i32.load (i32.const 32))) (call $poll (i32.const 32) (i32.const 2) (i32.const 16))",
    "blocks a little, again and again": "(loop $again (call $block (call $after (i64.const 3000000))) (br $again))",
    "blocks for nothing, again and again": "(local $one i32) (local.set $one (call $after (i64.const 0)))"
    "(loop $again (call $block (local.get $one)) (br $again))",
}


@pytest.mark.parametrize("version", ["0.2.0", "0.2.3", "0.2.12"])
@pytest.mark.parametrize("how", ENDLESS)
def test_a_guest_that_waits_without_end_ends_by_its_deadline(host: Host, how: str, version: str) -> None:
    wasm = _waiting(ENDLESS[how], version=version)
    catalyst = host.load(wasm, wasi=ALLOWED, policy=Policy(timeout=TIMEOUT_S))
    began = time.monotonic()
    with pytest.raises((errors.DeadlineExceeded, errors.SandboxError)):
        catalyst.run({})
    assert time.monotonic() - began < TIMEOUT_S + late(LATE_S)


def test_a_guest_that_waits_is_cancelled_at_once(host: Host) -> None:
    catalyst = host.load(wat("hostile/waits_forever"), wasi=ALLOWED, policy=Policy(timeout="30s"))
    token = CancelToken()
    timer = threading.Timer(0.2, token.cancel)
    timer.start()
    began = time.monotonic()
    with pytest.raises(errors.Cancelled):
        catalyst.run({}, cancel=token)
    timer.join()
    assert time.monotonic() - began < 0.2 + late(LATE_S)


def test_a_wait_that_ends_goes_on_when_it_is_over(host: Host) -> None:
    catalyst = host.load(_waiting("(call $block (call $after (i64.const 100000000)))"), wasi=ALLOWED)
    began = time.monotonic()
    assert catalyst.run({}).data == 1  # of the two that it polls, one is ready
    assert 0.1 <= time.monotonic() - began < 0.1 + late(LATE_S)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("(call $poll (i32.const 32) (i32.const 0) (i32.const 16))", id="for nothing"),
        pytest.param("(call $poll (i32.const 32) (i32.const -1) (i32.const 16))", id="for four billion"),
        pytest.param("(call $block (i32.const 0))", id="for handle 0"),
        pytest.param("(call $block (i32.const 77))", id="for a handle that it has not"),
        pytest.param("(call $block (i32.const -1))", id="for no handle"),
    ],
)
def test_a_guest_that_waits_for_what_is_not_there_is_trapped(host: Host, body: str) -> None:
    with pytest.raises(errors.GuestTrap):
        host.load(_waiting(body), wasi=ALLOWED).run({})


def test_a_guest_that_calls_another_resource_a_pollable_is_refused(host: Host) -> None:
    theirs = '(export "pollable" (type $pollable (sub resource)))'
    error = '(import "wasi:io/error@0.2.3" (instance $e (export "error" (type (sub resource)))))'
    error += '(alias export $e "error" (type $t))'
    text = WAITS.replace("(component $guest", f"(component $guest {error}", 1)
    text = text.replace(theirs, '(alias outer $guest $t (type $e)) (export "pollable" (type $pollable (eq $e)))', 1)
    with pytest.raises(errors.ContractError):
        host.load(bytes(wat2wasm(text)), wasi=ALLOWED).run({})


@pytest.mark.parametrize(
    "kind",
    [
        "(func)", "(func (result string))", '(func (param "in" u32) (result (list u32)))',
        '(func (param "in" (list u32)) (result (list u32)))',
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["poll", "[method]pollable.block"])
def test_what_waits_of_another_type_is_refused_before_it_runs(host: Host, name: str, kind: str) -> None:
    resource = '(export "pollable" (type $pollable (sub resource)))'
    if name.startswith("["):
        kind = kind.replace("(func", '(func (param "self" (borrow $pollable))')
        kind = (
            kind.replace("$pollable)))", '$pollable)) (param "more" u32))') if kind.endswith("$pollable)))") else kind
        )
    declared = f'(component (import "wasi:io/poll@0.2.3" (instance {resource} (export "{name}" {kind}))))'
    with pytest.raises(errors.ContractError, match="is func"):
        host.load(bytes(wat2wasm(declared)), wasi=ALLOWED)


def test_an_import_of_that_name_that_is_a_function_is_refused(host: Host) -> None:
    with pytest.raises(errors.ContractError, match="is not an interface"):
        host.load(bytes(wat2wasm('(component (import "wasi:io/poll@0.2.3" (func)))')), wasi=ALLOWED)


def test_guests_that_wait_side_by_side_do_not_hold_up_each_other(host: Host) -> None:
    """One after the other, they would wait for twelve seconds."""
    catalyst = host.load(_waiting("(call $block (call $after (i64.const 1000000000)))"), wasi=ALLOWED)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(catalyst.run({}).data)) for _ in range(12)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 12
    assert time.monotonic() - began < 1.0 + late(LATE_S)
