"""What can go wrong between here and a registry, and the one place where httpx2's exceptions become that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import httpx2

from host.core.strict_json import parse_object
from host.egress.failures import is_about_certificate, tls_error, translated, why_unreachable
from host.errors import InputError, RegistryError

MAX_ERROR_BYTES: Final = 16 * 1024
_OF_HTTPX2: Final = (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, httpx2.CookieConflict)
_TRY_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
_MAX_WORDS = 200
_DEADLINE_S = 60.0  # for an answer that is read whole


class PassingError(Exception):
    """Asking again may help: the connection broke, or the registry said so. `lasting` is what it is if it does not.
    Never leaves this package."""

    def __init__(self, lasting: RegistryError) -> None:
        super().__init__(lasting.message)
        self.lasting = lasting


@contextmanager
def entering(host: str, what: str) -> Iterator[None]:
    """Around everything that makes httpx2 ask `host` to do `what`. Raises RegistryError or PassingError."""
    try:
        yield
    except (*_OF_HTTPX2, UnicodeError) as error:  # the latter for a name like a..b, from the resolver itself
        raise _translated(error, host, what) from None


def _translated(error: Exception, host: str, what: str) -> RegistryError | PassingError:
    """For anything of httpx2: how it ends, and whether another try could end differently."""
    match error:
        case httpx2.ConnectTimeout() | httpx2.PoolTimeout():
            return RegistryError(f"{host} did not answer in time, asked to {what}", hint="is it reachable from here?")
        case httpx2.TimeoutException():
            return PassingError(RegistryError(f"{host} stopped answering, asked to {what}"))
        case httpx2.ConnectError():
            return _unreachable(error, host)
        case httpx2.NetworkError() | httpx2.RemoteProtocolError():
            return PassingError(RegistryError(f"the connection to {host} broke off, asked to {what}"))
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol() | UnicodeError():
            return RegistryError(f"{host} named a place that is no URL, asked to {what}")
        case _:
            return RegistryError(f"asking {host} to {what} failed: {type(error).__name__}")


def _unreachable(error: BaseException, host: str) -> RegistryError:
    below = tls_error(error)
    if below is None:
        return RegistryError(f"{host} cannot be reached: {why_unreachable(error)}", hint="check the name and the port")
    hint = None if is_about_certificate(below) else "if it is meant to speak plain HTTP: --plain-http"
    return RegistryError(translated(below, host).message, hint=hint)


def refuse(response: httpx2.Response, host: str, what: str) -> NoReturn:
    """For an answer, still unread, whose status is not one that was hoped for. Raises RegistryError, or PassingError
    where the status says that it will pass."""
    status = response.status_code
    said = _own_words(read_at_most(response, MAX_ERROR_BYTES))
    error = RegistryError(
        f"{host} answered {status} when asked to {what}" + (f": {said}" if said else ""),
        status=status,
        hint=_remedy(status, host),
    )
    raise PassingError(error) if status in _TRY_AGAIN else error


def read_at_most(response: httpx2.Response, most: int) -> bytes:
    """The first `most` bytes of the body, or what comes of them in a minute: of an answer that is cut short, the
    digest or the JSON will not be right."""
    body = bytearray()
    until = time.monotonic() + _DEADLINE_S
    for piece in response.iter_raw():
        body += piece
        if len(body) >= most or time.monotonic() > until:
            break
    return bytes(body[:most])


def words(text: str) -> str:
    """Words of others, on one line, without what a terminal would obey; at most 200 characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 4 * _MAX_WORDS]).split())
    return line if len(line) <= _MAX_WORDS else line[: _MAX_WORDS - 1] + "…"


def _own_words(body: bytes) -> str:
    """`CODE: message` of the first error in the registry's answer (distribution-spec, "Error Codes")."""
    try:
        errors = parse_object(body, "the answer", most=1_000).get("errors")
    except InputError:
        return ""
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return ""
    said = (first.get("code"), first.get("message"))
    return words(": ".join(part for part in said if isinstance(part, str) and part))


def _remedy(status: int, host: str) -> str | None:
    match status:
        case 401 | 403:
            return f"docker login {host}"
        case 404:
            return "check the name and the tag; a registry may also hide what one may not see: docker login " + host
        case 413:
            return f"{host} takes nothing that large"
        case 429:
            return "try again later"
        case _:
            return None
