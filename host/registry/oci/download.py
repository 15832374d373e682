"""A blob out of a registry: continued where an earlier attempt broke off, and verified before it is handed on."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Final

import httpx2

from host.errors import RegistryError
from host.registry.oci.documents import Descriptor
from host.registry.oci.exchange import Ask, Exchange
from host.registry.oci.failures import PassingError
from host.registry.oci.partial import PartialFile
from host.registry.oci.progress import Progress

_DEADLINE_S: Final = 3600.0  # for one attempt: what a drip-feeding registry can take at most
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)\Z")  # RFC 9110, section 14.4


def download(exchange: Exchange, blob: Descriptor, folder: Path, progress: Progress, what: str) -> bytes:
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
        self, exchange: Exchange, blob: Descriptor, partial: PartialFile, progress: Progress, what: str
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
        ask = Ask("GET", self._exchange.url(f"blobs/{self._blob.digest}"), f"send {self._what}", ranged, elsewhere=True)
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
