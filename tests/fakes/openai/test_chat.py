import asyncio
import json

import openai
import pytest

HELLO = [{"role": "user", "content": "Hello, world!"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"enum": ["C", "F"]},
                "days": {"type": "integer", "minimum": 1},
            },
            "required": ["city", "unit", "days"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def ask(client, **params):
    return client.chat.completions.create(**{"model": "gpt-4o", "messages": HELLO, **params})


def test_a_completion_has_openais_shape(client):
    completion = ask(client)
    assert (completion.object, completion.model, completion.created) == ("chat.completion", "gpt-4o", 1_700_000_000)
    assert completion.id.startswith("chatcmpl-")
    assert completion.system_fingerprint.startswith("fp_")
    [choice] = completion.choices
    assert (choice.index, choice.finish_reason, choice.message.role) == (0, "stop", "assistant")
    assert 8 <= len(choice.message.content.split()) <= 23
    assert (choice.logprobs, choice.message.tool_calls, choice.message.refusal) == (None, None, None)


def test_equal_requests_have_equal_answers(client):
    assert ask(client) == ask(client)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"model": "gpt-4"}, id="model"),
        pytest.param({"messages": [{"role": "system", "content": "Be brief."}, *HELLO]}, id="message"),
        pytest.param({"seed": 7}, id="seed"),
    ],
)
def test_answers_differ_with_the(client, other):
    assert ask(client).choices[0].message.content != ask(client, **other).choices[0].message.content


def test_any_model_is_accepted(client):
    assert ask(client, model="ft:mine:org::1").model == "ft:mine:org::1"


def test_usage_counts_words(client):
    completion = ask(client, n=2)
    usage = completion.usage
    assert usage.prompt_tokens == 2
    assert usage.completion_tokens == sum(len(choice.message.content.split()) for choice in completion.choices)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens_details.reasoning_tokens == 0
    assert usage.prompt_tokens_details.cached_tokens == 0


def test_n_asks_for_so_many_different_choices(client):
    choices = ask(client, n=3).choices
    assert [choice.index for choice in choices] == [0, 1, 2]
    assert len({choice.message.content for choice in choices}) == 3


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_the_answer_is_cut_at(client, limit):
    whole = ask(client).choices[0].message.content
    choice = ask(client, **{limit: 3}).choices[0]
    assert (choice.message.content, choice.finish_reason) == (" ".join(whole.split()[:3]), "length")


def test_a_limit_that_is_not_reached_changes_nothing(client):
    assert ask(client, max_tokens=1000).choices == ask(client).choices


@pytest.mark.parametrize("as_list", [False, True], ids=["a string", "an array"])
def test_the_answer_ends_before_a_stop_sequence_given_as(client, as_list):
    whole = ask(client).choices[0].message.content
    stop = whole.split()[4]
    choice = ask(client, stop=["not in it", stop] if as_list else stop).choices[0]
    assert choice.message.content == whole[: whole.index(stop)]
    assert choice.finish_reason == "stop"


def test_a_prompt_can_ask_for_a_length(client):
    message = {"role": "user", "content": [{"type": "text", "text": "Tell me about the sea in 700 words, please."}]}
    assert len(ask(client, messages=[message]).choices[0].message.content.split()) == 700


def test_logprobs_speak_of_every_token(client):
    choice = ask(client, logprobs=True, top_logprobs=3).choices[0]
    content = choice.logprobs.content
    assert "".join(entry.token for entry in content) == choice.message.content
    for entry in content:
        assert bytes(entry.bytes).decode() == entry.token
        assert entry.top_logprobs[0].token == entry.token
        logprobs = [top.logprob for top in entry.top_logprobs]
        assert len(logprobs) == 3
        assert logprobs == sorted(logprobs, reverse=True)
        assert logprobs[0] <= 0


