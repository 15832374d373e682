"""Events from a run to its consumer: in order, a few ahead, and never for nobody."""

from __future__ import annotations

import queue
import threading

import pytest

from host.runtime.events import Channel
from tests.runtime.test_run import new_call

AHEAD = 64


def test_events_come_in_order_and_then_the_end() -> None:
    channel: Channel[int] = Channel()
    run = new_call()
    assert all(channel.put(str(number), run) for number in range(5))
    channel.end(7)
    assert [channel.get() for _ in range(6)] == ["0", "1", "2", "3", "4", (7,)]


def test_a_consumer_that_may_not_block_is_told_that_there_is_nothing() -> None:
    channel: Channel[int] = Channel()
    with pytest.raises(queue.Empty):
        channel.get(block=False)


def test_the_consumer_is_woken_after_every_event_and_the_end() -> None:
    woken: list[None] = []
    channel: Channel[int] = Channel(lambda: woken.append(None))
    channel.put("a", new_call())
    channel.end(1)
    assert len(woken) == 2


def test_a_slow_consumer_holds_the_run_back() -> None:
    """Nobody consumes: so many events are taken, and the next waits until one was."""
    channel: Channel[int] = Channel()
    run, taken = new_call(), []
    full, done = threading.Event(), threading.Event()

    def produce() -> None:
        for number in range(AHEAD + 1):
            if number == AHEAD:
                full.set()
            taken.append(channel.put(str(number), run))
        done.set()

    thread = threading.Thread(target=produce)
    thread.start()
    assert full.wait(10)
    assert not done.wait(0.2)
    assert len(taken) == AHEAD
    assert channel.get() == "0"
    assert done.wait(10)
    thread.join()
    assert taken == [True] * (AHEAD + 1)


def _full() -> Channel[int]:
    channel: Channel[int] = Channel()
    run = new_call()
    for number in range(AHEAD):
        assert channel.put(str(number), run)
    return channel


def test_a_run_that_waits_for_room_ends_when_it_is_cancelled() -> None:
    channel, run = _full(), new_call()
    threading.Timer(0.05, run.cancel).start()
    assert channel.put("more", run) is False


def test_a_run_that_waits_for_room_ends_by_its_deadline() -> None:
    assert _full().put("more", new_call(timeout_s=0.05)) is False


def test_a_run_that_waits_for_room_learns_that_the_consumer_has_gone() -> None:
    channel = _full()
    threading.Timer(0.05, channel.abandon).start()
    assert channel.put("more", new_call()) is False


def test_nothing_is_taken_for_a_consumer_that_has_gone() -> None:
    channel: Channel[int] = Channel()
    channel.abandon()
    assert channel.put("event", new_call()) is False
    channel.end(1)
    assert channel.get() == (1,)
