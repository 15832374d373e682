"""The engine has what catalysts need and nothing else, with either allocator."""

from __future__ import annotations

from contextlib import closing

import pytest
from wasmtime import wat2wasm

from host import errors
from host.core.names import Digest
from host.sandbox import Sandbox, engine
from tests.conftest import CACHE, wat
from tests.sandbox.conftest import component_text


def test_the_pool_is_taken_where_its_address_space_can_be_had(sandbox) -> None:
    assert sandbox.pooling is engine.pool_fits()


def test_without_the_pool_everything_works_as_well(places, new_call) -> None:
    sandbox = Sandbox(*places, pooling=False)
    wasm = bytes(wat2wasm(component_text()))
    echo = sandbox.load(wasm, Digest.of(wasm)).link({})
    assert echo.run("x", new_call()) == "x"
    for name, expected in (
        ("hostile/many_memories", errors.MemoryExceeded),
        ("hostile/many_instances", errors.MemoryExceeded),
        ("hostile/grows_at_start", errors.MemoryExceeded),
        ("hostile/recurses_forever", errors.StackExhausted),
    ):
        guest = wat(name)
        with pytest.raises(expected):
            sandbox.load(guest, Digest.of(guest)).link({}).run("x", new_call(timeout_s=60))
    sandbox.close()


def test_code_compiled_for_one_allocator_is_not_used_for_the_other() -> None:
    assert engine.fingerprint(pooling=True) != engine.fingerprint(pooling=False)


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param("(memory $second 1)", id="a second memory"),
        pytest.param("(memory $m64 i64 1)", id="a 64-bit memory"),
        pytest.param("(memory $shared 1 1 shared)", id="a shared memory"),
        pytest.param("(type $s (struct (field i32)))", id="garbage-collected types"),
        pytest.param("(tag $e)", id="exceptions"),
    ],
)
def test_proposals_that_no_catalyst_needs_are_refused(sandbox, extra: str) -> None:
    wasm = bytes(wat2wasm(component_text(extra=extra)))
    with pytest.raises(errors.CompileError):
        sandbox.load(wasm, Digest.of(wasm))


def test_a_python_catalyst_fits_the_engines_bounds(openai_wasm) -> None:
    with closing(Sandbox(CACHE / "host", CACHE / "state")) as sandbox:
        assert sandbox.load(openai_wasm, Digest.of(openai_wasm)).imports
