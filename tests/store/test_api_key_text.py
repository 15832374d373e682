"""The text of an API key, which can be checked offline."""

from __future__ import annotations

import re

import pytest

from host.store.access.key_text import KEY_TYPES, KeyType, id_in, new_id, new_text


@pytest.mark.parametrize(("kind", "prefix"), [("public", "host_pk_"), ("secret", "host_sk_"), ("admin", "host_ak_")])
def test_it_says_what_it_is_and_whose(kind: KeyType, prefix: str) -> None:
    ident = new_id()
    text = new_text(kind, ident)
    assert re.fullmatch(rf"{prefix}{ident}_[0-9A-Za-z]{{38}}", text)
    assert id_in(text) == ident


def test_an_id_is_twelve_letters_and_digits_and_never_the_same() -> None:
    ids = [new_id() for _ in range(1000)]
    assert all(re.fullmatch("[a-z0-9]{12}", one) for one in ids)
    assert len(set(ids)) == 1000


def test_no_two_texts_of_a_key_are_the_same() -> None:
    assert len({new_text("secret", "abcdefghijkl") for _ in range(1000)}) == 1000


def test_any_character_mistyped_shows() -> None:
    text = new_text("secret", new_id())
    for place in range(len(text)):
        other = "a" if text[place] != "a" else "b"
        assert id_in(text[:place] + other + text[place + 1 :]) == ""


@pytest.mark.parametrize("kind", KEY_TYPES)
def test_two_characters_that_changed_places_show(kind: KeyType) -> None:
    text = new_text(kind, new_id())
    for place in range(len(text) - 1):
        swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
        assert swapped == text or id_in(swapped) == ""


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: text + "0", lambda text: f" {text}", lambda text: f"{text}\n", lambda text: text.upper(), lambda text: "", lambda text: "sk-proj-0123456789", lambda text: "\ud800" * 59, lambda text: text.replace("_", "-")])  # fmt: skip
def test_what_can_be_none_is_nobodys(change: object) -> None:
    assert callable(change)
    assert id_in(change(new_text("secret", new_id()))) == ""
