"""The failures of a request, and the one place where exceptions of libraries become them.

Messages are short. They hold the host and the port that were spoken to and what was being done there, but no resolved
address, no path of this machine and no byte that a server sent.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from typing import Literal

import h11

from host.core import environment

_FOR_ANOTHER_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL
_UNKNOWN_AUTHORITY = (18, 19, 20, 21)  # self-signed, or an issuer that is not there
_NO_CERTIFICATE = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
WaitLimit = Literal["connect_timeout", "first_byte_timeout", "idle_timeout"]
Kind = Literal["http_error", "dns_error", "private_ip_blocked", "response_too_large", "timeout", "cancelled"]
Doing = Literal["connect", "tls", "send", "answer", "head", "body"]
"""What is being done with a connection; `answer`: waiting for the first byte of one."""

_UNTIL = "in the time that the run had left"
_TIMED_OUT: Mapping[Doing, str] = {
    "connect": f"{{}} did not take the connection {_UNTIL}",
    "tls": f"{{}} did not end the TLS handshake {_UNTIL}",
    "send": f"{{}} did not take the whole request {_UNTIL}",
    "answer": f"{{}} did not answer {_UNTIL}",
    "head": f"{{}} began an answer, and did not send the rest of its head {_UNTIL}",
    "body": f"{{}} did not send the rest of its answer's body {_UNTIL}",
}
_LOST: Mapping[Doing, str] = {
    "connect": "while it was being made",
    "tls": "within the TLS handshake",
    "send": "before it had the whole request",
    "answer": "without an answer",
    "head": "within the head of its answer",
    "body": "within the body of its answer",
}


class EgressError(Exception):
    """`kind` is an error type of wit/README.md, or `cancelled`. `message` is `words`, with `at`, a `host:port`, in
    place of the first `{}`, or the host alone in place of `{host}`. A guest may see it, unless the operator sent its
    request to another host: then it sees `naming` the first. `limit` is the policy's limit that was over
    (`idle_timeout`, `max_message_size`), "" where `kind` says it; of one wait it was `waited_s`. `sent`: some of the
    request may have been sent. `passing`: the next request may not have it."""

    def __init__(
        self, kind: Kind, words: str, at: str = "", *, limit: str = "", waited_s: float = 0.0, passing: bool = False
    ) -> None:
        self.passing = passing or kind in ("timeout", "dns_error")
        self.of_upstream = bool(at) and kind in ("http_error", "dns_error", "timeout")  # and not of this side
        self.limit = limit
        self.waited_s = waited_s
        self.sent = True
        self._marker = "{host}" if "{host}" in words else "{}"
        self._parts = words.partition(self._marker) if at else (words, "", "")
        self.kind = kind
        self.message = self.naming(at)
        super().__init__(self.message)

    def naming(self, at: str) -> str:
        """The message for another `host:port` than the one that was spoken to."""
        before, gap, after = self._parts
        shown = host_of(at) if self._marker == "{host}" else at
        return f"{before}{shown}{after}" if gap else before

    def outside_a_proxy(self, at: str) -> EgressError:
        """The same error of a connection to `at` that was not made, with words about a proxy that is not used."""
        if self.kind in ("http_error", "dns_error", "timeout"):
            before, gap, after = self._parts
            said = beside_a_proxy(at)
            self._parts = (before, gap, after + said) if gap else (before + said, "", "")
            self.message = self.naming(at)
        return self


class ConnectionLostError(EgressError):
    """The connection broke off: the one failure after which a request may be sent again (see EgressClient.send)."""

    def __init__(self, at: str, doing: Doing = "answer", *, reset: bool = False) -> None:
        how = "reset" if reset else "closed"
        super().__init__("http_error", f"{{}} {how} the connection {_LOST[doing]}", at, passing=True)


def beside_a_proxy(host: str) -> str:
    """Words for an error about a connection to `host`, where the environment asks for a proxy; else none. Proxies are
    never used: whoever set the variable, the sandbox's requests go to the addresses that were checked."""
    name = environment.proxy_variable()
    if name is None or host.partition(":")[0] == "localhost" or host.startswith(("127.", "::1", "[::1]")):
        return ""
    return f"; {name} is set, but proxies are not used here: this machine has to reach it by itself"


