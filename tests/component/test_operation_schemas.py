"""The schemas of operations in a section of their own: each is found and read alone, and no two readers differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from host.component import operation_schemas
from host.component.manifest import Manifest, embed, embedded_schemas, embedded_text, files_beside, self_contained
from host.component.operation_schemas import OperationSchemas, section_of
from host.component.wasm import (
    COMPONENT_PREAMBLE,
    MANIFEST_SECTION,
    MAX_SCHEMAS_BYTES,
    SCHEMAS_SECTION,
    append_section,
    custom_sections,
)
from host.errors import ManifestError
from host.trust.artifact import admit

MANIFEST = {"id": "local.weather", "version": "0.1.0", "passes": {"body": True}}
FILE = {"type": "object", "required": ["$attachment"]}
DECLARED: dict[str, Any] = {
    "operations": {
        "maps.create": {
            "description": "Draw a map",
            "method": "POST",
            "path": "/maps",
            "request": "multipart",
            "params": {
                "type": "object",
                "required": ["picture"],
                "properties": {"picture": {"$ref": "#/$defs/file"}, "place": {"$ref": "#/$defs/place"}},
            },
        },
        "maps.list": {"method": "GET", "path": "/maps", "params": {"type": "object"}},
        "maps.anything": {},
    },
    "$defs": {
        "file": FILE,
        "place": {"type": "object", "properties": {"near": {"$ref": "#/$defs/place"}, "at": {"$ref": "#/$defs/point"}}},
        "point": {"type": "array"},
        "unused": {"type": "null"},
    },
    "websockets": {"maps.watch": {"method": "GET", "path": "/maps", "params": {"properties": {"zoom": {}}}}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path, declared: Any = DECLARED, **manifest: Any) -> Path:
    (folder / "manifest.json").write_text(json.dumps({**MANIFEST, **manifest}))
    (folder / "operations.json").write_text(json.dumps(declared))
    return folder


def built(folder: Path) -> bytes:
    files = files_beside(folder)
    assert files is not None
    return embed(COMPONENT_PREAMBLE, *files)


def test_the_manifest_has_the_index_and_the_section_the_schemas(folder: Path) -> None:
    wasm = built(folder)
    sections = dict(custom_sections(wasm))
    index = json.loads(sections[MANIFEST_SECTION])
    assert index["operations"]["maps.create"] == {
        "description": "Draw a map",
        "method": "POST",
        "path": "/maps",
        "request": "multipart",
        "parameters": ["picture", "place"],
    }
    assert index["operations"]["maps.list"]["parameters"] is None
    assert index["operations"]["maps.anything"] == {}
    assert index["operations"]["maps.watch"]["websocket"] is True
    assert index["passes"] == {"body": True}
    lines = sections[SCHEMAS_SECTION].decode().splitlines()
    assert [line.partition(" ")[0] for line in lines] == [
        *("maps.create", "maps.list", "maps.watch"),
        *("$defs/file", "$defs/place", "$defs/point", "$defs/unused"),
    ]


def test_a_schema_has_the_shared_ones_that_it_needs_and_no_others(folder: Path) -> None:
    manifest = admit(built(folder)).manifest
    assert manifest is not None
    manifest.check_schemas()
    create = manifest.operations["maps.create"]
    params = create.params
    assert params["required"] == ["picture"]
    assert params["$defs"].keys() == {"file", "place", "point"}
    assert create.parameters == ("picture", "place")
    assert manifest.operations["maps.list"].params == {"type": "object"}
    assert manifest.operations["maps.list"].parameters is None
    assert manifest.operations["maps.anything"].params is True
    assert manifest.operations["maps.watch"].websocket


def test_nothing_but_the_schema_that_is_asked_for_is_parsed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    real = operation_schemas.parse_json

    def noted(text: Any, what: str, **more: Any) -> Any:
        parsed.append(what)
        return real(text, what, **more)

    monkeypatch.setattr(operation_schemas, "parse_json", noted)
    manifest = admit(built(folder)).manifest
    assert manifest is not None
    assert list(manifest.operations) == ["maps.create", "maps.list", "maps.anything", "maps.watch"]
    assert parsed == []
    assert manifest.operations["maps.list"].params
    assert parsed == ["operations.maps.list.params"]


def test_a_schemas_own_definitions_come_before_the_shared_ones() -> None:
    own = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}
    other = {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b/properties/x"}], "$defs": {"a": {}}}
    section = section_of(
        {"x": {"params": own}, "y": {"params": other}}, {"a": {"type": "null"}, "b": {"type": "object"}}
    )
    schemas = OperationSchemas(lambda: section)
    assert schemas.of("x") == own
    assert schemas.of("y")["$defs"] == {"a": {}, "b": {"type": "object"}}


def test_a_manifest_with_its_schemas_in_it_is_as_it_was() -> None:
    text = json.dumps({**MANIFEST, "operations": {"a": {"params": {"properties": {"b": {}}}}, "c": {}}}).encode()
    wasm = embed(COMPONENT_PREAMBLE, text)
    manifest = admit(wasm).manifest
    assert manifest is not None
    assert (embedded_text(wasm), embedded_schemas(wasm)) == (text, b"")
    assert manifest.operations["a"].params == {"properties": {"b": {}}}
    assert (manifest.operations["a"].parameters, manifest.operations["c"].parameters) == (("b",), None)
    assert manifest.operations["c"].params is True


def test_a_component_without_a_manifest_gets_both_from_the_files_beside_it(folder: Path) -> None:
    file = folder / "x.wasm"
    assert dict(custom_sections(self_contained(COMPONENT_PREAMBLE, file))).keys() >= {MANIFEST_SECTION, SCHEMAS_SECTION}
    assert self_contained(built(folder), file) == built(folder)


# attacks, and slips


def sectioned(section: bytes, **operations: Any) -> Manifest:
    index = operations or {"x": {"parameters": None}}
    wasm = append_section(COMPONENT_PREAMBLE, SCHEMAS_SECTION, section)
    wasm = append_section(wasm, MANIFEST_SECTION, json.dumps({**MANIFEST, "operations": index}).encode())
    manifest = admit(wasm).manifest
    assert manifest is not None
    return manifest


def test_two_sections_of_schemas_are_refused(folder: Path) -> None:
    with pytest.raises(ManifestError, match="more than one section of schemas"):
        admit(append_section(built(folder), SCHEMAS_SECTION, b"maps.list {}\n"))


def test_a_section_that_is_too_large_is_refused(folder: Path) -> None:
    (folder / "operations.json").unlink()
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    with pytest.raises(ManifestError, match="section of schemas is larger than"):
        admit(append_section(built(folder), SCHEMAS_SECTION, bytes(MAX_SCHEMAS_BYTES + 1)))


def test_schemas_without_a_manifest_are_refused() -> None:
    with pytest.raises(ManifestError, match="no manifest"):
        admit(append_section(COMPONENT_PREAMBLE, SCHEMAS_SECTION, b"x {}\n"))


def test_a_manifest_cannot_be_put_beside_a_section_that_is_there(folder: Path) -> None:
    with pytest.raises(ManifestError, match="has a manifest already"):
        embed(append_section(COMPONENT_PREAMBLE, SCHEMAS_SECTION, b"x {}\n"), json.dumps(MANIFEST).encode())


@pytest.mark.parametrize(
    ("section", "said"),
    [
        pytest.param(b"x {}\nx {}\n", "'x' twice", id="a name twice: readers would differ over which counts"),
        pytest.param(b'x {"a": 1, "a": 2}\n', "operations.x.params", id="a name twice in a schema"),
        pytest.param(b"x {\n", "operations.x.params is not JSON", id="no JSON"),
        pytest.param(b"x 5\n", "operations.x.params is not a schema", id="no schema"),
        pytest.param(b"x\n", "a line has no name", id="a name alone"),
        pytest.param(b"x {}\n\n", "a line has no name", id="an empty line"),
        pytest.param("é {}\n".encode(), "a line has no name", id="a name that is no ASCII"),
        pytest.param(b"y {}\n", "operations.x.params has no line", id="the schema of another operation"),
        pytest.param(b'x {"$ref": "#/$defs/a"}\n', r"operations.x.params refers to \$defs.a", id="a shared one that is not there"),
        pytest.param(b'x {"$ref": "#/$defs/a"}\n$defs/a [', r"\$defs.a is not JSON", id="a shared one that is no JSON"),
        pytest.param(b'x {"not": ' * 300 + b"\n", "operations.x.params is not JSON", id="nesting"),
        pytest.param(b'x "' + bytes(1 << 20) + b'"\n', "'x' is larger than", id="a line that is too long"),
        pytest.param(b"".join(b"a%d {}\n" % n for n in range(9_000)), "more than 8,000", id="too many lines"),
    ],
)  # fmt: skip
def test_a_malformed_schema_is_an_error_that_names_the_operation_when_it_is_used(section: bytes, said: str) -> None:
    manifest = sectioned(section)
    with pytest.raises(ManifestError, match=said) as error:
        _ = manifest.operations["x"].params
    assert len(str(error.value)) < 300
    with pytest.raises(ManifestError, match=said):
        manifest.check_schemas()


@pytest.mark.parametrize(
    ("section", "row", "said"),
    [
        pytest.param(b'x {"type": 5}\n', {"parameters": None}, "operations.x.params.type", id="a keyword"),
        pytest.param(
            b'x {"properties": {"model": {}}}\n', {"parameters": ["a"]}, "operations.x.parameters are not those",
            id="an index that hides a parameter",
        ),
        pytest.param(b"x {}\ny {}\n", {"parameters": None}, "a schema of 'y'", id="a schema of no operation"),
        pytest.param(b"x {}\n", {"params": {}}, "a schema of 'x'", id="a schema beside one in the manifest"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_any_schema_is_found_before_a_component_is_installed(
    section: bytes, row: dict[str, Any], said: str
) -> None:
    with pytest.raises(ManifestError, match=said):
        sectioned(section, x=row).check_schemas()


@pytest.mark.parametrize(
    ("declared", "manifest", "said"),
    [
        pytest.param(DECLARED, {"operations": {}}, "beside it too", id="operations in both files"),
        pytest.param([], {}, "operations.json is a JSON array", id="no object"),
        pytest.param({"operations": []}, {}, "operations is a JSON array", id="no operations"),
        pytest.param({"operations": {"x": 5}}, {}, "operations.x is a JSON", id="no operation"),
        pytest.param({"operations": {"x": {}}, "websockets": {"x": {}}}, {}, "an operation already", id="a name twice"),
        pytest.param({"$defs": {"a b": {}}}, {}, "no name of a schema", id="a name with a blank"),
    ],
)
def test_operations_beside_a_manifest_are_of_one_form(
    tmp_path: Path, declared: Any, manifest: dict[str, Any], said: str
) -> None:
    with pytest.raises(ManifestError, match=said):
        files_beside(written(tmp_path, declared, **manifest))
