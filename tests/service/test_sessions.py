"""Sessions: what one costs whose caller leaves early, and what its caller's messages may name."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from host.errors import Forbidden, InputError
from host.service.dialects import Tokens, openai
from host.service.request import Routing
from host.service.sessions import MessageRules, SessionCount


def counted(*events: dict[str, Any]) -> SessionCount:
    count = SessionCount(openai)
    for event in events:
        count.event(json.dumps(event))
    return count


def delta(response: str = "", kind: str = "response.output_text.delta", **more: Any) -> dict[str, Any]:
    return {"type": kind, **({"response_id": response} if response else {}), "delta": "word ", **more}


def done(response: str, usage: Any, kind: str = "response.done") -> dict[str, Any]:
    return {"type": kind, "response": {"id": response, "usage": usage}}


USAGE = {"input_tokens": 5, "output_tokens": 7}


class TestBudgets:
    def test_leaving_before_the_count_is_not_free(self) -> None:
        created = {"type": "response.created", "response": {"id": "resp_1", "usage": None}}
        count = counted(created, *[delta("resp_1")] * 300)
        assert (count.tokens, count.uncounted) == (None, 301)
        assert count.spent >= 300

    @pytest.mark.parametrize("ident", ["resp_1", ""], ids=["realtime", "responses"])
    def test_an_answer_with_a_count_costs_that(self, ident: str) -> None:
        count = counted(*[delta(ident)] * 90, done("resp_1", USAGE))
        assert (count.tokens, count.uncounted, count.spent) == (Tokens(5, 7), 0, 12)

    def test_the_count_of_a_short_answer_hides_no_long_one_beside_it(self) -> None:
        count = counted(*[delta("resp_long")] * 200, delta("resp_short"), done("resp_short", USAGE))
        assert (count.tokens, count.uncounted) == (Tokens(5, 7), 200)

    @pytest.mark.parametrize("usage", [None, 7])
    def test_an_answer_without_a_count_costs_its_parts(self, usage: Any) -> None:
        assert counted(*[delta("resp_1")] * 9, done("resp_1", usage)).uncounted == 9

    def test_a_transcript_is_an_answer_of_its_own(self) -> None:
        kind = "conversation.item.input_audio_transcription."
        parts = [delta(kind=f"{kind}delta", item_id="item_1")] * 9
        assert counted(*parts).uncounted == 9
        assert counted(*parts, {"type": f"{kind}completed", "item_id": "item_1", "usage": USAGE}).uncounted == 0

    def test_what_is_counted_in_seconds_is_not_counted_twice(self) -> None:
        seconds = [delta(kind="session.output_audio.delta", elapsed_ms=2_000), delta(elapsed_ms=2_000)]
        assert counted(*seconds).uncounted == 0

    def test_an_upstream_with_any_number_of_answers_fills_no_memory(self) -> None:
        count = counted(*(delta(f"resp_{number}") for number in range(3_000)))
        assert (count.uncounted, len(count._parts)) == (3_000, 1_001)

    @pytest.mark.parametrize("text", ["", "[]", '{"type": 1, "x": ".delta"}', '{".delta": ', '\ud800.delta"'])
    def test_what_is_no_event_is_no_part(self, text: str) -> None:
        count = SessionCount(openai)
        count.event(text)
        assert count.uncounted == 0


def rules(aliases: dict[str, str], models: tuple[str, ...] = (), most: int = 1_000) -> MessageRules:
    from host.service.principal import Principal

    key: Any = SimpleNamespace(models=models, operations=(), type="secret", id="k", name="k", catalysts=())
    request = SimpleNamespace(principal=Principal(key, frozenset({"run"})))
    resolved: Any = SimpleNamespace(spec=SimpleNamespace(path="/realtime"), request=request, dialect=openai)
    return MessageRules(resolved, Routing(aliases=aliases), most)


class TestModels:
    ALIASES = {"gpt-4o": "gpt-4o-mini", "fast": "gpt-4o-mini", "quick": "gpt-4o-mini"}  # noqa: RUF012 - read only

    @pytest.mark.parametrize(
        "session",
        [
            pytest.param({"audio": {"input": {"transcription": {"model": "gpt-4o"}}}}, id="of the transcript"),
            pytest.param({"Model": "gpt-4o"}, id="in other letters"),
            pytest.param({"model": "fast", "fallback": "gpt-4o"}, id="beside one that is replaced"),
        ],
    )
    def test_an_alias_lets_no_model_of_its_name_through_where_it_is_not_replaced(self, session: Any) -> None:
        """A key for the model behind the alias is none for the model that the upstream knows by the same name."""
        with pytest.raises(Forbidden, match="gpt-4o"):
            rules(self.ALIASES, ("gpt-4o-mini",)).checked(json.dumps({"type": "session.update", "session": session}))

    @pytest.mark.parametrize("allowed", ["fast", "gpt-4o-mini"])
    def test_a_key_for_the_alias_or_its_model_may_use_it_where_it_is_replaced(self, allowed: str) -> None:
        event = {
            "type": "session.update",
            "model": "fast",
            "session": {"model": "quick"},
            "response": {"model": "fast"},
        }
        sent = json.loads(str(rules(self.ALIASES, (allowed,)).checked(json.dumps(event))))
        assert [sent["model"], sent["session"]["model"], sent["response"]["model"]] == ["gpt-4o-mini"] * 3

    @pytest.mark.parametrize("models", [(), ("fast",)])
    def test_a_message_of_too_many_values_is_not_read(self, models: tuple[str, ...]) -> None:
        text = json.dumps({"type": "x", "a": [0] * 2_000})
        if models:
            with pytest.raises(InputError):
                rules(self.ALIASES, models).checked(text)
        else:
            assert rules(self.ALIASES).checked(text) == text
