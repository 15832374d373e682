"""One run: its time, its meters, its cancellation and its record."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace

import pytest

from host.core.audit import Event, NullSink, Sink
from host.core.limits import Limits
from host.errors import AuditError, Refusal
from host.run import MAX_DENIALS, MAX_EVENTS, CancelToken, Run, Stop
from host.secrets.redaction import Redactor, SecretValue
from host.secrets.value import Placeholders
from tests.probing import TOKEN, Kept


def new_call(*, sink: Sink | None = None, secret: str = "", **limits: float) -> Run:
    placeholders, values = Placeholders(), {}
    if secret:
        placeholders.bind("TOKEN", "host-secret-" + "0" * 32)
        values["host-secret-" + "0" * 32] = SecretValue(secret)
    return Run(
        limits=replace(Limits(), **limits),
        sink=NullSink() if sink is None else sink,
        redactor=Redactor(values),
        placeholders=placeholders,
    )


# Why a run must end.


def test_a_run_with_time_left_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run = new_call(timeout_s=60.0)
    now[0] += 59.0
    assert run.check() is None
    assert run.remaining() == 1.0


def test_a_run_ends_by_its_deadline() -> None:
    run = new_call(timeout_s=1e-9)
    assert run.check() is Stop.DEADLINE
    assert run.remaining() <= 0


def test_a_run_ends_when_its_cpu_time_is_used_up() -> None:
    run = new_call(cpu_time_s=0.01)
    run.begin_cpu_time()
    while run.check() is None:
        pass
    assert run.stopped is Stop.CPU_TIME
    run.end_cpu_time()
    assert run.meters.cpu_time_s >= 0.01


def test_the_clock_of_the_thread_is_read_only_once_the_cpu_time_can_be_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now, computed, read = [100.0], [7.0], [0]

    def thread_time() -> float:
        read[0] += 1
        return computed[0]

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "thread_time", thread_time)
    run = new_call(cpu_time_s=2.0, timeout_s=60.0)
    run.begin_cpu_time()
    now[0] += 1.5
    assert [run.check() for _ in range(1_000)] == [None] * 1_000
    assert read[0] == 1, "when it began: in 1.5 s nobody computes for 2 s"
    now[0], computed[0] = now[0] + 1.0, 8.5  # it waited for a second of that time
    assert [run.check() for _ in range(1_000)] == [None] * 1_000
    assert read[0] == 2
    now[0], computed[0] = now[0] + 0.5, 9.0
    assert run.check() is Stop.CPU_TIME


def test_work_of_the_host_that_is_excused_does_not_end_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "thread_time", lambda: now[0])
    run = new_call(cpu_time_s=2.0, timeout_s=60.0)
    run.begin_cpu_time()
    run.excuse(1.0)
    now[0] += 2.5
    assert run.check() is None
    now[0] += 0.5
    assert run.check() is Stop.CPU_TIME


def test_before_the_guest_runs_no_cpu_time_is_counted() -> None:
    """A call is made on one thread and may run on another, whose own CPU time is none of its."""
    made: list[Run] = []
    maker = threading.Thread(target=lambda: made.append(new_call(cpu_time_s=1e-6)))
    maker.start()
    maker.join()
    assert time.thread_time() > 0.001
    assert made[0].check() is None


def test_the_first_reason_stands() -> None:
    run = new_call()
    run.stop(Stop.OUTPUT)
    run.cancel()
    assert run.check() is Stop.OUTPUT


def test_a_fault_ends_the_run_and_the_first_is_kept() -> None:
    run = new_call()
    first = ValueError("first")
    run.fail(first)
    run.fail(ValueError("second"))
    assert run.check() is Stop.FAULT
    assert run.fault is first


# Cancellation.


def test_a_cancelled_run_has_no_time_left() -> None:
    run = new_call()
    run.cancel()
    assert run.check() is Stop.CANCELLED
    assert run.cancelled
    assert run.remaining() == 0.0


def test_cancelling_wakes_what_waits_once() -> None:
    run, woken = new_call(), []
    with run.interruptible(lambda: woken.append(1)):
        run.cancel()
        run.cancel()
    assert woken == [1]


def test_what_begins_to_wait_in_a_cancelled_run_is_woken_at_once() -> None:
    run, woken = new_call(), []
    run.cancel()
    with run.interruptible(lambda: woken.append(1)):
        assert woken == [1]


def test_what_no_longer_waits_is_not_woken() -> None:
    run, woken = new_call(), []
    with run.interruptible(lambda: woken.append(1)):
        pass
    run.cancel()
    assert woken == []


def test_one_token_takes_back_several_runs() -> None:
    token, calls = CancelToken(), [new_call(), new_call()]
    with token.watched(calls[0].cancel), token.watched(calls[1].cancel):
        token.cancel()
    assert all(run.cancelled for run in calls)
    assert token.cancelled
    late = new_call()
    with token.watched(late.cancel):
        assert late.cancelled


def test_cancelling_from_many_threads_wakes_once() -> None:
    token, woken = CancelToken(), []
    with token.watched(lambda: woken.append(1)):
        threads = [threading.Thread(target=token.cancel) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert woken == [1]


# Output.


def test_without_a_listener_nothing_is_emitted_or_counted() -> None:
    run = new_call()
    assert run.emit("{}") is False
    assert run.meters.events == 0


def test_what_is_relayed_does_not_count_towards_what_a_guest_may_emit() -> None:
    run, heard = new_call(max_output_bytes=10), []
    run.listener = lambda event: heard.append(event) is None
    assert run.emit("x" * 50, relayed=True)
    assert run.emit("y" * 10)
    assert not run.emit("z")
    assert run.stopped is Stop.OUTPUT
    assert [len(event) for event in heard] == [50, 10]
    assert run.meters.emitted_bytes == 61


# Record.


def test_an_event_that_cannot_be_recorded_is_an_error_and_is_not_kept() -> None:
    class Failing:
        def record(self, event: Event) -> None:
            raise OSError

    run = new_call(sink=Failing())
    with pytest.raises(AuditError):
        run.audit("log")
    with pytest.raises(AuditError):
        run.refuse("http.request", Refusal("x", "y", "z"))
    assert run.events == []
    assert run.refusals == []


def test_the_sink_has_all_events_and_the_call_keeps_so_many() -> None:
    kept = Kept()
    run = new_call(sink=kept)
    for number in range(MAX_EVENTS + 5):
        run.audit("http.request", "allow", detail={"n": number})
        run.refuse("http.request", Refusal("x", str(number), "z"))
    assert len(kept) == MAX_EVENTS + 5 + MAX_DENIALS, "of more denials only the number is recorded"
    assert len(run.events) == len(run.refusals) == MAX_EVENTS


def test_the_same_refusal_is_kept_once_and_recorded_every_time() -> None:
    run = new_call()
    for _ in range(3):
        run.refuse("http.request", Refusal("x", "y", "z"))
    assert len(run.refusals) == 1
    assert len(run.events) == 3


def test_no_record_holds_a_secret() -> None:
    kept = Kept()
    run = new_call(sink=kept, secret=TOKEN)
    run.audit("http.request", "allow", f"rule {TOKEN}", {"url": f"https://a.test/{TOKEN}", TOKEN: [TOKEN]})
    run.refuse("http.request", Refusal("x", f"GET {TOKEN}", TOKEN, f"add {TOKEN}"))
    run.note("info", f"key {TOKEN}")
    run.note("fatal", json.dumps({"exception": TOKEN, "message": TOKEN, "traceback": TOKEN}))
    assert TOKEN not in repr((kept, run.events, run.refusals, run.logs, run.report))
    assert "host-secret-" in repr(kept)


def test_only_the_first_last_word_is_the_report() -> None:
    run = new_call()
    run.note("fatal", '{"exception": "A"}')
    run.note("fatal", '{"exception": "B"}')
    assert run.report is not None
    assert run.report.exception == "A"
    assert [line.level for line in run.logs] == ["fatal"]


def test_two_runs_have_two_ids() -> None:
    assert new_call().id != new_call().id


def test_one_connection_whose_end_cannot_be_recorded_leaves_no_other_one_open() -> None:
    run, closed = new_call(), []

    class Unrecorded:
        def close(self) -> None:
            closed.append(self)
            raise AuditError("the audit sink failed")

    run.streams = {str(number): Unrecorded() for number in range(3)}
    with pytest.raises(AuditError):
        run.close()
    assert len(closed) == 3
    assert not run.streams
