from hypothesis import given
from hypothesis import strategies as st

from host.fakes.openai.text import count, generate_text, identifier, seed_of, sentence, tokens

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_a_seed_is_the_same_for_equal_values_whatever_they_hold(value):
    assert seed_of(value) == seed_of(value)
    assert len(seed_of(value)) == 32


def test_the_order_of_keys_does_not_matter():
    assert seed_of({"a": 1, "b": 2}) == seed_of({"b": 2, "a": 1})
    assert seed_of([1, 2]) != seed_of([2, 1])


def test_text_is_the_same_in_every_version():
    assert sentence(seed_of("a"), 4) == "Yonder ladder juniper marble."
    assert identifier("x-", seed_of("a"), 8) == "x-b0caef3a"


@given(st.binary(min_size=32, max_size=32), st.integers(0, 300))
def test_a_sentence_has_the_words_it_was_asked_for(seed, words):
    text = sentence(seed, words)
    assert count(text) == words
    assert text == "" or text.endswith(".")


@given(st.text())
def test_tokens_join_to_their_text(text):
    assert "".join(tokens(text)) == text
    assert all(len(token.split()) <= 1 for token in tokens(text))


@given(
    st.lists(st.sampled_from("abcd"), min_size=1).map(" ".join),
    st.integers(0, 10),
    st.lists(st.sampled_from(["b", "c d", "a b"])),
)
def test_what_is_written_is_a_beginning_without_stop_sequences(text, limit, stops):
    answer = generate_text(text, limit=limit, stops=stops)
    assert text.startswith(answer.text)
    assert not any(stop in answer.text for stop in stops)
    assert len(answer.tokens) <= limit
    if answer.finish == "length":
        assert len(answer.tokens) == limit
