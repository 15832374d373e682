"""`cyfr:http/fetch`: one request, one whole response; and how URLs are put together."""

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
"""Whether bodies can stay with the host. An import from `catalyst:host` proves a host that knows how."""

_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"  # RFC 3986, section 2.3
_QUOTED = [chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in range(256)]


@dataclass(frozen=True, slots=True)
class Response:
    """`headers` has lower-case names. The body is in `text`, `content` and `base64`, or with the host as `attachment`
    (an id) of `size` bytes."""

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
        """The body as a JSON document. Raises ValueError where it is none."""
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
) -> Response:
    """Send a request and return its response, whatever its status.

    At most one of `json` (serialised), `body` (text, bytes or `{"$attachment": id}`) and `multipart` (parts as in
    CONTRACT.md). `response` says how the body comes back; as an attachment it stays with the host, except that of an
    error answer, which comes as text. Raises HostRefused.
    """
    if _interface is None:
        raise HostRefused("http_error", "the manifest does not ask for http")
    message = wire(method, url, headers=headers, json=json, body=body, multipart=multipart)
    if response == "bytes":
        message["response_encoding"] = "base64"
    elif response == "attachment":
        message["response_encoding"] = "attachment"
        message["error_encoding"] = "text"
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


def wire(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    json: Any = None,
    body: str | bytes | Mapping[str, str] | None = None,
    multipart: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The request as `cyfr:http` takes it, for `fetch` and `streaming` alike. Raises Invalid for an infinite number."""
    message: dict[str, Any] = {"method": method, "url": url, "headers": dict(headers or {})}
    if json is not None:
        message["headers"].setdefault("Content-Type", "application/json")
        message["body"] = _serialised(json)
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
    """`path("/files/{file_id}", file_id="a/b")` is `/files/a%2Fb`: a value can never be more than one segment.

    Raises Invalid for a value that is no string, is empty, or is a dot segment (RFC 3986, section 3.3), which no
    encoding keeps from being resolved.
    """
    return template.format(**{name: _segment(name, value) for name, value in parameters.items()})


def query(parameters: Mapping[str, Any]) -> str:
    """`?a=1&b[]=x&b[]=y&c[d]=true`, percent-encoded, or the empty text for no parameters; see `fields`."""
    pairs = [f"{quote(name, name)}={quote(name, text)}" for name, text in fields(parameters)]
    return "?" + "&".join(pairs) if pairs else ""


def fields(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and text of every value, as the official OpenAI SDK flattens them for queries and forms: lists as `name[]`,
    objects as `name[key]`, `true`/`false`; null is left out."""
    for name, value in parameters.items():
        yield from _flattened(name, value)


def quote(name: str, text: str) -> str:
    """`text` with everything percent-encoded but the unreserved characters. Raises Invalid naming `name`."""
    try:
        return "".join([_QUOTED[byte] for byte in text.encode()])
    except UnicodeEncodeError:
        raise Invalid(name, f"{name} is not valid Unicode") from None


def _segment(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Invalid(name, f"{name} must be a string")
    if value in ("", ".", ".."):
        raise Invalid(name, f"{name} must not be empty, '.' or '..'")
    return quote(name, value)


def _flattened(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flattened(f"{name}[{key}]", item)
    elif isinstance(value, list):
        for item in value:
            yield from _flattened(f"{name}[]", item)
    elif value is not None:
        yield name, value if isinstance(value, str) else dumps(value)


def _serialised(document: Any) -> str:
    try:
        return dumps(document, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise Invalid("params", "params holds a number that JSON has no way to write") from None
