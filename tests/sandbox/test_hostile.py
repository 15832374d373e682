"""Guests named by their sin: each ends with its own typed error, within its limit, and the host goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from host import Host, Policy, errors
from tests.conftest import GUESTS, ROOT, late, wat

HOSTILE = sorted(file.stem for file in (GUESTS / "hostile").glob("*.wat"))
TIMEOUT_S = 1.0
LATE_S = 0.5

REFUSED = {  # before anything of them runs
    "exports_nothing": errors.ContractError,
    "exports_wrong_type": errors.ContractError,
    "imports_a_function_at_top_level": errors.ContractError,
    "imports_sockets": errors.ContractError,
    "imports_unknown": errors.ContractError,
    "imports_wrong_type": errors.ContractError,
    "imports_wrong_version": errors.ContractError,
    "is_a_core_module": errors.NotAComponent,
    "many_instances": errors.CompileError,
    "many_memories": errors.CompileError,
    "many_tables": errors.CompileError,
    "waits_forever": errors.ContractError,  # with the operator's leave: test_poll.py
}
ENDED = {  # while it runs
    "connects_elsewhere": errors.Denied,
    "eats_memory": errors.GuestTrap,
    "floods_a_socket": errors.Denied,  # nothing is granted; where it may connect: capabilities/test_socket_attacks.py
    "floods_host_calls": errors.SandboxError,
    "floods_log": errors.HostCallsExceeded,
    "floods_output": errors.HostCallsExceeded,
    "grows_at_start": errors.MemoryExceeded,
    "leaks_sockets": errors.Denied,
    "leaks_streams": errors.Denied,
    "makes_handles": errors.GuestTrap,
    "never_reads_a_socket": errors.DeadlineExceeded,
    "reads_out_of_bounds": errors.GuestTrap,
    "recurses_forever": errors.StackExhausted,
    "returns_huge_output": errors.OutputTooLarge,
    "returns_lone_surrogate_utf8": errors.GuestTrap,
    "sends_after_closing": errors.Denied,
    "spins_forever": errors.DeadlineExceeded,
    "spins_in_start": errors.DeadlineExceeded,
    "takes_handles": errors.GuestTrap,
    "takes_random_bytes": errors.GuestTrap,
    "traps_at_once": errors.GuestTrap,
    "writes_stderr_forever": errors.DeadlineExceeded,
}
ANSWERED = {  # what they do is wrong, and harmless
    "forges_handles": 500,
    "imports_filesystem": 200,
    "malformed_json": 200,
    "returns_empty": 200,
    "returns_not_json": 200,
}


@pytest.fixture(autouse=True)
def _the_next_run_works(host: Host) -> Iterator[None]:
    yield
    assert host.load(wat("rust_like")).run({}).ok


def test_every_hostile_guest_is_in_one_table() -> None:
    assert sorted([*REFUSED, *ENDED, *ANSWERED]) == HOSTILE


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_it_runs(host: Host, name: str) -> None:
    with pytest.raises(REFUSED[name]) as caught:
        host.load(wat(f"hostile/{name}"))
    assert caught.value.exit_status == 5


@pytest.mark.parametrize("name", ENDED)
def test_it_is_ended_with_an_error_of_its_own(host: Host, name: str) -> None:
    endless = ENDED[name] is errors.DeadlineExceeded
    timeout = TIMEOUT_S if endless else 30.0  # in which any other ends by itself, on a busy machine too
    catalyst = host.load(wat(f"hostile/{name}"), policy=Policy(timeout=timeout))
    began = time.monotonic()
    with pytest.raises(ENDED[name]) as caught:
        catalyst.run({})
    assert time.monotonic() - began < timeout + late(LATE_S)
    assert not isinstance(caught.value, errors.Cancelled)


@pytest.mark.parametrize("name", ANSWERED)
def test_it_gets_errors_as_values_and_answers(host: Host, name: str) -> None:
    assert host.load(wat(f"hostile/{name}")).run({}).status == ANSWERED[name]


def test_refusals_name_the_import_that_is_to_blame(host: Host) -> None:
    with pytest.raises(errors.ContractError, match=r"evil:corp/backdoor@1\.0\.0"):
        host.load(wat("hostile/imports_unknown"))
    with pytest.raises(errors.ContractError) as caught:
        host.load(wat("hostile/imports_wrong_type"))
    assert caught.value.subject == "cyfr:secrets/read@0.1.0#get"


def test_a_flood_of_host_calls_ends_by_its_count_where_there_is_time(host: Host) -> None:
    catalyst = host.load(wat("hostile/floods_host_calls"), policy=Policy(timeout="30s"))
    with pytest.raises(errors.HostCallsExceeded):
        catalyst.run({})


def test_cpu_time_is_bounded_apart_from_wall_clock_time(host: Host) -> None:
    catalyst = host.load(wat("hostile/spins_forever"), policy=Policy(timeout="30s", cpu_time="200ms"))
    with pytest.raises(errors.CpuTimeExceeded):
        catalyst.run({})


def test_an_endless_guest_ends_in_time_while_eight_threads_are_busy(host: Host) -> None:
    catalyst = host.load(wat("hostile/spins_forever"), policy=Policy(timeout=TIMEOUT_S))
    stop = threading.Event()

    def count() -> None:
        total = 0
        while not stop.is_set():
            total += 1

    busy = [threading.Thread(target=count) for _ in range(8)]
    for thread in busy:
        thread.start()
    try:
        began = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            catalyst.run({})
        assert time.monotonic() - began < TIMEOUT_S + late(LATE_S)
    finally:
        stop.set()
        for thread in busy:
            thread.join()


IN_LITTLE_SPACE = """
import pathlib, resource, sys
from wasmtime import wat2wasm
from host.core.audit import NullSink
from host.core.limits import Limits
from host.core.names import Digest
from host.core.wit import IMPORTS
from host.run import Run
from host.secrets.value import Placeholders
from host.sandbox import Sandbox
from host.secrets.redaction import Redactor

wasm = bytes(wat2wasm(pathlib.Path(sys.argv[2]).read_text()))
loaded = Sandbox(pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[3]), pooling=False).load(wasm, Digest.of(wasm))
ours = {name: dict.fromkeys(IMPORTS[name], lambda *_: "{}") for name in loaded.imports if name in IMPORTS}
instances = loaded.link(ours)
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + (int(sys.argv[1]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    instances.run("{}", Run(limits=Limits(), sink=NullSink(), redactor=Redactor({}), placeholders=Placeholders()))
    print("ran")
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("mib", [0, 110, 256, 440, 2048])
@pytest.mark.parametrize("name", ["takes_handles", "makes_handles", "takes_random_bytes", "rust_like"])
def test_a_guest_that_takes_what_little_address_space_there_is_does_not_end_its_host(
    name: str, mib: int, tmp_path: Path
) -> None:
    """The library aborts the process where it gets no memory: a guest starts only where there is enough for it."""
    place = name if name == "rust_like" else f"hostile/{name}"
    argv = [sys.executable, "-c", IN_LITTLE_SPACE, str(4096 + 64 + mib), str(GUESTS / f"{place}.wat"), str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    usual = {"GuestTrap"} if name != "rust_like" else {"ran"}
    assert {done.stdout.strip()} <= usual | {"Busy"}
    assert mib < 1024 or done.stdout.strip() != "Busy"
