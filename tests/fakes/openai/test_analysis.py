import base64
import math
import struct

import openai
import pytest

from host.fakes.openai.analysis import TRIGGERS


def embed(client, given, **params):
    return client.embeddings.create(model="text-embedding-3-small", input=given, **params)


def test_a_vector_has_1536_dimensions_and_unit_length(client):
    response = embed(client, "hello there", encoding_format="float")
    [item] = response.data
    assert (item.object, item.index, len(item.embedding)) == ("embedding", 0, 1536)
    assert math.hypot(*item.embedding) == pytest.approx(1, abs=1e-5)
    assert (response.usage.prompt_tokens, response.usage.total_tokens) == (2, 2)


def test_equal_inputs_have_equal_vectors_and_others_do_not(client):
    same, again, other = (item.embedding for item in embed(client, ["a", "a", "b"]).data)
    assert same == again != other


def test_dimensions_are_obeyed(client):
    vector = embed(client, "x", dimensions=3).data[0].embedding
    assert len(vector) == 3
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-6)


def test_base64_is_little_endian_float32_of_the_same_numbers(http):
    body = {"model": "m", "input": "x", "dimensions": 8}
    numbers = http.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    packed = http.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert list(struct.unpack("<8f", base64.b64decode(packed))) == numbers


@pytest.mark.parametrize(
    ("given", "vectors", "tokens"),
    [
        pytest.param("two words", 1, 2, id="a string"),
        pytest.param(["one", "two words"], 2, 3, id="an array of strings"),
        pytest.param([1, 2, 3], 1, 3, id="an array of tokens"),
        pytest.param([[1, 2], [3]], 2, 3, id="an array of arrays of tokens"),
    ],
)
def test_the_input_can_be(client, given, vectors, tokens):
    response = embed(client, given)
    assert [item.index for item in response.data] == list(range(vectors))
    assert response.usage.prompt_tokens == tokens


@pytest.mark.parametrize(
    ("params", "param"),
    [
        pytest.param({"input": ""}, "input", id="an empty string"),
        pytest.param({"input": []}, "input", id="an empty array"),
        pytest.param({"input": ["x", ""]}, "input", id="an empty string among others"),
        pytest.param({"input": [1.5]}, "input", id="a broken token"),
        pytest.param({"input": ["x"] * 2049}, "input", id="too many inputs"),
        pytest.param({"input": "x", "dimensions": 0}, "dimensions", id="no dimensions"),
        pytest.param({"input": "x", "encoding_format": "hex"}, "encoding_format", id="an encoding unheard of"),
    ],
)
def test_a_bad_request_names_its_parameter(client, params, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="m", **params)
    assert caught.value.param == param


def test_harmless_text_passes(client):
    response = client.moderations.create(input="What a lovely day.")
    assert response.id.startswith("modr-")
    assert response.model == "omni-moderation-latest"
    [result] = response.results
    assert not result.flagged
    assert not any(result.categories.model_dump().values())
    assert max(result.category_scores.model_dump().values()) < 0.01


@pytest.mark.parametrize(("word", "category"), TRIGGERS.items(), ids=TRIGGERS.keys())
def test_text_is_flagged_by_the_word(client, word, category):
    [result] = client.moderations.create(input=f"I said {word.upper()}, you know.").results
    assert result.flagged
    flagged = {name for name, value in result.categories.model_dump(by_alias=True).items() if value}
    assert flagged == {category}
    assert result.category_scores.model_dump(by_alias=True)[category] > 0.85


def test_a_trigger_inside_another_word_passes(client):
    assert not client.moderations.create(input="skill, chateau").results[0].flagged


def test_each_string_has_its_result(client):
    results = client.moderations.create(input=["fine", "I will kill you", "fine"]).results
    assert [result.flagged for result in results] == [False, True, False]
    assert results[0] == results[2]


def test_parts_are_one_input(client):
    parts = [
        {"type": "text", "text": "fine"},
        {"type": "text", "text": "murder"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]
    [result] = client.moderations.create(input=parts).results
    assert result.flagged
    applied = result.category_applied_input_types
    assert (applied.violence, applied.hate) == (["image", "text"], ["text"])


@pytest.mark.parametrize("given", [[], 1, [1], [{"type": "text"}], ["x", {"type": "text", "text": "x"}]], ids=str)
def test_an_input_of_another_shape_is_refused(client, given):
    with pytest.raises(openai.BadRequestError) as caught:
        client.moderations.create(input=given)
    assert (caught.value.param, caught.value.code) == ("input", "invalid_type")
