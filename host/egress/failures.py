"""The failures of a request, and the one place where exceptions of libraries become them.

Messages are short and hold the host that was spoken to, but no resolved address, no path of this machine and no byte
that a server sent.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import Literal

import h11

from host.core import environment

_FOR_ANOTHER_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL
Kind = Literal["http_error", "dns_error", "private_ip_blocked", "response_too_large", "timeout", "cancelled"]


class EgressError(Exception):
    """`kind` is an error type of CONTRACT.md, or `cancelled`. `message` is `words`, with `host` in place of the first
    `{}`. A guest may see it, unless the operator sent its request to another host: then it sees `naming` the first."""

    def __init__(self, kind: Kind, words: str, host: str = "") -> None:
        self._parts = words.partition("{}") if host else (words, "", "")
        self.kind = kind
        self.message = self.naming(host)
        super().__init__(self.message)

    def naming(self, host: str) -> str:
        """The message for another host than the one that was spoken to."""
        before, gap, after = self._parts
        return f"{before}{host}{after}" if gap else before

    def outside_a_proxy(self, host: str) -> EgressError:
        """The same error of a connection to `host` that was not made, with words about a proxy that is not used."""
        if self.kind in ("http_error", "dns_error", "timeout"):
            before, gap, after = self._parts
            self._parts = (
                (before, gap, after + beside_a_proxy(host)) if gap else (before + beside_a_proxy(host), "", "")
            )
            self.message = self.naming(host)
        return self


class ConnectionLostError(EgressError):
    """The connection broke off: the one failure after which a request may be sent again (see EgressClient.send)."""

    def __init__(self, host: str) -> None:
        super().__init__("http_error", "the connection to {} broke off", host)


def beside_a_proxy(host: str) -> str:
    """Words for an error about a connection to `host`, where the environment asks for a proxy; else none. Proxies are
    never used: whoever set the variable, the sandbox's requests go to the addresses that were checked."""
    name = environment.proxy_variable()
    if name is None or host.partition(":")[0] == "localhost" or host.startswith(("127.", "::1", "[::1]")):
        return ""
    return f"; {name} is set, but proxies are not used here: this machine has to reach it by itself"


def timed_out(host: str) -> EgressError:
    return EgressError("timeout", "{} did not answer in the time that the run had left", host)


def cancelled() -> EgressError:
    return EgressError("cancelled", "the run was cancelled")


def not_public(host: str) -> EgressError:
    """One shape for every reason, so that a refusal tells nothing about the network around the host."""
    return EgressError("private_ip_blocked", "{} resolves to an address that is not public", host)


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
            if getattr(error, "verify_code", 0) in _FOR_ANOTHER_NAME:  # OpenSSL's words repeat the name
                said = "it is for another name"
            return EgressError("http_error", f"the certificate of {{}} is not acceptable: {said}", host)
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | ConnectionResetError() | BrokenPipeError():
            return ConnectionLostError(host)
        case ssl.SSLError():
            said = (getattr(error, "reason", None) or "unknown").replace("_", " ").lower()
            return EgressError("http_error", f"TLS with {{}} failed: {said}", host)
        case OSError():
            said = os.strerror(error.errno) if error.errno else type(error).__name__
            return EgressError("http_error", f"{{}} can't be reached: {said.lower()}", host)
        case h11.RemoteProtocolError():
            return EgressError("http_error", "{} did not answer in acceptable HTTP/1.1", host)
        case h11.LocalProtocolError():
            return EgressError("http_error", "the request is not acceptable HTTP/1.1")
        case _:
            return EgressError("http_error", f"speaking to {{}} failed: {type(error).__name__}", host)


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
