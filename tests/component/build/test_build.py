from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

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


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], dict[str, str]]:
    """What a build hands to the compiler, of a folder: the names and contents of its files."""
    found: dict[str, str] = {}

    def keep(wit: Path, world: str, stage: Path, first: str, output: Path) -> bytes:
        for file in stage.rglob("*"):
            assert not file.is_symlink()
            if file.is_file():
                found[file.relative_to(stage).as_posix()] = file.read_text()
        raise BuildError("the compiler was reached")

    monkeypatch.setattr(componentize, "component_of", keep)

    def of(folder: Path) -> dict[str, str]:
        with pytest.raises(BuildError, match="the compiler was reached"):
            builder.build(folder, quick=True)
        return {name: text for name, text in found.items() if not name.startswith(("catalyst/", "catalyst_build"))}

    return of


def stranger(place: Path, links: Mapping[str, str] = {}, **files: str) -> Path:
    """A folder that builds, with these links, and with these files by their paths."""
    folder = folder_of(place / "stranger", app="")
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for path, target in links.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to(target)
    return folder


HIDDEN = (
    ".env", ".ENV", ".netrc", ".git/config", ".git", ".venv/lib/x.py", "tests/key.pem", "tests", "node_modules/x/index.js",
    "__pycache__/app.cpython-314.pyc", "lib/__pycache__", "old.pyc", "lib/.env", "lib/tests/data.json", "lib/.ssh/id",
)  # fmt: skip


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("link", ["data", "deep/data", "chain"])
def test_attack_what_a_build_leaves_out_is_not_built_in_by_a_link(tmp_path: Path, hidden: str, link: str) -> None:
    name = hidden if Path(hidden).suffix or hidden.endswith(("config", "id")) else f"{hidden}/key"
    up = "../" * link.count("/")
    links = {"chain": "middle", "middle": hidden} if link == "chain" else {link: up + hidden}
    folder = stranger(tmp_path, links, **{name: "the key of whoever builds it"})
    with pytest.raises(InputError) as caught:
        builder.build(folder)
    assert caught.value.message == f"{link} is a link to {hidden}, which a build leaves out"
    assert caught.value.field == link


@pytest.mark.parametrize(
    ("links", "said"),
    [
        pytest.param({"data": "gone"}, "data is a link to nothing", id="a name that is not there"),
        pytest.param({"data": "lib/gone/../x"}, "data is a link to nothing", id="a way that is not there"),
        pytest.param({"data": "data"}, "data is a link to nothing", id="itself"),
        pytest.param({"a": "b", "b": "a"}, "a is a link to nothing", id="a link to it"),
        pytest.param({"a/x": "../b", "b/y": "../a"}, "a/x is a link that leads back to itself", id="folders in a circle"),
        pytest.param({"a/x": "../b", "b/y": "../a/x/y"}, "b/y is a link to nothing", id="a way through itself"),
        pytest.param({"a": "b", "b": "../key"}, "a is a link out of its folder", id="a link to a link out of it"),
        pytest.param({"a": "lib", "lib/x": "../../key"}, "lib/x is a link out of its folder", id="a folder with a link out of it"),
        pytest.param({"a": "/dev/zero"}, "a is a link out of its folder", id="a device"),
        pytest.param({"lib/x": "../lib"}, "lib/x is a link out of its folder", id="the folder around it"),
    ],
)  # fmt: skip
def test_attack_a_link_that_no_copy_can_replace_is_refused(tmp_path: Path, links: dict[str, str], said: str) -> None:
    (tmp_path / "key").write_text("the private key of whoever builds it")
    with pytest.raises(InputError) as caught:
        builder.build(stranger(tmp_path, links))
    assert caught.value.message == said
    assert caught.value.hint is not None


def test_a_link_within_the_folder_is_built_in_as_a_copy(
    tmp_path: Path, taken: Callable[[Path], dict[str, str]]
) -> None:
    links = {
        "whole": str(tmp_path / "stranger" / "lib" / "a.py"),
        "chain": "back",
        "back": "../stranger/lib/a.py",
        "also": "lib",
        "more/also": "../also",
        "lib/more": "../Tests",
        ".hidden": "nowhere",
    }
    files = {"lib/a.py": "a", "lib/.env": "hidden", "lib/tests/b.py": "hidden", "Tests/c.py": "c", ".env": "hidden"}
    found = taken(stranger(tmp_path, links, **files))
    assert {name: text for name, text in found.items() if name not in ("app.py", "manifest.json")} == {
        **dict.fromkeys(("lib/a.py", "whole", "chain", "back", "also/a.py", "more/also/a.py"), "a"),
        **dict.fromkeys(("Tests/c.py", "lib/more/c.py", "also/more/c.py", "more/also/more/c.py"), "c"),
    }


