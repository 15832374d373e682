from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from host.runtime.executor import on_run_thread
from tests.conftest import GUESTS


def test_what_runs_comes_back_and_what_it_raises_is_raised() -> None:
    assert on_run_thread(lambda: 5, lambda: None) == 5
    with pytest.raises(ZeroDivisionError):
        on_run_thread(lambda: 1 // 0, lambda: None)


def test_the_main_thread_never_runs_a_guest() -> None:
    assert on_run_thread(threading.current_thread, lambda: None) is not threading.main_thread()


def test_another_thread_runs_it_itself_where_its_stack_is_large_enough() -> None:
    seen: list[bool] = []

    def work() -> None:
        seen.append(on_run_thread(threading.current_thread, lambda: None) is threading.current_thread())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]


SCRIPT = """
import sys
from wasmtime import wat2wasm
from host import Host, Policy

with Host() as host:
    spins = host.load(bytes(wat2wasm(open(sys.argv[1]).read())), policy=Policy(timeout="60s", cpu_time="60s"))
    try:
        print("running", flush=True)
        spins.run({})
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c_ends_a_guest_that_computes_in_a_program_of_the_users(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", SCRIPT, str(GUESTS / "hostile" / "spins_forever.wat")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "running\n"
        threading.Event().wait(0.3)  # until it computes; earlier it would be interrupted as well
        program.send_signal(signal.SIGINT)
        assert program.stdout.readline() == "interrupted\n"
        assert program.wait(60) == 0
