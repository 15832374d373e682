"""Accounts: what a caller waits for where the place that counts is stuck."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from host.core.names import Reference
from host.core.quantities import Quota
from host.core.sliding_window import Held
from host.service.accounts import Accounts
from host.service.dialects.dialect import StoredAnswer, Tokens
from host.service.limits import Limit, Limiter, Reservation
from tests.conftest import late

HELD = Reservation(tuple(Held(Limit(name, Quota(1_000, 60.0), "tokens", name), 1, 10) for name in ("key", "catalyst")))


class Stuck:
    """A limiter that answers at the end of the test."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def settle(self, *_: Any, **__: Any) -> int:
        self.over.wait()
        return 0


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    limiter = Stuck()
    yield limiter
    limiter.over.set()


@pytest.mark.parametrize("answer", [None, StoredAnswer("resp_1", later=True, done=False)], ids=["plain", "kept"])
def test_an_answer_waits_for_its_count_once_however_many_limits_do_not_answer(
    stuck: Stuck, answer: StoredAnswer | None
) -> None:
    accounts = Accounts(cast("Limiter", stuck), print)
    catalyst = Reference.parse("c:local.openai")
    tokens = Tokens(100, 100)
    began = time.monotonic()
    settling = accounts.settle(HELD, tokens, counted=False, answer=answer, key="key", catalyst=catalyst)
    assert asyncio.run(settling) == tokens
    assert time.monotonic() - began < late(3.0)
