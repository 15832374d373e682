"""Blobs of a registry: download and upload, with progress.

A download is verified while it arrives. An upload goes in chunks (distribution-spec, "Pushing a blob in chunks" and
"POST then PUT") and continues after a broken connection.
"""

from __future__ import annotations

import re
from hashlib import sha256
from io import BytesIO
from typing import Final, Protocol

import httpx2

from host.core.names import Digest
from host.errors import RegistryError
from host.oci.documents import Descriptor
from host.oci.exchange import RegistryAnswer, RegistryExchange, RegistryRequest
from host.oci.failures import TransientError

CHUNK_BYTES: Final = 8 * 1024 * 1024
_LARGEST_CHUNK_BYTES: Final = 64 * 1024 * 1024
_DOWNLOAD_TIMEOUT_S: Final = 3600.0  # for one try, however slowly the bytes drip
_OCTETS: Final = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})\Z")


class Progress(Protocol):
    """Receives the progress of transfers, one after the other.

    Each transfer is one `begin`, any number of `advance`, and one `end`, also when it fails. A transfer that starts
    over ends and begins again.
    """

    def begin(self, name: str, total: int) -> None:
        """A transfer of `total` bytes starts. `name` is for people."""

    def advance(self, count: int) -> None:
        """`count` more bytes are done."""

    def end(self) -> None:
        """The transfer is over."""


class NoProgress:
    """A Progress that does nothing."""

    def begin(self, name: str, total: int) -> None:
        pass

    def advance(self, count: int) -> None:
        pass

    def end(self) -> None:
        pass


def download(exchange: RegistryExchange, blob: Descriptor, progress: Progress, what: str) -> bytes:
    """Returns the content that `blob` describes. `what` names it in messages.

    A broken connection starts the download again, up to the number of tries of `exchange`. Raises RegistryError, also
    for more, fewer or other bytes than `blob` describes.
    """
    url = exchange.url(f"blobs/{blob.digest}")
    request = RegistryRequest("GET", url, f"send {what}", follows_redirects=True)

    def once() -> bytes:
        progress.begin(what, blob.size)
        try:
            with exchange.open(request, (200,), _DOWNLOAD_TIMEOUT_S) as response:
                return _receive(response, exchange.registry, blob, progress, what)
        finally:
            progress.end()

    return exchange.retry(once)


def _receive(response: httpx2.Response, registry: str, blob: Descriptor, progress: Progress, what: str) -> bytes:
    content = BytesIO()  # `getvalue` does not copy
    digest = sha256()
    for piece in response.iter_raw():
        if content.tell() + len(piece) > blob.size:
            raise RegistryError(f"{registry} sends more than the {blob.size} B of {what}")
        content.write(piece)
        digest.update(piece)
        progress.advance(len(piece))
    if content.tell() < blob.size:
        raise TransientError(RegistryError(f"what {registry} sends of {what} ends too early"))
    if digest.hexdigest() != blob.digest.hex:
        raise RegistryError(f"{registry} sent other bytes than {blob.digest} for {what}")
    return content.getvalue()


