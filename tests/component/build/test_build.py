from __future__ import annotations

import json
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from host import Host
from host.component import build as builder
from host.component.build import componentize
from host.component.manifest import files_beside
from host.component.wasm import custom_sections
from host.errors import BuildError, InputError, ManifestError
from tests.conftest import GUESTS, ROOT, python_guest

MANIFEST = {"id": "catalyst:local.x", "version": "0.1.0", "wasi": {"http": True}}


def folder_of(place: Path, manifest: object = MANIFEST, **modules: str) -> Path:
    place.mkdir(exist_ok=True)
    if manifest is not None:
        (place / "manifest.json").write_text(json.dumps(manifest))
    for name, source in modules.items():
        (place / f"{name}.py").write_text(source)
    return place


def test_the_manifest_is_inside_word_for_word() -> None:
    wasm = python_guest(GUESTS / "raises")
    found = [content for name, content in custom_sections(wasm) if name == "catalyst:manifest"]
    assert found == [(GUESTS / "raises" / "manifest.json").read_bytes()]


def test_of_many_operations_the_index_and_the_schemas_are_inside(openai_wasm: bytes) -> None:
    files = files_beside(ROOT / "catalyst" / "openai")
    assert files is not None
    sections = dict(custom_sections(openai_wasm))
    assert (sections["catalyst:manifest"], sections["catalyst:schemas"]) == files
    index = json.loads(files.text)["operations"]
    assert len(index) > 390
    assert not [name for name, row in index.items() if "params" in row]


@pytest.mark.parametrize(
    ("section", "field"), [("version", "version"), ("description", "description"), ("licenses", "license")]
)
def test_the_sections_that_other_tools_read_are_the_manifests(openai_wasm: bytes, section: str, field: str) -> None:
    manifest = json.loads((ROOT / "catalyst" / "openai" / "manifest.json").read_text())
    found = [content.decode() for name, content in custom_sections(openai_wasm) if name == section]
    assert found == [manifest[field]]


def test_what_a_manifest_does_not_say_has_no_section() -> None:
    names = {name for name, _ in custom_sections(python_guest(GUESTS / "raises"))}
    assert not names & {"description", "licenses", "authors", "homepage", "source"}


@pytest.mark.parametrize(
    ("guest", "imports"),
    [
        pytest.param("remembers", (), id="a manifest that asks for nothing"),
        pytest.param("raises", ("catalyst:host/log@0.1.0",), id="a manifest that asks for the log"),
    ],
)
def test_a_component_imports_what_its_manifest_asks_for(host: Host, guest: str, imports: tuple[str, ...]) -> None:
    assert host.load(python_guest(GUESTS / guest)).imports == imports


def test_no_path_of_the_builders_machine_is_inside(openai_wasm: bytes) -> None:
    assert str(ROOT).encode() not in openai_wasm
    assert b"host-build-" not in openai_wasm


def test_a_package_that_the_builders_python_has_is_not_part_of_a_component(openai_wasm: bytes) -> None:
    """It would be in no list of the component's parts, and missing on the next machine. Nor can a guest import it: see
    tests/cli/test_build.py."""
    names = {f"{one.name}-{one.version}".encode() for one in distributions()}
    assert {name for name in names if name + b".dist-info" in openai_wasm} == set()


@pytest.mark.parametrize(
    ("manifest", "modules", "error", "said"),
    [
        pytest.param(None, {"app": ""}, InputError, ["no manifest.json", '"wasi": {"http": true, "log": true}'], id="no manifest"),
        pytest.param(MANIFEST, {}, InputError, ["no app.py", "class Run"], id="no entry module"),
        pytest.param([], {"app": ""}, ManifestError, ["a JSON array, not an object"], id="a manifest that is a list"),
        pytest.param({"wasi": {"sockets": True}}, {"app": ""}, ManifestError, ["asks for sockets", "wasi has http, "], id="a capability that is none"),
        pytest.param({"version": 1}, {"app": ""}, ManifestError, ["version is a JSON number"], id="a version that is a number"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_catalyst_is_refused_with_the_remedy(
    tmp_path: Path, manifest: object, modules: dict[str, str], error: type[InputError], said: list[str]
) -> None:
    with pytest.raises(error) as refused:
        builder.build(folder_of(tmp_path / "x", manifest, **modules))
    assert [words for words in said if words not in str(refused.value)] == []


def test_a_manifest_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (folder_of(tmp_path / "x", None, app="") / "manifest.json").write_bytes(b"\xff")
    with pytest.raises(ManifestError, match=r"manifest\.json is not UTF-8"):
        builder.build(tmp_path / "x")


@pytest.mark.parametrize(
    ("field", "found"),
    [
        pytest.param("domain", [("domain", "domains")], id="one that is nearly a field"),
        pytest.param("schema", [], id="one that is a field"),
        pytest.param("x-team", [], id="one of somebody else's"),
    ],
)
def test_a_field_that_was_misspelt_is_found(tmp_path: Path, field: str, found: list[tuple[str, str]]) -> None:
    assert list(builder.misspelt(folder_of(tmp_path / "x", {**MANIFEST, field: {}}))) == found


def test_cyfrs_name_for_the_manifest_will_do(tmp_path: Path) -> None:
    (folder_of(tmp_path / "x", None) / "cyfr-manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"no app\.py"):
        builder.build(tmp_path / "x")


def test_without_the_compiler_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(componentize, "find_spec", lambda name: None)
    with pytest.raises(BuildError) as refused:
        builder.build(folder_of(tmp_path / "x", app=""))
    assert "install the extra 'build' from where this program came" in str(refused.value.hint)


def test_the_compiler_is_found_where_pips_isolated_build_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pip install` of a fresh clone has it in a folder that only this process' path names."""
    tool = tmp_path / "overlay"
    (tool / "componentize_py").mkdir(parents=True)
    folder_of(tool / "componentize_py", None, __init__="def script(): raise AssertionError('the overlay was found')\n")
    monkeypatch.syspath_prepend(tool)
    monkeypatch.delitem(sys.modules, "componentize_py", raising=False)
    monkeypatch.setattr(sys, "executable", sys._base_executable)  # type: ignore[attr-defined]
    with pytest.raises(BuildError, match="the overlay was found"):
        builder.build(folder_of(tmp_path / "x", app=""))


@pytest.mark.parametrize(
    ("name", "target"),
    [
        pytest.param("data.txt", "../key", id="a file"),
        pytest.param("lib", "..", id="the folder above"),
        pytest.param("deep/data.txt", "../../key", id="a file, from within"),
        pytest.param("data.txt", "{out}/key", id="a file, by its whole path"),
        pytest.param("data.txt", "gone/../../key", id="a way that is not there"),
        pytest.param("lib", ".", id="the folder itself"),
        pytest.param("manifest.json", "../key", id="the manifest"),
    ],
)
def test_attack_a_link_out_of_the_folder_brings_nothing_into_a_component(
    tmp_path: Path, name: str, target: str
) -> None:
    (tmp_path / "key").write_text("the private key of whoever builds it")
    folder = tmp_path / "stranger"
    (folder / "deep").mkdir(parents=True)
    (folder / "app.py").write_text("")
    (folder / "manifest.json").write_text('{"id": "catalyst:local.x", "version": "0.1.0", "wasi": {}}')
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target.format(out=tmp_path))
    with pytest.raises(InputError, match="is a link out of its folder") as caught:
        builder.build(folder)
    assert caught.value.field == name
