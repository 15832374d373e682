"""Usage by day, key and catalyst, for people to look at: gathered in memory, and written every second.

A process that is killed loses up to a second of it; the audit log has every run. Limits are counted elsewhere, at once.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict

from host.service.dialects.dialect import Tokens
from host.store.access.usage import Usage, Used

_EVERY_S = 1.0

_log = logging.getLogger(__name__)


class UsageRecorder:
    """One per process, thread-safe."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._lock = threading.Lock()
        self._gathered: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="host-usage", daemon=True)
        self._thread.start()

    def used(self, *, day: str, key: str, catalyst: str, failed: bool, tokens: Tokens) -> None:
        with self._lock:
            counts = self._gathered[day, key, catalyst]
            for at, more in enumerate((1, int(failed), tokens.input, tokens.output)):
                counts[at] += more

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _write_on(self) -> None:
        while not self._closing.wait(_EVERY_S):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            rows = [Used(*names, *counts) for names, counts in self._gathered.items()]
            self._gathered.clear()
        if not rows:
            return
        try:
            self._usage.add(rows)
        except Exception:  # noqa: BLE001 - the thread goes on, or nothing would be written from then on
            _log.exception("the usage of the last second could not be written")
