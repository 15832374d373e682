from __future__ import annotations

import threading
import time

import pytest
from wasmtime import wat2wasm

from host import errors
from host.core.names import Digest
from host.sandbox import Sandbox
from tests.sandbox.conftest import component_text


def test_nothing_runs_where_no_epoch_passes_any_more(places, new_call) -> None:
    sandbox = Sandbox(*places)
    wasm = bytes(wat2wasm(component_text(body="(loop $l (br $l))")))
    spins = sandbox.load(wasm, Digest.of(wasm)).link({})
    sandbox.close()
    with pytest.raises(errors.StateError, match="closed"):
        spins.run("x", new_call(timeout_s=0.1))


def test_closing_waits_for_the_guests_that_run_and_they_still_end_in_time(places, new_call) -> None:
    sandbox = Sandbox(*places)
    wasm = bytes(wat2wasm(component_text(body="(loop $l (br $l))")))
    spins = sandbox.load(wasm, Digest.of(wasm)).link({})
    ended: list[BaseException] = []
    run = new_call(timeout_s=0.3)
    begun = threading.Event()

    def work() -> None:
        begun.set()
        try:
            spins.run("x", run)
        except errors.HostError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    while run.meters.cpu_time_s == 0 and thread.is_alive() and not sandbox.lanes.ticker._running:
        pass
    sandbox.close()
    thread.join(60)
    assert [type(error) for error in ended] == [errors.DeadlineExceeded]


@pytest.mark.parametrize("asleep", [False, True], ids=["at once", "after a pause"])
def test_a_run_that_follows_another_is_asked_like_the_first(asleep: bool, places, new_call) -> None:
    sandbox = Sandbox(*places)
    wasm = bytes(wat2wasm(component_text(body="(loop $l (br $l))")))
    spins = sandbox.load(wasm, Digest.of(wasm)).link({})
    for _ in range(3):
        with pytest.raises(errors.DeadlineExceeded):
            spins.run("x", new_call(timeout_s=0.05))
        while asleep and not sandbox.lanes.ticker._asleep:
            time.sleep(0)
    sandbox.close()
