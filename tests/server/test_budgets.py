"""Attacks on budgets of tokens, through the whole server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from typing import Any

import httpx2
import openai
import pytest

from host.core.quantities import Quota
from host.errors import StateError
from host.fakes import FakeOpenAI
from host.fakes.openai.faults import Fault
from host.runtime.catalyst import Catalyst
from host.runtime.workspace import Workspace
from host.server import ServerSettings
from host.server.settings import Budget
from host.service.limits import limits_of_budget, limits_of_key
from host.service.limits.store import StoreLimiter
from tests.server.conftest import OPENAI, Server, held_up, until
from tests.server.test_fairness import Raw
from tests.service.limits.levels import levels

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
LONG: dict[str, Any] = {**CHAT, "messages": [{"role": "user", "content": "Say hello in 900 words"}]}
USAGE = {"input_tokens": 12, "output_tokens": 30, "total_tokens": 42}


class Spender:
    """The holder of a key with a budget of tokens."""

    def __init__(self, server: Server, workspace: Workspace, budget: str | None, **more: Any) -> None:
        quota = None if budget is None else Quota.parse(budget)
        self._workspace = workspace
        self.key, text = workspace.api_keys.create(name="spender", type="secret", token_budget=quota, **more)
        self.headers = {"authorization": f"Bearer {text}"}
        self.server = server
        self.sdk = openai.OpenAI(base_url=f"{server.url}/v1", api_key=text, max_retries=0)
        server.up_to_date()

    def spent(self) -> float:
        """Of the key's budget, what is held included."""
        limits = [one for one in limits_of_key(self.key) if one.unit == "tokens"]
        return levels(StoreLimiter(self._workspace.counters), limits)[0]

    def used(self) -> int:
        """The tokens in the statistics."""
        return sum(one.input_tokens + one.output_tokens for one in self._workspace.usage.totals(key=self.key.id))

    def post(self, path: str, **more: Any) -> httpx2.Response:
        return self.server.post(f"/v1{path}", headers=self.headers, **more)

    def get(self, path: str) -> httpx2.Response:
        return self.server.get(f"/v1{path}", headers=self.headers)


@pytest.fixture
def spender(server: Server, workspace: Workspace) -> Callable[..., Spender]:
    return lambda budget, **more: Spender(server, workspace, budget, **more)


def answered(fake: FakeOpenAI, path: str, *bodies: Any, method: str | None = None) -> None:
    """The next answers of the upstream at this path."""
    fake.script([Fault(method=method, path=f"/v1{path}", status=200, body=body) for body in bodies])


def response(status: str = "completed", usage: Any = None, ident: str = "resp_1", **more: Any) -> dict[str, Any]:
    return {"id": ident, "object": "response", "status": status, "output": [], "usage": usage, **more}