class Upload:
    """One upload of `content`. `what` names it in messages.

    Content of up to one chunk goes in one piece. After a broken connection the registry is asked how many bytes it
    has; if it does not say, the upload starts again.
    """

    def __init__(self, exchange: RegistryExchange, content: bytes, progress: Progress, what: str) -> None:
        self._exchange = exchange
        self._content = content
        self._digest = Digest.of(content)
        self._progress = progress
        self._what = what
        self._location: httpx2.URL | None = None
        self._chunk = CHUNK_BYTES
        self._sent = 0

    def run(self) -> None:
        """Uploads the content unless the registry has it. Raises RegistryError."""
        if self._exchange.retry(self._exists):
            return
        self._progress.begin(self._what, len(self._content))
        try:
            self._exchange.retry(self._once)
        finally:
            self._progress.end()

    def _once(self) -> None:
        location = self._start() if self._location is None else self._resume(self._location)
        while location is not None and len(self._content) - self._sent > self._chunk:
            location = self._send_chunk(location)
        if location is not None:
            self._finish(location)

    def _exists(self) -> bool:
        url = self._exchange.url(f"blobs/{self._digest}")
        request = RegistryRequest("HEAD", url, f"say whether it has {self._what}", follows_redirects=True)
        return self._exchange.fetch(request, (200, 404)).status == httpx2.codes.OK

    def _start(self) -> httpx2.URL:
        """Returns where to send the first chunk."""
        url = self._exchange.url("blobs/uploads/")
        answer = self._exchange.fetch(RegistryRequest("POST", url, f"take {self._what}", content=b""), (202,))
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        if least.isascii() and least.isdigit() and len(least) < 10:
            self._chunk = min(max(CHUNK_BYTES, int(least)), _LARGEST_CHUNK_BYTES)
        return self._next_location(answer)

    def _resume(self, location: httpx2.URL) -> httpx2.URL | None:
        """Returns where to send the rest, or None if the registry has all of it."""
        request = RegistryRequest("GET", location, f"say how much it has of {self._what}")
        answer = self._exchange.fetch(request, (204, 400, 404, 405, 416))
        if answer.status == httpx2.codes.NO_CONTENT:
            self._move_to(min(_received_bytes(answer, 0), len(self._content)))
            return self._next_location(answer)
        if self._exists():  # only the answer to the last piece was lost
            return None
        self._move_to(0)
        return self._start()

    def _send_chunk(self, location: httpx2.URL) -> httpx2.URL:
        piece = self._content[self._sent : self._sent + self._chunk]
        headers = _OCTETS | self._content_range(len(piece))
        answer = self._exchange.fetch(
            RegistryRequest("PATCH", location, f"take {self._what}", headers, piece), (202, 416)
        )
        if answer.status != httpx2.codes.ACCEPTED:
            raise TransientError(RegistryError(f"{self._exchange.registry} has lost its place in {self._what}"))
        received = _received_bytes(answer, self._sent + len(piece))
        if not self._sent < received <= self._sent + len(piece):
            raise RegistryError(f"{self._exchange.registry} does not count right the bytes it has of {self._what}")
        self._move_to(received)
        return self._next_location(answer)

    def _finish(self, location: httpx2.URL) -> None:
        rest = self._content[self._sent :]
        headers = _OCTETS | (self._content_range(len(rest)) if self._sent and rest else {})
        url = location.copy_merge_params({"digest": str(self._digest)})
        answer = self._exchange.fetch(RegistryRequest("PUT", url, f"keep {self._what}", headers, rest), (201,))
        if answer.headers.get("Docker-Content-Digest", str(self._digest)) != str(self._digest):
            raise RegistryError(f"{self._exchange.registry} kept something else than {self._what}")
        self._move_to(len(self._content))

    def _content_range(self, count: int) -> dict[str, str]:
        return {"Content-Range": f"{self._sent}-{self._sent + count - 1}"}

    def _next_location(self, answer: RegistryAnswer) -> httpx2.URL:
        self._location = self._exchange.location(answer.url, answer.headers, f"take {self._what}")
        return self._location

    def _move_to(self, sent: int) -> None:
        if sent < self._sent:
            self._progress.end()
            self._progress.begin(self._what, len(self._content))
            self._progress.advance(sent)
        else:
            self._progress.advance(sent - self._sent)
        self._sent = sent


def _received_bytes(answer: RegistryAnswer, default: int) -> int:
    """The number of bytes that the registry reports in `Range`, or `default` if it reports none.

    `0-0` is zero bytes: docker-registry says so of a new upload, and no chunk of ours is one byte.
    """
    match = _RANGE.match(answer.headers.get("Range", ""))
    if match is None:
        return default
    return int(match[1]) + 1 if int(match[1]) else 0
