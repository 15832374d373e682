"""A slip of the pen is answered with the name that was meant, whatever it is a name of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def kept(state: Path, program: Any, tool: Any) -> Path:
    program("register", tool(domains=["api.example"], secrets=["TOOL_KEY"]))
    program("secret", "set", "OPENAI_API_KEY=sk-9f86d081884c7d65")
    program("key", "create", "--name", "notebook", "--type", "secret")
    program("signing-key", "generate", "acme")
    return state


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("words", "status", "meant"),
    [
        pytest.param(["rnu"], 2, "run", id="a command"),
        pytest.param(["runs", "lst"], 2, "list", id="a command of a group"),
        pytest.param(["list", "--jsno"], 2, "--json", id="an option"),
        pytest.param(["run", "c:local.tol", "--input", "{}"], 2, "c:local.tool", id="a reference"),
        pytest.param(["inspect", "c:local.toll"], 2, "c:local.tool", id="a reference to look at"),
        pytest.param(["unregister", "c:lokal.tool", "--yes"], 2, "c:local.tool", id="a namespace"),
        pytest.param(["approve", "c:local.tol"], 2, "c:local.tool", id="a reference to approve"),
        pytest.param(["pin", "c:local.tool", "0.1.1"], 2, "0.1.0", id="a version"),
        pytest.param(["secret", "get", "OPENAI_APIKEY"], 2, "OPENAI_API_KEY", id="a secret"),
        pytest.param(["secret", "delete", "OPENAI_KEY", "--yes"], 2, "OPENAI_API_KEY", id="a secret to delete"),
        pytest.param(["secret", "which", "OPENAPI_API_KEY"], 2, "OPENAI_API_KEY", id="a secret to look for"),
        pytest.param(["key", "revoke", "notebok", "--yes"], 2, "notebook", id="an API key"),
        pytest.param(["sign", "c:local.tool", "--key", "acne"], 2, "acme", id="a signing key"),
        pytest.param(["policy", "set", "c:local.tol", "timeout", "5s"], 0, "c:local.tool", id="the target of a policy"),
        pytest.param(["policy", "set", "c:local.tool", "time_out", "5s"], 2, "timeout", id="a field"),
        pytest.param(["config", "set", "c:local.tol", "base_url=x"], 0, "c:local.tool", id="what reads a setting"),
        pytest.param(["docs", "polcy"], 2, "policy", id="a document"),
        pytest.param(["audit", "list", "--kind", "run.strted"], 0, "run.started", id="a kind of record"),
        pytest.param(["mcp", "--reference", "c:local.tol"], 0, "c:local.tool", id="a reference to serve"),
        pytest.param(["secret", "grant", "c:local.tool", "TOOL_KYE"], 0, "TOOL_KEY", id="a secret to grant"),
        pytest.param(
            ["key", "create", "--name", "other", "--type", "secret", "--catalyst", "c:local.tol"],
            0,
            "c:local.tool",
            id="the catalyst of a key",
        ),
    ],
)
def test_what_was_meant(program: Any, words: list[str], status: int, meant: str) -> None:
    ran = program(*words)
    assert ran.status == status, ran.err
    said = ran.err.lower()
    assert "did you mean" in said or "its versions are" in said
    assert meant.lower() in said


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        pytest.param(["key", "create", "--operatios"], "Did you mean '--operation'?", id="a slip of a former name"),
        pytest.param(
            ["trust", "require", "--defaults"], "No such option '--defaults'.", id="near to a former name alone"
        ),
    ],
)
def test_an_options_former_name_is_not_suggested(program: Any, words: list[str], meant: str) -> None:
    ran = program(*words)
    assert ran.status == 2
    assert ran.err.rstrip().endswith(meant)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("words", [["zzzz"], ["inspect", "c:else.where"], ["secret", "get", "QQQQ"]])
def test_nothing_is_guessed_where_nothing_is_near(program: Any, words: list[str]) -> None:
    ran = program(*words)
    assert ran.status == 2
    assert "did you mean" not in ran.err.lower()
