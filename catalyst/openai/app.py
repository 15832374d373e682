"""The OpenAI catalyst: the entry module of its component."""

from typing import Any

from operations import OPERATIONS

from catalyst.sdk import Call, Misconfigured, api, config, run_operations, secrets
from catalyst.sdk.operation import Table

VERSION = "0.1.0"
BASE_URL = "https://api.openai.com/v1"

TABLE = Table(OPERATIONS)

_OWN = ("authorization", "user-agent", "content-type")
_HEADER_OF = {"organization": "OpenAI-Organization", "project": "OpenAI-Project"}


def dispatch(call: Call) -> dict[str, Any]:
    """Performs one operation. Parameters are checked before the key is read, and the key before anything is sent."""
    operation = TABLE.find(call.operation)
    request = operation.prepare(call.params, stream=call.stream, query=call.query, body=call.body)
    settings = config.get()
    base_url = base_url_of(settings)
    return api.perform(request, base_url=base_url, headers=headers_of(settings, call.headers), text_of=text_of)


def base_url_of(settings: dict[str, Any]) -> str:
    """Returns `base_url` without its last slash.

    Raises Misconfigured unless it is `http(s)://host[:port][/path]`: a query or a user in it would swallow the
    operation's path. The policy decides about the host.
    """
    url = settings.get("base_url") or BASE_URL
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or any(c in url for c in " ?#@\\"):
        raise Misconfigured("base_url", "base_url must be a URL without a user, a query, a fragment or blanks")
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https") or rest.startswith(("/", ":")) or not rest:
        raise Misconfigured("base_url", "base_url must begin with https:// and a host")
    return url.rstrip("/")


def headers_of(settings: dict[str, Any], forwarded: dict[str, str]) -> dict[str, str]:
    """Returns the headers of a request: `forwarded` from the caller's, and over them those of every request.

    What the operator has set for `organization` and `project` counts, and not the caller's. Raises HostRefused if the
    key is not granted, Misconfigured if a setting is not a text.
    """
    headers = {
        **{name: value for name, value in forwarded.items() if name not in _OWN},
        "Authorization": f"Bearer {secrets.get('OPENAI_API_KEY')}",
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
