"""What an operation's tool is called."""

from __future__ import annotations

import re

import pytest

from host.core.names import Reference
from host.server.mcp.operation_tools import LONGEST, names

OPENAI = Reference.parse("c:local.openai")
OTHER = Reference.parse("c:acme.openai")
LONG = "a" * 40 + "." + "b" * 40


def test_a_name_is_the_catalysts_and_the_operations() -> None:
    assert names([(OPENAI, "chat.completions.create")]) == {
        (OPENAI, "chat.completions.create"): "openai_chat_completions_create"
    }
    assert names([(OPENAI, "")]) == {(OPENAI, ""): "openai"}


def test_names_that_clash_begin_with_their_namespace() -> None:
    assert set(names([(OPENAI, "run"), (OTHER, "run")]).values()) == {"local_openai_run", "acme_openai_run"}


def test_a_name_that_is_taken_is_not_given_again() -> None:
    assert names([(Reference.parse("c:local.secret"), "")], {"secret"}) == {
        (Reference.parse("c:local.secret"), ""): "local_secret"
    }


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param([(OPENAI, "a.b"), (OPENAI, "a_b")], id="two operations of one catalyst look alike"),
        pytest.param([(OPENAI, LONG + ".x"), (OPENAI, LONG + ".y")], id="long ones differ at their ends"),
        pytest.param([(OPENAI, "über"), (OPENAI, "ober")], id="other letters"),
        pytest.param([(Reference.parse("c:local.7up"), "drink"), (OPENAI, "_")], id="no letter at its beginning"),
        pytest.param(
            [(OPENAI, LONG), (OPENAI, names([(OPENAI, LONG)])[OPENAI, LONG].removeprefix("openai_"))],
            id="one called like the shortened name of another",
        ),
        pytest.param(
            [(Reference.parse("c:local.a-b"), "c"), (Reference.parse("c:local.a"), "b_c"), (OPENAI, LONG)],
            id="names that only look alike",
        ),
    ],
)
def test_names_are_such_as_clients_take_and_no_two_are_the_same(operations: list[tuple[Reference, str]]) -> None:
    found = list(names(operations).values())
    assert len(set(found)) == len(operations)
    assert all(re.fullmatch(rf"[a-zA-Z][a-zA-Z0-9_-]{{0,{LONGEST - 1}}}", name) for name in found)


def test_a_shortened_name_stays_the_same_whatever_else_is_installed() -> None:
    alone = names([(OPENAI, LONG)])[OPENAI, LONG]
    among = names([(OTHER, "x"), (OPENAI, LONG), (OPENAI, "y")])[OPENAI, LONG]
    assert alone == among
    assert alone.startswith("openai_aaaa")
