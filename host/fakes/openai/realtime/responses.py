"""/v1/responses as a WebSocket: each `response.create` is a request of POST /v1/responses, with the events of its
stream as messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from host.fakes.messages import FakeRequest, FakeResponse, encode_json
from host.fakes.openai import errors
from host.fakes.openai.realtime.events import encoded, read_event, text_in
from host.fakes.websocket import FakeMessage

_DATA = b"data: "


class ResponsesSession:
    """`create` answers POST /v1/responses. Raises ApiError. `upgrade` is the request that opened the connection."""

    def __init__(self, upgrade: FakeRequest, create: Callable[[FakeRequest], FakeResponse]) -> None:
        self._upgrade = upgrade
        self._create = create

    def opened(self) -> Iterable[FakeMessage]:
        return ()

    def received(self, message: str | bytes) -> Iterable[FakeMessage]:
        named: dict[str, Any] = {}
        try:
            event = read_event(message)
            if isinstance(stream := event.get("stream_id"), str):
                named = {"stream_id": stream}
            match text_in(event, "type"):
                case "response.create":
                    return self._events(self._created(event), named)
                case other:
                    raise errors.unsupported("type", other, ("response.create",))
        except errors.ApiError as error:
            return (encoded({"type": "error", "status": error.status, **error.body(), **named}),)

    def _created(self, event: dict[str, Any]) -> FakeResponse:
        """Raises ApiError."""
        params = {name: one for name, one in event.items() if name not in ("type", "event_id", "stream_id")}
        path, headers = "/v1/responses", self._upgrade.headers
        body = encode_json({**params, "stream": True})
        return self._create(FakeRequest("POST", path, "", headers, body, self._upgrade.server_url))

    def _events(self, answer: FakeResponse, named: dict[str, Any]) -> Iterator[FakeMessage]:
        for piece in (answer.body,) if isinstance(answer.body, bytes) else answer.body:
            for line in piece.splitlines():
                if line.startswith(_DATA + b"{"):
                    yield encoded({**json.loads(line.removeprefix(_DATA)), **named})
