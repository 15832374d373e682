import json

import openai
import pytest

WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def ask(client, **params):
    return client.responses.create(**{"model": "gpt-5.1", "input": "Hello, world!", **params})


def test_a_response_has_openais_shape(client):
    response = ask(client, metadata={"a": "b"})
    assert (response.object, response.status, response.model) == ("response", "completed", "gpt-5.1")
    assert response.id.startswith("resp_")
    [item] = response.output
    assert (item.type, item.role, item.status) == ("message", "assistant", "completed")
    assert response.output_text == item.content[0].text
    assert response.usage.input_tokens == 2
    assert response.usage.output_tokens == len(response.output_text.split())
    assert response.metadata == {"a": "b"}


def test_equal_requests_say_the_same_in_two_responses(client):
    first, second = ask(client), ask(client)
    assert first.output_text == second.output_text
    assert first.id != second.id


def test_identifiers_begin_again_after_a_reset(client, fake):
    first = ask(client)
    fake.reset()
    assert ask(client) == first


def test_a_string_is_one_message_of_the_user(client):
    items = [{"role": "user", "content": [{"type": "input_text", "text": "Hello, world!"}]}]
    assert ask(client, input=items).output_text == ask(client).output_text


def test_instructions_matter(client):
    assert ask(client, instructions="Be brief.").output_text != ask(client).output_text


def test_a_stored_response_can_be_retrieved_and_deleted(client):
    response = ask(client)
    assert client.responses.retrieve(response.id) == response
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_a_response_that_is_not_stored_cannot_be_retrieved(client):
    response = ask(client, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_the_items_it_was_asked_with_are_listed(client):
    items = [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
    listed = client.responses.input_items.list(ask(client, input=items).id, order="asc")
    assert [item.content[0].text for item in listed] == ["one", "two"]
    assert len({item.id for item in listed}) == 2


def test_a_conversation_goes_on_from_the_previous_response(client):
    first = ask(client, input="My name is Ada.")
    second = ask(client, input="What is my name?", previous_response_id=first.id)
    alone = ask(client, input="What is my name?")
    assert second.output_text != alone.output_text
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens == 8 + first.usage.output_tokens


def test_what_follows_does_not_depend_on_how_often_it_was_asked(client):
    follow = [ask(client, input="And then?", previous_response_id=ask(client).id).output_text for _ in range(2)]
    assert follow[0] == follow[1]


def test_an_unknown_previous_response_is_refused(client):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, previous_response_id="resp_nothing")
    assert (caught.value.param, caught.value.code) == ("previous_response_id", "previous_response_not_found")


def test_a_limit_makes_it_incomplete(client):
    response = ask(client, max_output_tokens=3)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert len(response.output_text.split()) == 3
    *_, last = ask(client, max_output_tokens=3, stream=True)
    assert last.type == "response.incomplete"


def test_a_stream_tells_the_response_step_by_step(client):
    events = list(ask(client, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    told = [event.type.removeprefix("response.") for event in events if not event.type.endswith("text.delta")]
    assert told == [
        "created", "in_progress", "output_item.added", "content_part.added",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert events[0].response.status == "in_progress"
    assert events[-1].response.output_text == text == ask(client).output_text
    assert client.responses.retrieve(events[-1].response.id) == events[-1].response


def test_events_are_named_by_their_type(http):
    response = http.post("/v1/responses", json={"model": "m", "input": "x", "stream": True})
    for event in response.text.strip().split("\n\n"):
        name, data = event.split("\n")
        assert name.removeprefix("event: ") == json.loads(data.removeprefix("data: "))["type"]


def test_the_sdks_streaming_helper_understands_it(client):
    with client.responses.stream(model="gpt-5.1", input="Hello, world!") as stream:
        assert stream.get_final_response().output_text == ask(client).output_text


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}], ids=["required", "named"])
def test_a_function_is_called_when_it_is(client, choice):
    response = ask(client, tools=[WEATHER], tool_choice=choice)
    [item] = response.output
    assert (item.type, item.name) == ("function_call", "weather")
    assert list(json.loads(item.arguments)) == ["city"]


def test_a_streamed_call_comes_in_pieces(client):
    events = list(ask(client, tools=[WEATHER], tool_choice="required", stream=True))
    arguments = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    [item] = events[-1].response.output
    assert item.arguments == arguments
    output = {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
    assert ask(client, input=[output], previous_response_id=events[-1].response.id).output_text


def test_a_json_schema_is_fitted(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    response = ask(client, text={"format": {"type": "json_schema", "name": "count", "schema": schema}})
    assert json.loads(response.output_text) == {"n": 0}


@pytest.mark.parametrize(
    ("params", "param"),
    [
        pytest.param({"model": None}, "model", id="no model"),
        pytest.param({"input": None}, "input", id="no input"),
        pytest.param({"input": 1}, "input", id="a number as input"),
        pytest.param({"input": ["x"]}, "input", id="strings as items"),
        pytest.param({"input": [{"role": "user"}]}, "input[0].content", id="a message without content"),
        pytest.param({"text": {"format": {"type": "xml"}}}, "text.format.type", id="a format unheard of"),
        pytest.param({"text": {"format": {"type": "json_schema"}}}, "text.format.name", id="a schema without name"),
        pytest.param({"text": {"format": "json"}}, "text.format", id="a string as format"),
        pytest.param({"max_output_tokens": 0}, "max_output_tokens", id="a limit of nothing"),
    ],
)
def test_a_bad_request_names_its_parameter(client, params, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **params)
    assert caught.value.param == param
