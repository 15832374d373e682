"""TLS of one origin, as a policy has it: the certificate authorities that count, and the client's own certificate.

The files are named here, and read by `host.egress.tls` when a catalyst is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from host.core.names import SecretName
from host.errors import InputError, PolicyError

KEPT: Final = "secret:"
"""Before the name of a kept secret, in place of a path: the private key is that secret, a PEM text in base64."""


@dataclass(frozen=True, kw_only=True)
class TlsRule:
    """TLS with one origin. Files are PEM, each with an absolute path. `ca_file` has the certificate authorities that
    are trusted there, in place of the system's. `client_certificate` has the certificate that is shown to the server,
    and those that lead to its root; `client_key` its private key: a file that others cannot read, or `secret:NAME`."""

    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None

    def __post_init__(self) -> None:
        for name in ("ca_file", "client_certificate", "client_key"):
            value = getattr(self, name)
            try:
                if name != "client_key" or kept_key(value) is None:
                    check_path(value)
            except InputError as error:
                raise PolicyError(f"{name}: {error.message}", field=name, hint=error.hint) from None
        for name, other in (("client_key", "client_certificate"), ("client_certificate", "client_key")):
            if getattr(self, name) is None and getattr(self, other) is not None:
                raise PolicyError(f"{name}: {other} needs it", field=name)

    @property
    def key_name(self) -> SecretName | None:
        """The kept secret that is the private key; None where it is in a file, or there is none."""
        return kept_key(self.client_key)


def kept_key(given: object) -> SecretName | None:
    """The name in `secret:NAME`; None for anything else. Raises InputError for a name that no secret can have."""
    return SecretName.parse(given.removeprefix(KEPT)) if isinstance(given, str) and given.startswith(KEPT) else None


def check_path(given: object) -> None:
    """Raises PolicyError unless it is an absolute path, or None."""
    if given is None:
        return
    if not isinstance(given, str) or "\0" in given or not PurePosixPath(given).is_absolute():
        raise PolicyError(f"{given!r:.80} is not an absolute path", hint="like /etc/ssl/certs/acme.pem")
