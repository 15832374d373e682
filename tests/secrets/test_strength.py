"""How hard a secret is to guess, and what is refused for it."""

from __future__ import annotations

import pytest

from host.core.names import SecretName
from host.errors import InputError
from host.secrets.value import ENOUGH_BITS, SecretValue, guessing_bits, require_strong, weakness

NAME = SecretName.parse("TOKEN")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("48213907", id="eight digits"),
        pytest.param("hunter2", id="a word and a digit"),
        pytest.param("sk-48213907", id="eight digits behind a known beginning"),
        pytest.param("sk-ant-x7", id="a known beginning and nothing else"),
        pytest.param("sk-", id="a known beginning alone"),
        pytest.param("a" * 64, id="one character, often"),
        pytest.param("0123456789abcdefghij", id="a row"),
        pytest.param("zyxwvutsrqponmlkjihg", id="a row downwards"),
        pytest.param("x7Qp" * 16, id="a part that repeats"),
        pytest.param("Password2024!", id="a common word with trimmings"),
        pytest.param("adminadminSECRET99", id="common words"),
        pytest.param("deadbeef12", id="few digits of hex"),
    ],
)
def test_a_secret_that_can_be_guessed_is_weak_and_its_error_does_not_show_it(text: str) -> None:
    value = SecretValue(text)
    why = weakness(value)
    assert why is not None
    with pytest.raises(InputError, match="TOKEN") as caught:
        require_strong(NAME, value, "--weak")
    assert text not in f"{caught.value} {caught.value.hint}" or text == "sk-"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("sk-test-0123456789abcdefghijklmnop", id="a key of these tests"),
        pytest.param("9f86d081884c7d65", id="sixteen digits of hex"),
        pytest.param("3c4a9b17-5d2e-4f60-8a7b-1e2d3c4b5a69", id="a UUID"),
        pytest.param("AIzaSyD9x8Qp3LmN7vB2", id="twenty letters and digits"),
        pytest.param("sk-proj-q7Vw2LrX9dKfTz4b", id="a key with its beginning"),
        pytest.param("57483920174839201748", id="twenty digits"),
        pytest.param("one horse that nobody could ever staple", id="a sentence"),
    ],
)
def test_a_secret_as_services_make_them_is_strong(text: str) -> None:
    assert guessing_bits(SecretValue(text)) >= ENOUGH_BITS
    require_strong(NAME, SecretValue(text), "--weak")


def test_a_long_secret_is_weighed_in_no_time() -> None:
    assert guessing_bits(SecretValue("ab" * 500_000 + "c")) < 20 * ENOUGH_BITS
