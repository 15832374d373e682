"""`cyfr:http/fetch`: one request, one whole response."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from host.capabilities.exchange import Exchange, UpstreamAnswer
from host.capabilities.failed import recorded
from host.capabilities.message import GuestError, RequestMessage, decode_body, length_in_json
from host.core.operation import Attachment
from host.core.strict_json import Json, write_json
from host.core.wit import FETCH
from host.errors import Refusal
from host.run import AnswerHead, Run

_EMPTY = (204, 205)  # answers without content (RFC 9110, 15.3.5 and 15.3.6)
_MOST_GROWTH = 6  # of a text that becomes JSON: \u0001 for one byte


class Fetch:
    interface = FETCH

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def functions(self) -> Mapping[str, Any]:
        return {"request": self.request}

    def request(self, run: Run, text: str) -> str:
        try:
            message, answer = self._exchange.begin(run, text)
            return write_json(_response(run, message, answer))
        except GuestError as error:
            return error.as_json()


def _response(run: Run, message: RequestMessage, answer: UpstreamAnswer) -> Json:
    flows = answer.ok and answer.status not in _EMPTY and run.taker is not None
    if flows and message.relay and message.response_encoding == "attachment":
        return _relayed(run, message, answer)
    body = answer.read_all()
    response: dict[str, Json] = {"status": answer.status, "headers": answer.headers}
    match message.response_encoding if answer.ok else message.error_encoding:
        case "attachment":
            response |= {"attachment": attached(run, message, answer, body), "size": len(body)}
        case "base64":
            _check_fits(run, message, len(body) * 4 // 3)
            response |= {"body": base64.b64encode(body).decode("ascii"), "body_encoding": "base64"}
        case "text":
            if len(body) * _MOST_GROWTH > run.limits.max_memory_bytes:
                _check_fits(run, message, length_in_json(body))
            response["body"] = decode_body(body)
    return response


def _relayed(run: Run, message: RequestMessage, answer: UpstreamAnswer) -> Json:
    """Hand the body to the caller as it comes. The guest gets an attachment without it. Raises GuestError."""
    size = 0
    try:
        taken = run.hand_over(head_of(run, answer, binary=True))
        for piece in _flow(run, answer):
            size += len(piece)
            taken = taken and run.hand_over(piece)
            if not taken:
                break
    finally:
        answer.close()
    ident = attached(run, message, answer, b"")
    return {"status": answer.status, "headers": answer.headers, "attachment": ident, "size": size, "relay": True}


def head_of(run: Run, answer: UpstreamAnswer, *, binary: bool) -> AnswerHead:
    """For a caller to whom the answer flows."""
    headers = answer.headers if answer.searched_for_all else run.redactor.json(answer.headers)
    if run.redactor.searches:  # what is replaced may have another length
        headers = {name: value for name, value in headers.items() if name != "content-length"}
    return AnswerHead(answer.status, headers, binary)


def _flow(run: Run, answer: UpstreamAnswer) -> Iterator[bytes]:
    """The body piece by piece as it comes, searched as the whole would be by `to_leave`. Raises GuestError,
    RunStopped."""
    leaving = None if answer.searched_for_all else run.redactor.stream()
    while data := answer.read():
        if leaving is not None:
            data = leaving.feed(data, run.go_on)
        if data:
            yield data
    if leaving is not None and (last := leaving.flush()):
        yield last


def _check_fits(run: Run, message: RequestMessage, size: int) -> None:
    """Raises GuestError for a text whose JSON, of `size` bytes, is larger than the guest's memory: the host would need
    several times as much to hand it over in vain."""
    if size > run.limits.max_memory_bytes:
        rule = f"as JSON it has {size} bytes, and the guest's memory {run.limits.max_memory_bytes}"
        remedy = 'ask for it with "response_encoding": "attachment"'
        raise recorded(run, GuestError.refused(Refusal("response_too_large", message.target.shown, rule, remedy)))


def attached(run: Run, message: RequestMessage, answer: UpstreamAnswer, body: bytes) -> str:
    """The id of the attachment that `body`, the whole of `answer`, becomes. Raises GuestError, its refusal recorded."""
    kept = Attachment(answer.to_leave(body), content_type=answer.headers.get("content-type", ""))
    if (ident := run.attachments.put(kept)) is None:
        rule = f"attachments of a run may have {run.limits.max_attachment_bytes} bytes"
        raise recorded(run, GuestError.refused(Refusal("response_too_large", message.target.shown, rule)))
    return ident
