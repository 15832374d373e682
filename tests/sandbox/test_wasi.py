"""What a guest writes to its standard streams is kept for the error that it ends in, up to a cap and without secrets."""

from __future__ import annotations

import pytest
from wasmtime import wat2wasm

from host import Host, errors
from host.core.audit import NullSink
from host.core.limits import Limits
from host.core.names import Digest
from host.core.wit import IMPORTS
from host.run import Placeholders, Run
from host.sandbox import Sandbox, failure
from host.sandbox.wasi import StandardStreams
from host.secrets.redaction import Redactor
from host.secrets.value import SecretValue
from tests.conftest import GUESTS, wat

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
