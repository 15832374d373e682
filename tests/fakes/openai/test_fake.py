"""The behaviour of every endpoint: keys, headers, unknown paths, unreadable bodies."""

import openai
import pytest

CHAT = "/v1/chat/completions"
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize("key", ["sk-anything", "x", "two words"])
def test_any_bearer_token_is_accepted(http, key):
    assert http.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200


@pytest.mark.parametrize("value", ["", "Bearer", "Basic abc", "sk-test"], ids=repr)
def test_without_a_bearer_token_it_is_a_401_in_openais_shape(http, value):
    response = http.get("/v1/models", headers={"authorization": value})
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (401, "invalid_request_error", None)
    assert error["code"] is None
    assert error["message"].startswith(
        "You didn't provide an API key. You need to provide your API key in an Authorization"
    )


def test_the_sdk_raises_an_authentication_error(fake):
    headers = {"authorization": "Basic abc"}
    with (
        openai.OpenAI(base_url=fake.url + "/v1", api_key="k", max_retries=0, default_headers=headers) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()
    assert caught.value.code is None


def test_answers_carry_openais_headers_and_are_numbered(http):
    first, second = (http.get("/v1/models").headers for _ in range(2))
    assert [headers["x-request-id"] for headers in (first, second)] == [f"req_{number:032x}" for number in (1, 2)]
    assert (first["openai-version"], first["openai-processing-ms"]) == ("2020-10-01", "1")


def test_a_reset_numbers_from_one_again(fake, http):
    http.get("/v1/models")
    fake.reset()
    assert http.get("/v1/models").headers["x-request-id"].endswith("01")


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/", "/v1/chat", "/v2/models", "/v1/models/", "/v1/files/a/b", "/v1/models/{model}/x"]
)
def test_an_unknown_path_is_a_404(http, path):
    response = http.get(path)
    assert (response.status_code, response.json()["error"]["code"]) == (404, None)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/completions", "POST"),
        ("PUT", "/v1/files", "GET, POST"),
        ("POST", "/v1/models/gpt-4o", "DELETE, GET"),
        ("DELETE", "/health", "GET"),
    ],
)
def test_a_wrong_method_is_a_405(http, method, path, allowed):
    response = http.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.json()["error"]["code"] == "method_not_supported"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half an object"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b"null", id="null"),
        pytest.param(b"\xff", id="what is not UTF-8"),
        pytest.param(b'{"temperature": NaN}', id="NaN"),
        pytest.param(b'{"n": ' + b"1" * 5000 + b"}", id="a number of 5,000 digits"),
        pytest.param(b'{"a":' * 100_000, id="nesting without end"),
    ],
)
def test_a_body_that_is_no_json_object_is_a_400(http, body):
    response = http.post(CHAT, content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_deeply_nested_but_valid_parameters_are_a_400_or_an_answer(http):
    body = b'{"model":"m","messages":[{"role":"user","content":' + b"[" * 900 + b"]" * 900 + b"}]}"
    assert http.post(CHAT, content=body).status_code in {200, 400}


def test_head_is_answered_like_get(http):
    response = http.head("/v1/models")
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) == len(http.get("/v1/models").content)


def test_a_scalar_in_place_of_an_object_is_a_400(http):
    response = http.post(CHAT, json={**HELLO, "metadata": "x"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "metadata")