def test_logprobs_need_no_alternatives(client):
    assert ask(client, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


def test_a_stream_says_the_same_as_the_whole_answer(client):
    whole = ask(client)
    chunks = list(ask(client, stream=True))
    assert {chunk.id for chunk in chunks} == {whole.id}
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_is_split_by_words(client):
    words = [chunk.choices[0].delta.content for chunk in ask(client, stream=True)][1:-1]
    assert all(len(word.split()) == 1 for word in words)


def test_a_stream_ends_with_done(http):
    body = {"model": "m", "messages": HELLO, "stream": True}
    response = http.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, done, end = response.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    assert all(json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk" for event in events)
    assert all("usage" not in json.loads(event.removeprefix("data: ")) for event in events)


def test_a_stream_tells_its_usage_when_asked(client):
    *chunks, last = ask(client, stream=True, stream_options={"include_usage": True})
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks)
    assert last.choices == []
    assert last.usage == ask(client).usage


def test_the_choices_of_a_stream_take_turns(client):
    whole = ask(client, n=2)
    texts = ["", ""]
    order = []
    for chunk in ask(client, n=2, stream=True):
        [choice] = chunk.choices
        order.append(choice.index)
        texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]
    assert order[:4] == [0, 1, 0, 1]


def test_a_stream_has_the_logprobs_of_its_words(client):
    whole = ask(client, logprobs=True, top_logprobs=1).choices[0].logprobs.content
    chunks = list(ask(client, logprobs=True, top_logprobs=1, stream=True))
    assert [
        entry for chunk in chunks if chunk.choices[0].logprobs for entry in chunk.choices[0].logprobs.content
    ] == whole


def test_the_sdks_streaming_helper_understands_it(client):
    with client.chat.completions.stream(model="gpt-4o", messages=HELLO) as stream:
        assert stream.get_final_completion().choices[0].message.content == ask(client).choices[0].message.content


def test_async_clients_are_served_in_parallel(fake):
    async def ask_all():
        async with openai.AsyncOpenAI(base_url=fake.url + "/v1", api_key="k", max_retries=0) as client:
            stream = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
            texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            asked = [client.chat.completions.create(model="gpt-4o", messages=HELLO) for _ in range(20)]
            return "".join(texts), await asyncio.gather(*asked)

    streamed, completions = asyncio.run(ask_all())
    assert {completion.choices[0].message.content for completion in completions} == {streamed}


def test_tools_alone_do_not_make_it_call_one(client):
    choice = ask(client, tools=[WEATHER]).choices[0]
    assert (choice.message.tool_calls, choice.finish_reason) == (None, "stop")


@pytest.mark.parametrize(
    ("tool_choice", "name"),
    [
        pytest.param("required", "weather", id="required"),
        pytest.param({"type": "function", "function": {"name": "clock"}}, "clock", id="a named function"),
    ],
)
def test_a_function_is_called_when_tool_choice_is(client, tool_choice, name):
    choice = ask(client, tools=[WEATHER, CLOCK], tool_choice=tool_choice).choices[0]
    [call] = choice.message.tool_calls
    assert (call.type, call.function.name) == ("function", name)
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert call.id.startswith("call_")


def test_the_arguments_of_a_call_fit_its_parameters(client):
    choice = ask(client, tools=[WEATHER], tool_choice="required").choices[0]
    arguments = json.loads(choice.message.tool_calls[0].function.arguments)
    assert isinstance(arguments["city"], str)
    assert (arguments["unit"], arguments["days"]) == ("C", 1)


def test_a_streamed_call_comes_in_pieces(client):
    whole = ask(client, tools=[WEATHER], tool_choice="required").choices[0].message.tool_calls[0]
    chunks = list(ask(client, tools=[WEATHER], tool_choice="required", stream=True))
    pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert (pieces[0].id, pieces[0].function.name, pieces[0].function.arguments) == (whole.id, "weather", "")
    assert len(pieces) > 2
    assert "".join(piece.function.arguments for piece in pieces) == whole.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_json_object_is_json(client):
    content = ask(client, response_format={"type": "json_object"}).choices[0].message.content
    assert isinstance(json.loads(content), dict)


