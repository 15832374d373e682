"""The operations of a registry (OCI distribution-spec 1.1) on one repository.

Every manifest and blob that leaves this module has the digest that was requested, computed here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Final, Self

import httpx2

from host.core.names import Digest
from host.core.strict_json import Json
from host.errors import ArtifactError, InputError, RegistryError
from host.oci.auth import CredentialSource, NoCredentials
from host.oci.blobs import NoProgress, Progress, Upload, download, other_digest
from host.oci.documents import (
    IMAGE_INDEX,
    IMAGE_MANIFEST,
    Descriptor,
    ImageManifest,
    as_bytes,
    parse_document,
    parse_json,
)
from host.oci.exchange import RegistryExchange, RegistryRequest
from host.oci.reference import OciReference

_MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024  # the distribution-spec asks every client and registry to support it
_SMALL_BLOB_TIMEOUT_S: Final = 120.0
_MAX_REFERRER_PAGES: Final = 10
_MAX_REFERRER_TRIES: Final = 3
# Answers of registries without the referrers API. The specification says 404; registries say all of these.
_NO_REFERRERS_API: Final = (303, 400, 404, 405, 406, 501)
# Types of registries that keep none, such as a server of plain files: the document's own `mediaType` says what it is.
_ANY_JSON: Final = ("application/json", "application/octet-stream", "text/plain", "")


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A manifest or index in the registry's bytes."""

    digest: Digest
    media_type: str
    content: bytes = field(repr=False)


