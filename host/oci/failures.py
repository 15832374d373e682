"""The errors of an exchange with a registry, and the one place that translates httpx2's exceptions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import httpx2

from host.core.strict_json import parse_object
from host.egress.decoding import decoder
from host.egress.failures import (
    EgressError,
    beside_a_proxy,
    is_about_certificate,
    tls_error,
    translated,
    why_unreachable,
)
from host.errors import InputError, RegistryError

MAX_ERROR_BYTES: Final = 16 * 1024
_HTTPX2_ERRORS: Final = (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, httpx2.CookieConflict)
_TRANSIENT_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})
_CODES: Final = frozenset(  # distribution-spec, "Error Codes"
    {
        *("BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"),
        *("MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED"),
        *("DENIED", "UNSUPPORTED", "TOOMANYREQUESTS"),
    }
)
_READ_TIMEOUT_S = 60.0  # for the whole body of an answer


class TransientError(Exception):
    """A failure that a retry may cure: the connection broke, or the registry's status says so.

    `final` is the error to raise after the last try. A TransientError never leaves this package.
    """

    def __init__(self, final: RegistryError) -> None:
        super().__init__(final.message)
        self.final = final


@contextmanager
def translating(host: str, what: str) -> Iterator[None]:
    """Translates httpx2's exceptions inside the block, which asks `host` to do `what`.

    Raises RegistryError or TransientError.
    """
    try:
        yield
    except (*_HTTPX2_ERRORS, UnicodeError) as error:  # the resolver raises UnicodeError for a name like a..b
        raise _translated(error, host, what) from None


def _translated(error: Exception, host: str, what: str) -> RegistryError | TransientError:
    match error:
        case httpx2.ConnectTimeout() | httpx2.PoolTimeout():
            message = f"{host} did not answer in time, asked to {what}{beside_a_proxy(host)}"
            return RegistryError(message, hint="is it reachable from here?")
        case httpx2.TimeoutException():
            return TransientError(RegistryError(f"{host} stopped answering, asked to {what}"))
        case httpx2.ConnectError():
            return _unreachable(error, host)
        case httpx2.DecodingError():
            return RegistryError(f"{host} sent what cannot be decoded, asked to {what}")
        case httpx2.NetworkError() | httpx2.RemoteProtocolError():
            return TransientError(RegistryError(f"the connection to {host} broke off, asked to {what}"))
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol() | UnicodeError():
            return RegistryError(f"{host} named a place that is no URL, asked to {what}")
        case _:
            return RegistryError(f"asking {host} to {what} failed: {type(error).__name__}")


def _unreachable(error: BaseException, host: str) -> RegistryError:
    below = tls_error(error)
    if below is None:
        message = f"{host} cannot be reached: {why_unreachable(error)}{beside_a_proxy(host)}"
        return RegistryError(message, hint="check the name and the port")
    hint = None if is_about_certificate(below) else "if it is meant to speak plain HTTP: --plain-http"
    return RegistryError(translated(below, host).message, hint=hint)


def raise_for_status(response: httpx2.Response, host: str, what: str) -> NoReturn:
    """Raises the error for an answer with an unexpected status and an unread body.

    A TransientError if the status is temporary, else a RegistryError.
    """
    status = response.status_code
    try:
        code = known_code(read_at_most(response, MAX_ERROR_BYTES))
    except httpx2.DecodingError:
        code = ""
    error = RegistryError(
        f"{host} answered {status} when asked to {what}" + (f": {code}" if code else ""),
        status=status,
        hint=_remedy(status, host),
    )
    raise TransientError(error) if status in _TRANSIENT_STATUSES else error


def read_at_most(response: httpx2.Response, most: int) -> bytes:
    """Returns the first `most` bytes of the body, and fewer if a minute passes. They are decoded: a proxy may compress
    also what was asked for without a coding.

    The caller notices a body that was cut short: its digest or its JSON is wrong. Raises httpx2.DecodingError.
    """
    body = bytearray()
    deadline = time.monotonic() + _READ_TIMEOUT_S
    for piece in response.iter_raw():
        body += piece
        if len(body) >= most or time.monotonic() > deadline:
            break
    return decoded(response, bytes(body), most)


def decoded(response: httpx2.Response, body: bytes, most: int) -> bytes:
    """The first `most` bytes of `body` without the content codings of `response`. Raises httpx2.DecodingError."""
    try:
        decoding = decoder(response.headers.get_list("Content-Encoding"), most)
        if decoding is None:
            return body[:most]
        decoding.feed(body)
        whole = bytearray()
        while len(whole) < most and (piece := decoding.take(most - len(whole))):
            whole += piece
    except EgressError as error:
        raise httpx2.DecodingError(str(error)) from None
    return bytes(whole)


def known_code(body: bytes) -> str:
    """The code of the first error in a registry's answer, if the specification has it; else "".

    No other text of an answer gets into an error: a redirect may have led to a service that was never meant to be read
    by whoever sees the error, and a registry has no business to tell people what to type.
    """
    try:
        errors = parse_object(body, "the answer", most=1_000).get("errors")
    except InputError:
        return ""
    first = errors[0] if isinstance(errors, list) and errors else None
    code = first.get("code") if isinstance(first, dict) else None
    return code if isinstance(code, str) and code in _CODES else ""


def _remedy(status: int, host: str) -> str | None:
    match status:
        case 401 | 403:
            return f"docker login {host}"
        case 404:
            return f"check the name and the tag; a registry may also hide a private repository: docker login {host}"
        case 413:
            return f"{host} does not accept content of this size"
        case 429:
            return "try again later"
        case _:
            return None
