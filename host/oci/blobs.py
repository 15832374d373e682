"""How far a transfer has come, for those who show it.

A download that is not complete: a file named by the digest that it is to have, which the next attempt continues.

A blob out of a registry: continued where an earlier attempt broke off, and verified before it is handed on.

A blob into a registry (distribution-spec, "Pushing a blob in chunks" and "POST then PUT").
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import httpx2

from host.core.names import Digest
from host.errors import RegistryError, StateError
from host.oci.documents import Descriptor
from host.oci.exchange import RegistryAnswer, RegistryExchange, RegistryRequest
from host.oci.failures import PassingError


class Progress(Protocol):
    """One transfer after another: `begin`, any number of `advance`, `end`, also where it fails. One that has to start
    over ends, and begins again."""

    def begin(self, name: str, total: int) -> None:
        """`total` bytes of `name` follow."""

    def advance(self, count: int) -> None:
        """`count` more bytes are there."""

    def end(self) -> None:
        """No more follow."""


class NoProgress:
    """Progress that nobody looks at."""

    def begin(self, name: str, total: int) -> None:
        pass

    def advance(self, count: int) -> None:
        pass

    def end(self) -> None:
        pass


class PartialFile:
    """`folder/<hex>`, readable by its owner alone, locked while it is open. Its content is anybody's word until it is
    verified whole. StateError where the file cannot be used, or another process is downloading the same."""

    def __init__(self, folder: Path, digest: Digest) -> None:
        self._path = folder / digest.hex
        self._digest = digest
        self._file = -1
        self.held = 0  # bytes

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            self._file = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            self._lock()
        except OSError as error:
            os.close(self._file)
            raise self._unusable(error) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._file)

    def append(self, piece: bytes) -> None:
        try:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            raise self._unusable(error) from None
        self.held += len(piece)

    def restart(self) -> None:
        """Throw away what is there."""
        os.ftruncate(self._file, 0)
        self.held = 0

    def discard(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)

    def verified(self) -> bytes | None:
        """The whole content, if it has the digest that it is to have."""
        try:
            with os.fdopen(os.dup(self._file), "rb") as file:
                file.seek(0)
                content = file.read()
        except OSError as error:
            raise self._unusable(error) from None
        return content if Digest.of(content) == self._digest else None

    def _lock(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(self._file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "not a file of ours")
        os.fchmod(self._file, 0o600)
        self.held = found.st_size

    def _unusable(self, error: OSError) -> StateError:
        if error.errno == errno.EWOULDBLOCK:
            return StateError(f"{self._digest} is being downloaded by another process")
        return StateError(f"cannot use {str(self._path)!r} for a download: {error.strerror}")


_DEADLINE_S: Final = 3600.0  # for one attempt: what a drip-feeding registry can take at most
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)\Z")  # RFC 9110, section 14.4


def download(exchange: RegistryExchange, blob: Descriptor, folder: Path, progress: Progress, what: str) -> bytes:
    """The content that `blob` describes. What was received of it before a failure stays in `folder`.

    Raises RegistryError (also for other bytes than those described: more, fewer or different) and StateError.
    """
    with PartialFile(folder, blob.digest) as partial:
        fill = _Filling(exchange, blob, partial, progress, what)
        if partial.held > blob.size:
            partial.restart()
        continued = partial.held > 0
        fill.run()
        content = partial.verified()
        if content is None and continued:  # the file lied, or the registry does: only one of them is asked now
            partial.restart()
            fill.run()
            content = partial.verified()
        partial.discard()
    if content is None:
        raise RegistryError(f"{exchange.registry} sent other bytes than {blob.digest} for {what}")
    return content


class _Filling:
    """Brings a partial file to the size that it is to have."""

    def __init__(
        self, exchange: RegistryExchange, blob: Descriptor, partial: PartialFile, progress: Progress, what: str
    ) -> None:
        self._exchange = exchange
        self._blob = blob
        self._partial = partial
        self._progress = progress
        self._what = what

    def run(self) -> None:
        self._begin()
        try:
            self._exchange.tried(self._once)
        finally:
            self._progress.end()

    def _once(self) -> None:
        offset = self._partial.held
        if offset == self._blob.size:  # a range that is empty cannot be asked for
            return
        ranged = {"Range": f"bytes={offset}-"} if offset else {}
        ask = RegistryRequest(
            "GET", self._exchange.url(f"blobs/{self._blob.digest}"), f"send {self._what}", ranged, elsewhere=True
        )
        with self._exchange.begun(ask, (200, 206, 416) if offset else (200,), _DEADLINE_S) as response:
            if not self._continues(response, offset):
                self._restart()
                if response.status_code != httpx2.codes.OK:
                    raise self._passing("does not continue")
            self._receive(response)
        if self._partial.held < self._blob.size:
            raise self._passing("ends too early")

    def _continues(self, response: httpx2.Response, offset: int) -> bool:
        if response.status_code == httpx2.codes.OK:
            return offset == 0
        said = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
        return response.status_code == httpx2.codes.PARTIAL_CONTENT and said is not None and int(said[1]) == offset

    def _receive(self, response: httpx2.Response) -> None:
        until = time.monotonic() + _DEADLINE_S
        for piece in response.iter_raw():
            if self._partial.held + len(piece) > self._blob.size:
                self._partial.discard()
                raise RegistryError(
                    f"{self._exchange.registry} sends more than the {self._blob.size} B of {self._what}"
                )
            self._partial.append(piece)
            self._progress.advance(len(piece))
            if time.monotonic() > until:
                raise RegistryError(f"{self._exchange.registry} takes more than {_DEADLINE_S:.0f} s for {self._what}")

    def _begin(self) -> None:
        self._progress.begin(self._what, self._blob.size)
        self._progress.advance(self._partial.held)

    def _restart(self) -> None:
        self._partial.restart()
        self._progress.end()
        self._begin()

    def _passing(self, how: str) -> PassingError:
        return PassingError(RegistryError(f"what {self._exchange.registry} sends of {self._what} {how}"))


CHUNK_BYTES: Final = 8 * 1024 * 1024
_LARGEST_CHUNK = 64 * 1024 * 1024
_OCTETS: Final = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})\Z")


class Upload:
    """Content on its way. What fits into one chunk is sent in one piece; after a broken connection the registry is
    asked how much it has, and where it does not say, the upload begins again."""

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
        ask = RegistryRequest("HEAD", url, f"say whether it has {self._what}", elsewhere=True)
        return self._exchange.fetch(ask, (200, 404)).status == httpx2.codes.OK

    def _begun(self) -> httpx2.URL:
        url = self._exchange.url("blobs/uploads/")
        answer = self._exchange.fetch(RegistryRequest("POST", url, f"take {self._what}", content=b""), (202,))
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        if least.isascii() and least.isdigit() and len(least) < 10:
            self._chunk = min(max(CHUNK_BYTES, int(least)), _LARGEST_CHUNK)
        return self._placed(answer)

    def _continued(self, location: httpx2.URL) -> httpx2.URL | None:
        """Where to send the rest; None where it turns out to be complete."""
        ask = RegistryRequest("GET", location, f"say how much it has of {self._what}")
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
        ask = RegistryRequest("PATCH", location, f"take {self._what}", _OCTETS | self._range(len(piece)), piece)
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
        answer = self._exchange.fetch(RegistryRequest("PUT", url, f"keep {self._what}", headers, rest), (201,))
        if answer.headers.get("Docker-Content-Digest", str(self._digest)) != str(self._digest):
            raise RegistryError(f"{self._exchange.registry} kept something else than {self._what}")
        self._move_to(len(self._content))

    def _range(self, count: int) -> dict[str, str]:
        return {"Content-Range": f"{self._sent}-{self._sent + count - 1}"}

    def _placed(self, answer: RegistryAnswer) -> httpx2.URL:
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


def _held(answer: RegistryAnswer, default: int) -> int:
    """How many bytes the registry says that it has. `0-0` is nothing: what docker-registry says of a new upload, and
    no chunk of ours is one byte."""
    said = _RANGE.match(answer.headers.get("Range", ""))
    if said is None:
        return default
    return int(said[1]) + 1 if int(said[1]) else 0
