"""Which catalyst has a model: a table whose rows are sentences."""

from __future__ import annotations

import pytest

from host.core.names import Reference
from host.errors import InputError, NotFound
from host.service.request import Routing

ONE, OTHER, REST = (Reference.parse(f"c:local.{name}") for name in ("one", "other", "rest"))
ROUTING = Routing({"gpt": ONE, "gpt-4o": OTHER, "": REST}, {"fast": "gpt-4o-mini", "gpt": "claude"})


@pytest.mark.parametrize(
    ("asked", "reference", "model"),
    [
        pytest.param("gpt-3.5", ONE, "gpt-3.5", id="by its prefix"),
        pytest.param("gpt-4o-mini", OTHER, "gpt-4o-mini", id="by the longest of several"),
        pytest.param("fast", OTHER, "gpt-4o-mini", id="an alias by the prefix of what it stands for"),
        pytest.param("gpt", REST, "claude", id="an alias before a prefix"),
        pytest.param("GPT-4", REST, "GPT-4", id="letters are as they are written"),
        pytest.param("", REST, "", id="an empty name by the empty prefix"),
    ],
)
def test_a_model_is_routed(asked: str, reference: Reference, model: str) -> None:
    routed = ROUTING.of_model(asked)
    assert (routed.reference, routed.model) == (reference, model)


def test_without_a_prefix_the_default_has_it() -> None:
    assert Routing({"gpt": ONE}, default=OTHER).of_model("claude").reference == OTHER


def test_what_nobody_has_is_not_found_and_says_what_there_is() -> None:
    with pytest.raises(NotFound, match=r"gpt…") as raised:
        Routing({"gpt": ONE}).of_model("claude")
    assert raised.value.field == "model"
    with pytest.raises(NotFound, match="--default"):
        Routing({"gpt": ONE}).of_rest()


def test_an_alias_of_an_alias_is_a_mistake() -> None:
    with pytest.raises(InputError) as raised:
        Routing(aliases={"a": "b", "b": "c"})
    assert raised.value.field == "aliases.a"


def test_every_catalyst_that_is_named_comes_once_the_default_first() -> None:
    assert Routing({"a": ONE, "b": OTHER, "c": ONE}, default=OTHER).references == (OTHER, ONE)
