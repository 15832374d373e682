import openai
import pytest


def ask(client, **params):
    return client.completions.create(**{"model": "gpt-3.5-turbo-instruct", "prompt": "Once upon a time", **params})


def test_a_completion_has_openais_shape(client):
    completion = ask(client)
    assert (completion.object, completion.model) == ("text_completion", "gpt-3.5-turbo-instruct")
    assert completion.id.startswith("cmpl-")
    [choice] = completion.choices
    assert choice.text.startswith(" ")
    assert completion.usage.prompt_tokens == 4
    assert completion.usage.completion_tokens == len(choice.text.split())
    assert ask(client) == completion


def test_sixteen_tokens_are_the_default(client):
    choice = ask(client, prompt="A story in 40 words").choices[0]
    assert (len(choice.text.split()), choice.finish_reason) == (16, "length")
    choice = ask(client, prompt="A story in 40 words", max_tokens=100).choices[0]
    assert (len(choice.text.split()), choice.finish_reason) == (40, "stop")


@pytest.mark.parametrize(
    ("prompt", "choices"),
    [
        pytest.param("one", 2, id="a string"),
        pytest.param(["one", "two"], 4, id="an array of strings"),
        pytest.param([1, 2, 3], 2, id="an array of tokens"),
        pytest.param([[1, 2], [3]], 4, id="an array of arrays of tokens"),
    ],
)
def test_each_prompt_has_n_choices_when_it_is(client, prompt, choices):
    completion = ask(client, prompt=prompt, n=2)
    assert [choice.index for choice in completion.choices] == list(range(choices))
    assert len({choice.text for choice in completion.choices}) == choices


def test_echo_puts_the_prompt_before_the_answer(client):
    assert ask(client, echo=True).choices[0].text == "Once upon a time" + ask(client).choices[0].text


def test_a_prompt_can_be_scored_alone(client):
    choice = ask(client, echo=True, max_tokens=0, logprobs=0).choices[0]
    assert choice.text == "Once upon a time"
    assert choice.logprobs.tokens == ["Once", " upon", " a", " time"]
    assert choice.logprobs.text_offset == [0, 4, 9, 11]


def test_logprobs_speak_of_every_token(client):
    choice = ask(client, logprobs=2).choices[0]
    assert "".join(choice.logprobs.tokens) == choice.text
    assert all(len(top) == 2 for top in choice.logprobs.top_logprobs)
    assert all(logprob <= 0 for logprob in choice.logprobs.token_logprobs)


def test_a_stream_says_the_same_as_the_whole_answer(client):
    whole = ask(client, prompt=["one", "two"], logprobs=1, echo=True)
    *chunks, last = ask(
        client, prompt=["one", "two"], logprobs=1, echo=True, stream=True, stream_options={"include_usage": True}
    )
    assert (last.choices, last.usage) == ([], whole.usage)
    for choice in whole.choices:
        mine = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == choice.index]
        assert "".join(part.text for part in mine) == choice.text
        assert mine[-1].finish_reason == choice.finish_reason
        offsets = [offset for part in mine if part.logprobs for offset in part.logprobs.text_offset]
        assert offsets == choice.logprobs.text_offset


@pytest.mark.parametrize(
    ("params", "param"),
    [
        pytest.param({"prompt": None}, "prompt", id="no prompt"),
        pytest.param({"prompt": []}, "prompt", id="an empty array"),
        pytest.param({"prompt": {"text": "x"}}, "prompt", id="an object"),
        pytest.param({"prompt": ["x", 1]}, "prompt", id="strings and tokens mixed"),
        pytest.param({"n": 3, "best_of": 2}, "best_of", id="best of fewer than asked for"),
        pytest.param({"logprobs": 6}, "logprobs", id="too many logprobs"),
    ],
)
def test_a_bad_request_names_its_parameter(client, params, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **params)
    assert caught.value.param == param
