"""`host config`: what people type, and what a catalyst then reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from host.cli import main

Typed = Callable[..., Result]

ALL = "c:local.openai"
ONE = "c:local.openai:0.1.0"


@pytest.fixture
def typed(state: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """`typed("set", …)` is `host config set …`."""
    for name in ("HOST_DATABASE", "HOST_MASTER_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOST_STATE_DIR", str(state))
    return lambda *arguments: CliRunner().invoke(main, ["config", *arguments])


def shown(typed: Typed, *arguments: str) -> object:
    ran = typed("show", *arguments, "--json")
    assert (ran.exit_code, ran.stderr) == (0, "")
    return json.loads(ran.stdout)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        pytest.param(["base_url", "https://a.test/?a=b"], {"base_url": "https://a.test/?a=b"}, id="a key and a value"),
        pytest.param(["retries", "2"], {"retries": "2"}, id="a number that is a text"),
        pytest.param(["retries:=2"], {"retries": 2}, id="a number that is one"),
        pytest.param(["a=1", "b:=[true]"], {"a": "1", "b": [True]}, id="several"),
        pytest.param(["a=1", "b=2"], {"a": "1", "b": "2"}, id="two with equal signs are two keys"),
        pytest.param(["a="], {"a": ""}, id="an empty text"),
    ],
)
def test_what_is_set(typed: Typed, words: list[str], kept: object) -> None:
    assert typed("set", ALL, *words).exit_code == 0
    assert shown(typed, ALL) == kept


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["base_url"], id="a key alone"),
        pytest.param(["a=1", "b"], id="a key alone behind another"),
        pytest.param(["a=1", "b:={"], id="what is no JSON"),
        pytest.param(["a=1", "no key=2"], id="what is no key"),
        pytest.param(["a=1", "=2"], id="no key at all"),
    ],
)
def test_a_mistake_in_one_sets_none(typed: Typed, words: list[str]) -> None:
    ran = typed("set", ALL, *words)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert shown(typed) == {}


SCHEMA = {
    "config": {
        "type": "object",
        "additionalProperties": False,
        "required": ["base_url", "region"],
        "properties": {"base_url": {"type": "string"}, "region": {"type": "string"}, "retries": {"type": "integer"}},
    }
}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["base_ur=https://a.test"], "did you mean base_url?", id="a slip in a key"),
        pytest.param(["retries=2"], "config.retries", id="a text for a number"),
        pytest.param(["region=eu", "retries:=[]"], "config.retries", id="one of several"),
    ],
)
def test_what_the_manifest_does_not_take_is_not_set(
    typed: Typed, program: Callable[..., Any], tool: Callable[..., Path], words: list[str], says: str
) -> None:
    program("register", tool(id="catalyst:local.openai", schema=SCHEMA))
    ran = typed("set", ALL, *words)
    assert (ran.exit_code, says in ran.stderr) == (2, True), ran.stderr
    assert shown(typed) == {}
    assert typed("set", ALL, "region", "eu").exit_code == 0  # base_url may come later


def test_a_version_reads_its_own_over_what_is_set_for_all(typed: Typed) -> None:
    typed("set", ALL, "a=1", "b=1")
    typed("set", ONE, "b=2")
    assert shown(typed, ONE) == {"b": "2"}
    assert shown(typed, ONE, "--effective") == {"a": "1", "b": "2"}
    assert shown(typed) == {ALL: {"a": "1", "b": "1"}, ONE: {"b": "2"}}
    assert [line.split() for line in typed("show", ONE, "--effective").stdout.splitlines()[1:]] == [
        ["a", "1"],
        ["b", "2"],
    ]


def test_what_is_unset_is_gone(typed: Typed) -> None:
    typed("set", ALL, "a=1", "b=1")
    assert typed("unset", ALL, "a").stderr == "no longer set for c:local.openai: a\n"
    assert shown(typed, ALL) == {"b": "1"}
    assert typed("unset", ALL, "a").stderr == "a was not set for c:local.openai\n"
    typed("unset", ALL, "--yes")
    assert typed("unset", ALL, "--yes").stderr == "nothing was set for c:local.openai\n"
    assert typed("show", ALL).stderr == "nothing is set\n"
