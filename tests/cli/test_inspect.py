"""`host inspect`: one page that says what a component can and cannot reach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from host.component.wasm import MANIFEST_SECTION, SBOM_SECTION, append_section
from tests.conftest import KEY, wat

GRANTS = ["--allow-domain", "api.openai.com", "--secret", "OPENAI_API_KEY"]


def table(page: str) -> dict[str, tuple[str, str]]:
    """Authority -> whether it can, and what is said of it."""
    lines = page.partition("what it can reach\n")[2].partition("\n\n")[0].splitlines()
    rows = [(line[2:24].rstrip(), line[25:29].strip(), line[30:]) for line in lines if line[2] != " "]
    return {authority: (can, what) for authority, can, what in rows}


def test_with_nothing_granted_it_reaches_nobody(program: Any, openai_file: Path) -> None:
    ran = program("inspect", openai_file)
    assert (ran.status, ran.err) == (0, "")
    assert table(ran.out) == {
        "HTTP requests": ("no", "api.openai.com is asked for, not granted"),
        "streamed answers": ("no", "api.openai.com is asked for, not granted"),
        "WebSockets": ("no", "api.openai.com is asked for, not granted"),
        "secrets": ("no", "OPENAI_ADMIN_KEY is asked for, not granted"),
        "events to its caller": ("yes", ""),
        "its configuration": ("yes", ""),
        "log messages": ("yes", ""),
        "files": ("no", "never: no import leads there"),
        "sockets": ("no", "never: no import leads there"),
        "environment variables": ("no", "never: no import leads there"),
        "other programs": ("no", "never: no import leads there"),
        "other catalysts": ("no", "never: no import leads there"),
    }
    assert f"add {' '.join(GRANTS)}\n" in ran.out


def test_with_the_options_of_run_it_says_what_they_allow(program: Any, openai_file: Path) -> None:
    sent = ["--upstream", "https://api.openai.com=http://127.0.0.1:4747"]
    ran = program("inspect", openai_file, *GRANTS, *sent, env={"OPENAI_API_KEY": KEY})
    rows = table(ran.out)
    assert rows["HTTP requests"] == ("yes", "api.openai.com, sent to http://127.0.0.1:4747")
    assert rows["secrets"] == ("yes", "OPENAI_API_KEY, in a header, to api.openai.com")
    assert "to grant what it asks for" not in ran.out
    assert KEY not in ran.out


def test_a_domain_that_it_does_not_ask_for_is_not_reached_by_granting_it(program: Any, openai_file: Path) -> None:
    rows = table(program("inspect", openai_file, "--allow-domain", "evil.example").out)
    assert rows["HTTP requests"] == ("no", "api.openai.com is asked for, not granted")


def test_the_page_has_the_digest_the_imports_and_the_limits(program: Any, openai_file: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text('timeout = "5s"\nmax_memory_bytes = 67108864\nmax_http_requests = 2\n')
    page = program("inspect", openai_file, "--policy", "policy.toml").out
    assert page.splitlines()[0] == f"{openai_file} catalyst:local.openai 0.1.0"
    assert "\nlimits   5 s, 10 s of CPU, 64 MiB of memory, 2 requests a run\n" in page
    assert "\nexports  cyfr:catalyst/run@0.1.0\nimports  cyfr:http/fetch@0.1.0\n" in page
    assert "\ndigest   sha256:" in page
    assert "\nsandbox  fresh for every operation\n" in page


def test_the_page_says_where_operations_share_a_sandbox(program: Any, openai_file: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text('isolation = "key"\n')
    page = program("inspect", openai_file, "--policy", "policy.toml").out
    assert "\nsandbox  shared by the operations of an API key, one after the other" in page


def test_its_examples_can_be_pasted_into_run(program: Any, openai_file: Path) -> None:
    page = program("inspect", openai_file).out
    assert '\n  --input \'{"operation":"models.list"}\'\n' in page


MORE = "  --operation '*' lists each, 'KIND.*' those of a kind; a whole name shows one with its parameters"


def listed(page: str) -> list[str]:
    """What the page says of operations: how many there are, then a line each."""
    return page.partition("\nwhat it can do: ")[2].partition("\n\n")[0].splitlines()


def with_operations(folder: Path, operations: dict[str, Any]) -> Path:
    manifest = {"id": "catalyst:local.x", "version": "0.1.0", "operations": operations}
    wasm = append_section(wat("hostile/returns_not_json"), MANIFEST_SECTION, json.dumps(manifest).encode())
    (folder / "x.wasm").write_bytes(wasm)
    return folder / "x.wasm"


def test_the_page_has_each_operation_with_its_route(program: Any, tmp_path: Path) -> None:
    rows = {
        "chat.completions.create": {"method": "POST", "path": "/chat/completions", "stream": True},
        "files.list": {"method": "GET", "path": "/files"},
        "files.delete": {"method": "DELETE", "path": "/files/{file_id}"},
    }
    first, *lines = listed(program("inspect", with_operations(tmp_path, rows)).out)
    assert first == "3 operations"
    words = [line.split() for line in lines]
    assert words[0] == ["chat.completions.create", "POST", "/chat/completions", "(streams)"]
    assert words[-1] == ["files.delete", "DELETE", "/files/{file_id}"]
    assert len({line.index(words[n][1]) for n, line in enumerate(lines)}) == 1


def test_of_one_operation_the_page_has_one_line_and_of_none_no_word(program: Any, tmp_path: Path) -> None:
    assert listed(program("inspect", with_operations(tmp_path, {"a.b": {}})).out) == ["1 operation", "  a.b"]
    assert "what it can do" not in program("inspect", with_operations(tmp_path, {})).out


def test_of_many_operations_the_page_has_how_many_there_are_of_each_kind(program: Any, tmp_path: Path) -> None:
    many = {f"{kind}.things.n{n}": {} for kind, count in (("chat", 3), ("admin", 397)) for n in range(count)}
    page = program("inspect", with_operations(tmp_path, many)).out
    assert [line.split() for line in listed(page)[:3]] == [["400", "operations"], ["chat", "3"], ["admin", "397"]]
    assert listed(page)[3:] == [MORE]


def test_of_very_many_kinds_the_page_stays_a_page(program: Any, tmp_path: Path) -> None:
    page = program("inspect", with_operations(tmp_path, {f"k{n}.x": {} for n in range(400)})).out
    assert len(listed(page)) == 43
    assert listed(page)[-2:] == ["  and 360 other kinds", MORE]


ROWS: dict[str, Any] = {
    "files.list": {"method": "GET", "path": "/files", "aliases": ["files.all"]},
    "files.create": {
        "description": "Keep a file",
        "method": "POST",
        "path": "/files",
        "request": "multipart",
        "params": {"required": ["file"], "properties": {"file": {}}},
    },
    "filed.away": {},
    "admin.keys.list": {"method": "GET", "path": "/keys", "secret": "ADMIN_KEY"},
    "events.watch": {"method": "GET", "path": "/events", "stream": "always"},
    "talk": {"method": "GET", "path": "/talk", "websocket": True},
}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        pytest.param("*", list(ROWS), id="all"),
        pytest.param("files.*", ["files.list", "files.create"], id="a pattern"),
        pytest.param("files", ["files.list", "files.create"], id="a kind"),
        pytest.param("*.list", ["files.list", "admin.keys.list"], id="a pattern over ends"),
        pytest.param("files.a*", ["files.list"], id="a pattern over an alias"),
    ],
)
def test_operations_are_listed_by_a_pattern(program: Any, tmp_path: Path, pattern: str, names: list[str]) -> None:
    file = with_operations(tmp_path, ROWS)
    said = program("inspect", file, "--operation", pattern)
    assert [line.split()[0] for line in said.out.splitlines()] == names
    in_json = json.loads(program("inspect", file, "--json", "--operation", pattern).out)
    assert list(in_json) == names
    assert all("params" not in one for one in in_json.values())


def test_a_line_says_what_is_special_about_an_operation(program: Any, tmp_path: Path) -> None:
    lines = program("inspect", with_operations(tmp_path, ROWS), "--operation", "*").out.splitlines()
    assert [line.partition("(")[2] for line in lines] == ["", "", "", "with ADMIN_KEY)", "streams)", "a WebSocket)"]


def test_an_operation_that_there_is_not_is_answered_with_the_nearest(program: Any, tmp_path: Path) -> None:
    said = program("inspect", with_operations(tmp_path, ROWS), "--operation", "file.create")
    assert said.status == 2
    assert "has no operation 'file.create'" in said.err
    assert "did you mean files.create?" in said.err


def test_one_operation_is_shown_with_its_parameters(program: Any, tmp_path: Path) -> None:
    file = with_operations(tmp_path, ROWS)
    page = program("inspect", file, "--operation", "files.create").out
    assert page.splitlines()[:2] == ["files.create", "Keep a file"]
    assert "\nroute    POST /files\nrequest  multipart\nanswer   json\n" in page
    assert json.loads(page.partition("\nparams\n")[2]) == ROWS["files.create"]["params"]
    found = json.loads(program("inspect", file, "--operation", "files.all", "--json").out)
    assert (found["name"], found["params"], found["parameters"]) == ("files.list", True, None)


def test_in_json_each_operation_has_all_that_the_manifest_says_of_it(
    program: Any, openai_file: Path, tmp_path: Path
) -> None:
    found = json.loads(program("inspect", openai_file, "--json").out)["manifest"]["operations"]
    assert len(found) > 390
    assert found["models.retrieve"]["aliases"] == ["models.get"]
    assert found["models.retrieve"]["in_path"] == ["model"]
    assert found["chat.completions.create"]["params"]["required"] == ["model", "messages"]
    deep: Any = {}
    for _ in range(190):
        deep = {"not": deep}
    ran = program("inspect", with_operations(tmp_path, {"a": {"params": deep}}), "--json")
    assert (ran.status, json.loads(ran.out)["manifest"]["operations"]["a"]["params"]) == (0, deep)


def test_in_json_everything_is_there(program: Any, openai_file: Path) -> None:
    found = json.loads(program("inspect", openai_file, "--json").out)
    assert found["digest"].startswith("sha256:")
    assert found["size"] == openai_file.stat().st_size
    assert found["manifest"]["id"] == "catalyst:local.openai"
    assert found["limits"]["timeout_s"] == 600
    assert found["isolation"] == "operation"
    by_name = {row["authority"]: row for row in found["authority"]}
    assert by_name["HTTP requests"] == {
        "authority": "HTTP requests",
        "interface": "cyfr:http/fetch@0.1.0",
        "imported": True,
        "can": False,
        "granted": [],
        "asked": ["api.openai.com"],
    }
    assert not by_name["files"]["can"]


def test_a_component_without_a_manifest_is_shown_as_such(program: Any, tmp_path: Path) -> None:
    (tmp_path / "x.wasm").write_bytes(wat("hostile/returns_not_json"))
    page = program("inspect", "x.wasm").out
    assert page.splitlines()[0] == "x.wasm (no manifest)"
    assert "\nimports  nothing\n" in page
    assert {can for can, _ in table(page).values()} == {"no"}
    assert table(page)["HTTP requests"] == ("no", "not imported")


def test_what_wasi_gives_is_shown_too(program: Any, tmp_path: Path) -> None:
    (tmp_path / "x.wasm").write_bytes(wat("rust_like"))
    found = json.loads(program("inspect", "x.wasm", "--json").out)
    shown = {row["interface"] for row in found["authority"] if row["can"]}
    assert {name for name in found["imports"] if name.startswith("wasi:")} <= shown


def test_a_manifest_cannot_draw_on_the_terminal_or_add_rows_to_the_page(program: Any, tmp_path: Path) -> None:
    lie = "harmless\x1b[2J\n\nwhat it can reach\n  HTTP requests          no\u202e"
    manifest = {"id": "catalyst:local.x", "version": "0.1.0", "description": lie, "license": lie, "authors": lie}
    wasm = append_section(wat("hostile/returns_not_json"), MANIFEST_SECTION, json.dumps(manifest).encode())
    (tmp_path / "x.wasm").write_bytes(wasm)
    page = program("inspect", "x.wasm").out
    assert not {"\x1b", "\u202e"} & set(page)
    assert [line for line in page.splitlines() if line == "what it can reach"] == ["what it can reach"]


def imported(page: str) -> list[str]:
    lines = page.partition("\nimports  ")[2].partition("\n\n")[0].splitlines()
    return [line.strip() for line in lines]


@pytest.mark.parametrize(
    ("guest", "said"),
    [
        pytest.param("hostile/imports_sockets", "wasi:sockets/network@0.2.6", id="sockets"),
        pytest.param("hostile/imports_wrong_type", "cyfr:secrets/read@0.1.0", id="the right name with a wrong type"),
    ],
)
def test_of_a_refused_component_the_page_has_what_it_asks_for_and_the_error_why_it_is_refused(
    program: Any, tmp_path: Path, guest: str, said: str
) -> None:
    (tmp_path / "x.wasm").write_bytes(wat(guest))
    ran = program("inspect", "x.wasm")
    assert ran.status == 5
    assert imported(ran.out) == [said]
    assert "\ndigest   sha256:" in ran.out
    assert "\nexports  cyfr:catalyst/run@0.1.0\n" in ran.out
    assert "what it can reach" not in ran.out
    assert said in ran.err


def test_of_a_refused_component_the_manifest_is_shown_too(program: Any, tmp_path: Path) -> None:
    manifest = {
        "id": "catalyst:local.x",
        "version": "0.1.0",
        "domains": ["api.example.com"],
        "secrets": ["API_KEY"],
        "operations": {"chat.create": {"method": "POST", "path": "/chat"}},
    }
    wasm = append_section(wat("hostile/imports_sockets"), MANIFEST_SECTION, json.dumps(manifest).encode())
    (tmp_path / "x.wasm").write_bytes(wasm)
    page = program("inspect", "x.wasm").out
    assert page.splitlines()[0] == "x.wasm catalyst:local.x 0.1.0"
    assert "\n  domains  api.example.com\n  secrets  API_KEY\n" in page
    assert listed(page)[0] == "1 operation"
    ran = program("inspect", "x.wasm", "--json")
    found = json.loads(ran.out)
    assert (ran.status, found["error"]["type"]) == (5, "contract_mismatch")
    assert (found["imports"], found["exports"]) == (["wasi:sockets/network@0.2.6"], ["cyfr:catalyst/run@0.1.0"])
    assert found["manifest"]["domains"] == ["api.example.com"]


def test_a_refused_component_cannot_draw_on_the_terminal_or_add_rows(program: Any, tmp_path: Path) -> None:
    lie = "harmless\x1b[2J\n\nwhat it can reach\n  HTTP requests          no"
    manifest = {"id": "catalyst:local.x", "version": "0.1.0", "description": lie, "license": lie}
    wasm = append_section(wat("hostile/imports_sockets"), MANIFEST_SECTION, json.dumps(manifest).encode())
    (tmp_path / "x.wasm").write_bytes(wasm)
    page = program("inspect", "x.wasm").out
    assert "\x1b" not in page
    assert "what it can reach" not in page.splitlines()


def test_a_refused_component_with_a_malformed_manifest_is_shown_without_it(program: Any, tmp_path: Path) -> None:
    (tmp_path / "x.wasm").write_bytes(append_section(wat("hostile/returns_not_json"), MANIFEST_SECTION, b"{"))
    ran = program("inspect", "x.wasm")
    assert (ran.status, ran.out.splitlines()[0]) == (5, "x.wasm (no manifest)")
    assert "manifest" in ran.err


@pytest.mark.parametrize("content", [b"", b"\0asm\x01\0\0\0", b"(component)", b"\0asm\x0d\0\x01\0\x0a\xff"])
def test_of_what_is_no_component_nothing_is_shown(program: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.wasm").write_bytes(content)
    ran = program("inspect", "x.wasm")
    assert (ran.status, ran.out) == (5, "")


def test_the_files_of_a_rust_build_are_shown_as_inert(program: Any, tmp_path: Path) -> None:
    (tmp_path / "x.wasm").write_bytes(wat("adapter_like"))
    ran = program("inspect", "x.wasm")
    assert (ran.status, ran.err) == (0, "")
    assert "wasi:filesystem/preopens@0.2.3  (inert: no directory is opened)" in imported(ran.out)
    assert "wasi:filesystem/types@0.2.3 no   inert: no directory is opened\n" in ran.out
    assert table(ran.out)["files"] == ("no", "never: no import leads there")


def test_the_page_says_what_the_component_contains_and_what_it_was_built_from(program: Any, openai_file: Path) -> None:
    lines = program("inspect", openai_file).out.splitlines()
    [parts] = [line for line in lines if line.startswith("sbom     ")]
    assert "cpython 3.14." in parts
    assert "componentize-py " in parts
    assert len([line for line in lines if line.startswith("sources  sha256:")]) == 1


def test_the_sbom_alone_is_the_document(program: Any, openai_file: Path) -> None:
    ran = program("inspect", openai_file, "--sbom")
    assert (ran.status, json.loads(ran.out)["bomFormat"]) == (0, "CycloneDX")
    assert json.loads(program("inspect", openai_file, "--json").out)["sbom"] == json.loads(ran.out)


def test_a_component_without_an_sbom_says_so(program: Any, tmp_path: Path) -> None:
    (tmp_path / "x.wasm").write_bytes(wat("hostile/returns_not_json"))
    assert "\nsbom     none\n" in program("inspect", "x.wasm").out
    assert json.loads(program("inspect", "x.wasm", "--json").out)["sbom"] is None
    ran = program("inspect", "x.wasm", "--sbom")
    assert (ran.status, ran.out) == (2, "")
    assert "x.wasm has no SBOM" in ran.err


def test_an_sbom_that_cannot_be_read_does_not_hide_the_rest_of_the_page(program: Any, tmp_path: Path) -> None:
    (tmp_path / "x.wasm").write_bytes(append_section(wat("hostile/returns_not_json"), SBOM_SECTION, b"<bom/>"))
    ran = program("inspect", "x.wasm")
    assert ran.status == 0
    assert "\nsbom     cannot be read: " in ran.out
    assert json.loads(program("inspect", "x.wasm", "--json").out)["sbom"] is None
    assert program("inspect", "x.wasm", "--sbom").status != 0


def test_an_sbom_that_draws_on_the_terminal_is_shown_in_plain_words(program: Any, tmp_path: Path) -> None:
    hostile = {"components": [{"name": "a\x1b[2J\nlimits   none", "version": "1"}]}
    section = json.dumps(hostile).encode()
    (tmp_path / "x.wasm").write_bytes(append_section(wat("hostile/returns_not_json"), SBOM_SECTION, section))
    out = program("inspect", "x.wasm").out
    assert "\x1b" not in out
    assert "\nlimits   none" not in out
