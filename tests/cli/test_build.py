"""`host build`: from a folder that somebody wrote to a component, or to words that help."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from host.cli import main
from host.cli.commands import build
from host.component.manifest import embed
from host.fakes import FakeOpenAI
from tests.conftest import ROOT, wat

MANIFEST = '{"id": "catalyst:local.x", "version": "0.1.0", "wasi": {"http": true}}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "x"
    place.mkdir()
    (place / "manifest.json").write_text(MANIFEST)
    return place


def test_the_example_of_the_guide_builds_and_runs(program: Any, tmp_path: Path, fake: FakeOpenAI) -> None:
    guide = (ROOT / "catalyst" / "README.md").read_text()
    (tmp_path / "weather").mkdir()
    for name, language in (("app.py", "python"), ("manifest.json", "json")):
        [block] = re.findall(rf"```{language}\n(.*?)```", guide, re.DOTALL)
        (tmp_path / "weather" / name).write_text(block)

    built = program("build", "weather", "-o", "dist/weather.wasm")
    assert (built.status, built.out) == (0, "")
    assert re.fullmatch(
        r"built dist/weather\.wasm: 1\d\.\d MB, sha256:[0-9a-f]{64}\n"
        r"imports cyfr:http/fetch@0\.1\.0, catalyst:host/log@0\.1\.0\n",
        built.err,
    )

    fake.script([{"path": "/now/*", "body": {"degrees": 21}}])
    sent = ["--upstream", f"https://api.weather.example={fake.url}", "--allow-domain", "api.weather.example"]
    ran = program("run", "dist/weather.wasm", *sent, "--input", '{"city": "Köln"}')
    assert json.loads(ran.out) == {"status": 200, "data": {"degrees": 21}}
    assert fake.requests[0]["path"] in ("/now/K%C3%B6ln", "/now/Köln")


def test_a_guest_that_cannot_be_imported_is_shown_its_own_tracebacks_and_nothing_else(
    program: Any, folder: Path
) -> None:
    """Three mistakes in one build, which takes ten seconds: a package that the builder's Python has and a component has
    not, a module that does not parse, and one that raises."""
    for name, source in {
        "app": "try:\n    import semver\nexcept ImportError:\n    import second\n",
        "second": "try:\n    import unparsable\nexcept SyntaxError:\n    import helper\n",
        "unparsable": "def broken(:\n",
        "helper": "def check():\n    raise ValueError('no such luck')\n\n\ncheck()\n",
    }.items():
        (folder / f"{name}.py").write_text(source)
    ran = program("build", folder, "-o", "x.wasm")
    assert (ran.status, ran.out) == (5, "")
    said = [
        *('  File "app.py", line 2, in <module>\n', "ModuleNotFoundError: No module named 'semver'\n"),
        *('  File "unparsable.py", line 1\n', "SyntaxError: "),
        *('  File "helper.py", line 2, in check\n', "ValueError: no such luck\n"),
    ]
    assert [words for words in said if words not in ran.err] == []
    assert not re.search(r"rust|backtrace|panicked|componentize_py/|/tmp|\.rs:", ran.err)
    assert not (folder.parent / "x.wasm").exists()


@pytest.mark.parametrize(
    ("guest", "said"),
    [
        pytest.param("rust_like", "the component imports wasi:", id="WASI, though the host would run it"),
        pytest.param("hostile/imports_unknown", "evil:corp/backdoor@1.0.0", id="what no host provides"),
    ],
)
def test_a_component_that_imports_beyond_the_contract_is_not_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, guest: str, said: str
) -> None:
    monkeypatch.setattr(build, "build_component", lambda directory, **_: wat(guest))
    output = folder / "x.wasm"
    ran = CliRunner().invoke(main, ["build", str(folder), "-o", str(output)])
    assert (ran.exit_code, ran.stdout) == (5, "")
    assert said in ran.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["none", "-o", "x.wasm"], "DIR: 'none' is not a directory", id="a folder that is not there"),
        pytest.param(["x", "-o", "x.wasm"], "hint: that is the module whose class Run", id="a folder without app.py"),
        pytest.param([".", "-o", "x.wasm"], 'hint: at least {"id": ', id="a folder without a manifest"),
        pytest.param(["x", "-o", "x/manifest.json/x.wasm"], "--output: cannot make", id="a place that is no folder"),
        pytest.param(["x"], "Missing option '-o' / '--output'", id="no place at all"),
    ],
)
def test_a_mistake_names_the_remedy(program: Any, folder: Path, arguments: list[str], said: str) -> None:
    ran = program("build", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err


@pytest.fixture
def rebuilt(monkeypatch: pytest.MonkeyPatch, program: Any, tmp_path: Path) -> Any:
    """`rebuilt(folder, description)` builds and registers the folder's component, which has that description."""
    given = {"description": ""}

    def build_component(directory: Path, **_: Any) -> bytes:
        said = {**json.loads((directory / "manifest.json").read_text()), **given}
        return embed(wat("hostile/returns_not_json"), json.dumps(said).encode())

    monkeypatch.setattr(build, "build_component", build_component)

    def again(folder: Path, description: str) -> Any:
        given["description"] = description
        built = program("build", folder, "-o", tmp_path / "x.wasm")
        assert (built.status, "note:" in built.err) == (0, False)
        return program("register", tmp_path / "x.wasm", "--replace")

    return again


def test_the_loop_of_edit_build_and_register_asks_nothing_while_no_more_is_asked_for(
    state: Path, program: Any, folder: Path, rebuilt: Any
) -> None:
    rebuilt(folder, "first")
    program("policy", "set", "c:local.x", "allowed_domains", '["a.example"]')
    for description in ("second", "third"):
        assert "not approved" not in rebuilt(folder, description).err
        assert program("run", "c:local.x", "--input", "{}").status == 0


def test_a_folder_of_somebody_else_that_is_built_here_takes_over_no_name(
    state: Path, program: Any, folder: Path, rebuilt: Any, tmp_path: Path
) -> None:
    rebuilt(folder, "first")
    program("policy", "set", "c:local.x", "allowed_domains", '["a.example"]')
    theirs = tmp_path / "Downloads" / "x"
    theirs.mkdir(parents=True)
    (theirs / "manifest.json").write_text(MANIFEST)
    assert "not approved yet: host approve c:local.x" in rebuilt(theirs, "theirs").err
    serving = [one["approved"] for one in json.loads(program("list", "--json").out) if one["serves"]]
    assert serving == [True], "the operator's own"
    assert program("run", "c:local.x", "--input", "{}").status == 0


def test_a_build_makes_no_state(
    environ: dict[str, str], program: Any, folder: Path, rebuilt: Any, tmp_path: Path
) -> None:
    environ["HOST_STATE_DIR"] = str(tmp_path / "none")
    assert program("build", folder, "-o", tmp_path / "x.wasm").status == 0
    assert not (tmp_path / "none" / "state.db").exists()


def test_a_state_that_cannot_note_the_build_is_no_reason_for_it_to_fail(
    state: Path, program: Any, folder: Path, rebuilt: Any, tmp_path: Path
) -> None:
    state.mkdir(parents=True, exist_ok=True)
    (state / "state.db").write_bytes(b"no database" * 1000)
    built = program("build", folder, "-o", tmp_path / "x.wasm")
    assert built.status == 0
    assert "note: the state has no note of this build" in built.err
