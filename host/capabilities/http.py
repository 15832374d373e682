"""`cyfr:http/fetch`: one request, one whole response."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

from host.capabilities.exchange import Exchange
from host.capabilities.message import GuestError, Message
from host.core.attachments import Attachment
from host.core.strict_json import Json, write_json
from host.core.wit import FETCH
from host.egress import Answer, EgressError
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
            return write_json(self._response(run, message, answer))
        except GuestError as error:
            return error.as_json()

    def _response(self, run: Run, message: Message, answer: Answer) -> Json:
        headers = response_headers(run, answer)
        body = self._read(run, message, answer)
        response: dict[str, Json] = {"status": answer.status, "headers": headers}
        encoding = message.response_encoding if 200 <= answer.status < 300 else message.error_encoding
        match encoding:
            case "attachment":
                ident = run.attachments.put(Attachment(body, content_type=headers.get("content-type", "")))
                if ident is None:
                    raise self._no_room(run, message)
                response |= {"attachment": ident, "size": len(body)}
            case "base64":
                response |= {"body": base64.b64encode(body).decode("ascii"), "body_encoding": "base64"}
            case "text":
                response["body"] = body.decode("utf-8", "replace")
        return response

    def _read(self, run: Run, message: Message, answer: Answer) -> bytes:
        began = time.monotonic()
        redacted = run.redactor.stream()

        def redact(piece: bytes) -> bytes:
            run.meters.received_bytes += len(piece)
            return redacted.feed(piece)

        try:
            return answer.read_all(run, redact) + redacted.flush()
        except EgressError as error:
            failed = self._exchange.translated(error, message.target)
            if failed.refusal is not None:
                run.refuse("http.request", failed.refusal)
            raise failed from None
        finally:
            answer.close()
            run.meters.upstream_time_s += time.monotonic() - began

    def _no_room(self, run: Run, message: Message) -> GuestError:
        refusal = Refusal(
            "response_too_large",
            message.target.shown,
            f"attachments of a run may have {run.limits.max_attachment_bytes} bytes",
        )
        run.refuse("http.request", refusal)
        return GuestError.refused(refusal)


def response_headers(run: Run, answer: Answer) -> dict[str, str]:
    """Lower-case names; repeated values joined by `, `; secrets as placeholders."""
    joined: dict[str, str] = {}
    for name, value in answer.headers:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return {run.redactor.text(name): run.redactor.text(value) for name, value in joined.items()}
