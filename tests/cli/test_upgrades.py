"""An upgrade at the command line: what serves, what waits, and `host pin`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def granted(state: Path, program: Any, tool: Any) -> Path:
    """A tool to which something is granted."""
    program("register", tool(domains=["a.example"]))
    program("policy", "set", "c:local.tool", "allowed_domains", '["a.example"]')
    return state


def short(program: Any, version: str, *, approved: bool) -> str:
    found = json.loads(program("list", "--json").out)
    (one,) = [one for one in found if one["reference"].endswith(version) and one["approved"] is approved]
    return str(one["digest"])[7:19]


@pytest.mark.usefixtures("granted")
@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_everything_says_which_serves_which_waits_and_how_it_is_approved(program: Any, tool: Any, version: str) -> None:
    file = tool("later.wasm", domains=["b.example"], version=version)
    ran = program("register", file, "--replace")
    file.unlink()
    waits = f"waits: c:local.tool:{version} ({short(program, version, approved=False)})"
    serves = f"serves: c:local.tool:0.1.0 ({short(program, '0.1.0', approved=True)})"
    waits += f" is not approved yet: host approve c:local.tool:{version}"
    assert ran.err.splitlines() == [waits, serves]
    listed = program("list")
    states = {tuple(row.split()[:1] + row.split()[4:5]) for row in listed.out.splitlines()[1:]}
    assert states == {("c:local.tool:0.1.0", "serves"), (f"c:local.tool:{version}", "waits")}
    assert listed.err.splitlines() == [waits]
    page = program("inspect", "c:local.tool").out
    assert "serves   yes\n" in page
    assert f"waits    c:local.tool:{version} (" in page
    facts = json.loads(program("inspect", "c:local.tool", "--json").out)
    assert list(facts["waiting"]) == [f"c:local.tool:{version}"]
    assert facts["serves"] is True
    assert program("run", "c:local.tool", "--input", "{}").status == 0
    assert program("approve", f"c:local.tool:{version}", "--yes").status == 0
    assert program("run", "c:local.tool", "--input", "{}").status == 0
    assert "waits" not in program("inspect", "c:local.tool").out + program("list").out
    assert short(program, version, approved=True) == waits.partition("(")[2].partition(")")[0]


@pytest.mark.usefixtures("granted")
def test_a_pin_is_said_wherever_another_version_could_be_meant(program: Any, tool: Any) -> None:
    serves = f"serves: c:local.tool:0.1.0 ({short(program, '0.1.0', approved=True)}), pinned: host unpin c:local.tool lets it go"
    assert program("pin", "c:local.tool", "0.1.0").err.splitlines() == [serves]
    program("register", tool("later.wasm", domains=["b.example"], version="0.2.0"))
    assert program("approve", "c:local.tool", "--yes").err.splitlines()[-1] == serves
    assert [row.split()[4] for row in program("list").out.splitlines()[1:]] == ["approved", "pinned"]
    assert "serves   yes, pinned: `host unpin` lets it go" in program("inspect", "c:local.tool").out
    assert "serves   no" in program("inspect", "c:local.tool:0.2.0").out
    assert program("unregister", "c:local.tool:0.1.0").status == 2
    assert program("unpin", "c:local.tool").err.startswith("serves: c:local.tool:0.2.0 (")


@pytest.mark.usefixtures("granted")
@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        pytest.param(["c:local.tool:0.1.0"], 0, "serves: c:local.tool:0.1.0", id="in one word"),
        pytest.param(["c:local.tool"], 2, "one version is pinned", id="no version"),
        pytest.param(["c:local.tool", "latest"], 2, "host unpin c:local.tool", id="the latest"),
        pytest.param(["c:local.tool:0.1.0", "0.2.0"], 2, "one version", id="two versions"),
        pytest.param(["c:local.tool", "9.9.9"], 2, "there is no c:local.tool:9.9.9", id="an unknown one"),
        pytest.param(["c:local.tool", "../x"], 2, "version", id="none at all"),
    ],
)
def test_what_is_pinned(program: Any, words: list[str], status: int, said: str) -> None:
    ran = program("pin", *words)
    assert ran.status == status
    assert said in ran.err


@pytest.mark.usefixtures("granted")
def test_what_waits_is_turned_away_and_what_serves_stays(program: Any, tool: Any) -> None:
    program("register", tool(domains=["b.example"]), "--replace")
    assert program("unregister", "c:local.tool", "--waiting").status == 0
    assert [one["serves"] for one in json.loads(program("list", "--json").out)] == [True]
