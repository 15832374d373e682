"""Dataclasses as JSON; descriptors and manifests, read strictly."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from pydantic import TypeAdapter, ValidationError

from host.errors import ArtifactError
from host.oci.documents import (
    IMAGE_INDEX,
    IMAGE_MANIFEST,
    Descriptor,
    ImageManifest,
    as_bytes,
    camel_case,
    from_json,
    parse_document,
    parse_json,
    to_json,
)

# dataclasses


@camel_case
@dataclass(frozen=True)
class Page:
    page_number: int
    lines: tuple[str, ...] = ()
    next_page: Page | None = None


def test_what_is_written_is_read_back():
    page = Page(1, ("a", "b"), Page(2))
    assert from_json(Page, to_json(page), "it") == page


def test_names_are_those_of_json_and_defaults_are_left_out():
    assert to_json(Page(1, next_page=Page(2))) == {"pageNumber": 1, "nextPage": {"pageNumber": 2}}


def test_unknown_fields_of_a_dataclass_are_ignored():
    assert from_json(Page, {"pageNumber": 1, "page_number": 2, "later": {}}, "it") == Page(1)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param([], "it: ", id="the whole"),
        pytest.param({}, "it.pageNumber: ", id="a field that is missing"),
        pytest.param({"pageNumber": "1"}, "it.pageNumber: ", id="a number in quotes"),
        pytest.param({"pageNumber": True}, "it.pageNumber: ", id="a truth for a number"),
        pytest.param({"pageNumber": 1, "lines": "ab"}, "it.lines: ", id="a text for a list"),
        pytest.param(
            {"pageNumber": 1, "nextPage": {"pageNumber": 2, "lines": ["", 3]}},
            "it.nextPage.lines[1]: ",
            id="deep inside",
        ),
    ],
)
def test_a_mistake_is_named_by_its_path(value, said):
    with pytest.raises(ArtifactError) as caught:
        from_json(Page, value, "it")
    assert str(caught.value).startswith(said)


def test_a_mistake_is_not_quoted():
    with pytest.raises(ArtifactError) as caught:
        from_json(Page, {"pageNumber": "s3cret"}, "it")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"[" * 100_000, b'{"a":[' + b"0," * 200_000 + b"0]}"])
def test_what_is_no_object_is_refused(content):
    with pytest.raises(ArtifactError, match=r"^it "):
        parse_json(content, "it")


# descriptors and manifests

D = "sha256:" + "a" * 64
CONFIG = {"mediaType": "application/vnd.test", "digest": D, "size": 2}


def _manifest(**changes) -> bytes:
    whole = {"schemaVersion": 2, "mediaType": IMAGE_MANIFEST, "config": CONFIG, "layers": [CONFIG], **changes}
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def test_a_manifest_is_the_same_bytes_after_it_was_read():
    subject = Descriptor.of(b"subject", IMAGE_MANIFEST)
    layer = Descriptor("application/wasm", subject.digest, 3, annotations={"title": "ü"})
    one = ImageManifest(subject, (layer,), "application/x", subject, {"b": "2", "a": "1"})
    assert ImageManifest.parse(one.as_bytes()) == one
    assert ImageManifest.parse(one.as_bytes()).as_bytes() == one.as_bytes()


def test_annotations_in_another_order_are_the_same_bytes():
    config = Descriptor.of(b"{}", "x")
    assert (
        ImageManifest(config, (), annotations={"b": "2", "a": "1"}).as_bytes()
        == ImageManifest(config, (), annotations={"a": "1", "b": "2"}).as_bytes()
    )


def test_fields_that_are_not_known_are_passed_over():
    assert ImageManifest.parse(_manifest(later="something")).layers[0].size == 2


def test_annotations_that_are_null_are_none():
    assert ImageManifest.parse(_manifest(annotations=None)).annotations == {}


def test_an_index_lists_the_type_of_the_config_where_there_is_no_other():
    assert ImageManifest.parse(_manifest()).described().artifact_type == "application/vnd.test"
    assert ImageManifest.parse(_manifest(artifactType="application/x")).described().artifact_type == "application/x"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"[" * 100_000, id="a manifest bomb: nested"),
        pytest.param(b'{"layers":[' + b"0," * 1_000_000 + b"0]}", id="a manifest bomb: wide"),
        pytest.param(_manifest(schemaVersion=1), id="schema 1"),
        pytest.param(_manifest(schemaVersion=True), id="schema true"),
        pytest.param(_manifest(mediaType=...), id="no type of its own"),
        pytest.param(_manifest(mediaType=IMAGE_INDEX), id="an index by its type"),
        pytest.param(_manifest(manifests=[]), id="an index as well"),
        pytest.param(_manifest(config=...), id="no config"),
        pytest.param(_manifest(config=[]), id="a config that is a list"),
        pytest.param(_manifest(layers={}), id="layers that are an object"),
        pytest.param(_manifest(layers=[CONFIG | {"size": -1}]), id="a negative size"),
        pytest.param(_manifest(layers=[CONFIG | {"size": 2.0}]), id="a size with a point"),
        pytest.param(_manifest(layers=[CONFIG | {"size": True}]), id="a size that is true"),
        pytest.param(_manifest(layers=[CONFIG | {"size": "2"}]), id="a size in quotes"),
        pytest.param(_manifest(layers=[CONFIG | {"digest": "sha512:" + "a" * 128}]), id="another algorithm"),
        pytest.param(_manifest(layers=[CONFIG | {"digest": ["sha256:" + "a" * 64]}]), id="a digest that is a list"),
        pytest.param(_manifest(layers=[CONFIG | {"digest": "sha256:../../../etc/passwd"}]), id="a digest that climbs"),
        pytest.param(_manifest(layers=[CONFIG | {"mediaType": None}]), id="a type that is null"),
        pytest.param(_manifest(annotations={"a": 1}), id="an annotation that is a number"),
        pytest.param(_manifest(subject="x"), id="a subject that is a text"),
    ],
)
def test_what_is_no_manifest_is_refused(content):
    with pytest.raises(ArtifactError):
        ImageManifest.parse(content)


def test_the_error_names_the_field():
    with pytest.raises(ArtifactError, match=r"the manifest\.layers\[1\]\.size"):
        ImageManifest.parse(_manifest(layers=[CONFIG, CONFIG | {"size": None}]))


def test_the_error_has_no_name_that_others_chose():
    with pytest.raises(ArtifactError) as caught:
        ImageManifest.parse(_manifest(annotations={"\x1b[2J": 1}))
    assert str(caught.value) == "the manifest.annotations: not texts by name"


@pytest.mark.parametrize(
    "many",
    [
        pytest.param({"layers": [0] * 100_000}, id="layers"),
        pytest.param({"annotations": dict.fromkeys(map(str, range(100_000)), 0)}, id="annotations"),
    ],
)
def test_of_many_mistakes_one_is_kept(many):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(ImageManifest).validate_json(_manifest(**many))
    assert caught.value.error_count() == 1


def test_a_document_says_of_itself_what_it_is():
    assert (
        parse_document(as_bytes({"schemaVersion": 2, "mediaType": IMAGE_INDEX}), IMAGE_INDEX, "it")["schemaVersion"]
        == 2
    )
