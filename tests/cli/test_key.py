"""`host key`: keys of a server, each shown once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from host.runtime.workspace import Workspace
from host.store.access.key_text import id_in
from host.store.access.usage import Used

EVERYTHING = [
    "--name", "web front end", "--type", "secret", "--scope", "run,metrics", "--rate-limit", "100/1m",
    "--request-budget", "10k/1d", "--token-budget", "2M/30d", "--allow-address", "10.0.0.0/8,192.0.2.7", "--allow-address",
    "2001:db8::/32", "--model", "gpt-*", "--model", "o3, o4-mini", "--catalyst", "catalyst:local.openai,c:local.other:1.0.0",
    "--expires", "90d",
]  # fmt: skip


@pytest.fixture
def ci(program: Any, state: Path) -> str:
    """The text of a key that is called so."""
    return str(program("key", "create", "--name", "ci", "--type", "secret").out).strip()


def gets_in(state: Path, text: str) -> bool:
    with Workspace.open(state) as workspace:
        return workspace.api_keys.snapshot().authenticate(text, time.time()) is not None


def test_the_key_is_alone_on_standard_output_and_the_words_are_not(program: Any, state: Path) -> None:
    ran = program("key", "create", "--name", "ci", "--type", "secret")
    (text,) = ran.out.splitlines()
    assert ran.status == 0
    assert id_in(text)
    assert gets_in(state, text)
    assert f"the key 'ci' ({id_in(text)}) is shown this once: store it" in ran.err
    assert "it is the first: from now on, host serve asks everybody for a key" in ran.err
    assert text not in ran.err
    assert "it is the first" not in program("key", "create", "--name", "other", "--type", "public").err


def test_for_a_program_it_is_one_object(program: Any, state: Path) -> None:
    made = json.loads(program("key", "create", "--json", *EVERYTHING).out)
    text, expires_at = made.pop("key"), made.pop("expires_at")
    assert gets_in(state, text)
    assert expires_at == pytest.approx(time.time() + 90 * 86_400, abs=600)
    assert made.pop("created_at") == pytest.approx(time.time(), abs=600)
    assert made == {
        "id": id_in(text),
        "name": "web front end",
        "type": "secret",
        "scopes": ["run", "metrics"],
        "rate_limit": "100/1m",
        "request_budget": "10k/1d",
        "token_budget": "2M/30d",
        "ip_allowlist": ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"],
        "models": ["gpt-*", "o3", "o4-mini"],
        "catalysts": ["c:local.openai", "c:local.other:1.0.0"],
        "revoked_at": None,
        "rotated_at": None,
        "state": "active",
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--name", "a\nb"], "--name: 'a\\nb' is no name for a key", id="a name"),
        pytest.param(["--scope", "all"], "--scope: 'all' is no scope", id="a scope"),
        pytest.param(["--scope", "run,manage"], "--scope: a key of the type secret cannot have the scope manage", id="a scope beyond the type"),
        pytest.param(["--rate-limit", "100"], "--rate-limit: not a quota: '100' does not say in how long", id="a rate"),
        pytest.param(["--request-budget", "0/1d"], "--request-budget: not a quota: its amount is 0", id="a budget"),
        pytest.param(["--token-budget", "x/1d"], "--token-budget: not a quota: 'x' is not an amount", id="a budget of tokens"),
        pytest.param(["--allow-address", "10.0.0.1/8"], "--allow-address: 10.0.0.1/8 has host bits set", id="a network"),
        pytest.param(["--model", "gpt-4,"], "--model: '' names no models", id="a comma too much"),
        pytest.param(["--catalyst", "openai"], "--catalyst: 'openai' is not a reference", id="a reference"),
        pytest.param(["--catalyst", "f:local.flow"], "--catalyst: f:local.flow is no catalyst", id="a formula"),
        pytest.param(["--operation", "chat *"], "--operation: 'chat *' names no operations", id="operations"),
        pytest.param(["--model", ""], "--model: '' names no models", id="no model, as a variable that is not set gives it"),
        pytest.param(["--token-budget", ""], "--token-budget: not a quota", id="no budget, as such a variable gives it"),
        pytest.param(["--expires", "soon"], "--expires: 'soon' is not a time", id="a time"),
        pytest.param(["--expires", "2020-01-01"], "--expires: it would have expired already", id="a time that is over"),
    ],
)  # fmt: skip
def test_a_mistake_names_the_option(program: Any, state: Path, options: list[str], said: str) -> None:
    ran = program("key", "create", "--name", "ci", "--type", "secret", *options)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {said}")
    assert program("key", "list", "--json").out == "[]\n"


def test_a_type_that_is_none_is_a_mistake(program: Any, state: Path) -> None:
    ran = program("key", "create", "--name", "ci", "--type", "root")
    assert (ran.status, ran.out) == (2, "")
    assert "--type" in ran.err


def test_a_second_key_of_a_name_is_a_mistake_that_says_what_else(program: Any, state: Path, ci: str) -> None:
    ran = program("key", "create", "--name", "ci", "--type", "public")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.splitlines() == [
        "error: --name: there is a key 'ci' already",
        "hint: host key rotate ci gives it a new text, and revoke ends it",
    ]


def test_the_list_has_what_each_may_and_no_key(program: Any, state: Path, ci: str) -> None:
    other = program("key", "create", *EVERYTHING).out.strip()
    program("key", "revoke", "ci", "--yes")
    ran = program("key", "list")
    head, first, second = ran.out.splitlines()
    assert (ran.status, ran.err) == (0, "")
    assert head.split() == ["ID", "NAME", "TYPE", "STATE", "EXPIRES", "LIMITS"]
    assert first.split() == [id_in(ci), "ci", "secret", "revoked"]
    assert second.split()[:6] == [id_in(other), "web", "front", "end", "secret", "active"]
    assert (
        "  scopes run,metrics, rate-limit 100/1m, request-budget 10k/1d, token-budget 2M/30d, ip-allowlist 10.0.0.0/8"
        in second
    )
    for text in (ci, other):
        assert text[20:] not in ran.out + program("key", "list", "--json").out


def test_its_operations_are_shown_and_those_that_a_public_key_has_by_default(program: Any, state: Path) -> None:
    program("key", "create", "--name", "web", "--type", "public", "--operation", "chat.*, models.list")
    program("key", "create", "--name", "page", "--type", "public")
    listed = program("key", "list").out.splitlines()
    assert "operations chat.*,models.list" in listed[1]
    assert "operations those that are public, or read" in listed[2]
    assert "operations  chat.*,models.list" in program("key", "show", "web").out
    assert json.loads(program("key", "show", "web", "--json").out)["operations"] == ["chat.*", "models.list"]


class TestUpdate:
    def test_changes_what_is_given(self, program: Any, state: Path, ci: str) -> None:
        ran = program(
            "key", "update", "ci", "--operation", "chat.*", "--model", "gpt-*,o3", "--token-budget", "1k/1d", "--json"
        )
        assert ran.status == 0
        found = json.loads(ran.out)
        assert (found["operations"], found["models"], found["token_budget"]) == (["chat.*"], ["gpt-*", "o3"], "1k/1d")
        assert gets_in(state, ci)
        assert "models        gpt-*,o3" in program("key", "show", "ci").out

    def test_takes_a_bound_away_by_a_word(self, program: Any, state: Path, ci: str) -> None:
        program(
            "key",
            "update",
            "ci",
            "--operation",
            "chat.*",
            "--token-budget",
            "1k/1d",
            "--expires",
            "1d",
            "--scope",
            "run",
        )
        ran = program(
            "key", "update", "ci", *(f"--{one}=none" for one in ("operations", "token-budget", "expires", "scope"))
        )
        assert ran.status == 0
        found = json.loads(program("key", "show", "ci", "--json").out)
        assert (found.get("operations"), found["token_budget"], found["expires_at"]) == (None, None, None)
        assert found["scopes"] == ["run", "runs", "components"]

    def test_of_nothing_is_a_mistake(self, program: Any, state: Path, ci: str) -> None:
        ran = program("key", "update", "ci")
        assert (ran.status, ran.out) == (2, "")
        assert "nothing is to be changed" in ran.err

    def test_of_an_empty_text_widens_nothing(self, program: Any, state: Path, ci: str) -> None:
        program("key", "update", "ci", "--model", "gpt-4o")
        assert program("key", "update", "ci", "--model", "").status == 2
        assert json.loads(program("key", "show", "ci", "--json").out)["models"] == ["gpt-4o"]


def test_there_are_none(program: Any, state: Path) -> None:
    ran = program("key", "list")
    assert (ran.status, ran.out) == (0, "")
    assert ran.err == "there are no keys: host key create --name ci --type secret\n"


def test_one_key_is_a_page_with_what_was_used(program: Any, state: Path, ci: str) -> None:
    ident = id_in(ci)
    assert "nothing was used with it yet" in program("key", "show", "ci").out
    with Workspace.open(state) as workspace:
        workspace.usage.add(
            [
                Used("2026-11-20", ident, "c:local.openai:0.1.0", 7, 2, 30, 40),
                Used("2026-11-20", "another", "c:local.openai:0.1.0", 99),
            ]
        )
    ran = program("key", "show", ident)
    facts, _, used = ran.out.partition("\n\n")
    assert [line.split()[0] for line in facts.splitlines()] == ["name", "id", "type", "state", "scopes", "created"]
    assert used.splitlines()[1].split() == ["2026-11-20", "c:local.openai:0.1.0", "7", "2", "30", "40"]
    assert "99" not in used
    assert json.loads(program("key", "show", "ci", "--json").out)["usage"] == [
        {
            "day": "2026-11-20",
            "key": ident,
            "catalyst": "c:local.openai:0.1.0",
            "requests": 7,
            "failed": 2,
            "input_tokens": 30,
            "output_tokens": 40,
        }
    ]


def test_a_rotated_key_has_a_new_text(program: Any, state: Path, ci: str) -> None:
    ran = program("key", "rotate", "ci", "--yes")
    assert (ran.status, ran.err.splitlines()[-1]) == (0, "the old one is over")
    assert id_in(ran.out.strip()) == id_in(ci)
    assert [gets_in(state, text) for text in (ci, ran.out.strip())] == [False, True]


def test_with_an_overlap_the_old_text_goes_on_for_a_while(program: Any, state: Path, ci: str) -> None:
    ran = program("key", "rotate", "ci", "--overlap", "1h", "--json")
    assert "the old one works until" in ran.err
    assert [gets_in(state, text) for text in (ci, json.loads(ran.out)["key"])] == [True, True]
    ran = program("key", "rotate", "ci", "--overlap", "a while")
    assert (ran.status, ran.err.splitlines()[0]) == (2, "error: --overlap: 'a while' is not a duration")


def test_a_revoked_key_is_over(program: Any, state: Path, ci: str) -> None:
    ran = program("key", "revoke", "ci", "--yes")
    assert (ran.status, ran.out) == (0, "")
    assert ran.err.splitlines() == [
        f"revoked: ci ({id_in(ci)})",
        "it was the last active key: host serve lets nobody in until there is another (host key create)",
    ]
    assert not gets_in(state, ci)
    assert program("key", "rotate", "ci", "--yes").status == 2


@pytest.mark.parametrize("do", ["show", "rotate", "revoke"])
def test_there_is_no_such_key(program: Any, state: Path, do: str) -> None:
    ran = program("key", do, "ci")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.splitlines() == ["error: no key is called 'ci'", "hint: host key list shows those there are"]


def test_each_change_is_on_record(program: Any, state: Path, ci: str) -> None:
    program("key", "rotate", "ci", "--yes")
    program("key", "revoke", "ci", "--yes")
    records = program("audit", "list", "--json").out
    assert all(f"api_key.{what}" in records for what in ("created", "rotated", "revoked"))
    assert ci[20:] not in records
    assert program("audit", "verify").status == 0
