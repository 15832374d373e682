"""A blob into a registry (distribution-spec, "Pushing a blob in chunks" and "POST then PUT")."""

from __future__ import annotations

import re
from typing import Final

import httpx2

from host.errors import RegistryError
from host.names import Digest
from host.registry.oci.exchange import Answer, Ask, Exchange
from host.registry.oci.failures import PassingError
from host.registry.oci.progress import Progress

CHUNK_BYTES: Final = 8 * 1024 * 1024
_LARGEST_CHUNK = 64 * 1024 * 1024
_OCTETS: Final = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})\Z")


class Upload:
    """Content on its way. What fits into one chunk is sent in one piece; after a broken connection the registry is
    asked how much it has, and where it does not say, the upload begins again."""

    def __init__(self, exchange: Exchange, content: bytes, progress: Progress, what: str) -> None:
        self._exchange = exchange
        self._content = content
        self._digest = Digest.of(content)
        self._progress = progress
        self._what = what
        self._location: httpx2.URL | None = None
        self._chunk = CHUNK_BYTES
        self._sent = 0

    def run(self) -> None:
        """Raises RegistryError."""
        if self._exchange.tried(self._is_there):
            return
        self._progress.begin(self._what, len(self._content))
        try:
            self._exchange.tried(self._once)
        finally:
            self._progress.end()

    def _once(self) -> None:
        location = self._begun() if self._location is None else self._continued(self._location)
        while location is not None and len(self._content) - self._sent > self._chunk:
            location = self._send_chunk(location)
        if location is not None:
            self._finish(location)

    def _is_there(self) -> bool:
        url = self._exchange.url(f"blobs/{self._digest}")
        ask = Ask("HEAD", url, f"say whether it has {self._what}", elsewhere=True)
        return self._exchange.fetch(ask, (200, 404)).status == httpx2.codes.OK

    def _begun(self) -> httpx2.URL:
        url = self._exchange.url("blobs/uploads/")
        answer = self._exchange.fetch(Ask("POST", url, f"take {self._what}", content=b""), (202,))
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        if least.isascii() and least.isdigit() and len(least) < 10:
            self._chunk = min(max(CHUNK_BYTES, int(least)), _LARGEST_CHUNK)
        return self._placed(answer)

    def _continued(self, location: httpx2.URL) -> httpx2.URL | None:
        """Where to send the rest; None where it turns out to be complete."""
        ask = Ask("GET", location, f"say how much it has of {self._what}")
        answer = self._exchange.fetch(ask, (204, 400, 404, 405, 416))
        if answer.status == httpx2.codes.NO_CONTENT:
            self._move_to(min(_held(answer, 0), len(self._content)))
            return self._placed(answer)
        if self._is_there():  # only the answer to the last piece was lost
            return None
        self._move_to(0)
        return self._begun()

    def _send_chunk(self, location: httpx2.URL) -> httpx2.URL:
        piece = self._content[self._sent : self._sent + self._chunk]
        ask = Ask("PATCH", location, f"take {self._what}", _OCTETS | self._range(len(piece)), piece)
        answer = self._exchange.fetch(ask, (202, 416))
        if answer.status != httpx2.codes.ACCEPTED:
            raise PassingError(RegistryError(f"{self._exchange.registry} has lost its place in {self._what}"))
        held = _held(answer, self._sent + len(piece))
        if not self._sent < held <= self._sent + len(piece):
            raise RegistryError(f"{self._exchange.registry} does not count right what it is sent of {self._what}")
        self._move_to(held)
        return self._placed(answer)

    def _finish(self, location: httpx2.URL) -> None:
        rest = self._content[self._sent :]
        headers = _OCTETS | (self._range(len(rest)) if self._sent and rest else {})
        url = location.copy_merge_params({"digest": str(self._digest)})
        answer = self._exchange.fetch(Ask("PUT", url, f"keep {self._what}", headers, rest), (201,))
        if answer.headers.get("Docker-Content-Digest", str(self._digest)) != str(self._digest):
            raise RegistryError(f"{self._exchange.registry} kept something else than {self._what}")
        self._move_to(len(self._content))

    def _range(self, count: int) -> dict[str, str]:
        return {"Content-Range": f"{self._sent}-{self._sent + count - 1}"}

    def _placed(self, answer: Answer) -> httpx2.URL:
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


def _held(answer: Answer, default: int) -> int:
    """How many bytes the registry says that it has. `0-0` is nothing: what docker-registry says of a new upload, and
    no chunk of ours is one byte."""
    said = _RANGE.match(answer.headers.get("Range", ""))
    if said is None:
        return default
    return int(said[1]) + 1 if int(said[1]) else 0
