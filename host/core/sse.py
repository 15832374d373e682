"""Server-sent events, parsed as the HTML Standard says (section 9.2.6, "Interpreting an event stream").

The host and its guests share this file: in `catalyst/sdk` it is a link. So it imports nothing but the standard library.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class ServerSentEvent(NamedTuple):
    """`name` is `message` where the stream gives none; `id` is the last that the stream gave."""

    data: str
    name: str = "message"
    id: str = ""


class EventParser:
    """Takes text in pieces of any size. Returns each event with the piece that ends it, and keeps nothing but the event
    under way."""

    def __init__(self) -> None:
        self._at_start = True
        self._after_cr = False  # a line feed that opens the next piece belongs to that carriage return
        self._line: list[str] = []  # the pieces of a line that has not ended: joined once, however many they are
        self._data: list[str] = []
        self._name = ""
        self._id = ""

    def feed(self, text: str) -> list[ServerSentEvent]:
        if text and self._at_start:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        if text and self._after_cr:
            self._after_cr = False
            text = text.removeprefix("\n")
        if not text:
            return []
        self._after_cr = text.endswith("\r")
        if "\n" not in text and "\r" not in text:
            self._line.append(text)
            return []
        lines = "".join([*self._line, text]).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._line = [lines.pop()]
        return [event for line in lines if (event := self._take(line)) is not None]

    def end(self) -> ServerSentEvent | None:
        """The event that the end of the stream cut off, if there is one. The standard drops it; an answer that a
        provider cut short after a whole line is worth having."""
        self._take("".join(self._line))
        self._line = []
        return self._take("")

    def _take(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        data, name = self._data, self._name
        self._data, self._name = [], ""
        return ServerSentEvent("\n".join(data), name or "message", self._id) if data else None


def events(pieces: Iterable[str]) -> Iterator[ServerSentEvent]:
    """Every event of a stream, with the one that its end cut off."""
    parser = EventParser()
    for piece in pieces:
        yield from parser.feed(piece)
    if (last := parser.end()) is not None:
        yield last