def host_of(at: str) -> str:
    """The host of `host:port`."""
    host, colon, port = at.rpartition(":")
    return host if colon and port.isdecimal() else at


def timed_out(at: str, doing: Doing = "answer") -> EgressError:
    return EgressError("timeout", _TIMED_OUT[doing], at)


def waited(error: EgressError, left_s: float, limit: WaitLimit, seconds: float, at: str, doing: Doing) -> EgressError:
    """`error`, in a wait of at most `seconds`; the one that names its `limit`, where the run had `left_s` more."""
    if error.kind != "timeout" or left_s <= 0:
        return error
    words = f"{_TIMED_OUT[doing].removesuffix(_UNTIL)}within {seconds:g} s"
    if limit == "idle_timeout":
        words = f"{{}} sent nothing more of its answer for {seconds:g} s"
    named = EgressError("timeout", words, at, limit=limit, waited_s=seconds)
    return named.outside_a_proxy(at) if limit == "connect_timeout" else named


def cancelled() -> EgressError:
    return EgressError("cancelled", "the run was cancelled")


def not_public(at: str) -> EgressError:
    """One shape for every reason, so that a refusal tells nothing about the network around the host."""
    return EgressError("private_ip_blocked", "{host} resolves to an address that is not public", at)


def too_large(limit: int) -> EgressError:
    return EgressError("response_too_large", f"the response is larger than {limit} bytes")


def too_much(limit: int, name: str) -> EgressError:
    """A message of a WebSocket, or all of them, over the policy's limit `name`."""
    what = "a message" if name == "max_message_size" else "what came over the connection"
    return EgressError("response_too_large", f"{what} is larger than {limit} bytes", limit=name)


def translated(error: Exception, at: str, doing: Doing = "answer") -> EgressError:
    """The EgressError for anything that a socket, TLS or h11 raises while speaking to `at`. (OpenSSL's errors have
    attributes that those raised in Python lack.)"""
    match error:
        case EgressError():
            return error
        case TimeoutError() if error.errno is None:  # with a number it is the system that gave up
            return timed_out(at, doing)
        case ssl.SSLCertVerificationError():
            said = getattr(error, "verify_message", "unknown").rstrip(".")
            if getattr(error, "verify_code", 0) in _FOR_ANOTHER_NAME:  # OpenSSL's words repeat the name
                said = "it is for another name"
            elif getattr(error, "verify_code", 0) in _UNKNOWN_AUTHORITY:
                said += " (an authority of your own: ca_file in the policy)"
            return EgressError("http_error", f"the certificate of {{}} is not acceptable: {said}", at)
        case ConnectionResetError():
            return ConnectionLostError(at, doing, reset=True)
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | BrokenPipeError():
            return ConnectionLostError(at, doing)
        case ssl.SSLError():
            reason = getattr(error, "reason", None) or "unknown"
            said = _NO_TLS if reason in _FROM_PLAIN_HTTP else reason.replace("_", " ").lower()
            if reason == _NO_CERTIFICATE:
                said = "it asks for a certificate (tls.ORIGIN.client_certificate in the policy)"
            return EgressError("http_error", f"TLS with {{}} failed: {said}", at, passing=reason != _NO_CERTIFICATE)
        case OSError():
            said = os.strerror(error.errno) if error.errno else type(error).__name__
            return EgressError("http_error", f"{{}} can't be reached: {said.lower()}", at, passing=True)
        case h11.RemoteProtocolError():
            said = _malformed(error, doing)
            return EgressError("http_error", f"{{}} did not answer in acceptable HTTP/1.1: {said}", at)
        case h11.LocalProtocolError():
            return EgressError("http_error", "the request is not acceptable HTTP/1.1")
        case _:
            return EgressError("http_error", f"speaking to {{}} failed: {type(error).__name__}", at)


_FROM_PLAIN_HTTP = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST")  # reasons of OpenSSL
_NO_TLS = "what it speaks there is not TLS"
_HEAD_TOO_LARGE = 431  # RFC 6585, section 5: h11 would answer a client so


def _malformed(error: h11.RemoteProtocolError, doing: Doing) -> str:
    if doing == "body":
        return "the chunks of its body are malformed"
    if error.error_status_hint == _HEAD_TOO_LARGE:
        return "the head of its answer is too large"
    return "the head of its answer is malformed"


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
