"""What cannot be undone: asked on a terminal, refused without one in one line that names `--yes`, and done with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_vocabulary import ASKING

REF = "c:local.tool"
VALUE = "a-long-enough-value-0123456789"

# Each command, and what has to be there before.
IRREVERSIBLE = {
    "audit accept": [],
    "audit prune": ["--older-than", "1d"],
    "config unset": [REF],
    "key rotate": ["ci"],
    "key revoke": ["ci"],
    "policy reset": [REF],
    "secret get": ["TOKEN", "--reveal"],
    "secret delete": ["TOKEN"],
    "trust revoke": ["KEY"],
    "unregister": [REF],
}


@pytest.fixture
def kept(program: Any, state: Path, tool: Callable[..., Path]) -> list[str]:
    """All that these commands could end. The id of a trusted key."""
    assert program("register", tool()).status == 0
    assert program("key", "create", "--name", "ci", "--type", "secret").status == 0
    assert program("secret", "set", "TOKEN", stdin=VALUE).status == 0
    assert program("policy", "set", REF, "timeout", "30s").status == 0
    assert program("config", "set", REF, "a", "b").status == 0
    pem = program("signing-key", "generate", "acme").out
    return [program("trust", "add", "-", "--namespace", "acme", stdin=pem).out.strip()]


def test_the_table_has_every_command_that_asks() -> None:
    assert IRREVERSIBLE.keys() == ASKING - {"approve"}, "approve has tests of its own"


def test_without_a_terminal_it_is_refused_in_one_line_that_names_yes(program: Any, kept: list[str]) -> None:
    before = [program(*words.split(), "--json").out for words in ("list", "key list", "secret list", "trust list")]
    for command, arguments in IRREVERSIBLE.items():
        words = [kept[0] if word == "KEY" else word for word in arguments]
        ran = program(*command.split(), *words)
        assert (ran.status, ran.out) == (2, ""), command
        assert len(ran.err.splitlines()) == 1, ran.err
        assert ran.err.startswith("error: ")
        assert "add --yes" in ran.err
        assert VALUE not in ran.err
    assert before == [
        program(*words.split(), "--json").out for words in ("list", "key list", "secret list", "trust list")
    ]


def test_with_yes_it_is_done_and_says_so_in_json(program: Any, kept: list[str]) -> None:
    for command, arguments in IRREVERSIBLE.items():
        words = [kept[0] if word == "KEY" else word for word in arguments]
        ran = program(*command.split(), *words, "--yes", "--json")
        assert (ran.status, ran.out[:1] in ("{", "[")) == (0, True), f"{command}: {ran.err}"


@pytest.mark.parametrize(("answer", "left"), [("n", True), ("y", False)])
def test_on_a_terminal_the_answer_decides(
    program: Any, terminal: Any, kept: list[str], answer: str, left: bool
) -> None:
    one = terminal("secret", "delete", "TOKEN")
    one.expect("Delete TOKEN for good? [y/N]:")
    one.send(f"{answer}\n")
    assert one.finish().status == (2 if left else 0)
    assert (program("secret", "get", "TOKEN").status == 0) is left


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["key", "revoke", "nobody"], "no key is called 'nobody'"),
        (["unregister", "c:local.none"], "there is no c:local.none"),
        (["secret", "delete", "NONE"], "NONE is not kept"),
        (["trust", "revoke", "sha256:0123456789"], "no trusted key"),
        (["audit", "prune", "--older-than", "a while"], "--older-than: 'a while' is not a time"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_comes_before_the_question(program: Any, state: Path, words: list[str], said: str) -> None:
    ran = program(*words)
    assert ran.status == 2
    assert said in ran.err
    assert "--yes" not in ran.err


def test_what_is_set_again_in_a_line_is_not_asked_about(program: Any, kept: list[str]) -> None:
    assert program("policy", "reset", REF, "timeout").status == 0
    assert program("config", "unset", REF, "a").status == 0
    assert program("key", "rotate", "ci", "--overlap", "1h").status == 0
    assert program("policy", "reset", REF).err == f"nothing was set for all versions of {REF}\n"
