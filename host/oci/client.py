"""The verbs of a registry (OCI distribution-spec 1.1), for one repository. Whatever is handed out has the digest that
it was asked for by, computed here.

What refers to a manifest: the registry's own list, or, where it keeps none, the index that clients keep under a tag
(distribution-spec, "Listing Referrers" and "Referrers Tag Schema").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx2

from host.core.names import Digest
from host.core.strict_json import Json
from host.errors import ArtifactError, RegistryError
from host.oci.auth import Anonymous, Credentials
from host.oci.blobs import NoProgress, Progress, Upload, download
from host.oci.documents import IMAGE_INDEX, IMAGE_MANIFEST, Descriptor, ImageManifest, as_bytes, document
from host.oci.exchange import RegistryExchange, RegistryRequest
from host.oci.reference import OciReference

MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024  # what the distribution-spec has every client and registry support


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest as the registry keeps it."""

    digest: Digest
    media_type: str
    content: bytes = field(repr=False)


class RegistryClient:
    """For the repository of `reference`; a context manager. Belongs to one thread.

    Every method raises RegistryError: what was asked for, the status and the registry's own words, and the remedy.
    `credentials` are asked for only when the registry asks; the InputError of those that cannot be read comes through.
    """

    def __init__(
        self,
        reference: OciReference,
        credentials: Credentials | None = None,
        *,
        plain_http: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.reference = reference
        self._exchange = RegistryExchange(reference, credentials or Anonymous(), plain_http=plain_http, pause=pause)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._exchange.close()

    def manifest(self, wanted: str | None = None, *, most: int = MAX_MANIFEST_BYTES) -> Fetched:
        """The manifest (or index) under a digest or tag, by default the reference's. One by digest has that digest;
        one by tag has the one that the registry says, if it says."""
        wanted = wanted or self.reference.wanted
        found = self.find_manifest(wanted, most=most)
        if found is None:
            host = self.reference.registry
            raise RegistryError(
                f"there is no {self._named(wanted)}",
                status=404,
                hint=f"check the name and the tag; what one may not see may be hidden: docker login {host}",
            )
        return found

    def find_manifest(self, wanted: str, *, most: int = MAX_MANIFEST_BYTES) -> Fetched | None:
        """The same, or None where there is none."""
        what = f"send the manifest {self._named(wanted)}"
        accept = {"Accept": f"{IMAGE_MANIFEST}, {IMAGE_INDEX}"}
        ask = RegistryRequest("GET", self._exchange.url(f"manifests/{wanted}"), what, accept)
        answer = self._exchange.tried(lambda: self._exchange.fetch(ask, (200, 404), most))
        if answer.status == httpx2.codes.NOT_FOUND:
            return None
        digest = Digest.of(answer.body)
        claimed = answer.headers.get("Docker-Content-Digest", "")
        expected = wanted if wanted.startswith("sha256:") else claimed if claimed.startswith("sha256:") else str(digest)
        if str(digest) != expected:
            raise RegistryError(f"{self.reference.registry} sent other bytes than {expected[:80]}, asked to {what}")
        return Fetched(digest, answer.headers.get("Content-Type", "").partition(";")[0].strip(), answer.body)

    def put_manifest(self, content: bytes, media_type: str, wanted: str) -> bool:
        """Keep a manifest under a tag or its digest. Returns whether the registry itself lists it with what it refers
        to (`OCI-Subject`)."""
        what = f"keep the manifest {self._named(wanted)}"
        ask = RegistryRequest(
            "PUT", self._exchange.url(f"manifests/{wanted}"), what, {"Content-Type": media_type}, content
        )
        answer = self._exchange.tried(lambda: self._exchange.fetch(ask, (201,)))
        digest = str(Digest.of(content))
        if answer.headers.get("Docker-Content-Digest", digest) != digest:
            raise RegistryError(f"{self.reference.registry} did not {what}, but something else")
        return "OCI-Subject" in answer.headers

    def has_blob(self, digest: Digest) -> bool:
        ask = RegistryRequest(
            "HEAD", self._exchange.url(f"blobs/{digest}"), f"say whether it has {digest}", elsewhere=True
        )
        return self._exchange.tried(lambda: self._exchange.fetch(ask, (200, 404))).status == httpx2.codes.OK

    def blob(self, described: Descriptor, what: str) -> bytes:
        """A small one, in memory: `described.size` is all that is read."""
        ask = RegistryRequest("GET", self._exchange.url(f"blobs/{described.digest}"), f"send {what}", elsewhere=True)
        content = self._exchange.tried(lambda: self._exchange.fetch(ask, (200,), described.size)).body
        if Digest.of(content) != described.digest or len(content) != described.size:
            raise RegistryError(f"{self.reference.registry} sent other bytes than {described.digest} for {what}")
        return content

    def download(self, described: Descriptor, folder: Path, what: str, progress: Progress | None = None) -> bytes:
        """A large one, through a file in `folder` that the next attempt continues. Raises StateError as well."""
        return download(self._exchange, described, folder, progress or NoProgress(), what)

    def upload(self, content: bytes, what: str, progress: Progress | None = None) -> None:
        """Nothing is sent that the registry has already."""
        Upload(self._exchange, content, progress or NoProgress(), what).run()

    def referrers(self, subject: Digest, artifact_type: str) -> Iterator[Descriptor]:
        """The manifests that refer to `subject` and say that they are an `artifact_type`, as the registry lists them:
        nothing of that is verified."""
        return listed(self, self._exchange, subject, artifact_type)

    def put_referrers(self, subject: Digest, manifests: list[ImageManifest]) -> None:
        """Keep manifests that refer to `subject`, each under its digest, and see to it that they are found."""
        put(self, subject, manifests)

    def _named(self, wanted: str) -> str:
        return f"{self.reference.place}{'@' if wanted.startswith('sha256:') else ':'}{wanted}"


_MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
_MAX_PAGES: Final = 10
_NOT_OFFERED: Final = (303, 400, 404, 405, 406)  # what registries without the API answer; 404 says the specification
_TRIES: Final = 3


def listed(
    client: RegistryClient, exchange: RegistryExchange, subject: Digest, artifact_type: str
) -> Iterator[Descriptor]:
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
    client: RegistryClient, exchange: RegistryExchange, subject: Digest, artifact_type: str
) -> Iterator[dict[str, Json]]:
    what = f"say what refers to {client.reference.place}@{subject}"
    url: httpx2.URL | None = exchange.url(f"referrers/{subject}", artifactType=artifact_type)
    for _ in range(_MAX_PAGES):
        if url is None:
            return
        ask = RegistryRequest("GET", url, what, {"Accept": IMAGE_INDEX})
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
