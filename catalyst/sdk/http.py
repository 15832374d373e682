"""`cyfr:http/fetch`: requests and whole responses; and the encoding of URLs and forms."""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from json import dumps, loads
from typing import Any, Literal

from catalyst.sdk import config, log, output
from catalyst.sdk.errors import HostRefused, Invalid
from catalyst.sdk.interfaces import interface

_interface = interface("fetch")

ATTACHMENTS = output.AVAILABLE or config.AVAILABLE or log.AVAILABLE
"""Whether bodies can stay with the host. Only a host that can do so offers imports from `catalyst:host`."""

_HALF = re.compile("[\ud800-\udfff]")
_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"  # RFC 3986, section 2.3
_SEGMENT = _UNRESERVED + b"!$&'()*+,;=:@"  # section 3.3
_QUOTED = [chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in range(256)]
_QUOTED_IN_QUERY = [*_QUOTED[:32], "+", *_QUOTED[33:]]  # the form encoding of a blank, as the official SDK has it
_QUOTED_IN_SEGMENT = [chr(byte) if byte in _SEGMENT else f"%{byte:02X}" for byte in range(256)]


@dataclass(frozen=True, slots=True)
class Response:
    """A response. `headers` has lower-case names.

    The body is in `text`, `content` and `base64`, or stays with the host as `attachment` (an id) of `size` bytes.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    encoding: str = ""
    attachment: str | None = None
    size: int = 0

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def content(self) -> bytes:
        return b64decode(self.body) if self.encoding == "base64" else self.body.encode()

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace") if self.encoding == "base64" else self.body

    @property
    def base64(self) -> str:
        return self.body if self.encoding == "base64" else b64encode(self.content).decode()

    def json(self) -> Any:
        """Returns the body as a JSON value. Raises ValueError if it is no JSON."""
        return loads(self.text)


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    json: Any = None,
    body: str | bytes | Mapping[str, str] | None = None,
    multipart: list[dict[str, Any]] | None = None,
    response: Literal["text", "bytes", "attachment"] = "text",
    relay: bool = False,
    after_ms: int = 0,
) -> Response:
    """Sends a request and returns its response, whatever its status.

    Takes at most one of `json` (a value), `body` (text, bytes or `{"$attachment": id}`) and `multipart` (parts as in
    wit/README.md). `response` is the form of the response's body: an attachment stays with the host, but the body of an
    error answer comes as text. With `relay` the host hands an attachment's bytes to a caller who takes them as they
    come; the attachment that is left is empty then, and `size` is theirs. `after_ms`: the host waits so long first,
    within the run's time. Raises HostRefused.
    """
    if _interface is None:
        raise HostRefused("http_error", "the manifest does not ask for http")
    message = as_json(method, url, headers=headers, json=json, body=body, multipart=multipart)
    if response == "bytes":
        message["response_encoding"] = "base64"
    elif response == "attachment":
        message["response_encoding"] = "attachment"
        message["error_encoding"] = "text"
        if relay:
            message["relay"] = True
    if after_ms:
        message["after_ms"] = after_ms
    answer = loads(_interface.request(dumps(message)))
    if "error" in answer:
        raise HostRefused.of(answer["error"])
    return Response(
        status=answer["status"],
        headers=answer.get("headers", {}),
        body=answer.get("body", ""),
        encoding=answer.get("body_encoding", ""),
        attachment=answer.get("attachment"),
        size=answer.get("size", 0),
    )


def as_json(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    json: Any = None,
    body: str | bytes | Mapping[str, str] | None = None,
    multipart: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Returns the request in the JSON form of `cyfr:http`. Raises Invalid for NaN and infinity in `json`."""
    message: dict[str, Any] = {"method": method, "url": url, "headers": dict(headers or {})}
    if json is not None:
        message["headers"].setdefault("Content-Type", "application/json")
        message["body"] = serialised(json)
    elif isinstance(body, bytes):
        message["body"] = b64encode(body).decode()
        message["body_encoding"] = "base64"
    elif isinstance(body, Mapping):
        message["body_attachment"] = body["$attachment"]
    elif body is not None:
        message["body"] = body
    if multipart is not None:
        message["multipart"] = multipart
    return message


def path(template: str, **parameters: Any) -> str:
    """Returns the path, for example `/files/a%2Fb` for `path("/files/{file_id}", file_id="a/b")`.

    A value is one segment; of `{+name}` it is several, with slashes between them. Raises Invalid if it is neither a
    string nor an integer, or a segment is empty or a dot segment (RFC 3986, section 3.3): URL parsers resolve these
    even in encoded form.
    """
    for name, value in parameters.items():
        if f"{{+{name}}}" in template:
            several = "/".join(_segment(name, one) for one in value.split("/")) if isinstance(value, str) else ""
            template = template.replace(f"{{+{name}}}", several or _segment(name, value))
        else:
            template = template.replace(f"{{{name}}}", _segment(name, value))
    return template


def query(parameters: Mapping[str, Any]) -> str:
    """Returns `?a=1&b[]=x&b[]=y&c[d]=true`, percent-encoded, or "" for no parameters. See `fields`."""
    pairs = [
        f"{quote(name, name, _QUOTED_IN_QUERY)}={quote(name, text, _QUOTED_IN_QUERY)}"
        for name, text in fields(parameters)
    ]
    return "?" + "&".join(pairs) if pairs else ""


def fields(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the name and text of every value, flattened like the official OpenAI SDK does for queries and forms.

    Lists become `name[]`, objects `name[key]`, booleans `true` and `false`; null is left out.
    """
    for name, value in parameters.items():
        yield from _flatten(name, value)


def quote(name: str, text: str, quoted: list[str] = _QUOTED) -> str:
    """Percent-encodes everything in `text` but the unreserved characters. Raises Invalid for the parameter `name`."""
    try:
        return "".join([quoted[byte] for byte in text.encode()])
    except UnicodeEncodeError:
        raise Invalid(name, f"{name} is not valid Unicode") from None


def _segment(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise Invalid(name, f"{name} must be a string")
    if value in ("", ".", ".."):
        raise Invalid(name, f"{name} must not be empty, '.' or '..'")
    return quote(name, value, _QUOTED_IN_SEGMENT)


def _flatten(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(f"{name}[{key}]", item)
    elif isinstance(value, list):
        for item in value:
            yield from _flatten(f"{name}[]", item)
    elif value is not None:
        yield name, value if isinstance(value, str) else dumps(value)


def serialised(document: Any) -> str:
    """The JSON of a value as the official SDK writes it: without blanks, and with letters of all languages as they
    are. Raises Invalid for NaN and infinity."""
    try:
        text = dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    except ValueError:
        raise Invalid("params", "params holds a number that JSON has no way to write") from None
    if not text.isascii() and _HALF.search(text):  # half of a surrogate pair is in no encoding
        return dumps(document, allow_nan=False, separators=(",", ":"))
    return text
