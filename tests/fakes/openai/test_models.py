import openai
import pytest


def test_the_list_has_the_usual_models(client):
    models = {model.id: model for model in client.models.list()}
    assert {"gpt-4o", "gpt-3.5-turbo-16k", "gpt-5.1", "text-embedding-3-large", "whisper-1", "gpt-image-1"} <= set(
        models
    )
    assert {(model.object, model.owned_by) for model in models.values()} == {("model", "openai")}


def test_a_model_is_retrieved_by_its_name(client):
    assert client.models.retrieve("gpt-4-turbo-preview").id == "gpt-4-turbo-preview"


@pytest.mark.parametrize("name", ["gpt-0", "a/b", "東京", "{model}"])
def test_an_unknown_model_is_not_found(client, name):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve(name)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert f"'{name}'" in caught.value.message
