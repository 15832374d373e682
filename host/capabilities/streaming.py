"""`cyfr:http/streaming`: a response read piece by piece, or relayed to the caller without passing through the guest."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from host.capabilities.exchange import Exchange, UpstreamAnswer, recorded
from host.capabilities.message import GuestError
from host.core.sse import events
from host.core.strict_json import Json, write_json
from host.core.wit import STREAMING
from host.errors import Refusal
from host.policy.permissions import Grant
from host.run import Run

_LAST_EVENT = 4_096  # characters of the last relayed event that the guest is shown
_DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class OpenStream:
    """An answer that a guest reads; with `relay` its events go to the caller."""

    answer: UpstreamAnswer
    relay: bool

    def close(self) -> None:
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
        relay = message.relay and run.listener is not None and answer.ok
        handle = "str_" + secrets.token_hex(16)
        run.streams[handle] = OpenStream(answer, relay)
        opened: dict[str, Json] = {"handle": handle, "status": answer.status, "headers": answer.headers}
        if message.relay:
            opened["relay"] = relay
        return write_json(opened)

    def read(self, run: Run, handle: str) -> str:
        stream = run.streams.get(handle)
        if not isinstance(stream, OpenStream):
            return GuestError("invalid_handle", "there is no such stream in this run").as_json()
        try:
            if stream.relay:
                return write_json(_relayed(run, stream.answer))
            data = stream.answer.read_text()
            return write_json({"data": data, "done": not data})
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


def _relayed(run: Run, answer: UpstreamAnswer) -> Json:
    """Hand every event to the caller. Returns the end, with the number of events and the last one, by which the guest
    recognises an answer that ended in an error."""
    count, last = 0, ""
    for event in events(iter(answer.read_text, "")):
        if event.data == _DONE:
            continue
        count, last = count + 1, event.data
        if not run.emit(answer.to_leave(last.encode("utf-8", "replace")).decode("utf-8", "replace"), relayed=True):
            break
    return {"data": "", "done": True, "events": count, "last": last[:_LAST_EVENT]}
