"""HTTP/1.1 as uvicorn speaks it, with bounds for what somebody may send before it is known who he is: uvicorn's own
server of it takes a request's line and headers of any size, and waits for them for any time.

The server as a program: where it listens, with how many processes, and how it ends.

It ends when it is told to (SIGTERM, SIGINT): it takes no more requests, and those under way have `grace_s` to finish,
streams as well. Each of several workers has a sandbox engine of its own, the only boundary that contains a fault of the
runtime; what they share is the state, and the compiled components.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import uvicorn
from prometheus_client import disable_created_metrics
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from host.core import environment
from host.errors import InputError, StateError
from host.runtime.workspace import Workspace
from host.server.app import Application
from host.server.observability import logs
from host.server.settings import ServerSettings
from host.service.limits import open_limiter

HEAD_BYTES: Final = 64 * 1024  # of a request's line, of its headers, and of what comes after a body in chunks
HEAD_S: Final = 30.0  # for a request's headers to be there, once the one before is answered


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: asyncio.TimerHandle | None = None
        self._unread = 0  # bytes since the parser last made something of any
        self._fields = 0  # bytes of this request's headers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._waiting is None and (self.cycle is None or self.cycle.response_complete):
            self._wait()  # also for the rest of a body that nobody reads any more
        self._unread += len(data)
        super().data_received(data)
        if self._unread > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's headers are too large.")

    def on_message_begin(self) -> None:
        self._fields = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        _bounded(len(self.url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._unread = 0
        self._fields += len(name) + len(value)
        _bounded(self._fields)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unread = 0
        self._wait_no_more()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(HEAD_S, self._too_late)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_late(self) -> None:
        self._waiting = None
        self.transport.close()


def _bounded(size: int) -> None:
    """Raises ValueError: the parser ends, and the connection with it."""
    if size > HEAD_BYTES:
        raise ValueError(size)


_BACKLOG = 2_048
_KEEP_ALIVE_S = 75  # longer than the idle time of the usual load balancers, so that they and not we close first


@dataclass(frozen=True, slots=True)
class Serving:
    """`port` 0 takes a free one. `certificate` and `private_key` are files, for https. `log_format` is `json` or
    `text`."""

    settings: ServerSettings
    address: str = "127.0.0.1"
    port: int = 4000
    workers: int = 1
    grace_s: float = 30.0
    certificate: str | None = None
    private_key: str | None = None
    log_level: str = "info"
    log_format: str = "json"

    @property
    def scheme(self) -> str:
        return "https" if self.certificate else "http"

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.address).is_loopback
        except ValueError:
            return self.address == "localhost"


def check(serving: Serving, workspace: Workspace) -> bool:
    """Whether there is a key. Raises InputError where there is none, and others could reach the server, or where an
    option cannot be used; StateError where what is kept is not what the operator left, or nobody counts limits."""
    workspace.check()
    _check_certificate(serving)
    if serving.settings.limits_url:
        open_limiter(serving.settings.limits_url, workspace).close()
    has_key = workspace.api_keys.snapshot().any
    if not has_key and not serving.local:
        raise InputError(
            f"there is no key yet, and {serving.address} can be reached from elsewhere",
            field="--host",
            hint="make one first: host key create --name NAME --type secret",
        )
    return has_key


def _check_certificate(serving: Serving) -> None:
    if serving.certificate is None or serving.private_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(serving.certificate, serving.private_key)
    except OSError as error:
        said = "no certificate and its private key" if isinstance(error, ssl.SSLError) else error.strerror
        raise InputError(
            f"--tls-cert {serving.certificate}, --tls-key {serving.private_key}: {said}",
            field="--tls-cert",
            hint="two PEM files: the certificate with its chain, and the private key that belongs to it",
        ) from None


def serve(serving: Serving, began: Callable[[str], None]) -> None:
    """Returns when it was told to end, and has. `began` gets its URL once it listens. Raises HostError."""
    with _listening(serving) as listener:
        host, port = listener.getsockname()[:2]
        began(f"{serving.scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        if serving.workers == 1:
            _one(serving, listener)
            return
        with tempfile.TemporaryDirectory(prefix="catalyst-host-") as counted:
            environment.share_metrics(Path(counted))
            Multiprocess(_config(serving, _Worker(serving), factory=True), sockets=[listener]).run()


def _one(serving: Serving, listener: socket.socket) -> None:
    application = _Worker(serving)()
    signal.signal(signal.SIGTERM, _nothing_more)  # uvicorn raises again what told it to end, once it has
    signal.signal(signal.SIGINT, _nothing_more)
    try:
        uvicorn.Server(_config(serving, application)).run(sockets=[listener])
    finally:
        application.close()


def _nothing_more(number: int, frame: object) -> None:
    del number, frame


@dataclass(frozen=True, slots=True)
class _Worker:
    """Makes the application, in the process that is to serve it."""

    serving: Serving

    def __call__(self) -> Application:
        logs.configure(level=self.serving.log_level, in_json=self.serving.log_format == "json")
        if multiprocessing.parent_process() is not None:
            threading.Thread(target=_end_with_parent, name="host-parent", daemon=True).start()
        disable_created_metrics()  # type: ignore[no-untyped-call]  # series of when each began: as many again
        application = Application(self.serving.settings)
        gc.collect()
        gc.freeze()  # what is there now stays, and no collection has to look at it again
        return application


def _end_with_parent() -> None:
    """A worker whose parent was killed would hold the port for good, with nobody to tell it to end."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _config(serving: Serving, app: Callable[..., object], *, factory: bool = False) -> uvicorn.Config:
    """No header that tells where a request came from is believed here: `host.server.auth` knows whose may be."""
    return uvicorn.Config(
        app,
        factory=factory,
        workers=serving.workers,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(serving.grace_s),
        ssl_certfile=serving.certificate,
        ssl_keyfile=serving.private_key,
    )


def _listening(serving: Serving) -> socket.socket:
    try:
        family = socket.getaddrinfo(serving.address, serving.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((serving.address, serving.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        said = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise StateError(
            f"cannot listen on {serving.address}:{serving.port}: {said}", hint="another --port, or --host"
        ) from None
    listener.set_inheritable(True)
    return listener
