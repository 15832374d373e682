"""The time of a whole exchange is limited, even if bytes keep arriving."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from host.egress.total_timeout import TotalTimeout

PATIENCE_S = 60


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[bytes, bytes], str]]:
    """`server(answer, drop)` is the URL of a server that sends `answer`, then a drop every few milliseconds."""
    tls = _tls(tmp_path) if request.param == "https" else None
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve(answer: bytes, drop: bytes) -> None:
        accepted, _ = listener.accept()
        with (
            suppress(OSError),  # the client leaves, also within the handshake
            tls.wrap_socket(accepted, server_side=True) if tls else accepted as connection,
        ):
            connection.recv(65536)
            connection.sendall(answer)
            while drop and not over.wait(0.01):
                connection.sendall(drop)

    def begin(answer: bytes, drop: bytes = b"") -> str:
        threads.append(threading.Thread(target=serve, args=(answer, drop)))
        threads[-1].start()
        return f"{request.param}://127.0.0.1:{listener.getsockname()[1]}/"

    yield begin
    over.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    listener.close()


def _tls(folder: Path) -> ssl.SSLContext:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.fixture
def patience() -> TotalTimeout:
    return TotalTimeout()


@pytest.fixture
def client(patience: TotalTimeout) -> Iterator[httpx2.Client]:
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    hooks = {"request": [patience.watch]}
    with httpx2.Client(verify=anybody, trust_env=False, timeout=PATIENCE_S, event_hooks=hooks) as one:
        yield one


@pytest.mark.parametrize(
    ("answer", "drop"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", b"a", id="in a field"),
        pytest.param(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", id="before the answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"a", id="in the body"),
    ],
)
def test_what_would_not_end_is_hung_up_on(
    server: Callable[..., str], patience: TotalTimeout, client: httpx2.Client, answer: bytes, drop: bytes
) -> None:
    url = server(answer, drop)
    with patience.within(0.3) as over, pytest.raises(httpx2.TransportError):
        client.get(url)
    assert over.is_set()


def test_a_connection_that_was_made_too_late_is_hung_up_on(
    server: Callable[..., str], patience: TotalTimeout, client: httpx2.Client
) -> None:
    url = server(b"HTTP/1.1 200 OK\r\nX: ", b"a")
    with patience.within(0.0) as over:
        assert over.wait(PATIENCE_S)
        with pytest.raises(httpx2.TransportError):
            client.get(url)


def test_what_ends_in_time_is_left_alone(
    server: Callable[..., str], patience: TotalTimeout, client: httpx2.Client
) -> None:
    with patience.within(PATIENCE_S) as over:
        assert client.get(server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")).text == "ok"
    assert not over.is_set()
