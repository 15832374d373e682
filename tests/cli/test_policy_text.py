"""Policies as people write them."""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.cli.output.policy_text import EXAMPLES, default, page, read_document, read_value, write_document
from host.core.names import Reference
from host.errors import InputError, PolicyError
from host.policy.document import Policy

OPENAI = Reference.parse("c:local.openai:0.1.0")


def test_every_field_has_an_example_that_can_be_set() -> None:
    assert list(EXAMPLES) == [one.name for one in fields(Policy)]
    Policy.from_document(dict(EXAMPLES))


@pytest.mark.parametrize("field", [name for name in EXAMPLES if name != "rate_limit"])
def test_a_default_is_written_as_a_policy_reads_it(field: str) -> None:
    assert Policy.from_document({field: default(field)}).terms() == Policy().terms()


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        pytest.param("timeout", "30s", "30s", id="a duration as a word"),
        pytest.param("timeout", '"30s"', "30s", id="a duration as JSON"),
        pytest.param("timeout", "30", 30, id="seconds"),
        pytest.param("max_response_size", "64MB", "64MB", id="a size as a word"),
        pytest.param("max_streams", "2", 2, id="a number"),
        pytest.param("allowed_domains", '["a.test"]', ["a.test"], id="a list"),
        pytest.param("allowed_domains", "[]", [], id="an empty list"),
        pytest.param("rate_limit", "null", None, id="nothing"),
        pytest.param("upstreams", "{}", {}, id="an empty object"),
    ],
)
def test_what_a_value_means(field: str, text: str, value: Any) -> None:
    assert read_value(OPENAI, field, text) == value


@pytest.mark.parametrize(
    ("field", "text", "said", "meant"),
    [
        pytest.param("allowed_domains", "a.test", "takes JSON", ["a.test"], id="a bare word for a list"),
        pytest.param("allowed_domains", '"a.test"', "takes a JSON list", ["a.test"], id="a JSON text for a list"),
        pytest.param("allowed_domains", "a.test, b.test", "takes JSON", ["a.test", "b.test"], id="words with commas"),
        pytest.param("allowed_domains", '["a.test"', "is not JSON", ["api.openai.com"], id="half a list"),
        pytest.param("upstreams", "https://a.test=http://b.test", "takes JSON", EXAMPLES["upstreams"], id="an option's form"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_answered_with_the_line_to_type(field: str, text: str, said: str, meant: Any) -> None:
    with pytest.raises(PolicyError) as error:
        read_value(OPENAI, field, text)
    assert said in error.value.message
    *command, value = shlex.split(error.value.hint or "")
    assert command == ["host", "policy", "set", "c:local.openai:0.1.0", field]
    assert read_value(OPENAI, field, value) == meant


DOCUMENTS = st.lists(st.sampled_from(list(EXAMPLES)), unique=True).map(
    lambda names: {name: EXAMPLES[name] for name in names}
)


@given(DOCUMENTS, st.booleans())
def test_a_document_that_is_written_is_read_back(document: dict[str, Any], in_json: bool) -> None:
    assert read_document(write_document(document, in_json=in_json), "it", in_json=in_json) == document


@given(DOCUMENTS)
def test_a_page_that_is_saved_as_it_is_changes_nothing(document: dict[str, Any]) -> None:
    assert tomllib.loads(page(OPENAI, document)) == document


@given(DOCUMENTS)
def test_every_line_of_a_page_can_be_uncommented(document: dict[str, Any]) -> None:
    head, _, rest = page(OPENAI, document).partition("\n\n")
    assert all(line.startswith("# ") for line in head.splitlines())
    everything = tomllib.loads("\n".join(line.removeprefix("# ") for line in rest.splitlines()))
    assert everything.keys() == EXAMPLES.keys()
    Policy.from_document(everything)


def test_null_is_more_than_toml_can_hold() -> None:
    with pytest.raises(InputError, match="no null"):
        write_document({"rate_limit": None}, in_json=False)


@pytest.mark.parametrize(("text", "in_json"), [("a = ", False), ("[", True), ("[]", True)], ids=str)
def test_what_is_no_document(text: str, in_json: bool) -> None:
    with pytest.raises(InputError, match=r"^FILE x"):
        read_document(text, "FILE x", in_json=in_json)
