"""The messages of a WebSocket (RFC 6455), the end of one, and the caller of a run whose messages the host relays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol, TypeAlias

SocketMessage: TypeAlias = str | bytes
"""A text, or binary data."""

# RFC 6455, 7.4.1, and the registry that it makes
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
NO_CODE: Final = 1005  # its close frame had none
ABNORMAL: Final = 1006  # no close frame came
REFUSED: Final = 1008
TOO_BIG: Final = 1009
FAILED: Final = 1011
RESTARTS: Final = 1012

SENDABLE: Final = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
_LONGEST_REASON: Final = 123  # bytes of UTF-8


class Closed(NamedTuple):
    """The end of a WebSocket: its code (RFC 6455, 7.4) and reason. The code is 1005 where a close frame had none, and
    1006 where the connection ended without one."""

    code: int
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ended as connections do that have done what they were for."""
        return self.code in (NORMAL, GOING_AWAY, NO_CODE)

    def to_send(self) -> Closed:
        """This as a close frame can say it."""
        reason = self.reason.encode("utf-8", "replace")[:_LONGEST_REASON].decode("utf-8", "ignore")
        return Closed(self.code if self.code in SENDABLE else NORMAL, reason)


class Conversation(Protocol):
    """The caller of a run, as the run's thread sees it. A text for the caller passes through the run (`Run.emit`),
    and only where there is room."""

    @property
    def has_room(self) -> bool:
        """Whether the caller would take another message now."""
        ...

    def fileno(self) -> int:
        """A descriptor that can be read when the caller has said something, or has made room, since `attend`."""
        ...

    def attend(self) -> None:
        """What the caller does from now on is to be told anew."""
        ...

    def wait(self, seconds: float) -> None:
        """Until the caller has said something or has made room, at most for so long."""
        ...

    def hand(self, message: SocketMessage) -> bool:
        """Hand the caller a message. Returns False where the caller takes no more."""
        ...

    def heard(self) -> SocketMessage | Closed | None:
        """The next that the caller says; None where there is nothing now."""
        ...

    def opened(self, subprotocol: str, headers: Mapping[str, str]) -> None:
        """The connection is open."""
        ...

    def closed(self, end: Closed) -> None:
        """The connection has ended so."""
        ...


def size_of(message: SocketMessage) -> int:
    """In bytes of UTF-8."""
    return len(message) if isinstance(message, bytes) or message.isascii() else len(message.encode("utf-8", "replace"))
