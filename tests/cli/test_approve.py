"""`host approve`: what the operator is shown, and that only a yes is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("waiting")


@pytest.fixture
def waiting(state: Path, program: Any, tool: Any) -> Path:
    """A state in which the new bytes of a tool ask for another domain, and wait."""
    program("register", tool(domains=["old.example"]))
    program("policy", "set", "c:local.tool", "allowed_domains", '["old.example"]')
    program("secret", "grant", "c:local.tool", "KEY")
    program("register", tool(domains=["new.example"]), "--replace")
    return state


def test_the_page_says_who_signed_what_is_more_what_is_less_and_what_is_granted(program: Any) -> None:
    shown = program("approve", "c:local.tool").out.splitlines()
    assert [line.strip() for line in shown[1:]] == [
        "signed by nobody that is trusted",
        "",
        "it asks for",
        "+ domain new.example",
        "- domain old.example",
        "",
        "it will be granted",
        "domains old.example",
        "secrets KEY",
    ]


@pytest.mark.parametrize("answer", ["", "n"])
def test_on_a_terminal_nothing_but_a_yes_approves(program: Any, terminal: Any, answer: str) -> None:
    screen = terminal("approve", "c:local.tool")
    screen.expect("Approve these bytes?")
    screen.send(f"{answer}\n")
    assert screen.finish().status == 5
    assert program("run", "c:local.tool", "--input", "{}").status == 5


def test_a_yes_that_comes_through_a_pipe_is_none(program: Any) -> None:
    assert program("approve", "c:local.tool", stdin="y\n").status == 5
    assert program("run", "c:local.tool", "--input", "{}").status == 5
