"""`cyfr:http/streaming`: a response read piece by piece, or relayed to the caller without passing through the guest."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

from host.capabilities.exchange import Exchange, UpstreamAnswer
from host.capabilities.failed import recorded
from host.capabilities.http import attached, head_of
from host.capabilities.message import GuestError, RequestMessage, decode_body
from host.core.sse import AnswerReader, Comment, Failure, ServerSentEvent, failure_of, value_of
from host.core.strict_json import Json, foreign_text, write_json
from host.core.wit import STREAMING
from host.egress import Wait
from host.errors import Refusal
from host.policy.permissions import Grant
from host.run import Run, StreamEnd

_LAST_EVENT: Final = 4_096  # characters of the last relayed event that the guest is shown
_LINGER_S: Final = 0.1  # for what may follow the last event: `[DONE]`, and the end that frees the connection
_MOST_SEARCHED: Final = 4 * 1024 * 1024  # bytes of a document that may be an error


class OpenStream:
    """An answer that a guest reads, or that was asked to be relayed. Then its events go to the caller, if there is one
    who listens, and a document stays with the host."""

    def __init__(self, answer: UpstreamAnswer, message: RequestMessage, *, listened: bool) -> None:
        self.answer = answer
        self.relay = message.relay and listened and answer.ok
        self._message = message
        self._rest: Wait | None = None  # the time for what may follow the answer's last event
        self._reader: AnswerReader | None = None  # None: the guest reads for itself
        if message.relay and answer.ok:
            self._reader = AnswerReader(answer.headers.get("content-type", ""), answers=message.answers)

    def close(self) -> None:
        self.answer.close()

    def read(self, run: Run) -> dict[str, Json]:
        """As in the contract. Raises GuestError."""
        reader, self._reader = self._reader, None
        if reader is None:
            return _text(self.answer.read_text())
        kept: list[bytes] = []
        said: list[str] = []
        items: list[ServerSentEvent | Comment] = []
        while reader.kind == "":
            text = self.answer.read_text(kept=kept)
            said.append(text)
            items = reader.feed(text) if text else reader.end()
        if reader.kind == "document":
            return self._document(run, b"".join(kept) + self.answer.read_all())
        return self._relayed(run, reader, items) if self.relay else _text("".join(said))

    def _document(self, run: Run, body: bytes) -> dict[str, Json]:
        if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):  # a page, or a transcript: the guest knows
            return _text(decode_body(body))
        if (failure := _failure_in(body)) is not None:
            return _end(0, "", failure)
        ident = attached(run, self._message, self.answer, body)
        return {**_end(0, ""), "document": {"attachment": ident, "size": len(body)}}

    def _relayed(self, run: Run, reader: AnswerReader, items: list[ServerSentEvent | Comment]) -> dict[str, Json]:
        """Hand every event to the caller, `items` first. Returns the end: the number of events, the last one, the
        failure of an answer that ended in one, and whether an event was no JSON object."""
        count, last, listens, over = 0, "", True, False
        while True:
            for item in items:
                if isinstance(item, Comment):
                    if run.taker is not None:
                        listens = listens and run.hand_over(_comment(self.answer, item))
                    continue
                count, last = count + 1, item
                listens = listens and run.emit(_to_leave(self.answer, item), relayed=True)
            if not listens or reader.done is not None or over:
                break
            text = self._next_text(run, reader)
            over = not text
            items = reader.feed(text) if text else reader.end()
        while listens and not self.answer.ended:
            self._next_text(run, reader)
        if reader.kind == "document":  # words that were no event after all
            return _text(reader.text)
        done = None if reader.done is None else _to_leave(self.answer, reader.done)
        run.stream_end = StreamEnd(done, failed=reader.failure is not None and not reader.cut)
        return {**_end(count, last, reader.failure), **({"odd": True} if reader.odd else {})}

    def _next_text(self, run: Run, reader: AnswerReader) -> str:
        """Raises GuestError."""
        if reader.ended and self._rest is None:
            self._rest = Wait(run, _LINGER_S)
        return self.answer.read_text(self._rest)


class Streaming:
    interface = STREAMING

    def __init__(self, exchange: Exchange, grant: Grant) -> None:
        self._exchange = exchange
        self._grant = grant

    def functions(self) -> Mapping[str, Any]:
        return {"request": self.request, "read": self.read, "close": self.close}

    def request(self, run: Run, text: str) -> str:
        try:
            self._check_room(run)
            message, answer = self._exchange.begin(run, text)
        except GuestError as error:
            return error.as_json()
        stream = OpenStream(answer, message, listened=run.listener is not None)
        if stream.relay and answer.headers.get("content-type", "").lower().startswith("text/event-stream"):
            run.hand_over(head_of(run, answer, binary=False))
        handle = "str_" + secrets.token_hex(16)
        run.streams[handle] = stream
        opened: dict[str, Json] = {"handle": handle, "status": answer.status, "headers": answer.headers}
        if message.relay:
            opened["relay"] = stream.relay
        return write_json(opened)

    def read(self, run: Run, handle: str) -> str:
        stream = run.streams.get(handle)
        if not isinstance(stream, OpenStream):
            return GuestError("invalid_handle", "there is no such stream in this run").as_json()
        try:
            return write_json(stream.read(run))
        except GuestError as error:
            return error.as_json()

    def close(self, run: Run, handle: str) -> str:
        stream = run.streams.pop(handle, None)
        if stream is not None:
            stream.close()
        return write_json({"ok": True})

    def _check_room(self, run: Run) -> None:
        most = self._grant.limits.max_streams
        streams = (stream for stream in run.streams.values() if isinstance(stream, OpenStream))
        if sum(not stream.answer.ended for stream in streams) >= most:
            remedy = f"close one first, or raise max_streams in the policy of {self._grant.reference}"
            refusal = Refusal("stream_limit", "streams", f"a run may have {most} open", remedy)
            run.blocked_requests += 1
            raise recorded(run, GuestError.refused(refusal))


def _text(data: str) -> dict[str, Json]:
    return {"data": data, "done": not data}


def _end(events: int, last: str, failure: Failure | None = None) -> dict[str, Json]:
    if failure is None:
        return {"data": "", "done": True, "events": events, "last": last[:_LAST_EVENT]}
    told: dict[str, Json] = {"status": failure.status, "error": failure.error}
    last = write_json({"error": failure.error})  # for guests that look there
    return {"data": "", "done": True, "events": events, "last": last, "failure": told}


def _to_leave(answer: UpstreamAnswer, event: ServerSentEvent) -> ServerSentEvent:
    """The event as it may leave the run without passing through the guest."""
    if answer.searched_for_all:
        return event

    def left(text: str | None) -> str | None:
        return text and answer.to_leave(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    return ServerSentEvent.of(left(event.data) or "", left(event.event), left(event.id), event.retry)


def _comment(answer: UpstreamAnswer, comment: Comment) -> Comment:
    """As `_to_leave`."""
    return Comment(answer.to_leave(comment.encode("utf-8", "replace")).decode("utf-8", "replace"))


def _failure_in(body: bytes) -> Failure | None:
    if b'"error"' not in body or len(body) > _MOST_SEARCHED:
        return None
    return failure_of(value_of(foreign_text(body)))
