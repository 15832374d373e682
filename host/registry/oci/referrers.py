"""What refers to a manifest: the registry's own list, or, where it keeps none, the index that clients keep under a tag
(distribution-spec, "Listing Referrers" and "Referrers Tag Schema")."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

import httpx2

from host.errors import ArtifactError, RegistryError
from host.jsontext import Json
from host.names import Digest
from host.registry.oci.documents import IMAGE_INDEX, IMAGE_MANIFEST, Descriptor, ImageManifest, as_bytes, document
from host.registry.oci.exchange import Ask, Exchange

if TYPE_CHECKING:
    from host.registry.oci.client import RegistryClient

_MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
_MAX_PAGES: Final = 10
_NOT_OFFERED: Final = (303, 400, 404, 405, 406)  # what registries without the API answer; 404 says the specification
_TRIES: Final = 3


def listed(client: RegistryClient, exchange: Exchange, subject: Digest, artifact_type: str) -> Iterator[Descriptor]:
    """See RegistryClient.referrers. Entries that are no descriptors are passed over: anybody who may push can add to
    the list, and must not thereby keep others from what it has."""
    for index in _pages(client, exchange, subject, artifact_type):
        entries = index.get("manifests")
        for entry in entries if isinstance(entries, list) else ():
            try:
                found = Descriptor.parse(entry, "a referrer")
            except ArtifactError:
                continue
            if found.media_type == IMAGE_MANIFEST and found.artifact_type == artifact_type:
                yield found


def put(client: RegistryClient, subject: Digest, manifests: list[ImageManifest]) -> None:
    """See RegistryClient.put_referrers."""
    unlisted = [
        manifest.described()
        for manifest in manifests
        if not client.put_manifest(manifest.as_bytes(), IMAGE_MANIFEST, str(Digest.of(manifest.as_bytes())))
    ]
    for _ in range(_TRIES):  # another client may have replaced the index meanwhile: so it is looked at again
        if not _added(client, subject, unlisted):
            return
    raise RegistryError(f"other clients keep changing what refers to {client.reference.place}@{subject}")


def _added(client: RegistryClient, subject: Digest, wanted: list[Descriptor]) -> bool:
    """Adds to the index under the tag what is not in it yet; whether there was anything to add."""
    if not wanted:
        return False
    index = _tagged(client, subject)
    entries = index.get("manifests")
    if not isinstance(entries, list):
        raise RegistryError(f"what {client.reference.registry} has under {_tag(subject)} is not an index")
    there = [entry.get("digest") for entry in entries if isinstance(entry, dict)]
    missing = [one for one in wanted if str(one.digest) not in there]
    if missing:
        content = as_bytes({**index, "manifests": [*entries, *(one.as_json() for one in missing)]})
        client.put_manifest(content, IMAGE_INDEX, _tag(subject))
    return bool(missing)


def _tagged(client: RegistryClient, subject: Digest) -> dict[str, Json]:
    found = client.find_manifest(_tag(subject), most=_MAX_PAGE_BYTES)
    if found is None:
        return {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": []}
    return _index(client, found.content)


def _pages(
    client: RegistryClient, exchange: Exchange, subject: Digest, artifact_type: str
) -> Iterator[dict[str, Json]]:
    what = f"say what refers to {client.reference.place}@{subject}"
    url: httpx2.URL | None = exchange.url(f"referrers/{subject}", artifactType=artifact_type)
    for _ in range(_MAX_PAGES):
        if url is None:
            return
        ask = Ask("GET", url, what, {"Accept": IMAGE_INDEX})
        answer = exchange.tried(partial(exchange.fetch, ask, (200, *_NOT_OFFERED), _MAX_PAGE_BYTES))
        said = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if answer.status != httpx2.codes.OK or said != IMAGE_INDEX:
            yield _tagged(client, subject)
            return
        yield _index(client, answer.body)
        url = answer.next_page if answer.next_page and exchange.is_registry(answer.next_page) else None


def _index(client: RegistryClient, content: bytes) -> dict[str, Json]:
    try:
        return document(content, IMAGE_INDEX, "the index of referrers")
    except ArtifactError as error:
        raise RegistryError(f"{client.reference.registry}: {error}") from None


def _tag(subject: Digest) -> str:
    return f"sha256-{subject.hex}"
