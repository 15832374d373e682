"""What each key may hold of a process: requests under way, bytes of their bodies, and the work that they make."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from host.errors import Busy, LimitExceeded, Overloaded
from host.service.principal import OPERATOR, Admission, Admitted, Principal
from tests.service.test_request import holder


def key(name: str) -> Principal:
    principal = holder()
    assert principal.key is not None
    return Principal.of(replace(principal.key, id=name, name=name))


@pytest.fixture
def admission() -> Iterator[Admission]:
    with closing(Admission(most_bytes=1_000, most_requests=8)) as one:
        yield one


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as one:
        yield one


def begun(stack: ExitStack, admission: Admission, principal: Principal) -> Admitted:
    """A request that is under way until the end of the stack."""
    admitted = admission.enter(principal)
    stack.callback(admission.leave, admitted)
    return admitted


def entered(stack: ExitStack, admission: Admission, name: str) -> Admitted:
    return begun(stack, admission, key(name))


def test_a_key_that_sends_without_end_is_told_to_wait_and_leaves_room(admission: Admission, stack: ExitStack) -> None:
    for _ in range(4):
        entered(stack, admission, "a")
    with pytest.raises(Overloaded, match="key 'a' has more requests under way"):
        admission.enter(key("a"))
    entered(stack, admission, "b")


@pytest.mark.parametrize("keys", [1, 2, 3, 7])
def test_however_many_keys_send_without_end_there_is_room_for_another(
    admission: Admission, stack: ExitStack, keys: int
) -> None:
    for _ in range(8):
        for number in range(keys):
            try:
                entered(stack, admission, f"greedy {number}")
            except Overloaded:
                continue
    entered(stack, admission, "late")


def test_a_key_without_any_request_is_told_that_the_server_is_full(admission: Admission, stack: ExitStack) -> None:
    for number in range(8):
        entered(stack, admission, str(number))
    with pytest.raises(Busy):
        admission.enter(key("late"))


def test_a_refused_request_holds_nothing(admission: Admission) -> None:
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(4):
                entered(stack, admission, "a")
            for _ in range(3):
                with pytest.raises(Overloaded):
                    admission.enter(key("a"))
    assert admission.free_requests == 8
    assert not admission._accounts


def test_callers_without_a_key_count_as_one(admission: Admission, stack: ExitStack) -> None:
    for _ in range(4):
        begun(stack, admission, OPERATOR)
    with pytest.raises(Overloaded, match="the caller"):
        admission.enter(OPERATOR)


def test_bodies_of_one_key_leave_room_for_those_of_another(admission: Admission, stack: ExitStack) -> None:
    one, two, other = (entered(stack, admission, name) for name in "aab")
    one.reserve(300)
    two.reserve(200)
    with pytest.raises(LimitExceeded) as raised:
        two.reserve(201)
    assert raised.value.unit == "bytes"
    other.reserve(250)


def test_a_body_that_grows_is_counted_once(admission: Admission, stack: ExitStack) -> None:
    one, other = entered(stack, admission, "a"), entered(stack, admission, "b")
    for size in range(0, 1_001, 100):
        one.reserve(min(size, 500))
    other.reserve(250)
    assert admission.free_bytes == 250


def test_a_first_body_may_take_all_that_isfree_and_no_more(admission: Admission, stack: ExitStack) -> None:
    with pytest.raises(Busy):
        entered(stack, admission, "a").reserve(1_001)
    entered(stack, admission, "b").reserve(1_000)
    with pytest.raises(Busy):
        entered(stack, admission, "c").reserve(1)


def test_what_was_reserved_is_free_again_when_the_request_is_over(admission: Admission) -> None:
    for _ in range(3):
        with ExitStack() as stack:
            entered(stack, admission, "a").reserve(900)
        assert admission.free_bytes == 1_000


def test_work_of_one_key_is_done_piece_by_piece_and_that_of_another_beside_it(admission: Admission) -> None:
    at_once, most, lock = [0], [0], threading.Lock()
    goes_on, came = threading.Event(), threading.Event()

    def work() -> None:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        came.set()
        assert goes_on.wait(60)
        with lock:
            at_once[0] -= 1

    async def within() -> None:
        with ExitStack() as stack:
            one, two, other = (entered(stack, admission, name) for name in "aab")
            greedy = [asyncio.ensure_future(admitted.off_loop(work)) for admitted in (one, two, one, two)]
            await asyncio.to_thread(came.wait, 60)
            assert await asyncio.wait_for(other.off_loop(lambda: "done"), 60) == "done"
            goes_on.set()
            await asyncio.gather(*greedy)

    asyncio.run(within())
    assert most == [1]
