"""An upstream's answer to the request for a stream: server-sent events, a document in place of them, and its end.

`EventParser` reads events as the HTML Standard says (section 9.2.6, "Interpreting an event stream"). `AnswerReader` is
the state machine above it: it tells events from a document, and a whole answer from one that failed or broke off.

The host and its guests share this file: in `catalyst/sdk` it is a link. So it imports nothing but the standard library.
"""

import re
from collections.abc import Iterable, Iterator
from json import JSONDecoder, dumps
from math import isfinite
from typing import Any, Literal, NamedTuple, Self

HEAD_LIMIT = 2000  # characters of what came before the first event, for error messages


class ServerSentEvent(str):
    """An event: the text is its data. `event` (its name), `id` and `retry` (milliseconds) are as they were sent with
    it, None where they were not."""

    __slots__ = ("__dict__",)  # few events have any of these
    event: str | None = None
    id: str | None = None
    retry: int | None = None

    @classmethod
    def of(cls, data: str, event: str | None, id: str | None, retry: int | None) -> Self:  # noqa: A002 - the standard's word
        made = cls(data)
        if event is not None:
            made.event = event
        if id is not None:
            made.id = id
        if retry is not None:
            made.retry = retry
        return made

    @property
    def data(self) -> str:
        return str(self)

    @property
    def name(self) -> str:
        """`message` where no name was sent."""
        return self.event or "message"


class Comment(str):
    """A comment between events, without its colon. Servers send comments to keep a connection open."""

    __slots__ = ()


class Stray(Comment):
    """A line that is no field of an event, but the beginning of a JSON object. The standard ignores it. Some servers
    write an error so, once they have begun a stream."""

    __slots__ = ()


class EventParser:
    """Takes text in pieces of any size. Returns each event and comment with the piece that ends it, and keeps nothing
    but the event under way. An `id` or a `retry` without data goes with the next event."""

    def __init__(self) -> None:
        self._at_start = True
        self._after_cr = False  # a line feed that opens the next piece belongs to that carriage return
        self._line: list[str] = []  # the pieces of a line that has not ended: joined once, however many they are
        self._data: list[str] = []
        self._name: str | None = None
        self._id: str | None = None
        self._retry: int | None = None
        self.last: Stray | None = None  # a line that the end of the stream cut off

    def feed(self, text: str) -> list[ServerSentEvent | Comment]:
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
        if self._line:
            text = "".join([*self._line, text])
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        lines = text.split("\n")
        rest = lines.pop()
        self._line = [rest] if rest else []
        return [item for line in lines if (item := self._take(line)) is not None]

    def end(self) -> ServerSentEvent | None:
        """The event that the end of the stream cut off, if there is one. The standard drops it; an answer that a
        provider cut short after a whole line is worth having."""
        taken = self._take(line) if (line := "".join(self._line)) else None
        self.last = taken if isinstance(taken, Stray) else None
        self._line = []
        return self._dispatch()

    @property
    def under_way(self) -> bool:
        """Whether an event has begun and has not ended."""
        line = "".join(self._line)
        return bool(self._data or self._name is not None or (line.strip() and not line.startswith(":")))

    def _take(self, line: str) -> ServerSentEvent | Comment | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif not name:
            return Comment(value)
        elif name == "event":
            self._name = value
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 16:
            self._retry = int(value)
        elif line.startswith("{"):
            return Stray(line)
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        data, name = self._data, self._name
        self._name = None
        if not data:
            return None
        self._data = []
        event = ServerSentEvent.of(data[0] if len(data) == 1 else "\n".join(data), name, self._id, self._retry)
        self._id = self._retry = None
        return event


def events(pieces: Iterable[str]) -> Iterator[ServerSentEvent]:
    """Every event of a stream, with the one that its end cut off."""
    parser = EventParser()
    for piece in pieces:
        yield from (item for item in parser.feed(piece) if isinstance(item, ServerSentEvent))
    if (last := parser.end()) is not None:
        yield last


class Failure(NamedTuple):
    """An error that an upstream reports within an answer. `status` is 400 to 599: the upstream's, or 502."""

    status: int
    error: dict[str, Any]


