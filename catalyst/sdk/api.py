"""Sends an operation's prepared request and returns its result `{"status", "data"}`."""

from collections.abc import Callable, Iterable, Mapping
from json import loads
from typing import Any, TypeAlias

from catalyst.sdk import http, output, sse, streaming
from catalyst.sdk.errors import UpstreamError, relevant
from catalyst.sdk.http import Response
from catalyst.sdk.operation import Prepared

Piece: TypeAlias = tuple[int, str] | tuple[int, str, tuple[int, int]]
"""The arguments of `sse.Texts.add`: a choice, its next text, and its part."""

TextOf: TypeAlias = Callable[[dict[str, Any]], str | Iterable[Piece]]


def perform(
    request: Prepared,
    *,
    base_url: str,
    headers: Mapping[str, str],
    text_of: TextOf,
    parsed: bool = False,
    after_ms: int = 0,
) -> dict[str, Any]:
    """Sends `request` and returns its result. `headers` stand over the request's own. `text_of` returns the text in an
    event of a stream, or the texts of several choices. `parsed` asks for the value of a JSON answer, which a catalyst
    reads itself; `after_ms` is how long the host waits first.

    A JSON answer is `{"$json": id}`, a binary one `{"$attachment": id, "content_type", "size"}`: their bytes never
    enter the sandbox. On a host without attachments, they are the document itself and
    `{"audio_base64" | "base64", "response_encoding": "base64"}`. A stream is `{"chunks", "combined_text", "texts"}`:
    the first choice's text, and the texts of all. It is without the chunks that the caller got as events, and without
    texts if the host relayed the stream. Where a stream was asked for and a document came, that is the answer.
    Raises HostRefused, and UpstreamError: also for an answer that reports an error, broke off within an event, or is a
    page in place of JSON.
    """
    told = {name.lower() for name in headers}
    own = {"Accept": "application/json", **request.headers}
    url, headers = base_url + request.target, {**{k: v for k, v in own.items() if k.lower() not in told}, **headers}
    if request.stream:
        return _stream(request, url, headers, text_of)
    stays = http.ATTACHMENTS and request.answer != "text" and not parsed
    response = http.request(
        request.method,
        url,
        headers=headers,
        response="attachment" if stays else "bytes" if request.answer == "binary" else "text",
        relay=request.answer == "binary",
        after_ms=after_ms,
        **request.content,
    )
    if not response.ok:
        raise UpstreamError.of(response.status, response.text, response.headers)
    return _result(response.status, _SHAPES[request.answer](response), response.headers)


def _result(status: int, data: Any, headers: Mapping[str, Any]) -> dict[str, Any]:
    kept = relevant(headers, success=True)
    return {"status": status, "data": data, **({"headers": kept} if kept else {})}


def _json(response: Response) -> Any:
    if response.attachment is not None:
        return {"$json": response.attachment} if response.size else {}
    try:
        return loads(response.text, parse_constant=_no_constant) if response.body else {}
    except ValueError as error:
        raise UpstreamError(502, {"type": "upstream_error", "message": f"the answer is not JSON: {error}"}) from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} in it")


def _binary(response: Response) -> dict[str, Any]:
    content_type = response.headers.get("content-type", "application/octet-stream")
    if response.attachment is not None:
        return {"$attachment": response.attachment, "content_type": content_type, "size": response.size}
    key = "audio_base64" if content_type.startswith("audio/") else "base64"
    return {key: response.base64, "response_encoding": "base64"}


def _text(response: Response) -> str:
    return response.text


def _empty(response: Response) -> Any:
    """What an API says where nothing is promised: a document is handed on, anything else is `{}`."""
    is_json = "json" in response.headers.get("content-type", "")
    return _json(response) if is_json else {}


_SHAPES: dict[str, Callable[[Response], Any]] = {"json": _json, "binary": _binary, "text": _text, "empty": _empty}


def _stream(request: Prepared, url: str, headers: Mapping[str, str], text_of: TextOf) -> dict[str, Any]:
    answers = request.answers
    opening = streaming.open_stream(
        request.method, url, headers=headers, relay=True, answers=answers, **request.content
    )
    with opening as stream:
        if not stream.ok:
            raise UpstreamError.of(stream.status or 502, "".join(stream), stream.headers)
        status = stream.status or 200
        reader = sse.AnswerReader(stream.headers.get("content-type", ""), answers=answers)
        gathered = _Gathered(text_of)
        for piece in stream:
            gathered.take(reader.feed(piece))
            if reader.ended:
                break
        else:
            gathered.take(reader.end())
        if stream.document is not None:
            return _result(status, {"$json": stream.document["attachment"]}, stream.headers)
        if stream.failure is not None:
            told = {} if stream.events else relevant(stream.headers)
            raise UpstreamError(stream.failure["status"], stream.failure["error"], told)
        if reader.kind == "document":
            return _result(status, _document(reader.text, request.answer, stream), stream.headers)
        if reader.failure is not None:
            raise UpstreamError(*reader.failure)
        if stream.odd or gathered.odd:
            words = "the stream holds an event that is no JSON object"
            raise UpstreamError(502, {"type": "upstream_error", "message": words})
        if (last := sse.value_of(stream.last)) is not None and (failure := sse.failure_of(last)) is not None:
            raise UpstreamError(*failure)  # from a host that leaves it to the guest to look
        return _result(status, gathered.as_data(), stream.headers)


class _Gathered:
    """The events of a stream: handed to the caller, or kept."""

    def __init__(self, text_of: TextOf) -> None:
        self._text_of = text_of
        self._texts = sse.Texts()
        self._chunks: list[Any] = []
        self._delivered = True
        self.odd = False  # an event was no JSON object

    def take(self, items: Iterable[sse.ServerSentEvent | sse.Comment]) -> None:
        for item in items:
            if isinstance(item, sse.Comment):
                continue
            document = sse.value_of(item)
            self._delivered = self._delivered and output.emit_json(item)
            if not self._delivered:
                self._chunks.append(document)
            if isinstance(document, dict):
                found = self._text_of(document)
                for piece in [(0, found)] if isinstance(found, str) else found:
                    self._texts.add(*piece)
            else:
                self.odd = True

    def as_data(self) -> dict[str, Any]:
        return {"chunks": self._chunks, "combined_text": self._texts.first, "texts": self._texts.each}


def _document(text: str, answer: str, stream: streaming.Stream) -> Any:
    """The answer in a document that came in place of events. Raises UpstreamError for one that is an error, or a page
    where JSON was asked for."""
    document = sse.value_of(text)
    if (failure := sse.failure_of(document)) is not None:
        raise UpstreamError(*failure, relevant(stream.headers))
    if isinstance(document, dict | list):
        return document
    if answer == "text" and not text.lstrip().startswith("<"):
        return text
    raise UpstreamError.of(502, text, stream.headers)