def test_a_json_schema_is_fitted(client):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "ok": {"type": "boolean"}},
        "required": ["name", "ok"],
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "thing", "strict": True, "schema": schema}}
    content = json.loads(ask(client, response_format=wanted).choices[0].message.content)
    assert isinstance(content["name"], str)
    assert content["ok"] is True
    assert "".join(
        c.choices[0].delta.content or "" for c in ask(client, response_format=wanted, stream=True)
    ) == json.dumps(content, ensure_ascii=False)


def test_lone_surrogates_and_every_unicode_text_are_answered(http):
    body = b'{"model": "m\\ud800", "messages": [{"role": "user", "content": "\\udfff \xf0\x9f\x8c\x8a"}]}'
    response = http.post("/v1/chat/completions", content=body)
    assert response.json()["model"] == "m\ud800"


@pytest.mark.parametrize(
    ("params", "param", "code"),
    [
        pytest.param({"messages": None}, "messages", "missing_required_parameter", id="no messages"),
        pytest.param({"messages": []}, "messages", "invalid_value", id="empty messages"),
        pytest.param({"messages": "hi"}, "messages", "invalid_type", id="messages that are a string"),
        pytest.param({"messages": ["hi"]}, "messages[0]", "invalid_type", id="a message that is a string"),
        pytest.param({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter", id="no role"),
        pytest.param({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role", "invalid_value", id="a role unheard of"),
        pytest.param({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter", id="no content"),
        pytest.param({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "invalid_type", id="a number as content"),
        pytest.param({"model": None}, "model", "missing_required_parameter", id="no model"),
        pytest.param({"model": 4}, "model", "invalid_type", id="a number as model"),
        pytest.param({"n": 0}, "n", "integer_below_minimum_value", id="no choices"),
        pytest.param({"n": 129}, "n", "integer_above_maximum_value", id="too many choices"),
        pytest.param({"n": True}, "n", "invalid_type", id="true as a number"),
        pytest.param({"max_tokens": 0}, "max_tokens", "integer_below_minimum_value", id="a limit of nothing"),
        pytest.param({"max_tokens": 1.5}, "max_tokens", "invalid_type", id="a broken limit"),
        pytest.param({"temperature": 2.1}, "temperature", "decimal_above_maximum_value", id="too hot"),
        pytest.param({"temperature": "hot"}, "temperature", "invalid_type", id="a word as temperature"),
        pytest.param({"top_p": -0.1}, "top_p", "decimal_below_minimum_value", id="a negative probability"),
        pytest.param({"stop": ["a"] * 5}, "stop", "invalid_value", id="five stop sequences"),
        pytest.param({"stop": [1]}, "stop", "invalid_type", id="a number as stop sequence"),
        pytest.param({"stream": "yes"}, "stream", "invalid_type", id="a word as boolean"),
        pytest.param({"stream_options": {}}, "stream_options", "invalid_value", id="stream options without a stream"),
        pytest.param({"top_logprobs": 2}, "top_logprobs", "invalid_value", id="top_logprobs without logprobs"),
        pytest.param({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value", id="a format unheard of"),
        pytest.param({"tools": [{"type": "function"}]}, "tools[].function.name", "missing_required_parameter", id="a tool without name"),
        pytest.param({"tool_choice": "required"}, "tool_choice", "invalid_value", id="a tool required where there is none"),
        pytest.param({"tool_choice": "maybe"}, "tool_choice", "invalid_value", id="a tool choice unheard of"),
        pytest.param(
            {"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice", "invalid_value",
            id="a choice that is no tool",
        ),
    ],
)  # fmt: skip
def test_a_bad_request_names_its_parameter(client, params, param, code):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **params)
    assert (caught.value.param, caught.value.code, caught.value.type) == (param, code, "invalid_request_error")
