"""The operations of a registry."""

from __future__ import annotations

import json

import pytest

from host.core.names import Digest
from host.errors import RegistryError
from host.oci.documents import IMAGE_MANIFEST, Descriptor, ImageManifest
from tests.oci.conftest import client, new_repository

CONTENT = b"some content"


@pytest.fixture
def kept(registry) -> tuple[str, bytes]:
    """A repository with a manifest under the tag `v1`, and the manifest."""
    name = new_repository()
    with client(registry, repository=name) as one:
        one.upload(CONTENT, "it")
        manifest = ImageManifest(Descriptor.of(CONTENT, "application/x"), ()).as_bytes()
        assert one.put_manifest(manifest, IMAGE_MANIFEST, "v1") is False
    return name, manifest


def test_a_manifest_is_had_by_tag_and_by_digest(registry, kept):
    repository, manifest = kept
    with client(registry, repository=repository) as one:
        assert one.manifest("v1").content == manifest
        assert one.manifest("v1") == one.manifest(str(Digest.of(manifest)))
        assert one.manifest("v1").media_type == IMAGE_MANIFEST


def test_a_manifest_that_is_not_there_is_none(registry, kept):
    with client(registry, repository=kept[0]) as one:
        assert one.find_manifest("none") is None
        assert one.find_manifest("sha256:" + "0" * 64) is None


def test_a_blob_of_another_size_than_was_said_is_refused(registry, kept):
    with client(registry, repository=kept[0]) as one:
        for size in (len(CONTENT) - 1, len(CONTENT) + 1):
            with pytest.raises(RegistryError):
                one.blob(Descriptor("x", Digest.of(CONTENT), size), "it")


def test_a_registry_that_keeps_another_manifest_than_it_was_sent(registry, relay, kept):
    def behave(visit):
        status, headers, body = visit.upstream()
        visit.send(status, headers | {"Docker-Content-Digest": "sha256:" + "0" * 64}, body)

    evil = relay(registry, behave).address
    with client(evil, repository=kept[0]) as one, pytest.raises(RegistryError, match="something else"):
        one.put_manifest(kept[1], IMAGE_MANIFEST, "v1")


def test_a_manifest_that_names_what_is_not_there_is_refused_by_the_registry(registry):
    manifest = ImageManifest(Descriptor.of(b"missing", "application/x"), ()).as_bytes()
    with client(registry) as one, pytest.raises(RegistryError, match="MANIFEST_BLOB_UNKNOWN") as caught:
        one.put_manifest(manifest, IMAGE_MANIFEST, "v1")
    assert caught.value.status == 400


def test_what_is_kept_under_a_tag_may_change_and_under_a_digest_never(registry, kept):
    repository, first = kept
    with client(registry, repository=repository) as one:
        second = json.dumps(json.loads(first) | {"annotations": {"a": "b"}}).encode()
        one.put_manifest(second, IMAGE_MANIFEST, "v1")
        assert one.manifest("v1").content == second
        assert one.manifest(str(Digest.of(first))).content == first
