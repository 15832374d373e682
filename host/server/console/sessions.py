"""Sessions of the console. Nothing of them is kept: each is a note in a cookie, of whose key it was and until when,
signed under a key that every process of the state has.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Final

from host.state.keys import DataKey
from host.workspace import Workspace

SESSION_S: Final = 8 * 3600
_TEXT = re.compile(r"([a-z0-9]{12})\.([0-9]{16})\.([A-Za-z0-9_-]{24})\.([0-9a-f]{64})\Z")


@dataclass(frozen=True, slots=True)
class Session:
    """`key` is the id of the API key that was signed in with, `id` random; times are Unix time."""

    key: str
    expires_us: int
    id: str

    @property
    def expires_at(self) -> float:
        return self.expires_us / 1e6

    @property
    def began_at(self) -> float:
        return self.expires_at - SESSION_S

    def __str__(self) -> str:
        return f"{self.key}.{self.expires_us}.{self.id}"


class Sessions:
    """One per process, thread-safe. Methods raise StateError; the first that is called reads the state."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._key: DataKey | None = None

    def begin(self, key: str) -> tuple[Session, str]:
        """A session for whoever has the API key of the id `key`, and its text: a secret."""
        session = Session(key, int((time.time() + SESSION_S) * 1e6), secrets.token_urlsafe(18))
        return session, f"{session}.{self._mac('session', session)}"

    def read(self, text: str, now: float) -> Session | None:
        """The session whose text this is, unless it is over."""
        match = _TEXT.match(text)
        if match is None:
            return None
        session = Session(match[1], int(match[2]), match[3])
        made_here = hmac.compare_digest(match[4], self._mac("session", session))
        return session if made_here and now < session.expires_at else None

    def token(self, session: Session) -> str:
        """What a request of this session says that no other site can know."""
        return self._mac("csrf", session)

    def _mac(self, use: str, session: Session) -> str:
        return hmac.new(self._signing_key().key, f"{use}\0{session}".encode(), hashlib.sha256).hexdigest()

    def _signing_key(self) -> DataKey:
        with self._lock:
            if self._key is None:
                with self._workspace.database.writing() as connection:
                    self._key = self._workspace.keys.current(connection, "console")
            return self._key
