"""The failures of a request, and the one place where exceptions of libraries become them.

Messages are short and hold the host as the guest named it, but no resolved address, no path of this machine and no
byte that a server sent.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import Literal

import h11

Kind = Literal["http_error", "dns_error", "private_ip_blocked", "response_too_large", "timeout", "cancelled"]


class EgressError(Exception):
    """`kind` is an error type of CONTRACT.md, or `cancelled`; `message` may be shown to a guest."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class ConnectionLostError(EgressError):
    """The connection broke off: the one failure after which a request may be sent again (see EgressClient.send)."""

    def __init__(self, host: str) -> None:
        super().__init__("http_error", f"the connection to {host} broke off")


def timed_out(host: str) -> EgressError:
    return EgressError("timeout", f"{host} did not answer in the time that the run had left")


def cancelled() -> EgressError:
    return EgressError("cancelled", "the run was cancelled")


def not_public(host: str) -> EgressError:
    """One shape for every reason, so that a refusal tells nothing about the network around the host."""
    return EgressError("private_ip_blocked", f"{host} resolves to an address that is not public")


def too_large(limit: int) -> EgressError:
    return EgressError("response_too_large", f"the response is larger than {limit} bytes")


def translated(error: Exception, host: str) -> EgressError:
    """The EgressError for anything that a socket, TLS or h11 raises while speaking to `host`. (OpenSSL's errors have
    attributes that those raised in Python lack.)"""
    match error:
        case EgressError():
            return error
        case TimeoutError():
            return timed_out(host)
        case ssl.SSLCertVerificationError():
            said = getattr(error, "verify_message", "unknown").rstrip(".")
            return EgressError("http_error", f"the certificate of {host} is not acceptable: {said}")
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | ConnectionResetError() | BrokenPipeError():
            return ConnectionLostError(host)
        case ssl.SSLError():
            said = (getattr(error, "reason", None) or "unknown").replace("_", " ").lower()
            return EgressError("http_error", f"TLS with {host} failed: {said}")
        case OSError():
            said = os.strerror(error.errno) if error.errno else type(error).__name__
            return EgressError("http_error", f"{host} can't be reached: {said.lower()}")
        case h11.RemoteProtocolError():
            return EgressError("http_error", f"{host} did not answer in acceptable HTTP/1.1")
        case h11.LocalProtocolError():
            return EgressError("http_error", "the request is not acceptable HTTP/1.1")
        case _:
            return EgressError("http_error", f"speaking to {host} failed: {type(error).__name__}")


def why_unreachable(error: BaseException) -> str:
    """Why there was no connection, in the system's words: for an operator's eyes."""
    below: BaseException | None = error
    while below is not None and not isinstance(below, OSError):
        below = below.__cause__ or below.__context__
    match below:
        case socket.gaierror():
            return "its name does not resolve"
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
        case _:
            return "there is no connection"


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """The TLS error that led to `error`, for `translated`; None if there was none."""
    below: BaseException | None = error
    while below is not None and not isinstance(below, ssl.SSLError):
        below = below.__cause__ or below.__context__
    return below


def is_about_certificate(error: ssl.SSLError) -> bool:
    """Whether the peer could be spoken to, and was not who it should be."""
    return isinstance(error, ssl.SSLCertVerificationError)
