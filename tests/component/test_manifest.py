"""What a catalyst says of itself: read from the component, or refused with the field that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.component.manifest import Manifest, SecretNeed, embed, text_beside
from host.component.operations import Passes
from host.component.wasm import COMPONENT_PREAMBLE, MANIFEST_SECTION, MAX_SECTION_BYTES, append_section
from host.core.limits import Limits
from host.core.names import SecretName
from host.core.wit import CAPABILITIES, FETCH, LOG, OUTPUT, SECRETS
from host.errors import ManifestError, NotAComponent, PolicyError
from host.policy.document import Policy
from host.policy.permissions import compute_grant, requested_by
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
    assert [need.name for need in manifest.secrets if need.required] == ["OPENAI_API_KEY"]
    assert manifest.domains == ("api.openai.com", "{config.base_url}")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"id": "catalyst:local.openai"}, id="in full"),
        pytest.param({"id": "c:local.openai"}, id="with the short type"),
        pytest.param({"id": "local.openai"}, id="as CYFR writes it"),
        pytest.param({"id": "local.openai", "type": "catalyst"}, id="with its type beside it"),
        pytest.param({"id": "openai"}, id="without a namespace"),
        pytest.param({"publisher": "local", "name": "openai"}, id="as CYFR writes it later"),
        pytest.param({"name": "openai", "type": "catalyst"}, id="as CYFR writes it for oneself"),
    ],
)
def test_an_id_in_every_spelling(fields: dict[str, Any]) -> None:
    manifest = parsed(version="0.1.0", **fields)
    assert manifest.id == "catalyst:local.openai"
    assert str(manifest.reference) == "c:local.openai:0.1.0"


def test_a_manifest_without_an_id_has_no_reference_and_one_without_a_version_one_to_all() -> None:
    assert parsed(version="0.1.0").reference is None
    assert str(parsed(id="r:acme.sort").reference) == "r:acme.sort"


def test_a_manifest_of_cyfr_in_its_first_form() -> None:
    manifest = parsed(
        id="local.weather",
        type="catalyst",
        version="0.1.0",
        wasi={"http": True, "streaming": False, "secrets": True},
        secrets=["WEATHER_KEY"],
        schema={"input": {"type": "object"}, "output": {"type": "object"}},
        defaults={"base_url": "https://api.weather.test"},
        examples=[{"name": "now", "input": {"operation": "now"}, "output": {"status": 200}}],
    )
    assert manifest.interfaces() == (FETCH, SECRETS)
    assert manifest.secrets == (SecretNeed("WEATHER_KEY"),)


def test_a_manifest_of_cyfr_in_its_later_form_has_its_secrets_in_setup() -> None:
    described = {"name": "WEATHER_KEY", "description": "a key", "required": True}
    setup = {"secrets": [described], "policy": {"allowed_domains": ["*"], "timeout": "3m"}}
    manifest = parsed(name="weather", publisher="acme", version="1.0.0", wasi={"secrets": True}, setup=setup)
    assert manifest.secrets == (SecretNeed("WEATHER_KEY", "a key"),)
    assert manifest.domains is None  # its policy is a proposal to the operator, and no bound


def test_a_secret_is_a_name_or_an_object() -> None:
    described = {"name": "B", "description": "a key", "required": False, "in": "header"}
    assert parsed(secrets=["A", described]).secrets == (SecretNeed("A"), SecretNeed("B", "a key", required=False))


def test_no_domains_is_another_thing_than_an_empty_list() -> None:
    assert parsed(domains=None).domains is None
    assert parsed(domains=[]).domains == ()


def test_unknown_fields_are_passed_over() -> None:
    assert parsed(version="0.1.0", caps={"egress": {}}, setup={"a": 1}).version == "0.1.0"


def test_interfaces_come_in_the_contracts_order_and_only_where_the_flag_is_true() -> None:
    assert parsed(wasi={"secrets": True, "http": True, "log": False, "unknown": True}).interfaces() == (FETCH, SECRETS)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param({"id": 5}, "id", id="an id that is a number"),
        pytest.param({"version": None}, "version", id="a version that is null"),
        pytest.param({"id": "local.x.y"}, "local.x.y", id="an id with a dot too many"),
        pytest.param({"id": "Local.X"}, "Local.X", id="an id in capitals"),
        pytest.param({"id": "c:local.x:0.1.0"}, "id", id="an id with a version"),
        pytest.param({"id": "reagent:local.x", "type": "catalyst"}, "type", id="an id of another type"),
        pytest.param({"type": "tincture"}, "tincture", id="a type that this host has not"),
        pytest.param({"name": "x", "publisher": 5}, "publisher", id="a publisher that is a number"),
        pytest.param({"version": "1"}, "version", id="a version that is none of semver's"),
        pytest.param({"wasi": ["http"]}, "wasi", id="a list of capabilities"),
        pytest.param({"wasi": {"http": "true"}}, "wasi.http", id="a word for a flag"),
        pytest.param({"wasi": {"secrets": 1}}, "wasi.secrets", id="a number for a flag"),
        pytest.param({"setup": []}, "setup", id="a list for CYFR's setup"),
        pytest.param({"setup": {"secrets": ["A", 5]}}, "setup.secrets[1]", id="a secret in CYFR's setup"),
        pytest.param({"schema": {"input": "object"}}, "schema.input", id="a word for a schema"),
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
        st.sampled_from(
            ["id", "type", "name", "setup", "wasi", "secrets", "domains", "schema", "defaults", "examples"]
        ),
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
    assert embedded.id == "catalyst:local.x"
    assert Manifest.embedded(COMPONENT_PREAMBLE) is None


def test_two_manifests_are_an_error_since_readers_could_differ_over_them() -> None:
    wasm = append_section(COMPONENT_PREAMBLE, MANIFEST_SECTION, b'{"id": "x"}')
    with pytest.raises(ManifestError, match="more than one"):
        Manifest.embedded(append_section(wasm, MANIFEST_SECTION, b"{}"))


def test_a_manifest_that_is_too_large_to_be_read_is_an_error_and_not_as_if_there_were_none() -> None:
    text = b'{"id": "x"}' + b" " * MAX_SECTION_BYTES
    with pytest.raises(ManifestError, match="larger than"):
        Manifest.embedded(append_section(COMPONENT_PREAMBLE, MANIFEST_SECTION, text))


@pytest.mark.parametrize("name", ["cyfr-manifest.json", "manifest.json"])
def test_a_manifest_beside_a_component_is_found_by_folder_and_by_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b'\xef\xbb\xbf{"id": "x"}')
    for path in (tmp_path, tmp_path / "x.wasm"):
        found = Manifest.beside(path)
        assert found is not None
        assert found.id == "catalyst:local.x"


def test_beside_a_component_cyfrs_name_comes_first_and_none_is_none(tmp_path: Path) -> None:
    assert Manifest.beside(tmp_path) is None
    (tmp_path / "manifest.json").write_text('{"id": "second"}')
    (tmp_path / "cyfr-manifest.json").write_text('{"id": "first"}')
    assert text_beside(tmp_path) == b'{"id": "first"}'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"\xff", "not UTF-8", id="no text"),
        pytest.param(b" " * (MAX_SECTION_BYTES + 1), "larger than", id="too large a text"),
        pytest.param(b"{", "not JSON", id="no JSON"),
    ],
)
def test_a_manifest_beside_a_component_that_cannot_be_read_is_an_error(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ManifestError, match=said):
        Manifest.beside(tmp_path)


def test_a_folder_in_the_place_of_a_manifest_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(ManifestError, match="cannot read"):
        Manifest.beside(tmp_path)


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


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"domains": ["a.example"], "domains": ["evil.example"]}', id="twice in a row"),
        pytest.param('{"domains": [], "version": "1.0.0", "domains": ["evil.example"]}', id="with another between"),
        pytest.param('{"domains": [], "\\u0064omains": ["evil.example"]}', id="once with an escape"),
        pytest.param('{"domains": [], "domai\\u006es": []}', id="once with an escape, and the same value"),
        pytest.param('{"wasi": {"http": false, "http": true}}', id="in an object"),
        pytest.param('{"secrets": [{"name": "A", "name": "B"}]}', id="in a list"),
        pytest.param('{"schema": {"input": {"properties": {"a": {"type": "string", "type": "number"}}}}}', id="deep"),
        pytest.param('{"operations": {"a": {"path": "/a"}, "a": {"path": "/b"}}}', id="an operation"),
        pytest.param('{"x": {"unknown": 1, "unknown": 2}}', id="in what is passed over"),
        pytest.param('{"\\ud800": 1, "\\udfff": 2}', id="two that are the same once they can be encoded"),
        pytest.param('{"\\ud800": 1, "\ufffd": 2}', id="and one that is that already"),
        pytest.param('{"": 1, "": 2}', id="the empty name"),
    ],
)
def test_a_manifest_that_has_a_name_twice_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match="twice in one object"):
        Manifest.parse(text)
    with pytest.raises(ManifestError, match="twice in one object"):
        embed(b"\0asm\x0d\0\1\0", text.encode())


def test_the_same_name_in_two_objects_is_no_duplicate() -> None:
    assert Manifest.parse('{"secrets": [{"name": "A"}, {"name": "B"}], "x": {"name": {"name": 1}}}').secrets


def test_a_manifest_asks_for_parts_of_a_request_as_they_came() -> None:
    assert parsed(passes={"query": True, "headers": ["OpenAI-Beta", "x-mine"]}).passes == Passes(
        query=True, headers=("openai-beta", "x-mine")
    )
    assert parsed().passes == Passes()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Authorization",
            "X_Api_Key",
            "Cookie",
            "Host",
            "Content-Length",
            "Content-Type",
            "Range",
            "Accept",
            "Connection",
        ),
        *("X-Forwarded-For", "X-HTTP-Method-Override", "Sec-Fetch-Site", "X-Catalyst", "If-None-Match", "a b", ""),
    ],
)
def test_no_manifest_and_no_policy_forwards_a_header_that_decides(name: str) -> None:
    with pytest.raises(ManifestError, match=r"passes\.headers\[0\]"):
        parsed(passes={"headers": [name]})
    with pytest.raises(PolicyError, match="forward_headers"):
        Policy(forward_headers=[name])


def test_a_secret_s_own_header_is_no_caller_s() -> None:
    need: dict[str, Any] = {"name": "KEY", "in": "header:X-Mine", "domains": ["a.test"]}
    manifest = parsed(secrets=[need], passes={"headers": ["X-Mine", "X-Other"]})
    secrets = {SecretName.parse("KEY"): None}
    grant = compute_grant(
        reference="c:local.x", interfaces=(), requested=requested_by(manifest, {}), secrets=secrets, ceiling=Limits(),
        policy=Policy(forward_headers=["X-Mine", "X-More"]),
    )  # fmt: skip
    assert grant.forwards == {"x-other", "x-more"}
