"""A manifest beside a component is put inside, or has to agree with the one that is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from host.component.manifest import Manifest, embed, embedded_text, self_contained
from host.component.wasm import COMPONENT_PREAMBLE, custom_sections
from host.errors import ManifestError, NotAComponent
from host.trust.artifact import admit

FIELDS = {
    "id": "local.weather",
    "version": "0.1.0",
    "wasi": {"http": True, "secrets": True},
    "secrets": ["KEY"],
    "domains": ["api.weather.test"],
}


def text(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def beside(folder: Path, content: bytes) -> Path:
    (folder / "cyfr-manifest.json").write_bytes(content)
    return folder / "catalyst.wasm"


def test_a_manifest_is_embedded_word_for_word_and_in_the_sections_that_other_tools_read() -> None:
    given = text(**FIELDS, description="The weather", license="MIT")
    wasm = embed(COMPONENT_PREAMBLE, given)
    assert embedded_text(wasm) == given
    assert dict(custom_sections(wasm)) == {
        "version": b"0.1.0",
        "description": b"The weather",
        "licenses": b"MIT",
        "catalyst:manifest": given,
    }


@pytest.mark.parametrize(
    ("wasm", "manifest", "error"),
    [
        pytest.param(COMPONENT_PREAMBLE, b'{"id": 5}', ManifestError, id="a malformed manifest"),
        pytest.param(embed(COMPONENT_PREAMBLE, b"{}"), b"{}", ManifestError, id="a component that has one"),
        pytest.param(b"\0asm\x01\0\0\0", b"{}", NotAComponent, id="a core module"),
    ],
)
def test_what_cannot_be_embedded(wasm: bytes, manifest: bytes, error: type[ManifestError]) -> None:
    with pytest.raises(error):
        embed(wasm, manifest)


def test_a_component_without_a_manifest_gets_the_one_beside_it_and_the_digest_covers_it(tmp_path: Path) -> None:
    one = self_contained(COMPONENT_PREAMBLE, beside(tmp_path, text(**FIELDS)))
    other = self_contained(COMPONENT_PREAMBLE, beside(tmp_path, text(**FIELDS, description="changed")))
    assert admit(one).manifest == Manifest.parse(text(**FIELDS))
    assert admit(one).digest != admit(other).digest


def test_a_component_that_has_no_manifest_beside_it_stays_as_it_is(tmp_path: Path) -> None:
    assert self_contained(COMPONENT_PREAMBLE, tmp_path / "x.wasm") == COMPONENT_PREAMBLE


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(FIELDS, id="the same"),
        pytest.param({**FIELDS, "id": "catalyst:local.weather", "examples": []}, id="the same in other words"),
        pytest.param({"id": "local.weather"}, id="one that says less"),
        pytest.param({**FIELDS, "wasi": {"http": True}, "secrets": [], "domains": []}, id="one that asks for less"),
    ],
)
def test_a_manifest_beside_that_says_no_more_changes_nothing(tmp_path: Path, fields: dict[str, Any]) -> None:
    wasm = embed(COMPONENT_PREAMBLE, text(**FIELDS))
    assert self_contained(wasm, beside(tmp_path, text(**fields))) == wasm


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param({"id": "local.other"}, "its id is catalyst:local.other, and not catalyst:local.weather", id="another name"),
        pytest.param({"version": "0.2.0"}, "its version is 0.2.0, and not 0.1.0", id="another version"),
        pytest.param({"wasi": {"streaming": True}}, "it asks for cyfr:http/streaming@0.1.0 as well", id="a capability"),
        pytest.param({"secrets": ["KEY", "OTHER"]}, "it asks for the secret OTHER as well", id="a secret"),
        pytest.param({"domains": ["evil.test"]}, "it asks for the domain 'evil.test' as well", id="a domain"),
    ],
)  # fmt: skip
def test_a_manifest_beside_that_says_more_is_an_error_that_says_what(
    tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    wasm = embed(COMPONENT_PREAMBLE, text(**FIELDS))
    with pytest.raises(ManifestError) as error:
        self_contained(wasm, beside(tmp_path, text(**fields)))
    assert said in error.value.message


def test_a_manifest_beside_names_domains_where_the_one_inside_leaves_them_open(tmp_path: Path) -> None:
    wasm = embed(COMPONENT_PREAMBLE, text(id="local.weather"))
    assert self_contained(wasm, beside(tmp_path, text(domains=["api.weather.test"]))) == wasm