_DONE = "[DONE]"  # the data of the last event of a stream, by OpenAI's convention
_LAST = frozenset(  # types of events after which an answer has no more
    {
        "response.completed",
        "response.incomplete",
        "response.cancelled",
        "response.failed",
        "transcript.text.done",
        "speech.audio.done",
        "message_stop",
    }
)
_LAST_OF_ONE = frozenset({"image_generation.completed", "image_edit.completed"})  # one for each image
_FAILED = frozenset({"response.failed", "thread.run.failed"})  # types of events that report an error of the answer
_NAMES = _LAST | _LAST_OF_ONE | _FAILED | {"error", "done"}
_CUT = "the stream broke off in the middle of an event"
_NO_FIELD = ("{", "[", "<", '"')  # with which JSON and pages begin
_BLANK = "\ufeff \t\r\n"
_FIELD = re.compile(r"(?:data|event|id|retry)?:|data[\r\n]")
_FIELD_IN_TEXT = re.compile(r"data: ?[\[{]|event: ?[\w.]+[\r\n]|: ?[\w-]*[\r\n]")  # and not words of a transcript
_LONGEST_FIELD = 256  # characters that one of them is looked for in
_OTHER_LINE = re.compile(r"^(?!(?:data|event|id|retry)?:|data$|\s*$)", re.MULTILINE)


class AnswerReader:
    """Reads one 2xx answer to the request for a stream, in pieces of text.

    `kind` is "" until it is clear, then `events` or `document`: an answer that is no event stream, whatever its content
    type says. `ended`: the answer has ended, though the connection may be open. `done` is the `[DONE]` that ended it,
    if one did. `failure`: the answer reports an error, or broke off (`cut`). `odd`: an event was no JSON object. Events
    with blank data are passed over.
    """

    def __init__(self, content_type: str = "", *, answers: int = 1) -> None:
        """`answers`: how many images were asked for. Each has a last event of its own."""
        self.kind: Literal["", "events", "document"] = ""
        self.ended = False
        self.done: ServerSentEvent | None = None
        self.failure: Failure | None = None
        self.cut = False
        self.odd = False
        self._type = content_type.partition(";")[0].strip().lower()
        self._answers = answers
        self._parser = EventParser()
        self._held: list[str] = []  # until the first event, and all of a document
        self._seen = False  # an event or a comment

    @property
    def text(self) -> str:
        """The text of a document; else the beginning of what came before the first event."""
        return "".join(self._held)

    def feed(self, text: str) -> list[ServerSentEvent | Comment]:
        """The events and comments that end with `text`. After `ended` there may be more, up to `done`."""
        if self.done is not None:
            return []
        if self.kind == "events":
            if not self._seen and sum(map(len, self._held)) < HEAD_LIMIT:
                self._held.append(text)
            return self._judged(self._parser.feed(text))
        if not self._held and not text.strip(_BLANK):
            return []
        self._held.append(text)
        return self._decided(final=False) if self.kind == "" else []

    def end(self) -> list[ServerSentEvent | Comment]:
        """To be called at the end of the body. Returns a last event that lacks only its blank line."""
        found: list[ServerSentEvent | Comment] = []
        if self.kind == "":
            found = self._decided(final=True)
        if self.kind == "events" and self.done is None:
            under_way, last = self._parser.under_way, self._parser.end()
            if self._parser.last is not None:
                self._judge_stray(self._parser.last)
            if last is not None and (last.startswith(_DONE) or value_of(last) is not None):
                found += self._judged([last])
            elif not self._seen and not found and _OTHER_LINE.search(self.text):
                self.kind = "document"
            elif under_way and not self.ended:
                self.cut = True
                self.failure = Failure(502, {"type": "upstream_error", "message": _CUT})
        self.ended = True
        return found

    def _decided(self, *, final: bool) -> list[ServerSentEvent | Comment]:
        """By how the text begins. `final`: there is no more."""
        text = self.text
        begun = text.lstrip(_BLANK)
        if begun.startswith(_NO_FIELD):
            self.kind = "document"
        elif (
            not begun
            or self._type == "text/event-stream"
            or (_FIELD_IN_TEXT if self._type.startswith("text/") else _FIELD).match(begun)
        ):
            self.kind = "events"
        elif final or len(begun) > _LONGEST_FIELD:
            self.kind = "document"
        return self._judged(self._parser.feed(text)) if self.kind == "events" else []

    def _judged(self, items: Iterable[ServerSentEvent | Comment]) -> list[ServerSentEvent | Comment]:
        found: list[ServerSentEvent | Comment] = []
        for item in items:
            if isinstance(item, ServerSentEvent):
                if not item or item.isspace():
                    continue
                if item[0] != "{" and item.lstrip().startswith(_DONE):
                    plain = item.startswith(_DONE)
                    self.done = item if plain else ServerSentEvent.of(item.lstrip(), item.event, item.id, item.retry)
                    self.ended = True
                    break
                if item.event in _NAMES or _is_marked(item):
                    self._judge(item)
                if not (item[0] == "{" and item[-1] == "}") and not self.odd:
                    self.odd = not isinstance(value_of(item), dict)
            elif isinstance(item, Stray):
                self._judge_stray(item)
                continue
            found.append(item)
        if found and not self._seen:
            self._seen = True
            self._held.clear()
        return found

    def _judge_stray(self, line: Stray) -> None:
        """An error that is no event: nobody who reads events sees it."""
        if self.failure is None and (found := failure_of(value_of(line))) is not None:
            self.failure, self.cut, self.ended = found, True, True

    def _judge(self, event: ServerSentEvent) -> None:
        document = value_of(event)
        kind = document.get("type") if isinstance(document, dict) else None
        kinds = {kind if isinstance(kind, str) else event.event, event.event}
        if not kinds.isdisjoint(_LAST_OF_ONE):
            self._answers -= 1
            self.ended = self.ended or self._answers <= 0
        elif not kinds.isdisjoint(_LAST) or event.event == "done":
            self.ended = True
        found = failure_of(document if document is not None else str(event), event.event)
        if found is not None:
            self.failure = self.failure or found
            self.ended = self.ended or kinds.isdisjoint(_FAILED)


