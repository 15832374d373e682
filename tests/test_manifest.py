"""What a catalyst says of itself: read from the component, or refused with the field that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.contract import CAPABILITIES, FETCH, LOG, OUTPUT, SECRETS
from host.errors import ManifestError, NotAComponent
from host.manifest import Manifest, SecretNeed
from host.sections import COMPONENT_PREAMBLE, MANIFEST_SECTION, append_section
from tests.conftest import ROOT


def parsed(**fields: Any) -> Manifest:
    return Manifest.parse(json.dumps(fields))


def test_an_empty_manifest_asks_for_nothing() -> None:
    manifest = parsed()
    assert manifest.interfaces() == ()
    assert manifest.secrets == ()
    assert manifest.domains is None


def test_the_openai_catalysts_own_manifest() -> None:
    manifest = Manifest.parse((ROOT / "catalyst/openai/manifest.json").read_bytes())
    assert manifest.interfaces() == tuple(CAPABILITIES.values())
    assert [need.name for need in manifest.secrets] == ["OPENAI_API_KEY"]
    assert manifest.domains == ("api.openai.com", "{config.base_url}")


def test_a_secret_is_a_name_or_an_object() -> None:
    described = {"name": "B", "description": "a key", "required": False, "in": "header"}
    assert parsed(secrets=["A", described]).secrets == (SecretNeed("A"), SecretNeed("B", "a key", required=False))


def test_no_domains_is_another_thing_than_an_empty_list() -> None:
    assert parsed(domains=None).domains is None
    assert parsed(domains=[]).domains == ()


def test_unknown_fields_are_passed_over() -> None:
    assert parsed(id="x", setup={"a": 1}).id == "x"


def test_interfaces_come_in_the_contracts_order_and_only_where_the_flag_is_true() -> None:
    assert parsed(wasi={"secrets": True, "http": True, "log": False, "unknown": True}).interfaces() == (FETCH, SECRETS)
    assert parsed(wasi={"http": "true", "secrets": 1}).interfaces() == ()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param({"id": 5}, "id", id="an id that is a number"),
        pytest.param({"version": None}, "version", id="a version that is null"),
        pytest.param({"wasi": ["http"]}, "wasi", id="a list of capabilities"),
        pytest.param({"secrets": "KEY"}, "secrets", id="secrets as one text"),
        pytest.param({"secrets": [5]}, "secrets[0]", id="a secret that is a number"),
        pytest.param({"secrets": ["A", {}]}, "secrets[1].name", id="a secret without a name"),
        pytest.param({"secrets": ["no name"]}, "no name", id="a secret with a blank in its name"),
        pytest.param({"secrets": [{"name": "A", "required": 0}]}, "secrets[0].required", id="a number for a boolean"),
        pytest.param({"secrets": [{"name": "A", "description": 5}]}, "secrets[0].description", id="a description"),
        pytest.param({"domains": "a.test"}, "domains", id="domains as one text"),
        pytest.param({"domains": ["a.test", 5]}, "domains[1]", id="a domain that is a number"),
        pytest.param({"schema": []}, "schema", id="a list of schemas"),
        pytest.param({"defaults": 5}, "defaults", id="defaults"),
        pytest.param({"examples": {}}, "examples", id="examples"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ManifestError) as error:
        parsed(**fields)
    assert named in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "NaN", "[" * 100_000, b"\xff"])
def test_a_text_that_is_no_object_is_a_manifest_error(text: str | bytes) -> None:
    with pytest.raises(ManifestError):
        Manifest.parse(text)


@given(
    st.dictionaries(
        st.sampled_from(["id", "wasi", "secrets", "domains", "schema", "defaults", "examples"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        ),
    )
)
def test_any_object_is_a_manifest_or_a_manifest_error(fields: dict[str, Any]) -> None:
    try:
        manifest = parsed(**fields)
    except ManifestError:
        return
    assert set(manifest.interfaces()) <= set(CAPABILITIES.values())


def test_a_component_carries_its_manifest() -> None:
    wasm = append_section(COMPONENT_PREAMBLE, MANIFEST_SECTION, b'{"id": "x"}')
    embedded = Manifest.embedded(wasm)
    assert embedded is not None
    assert embedded.id == "x"
    assert Manifest.embedded(COMPONENT_PREAMBLE) is None


def test_two_manifests_are_an_error_since_readers_could_differ_over_them() -> None:
    wasm = append_section(COMPONENT_PREAMBLE, MANIFEST_SECTION, b'{"id": "x"}')
    with pytest.raises(ManifestError, match="more than one"):
        Manifest.embedded(append_section(wasm, MANIFEST_SECTION, b"{}"))


def test_what_is_no_component_has_no_manifest() -> None:
    with pytest.raises(NotAComponent):
        Manifest.embedded(b"{}")


def test_importing_a_guarded_interface_without_asking_for_it_is_refused_and_the_hint_is_the_line_to_add() -> None:
    with pytest.raises(ManifestError) as error:
        parsed(wasi={"http": True}).check_imports([FETCH, SECRETS])
    assert error.value.hint == '"wasi": {"secrets": true}'
    parsed(wasi={"http": True, "secrets": True}).check_imports([FETCH, SECRETS])


def test_output_and_log_give_no_authority_and_need_no_asking() -> None:
    parsed().check_imports([OUTPUT, LOG])
