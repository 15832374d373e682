"""How many runs have a sandbox at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

import pytest

from host import Limits, errors
from host.core.slots import Share, Slots
from host.run import Run, Stop
from host.runtime.executor import RunExecutor
from host.secrets.redaction import Redactor
from host.secrets.value import Placeholders

ALONE = Share.of_embedder("", "")
PATIENCE_S = 60.0


@pytest.fixture
def new_run() -> Callable[..., Run]:
    """A run with some limits set and nothing else of interest."""

    def make(**limits: float) -> Run:
        return Run(limits=Limits(**limits), sink=None, redactor=Redactor({}), placeholders=Placeholders())

    return make


def test_a_run_that_finds_no_sandbox_is_told_so_when_its_time_is_up(new_run) -> None:
    slots = Slots(1)
    with slots.taken(new_run()), pytest.raises(errors.Busy), slots.taken(new_run(timeout_s=0.1)):
        pass


def test_a_run_that_waits_for_a_sandbox_can_be_cancelled(new_run) -> None:
    executor, run = RunExecutor(1), new_run(timeout_s=PATIENCE_S)
    with computing(executor, new_run(), ALONE):
        threading.Timer(0.05, run.cancel).start()
        with pytest.raises(errors.Cancelled), executor.under_way(run, ALONE):
            pass


def test_waiting_costs_no_cpu_time_of_the_run_however_long_its_thread_has_lived(new_run) -> None:
    slots = Slots(1)
    while time.thread_time() < 0.02:
        pass
    run = new_run(timeout_s=0.1, cpu_time_s=0.01)
    with slots.taken(new_run()), pytest.raises(errors.Busy), slots.taken(run):
        pass
    assert run.stopped is not Stop.CPU_TIME


def test_a_slot_is_given_back_however_the_run_ends(new_run) -> None:
    slots = Slots(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="x"), slots.taken(new_run()):
            raise ValueError("x")
    with slots.taken(new_run()):
        pass


def test_a_waiting_run_gets_the_slot_that_becomes_free(new_run) -> None:
    slots = Slots(1)
    got = threading.Event()

    def wait() -> None:
        with slots.taken(new_run(timeout_s=PATIENCE_S)):
            got.set()

    with slots.taken(new_run()):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not got.is_set()
    assert got.wait(PATIENCE_S)
    thread.join()


class Race:
    """Runs that wait for slots, each on a thread, and in which order they got one."""

    def __init__(self, slots: Slots, new_run: Callable[..., Run]) -> None:
        self._slots = slots
        self._new_run = new_run
        self._threads: list[threading.Thread] = []
        self._go_on: dict[str, list[threading.Event]] = {}
        self._lock = threading.Lock()
        self.order: list[str] = []

    def start(self, share: Share) -> None:
        """Returns once the run has a slot, which `order` shows, or waits for one."""
        thread = threading.Thread(target=self._work, args=(share,))
        self._threads.append(thread)
        thread.start()
        end = time.monotonic() + PATIENCE_S
        while self._asked() < len(self._threads):
            assert time.monotonic() < end
            time.sleep(0.001)

    def _asked(self) -> int:
        """How many have, or had, a slot or wait for one."""
        with self._slots._lock:
            waiting = sum(len(lane) for lanes in self._slots._waiting.values() for lane in lanes.values())
        return waiting + len(self.order)

    def _work(self, share: Share) -> None:
        go_on = threading.Event()
        with self._slots.taken(self._new_run(timeout_s=PATIENCE_S), share):
            with self._lock:
                self.order.append(share.caller)
                self._go_on.setdefault(share.caller, []).append(go_on)
            assert go_on.wait(PATIENCE_S)

    def holding(self, caller: str) -> int:
        with self._lock:
            return len(self._go_on.get(caller, ()))

    def end_one(self, caller: str) -> None:
        with self._lock:
            self._go_on[caller].pop(0).set()

    def reached(self, count: int) -> list[str]:
        """Who got a slot, once so many have."""
        end = time.monotonic() + PATIENCE_S
        while len(self.order) < count and time.monotonic() < end:
            time.sleep(0.005)
        assert len(self.order) == count, self.order
        return self.order

    def end(self) -> None:
        while any(thread.is_alive() for thread in self._threads):
            with self._lock:
                for events in self._go_on.values():
                    for one in events:
                        one.set()
            time.sleep(0.005)


@pytest.fixture
def race(new_run) -> Iterator[Callable[[int], Race]]:
    made: list[Race] = []

    def make(count: int) -> Race:
        made.append(Race(Slots(count), new_run))
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_a_key_that_asks_for_all_slots_leaves_half_of_them(race) -> None:
    one = race(8)
    for _ in range(20):
        one.start(Share("a"))
    assert one.reached(4) == ["a"] * 4
    one.start(Share("b"))
    assert one.reached(5)[-1] == "b", "at once, while sixteen of the other's wait"


@pytest.mark.parametrize("keys", [1, 2, 3, 7])
def test_however_many_keys_ask_for_all_slots_there_is_one_for_another(race, keys: int) -> None:
    one = race(8)
    for _ in range(8):
        for number in range(keys):
            one.start(Share(f"greedy {number}"))
    before = len(one.order)
    one.start(Share("late"))
    assert one.reached(before + 1)[-1] == "late"


def test_a_slot_goes_to_the_key_that_has_the_fewest(race) -> None:
    one = race(2)
    one.start(Share("a", most=2))
    one.start(Share("a", most=2))
    one.reached(2)
    for _ in range(3):
        one.start(Share("a", most=2))
    one.start(Share("b"))
    one.end_one("a")
    assert one.reached(3)[-1] == "b"


def test_keys_take_turns_and_so_do_the_catalysts_of_one(race) -> None:
    one = race(1)
    one.start(Share("x"))
    one.reached(1)
    for caller, catalyst in (("a", "one"), ("a", "one"), ("a", "two"), ("b", "one"), ("b", "one"), ("c", "one")):
        one.start(Share(caller, catalyst))
    for number, caller in enumerate(("x", "a", "b", "c", "a", "b", "a")):
        one.reached(number + 1)
        one.end_one(caller)
    assert one.order == ["x", "a", "b", "c", "a", "b", "a"]


def test_a_run_of_another_catalyst_is_not_kept_waiting_by_those_of_a_full_one(race) -> None:
    one = race(8)
    for _ in range(4):
        one.start(Share("a", "small", most_of_catalyst=1))
    assert one.reached(1) == ["a"]
    one.start(Share("a", "other"))
    one.reached(2)
    one.end_one("a")
    one.reached(3)


def test_a_catalyst_has_no_more_slots_than_all_keys_together_may_have_of_it(race) -> None:
    one = race(8)
    for caller in "abcd":
        one.start(Share(caller, "small", most_of_catalyst=2))
    assert one.reached(2) == ["a", "b"]
    one.end_one("b")
    assert one.reached(3)[-1] == "c"


def test_a_key_may_be_given_fewer_slots_or_all_of_them(race) -> None:
    one = race(4)
    for _ in range(3):
        one.start(Share("few", most=1))
    assert one.reached(1) == ["few"]
    for _ in range(5):
        one.start(Share("many", most=4))
    assert one.reached(4)[1:] == ["many"] * 3


def test_an_embedder_has_all_slots_and_its_callers_take_turns(race) -> None:
    one = race(3)
    for _ in range(5):
        one.start(Share.of_embedder("a", "c"))
    assert one.reached(3) == ["a"] * 3
    one.start(Share.of_embedder("b", "c"))
    one.end_one("a")
    assert one.reached(4)[-1] == "b"


def test_a_run_is_told_that_it_waits_too_long_before_its_own_time_is_up(new_run) -> None:
    slots = Slots(1)
    with slots.taken(new_run()), pytest.raises(errors.Busy), slots.taken(new_run(timeout_s=60), Share(patience_s=0.05)):
        pass


def test_runs_that_gave_up_waiting_leave_nothing_behind(new_run) -> None:
    slots = Slots(1)
    with slots.taken(new_run()):
        for caller in "abc":
            with pytest.raises(errors.Busy), slots.taken(new_run(timeout_s=0.01), Share(caller, "x")):
                pass
    assert not slots._waiting
    assert not slots._held
    assert not slots._held_of_catalyst
    with slots.taken(new_run()):
        pass


def test_a_run_that_is_cancelled_as_it_gets_its_slot_gives_it_back(new_run) -> None:
    slots = Slots(1)
    run = new_run(timeout_s=PATIENCE_S)
    ended = threading.Event()

    def wait() -> None:
        with suppress(errors.Cancelled), slots.taken(run):
            pass
        ended.set()

    with slots.taken(new_run()):
        thread = threading.Thread(target=wait)
        thread.start()
        while not slots._waiting:
            time.sleep(0.001)
        run.cancel()
    assert ended.wait(PATIENCE_S)
    thread.join()
    with slots.taken(new_run(timeout_s=1)):
        pass


def test_a_wait_that_is_broken_off_leaves_no_slot_taken() -> None:
    slots = Slots(1)

    class Broken:
        def remaining(self) -> float:
            raise KeyboardInterrupt

        def interruptible(self, abort: Callable[[], None]) -> AbstractContextManager[None]:
            del abort
            return nullcontext()

    class Patient(Broken):
        def remaining(self) -> float:
            return 5.0

    slots.take(Patient(), ALONE)
    with pytest.raises(KeyboardInterrupt):
        slots.take(Broken(), ALONE)
    slots.give_back(ALONE)
    slots.take(Patient(), ALONE)
    assert not slots.wanted


class TestTurns:
    """Many runs are under way, and few of them compute."""

    def test_a_run_that_waits_lets_another_compute(self, new_run) -> None:
        executor, waits, computes = RunExecutor(2, turns=1), new_run(), new_run()
        with executor.under_way(waits, ALONE):
            with waits.interruptible(lambda: None), executor.under_way(computes, ALONE):
                assert (waits.turn.held, computes.turn.held) == (False, True)
            waits.turn.resume()
            assert waits.turn.held

    def test_it_goes_on_when_the_other_one_waits_or_ends(self, new_run) -> None:
        executor, first, second = RunExecutor(2, turns=1), new_run(), new_run()
        goes_on = threading.Event()

        def go_on() -> None:
            first.turn.resume()
            goes_on.set()

        with executor.under_way(first, ALONE):
            first.step_aside()
            thread = threading.Thread(target=go_on)
            with executor.under_way(second, ALONE):
                thread.start()
                assert not goes_on.wait(0.05)
            assert goes_on.wait(PATIENCE_S)
            thread.join()

    def test_one_that_computes_for_long_gives_way_to_one_that_waits_for_a_turn(self, new_run, monkeypatch) -> None:
        monkeypatch.setattr("host.runtime.executor._TURN_S", 0.0)
        executor, long, short = RunExecutor(2, turns=1), new_run(), new_run()
        had = threading.Event()

        def short_one() -> None:
            with executor.under_way(short, ALONE):
                had.set()

        with executor.under_way(long, ALONE):
            long.turn.share()
            assert long.turn.held, "nobody else wants one"
            thread = threading.Thread(target=short_one)
            thread.start()
            end = time.monotonic() + PATIENCE_S
            while not had.is_set():
                assert time.monotonic() < end
                long.turn.share()
            thread.join()
            assert long.turn.held

    def test_one_that_must_end_waits_for_no_turn(self, new_run) -> None:
        executor, ends, other = RunExecutor(2, turns=1), new_run(), new_run()
        with executor.under_way(ends, ALONE):
            ends.step_aside()
            with executor.under_way(other, ALONE):
                ends.cancel()
                ends.turn.resume()
                assert not ends.turn.held

    def test_one_that_a_host_function_of_another_started_has_a_turn(self, new_run) -> None:
        """With one turn for both, on one thread, each would wait for the other."""
        executor, outer, inner = RunExecutor(2, turns=1), new_run(timeout_s=20), new_run(timeout_s=20)
        with executor.under_way(outer, ALONE), executor.under_way(inner, ALONE):
            assert inner.turn.held
            assert not outer.turn.held

    def test_a_turn_that_does_not_come_in_time_is_an_error(self, new_run) -> None:
        executor = RunExecutor(2, turns=1)
        impatient = Share("b", "c", None, None, patience_s=0.05)
        with (
            computing(executor, new_run(), ALONE),
            pytest.raises(errors.Busy),
            executor.under_way(new_run(), impatient),
        ):
            pass
        with executor.under_way(new_run(), impatient):
            pass

    def test_attack_one_caller_does_not_have_all_turns(self, new_run) -> None:
        executor = RunExecutor(20, turns=4)
        greedy, other = Share("greedy", "c"), Share("other", "c")
        with computing(executor, new_run(), greedy), computing(executor, new_run(), greedy):
            with pytest.raises(errors.Busy), executor.under_way(new_run(timeout_s=0.05), greedy):
                pass
            with executor.under_way(new_run(), other):
                pass


@contextmanager
def computing(executor: RunExecutor, run: Run, share: Share) -> Iterator[None]:
    """Inside, another thread computes for the run."""
    begun, end = threading.Event(), threading.Event()

    def compute() -> None:
        with executor.under_way(run, share):
            begun.set()
            end.wait(PATIENCE_S)

    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(compute)
        assert begun.wait(PATIENCE_S)
        try:
            yield
        finally:
            end.set()
            done.result()
