"""`catalyst:host/websocket`: connections on which both sides send messages."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from json import dumps, loads
from types import TracebackType
from typing import Any, NamedTuple, Self

from catalyst.sdk.errors import HostRefused, UpstreamError
from catalyst.sdk.interfaces import interface

_interface = interface("websocket")

_LONGEST_WAIT_MS = 2**32 - 1
_ERRORS = 400


class Closed(NamedTuple):
    """The end of a connection: its code (RFC 6455, section 7.4; 1006 where no close frame came) and reason; and the
    numbers of messages that were sent and received."""

    code: int
    reason: str
    sent: int = 0
    received: int = 0

    @property
    def ok(self) -> bool:
        """Whether it ended as connections do that have done what they were for."""
        return self.code in (1000, 1001, 1005)


class WebSocket:
    """An open connection. `with` closes it. `subprotocol` is the one that the other side chose, "" for none.

    `relayed`: the host itself passes the messages between the caller and the other side. `wait` then waits for the end.
    """

    def __init__(self, opened: dict[str, Any]) -> None:
        self.handle: str = opened["handle"]
        self.subprotocol: str = opened.get("subprotocol", "")
        self.headers: dict[str, str] = opened.get("headers", {})
        self.relayed: bool = opened.get("relay", False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, message: str | bytes | Mapping[str, str]) -> Closed | None:
        """Sends a text, bytes, or an attachment `{"$attachment": id}` as binary data. Returns the end of a connection
        that has ended, whose message is not sent. Raises HostRefused."""
        if isinstance(message, str):
            told = {"text": message}
        elif isinstance(message, bytes):
            told = {"data": b64encode(message).decode()}
        else:
            told = {"attachment": message["$attachment"]}
        return _closed(_asked(_interface.send(self.handle, dumps(told))))

    def receive(self, timeout_ms: int = _LONGEST_WAIT_MS) -> str | bytes | Closed | None:
        """Returns the next message, the end of the connection, or None where nothing came in time. Raises
        HostRefused."""
        answer = _asked(_interface.receive(self.handle, timeout_ms))
        if "text" in answer:
            return str(answer["text"])
        if "data" in answer:
            return b64decode(answer["data"])
        return _closed(answer)

    def wait(self) -> Closed:
        """Waits for the end of a relayed connection. Raises HostRefused."""
        while True:
            if isinstance(answer := self.receive(), Closed):
                return answer

    def close(self) -> None:
        _interface.close(self.handle)


def connect(
    url: str, *, headers: Mapping[str, str] | None = None, subprotocols: Sequence[str] = (), relay: bool = False
) -> WebSocket:
    """Opens a connection to `url` (`wss://…`). `subprotocols` are offered in their order.

    `relay` asks the host to pass the messages between the caller and the other side. Without a caller who exchanges
    messages that is HostRefused (`no_caller`), and nothing is sent. Raises HostRefused, and UpstreamError where the
    other side answers and opens no connection.
    """
    if _interface is None:
        raise HostRefused("http_error", "the manifest does not ask for websocket")
    message: dict[str, Any] = {"url": url, "headers": dict(headers or {})}
    if subprotocols:
        message["subprotocols"] = list(subprotocols)
    if relay:
        message["relay"] = True
    opened = loads(_interface.connect(dumps(message)))
    if "status" in opened:
        refused = UpstreamError.of(opened["status"], opened.get("body", ""), opened.get("headers", {}))
        if refused.status < _ERRORS:
            refused.status, refused.error = 502, opened["error"]
        raise refused
    return WebSocket(_asked(opened))


def _asked(answer: Any) -> Any:
    document = loads(answer) if isinstance(answer, str) else answer
    if "error" in document:
        raise HostRefused.of(document["error"])
    return document


def _closed(answer: dict[str, Any]) -> Closed | None:
    end = answer.get("closed")
    return Closed(end["code"], end["reason"], answer.get("sent", 0), answer.get("received", 0)) if end else None
