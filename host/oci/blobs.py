"""Blobs of a registry: download and upload, with progress.

A download is verified while it arrives. An upload goes in chunks (distribution-spec, "Pushing a blob in chunks" and
"POST then PUT") and continues after a broken connection.
"""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from typing import Final, Protocol

import httpx2

from host.core.names import Digest
from host.errors import RegistryError
from host.oci import failures
from host.oci.documents import Descriptor
from host.oci.exchange import RegistryAnswer, RegistryExchange, RegistryRequest
from host.oci.failures import TransientError

CHUNK_BYTES: Final = 8 * 1024 * 1024
_LARGEST_CHUNK_BYTES: Final = 64 * 1024 * 1024
_DOWNLOAD_TIMEOUT_S: Final = 3600.0  # for one try, however slowly the bytes drip
_CODING_BYTES: Final = 64 * 1024  # what a content coding may add to bytes that do not get smaller by it
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


# Answers to a HEAD from which nothing follows. Some registries do not know the method, some hide a blob that is missing
# like a repository that is private, and a storage may sign its URLs for GET alone.
_NO_ANSWER_TO_HEAD: Final = (400, 401, 403, 405, 501)
_DONE: Final = (200, 201, 202, 204)  # the specification says 201, and 202 of a chunk; registries say all of these
_NOT_IN_ONE_PIECE: Final = (400, 404, 405, 411, 415, 501)
_NOT_IN_CHUNKS: Final = (404, 405, 501)


def download(
    exchange: RegistryExchange, blob: Descriptor, progress: Progress, what: str, timeout_s: float | None = None
) -> bytes:
    """Returns the content that `blob` describes. `what` names it in messages. One try takes an hour at most, or
    `timeout_s`.

    A broken connection starts the download again, up to the number of tries of `exchange`. Raises RegistryError, also
    for more, fewer or other bytes than `blob` describes. The digest decides whether it covers the bytes as they are
    sent, or those within a content coding: some storages label a compressed blob with it, some proxies compress.
    """
    url = exchange.url(f"blobs/{blob.digest}")
    request = RegistryRequest("GET", url, f"send {what}", follows_redirects=True)

    def once() -> bytes:
        progress.begin(what, blob.size)
        try:
            with exchange.open(request, (200,), timeout_s or _DOWNLOAD_TIMEOUT_S) as response:
                return _receive(response, exchange.registry, blob, progress, what)
        finally:
            progress.end()

    return exchange.retry(once)


def _receive(response: httpx2.Response, registry: str, blob: Descriptor, progress: Progress, what: str) -> bytes:
    content = BytesIO()  # `getvalue` does not copy
    digest = sha256()
    coded = any(map(str.strip, response.headers.get_list("Content-Encoding")))
    most = blob.size + (_CODING_BYTES if coded else 0)
    for piece in response.iter_raw():
        if content.tell() + len(piece) > most:
            raise RegistryError(f"{registry} sends more than the {blob.size} B of {what}")
        content.write(piece)
        digest.update(piece)
        progress.advance(len(piece))
    if coded and digest.hexdigest() != blob.digest.hex:
        plain = failures.decoded(response, content.getvalue(), blob.size + 1)
        content, digest = BytesIO(plain), sha256(plain)
        content.seek(len(plain))
    if content.tell() < blob.size:
        raise TransientError(RegistryError(f"what {registry} sends of {what} ends too early"))
    if digest.hexdigest() != blob.digest.hex:
        raise RegistryError(f"{registry} sent other bytes than {blob.digest} for {what}")
    return content.getvalue()


