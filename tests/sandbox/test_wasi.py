"""What a guest writes to its standard streams is kept for the error that it ends in, up to a cap and without secrets."""

from __future__ import annotations

import time

import pytest
from wasmtime import wat2wasm

from host import Host, Policy, errors
from host.core.audit import NullSink
from host.core.limits import Limits
from host.core.names import Digest
from host.core.wit import IMPORTS
from host.run import Run
from host.sandbox import Sandbox, failure
from host.sandbox.wasi import MAX_RANDOM_BYTES, StandardStreams
from host.secrets.redaction import Redactor
from host.secrets.value import Placeholders, SecretValue
from tests.conftest import GUESTS, slack, wat

WRITES = (GUESTS / "rust_like.wat").read_text()


@pytest.fixture
def streams(new_call) -> StandardStreams:
    return StandardStreams(new_call(max_log_bytes=10))


def test_what_is_over_the_cap_is_dropped_and_the_beginning_kept(streams: StandardStreams) -> None:
    for piece in (b"01234", b"56789ab", b"cdef"):
        streams.write(piece)
    assert streams.text() == "0123456789"


def test_what_a_guest_wrote_before_it_trapped_is_on_the_error(streams: StandardStreams, new_call) -> None:
    streams.write(b"a panic")
    error = failure.classify(failure.Trapped(None), new_call(), streams)
    assert isinstance(error, errors.GuestTrap)
    assert (error.stderr, error.hint) == ("a panic", None)


def test_a_secret_that_a_guest_wrote_there_is_not() -> None:
    key = "sk-test-0123456789abcdefghijklmnop"
    redactor = Redactor({"placeholder": SecretValue(key)})
    run = Run(limits=Limits(), sink=NullSink(), redactor=redactor, placeholders=Placeholders())
    streams = StandardStreams(run)
    streams.write(f"the key is {key}".encode())
    error = failure.classify(failure.Trapped(None), run, streams)
    assert isinstance(error, errors.GuestTrap)
    assert error.stderr == "the key is placeholder"


def test_what_a_real_guest_writes_to_stderr_arrives(
    sandbox: Sandbox, new_call, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(StandardStreams, "write", lambda self, data: written.append(data))
    wasm = bytes(wat2wasm(WRITES))
    loaded = sandbox.load(wasm, Digest.of(wasm))
    ours = {name: dict.fromkeys(IMPORTS[name], lambda *_: "{}") for name in loaded.imports if name in IMPORTS}
    loaded.link(ours).run("{}", new_call())
    assert b"".join(written).strip()


RANDOM = (GUESTS / "hostile" / "takes_random_bytes.wat").read_text()


def _random(count: int, *, version: str = "0.2.3", insecure: bool = False) -> bytes:
    """A guest that asks for `count` random bytes and answers with them; they go where a text belongs."""
    text = RANDOM.replace("i64.const -1", f"i64.const {count}").replace("@0.2.3", f"@{version}")
    if insecure:
        text = text.replace("random/random", "random/insecure").replace("get-random", "get-insecure-random")
    return bytes(wat2wasm(text))


@pytest.mark.parametrize("insecure", [False, True])
@pytest.mark.parametrize("count", [MAX_RANDOM_BYTES + 1, 50_000_000, 64 << 20, (64 << 20) + 1, 1 << 40, -1])
def test_a_guest_that_takes_random_bytes_by_the_megabyte_is_ended_at_once(
    host: Host, insecure: bool, count: int
) -> None:
    """wasmtime's own function makes 64 MiB in a second or three, whatever the deadline."""
    catalyst = host.load(_random(count, insecure=insecure))
    began = time.thread_time()
    with pytest.raises(errors.GuestTrap, match="random bytes at once") as caught:
        catalyst.run({})
    assert time.thread_time() - began < slack(0.3)
    assert str(MAX_RANDOM_BYTES) in str(caught.value.hint)


@pytest.mark.parametrize("insecure", [False, True])
@pytest.mark.parametrize("version", [f"0.2.{patch}" for patch in (*range(10), 12)])
def test_a_guest_gets_the_random_bytes_that_it_asks_for(host: Host, version: str, insecure: bool) -> None:
    catalyst = host.load(_random(32, version=version, insecure=insecure))
    first, second = (catalyst.run({}).data for _ in range(2))
    assert first["count"] == second["count"] == 32
    assert first["sum"] != second["sum"]


@pytest.mark.parametrize("count", [0, 1, 255, MAX_RANDOM_BYTES])
def test_random_bytes_are_as_many_as_asked_for(host: Host, count: int) -> None:
    assert host.load(_random(count)).run({}).data["count"] == count


def test_random_bytes_take_every_value(host: Host) -> None:
    assert host.load(_random(MAX_RANDOM_BYTES)).run({}).data["different"] == 256


def test_random_numbers_differ_from_run_to_run(host: Host) -> None:
    catalyst = host.load(_random(0))
    assert len({catalyst.run({}).data["number"] for _ in range(8)}) == 8


def test_a_flood_of_random_numbers_counts_as_host_calls(host: Host) -> None:
    text = RANDOM.replace("i64.const -1", "i64.const 0")
    text = text.replace("(local.set $number (call $u64))", "(loop $again (drop (call $u64)) (br $again))")
    catalyst = host.load(bytes(wat2wasm(text)), policy=Policy(timeout="30s"))
    with pytest.raises(errors.HostCallsExceeded):
        catalyst.run({})


@pytest.mark.parametrize(
    "kind",
    [
        '(param "len" u64) (result (list s8))', '(param "len" u64) (result (list (list u8)))',
        '(param "len" u64) (result string)', '(param "len" u32) (result (list u8))',
        '(param "len" string) (result (list u8))', "(result (list u8))", '(param "len" u64)',
    ],
)  # fmt: skip
def test_random_bytes_of_another_type_are_refused_before_they_run(host: Host, kind: str) -> None:
    declared = f'(component (import "wasi:random/random@0.2.3" (instance (export "get-random-bytes" (func {kind})))))'
    with pytest.raises(errors.ContractError, match="get-random-bytes is"):
        host.load(bytes(wat2wasm(declared)))


ADAPTER_LIKE = (GUESTS / "adapter_like.wat").read_text()


@pytest.mark.parametrize("version", [f"0.2.{patch}" for patch in (*range(10), 12)])
def test_a_rust_build_with_the_adapters_files_runs_with_no_flag_and_finds_no_directory(
    host: Host, version: str
) -> None:
    wasm = bytes(wat2wasm(ADAPTER_LIKE.replace("@0.2.3", f"@{version}")))
    catalyst = host.load(wasm)
    assert f"wasi:filesystem/preopens@{version}" in catalyst.imports
    assert catalyst.run({}).as_dict() == {"status": 200, "data": 0}


@pytest.mark.parametrize("first", ["0", "1", "2", "7", "-", "d"])
def test_a_guest_that_forges_a_descriptor_is_trapped_and_the_next_run_works(
    sandbox: Sandbox, new_call, first: str
) -> None:
    """Handle 0, the stream that it has as a descriptor, ones that it has not, and dropping what it never had."""
    wasm = wat("adapter_like")
    loaded = sandbox.load(wasm, Digest.of(wasm))
    instances = loaded.link({"cyfr:http/fetch@0.1.0": {"request": lambda run, text: "{}"}})
    with pytest.raises(errors.GuestTrap):
        instances.run(first, new_call())
    assert instances.run("x", new_call()) == '{"status":200,"data":0}'


def test_a_directory_of_the_hosts_own_is_not_among_the_opened(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    assert host.load(wat("adapter_like")).run({}).data == 0
