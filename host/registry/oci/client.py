"""The verbs of a registry (OCI distribution-spec 1.1), for one repository. Whatever is handed out has the digest that
it was asked for by, computed here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx2

from host.errors import RegistryError
from host.names import Digest
from host.registry.oci import referrers
from host.registry.oci.credentials import Anonymous, Credentials
from host.registry.oci.documents import IMAGE_INDEX, IMAGE_MANIFEST, Descriptor, ImageManifest
from host.registry.oci.download import download
from host.registry.oci.exchange import Ask, Exchange
from host.registry.oci.progress import Progress, Unseen
from host.registry.oci.reference import OciReference
from host.registry.oci.upload import Upload

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
        self._exchange = Exchange(reference, credentials or Anonymous(), plain_http=plain_http, pause=pause)

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
        ask = Ask("GET", self._exchange.url(f"manifests/{wanted}"), what, accept)
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
        ask = Ask("PUT", self._exchange.url(f"manifests/{wanted}"), what, {"Content-Type": media_type}, content)
        answer = self._exchange.tried(lambda: self._exchange.fetch(ask, (201,)))
        digest = str(Digest.of(content))
        if answer.headers.get("Docker-Content-Digest", digest) != digest:
            raise RegistryError(f"{self.reference.registry} did not {what}, but something else")
        return "OCI-Subject" in answer.headers

    def has_blob(self, digest: Digest) -> bool:
        ask = Ask("HEAD", self._exchange.url(f"blobs/{digest}"), f"say whether it has {digest}", elsewhere=True)
        return self._exchange.tried(lambda: self._exchange.fetch(ask, (200, 404))).status == httpx2.codes.OK

    def blob(self, described: Descriptor, what: str) -> bytes:
        """A small one, in memory: `described.size` is all that is read."""
        ask = Ask("GET", self._exchange.url(f"blobs/{described.digest}"), f"send {what}", elsewhere=True)
        content = self._exchange.tried(lambda: self._exchange.fetch(ask, (200,), described.size)).body
        if Digest.of(content) != described.digest or len(content) != described.size:
            raise RegistryError(f"{self.reference.registry} sent other bytes than {described.digest} for {what}")
        return content

    def download(self, described: Descriptor, folder: Path, what: str, progress: Progress | None = None) -> bytes:
        """A large one, through a file in `folder` that the next attempt continues. Raises StateError as well."""
        return download(self._exchange, described, folder, progress or Unseen(), what)

    def upload(self, content: bytes, what: str, progress: Progress | None = None) -> None:
        """Nothing is sent that the registry has already."""
        Upload(self._exchange, content, progress or Unseen(), what).run()

    def referrers(self, subject: Digest, artifact_type: str) -> Iterator[Descriptor]:
        """The manifests that refer to `subject` and say that they are an `artifact_type`, as the registry lists them:
        nothing of that is verified."""
        return referrers.listed(self, self._exchange, subject, artifact_type)

    def put_referrers(self, subject: Digest, manifests: list[ImageManifest]) -> None:
        """Keep manifests that refer to `subject`, each under its digest, and see to it that they are found."""
        referrers.put(self, subject, manifests)

    def _named(self, wanted: str) -> str:
        return f"{self.reference.place}{'@' if wanted.startswith('sha256:') else ':'}{wanted}"
