"""`host approve`: what the operator is shown, and that only a yes is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from host.component.manifest import embed
from host.component.wasm import MANIFEST_SECTION, append_section
from tests.conftest import wat


@pytest.fixture
def waiting(state: Path, program: Any, tool: Any) -> Path:
    """A state in which the new bytes of a tool ask for another domain, and wait."""
    program("register", tool(domains=["old.example"]))
    program("policy", "set", "c:local.tool", "allowed_domains", '["old.example"]')
    program("secret", "grant", "c:local.tool", "KEY")
    program("register", tool(domains=["new.example"]), "--replace")
    return state


@pytest.mark.usefixtures("waiting")
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


@pytest.mark.usefixtures("state")
def test_the_page_says_what_keys_may_run_that_they_could_not_before(program: Any, tool: Any) -> None:
    before = {"files.list": {"method": "GET", "path": "/files"}}
    more = {f"admin.{n}": {"method": "GET", "path": f"/admin/{n}", "secret": "ADMIN"} for n in ("a", "b")}
    program("register", tool(domains=["old.example"], operations=before))
    program("policy", "set", "c:local.tool", "allowed_domains", '["old.example"]')
    more["client_secrets.create"] = {"method": "POST", "path": "/client_secrets", "apart": True}
    operations = {**before, "chat": {"method": "POST", "path": "/chat", "public": False}, **more}
    program("register", tool(domains=["new.example"], operations=operations), "--replace")
    shown = program("approve", "c:local.tool").out
    assert "\nit has 4 more operations: chat.* (1), admin.* (2), client_secrets.* (1)\n" in shown
    but = "those with the secret ADMIN and those that hand out credentials"
    assert f"API keys without --operation may run them, but for {but}; a public key those that are marked" in shown


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("answer", ["", "n"])
def test_on_a_terminal_nothing_but_a_yes_approves(program: Any, terminal: Any, answer: str) -> None:
    screen = terminal("approve", "c:local.tool")
    screen.expect("Approve these bytes?")
    screen.send(f"{answer}\n")
    assert screen.finish().status == 5
    assert serving(program) == "old.example"


def serving(program: Any) -> str:
    """The domain of the bytes that serve, which run."""
    assert program("run", "c:local.tool", "--input", "{}").status == 0
    (domains,) = [one["manifest"]["domains"] for one in json.loads(program("list", "--json").out) if one["serves"]]
    return str(domains[0])


@pytest.mark.usefixtures("waiting")
def test_a_yes_that_comes_through_a_pipe_is_none(program: Any) -> None:
    assert program("approve", "c:local.tool", stdin="y\n").status == 5
    assert serving(program) == "old.example"
    assert program("approve", "c:local.tool", "--yes").status == 0
    assert serving(program) == "new.example"


@pytest.fixture
def own(state: Path, program: Any, tool: Any) -> Path:
    """A state with a tool of the operator's own, to which something is granted."""
    program("register", tool("own.wasm", domains=["own.example"]))
    program("policy", "set", "c:local.tool", "allowed_domains", '["own.example"]')
    return state


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("version", ["9.9.9", "0.1.1", "0.1.0-rc.1", "99.0.0-alpha"])
def test_a_downloaded_file_that_names_itself_as_the_operators_own_gets_nothing_and_stops_nothing(
    program: Any, tool: Any, version: str
) -> None:
    file = tool("Downloads/tool.wasm", domains=["own.example"], version=version, description="Theirs")
    ran = program("register", file)
    assert ran.status == 0
    assert f"not approved yet: host approve c:local.tool:{version}" in ran.err
    assert program("run", "c:local.tool", "--input", "{}").status == 0  # the operator's own
    assert program("run", f"c:local.tool:{version}", "--input", "{}").status == 5
    shown = program("approve", "c:local.tool").out.splitlines()
    assert shown[0].startswith(f"c:local.tool:{version}: ")
    assert "it asks for the same as before" in shown
    assert program("approve", "c:local.tool", "--yes").status == 0
    assert program("run", f"c:local.tool:{version}", "--input", "{}").status == 0


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 5), ("", 5)])
def test_on_a_terminal_register_asks_at_once(program: Any, tool: Any, terminal: Any, answer: str, status: int) -> None:
    file = tool("Downloads/tool.wasm", domains=["other.example"], version="9.9.9")
    screen = terminal("register", str(file))
    screen.expect("+ domain other.example")
    screen.expect("Approve these bytes?")
    screen.send(f"{answer}\n")
    assert screen.finish().status == 0
    assert program("run", "c:local.tool:9.9.9", "--input", "{}").status == status


@pytest.mark.usefixtures("state")
def test_a_file_that_is_run_gets_nothing_of_the_name_that_it_gives_itself(program: Any, tmp_path: Path) -> None:
    said = {
        "id": "catalyst:local.printer",
        "version": "0.1.0",
        "wasi": {"secrets": True},
        "secrets": ["OPENAI_API_KEY"],
    }
    file = tmp_path / "printer.wasm"
    file.write_bytes(embed(wat("secret_printer"), json.dumps(said).encode()))
    program("register", file)
    program("policy", "set", "c:local.printer", "allowed_domains", '["api.openai.com"]')
    program("secret", "set", "OPENAI_API_KEY=sk-9f86d081884c7d65")
    program("secret", "grant", "c:local.printer", "OPENAI_API_KEY")
    assert "refused" not in program("run", "c:local.printer", "--input", "{}").out  # what the name gets
    assert "refused" in program("run", file, "--input", "{}", "--no-prompt").out


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    "name",
    [
        "Local.tool",
        "local.Tool",
        "local.t\u043eol",
        "local.tool\u200b",
        "\uff4cocal.tool",
        "local.tool ",
        "local..tool",
    ],
)
def test_a_name_that_looks_like_the_operators_own_is_none(program: Any, tmp_path: Path, name: str) -> None:
    file = tmp_path / "theirs.wasm"
    said = {"id": f"catalyst:{name}", "version": "9.9.9", "domains": ["own.example"]}
    file.write_bytes(append_section(wat("hostile/returns_not_json"), MANIFEST_SECTION, json.dumps(said).encode()))
    assert program("register", file).status in (2, 5)
    assert [one["reference"] for one in json.loads(program("list", "--json").out)] == ["c:local.tool:0.1.0"]
