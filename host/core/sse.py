"""Server-sent events, as they arrive (WHATWG HTML, 9.2.6): of each event, its data."""

from __future__ import annotations

import re

_LINE_END = re.compile(r"\r\n|\n|\r")


class EventParser:
    """`feed` takes text cut anywhere and returns the data of each event that it completes. Bounded by the response's
    own limit: nothing is kept but the event under way."""

    def __init__(self) -> None:
        self._unfinished: list[str] = []  # pieces of the line under way
        self._held = ""  # a CR at the end of a piece: the other half of a CRLF may follow
        self._data: list[str] = []
        self._begun = False

    def feed(self, text: str) -> list[str]:
        if not self._begun and text:
            self._begun = True
            text = text.removeprefix("\ufeff")
        text, self._held = self._held + text, ""
        if text.endswith("\r"):
            text, self._held = text[:-1], "\r"
        *whole, rest = _LINE_END.split(text)
        events: list[str] = []
        for line in whole:
            self._line("".join((*self._unfinished, line)), events)
            self._unfinished.clear()
        if rest:
            self._unfinished.append(rest)
        return events

    def finish(self) -> list[str]:
        """At the end of the response: what a server left without its last blank line. The standard drops it; an answer
        that a provider cut short after a whole line is worth having."""
        events: list[str] = []
        self._line("".join(self._unfinished), events)
        self._unfinished.clear()
        self._line("", events)
        return events

    def _line(self, line: str, events: list[str]) -> None:
        if not line:
            if self._data:
                events.append("\n".join(self._data))
                self._data = []
            return
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
