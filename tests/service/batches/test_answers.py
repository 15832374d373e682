"""When a line waits for a limit, when it fails, and when the batch stops."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Self

import pytest

from host.errors import (
    ArtifactError,
    Busy,
    Cancelled,
    CircuitOpen,
    Denied,
    Forbidden,
    HostError,
    InputError,
    LimitExceeded,
    Refusal,
    StateError,
)
from host.service.batches import answers
from host.service.batches.answers import STOPS, Asking, BatchAnswer, DispatchEngine
from host.service.batches.lines import BatchLine
from host.service.principal import OPERATOR

LINE = BatchLine(3, b'{"custom_id": "a", "operation": "models.list"}')


class Dispatching:
    """A dispatch, and a catalog, in which each run ends as scripted."""

    def __init__(self, *ends: HostError | Any) -> None:
        self.ends = list(ends)
        self.asked: list[Any] = []
        self._view = SimpleNamespace(components=[])

    async def current(self) -> Any:
        return self._view

    @asynccontextmanager
    async def admitted(self, principal: Any, *, spends: bool) -> Any:
        yield SimpleNamespace(principal=principal)

    def resolve(self, request: Any, view: Any) -> Any:
        self.asked.append(request)
        return SimpleNamespace(stream=False, spec=None, operation="models.list")

    async def start(self, resolved: Any, view: Any) -> Any:
        end = self.ends.pop(0)
        if isinstance(end, HostError):
            raise end
        return _Running(end)


class _Running:
    tokens = None

    def __init__(self, end: Any) -> None:
        self._end = end

    async def result(self) -> Any:
        return self._end

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def result(status: int = 200, **headers: str) -> Any:
    execution = SimpleNamespace(id="run_1")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return SimpleNamespace(
        status=status, ok=status < 300, data={"n": 1}, error={"message": "no"}, brief=None, document=None,
        headers=named, attachments={}, execution=execution,
    )  # fmt: skip


def answer(dispatching: Dispatching, patience_s: float = 60.0, stopping: bool = False) -> BatchAnswer | None:
    async def main() -> BatchAnswer | None:
        event = asyncio.Event()
        if stopping:
            event.set()
        asking = Asking(lambda _: OPERATOR, patience_s=patience_s)
        engine = DispatchEngine(dispatching, dispatching, asking)  # type: ignore[arg-type]  # as much as it needs of them
        return await engine.answer("b", LINE, event)

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_LEAST_WAIT_S", 0.001)


DENIED = Denied([Refusal(kind="rate_limited", subject="GET x", rule="10/1s", remedy="wait", grantable=False)])


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(LimitExceeded("spent", unit="requests", retry_after_s=0.01), id="a limit of the key"),
        pytest.param(CircuitOpen("open", retry_after_s=0.01), id="an open breaker"),
        pytest.param(Busy("no sandbox"), id="no sandbox"),
        pytest.param(DENIED, id="a rate of the policy"),
        pytest.param(result(429, retry_after_ms="1"), id="an upstream with too many requests"),
        pytest.param(result(503, retry_after="0"), id="an upstream that says when"),
    ],
)
def test_a_line_of_which_nothing_was_done_is_asked_again(error: Any) -> None:
    dispatching = Dispatching(error, error, result())
    found = answer(dispatching)
    assert found is not None
    assert not found.failed
    assert len(dispatching.asked) == 3
    assert {one.request_id for one in dispatching.asked} == {"batch_req_b_3"}
    assert {one.headers["idempotency-key"] for one in dispatching.asked} == {"batch_req_b_3"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(Forbidden("not this model"), "forbidden", id="what the key may not"),
        pytest.param(InputError("wrong"), "invalid_input", id="a wrong parameter"),
        pytest.param(Cancelled("by the operator"), "cancelled", id="a run that was cancelled"),
    ],
)
def test_a_line_that_fails_is_asked_once(error: HostError, code: str) -> None:
    dispatching = Dispatching(error)
    found = answer(dispatching)
    assert found is not None
    assert found.failed
    told = json.loads(found.text)
    assert (told["custom_id"], told["line"], told["error"]["code"]) == ("a", 3, code)


@pytest.mark.parametrize("status", [400, 500, 502])
def test_what_an_upstream_may_have_done_is_not_done_again(status: int) -> None:
    dispatching = Dispatching(result(status))
    found = answer(dispatching)
    assert found is not None
    assert found.failed
    assert len(dispatching.asked) == 1


def test_an_upstream_that_asks_for_no_repeat_gets_none() -> None:
    assert len(Dispatching(result(429, x_should_retry="false")).ends) == 1
    found = answer(Dispatching(result(429, x_should_retry="false")))
    assert found is not None
    assert found.failed


def test_an_upstream_that_refuses_again_and_again_has_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_MOST_REFUSALS", 3)
    dispatching = Dispatching(*[result(429, retry_after_ms="1")] * 9)
    found = answer(dispatching)
    assert found is not None
    assert found.failed
    assert len(dispatching.asked) == 4


@pytest.mark.parametrize("error", [StateError("no records"), ArtifactError("not approved")])
def test_what_is_no_lines_own_stops_the_batch(error: HostError) -> None:
    with pytest.raises(STOPS, match=error.message):
        answer(Dispatching(error))


def test_a_limit_that_takes_longer_than_the_batch_waits_stops_it_and_says_when() -> None:
    spent = LimitExceeded("the key has spent its 5/1d requests", unit="requests", retry_after_s=7_200.0)
    began = time.monotonic()
    with pytest.raises(Busy, match="has more in 7200 s"):
        answer(Dispatching(spent))
    assert time.monotonic() - began < 60


def test_a_line_that_waits_when_the_batch_stops_is_left_as_if_it_was_never_asked() -> None:
    spent = LimitExceeded("spent", unit="requests", retry_after_s=50.0)
    assert answer(Dispatching(spent), stopping=True) is None
