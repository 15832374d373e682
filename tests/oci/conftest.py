"""A real registry, Debian's docker-registry, on loopback; and a relay in front of it with scripted behaviour."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from host.egress.total_timeout import TotalTimeout
from host.oci.auth import Credential, CredentialSource
from host.oci.client import RegistryClient
from host.oci.reference import OciReference
from host.secrets.value import SecretValue

USER, PASSWORD = "alice", "wonder land"
HTPASSWD = f"{USER}:$2b$05$Wq3mZ8kT1vYb5nRj7cXhOuv0NdaBO/7XwHhvIb8tqw9kSoGVvLhwO\n"  # bcrypt of PASSWORD
_OWN = ("transfer-encoding", "connection", "content-length", "date", "server")


@contextmanager
def running_registry(folder: Path, *, htpasswd: str = "") -> Iterator[str]:
    """`127.0.0.1:PORT` of a docker-registry that keeps everything in `folder`."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.fail("these tests need a registry: apt-get install docker-registry", pytrace=False)
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": "127.0.0.1:0", "secret": "for-tests"},
    }
    if htpasswd:
        (folder / "htpasswd").write_text(htpasswd)
        config["auth"] = {"htpasswd": {"realm": "wonderland", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    with subprocess.Popen(
        ["setpriv", "--pdeathsig=TERM", program, "serve", str(folder / "config.yml")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = next((line for line in process.stderr if "listening on" in line), "")
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        try:
            yield said.partition("listening on ")[2].partition('"')[0].strip()
        finally:
            process.terminate()
            process.wait(60)
            drain.join(60)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def guarded_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that requires USER's password."""
    with running_registry(tmp_path_factory.mktemp("guarded"), htpasswd=HTPASSWD) as address:
        yield address


@dataclass(frozen=True)
class Asked:
    """A request that the relay received."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Visit:
    """One request, and the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, asked: Asked, upstream: str) -> None:
        self._handler = handler
        self.asked = asked
        self._upstream = upstream

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """`headers` with `_` for `-`."""
        self.send(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    def send(self, status: int, headers: Mapping[str, str], body: bytes, *, length: int | None = None) -> None:
        handler = self._handler
        handler.send_response_only(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if "transfer-encoding" not in {name.lower() for name in headers}:
            handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        if self.asked.method != "HEAD":
            handler.wfile.write(body)
        handler.wfile.flush()

    def upstream(self) -> tuple[int, dict[str, str], bytes]:
        """The answer of the registry behind to the same request."""
        connection = HTTPConnection(self._upstream, timeout=30)
        try:
            headers = {**self.asked.headers, "Connection": "close"}
            connection.request(self.asked.method, self.asked.path, self.asked.body, headers)
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _OWN}
            body = answer.read()
            if self.asked.method == "HEAD":
                kept["X-Length"] = answer.getheader("Content-Length", "0")
            return answer.status, kept, body
        finally:
            connection.close()

    def forward(self) -> None:
        self.send(*self.upstream())

    def cut(self, body: bytes = b"", *, length: int = 0, status: int = 200, **headers: str) -> None:
        """Breaks the connection after `body`, the beginning of an answer of `length` bytes; without `length`, at once."""
        if length:
            self.send(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, length=length)
        self.hang_up()

    def hang_up(self) -> None:
        self._handler.close_connection = True
        with suppress(OSError):
            self._handler.connection.shutdown(socket.SHUT_RDWR)

    def write(self, data: bytes) -> None:
        self._handler.wfile.write(data)


class Relay:
    """Stands in front of `upstream` and lets `behave` answer. `asked` has all requests."""

    def __init__(self, upstream: str, behave: Callable[[Visit], None]) -> None:
        self.asked: list[Asked] = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _visited(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = Asked(self.command, self.path, dict(self.headers.items()), body)
                relay.asked.append(asked)
                behave(Visit(self, asked, upstream))

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _visited  # noqa: N815  # as http.server calls them

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # the client hung up, as the test intends

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def paths(self, method: str) -> list[str]:
        return [urlsplit(one.path).path for one in self.asked if one.method == method]


@pytest.fixture
def timed_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], bool]], None]:
    """`timed_from(true)`: the time of an exchange begins once `true()`, however long a busy machine takes to get there."""
    hang_up_after = TotalTimeout._hang_up_after

    def begin_with(true: Callable[[], bool]) -> None:
        def later(timeout: TotalTimeout, seconds: float, over: threading.Event, ended: threading.Event) -> None:
            while not true() and not ended.wait(0.01):
                pass
            hang_up_after(timeout, seconds, over, ended)

        monkeypatch.setattr(TotalTimeout, "_hang_up_after", later)

    return begin_with


@pytest.fixture
def relay() -> Iterator[Callable[..., Relay]]:
    """`relay(upstream, behave)`: a Relay, closed at the test's end."""
    opened: list[Relay] = []

    def open_one(upstream: str, behave: Callable[[Visit], None] = Visit.forward) -> Relay:
        opened.append(Relay(upstream, behave))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


class Alice:
    """A CredentialSource for one registry. `wanted` has the registries of all lookups."""

    def __init__(self, registry: str, *, is_identity_token: bool = False) -> None:
        self._registry = registry
        self._is_identity_token = is_identity_token
        self.wanted: list[str] = []

    def find(self, registry: str) -> Credential | None:
        self.wanted.append(registry)
        secret = SecretValue(PASSWORD)
        found = Credential(USER, secret, is_identity_token=self._is_identity_token)
        return found if registry == self._registry else None


@contextmanager
def client(
    address: str, *, repository: str = "", wanted: str = "", who: CredentialSource | None = None
) -> Iterator[RegistryClient]:
    """A client for `repository`, by default a new one. `wanted` is `:tag` or `@digest`. It does not wait between tries."""
    place = OciReference.parse(f"oci://{address}/{repository or new_repository()}{wanted}")
    with RegistryClient(place, who, pause=lambda seconds: None) as one:
        yield one


def new_repository() -> str:
    return f"tests/{uuid4().hex}"


class Steps:
    """A Progress that records `(name, total, advances)` for each begin."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, list[int]]] = []
        self.ended = 0

    def begin(self, name: str, total: int) -> None:
        self.seen.append((name, total, []))

    def advance(self, count: int) -> None:
        self.seen[-1][2].append(count)

    def end(self) -> None:
        self.ended += 1
