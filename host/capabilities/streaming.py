"""`cyfr:http/streaming`: a response read piece by piece, or relayed to the caller without passing through the guest."""

from __future__ import annotations

import codecs
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

from host.capabilities.exchange import Exchange
from host.capabilities.http import response_headers
from host.capabilities.message import GuestError
from host.core.sse import EventParser
from host.core.strict_json import Json, write_json
from host.core.wit import STREAMING
from host.egress import Answer, EgressError
from host.errors import Refusal
from host.policy.permissions import Grant
from host.policy.urls import Target
from host.run import Run

_PIECE_BYTES = 64 * 1024
_LAST_EVENT = 4_096  # characters of the last relayed event that the guest is shown
_DONE = "[DONE]"


class OpenStream:
    """A response being read: bytes in, redacted text out, never cut within a character. `ended` at its end, after a
    failure, and when it was closed: then it no longer counts as open."""

    def __init__(self, run: Run, answer: Answer, target: Target, *, relay: bool) -> None:
        self.answer = answer
        self.target = target
        self.relay = relay
        self._redacted = run.redactor.stream()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.ended = False

    def read(self, run: Run) -> str:
        """The next text as soon as there is some; empty at the end. Raises EgressError."""
        while not self.ended:
            piece = self.answer.read(run, _PIECE_BYTES)
            run.meters.received_bytes += len(piece)
            if piece:
                text = self._decoder.decode(self._redacted.feed(piece))
            else:
                self.ended = True
                text = self._decoder.decode(self._redacted.flush(), final=True)
            if text:
                return text
        return ""

    def close(self) -> None:
        self.ended = True
        self.answer.close()


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
        relay = message.relay and run.listener is not None and 200 <= answer.status < 300
        handle = "str_" + secrets.token_hex(16)
        run.streams[handle] = OpenStream(run, answer, message.target, relay=relay)
        opened: dict[str, Json] = {"handle": handle, "status": answer.status, "headers": response_headers(run, answer)}
        if message.relay:
            opened["relay"] = relay
        return write_json(opened)

    def read(self, run: Run, handle: str) -> str:
        stream = run.streams.get(handle)
        if not isinstance(stream, OpenStream):
            return GuestError("invalid_handle", "there is no such stream in this run").as_json()
        began = time.monotonic()
        try:
            if stream.relay:
                return write_json(_relayed(run, stream))
            data = stream.read(run)
            return write_json({"data": data, "done": not data})
        except EgressError as error:
            stream.close()
            failed = self._exchange.translated(error, stream.target)
            if failed.refusal is not None:
                run.refuse("http.request", failed.refusal)
            return failed.as_json()
        finally:
            run.meters.upstream_time_s += time.monotonic() - began

    def close(self, run: Run, handle: str) -> str:
        stream = run.streams.pop(handle, None)
        if stream is not None:
            stream.close()
        return write_json({"ok": True})

    def _check_room(self, run: Run) -> None:
        most = self._grant.limits.max_streams
        if sum(isinstance(stream, OpenStream) and not stream.ended for stream in run.streams.values()) >= most:
            remedy = f"close one first, or raise max_streams in the policy of {self._grant.reference}"
            refusal = Refusal("stream_limit", "streams", f"a run may have {most} open", remedy)
            run.refuse("http.request", refusal)
            raise GuestError.refused(refusal)


def _relayed(run: Run, stream: OpenStream) -> Json:
    """Hand every event to the caller; then the end, with how many there were and the last one, by which the guest can
    tell an answer that ended in an error."""
    count, last = 0, ""
    for event in _events(run, stream):
        count, last = count + 1, event
        if not run.emit(event, relayed=True):
            break
    return {"data": "", "done": True, "events": count, "last": last[:_LAST_EVENT]}


def _events(run: Run, stream: OpenStream) -> Iterator[str]:
    parser = EventParser()
    while text := stream.read(run):
        yield from (event for event in parser.feed(text) if event != _DONE)
    yield from (event for event in parser.finish() if event != _DONE)
