"""TLS as a policy wants it for some origins: other certificate authorities, and certificates of the client.

The files are read once, when a catalyst is loaded: what is loaded is what was checked, and has the digest that the
record shows. No error repeats what is in a file, or where it is: callers and guests read errors.
"""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NoReturn

from host.errors import PolicyError
from host.policy.tls import TlsRule
from host.policy.urls import Origin
from host.secrets.value import SecretValue

_MAX_BYTES: Final = 1 << 20
_OTHERS: Final = 0o077
_OTHERS_BUT_ROOTS_GROUP: Final = 0o037  # of a file of root's, as programs that run as a service's user get them

Contexts = Callable[[Origin], ssl.SSLContext]
"""The TLS context for connections to an origin."""


@dataclass(frozen=True)
class TlsFiles:
    """What was read for one origin. `ca` None: the system's authorities count."""

    ca: str | None = None
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)

    @classmethod
    def read(cls, rule: TlsRule, at: str, key: SecretValue | None = None) -> TlsFiles:
        """`at` is the place of `rule` in the policy, for errors; `key` the value of `rule.key_name`. Raises
        PolicyError, which names the field."""
        files = cls(
            ca=None if rule.ca_file is None else _text(_content(rule.ca_file, f"{at}ca_file"), f"{at}ca_file"),
            certificate=_content(rule.client_certificate, f"{at}client_certificate")
            if rule.client_certificate is not None
            else None,
            key=_private(rule, f"{at}client_key", key) if rule.client_key is not None else None,
        )
        files.check(at)
        return files

    @cached_property
    def context(self) -> ssl.SSLContext:
        """The context of a client with these files. Raises ssl.SSLError, also for a key that is encrypted."""
        context = system_tls(self.ca)
        if self.certificate is not None and self.key is not None:
            with _in_memory(self.certificate) as certificate, _in_memory(self.key) as key:
                context.load_cert_chain(certificate, key, password=_encrypted)
        return context

    @property
    def digests(self) -> dict[str, str]:
        """What may be on record: the digests of what is no secret."""
        parts = {"ca_file": None if self.ca is None else self.ca.encode(), "client_certificate": self.certificate}
        return {name: f"sha256:{hashlib.sha256(part).hexdigest()}" for name, part in parts.items() if part is not None}

    def check(self, at: str) -> None:
        """Raises PolicyError unless all of it can be used."""
        try:
            system_tls(self.ca)
        except (ssl.SSLError, ValueError):
            raise _mistake(f"{at}ca_file", "there is no certificate in it", "a file in PEM") from None
        try:
            assert self.context
        except _EncryptedError:
            remedy = "keep it without one: openssl pkey -in FILE -out KEY, and chmod 600 KEY"
            raise _mistake(f"{at}client_key", "it has a password", remedy) from None
        except (ssl.SSLError, ValueError):
            words = "it is not the private key of the certificate"
            raise _mistake(f"{at}client_key", words, "both in PEM, the client's own certificate first") from None


@dataclass(frozen=True)
class TlsByOrigin:
    """The TLS of one policy. `default` is for origins that have none of their own."""

    origins: Mapping[Origin, TlsFiles] = field(default_factory=dict)
    default: TlsFiles | None = None

    def contexts(self, otherwise: Callable[[], ssl.SSLContext]) -> Contexts:
        """The context for each origin: that of `otherwise` where the policy says nothing."""

        def of(origin: Origin) -> ssl.SSLContext:
            found = self.origins.get(origin, self.default)
            return otherwise() if found is None else found.context

        return of

    @property
    def digests(self) -> dict[str, dict[str, str]]:
        """For the record: by origin, "*" for all others."""
        found = {str(origin): files.digests for origin, files in self.origins.items()}
        return found if self.default is None else {"*": self.default.digests, **found}


def system_tls(ca: str | None = None) -> ssl.SSLContext:
    """Verifies against the system's certificates, or those in the PEM text `ca`; TLS 1.2 or newer, HTTP/1.1 only.
    Raises ssl.SSLError, ValueError for a text without a certificate.

    Not `ssl.create_default_context`, which writes every session's keys to the file that SSLKEYLOGFILE names.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # which some builds of Python set: see Socket._start_tls
    context.set_alpn_protocols(["http/1.1"])
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.load_verify_locations(cadata=ca)
    return context


class _EncryptedError(Exception):
    pass


def _encrypted() -> NoReturn:
    """In place of a password: OpenSSL would ask for one on the terminal."""
    raise _EncryptedError


def _private(rule: TlsRule, at: str, key: SecretValue | None) -> bytes:
    if (name := rule.key_name) is None:
        assert rule.client_key is not None
        return _content(rule.client_key, at, private=True)
    if key is None:
        raise _mistake(at, f"no secret {name} is kept", f"base64 -w0 KEY.pem | host secret set {name}")
    try:
        return base64.b64decode(key.reveal(), validate=True)
    except ValueError:
        raise _mistake(at, f"{name} is not in base64", f"base64 -w0 KEY.pem | host secret set {name}") from None


def _content(path: str, at: str, *, private: bool = False) -> bytes:
    """Of a regular file: reading any other could take for ever. Raises PolicyError, which names the field alone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise _mistake(at, "it is not a file")
            if private:
                _check_private(found, at)
            with os.fdopen(fd, "rb", closefd=False) as file:
                content = file.read(_MAX_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise _mistake(at, f"cannot read the file: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise _mistake(at, "the file is larger than 1 MiB")
    return content


def _check_private(found: os.stat_result, at: str) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise _mistake(at, "the file belongs to another user", "a private key belongs to you, or to root")
    if found.st_mode & (_OTHERS_BUT_ROOTS_GROUP if found.st_uid == 0 and os.geteuid() != 0 else _OTHERS):
        raise _mistake(at, "others can read the file", "chmod 600 FILE")


def _text(content: bytes, at: str) -> str:
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        raise _mistake(at, "it is not PEM, which is ASCII", "openssl x509 -inform DER -in FILE -out FILE.pem") from None


def _mistake(at: str, problem: str, hint: str | None = None) -> PolicyError:
    return PolicyError(f"{at}: {problem}", field=at, hint=hint)


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path with `content`, for this process alone: OpenSSL reads certificates and keys from files only."""
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
