"""Sends an operation's prepared request and returns its result `{"status", "data"}`."""

from collections.abc import Callable, Mapping
from json import loads
from typing import Any

from catalyst.sdk import http, output, sse, streaming
from catalyst.sdk.errors import UpstreamError
from catalyst.sdk.http import Response
from catalyst.sdk.operation import Prepared

_END = "[DONE]"  # the data of the last event of a stream, by OpenAI's convention


def perform(
    request: Prepared, *, base_url: str, headers: Mapping[str, str], text_of: Callable[[dict[str, Any]], str]
) -> dict[str, Any]:
    """Sends `request` and returns its result. `text_of` returns the text in an event of a stream.

    A JSON answer is `{"$json": id}`, a binary one `{"$attachment": id, "content_type", "size"}`: their bytes never
    enter the sandbox. On a host without attachments, they are the document itself and
    `{"audio_base64" | "base64", "response_encoding": "base64"}`. A stream is `{"chunks", "combined_text"}`, without
    the chunks that the caller got as events, and without the text if the host relayed the stream.
    Raises HostRefused and UpstreamError.
    """
    url = base_url + request.target
    if request.stream:
        return _stream(request, url, headers, text_of)
    stays = http.ATTACHMENTS and request.answer != "text"
    response = http.request(
        request.method,
        url,
        headers=headers,
        response="attachment" if stays else "bytes" if request.answer == "binary" else "text",
        **request.content,
    )
    if not response.ok:
        raise UpstreamError.of(response.status, response.text, response.headers)
    return {"status": response.status, "data": _SHAPES[request.answer](response)}


def _json(response: Response) -> Any:
    if response.attachment is not None:
        return {"$json": response.attachment} if response.size else {}
    try:
        return response.json() if response.body else {}
    except ValueError:
        return response.text


def _binary(response: Response) -> dict[str, Any]:
    content_type = response.headers.get("content-type", "application/octet-stream")
    if response.attachment is not None:
        return {"$attachment": response.attachment, "content_type": content_type, "size": response.size}
    key = "audio_base64" if content_type.startswith("audio/") else "base64"
    return {key: response.base64, "response_encoding": "base64"}


def _text(response: Response) -> str:
    return response.text


_SHAPES: dict[str, Callable[[Response], Any]] = {"json": _json, "binary": _binary, "text": _text}


def _stream(
    request: Prepared, url: str, headers: Mapping[str, str], text_of: Callable[[dict[str, Any]], str]
) -> dict[str, Any]:
    with streaming.open_stream(request.method, url, headers=headers, relay=True, **request.content) as stream:
        if not stream.ok:
            raise UpstreamError.of(stream.status or 502, "".join(stream), stream.headers)
        chunks: list[Any] = []
        combined: list[str] = []
        seen, delivered = False, True
        for event in sse.events(stream):
            seen = True
            if event.data.startswith(_END):
                break
            document = _document(event)
            combined.append(text_of(document))
            delivered = delivered and output.emit_json(event.data)
            if not delivered:
                chunks.append(document)
        if stream.head and not seen:
            raise UpstreamError.of(502, stream.head, stream.headers)  # no event and no status: an error
        if (last := _object(stream.last)) is not None:
            _check(last)
        return {"status": stream.status or 200, "data": {"chunks": chunks, "combined_text": "".join(combined)}}


def _document(event: sse.ServerSentEvent) -> dict[str, Any]:
    """Returns the JSON object in `event`.

    Raises UpstreamError if there is none, as in a stream that broke off, and if it reports an error.
    """
    document = _object(event.data)
    if document is None:
        words = "the stream broke off, or holds an event that is no JSON object"
        raise UpstreamError(502, {"type": "upstream_error", "message": words})
    _check(document, event.name)
    return document


def _object(text: str) -> dict[str, Any] | None:
    try:
        document = loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _check(document: dict[str, Any], name: str = "message") -> None:
    """Raises UpstreamError if `document`, the data of an event called `name`, reports an error."""
    error = document.get("error") or (document if "error" in (name, document.get("type")) else None)
    if not error:
        return
    if not isinstance(error, dict):
        error = {"type": "upstream_error", "message": str(error)}
    code = error.get("status", error.get("code"))
    raise UpstreamError(code if isinstance(code, int) and 400 <= code < 600 else 502, error)
