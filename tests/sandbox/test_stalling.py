"""A small component cannot stall its host: what would take long to compile, or to check, is counted first, and the rest
is done by a child with limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from wasmtime import wat2wasm

from host import CompileLimits, Host, errors
from host.component import wasm as binary
from host.component.manifest import Manifest
from host.component.wasm import (
    COMPONENT_PREAMBLE,
    CORE_PREAMBLE,
    MANIFEST_SECTION,
    append_section,
    read_outline,
)
from host.core.names import Digest
from host.sandbox import Sandbox, compiler
from host.trust.artifact import admit
from tests.conftest import slack
from tests.sandbox.conftest import component_text

RUN = '(export "cyfr:catalyst/run@0.1.0"'


def with_parts(first: str = "", last: str = "") -> bytes:
    """The smallest catalyst, with more at its beginning and before its export."""
    text = component_text().replace("(component", f"(component {first}", 1)
    return bytes(wat2wasm(text.replace(RUN, f"{last} {RUN}")))


def many(count: int, part: Callable[[int], str]) -> str:
    return " ".join(map(part, range(count)))


def instance_of(count: int) -> str:
    members = many(count, lambda n: f'(export "f{n}" (func (type $f)))')
    return f"(instance (type $f (func)) {members})"


def section(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + binary.to_leb128(len(body)) + body


def listed(kind: int, count: int, item: Callable[[int], bytes]) -> bytes:
    """A section of a component that need not be one: it is to be refused before anybody reads it."""
    return section(kind, binary.to_leb128(count) + b"".join(map(item, range(count))))


def name(text: str) -> bytes:
    return b"\0" + binary.to_leb128(len(text)) + text.encode()


def nested(levels: int) -> bytes:
    inner = COMPONENT_PREAMBLE
    for _ in range(levels):
        inner = COMPONENT_PREAMBLE + section(4, inner)
    return inner


REFUSED = {
    "exports": lambda: with_parts(last=many(40_000, lambda n: f'(export "e{n}" (instance $out))')),
    "imports": lambda: with_parts() + listed(10, 100_000, lambda n: name(f"wasi:cli/e{n}") + b"\x05\0"),
    "imports of WASI": lambda: with_parts() + listed(10, 5_000, lambda n: name(f"wasi:random/r@0.2.{n}") + b"\x05\0"),
    "imports in many sections": lambda: with_parts()
    + b"".join(listed(10, 1, lambda _, n=n: name(f"i{n}") + b"\x05\0") for n in range(1_001)),
    "types": lambda: with_parts() + listed(7, 200_000, lambda n: b"\x7d"),
    "types in one type": lambda: with_parts() + section(7, b"\x01\x42" + b"\x01\x7d" * 600_000),
    "instances": lambda: with_parts() + listed(5, 30_000, lambda n: b"\x01\0"),
    "nested components": lambda: with_parts() + section(4, COMPONENT_PREAMBLE) * 9_990,
    "levels of components": lambda: nested(2_000),
    "long names": lambda: with_parts() + listed(10, 15, lambda n: name("x" * 90_000 + str(n)) + b"\x01\0"),
    "core modules": lambda: with_parts() + section(1, CORE_PREAMBLE) * 9_990,
    "aliases": lambda: with_parts() + listed(6, 30_000, lambda n: b"\x01\0\0\x01a"),
    "functions": lambda: with_parts() + listed(8, 30_000, lambda n: b"\x01\0\0\0"),
    "custom sections": lambda: with_parts() + section(0, b"\0") * 3_000_000,
    "custom sections inside": lambda: COMPONENT_PREAMBLE + section(4, COMPONENT_PREAMBLE + section(0, b"\0") * 100_000),
    "core types": lambda: with_parts() + listed(3, 30_000, lambda n: b"\x60\0\0"),
    "a count that is a lie": lambda: with_parts() + section(11, binary.to_leb128(2**32 - 1)),
}  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Callable[[str], bytes]:
    kept: dict[str, bytes] = {}

    def make(which: str) -> bytes:
        if which not in kept:
            kept[which] = REFUSED[which]()
        return kept[which]

    return make


@pytest.mark.parametrize("which", REFUSED)
def test_a_component_with_too_many_is_refused_at_a_glance_and_never_compiled(
    made, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    wasm = made(which)
    monkeypatch.setattr(compiler, "memory_file", None)  # what the compiler begins with
    began = time.thread_time()
    with pytest.raises(errors.ArtifactError) as caught:
        sandbox.load(wasm, Digest.of(wasm))
    assert time.thread_time() - began < slack(0.5)
    assert isinstance(caught.value, errors.ContractError)
    assert "more than" in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("which", ["custom sections", "exports", "types"])
def test_to_admit_it_takes_no_longer(made, which: str) -> None:
    began = time.thread_time()
    with pytest.raises(errors.ContractError, match="sections") if which == "custom sections" else nullcontext():
        admit(made(which))
    assert time.thread_time() - began < slack(1.0)


def _with_members(count: int) -> str:
    members = many(count, lambda n: f'(export "f{n}" (func $run))')
    return f'(instance $big {members}) (export "big" (instance $big))'


AS_MANY_AS_MAY_BE = {
    "exports": lambda: with_parts(last=many(999, lambda n: f'(export "e{n}" (instance $out))')),
    "members": lambda: with_parts(f"(type {instance_of(15_000)})"),
    "members of an export": lambda: with_parts(last=_with_members(10_000)),
    "types": lambda: with_parts(many(19_000, lambda n: "(type u8)")),
    "deep types": lambda: with_parts("(type $t0 u8)" + many(98, lambda n: f"(type $t{n + 1} (tuple $t{n}))")),
    "imports": lambda: with_parts(
        "(type $e (instance))" + many(990, lambda n: f'(import "wasi:random/random@0.2.{n}" (instance (type $e)))')
    ),
}


@pytest.mark.parametrize("which", AS_MANY_AS_MAY_BE)
def test_a_component_with_as_many_as_may_be_is_checked_in_no_time(sandbox: Sandbox, which: str) -> None:
    wasm = AS_MANY_AS_MAY_BE[which]()
    began = time.thread_time()
    sandbox.load(wasm, Digest.of(wasm))
    assert time.thread_time() - began < slack(0.5), "of this process; the child has limits of its own"


def test_members_of_a_host_interface_are_not_all_walked_through(sandbox: Sandbox) -> None:
    wasm = with_parts(f'(import "cyfr:http/fetch@0.1.0" {instance_of(15_000)})')
    began = time.thread_time()
    with pytest.raises(errors.ContractError, match="has no f0") as caught:
        sandbox.load(wasm, Digest.of(wasm))
    assert time.thread_time() - began < slack(0.5)
    assert caught.value.subject == "cyfr:http/fetch@0.1.0#f0"


def test_the_contract_is_checked_by_the_child_and_what_it_refuses_is_not_kept(sandbox: Sandbox, places) -> None:
    """The refusal has everything that it has here, and nothing is cached that may not run."""
    declared = '(import "cyfr:http/fetch@0.1.0" (instance (export "request" (func (param "a" u8) (result string)))))'
    wasm = with_parts(declared)
    with pytest.raises(errors.ContractError) as caught:
        sandbox.load(wasm, Digest.of(wasm))
    assert caught.value.subject == "cyfr:http/fetch@0.1.0#request"
    assert "is func(u8) -> string, not func(string) -> string" in str(caught.value)
    assert [*(places[0] / "compiled").glob("*.cwasm")] == []


def test_a_child_lets_in_what_the_operator_named(sandbox: Sandbox) -> None:
    wasm = with_parts('(import "wasi:io/poll@0.2.3" (instance))')
    assert sandbox.load(wasm, Digest.of(wasm), wasi=["wasi:io/poll"]).imports == ("wasi:io/poll@0.2.3",)
    with pytest.raises(errors.ContractError):
        sandbox.load(wasm, Digest.of(wasm))


def test_two_manifests_of_a_mebibyte_are_refused_before_either_is_read() -> None:
    text = b'{"id": "catalyst:local.x", "version": "0.1.0", "description": "' + b"x" * 1_000_000 + b'"}'
    wasm = append_section(append_section(with_parts(), MANIFEST_SECTION, text), MANIFEST_SECTION, text)
    with pytest.raises(errors.ManifestError, match="more than one"):
        Manifest.embedded(wasm)


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(section(10, b"\x05"), id="imports that are not there"),
        pytest.param(section(10, b"\x01\0\x05ab"), id="a name cut short"),
        pytest.param(section(10, b"\x01\0\xff\xff\xff\x7fab"), id="a name of a huge length"),
        pytest.param(section(11, b"\x01\0\x01a"), id="an export of nothing"),
        pytest.param(section(99, b""), id="a section of an unknown kind"),
        pytest.param(b"\x0a\xff\xff\xff\xff\x0f", id="a section of a huge size"),
        pytest.param(section(7, b""), id="types without a number"),
    ],
)
def test_a_malformed_outline_is_an_artifact_error(rest: bytes) -> None:
    with pytest.raises(errors.ArtifactError):
        read_outline(COMPONENT_PREAMBLE + rest)


def test_the_limits_of_compiling_are_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_COMPILE_TIME", "90s")
    monkeypatch.setenv("HOST_COMPILE_CPU_TIME", "1500ms")
    monkeypatch.setenv("HOST_COMPILE_MEMORY", "1GiB")
    assert CompileLimits.configured() == CompileLimits(2, 90.0, 1 << 30)
    monkeypatch.setenv("HOST_COMPILE_CPU_TIME", "1ms")
    assert CompileLimits.configured().cpu_time_s == 1
    for limit in ("TIME", "CPU_TIME", "MEMORY"):
        monkeypatch.delenv(f"HOST_COMPILE_{limit}")
    assert CompileLimits.configured() == CompileLimits()


@pytest.mark.parametrize("variable", ["HOST_COMPILE_TIME", "HOST_COMPILE_CPU_TIME", "HOST_COMPILE_MEMORY"])
@pytest.mark.parametrize("given", ["much", "-1s", "0", "12"])
def test_a_limit_that_cannot_be_read_is_an_error_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, places, variable: str, given: str
) -> None:
    monkeypatch.setenv(variable, given)
    with pytest.raises(errors.InputError, match=variable):
        Sandbox(*places)


def test_an_embedder_sets_them_too(places) -> None:
    wasm = with_parts(many(50, lambda n: f"(type (tuple u8 u{8 if n % 2 else 16}))"))
    limits = CompileLimits(wall_time_s=0.001)
    with (
        Host(cache_dir=places[0], state_dir=places[1], compile_limits=limits) as host,
        pytest.raises(errors.CompileLimitExceeded, match="HOST_COMPILE_TIME"),
    ):
        host.load(wasm)
