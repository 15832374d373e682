"""The OpenAI catalyst: the entry module of its component."""

from collections.abc import Mapping
from typing import Any

import catalog
import realtime
import webhooks
from helpers import HELPERS
from operations import OPERATIONS
from servers import Server, server_of

from catalyst.sdk import Call, Invalid, Misconfigured, api, config, run_operations
from catalyst.sdk.operation import Table

VERSION = "0.1.0"
KEY = "OPENAI_API_KEY"

TABLE = Table(declared=OPERATIONS)
LOCAL = {
    "operations.list": catalog.listed,
    "operations.describe": catalog.described,
    "webhooks.verify_signature": webhooks.verified,
    "webhooks.unwrap": webhooks.unwrapped,
}
"""Operations that send nothing."""

_OWN = ("authorization", "user-agent", "content-type")
_HEADER_OF = {"organization": "OpenAI-Organization", "project": "OpenAI-Project"}


def dispatch(call: Call) -> dict[str, Any]:
    """Performs one operation. Parameters are checked before the key is read, and the key before anything is sent."""
    if call.operation in realtime.SOCKETS:
        settings = config.get()
        server = server_of(settings)
        request = realtime.prepared(call, server)
        return realtime.converse(request, server, headers_of(server, settings, call.headers, KEY))
    if (local := LOCAL.get(call.operation)) is not None:
        return local(call.params)
    if (helper := HELPERS.get(call.operation)) is not None:
        if call.stream:
            raise Invalid("stream", f"{call.operation} cannot stream")
        return helper(_Session(call), call.params)
    return _performed(call)


class _Session:
    """Performs the operations of a helper, for the caller of `call`."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.sizes: Mapping[str, int] = call.sizes

    def ask(self, operation: str, params: dict[str, Any], after_ms: int = 0) -> dict[str, Any]:
        one = Call(operation, params, stream=False, headers=self._call.headers)
        return _performed(one, parsed=True, after_ms=after_ms)


def _performed(call: Call, *, parsed: bool = False, after_ms: int = 0) -> dict[str, Any]:
    operation = TABLE.find(call.operation)
    request = operation.prepare(call.params, stream=call.stream, query=call.query, body=call.body)
    settings = config.get()
    server = server_of(settings)
    request = server.placed(request, call)
    headers = headers_of(server, settings, call.headers, request.secret or KEY)
    return api.perform(
        request, base_url=server.base_url, headers=headers, text_of=text_of, parsed=parsed, after_ms=after_ms
    )


def headers_of(server: Server, settings: dict[str, Any], forwarded: dict[str, str], secret: str) -> dict[str, str]:
    """Returns the headers of a request: `forwarded` from the caller's, and over them those of every request, with the
    key that `secret` names.

    What the operator has set for `organization` and `project` counts, and not the caller's. Raises HostRefused if the
    key is not granted, Misconfigured if a setting is not a text.
    """
    own = {name.lower() for name in server.headers}.union(_OWN)
    headers = {
        **{name: value for name, value in forwarded.items() if name not in own},
        **server.headers,
        **server.credentials(secret),
        "User-Agent": f"catalyst-openai/{VERSION}",
    }
    for name, header in _HEADER_OF.items():
        value = settings.get(name)
        if value is None:
            continue
        if not isinstance(value, str) or not value:
            raise Misconfigured(name, f"{name} must be a text")
        headers.pop(header.lower(), None)
        headers[header] = value
    return headers


def text_of(event: dict[str, Any]) -> list[api.Piece]:
    """Returns the texts in one event of a stream.

    For completions that is `choices[].delta.content` or `choices[].text`, by the choice's `index`; for responses and
    transcriptions the `delta` of their text events, by the numbers of the output and of its content.
    """
    if event.get("type") in ("response.output_text.delta", "transcript.text.delta"):
        part = (_number(event.get("output_index")), _number(event.get("content_index")))
        return [(0, str(event.get("delta") or ""), part)]
    choices = event.get("choices")
    found = enumerate(choices) if isinstance(choices, list) else ()
    return [(_number(one.get("index", at)), _text_of_choice(one)) for at, one in found if isinstance(one, dict)]


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _text_of_choice(choice: dict[str, Any]) -> str:
    delta = choice.get("delta")
    text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
    return text if isinstance(text, str) else ""


Run = run_operations(dispatch)
