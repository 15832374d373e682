"""`cyfr:http/streaming`: responses read piece by piece."""

from collections.abc import Iterator, Mapping
from json import dumps, loads
from types import TracebackType
from typing import Any, Self

from catalyst.sdk import output
from catalyst.sdk.errors import MESSAGE_LIMIT, HostRefused
from catalyst.sdk.http import as_json
from catalyst.sdk.interfaces import interface

_interface = interface("streaming")


class Stream:
    """An open response. Iterating yields its text; `with` closes it.

    `status` is None on a host that does not report it. `head` is the beginning of the text, for error messages.
    `relayed`: the host itself passes the events to the caller. Iterating then yields nothing, and waits for the end;
    `events` is then their number, `last` the data of the last one, or its beginning, and `failure` the `{"status",
    "error"}` of an answer that reports an error or broke off within an event; `odd` says that an event was no JSON
    object. Where a relay was asked for and the answer is a JSON document, it stays with the host: `document` is then
    `{"attachment": id, "size": n}`, and iterating yields nothing. Iterating raises HostRefused if the stream breaks
    off.
    """

    def __init__(self, opened: dict[str, Any]) -> None:
        self.handle: str = opened["handle"]
        self.status: int | None = opened.get("status")
        self.headers: dict[str, str] = opened.get("headers", {})
        self.relayed: bool = opened.get("relay", False)
        self.head = ""
        self.events = 0
        self.last = ""
        self.failure: dict[str, Any] | None = None
        self.odd = False
        self.document: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        return self.status is None or 200 <= self.status < 300

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _interface.close(self.handle)

    def __iter__(self) -> Iterator[str]:
        while True:
            answer = loads(_interface.read(self.handle))
            if "error" in answer:
                raise HostRefused.of(answer["error"])
            if data := answer.get("data"):
                if len(self.head) < MESSAGE_LIMIT:
                    self.head += data
                yield data
            if answer.get("done"):
                self.events = answer.get("events", 0)
                self.last = answer.get("last", "")
                self.failure = answer.get("failure")
                self.odd = answer.get("odd", False)
                self.document = answer.get("document")
                return


def open_stream(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    json: Any = None,
    body: str | bytes | Mapping[str, str] | None = None,
    multipart: list[dict[str, Any]] | None = None,
    relay: bool = False,
    answers: int = 1,
) -> Stream:
    """Sends a request (see `http.request`) and returns its open response.

    `relay` asks the host to pass the events of a 2xx answer to the caller itself. The host does so only if the caller
    listens; see `Stream.relayed`. `answers` is for streams of images: how many were asked for. Raises HostRefused.
    """
    if _interface is None:
        raise HostRefused("http_error", "the manifest does not ask for streaming")
    message = as_json(method, url, headers=headers, json=json, body=body, multipart=multipart)
    if relay and output.AVAILABLE:
        message["relay"] = True
        if answers != 1:
            message["answers"] = answers
    opened = loads(_interface.request(dumps(message)))
    if "error" in opened:
        raise HostRefused.of(opened["error"])
    return Stream(opened)
