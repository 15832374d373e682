"""When a line waits for a limit, when it fails, and when the batch stops."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import threading
import time
from contextlib import asynccontextmanager, closing
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
from host.service.batches.lines import BatchLine, read_request
from host.service.principal import OPERATOR, Admission

LINE = BatchLine(3, b'{"custom_id": "a", "operation": "models.list"}')


class Dispatching:
    """A dispatch, and a catalog, in which each run ends as scripted."""

    def __init__(self, *ends: HostError | Any) -> None:
        self.ends = list(ends)
        self.asked: list[Any] = []
        self.refusals: list[tuple[HostError, dict[str, Any]]] = []
        self._view = SimpleNamespace(components=[])

    async def current(self) -> Any:
        return self._view

    @asynccontextmanager
    async def admitted(self, principal: Any, *, spends: bool) -> Any:
        with closing(Admission()) as admission:
            admitted = admission.enter(principal)
            yield admitted
            admission.leave(admitted)

    async def refused(self, error: HostError, principal: Any, **known: Any) -> HostError:
        self.refusals.append((error, known))
        return error

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
    execution = SimpleNamespace(id="run_1", meters=SimpleNamespace(http_requests=1))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return SimpleNamespace(
        status=status, ok=status < 300, data={"n": 1}, error={"message": "no"}, brief=None, document=None,
        headers=named, attachments={}, execution=execution,
    )  # fmt: skip


def answer(
    dispatching: Dispatching,
    patience_s: float = 60.0,
    stopping: bool = False,
    *,
    longest_s: float = math.inf,
    line: BatchLine = LINE,
) -> BatchAnswer | None:
    async def main() -> BatchAnswer | None:
        event = asyncio.Event()
        if stopping:
            event.set()
        asking = Asking(lambda _: OPERATOR, patience_s=patience_s, longest_s=longest_s)
        engine = DispatchEngine(dispatching, dispatching, asking)  # type: ignore[arg-type]  # as much as it needs of them
        return await engine.answer("b", line, event)

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


def test_a_refused_line_is_on_record() -> None:
    """Else a key could try 50,000 models unseen."""
    dispatching = Dispatching(Forbidden("not this model"))
    answer(dispatching)
    [(error, known)] = dispatching.refusals
    assert error.message == "not this model"
    assert known["request_id"] == "batch_req_b_3"


@pytest.mark.parametrize("status", [400, 500, 502])
def test_what_an_upstream_may_have_done_is_not_done_again(status: int) -> None:
    dispatching = Dispatching(*[result(status)] * 3)
    found = answer(dispatching)
    assert found is not None
    assert found.failed
    assert len(dispatching.asked) == 1


def test_an_upstream_that_asks_for_no_repeat_gets_none() -> None:
    dispatching = Dispatching(*[result(429, x_should_retry="false")] * 3)
    found = answer(dispatching)
    assert found is not None
    assert found.failed
    assert len(dispatching.asked) == 1


@pytest.mark.parametrize("error", [DENIED, CircuitOpen("open", retry_after_s=0.01)], ids=["a rate", "a breaker"])
def test_an_operation_of_several_requests_that_is_refused_in_its_midst_is_not_done_again(error: HostError) -> None:
    """Its first request may have made, and cost, something."""
    refused = copy.copy(error)
    refused.execution = SimpleNamespace(id="run_1", meters=SimpleNamespace(http_requests=3))  # type: ignore[assignment]
    dispatching = Dispatching(*[refused] * 4)
    found = answer(dispatching)
    assert found is not None
    assert found.failed
    assert len(dispatching.asked) == 1


def test_an_operation_whose_second_request_has_an_upstream_with_too_many_requests_is_not_done_again() -> None:
    limited = result(429, retry_after_ms="1")
    limited.execution.meters.http_requests = 2
    dispatching = Dispatching(*[limited] * 4)
    found = answer(dispatching)
    assert found is not None
    assert found.failed
    assert len(dispatching.asked) == 1


def test_waits_for_limits_of_the_host_do_not_count_as_refusals_of_the_upstream() -> None:
    spent = LimitExceeded("spent", unit="requests", retry_after_s=0.0)
    dispatching = Dispatching(*[spent] * 10, result(429, retry_after_ms="1"), result())
    found = answer(dispatching)
    assert found is not None
    assert not found.failed


def test_a_line_that_has_waited_for_a_thousand_times_goes_on_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_MOST_WAIT_S", 0.0)
    found = answer(Dispatching(*[Busy("no sandbox")] * 1_100, result()))
    assert found is not None
    assert not found.failed


def test_a_line_that_has_waited_for_long_in_short_waits_does_not_stop_the_batch() -> None:
    spent = LimitExceeded("spent", unit="requests", retry_after_s=0.05)
    found = answer(Dispatching(*[spent] * 10, result()), longest_s=0.06)
    assert found is not None
    assert not found.failed


def test_a_limit_that_has_more_in_days_stops_the_batch_at_once() -> None:
    """It makes room for others, and goes on later."""
    dispatching = Dispatching(LimitExceeded("spent", unit="requests", retry_after_s=7_200.0))
    with pytest.raises(Busy, match="has more in 7200 s"):
        answer(dispatching, patience_s=86_400.0, longest_s=60.0)


class TestLargeLines:
    LARGE = json.dumps({"custom_id": "a", "operation": "models.list", "more": [[]] * 200_000}).encode()

    def test_it_is_read_once_its_memory_is_reserved_and_beside_the_event_loop(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[tuple[int, str]] = []

        class Watched(Dispatching):
            held: Any = None

            @asynccontextmanager
            async def admitted(self, principal: Any, *, spends: bool) -> Any:
                async with super().admitted(principal, spends=spends) as self.held:
                    yield self.held

        def reading(line: BatchLine) -> Any:
            seen.append((dispatching.held.bytes, threading.current_thread().name))
            return read_request(line)

        dispatching = Watched(result())
        monkeypatch.setattr(answers, "read_request", reading)
        answer(dispatching, line=BatchLine(3, self.LARGE))
        [(reserved, thread)] = seen
        assert reserved > 200_000 * 100
        assert thread != threading.main_thread().name

    def test_one_of_too_many_values_is_refused_as_a_server_does(self) -> None:
        line = BatchLine(3, b'{"operation":"models.list","more":[' + b"[]," * 600_000 + b"[]]}")
        found = answer(Dispatching(), line=line)
        assert found is not None
        assert "more than 500000 values" in json.loads(found.text)["error"]["message"]


def test_embeddings_of_millions_of_numbers_are_handed_on() -> None:
    found = result()
    found.document = b'{"object":"list","data":[' + b"0.12," * 5_100_000 + b"1]}"
    found.brief = {}
    answered = answer(Dispatching(found))
    assert answered is not None
    assert b'"data":{"object":"list","data":[0.12,' in answered.text


def test_infinity_among_the_numbers_of_an_answer_is_no_json() -> None:
    found = result()
    found.document = b"[" + b"0.12," * 300_000 + b"Infinity]"
    found.brief = {}
    answered = answer(Dispatching(found))
    assert answered is not None
    assert b'"data":{"raw":' in answered.text


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
