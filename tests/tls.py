"""A certificate authority for a test session, and TLS in front of a server that speaks none."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from host.egress import system_tls


@dataclass(frozen=True)
class Certificates:
    """A certificate authority for this test session, contexts with its certificates, and the files."""

    folder: Path

    def trusting(self) -> ssl.SSLContext:
        context = system_tls()
        context.load_verify_locations(self.folder / "ca.pem")
        return context

    def server(self, name: str, *, asks_for_certificates: bool = False) -> ssl.SSLContext:
        """`name`: api.test, other.test, localhost, expired or self-signed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        if asks_for_certificates:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.folder / "ca.pem")
        return context

    def file(self, name: str) -> str:
        """The path of a file: ca.pem, other-ca.pem; client.pem, client.key; locked.key, which has a password."""
        return str(self.folder / name)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other-ca"):
        openssl(
            "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", "/CN=Test CA"
        )
    for name, days, subject in (
        ("api.test", "2", "api.test"),
        ("other.test", "2", "other.test"),
        ("localhost", "2", "localhost"),
        ("client", "2", "client.test"),
        ("expired", "-1", "api.test"),
    ):
        (folder / "names").write_text(f"subjectAltName=DNS:{subject},DNS:*.{subject}")
        openssl("req", *key, "-keyout", f"{name}.key", "-out", "request", "-subj", f"/CN={subject}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        openssl("x509", "-req", "-in", "request", "-out", f"{name}.pem", "-days", days, *signing)
    names = ("-subj", "/CN=api.test", "-addext", "subjectAltName=DNS:api.test")
    openssl("req", "-x509", *key, "-keyout", "self-signed.key", "-out", "self-signed.pem", "-days", "2", *names)
    openssl("pkey", "-in", "client.key", "-aes256", "-passout", "pass:x", "-out", "locked.key")
    openssl("x509", "-in", "ca.pem", "-outform", "DER", "-out", "ca.der")
    for file in folder.glob("*.key"):
        file.chmod(0o600)
    return Certificates(folder)


@contextmanager
def behind_tls(url: str, context: ssl.SSLContext) -> Iterator[str]:
    """Speaks TLS in front of the server at `url`. Yields the URL, for the name localhost."""
    at = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        opened: list[socket.socket] = []

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                while data := source.recv(65_536):
                    sink.sendall(data)
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

        def serve(plain: socket.socket) -> None:
            with suppress(OSError):
                wrapped = context.wrap_socket(plain, server_side=True)
                behind = socket.create_connection((at.hostname or "", at.port or 80))
                opened.extend((wrapped, behind))
                threading.Thread(target=pump, args=(behind, wrapped), daemon=True).start()
                pump(wrapped, behind)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    plain, _ = listener.accept()
                    opened.append(plain)
                    threading.Thread(target=serve, args=(plain,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"https://localhost:{listener.getsockname()[1]}"
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for one in opened:
                with suppress(OSError):
                    socket.socket.shutdown(one, socket.SHUT_RDWR)
                one.close()
