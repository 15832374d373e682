import pytest

from host.fakes.messages import FakeRequest
from host.fakes.openai import call
from host.fakes.openai.call import FakeState, Form, StoredResponse
from host.fakes.openai.errors import ApiError


def form(body):
    headers = {"content-type": "multipart/form-data; boundary=x"}
    return Form.of(FakeRequest("POST", "/", "", headers, body, "http://127.0.0.1:1"))


def field(name, value):
    return f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def test_only_the_newest_responses_are_kept(monkeypatch):
    monkeypatch.setattr(call, "_MAX_RESPONSES", 2)
    state = FakeState()
    for number in range(4):
        state.keep(StoredResponse({"id": str(number)}, [], []))
    assert list(state.responses) == ["2", "3"]


def test_numbers_are_never_given_twice():
    state = FakeState()
    assert [state.next_number() for _ in range(3)] == [1, 2, 3]


def test_fields_with_brackets_are_an_array():
    params = form(field("a[]", "1") + field("a[]", "2") + field("b", "3") + b"--x--").params
    assert (params.raw("a"), params.raw("b")) == (["1", "2"], "3")


def test_numbers_and_booleans_of_a_form_are_text():
    params = form(field("n", "3") + field("yes", "true") + field("no", "false") + b"--x--").params
    assert (params.integer("n", None), params.flag("yes"), params.flag("no")) == (3, True, False)


@pytest.mark.parametrize("text", ["x", "-1", "1.0", "٣", "", "9" * 30])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ApiError) as caught:
        form(field("n", text) + b"--x--").params.integer("n", None)
    assert caught.value.code == "invalid_type"