def _is_marked(text: str) -> bool:
    """Whether something stands in an event for which it must be parsed: in most there is nothing."""
    return '"error"' in text or (
        '"type"' in text
        and (
            '.completed"' in text
            or '.failed"' in text
            or '.incomplete"' in text
            or '.cancelled"' in text
            or 'transcript.text.done"' in text
            or 'speech.audio.done"' in text
            or '"message_stop"' in text
        )
    )


def failure_of(document: Any, name: str | None = None) -> Failure | None:
    """The error that `document`, a JSON value, reports: the data of an event called `name`, or a whole answer. In a
    list, the first one's. None where it reports none."""
    if isinstance(document, list):
        return next((found for one in document if isinstance(one, dict) and (found := failure_of(one))), None)
    if not isinstance(document, dict):
        return _failure(document, {}) if name == "error" else None
    kind = document.get("type")
    if kind in _FAILED or name in _FAILED:
        inner = document.get("response", document)
        inner = inner if isinstance(inner, dict) else {}
        return _failure(inner.get("error") or inner.get("last_error") or "the answer failed", {})
    if error := document.get("error"):
        return None if document.get("object") == "response" else _failure(error, document)
    return _failure(document, {}) if "error" in (name, kind, document.get("object")) else None


def _failure(error: Any, around: dict[str, Any]) -> Failure:
    if isinstance(error, list):
        error = next((one for one in error if isinstance(one, dict)), error)
    if not isinstance(error, dict):
        error = {"type": "upstream_error", "message": str(error)}
    given = [one.get(name) for one in (error, around) for name in ("status", "status_code", "code", "http_status")]
    return Failure(next((status for one in given if (status := _status(one))), 502), error)


def _status(value: Any) -> int:
    """0 for what is no status of an error."""
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and 400 <= value < 600 else 0


_LEVELS = 150  # of a value: a result has fewer than 200
_SIGN = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{\]}]', re.DOTALL)


def value_of(text: str) -> Any:
    """The JSON value of `text`, None for what is no JSON. A byte order mark before it is passed over. What a result
    cannot hold stands in it as a text: NaN, infinity, numbers that are too large, and what is nested more than 150
    levels deep."""
    text = text.removeprefix("\ufeff")
    if text.count("[") + text.count("{") > _LEVELS:
        text = _flat(text)
    try:
        return _DECODE(text)
    except (ValueError, RecursionError):
        return None


def _number(text: str) -> float | str:
    value = float(text)
    return value if isfinite(value) else text


_DECODE = JSONDecoder(parse_constant=str, parse_float=_number, strict=False).decode


def _flat(text: str) -> str:
    """JSON with a string in place of each value that is nested too deeply; "" for what does not end."""
    kept, level, done, begin = [], 0, 0, 0
    for found in _SIGN.finditer(text):
        if found[0] in "[{":
            level += 1
            if level == _LEVELS + 1:
                begin = found.start()
        elif found[0] in "]}":
            if level == _LEVELS + 1:
                kept += [text[done:begin], dumps(text[begin : found.end()])]
                done = found.end()
            level -= 1
    return "".join([*kept, text[done:]]) if level == 0 else ""


class Texts:
    """The texts of a stream's choices, from pieces that come mixed."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int, int], list[str]] = {}

    def add(self, choice: int, text: str, part: tuple[int, int] = (0, 0)) -> None:
        """`choice` has `text` next, in its `part`: the number of an output and of a piece of content within that."""
        if text:
            self._parts.setdefault((choice, *part), []).append(text)

    @property
    def each(self) -> list[str]:
        """One for each choice, by its number; its parts in their order."""
        found: dict[int, list[str]] = {}
        for (choice, *_), pieces in sorted(self._parts.items()):
            found.setdefault(choice, []).extend(pieces)
        return ["".join(pieces) for pieces in found.values()]

    @property
    def first(self) -> str:
        """The first choice's; "" where there is none."""
        return next(iter(self.each), "")
