import openai
import pytest

from host.fakes.openai.moderations import TRIGGERS


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
