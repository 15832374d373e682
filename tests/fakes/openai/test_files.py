import openai
import pytest

EVERY_BYTE = bytes(range(256)) + b"\r\n\0no newline"


def upload(client, name="a.jsonl", content=b"{}", purpose="batch", **params):
    return client.files.create(file=(name, content), purpose=purpose, **params)


def test_an_upload_comes_back_byte_for_byte(client):
    file = upload(client, content=EVERY_BYTE)
    assert (file.object, file.filename, file.bytes, file.status) == ("file", "a.jsonl", len(EVERY_BYTE), "processed")
    assert client.files.content(file.id).content == EVERY_BYTE
    assert client.files.retrieve(file.id) == file


def test_two_uploads_of_the_same_bytes_are_two_files(client):
    assert upload(client).id != upload(client).id


def test_identifiers_begin_again_after_a_reset(client, fake):
    first = upload(client).id
    fake.reset()
    assert list(client.files.list()) == []
    assert upload(client).id == first


def test_a_deleted_file_is_gone(client):
    file = upload(client)
    assert client.files.delete(file.id).deleted
    for ask in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            ask(file.id)


def test_the_list_is_newest_first_and_comes_in_pages(client):
    ids = [upload(client, name=f"{number}").id for number in range(5)]
    page = client.files.list(limit=2)
    assert ([file.id for file in page.data], page.has_more) == (ids[:2:-1], True)
    assert [file.id for file in page] == ids[::-1], "the SDK turns the pages by `after`"
    last = client.files.list(limit=2, after=ids[1])
    assert ([file.id for file in last.data], last.has_more) == ([ids[0]], False)


def test_the_list_can_be_oldest_first_and_of_one_purpose(client):
    ids = [upload(client, purpose=purpose).id for purpose in ("batch", "assistants", "batch")]
    assert [file.id for file in client.files.list(order="asc")] == ids
    assert [file.id for file in client.files.list(purpose="assistants")] == [ids[1]]


def test_an_expiry_is_kept(client):
    file = upload(client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600


@pytest.mark.parametrize(
    ("fields", "files", "param"),
    [
        pytest.param({"purpose": "batch"}, {"other": b"x"}, "file", id="no file"),
        pytest.param({}, {"file": b"x"}, "purpose", id="no purpose"),
        pytest.param({"purpose": "fun"}, {"file": b"x"}, "purpose", id="a purpose unheard of"),
    ],
)
def test_a_bad_upload_names_its_parameter(http, fields, files, param):
    response = http.post("/v1/files", data=fields, files=files)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=10001", "order=up", "after=nothing", "limit=1&limit=2"])
def test_a_bad_page_is_refused(http, query):
    response = http.get(f"/v1/files?{query}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, query.partition("=")[0])


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
