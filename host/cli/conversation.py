"""A connection for `host run --stream`: events from standard input, a JSON text a line; the other side's to standard
output, in the same way.

The end of the input closes the connection, once what was asked for is answered and nothing more comes.
"""

from __future__ import annotations

import base64
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from host.cli.output.terminal import as_json, put, say
from host.core.strict_json import Json, parse_json
from host.core.waiting import start
from host.core.wit import WEBSOCKET
from host.errors import HostError, InputError, OperationFailed, StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from host.core.operation import Result
    from host.runtime.catalyst import Catalyst
    from host.runtime.connections import EventConnection

_QUIET_S: Final = 1.0  # without an event, after the end of the input: then no more is waited for
_ASKS: Final = "response.create"
_ANSWERS: Final = frozenset(
    {
        *("response.done", "response.completed", "response.failed", "response.incomplete", "response.cancelled"),
        "error",
    }
)


def connects(catalyst: Catalyst, operation: Mapping[str, Json]) -> bool:
    """Whether the operation is a connection: its declaration says so, or where there is none, its name."""
    name = operation.get("operation")
    if WEBSOCKET not in catalyst.imports or not isinstance(name, str):
        return False
    spec = catalyst.operation(name)
    return name.endswith(".connect") if spec is None else spec.websocket


class Speaker:
    """Sends the lines of standard input, on a thread of its own, and ends the connection after the last."""

    def __init__(self, connection: EventConnection) -> None:
        self.failure: HostError | None = None
        self._connection = connection
        self._changed = threading.Condition()
        self._asked = 0  # that have no answer yet
        self._moved = time.monotonic()
        start(self._speak, name="host-standard-input")

    def heard(self, event: Json) -> None:
        """An event of the other side has come."""
        with self._changed:
            self._moved = time.monotonic()
            if isinstance(event, dict) and event.get("type") in _ANSWERS:
                self._asked = max(0, self._asked - 1)
            self._changed.notify_all()

    def end(self) -> None:
        """The connection has ended."""
        with self._changed:
            self._asked, self._moved = 0, 0.0
            self._changed.notify_all()

    def _speak(self) -> None:
        try:
            for number, line in enumerate(sys.stdin.buffer if sys.stdin is not None else (), start=1):
                if text := line.strip():
                    self._say(number, text)
        except StateError:  # the connection has ended: the iteration says how
            return
        except HostError as error:
            self.failure = error
            self._connection.hang_up()
            return
        with self._changed:
            self._moved = time.monotonic()
            while (left := self._moved + _QUIET_S - time.monotonic()) > 0 or self._asked:
                self._changed.wait(left if left > 0 else None)
        self._connection.hang_up()

    def _say(self, number: int, text: bytes) -> None:
        try:
            event = parse_json(text, f"line {number} of standard input")
        except InputError as error:
            raise InputError(error.message, hint="each line is one event, a JSON text") from None
        if isinstance(event, dict) and event.get("type") == _ASKS:
            with self._changed:
                self._asked += 1
        self._connection.send(text.decode())


def show_conversation(connection: EventConnection) -> Result:
    """Print the events of the other side as they come, and return the result. Raises what the iteration raises, but for
    an error status, and InputError for a line that is no event."""
    speaker = Speaker(connection)
    try:
        for event in connection:
            speaker.heard(event)
            shown = {"data": base64.b64encode(event).decode("ascii")} if isinstance(event, bytes) else event
            put(as_json(shown, pretty=False))
    except OperationFailed as error:
        say(f"the operation ended in status {error.result.status}")
    finally:
        speaker.end()
    if speaker.failure is not None:
        raise speaker.failure
    return connection.result