class Upload:
    """One upload of `content`. `what` names it in messages.

    Content of up to one chunk goes in one piece. Where a registry takes nothing in one piece, or nothing in chunks, the
    upload starts again in the other way. After a broken connection the registry is asked how many bytes it has; if it
    does not say, the upload starts again.
    """

    def __init__(self, exchange: RegistryExchange, content: bytes, progress: Progress, what: str) -> None:
        self._exchange = exchange
        self._content = content
        self._digest = Digest.of(content)
        self._progress = progress
        self._what = what
        self._location: httpx2.URL | None = None
        self._chunk = CHUNK_BYTES
        self._in_one_piece: bool | None = None  # None: as its size says
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
        while location is not None and self._in_chunks():
            location = self._send_chunk(location)
        if location is not None:
            self._finish(location)

    def _in_chunks(self) -> bool:
        left = len(self._content) - self._sent
        return left > self._chunk if self._in_one_piece is None else left > 0 and not self._in_one_piece

    def _other_way(self, *, in_one_piece: bool) -> TransientError:
        """The error that starts the upload again, in the other way."""
        self._in_one_piece = in_one_piece
        self._location = None
        self._move_to(0)
        return TransientError(RegistryError(f"{self._exchange.registry} takes {self._what} in no way that is known"))

    def _exists(self) -> bool:
        url = self._exchange.url(f"blobs/{self._digest}")
        what = f"say whether it has {self._what}"
        head = RegistryRequest("HEAD", url, what, follows_redirects=True)
        status = self._exchange.fetch(head, (200, 404, *_NO_ANSWER_TO_HEAD)).status
        if status not in _NO_ANSWER_TO_HEAD:
            return status == httpx2.codes.OK
        with self._exchange.open(replace(head, method="GET"), (200, 404, *_NO_ANSWER_TO_HEAD)) as response:
            return response.status_code == httpx2.codes.OK  # else the upload shows what is wrong

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
        request = RegistryRequest("PATCH", location, f"take {self._what}", headers, piece)
        otherwise = _NOT_IN_CHUNKS if self._in_one_piece is None and not self._sent else ()
        answer = self._exchange.fetch(request, (*_DONE, 416, *otherwise))
        if answer.status in otherwise:
            raise self._other_way(in_one_piece=True)
        if answer.status not in _DONE:
            raise TransientError(RegistryError(f"{self._exchange.registry} has lost its place in {self._what}"))
        received = _received_bytes(answer, self._sent + len(piece))
        if not self._sent < received <= self._sent + len(piece):
            raise RegistryError(f"{self._exchange.registry} does not count right the bytes it has of {self._what}")
        self._move_to(received)
        return self._next_location(answer)

    def _finish(self, location: httpx2.URL) -> None:
        rest = self._content[self._sent :]
        headers = _OCTETS | (self._content_range(len(rest)) if self._sent and rest else {})
        query = b"&".join(filter(None, [location.query, f"digest={self._digest}".encode()]))  # the rest as it came
        request = RegistryRequest("PUT", location.copy_with(query=query), f"keep {self._what}", headers, rest)
        otherwise = _NOT_IN_ONE_PIECE if self._in_one_piece is None and rest and not self._sent else ()
        answer = self._exchange.fetch(request, (*_DONE, *otherwise))
        if answer.status in otherwise:
            raise self._other_way(in_one_piece=False)
        if other_digest(answer.headers, self._digest):
            raise RegistryError(f"{self._exchange.registry} kept something else than {self._what}")
        if answer.status != httpx2.codes.CREATED and not self._exists():
            raise TransientError(RegistryError(f"{self._exchange.registry} has not kept {self._what}"))
        self._move_to(len(self._content))

    def _content_range(self, count: int) -> dict[str, str]:
        return {"Content-Range": f"{self._sent}-{self._sent + count - 1}"}

    def _next_location(self, answer: RegistryAnswer) -> httpx2.URL:
        if self._location is None or "Location" in answer.headers:
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


def other_digest(headers: httpx2.Headers, digest: Digest) -> bool:
    """Whether the registry says that it has kept bytes of another digest. One of another algorithm says nothing."""
    claimed = headers.get("Docker-Content-Digest", "")
    return claimed.startswith("sha256:") and claimed != str(digest)


def _received_bytes(answer: RegistryAnswer, default: int) -> int:
    """The number of bytes that the registry reports in `Range`, or `default` if it reports none.

    `0-0` is zero bytes: docker-registry says so of a new upload, and no chunk of ours is one byte.
    """
    match = _RANGE.match(answer.headers.get("Range", ""))
    if match is None:
        return default
    return int(match[1]) + 1 if int(match[1]) else 0