class RegistryClient:
    """A client for the repository of `reference`; a context manager. Belongs to one thread.

    Every method raises RegistryError, which has the request, the status, the registry's own message and the remedy.
    `credentials` are read only when the registry asks for them; InputError if they cannot be read.
    """

    def __init__(
        self,
        reference: OciReference,
        credentials: CredentialSource | None = None,
        *,
        plain_http: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.reference = reference
        self._exchange = RegistryExchange(reference, credentials or NoCredentials(), plain_http=plain_http, pause=pause)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._exchange.close()

    # manifests

    def manifest(self, wanted: str | None = None, *, most: int = _MAX_MANIFEST_BYTES) -> FetchedManifest:
        """Returns the manifest or index under a digest or tag, by default those of the reference.

        Its bytes have the digest `wanted`, or for a tag the digest in the registry's answer, if it has one.
        """
        wanted = wanted or self.reference.wanted
        found = self.find_manifest(wanted, most=most)
        if found is None:
            host = self.reference.registry
            raise RegistryError(
                f"there is no {self._name_of(wanted)}",
                status=404,
                hint=f"check the name and the tag; a registry may also hide a private repository: docker login {host}",
            )
        return found

    def find_manifest(self, wanted: str, *, most: int = _MAX_MANIFEST_BYTES) -> FetchedManifest | None:
        """Like `manifest`, but returns None if there is none."""
        what = f"send the manifest {self._name_of(wanted)}"
        accept = {"Accept": f"{IMAGE_MANIFEST}, {IMAGE_INDEX}"}
        request = RegistryRequest("GET", self._exchange.url(f"manifests/{wanted}"), what, accept)
        answer = self._exchange.retry(lambda: self._exchange.fetch(request, (200, 404), most))
        if answer.status == httpx2.codes.NOT_FOUND:
            return None
        digest = Digest.of(answer.body)
        claimed = answer.headers.get("Docker-Content-Digest", "")
        expected = wanted if wanted.startswith("sha256:") else claimed if claimed.startswith("sha256:") else str(digest)
        if str(digest) != expected:
            raise RegistryError(f"{self.reference.registry} sent other bytes than {_shown(expected)}, asked to {what}")
        media_type = _media_type(answer.headers)
        if media_type in _ANY_JSON:
            media_type = _own_media_type(answer.body)
        return FetchedManifest(digest, media_type, answer.body)

    def put_manifest(self, content: bytes, media_type: str, wanted: str) -> bool:
        """Stores a manifest under a tag or its digest.

        Returns whether the registry itself adds it to the referrers of its subject (`OCI-Subject`).
        """
        what = f"keep the manifest {self._name_of(wanted)}"
        url = self._exchange.url(f"manifests/{wanted}")
        request = RegistryRequest("PUT", url, what, {"Content-Type": media_type}, content)
        answer = self._exchange.retry(lambda: self._exchange.fetch(request, (200, 201, 202, 204)))
        if other_digest(answer.headers, Digest.of(content)):
            raise RegistryError(f"{self.reference.registry} did not {what}, but something else")
        return "OCI-Subject" in answer.headers

    # blobs

    def blob(self, described: Descriptor, what: str) -> bytes:
        """Returns a small blob. Reads at most `described.size` bytes."""
        return download(self._exchange, described, NoProgress(), what, _SMALL_BLOB_TIMEOUT_S)

    def download(self, described: Descriptor, what: str, progress: Progress | None = None) -> bytes:
        """Returns a large blob, and may take an hour for it."""
        return download(self._exchange, described, progress or NoProgress(), what)

    def upload(self, content: bytes, what: str, progress: Progress | None = None) -> None:
        """Stores a blob. Sends nothing if the registry has it."""
        Upload(self._exchange, content, progress or NoProgress(), what).run()

    # referrers: the registry's own list, or, without one, the index that clients keep under a tag
    # (distribution-spec, "Listing Referrers" and "Referrers Tag Schema")

    def referrers(self, subject: Digest, artifact_type: str) -> Iterator[Descriptor]:
        """Yields the manifests of `artifact_type` that refer to `subject`, as the registry lists them, unverified.

        Skips entries that are no descriptors: everyone with push access can add some, and must not thereby hide the
        others.
        """
        for index in self._referrer_pages(subject, artifact_type):
            entries = index.get("manifests")
            for entry in entries if isinstance(entries, list) else ():
                try:
                    found = Descriptor.parse(entry, "a referrer")
                except ArtifactError:
                    continue
                if found.media_type == IMAGE_MANIFEST and found.artifact_type == artifact_type:
                    yield found

    def put_referrers(self, subject: Digest, manifests: list[ImageManifest]) -> None:
        """Stores manifests that refer to `subject`, each under its digest, and lists them as its referrers."""
        unlisted = [
            manifest.described()
            for manifest in manifests
            if not self.put_manifest(manifest.as_bytes(), IMAGE_MANIFEST, str(Digest.of(manifest.as_bytes())))
        ]
        for _ in range(_MAX_REFERRER_TRIES):  # another client may replace the index meanwhile: read it again each time
            if not self._add_to_index(subject, unlisted):
                return
        raise RegistryError(f"other clients keep changing the referrers of {self.reference.place}@{subject}")

    def _add_to_index(self, subject: Digest, wanted: list[Descriptor]) -> bool:
        """Adds to the index under the tag the entries that it lacks. Returns whether there were any."""
        if not wanted:
            return False
        index = self._tagged_index(subject)
        entries = index.get("manifests")
        if not isinstance(entries, list):
            raise RegistryError(f"{self.reference.registry} has no index under {_referrers_tag(subject)}")
        listed = [entry.get("digest") for entry in entries if isinstance(entry, dict)]
        missing = [one for one in wanted if str(one.digest) not in listed]
        if missing:
            content = as_bytes({**index, "manifests": [*entries, *(one.as_json() for one in missing)]})
            self.put_manifest(content, IMAGE_INDEX, _referrers_tag(subject))
        return bool(missing)

    def _tagged_index(self, subject: Digest) -> dict[str, Json]:
        found = self.find_manifest(_referrers_tag(subject))
        if found is None:
            return {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": []}
        return self._parse_index(found.content)

    def _referrer_pages(self, subject: Digest, artifact_type: str) -> Iterator[dict[str, Json]]:
        what = f"list the referrers of {self.reference.place}@{subject}"
        url: httpx2.URL | None = self._exchange.url(f"referrers/{subject}", artifactType=artifact_type)
        for _ in range(_MAX_REFERRER_PAGES):
            if url is None:
                return
            request = RegistryRequest("GET", url, what, {"Accept": IMAGE_INDEX})
            fetch = partial(self._exchange.fetch, request, (200, *_NO_REFERRERS_API), _MAX_MANIFEST_BYTES)
            answer = self._exchange.retry(fetch)
            if answer.status != httpx2.codes.OK or _media_type(answer.headers) not in (IMAGE_INDEX, *_ANY_JSON):
                yield self._tagged_index(subject)
                return
            yield self._parse_index(answer.body)
            url = answer.next_page if answer.next_page and self._exchange.is_registry(answer.next_page) else None

    def _parse_index(self, content: bytes) -> dict[str, Json]:
        try:
            return parse_document(content, IMAGE_INDEX, "the index of referrers")
        except ArtifactError as error:
            raise RegistryError(f"{self.reference.registry}: {error}") from None

    def _name_of(self, wanted: str) -> str:
        return f"{self.reference.place}{'@' if wanted.startswith('sha256:') else ':'}{wanted}"


def _shown(digest: str) -> str:
    """A digest for a message. No other text from a registry gets into one."""
    try:
        return str(Digest.parse(digest))
    except InputError:
        return "those of the digest that it says"


def _media_type(headers: httpx2.Headers) -> str:
    return str(headers.get("Content-Type", "")).partition(";")[0].strip().lower()


def _own_media_type(content: bytes) -> str:
    """What a manifest calls itself; empty where it says nothing."""
    try:
        own = parse_json(content, "the manifest").get("mediaType")
    except ArtifactError:
        return ""
    return own if isinstance(own, str) else ""


def _referrers_tag(subject: Digest) -> str:
    return f"sha256-{subject.hex}"