def test_a_pipe_is_refused_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(stranger(tmp_path) / "data")
    with pytest.raises(InputError, match=r"^data is neither a file nor a folder"):
        builder.build(tmp_path / "stranger")


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stranger(tmp_path))  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("data")
        with pytest.raises(InputError, match=r"^data is neither a file nor a folder"):
            builder.build(tmp_path / "stranger")


def when_opened(monkeypatch: pytest.MonkeyPatch, name: str, then: Callable[[], object]) -> None:
    """Does `then` between the look at what has this name in the folder and its opening."""
    opens = os.open

    def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == name:
            then()
        return opens(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", opened)


@pytest.mark.parametrize("name", ["data.txt", "manifest.json", "lib"])
def test_what_cannot_be_read_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def denied() -> None:
        raise PermissionError(13, "Permission denied")

    when_opened(monkeypatch, name, denied)
    with pytest.raises(InputError, match=f"^{re.escape(name)} cannot be read: Permission denied"):
        builder.build(stranger(tmp_path, **{"data.txt": "", "lib/a.py": ""}))


@pytest.mark.parametrize("name", ["data.txt", "manifest.json", "lib"])
def test_attack_what_becomes_a_link_during_the_build_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = stranger(tmp_path, **{"data.txt": "", "lib/a.py": ""})
    (tmp_path / "secrets").mkdir()

    def swap() -> None:
        (folder / name).rename(tmp_path / "before")
        (folder / name).symlink_to(tmp_path / "secrets")

    when_opened(monkeypatch, name, swap)
    with pytest.raises(InputError, match=f"^{re.escape(name)} cannot be read: "):
        builder.build(folder)


def test_attack_what_becomes_a_pipe_during_the_build_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stranger(tmp_path, **{"data.txt": ""})

    def swap() -> None:
        (folder / "data.txt").unlink()
        os.mkfifo(folder / "data.txt")

    when_opened(monkeypatch, "data.txt", swap)
    with pytest.raises(InputError, match=r"^data\.txt is neither a file nor a folder"):
        builder.build(folder)


def test_attack_what_a_link_leads_to_is_what_was_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Callable[[Path], dict[str, str]]
) -> None:
    folder = stranger(tmp_path, {"z": "data.txt"}, **{"data.txt": "harmless", ".env": "hidden"})
    resolve = Path.resolve

    def swapped(path: Path, strict: bool = False) -> Path:
        found = resolve(path, strict)
        if path.name == "z":
            (folder / "data.txt").unlink()
            (folder / "data.txt").symlink_to(".env")
        return found

    monkeypatch.setattr(Path, "resolve", swapped)
    found = taken(folder)
    assert (folder / "data.txt").read_text() == "hidden", "it was swapped"
    assert (found["z"], found["data.txt"]) == ("harmless", "harmless")


def test_attack_links_to_folders_with_links_do_not_multiply_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "_MOST", 1_000)
    links = {f"d{number}/{name}": f"../d{number + 1}" for number in range(40) for name in "ab"}
    with pytest.raises(InputError, match="more than 1000 files"):
        builder.build(stranger(tmp_path, links, **{"d40/x": ""}))


@pytest.mark.parametrize("by", ["folders", "links"])
def test_attack_folders_within_each_other_end_somewhere(tmp_path: Path, by: str) -> None:
    deep = {"/".join(["d"] * 300) + "/x": ""} if by == "folders" else {"d300/x": ""}
    links = {f"d{number}/a": f"../d{number + 1}" for number in range(300)} if by == "links" else {}
    with pytest.raises(InputError, match="more than 64 folders within each other"):
        builder.build(stranger(tmp_path, links, **deep))


@pytest.mark.parametrize(
    ("name", "is_folder"),
    [
        ("catalyst", False),
        ("catalyst/sdk", False),
        ("catalyst/sdk/log.py", True),
        ("catalyst/__init__.py", True),
        ("catalyst_build.py", True),
    ],
)
def test_what_stands_where_a_build_puts_something_is_named(tmp_path: Path, name: str, is_folder: bool) -> None:
    in_the_way = folder_of(tmp_path / "x", app="") / name
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.mkdir() if is_folder else in_the_way.touch()
    with pytest.raises(InputError, match="is in the place of what a build puts there") as refused:
        builder.build(tmp_path / "x")
    assert refused.value.field == name


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (stranger(tmp_path) / os.fsdecode(b"data\xff")).write_text("")
    with pytest.raises(InputError, match=r"^data\ufffd has a name that is not UTF-8"):
        builder.build(tmp_path / "stranger")