class TestReserved:
    def test_many_at_once_do_not_pass_a_budget_that_is_nearly_spent(
        self, spender: Any, fake: FakeOpenAI, workspace: Workspace
    ) -> None:
        one = spender("1k/1d")
        StoreLimiter(workspace.counters).spend(limits_of_key(one.key), 950)
        before = len(fake.requests)
        with ThreadPoolExecutor(12) as threads, held_up(fake):
            asked = as_completed([threads.submit(one.post, "/chat/completions", json=CHAT) for _ in range(12)])
            assert [next(asked).result().status_code for _ in range(11)] == [429] * 11
        assert next(asked).result().status_code == 200
        assert len(fake.requests) - before == 1

    def test_a_bound_that_does_not_fit_is_told_with_its_budget(self, spender: Any, fake: FakeOpenAI) -> None:
        one = spender("100/1d")
        with pytest.raises(openai.RateLimitError, match="the key 'spender'") as raised:
            one.sdk.chat.completions.create(**CHAT, max_tokens=101)
        assert "100/1d" in str(raised.value)
        assert int(raised.value.response.headers["retry-after"]) >= 1
        assert not fake.requests
        assert one.spent() == 0
        one.sdk.chat.completions.create(**CHAT, max_tokens=50)

    def test_many_answers_of_one_request_are_bounded_together(self, spender: Any, fake: FakeOpenAI) -> None:
        one = spender("1k/1d")
        for more in ({"n": 11}, {"extra_body": {"n": 11.0}}):
            with pytest.raises(openai.RateLimitError):
                one.sdk.chat.completions.create(**CHAT, max_tokens=100, **more)
        assert not fake.requests

    def test_a_long_prompt_does_not_fit_either(self, spender: Any, fake: FakeOpenAI) -> None:
        one = spender("1k/1d")
        with pytest.raises(openai.RateLimitError):
            one.sdk.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "word " * 2000}], max_tokens=1
            )
        assert not fake.requests

    def test_what_is_left_over_is_given_back_by_the_answer(self, spender: Any) -> None:
        one = spender("10k/1d")
        usage = one.sdk.chat.completions.create(**CHAT, max_tokens=5000).usage
        assert one.spent() == usage.total_tokens
        for _ in one.sdk.chat.completions.create(**CHAT, max_tokens=5000, stream=True):
            pass
        until(lambda: one.spent() == 2 * usage.total_tokens)

    def test_what_the_answer_cost_beyond_is_added(self, spender: Any, fake: FakeOpenAI) -> None:
        one = spender("10k/1d")
        answered(fake, "/chat/completions", {"object": "chat.completion", "usage": {"total_tokens": 9_000}})
        one.post("/chat/completions", json={**CHAT, "max_tokens": 5})
        assert one.spent() == 9_000

    def test_an_answer_in_one_piece_to_the_request_for_a_stream_counts(self, spender: Any, fake: FakeOpenAI) -> None:
        one = spender("10k/1d")
        answered(fake, "/chat/completions", {"object": "chat.completion", "usage": {"total_tokens": 900}})
        assert one.post("/chat/completions", json={**CHAT, "stream": True}).json()["object"] == "chat.completion"
        assert one.spent() == 900

    @pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
    def test_what_the_upstream_refused_is_given_back(self, spender: Any, fake: FakeOpenAI, status: int) -> None:
        one = spender("10k/1d")
        fake.fail_next(status, times=5)
        one.post("/chat/completions", json={**CHAT, "max_tokens": 5000})
        assert one.spent() == 0

    def test_a_mistake_in_the_request_holds_nothing(self, spender: Any) -> None:
        one = spender("10k/1d")
        assert one.post("/chat/completions", json={**CHAT, "temperature": "hot", "max_tokens": 5000}).status_code == 400
        assert one.spent() == 0

    def test_a_run_that_never_began_is_given_back(self, spender: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        one = spender("10k/1d")

        def full(*_: Any, **__: Any) -> None:
            raise StateError("there is no room")

        monkeypatch.setattr(Catalyst, "astream", full)
        assert one.post("/chat/completions", json={**CHAT, "max_tokens": 5000}).status_code == 503
        assert one.spent() == 0

    def test_a_client_that_leaves_before_its_answer_has_paid_all_that_it_held(
        self, spender: Any, fake: FakeOpenAI
    ) -> None:
        """Else asking and leaving is free: the upstream does its work."""
        one = spender("10k/1d")
        fake.script([Fault(path="/v1/chat/completions", delay_s=30.0)])
        body = json.dumps({**CHAT, "max_tokens": 4000}).encode()
        with closing(Raw(one.server, "/v1/chat/completions", one.sdk.api_key, body)):
            until(lambda: bool(fake.requests))
        until(lambda: not one.server.application.dispatch.running)
        assert 4000 < one.spent() < 4100

    def test_a_stream_that_is_left_after_its_first_event_has_too(self, spender: Any, fake: FakeOpenAI) -> None:
        one = spender("10k/1d")
        fake.script([Fault(path="/v1/chat/completions", event_delay_s=0.3)])
        with one.sdk.chat.completions.create(**LONG, max_tokens=4000, stream=True) as stream:
            next(iter(stream))
        until(lambda: not one.server.application.dispatch.running)
        assert 4000 < one.spent() < 4100

    def test_an_upstream_that_breaks_off_gives_nothing_back(self, spender: Any, fake: FakeOpenAI) -> None:
        one = spender("10k/1d")
        fake.script([Fault(path="/v1/chat/completions", cut_after_events=1)])
        one.post("/chat/completions", json={**CHAT, "max_tokens": 4000, "stream": True})
        assert one.spent() > 4000

    def test_all_keys_together_do_not_pass_the_budget_of_a_catalyst(
        self, serving: Callable[..., Server], workspace: Workspace, fake: FakeOpenAI
    ) -> None:
        server = serving(ServerSettings(budgets={OPENAI: Budget(tokens=Quota.parse("5k/1d"))}))
        holders = []
        for number in range(4):
            _, text = workspace.api_keys.create(name=f"key {number}", type="secret")
            holders.append({"authorization": f"Bearer {text}"})
        server.up_to_date()
        together = threading.Barrier(4)

        def ask(headers: dict[str, str]) -> int:
            together.wait()
            return server.post("/v1/chat/completions", json={**CHAT, "max_tokens": 2000}, headers=headers).status_code

        with ThreadPoolExecutor(4) as threads, held_up(fake):
            asked = as_completed([threads.submit(ask, headers) for headers in holders])
            assert [next(asked).result() for _ in range(2)] == [429, 429]
        assert [one.result() for one in asked] == [200, 200]
        limits = limits_of_budget({OPENAI: Budget(tokens=Quota.parse("5k/1d"))}, OPENAI)
        assert levels(StoreLimiter(workspace.counters), limits)[0] < 100

    def test_a_spent_key_still_reads_what_costs_nothing(self, spender: Any, workspace: Workspace) -> None:
        one = spender("100/1d")
        StoreLimiter(workspace.counters).spend(limits_of_key(one.key), 100)
        assert one.get("/models").status_code == 200
        assert one.get("/files").status_code == 200
        assert one.post("/chat/completions", json=CHAT).status_code == 429


class TestLater:
    def test_an_answer_in_the_background_is_held_when_it_is_ordered_and_counted_once(
        self, spender: Any, fake: FakeOpenAI
    ) -> None:
        one = spender("100k/1d")
        queued = response("queued", background=True)
        answered(fake, "/responses", queued, method="POST")
        running, done = {**queued, "status": "in_progress"}, {**queued, "status": "completed", "usage": USAGE}
        answered(fake, "/responses/resp_1", running, running, done, done, done, method="GET")
        made = one.sdk.responses.create(model="gpt-4o-mini", input="Hi", background=True, max_output_tokens=7000)
        assert made.status == "queued"
        assert 7000 < one.spent() < 7100
        for _ in range(2):
            assert one.sdk.responses.retrieve("resp_1").status == "in_progress"
            assert one.spent() > 7000
        for _ in range(3):
            assert one.sdk.responses.retrieve("resp_1").usage is not None
            assert one.spent() == 42
        until(lambda: one.used() == 42)

    def test_many_in_the_background_do_not_pass_the_budget(self, spender: Any, fake: FakeOpenAI) -> None:
        one = spender("10k/1d")
        fake.script([Fault(path="/v1/responses", status=200, times=None, body=response("queued", background=True))])
        asked = {"model": "gpt-4o-mini", "input": "Hi", "background": True, "max_output_tokens": 3000}
        assert [one.post("/responses", json=asked).status_code for _ in range(5)] == [200] * 3 + [429] * 2
        assert one.get("/responses/resp_1").status_code != 429, "what was ordered can be read"

    def test_a_stream_in_the_background_that_is_left_is_settled_when_it_is_read(
        self, spender: Any, fake: FakeOpenAI
    ) -> None:
        one = spender("100k/1d")
        queued = response("queued", background=True)
        fake.script([Fault(method="POST", path="/v1/responses", event_delay_s=0.2)])
        asked = {
            "model": "gpt-4o-mini",
            "input": "Say hello in 900 words",
            "background": True,
            "stream": True,
            "max_output_tokens": 7000,
        }
        ident = ""
        with one.sdk.responses.create(**asked) as stream:
            for event in stream:
                ident = event.response.id
                break
        until(lambda: one.used() > 0)  # which is counted once the run is settled
        assert one.spent() > 7000
        answered(
            fake, f"/responses/{ident}", {**queued, "id": ident, "status": "completed", "usage": USAGE}, method="GET"
        )
        one.sdk.responses.retrieve(ident)
        assert one.spent() == 42

    @pytest.mark.parametrize(
        "end",
        [
            pytest.param({"status": "cancelled", "usage": None}, id="that is cancelled at its end"),
            pytest.param({"status": "failed"}, id="that failed"),
            pytest.param({"status": "completed", "usage": {"total_tokens": 0}}, id="that says it cost nothing"),
            pytest.param({"status": "in_progress", "usage": USAGE}, id="that has only begun to count"),
            pytest.param({"status": "completed", "usage": USAGE, "id": "resp_2"}, id="that is another"),
        ],
    )
    def test_an_answer_gives_nothing_back(self, spender: Any, fake: FakeOpenAI, end: Any) -> None:
        """Else one orders, lets the upstream work, and cancels."""
        one = spender("100k/1d")
        queued = response("queued", background=True)
        answered(fake, "/responses", queued, method="POST")
        answered(fake, "/responses/resp_1", {**queued, **end}, {**queued, **end}, method="GET")
        one.sdk.responses.create(model="gpt-4o-mini", input="Hi", background=True, max_output_tokens=7000)
        for _ in range(2):
            one.sdk.responses.retrieve("resp_1")
            assert one.spent() > 7000

    def test_an_answer_is_known_after_a_restart(
        self, spender: Any, fake: FakeOpenAI, serving: Callable[..., Server]
    ) -> None:
        one = spender("100k/1d")
        made = one.sdk.responses.create(model="gpt-4o-mini", input="Hi")
        assert one.spent() == made.usage.total_tokens
        one.server.stop()
        another = serving()
        until(lambda: another.get("/v1/nothing", headers=one.headers).status_code == 404)
        for _ in range(2):
            assert another.get(f"/v1/responses/{made.id}", headers=one.headers).status_code == 200
        assert one.spent() == made.usage.total_tokens

    def test_an_answer_that_is_read_twice_costs_once_also_without_a_budget(
        self, spender: Any, fake: FakeOpenAI
    ) -> None:
        one = spender(None)
        made = one.sdk.responses.create(model="gpt-4o-mini", input="Hi")
        for _ in range(3):
            one.sdk.responses.retrieve(made.id)
        queued = response("queued", background=True)
        answered(fake, "/responses", queued, method="POST")
        answered(fake, "/responses/resp_1", *([{**queued, "status": "completed", "usage": USAGE}] * 3), method="GET")
        one.sdk.responses.create(model="gpt-4o-mini", input="Hi", background=True)
        for _ in range(3):
            one.sdk.responses.retrieve("resp_1")
        until(lambda: one.used() == made.usage.total_tokens + 42)
        one.server.stop()
        assert one.used() == made.usage.total_tokens + 42

    def test_an_answer_of_elsewhere_costs_its_first_reader_once(self, spender: Any, fake: FakeOpenAI) -> None:
        one = spender("100k/1d")
        fake.script(
            [Fault(path="/v1/responses/resp_9", status=200, times=3, body=response(usage=USAGE, ident="resp_9"))]
        )
        for _ in range(3):
            one.sdk.responses.retrieve("resp_9")
        assert one.spent() == 42


class TestEveryOperationCosts:
    def test_pictures_by_their_number_where_the_answer_does_not_count(self, spender: Any, fake: FakeOpenAI) -> None:
        one = spender("10k/1d")
        answered(fake, "/images/generations", {"created": 1, "data": []})
        one.sdk.images.generate(model="dall-e-3", prompt="a cat", n=3)
        assert 3 * 1000 < one.spent() < 3 * 2000
        with pytest.raises(openai.RateLimitError):
            one.sdk.images.generate(model="dall-e-3", prompt="a cat", n=10)

    def test_pictures_by_the_answer_where_it_counts(self, spender: Any) -> None:
        one = spender("100k/1d")
        usage = one.sdk.images.generate(model="gpt-image-1", prompt="a cat").usage
        assert one.spent() == usage.total_tokens

    def test_speech_by_its_characters(self, spender: Any) -> None:
        one = spender("1k/1d")
        said = {"model": "tts-1", "voice": "alloy"}
        one.sdk.audio.speech.create(**said, input="a" * 400)
        assert one.spent() >= 400
        with pytest.raises(openai.RateLimitError):
            one.sdk.audio.speech.create(**said, input="a" * 900)

    @pytest.mark.parametrize("form", ["json", "text", "srt", "verbose_json"])
    def test_a_transcript_in_every_form(self, spender: Any, form: Any) -> None:
        one = spender("100k/1d")
        one.sdk.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"\0" * 8000), response_format=form)
        assert one.spent() > 0

    def test_embeddings_and_moderations(self, spender: Any) -> None:
        one = spender("100k/1d")
        one.sdk.embeddings.create(model="text-embedding-3-small", input="Hello there")
        before = one.spent()
        assert before > 0
        one.sdk.moderations.create(input="Hello there, you")
        assert one.spent() > before

    def test_a_chat_whose_upstream_counts_nothing(self, spender: Any, fake: FakeOpenAI) -> None:
        one = spender("100k/1d")
        for usage in ({}, {"usage": None}, {"usage": {}}, {"usage": {"prompt_tokens": -7, "total_tokens": "many"}}):
            before = one.spent()
            answered(fake, "/chat/completions", {"object": "chat.completion", "text": "x" * 400, **usage})
            one.post("/chat/completions", json=CHAT)
            assert one.spent() >= before + 100

    @pytest.mark.parametrize(
        ("given", "counted"),
        [
            pytest.param(300.0, 300, id="with a fraction"),
            pytest.param("300", 300, id="as text"),
            pytest.param(2**63, 10**9, id="that no database holds"),
            pytest.param(1e308, 10**9, id="that is larger still"),
        ],
    )
    def test_a_count_in_another_form(self, spender: Any, fake: FakeOpenAI, given: Any, counted: int) -> None:
        one = spender("1M/1d")
        answered(fake, "/chat/completions", {"object": "chat.completion", "usage": {"total_tokens": given}})
        assert one.post("/chat/completions", json=CHAT).status_code == 200
        assert one.spent() == counted
