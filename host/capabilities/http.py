"""`cyfr:http/fetch`: one request, one whole response."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from host.capabilities.exchange import Exchange, UpstreamAnswer, recorded
from host.capabilities.message import GuestError, RequestMessage, decode_body
from host.core.operation import Attachment
from host.core.strict_json import Json, write_json
from host.core.wit import FETCH
from host.errors import Refusal
from host.run import Run


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
    body = answer.read_all()
    response: dict[str, Json] = {"status": answer.status, "headers": answer.headers}
    match message.response_encoding if answer.ok else message.error_encoding:
        case "attachment":
            kept = Attachment(answer.to_leave(body), content_type=answer.headers.get("content-type", ""))
            if (ident := run.attachments.put(kept)) is None:
                raise recorded(run, _no_room(run, message))
            response |= {"attachment": ident, "size": len(body)}
        case "base64":
            response |= {"body": base64.b64encode(body).decode("ascii"), "body_encoding": "base64"}
        case "text":
            response["body"] = decode_body(body)
    return response


def _no_room(run: Run, message: RequestMessage) -> GuestError:
    rule = f"attachments of a run may have {run.limits.max_attachment_bytes} bytes"
    return GuestError.refused(Refusal("response_too_large", message.target.shown, rule))
