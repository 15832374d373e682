"""What a request may cost, and what an answer did: the units, and attacks on them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from host.component.operations import OperationSpec
from host.core.operation import Attachment
from host.service.dialects import Tokens, openai
from host.service.dialects.dialect import MOST_TOKENS, Estimate, count_of


def spec(path: str, method: Any = "POST") -> OperationSpec:
    return OperationSpec("some", method=method, path=path, request="json")


def estimated(path: str, params: Any = None, sound: int = 0) -> Estimate:
    attachments = {"file0": Attachment(b"\0" * sound, "a.mp3", "audio/mpeg")} if sound else {}
    return openai.estimate(spec(path), params or {}, attachments)


SAY = {"model": "m", "messages": [{"role": "user", "content": "x" * 4000}]}


class TestBeforeTheRun:
    def test_text_is_a_token_for_four_bytes_of_it(self) -> None:
        cost = estimated("/chat/completions", SAY)
        assert 1000 <= cost.input <= 1020
        wide = {"messages": [{"role": "user", "content": "語" * 4000}]}
        assert estimated("/chat/completions", wide).input >= 3000

    @pytest.mark.parametrize(
        ("path", "params", "output"),
        [
            pytest.param("/chat/completions", {"max_tokens": 100}, 100, id="an old bound"),
            pytest.param("/chat/completions", {"max_completion_tokens": 100}, 100, id="a new one"),
            pytest.param("/chat/completions", {"max_tokens": 1, "max_completion_tokens": 900}, 900, id="the larger of two"),
            pytest.param("/chat/completions", {"max_tokens": 100, "n": 8}, 800, id="of several answers"),
            pytest.param("/chat/completions", {"max_tokens": 100, "n": 8.0}, 800, id="of so many, with a fraction"),
            pytest.param("/chat/completions", {"max_tokens": "100", "n": "8"}, 800, id="as texts"),
            pytest.param("/completions", {"max_tokens": 10, "n": 2, "best_of": 20}, 200, id="of the best of many"),
            pytest.param("/completions", {"max_tokens": 10, "prompt": ["a"] * 50}, 500, id="of many prompts"),
            pytest.param("/completions", {"max_tokens": 10, "prompt": [[1], [2]]}, 20, id="of prompts that are numbers"),
            pytest.param("/responses", {"max_output_tokens": 70}, 70, id="of a response"),
            pytest.param("/chat/completions", {"max_tokens": 10**30}, MOST_TOKENS, id="one that no number holds"),
            pytest.param("/chat/completions", {"max_tokens": 10**8, "n": 10**8}, MOST_TOKENS, id="a product that none holds"),
        ],
    )  # fmt: skip
    def test_a_bound_is_what_is_held(self, path: str, params: Any, output: int) -> None:
        cost = estimated(path, params)
        assert (cost.output, cost.likely) == (output, 0)

    @pytest.mark.parametrize(
        ("path", "params"),
        [
            pytest.param("/chat/completions", {}, id="none"),
            pytest.param("/chat/completions", {"max_tokens": None}, id="nothing"),
            pytest.param("/chat/completions", {"max_tokens": 0}, id="of nothing"),
            pytest.param("/chat/completions", {"max_tokens": -5}, id="below that"),
            pytest.param("/chat/completions", {"max_tokens": True}, id="that is true"),
            pytest.param("/chat/completions", {"max_tokens": [1]}, id="in a list"),
            pytest.param("/chat/completions", {"max_output_tokens": 1}, id="of another operation, which lenient servers pass over"),
            pytest.param("/chat/completions", {"Max_Tokens": 1}, id="in another case"),
            pytest.param("/chat/completions", {"metadata": {"max_tokens": 1}}, id="elsewhere"),
            pytest.param("/responses", {"max_tokens": 1}, id="of a chat, for a response"),
            pytest.param("/unheard/of", {"max_tokens": 1}, id="of an operation that nobody knows"),
        ],
    )  # fmt: skip
    def test_what_is_no_bound_bounds_nothing(self, path: str, params: Any) -> None:
        cost = estimated(path, params)
        assert cost.output == 0
        assert cost.likely >= 4096

    def test_answers_without_a_bound_are_likely_to_be_several_times_as_long(self) -> None:
        assert estimated("/chat/completions", {"n": 3}).likely == 3 * estimated("/chat/completions").likely

    def test_a_conversation_and_tools_bring_content_that_the_request_does_not_show(self) -> None:
        plain = estimated("/responses").likely
        for more in ({"previous_response_id": "r"}, {"conversation": "c"}, {"tools": [{"type": "web_search"}]}):
            assert estimated("/responses", more).likely > plain
        assert estimated("/responses", {"tools": [{"type": "function", "name": "f"}]}).likely == plain

    def test_a_picture_is_a_flat_figure_however_large_its_data(self) -> None:
        def seen(url: str) -> int:
            part = {"type": "image_url", "image_url": {"url": url}}
            return estimated("/chat/completions", {"messages": [{"role": "user", "content": [part]}]}).input

        assert seen("https://a.test/cat.png") == seen("data:image/png;base64," + "A" * 4_000_000)
        assert 1000 < seen("https://a.test/cat.png") < 1300

    def test_a_file_is_a_flat_figure(self) -> None:
        asked = {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]}
        assert 2000 < estimated("/responses", asked).input < 2100

    @pytest.mark.parametrize(
        ("path", "params", "least"),
        [
            pytest.param("/images/generations", {"prompt": "a cat"}, 1000, id="a picture"),
            pytest.param("/images/generations", {"prompt": "a cat", "n": 10}, 10_000, id="ten of them"),
            pytest.param("/images/generations", {"prompt": "a cat", "quality": "high"}, 6000, id="a good one"),
            pytest.param("/images/generations", {"prompt": "a cat", "quality": ["high"]}, 1000, id="of a quality that is none"),
            pytest.param("/images/edits", {"prompt": "a cat", "n": "4"}, 4000, id="of a form"),
            pytest.param("/audio/speech", {"input": "a" * 500}, 500, id="speech, by its characters"),
            pytest.param("/audio/speech", {"input": ["a"]}, 1, id="speech of no text"),
            pytest.param("/embeddings", {"input": "a" * 400}, 100, id="embeddings"),
            pytest.param("/embeddings", {"input": [1] * 400}, 400, id="embeddings of numbers"),
            pytest.param("/moderations", {"input": "a" * 400}, 100, id="a moderation"),
            pytest.param("/videos", {"prompt": "a", "seconds": "12"}, 12_000, id="a video"),
            pytest.param("/realtime/client_secrets", {}, 10_000, id="a way past this host"),
            pytest.param("/live/sessions", {}, 10_000, id="another"),
            pytest.param("/realtime/calls/{call_id}/accept", {}, 10_000, id="a call that begins"),
        ],
    )  # fmt: skip
    def test_everything_that_is_paid_for_costs_something(self, path: str, params: Any, least: int) -> None:
        cost = estimated(path, params)
        assert cost.needed >= least
        assert cost.uncounted(0).total >= least, "also if the answer does not count"

    def test_sound_costs_by_its_size(self) -> None:
        assert estimated("/audio/transcriptions", {"model": "m"}, sound=400_000).needed >= 1000

    @pytest.mark.parametrize("path", ["/batches", "/fine_tuning/jobs", "/evals/{eval_id}/runs", "/threads/{t}/runs"])
    def test_work_of_an_unknown_size_holds_much(self, path: str) -> None:
        assert estimated(path).likely >= 50_000

    @pytest.mark.parametrize(
        "operation",
        [
            *(spec(path, "GET") for path in ("/models", "/responses/{response_id}", "/unheard/of")),
            spec("/files/{file_id}", "DELETE"),
            *map(spec, ("/files", "/uploads", "/conversations", "/responses/{response_id}/cancel", "/vector_stores")),
        ],
        ids=lambda one: f"{one.method} {one.path}",
    )
    def test_what_is_not_paid_for_costs_nothing(self, operation: OperationSpec) -> None:
        cost = openai.estimate(operation, {"file": "x" * 9999}, {})
        assert (cost.needed, cost.likely, cost.uncounted(1_000_000).total) == (0, 0, 0)

    def test_an_operation_that_nobody_knows_costs_at_least_its_content(self) -> None:
        cost = openai.estimate(None, {"text": "x" * 4000}, {})
        assert 1000 <= cost.uncounted(1_000_000).total < 1100

    def test_deep_and_wide_parameters_are_no_trouble(self) -> None:
        deep: Any = "x"
        for _ in range(190):
            deep = [deep, {"a": deep}] if _ < 12 else [deep]
        assert estimated("/chat/completions", {"messages": deep}).input > 0


class TestACount:
    @pytest.mark.parametrize(
        ("given", "count"),
        [
            (300, 300), (300.0, 300), (300.2, 301), ("300", 300), ("300.0", 300), (2**63, MOST_TOKENS), (1e300, MOST_TOKENS),
            ("1e300", MOST_TOKENS), (float("inf"), MOST_TOKENS), ("inf", MOST_TOKENS), ("9" * 5000, 0), (-1, 0), (-0.5, 0),
            ("-5", 0), (float("nan"), 0), ("nan", 0), (True, 0), (None, 0), ([300], 0), ({}, 0), ("", 0), ("many", 0),
        ],
    )  # fmt: skip
    def test_is_a_number_above_zero_that_a_database_holds(self, given: Any, count: int) -> None:
        assert count_of(given) == count

    @pytest.mark.parametrize(
        ("document", "tokens"),
        [
            pytest.param({"usage": {"prompt_tokens": "30", "completion_tokens": 300.0}}, Tokens(30, 300), id="texts and fractions"),
            pytest.param({"usage": {"input_tokens": -50, "output_tokens": 10}}, Tokens(0, 10), id="less than nothing is not taken off"),
            pytest.param({"usage": {"type": "duration", "seconds": 30.4}}, Tokens(310, 0), id="seconds of sound"),
            pytest.param({"text": "hello", "duration": 30.0}, Tokens(300, 0), id="a transcript that tells its length"),
            pytest.param({"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 9}}, Tokens(5, 4), id="Gemini's"),
            pytest.param({"usage": {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 100}}, Tokens(103, 4), id="Anthropic's, with a cache"),
            pytest.param({"type": "message_start", "message": {"usage": {"input_tokens": 3}}}, Tokens(3, 0), id="of Anthropic's first event"),
            pytest.param({"object": "fine_tuning.job", "trained_tokens": 5000}, Tokens(5000, 0), id="a tuning's"),
            pytest.param({"object": "eval.run", "per_model_usage": [{"prompt_tokens": 3, "completion_tokens": 4}, {"total_tokens": 5}, 3]}, Tokens(8, 4), id="an evaluation's"),
            pytest.param({"usage": {"prompt_tokens": 2**63, "completion_tokens": 2**63}}, Tokens(MOST_TOKENS, MOST_TOKENS), id="more than a database holds"),
        ],
    )  # fmt: skip
    def test_is_read_in_every_form(self, document: Any, tokens: Tokens) -> None:
        assert openai.tokens_of_document(document) == tokens

    def test_is_not_hidden_by_words_of_the_request_that_an_answer_repeats(self) -> None:
        """A response repeats its schemas and tools. One with a default of `{"usage":null}` hid the true count."""
        schema = {"properties": {"a": {"default": {"usage": None}}}}
        event = {"type": "response.completed", "response": {"text": {"format": {"schema": schema}}, "usage": {"input_tokens": 3, "output_tokens": 4}}}  # fmt: skip
        assert openai.tokens_of_event(json.dumps(event, separators=(",", ":"))) == Tokens(3, 4)

    def test_in_parts_is_the_larger_of_each(self) -> None:
        assert Tokens(30, 1).merged(Tokens(0, 25)) == Tokens(30, 25)


RESPONSE = {"id": "r", "object": "response"}
BATCH = {"id": "b", "object": "batch"}
RUN = {"id": "t", "object": "thread.run"}


def kept(path: str, method: str, params: Any, document: Any) -> Any:
    in_path = tuple(part[1:-1] for part in path.split("/") if part.startswith("{"))
    one = OperationSpec("some", method=method, path=path, request="json", in_path=in_path)  # type: ignore[arg-type]
    return openai.answer_of(one, params, document)


class TestAnAnswer:
    @pytest.mark.parametrize(
        ("path", "document", "later", "done"),
        [
            pytest.param("/responses", {**RESPONSE, "status": "completed"}, False, True, id="a response"),
            pytest.param("/responses", {**RESPONSE, "status": "queued", "background": True}, True, False, id="one that comes later"),
            pytest.param("/responses", {**RESPONSE, "status": "completed", "background": True}, True, True, id="and is there"),
            pytest.param("/responses", {"type": "response.created", "response": {**RESPONSE, "background": True, "status": "queued"}}, True, False, id="in an event"),
            pytest.param("/batches", {**BATCH, "status": "in_progress", "usage": {"input_tokens": 1}}, True, False, id="a batch that goes on"),
            pytest.param("/batches", {**BATCH, "status": "completed"}, True, True, id="a batch"),
            pytest.param("/threads/{t}/runs", {**RUN, "status": "completed"}, True, True, id="a run of an assistant"),
            pytest.param("/threads/runs", {**RUN, "status": "queued"}, True, False, id="one with its thread"),
            pytest.param("/threads/runs", {**RUN, "status": ["completed"]}, True, False, id="one whose state is none"),
        ],
    )  # fmt: skip
    def test_that_can_be_read_again_has_an_id(self, path: str, document: Any, later: bool, done: bool) -> None:
        found = kept(path, "POST", {}, document)
        assert found is not None
        assert (found.later, found.done, found.again) == (later, done, False)

    @pytest.mark.parametrize(
        ("path", "method", "params", "document"),
        [
            pytest.param("/responses/{response_id}", "GET", {"response_id": "r"}, RESPONSE, id="a response"),
            pytest.param("/responses/{response_id}", "GET", {"response_id": "r", "store": False}, RESPONSE, id="whatever the request says"),
            pytest.param("/responses/{response_id}/cancel", "POST", {"response_id": "r"}, RESPONSE, id="one that is cancelled"),
            pytest.param("/chat/completions/{id}", "GET", {"id": "c"}, {"id": "c", "object": "chat.completion"}, id="a chat"),
            pytest.param("/threads/{t}/runs/{run_id}", "GET", {"t": "x", "run_id": "t"}, RUN, id="a run of an assistant"),
            pytest.param("/batches/{batch_id}", "GET", {"batch_id": "b"}, BATCH, id="a batch"),
        ],
    )  # fmt: skip
    def test_that_is_read_is_known_as_that(self, path: str, method: str, params: Any, document: Any) -> None:
        found = kept(path, method, params, document)
        assert found is not None
        assert found.again

    @pytest.mark.parametrize(
        ("path", "method", "params", "document"),
        [
            pytest.param("/responses", "POST", {"store": False}, RESPONSE, id="a response that is not kept"),
            pytest.param("/chat/completions", "POST", {}, {"id": "c", "object": "chat.completion"}, id="a chat that is not kept"),
            pytest.param("/batches", "POST", {}, {"id": 3, "object": "batch"}, id="an id that is no text"),
            pytest.param("/batches", "POST", {}, {"id": "", "object": "batch"}, id="an empty one"),
            pytest.param("/batches", "POST", {}, {"id": "x", "object": ["batch"]}, id="a kind that is none"),
            pytest.param("/batches", "GET", {}, {"object": "list", "data": []}, id="a list"),
            pytest.param("/batches", "POST", {}, [], id="no object"),
            pytest.param("/files/{file_id}/content", "GET", {"file_id": "r"}, RESPONSE, id="a file that looks like one"),
            pytest.param("/responses/{response_id}", "GET", {"response_id": "other"}, RESPONSE, id="another than was asked for"),
            pytest.param("/responses/{response_id}", "GET", {"response_id": "b"}, BATCH, id="another kind"),
        ],
    )  # fmt: skip
    def test_that_is_none_settles_nothing(self, path: str, method: str, params: Any, document: Any) -> None:
        assert kept(path, method, params, document) is None
