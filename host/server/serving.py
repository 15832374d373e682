"""The server as a program: its listener, its worker processes, and its end.

SIGTERM and SIGINT end it: from the signal on it takes no more requests, and requests under way have `grace_s` to
finish, streams as well. What is not finished then ends with an error that says so. `END_S` later the process ends,
whatever its threads wait for. SIGHUP changes nothing: the settings are read at the start, and what is kept in the state
is noticed by itself.
Each worker has a sandbox engine of its own: only a process contains a fault of the runtime. Workers share the state and
the compiled components.

HTTP/1.1 is uvicorn's, with bounds for the head of a request, which comes before its sender is known: uvicorn takes a
head of any size, and waits for it for any time.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from prometheus_client import disable_created_metrics
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from host.core import environment
from host.core.strict_json import json_bytes
from host.core.waiting import start
from host.errors import InputError, Overloaded, StateError
from host.runtime.workspace import Workspace
from host.server.app import Application
from host.server.asgi import CONNECTION, Receive, Scope, Send, context_of, peer, send_whole
from host.server.connections import Connections, raise_descriptors
from host.server.http_errors import OVERLOADED
from host.server.observability import logs
from host.server.settings import ServerSettings
from host.server.sockets import OPTIONS, SocketProtocol, StuckReader
from host.service.limits import open_limiter

_log = logging.getLogger("host.server")

HEAD_BYTES: Final = 64 * 1024  # of a request's line, of its headers, and of the trailers of a body in chunks
HEAD_S: Final = 30.0  # for a request's headers, after the answer to the request before
WRITE_S: Final = 60.0  # in which a client has to read some of its answer
_BUSY: Final = (
    b'{"error": {"type": "busy", "code": "busy", "message": "there are too many connections", "param": null}}'
)
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_BUSY), _BUSY)
)


_AUTHORIZATION: Final = b"authorization"
_LENGTH: Final = len(_AUTHORIZATION)
_AUTHORIZED: Final = "host.authorization"
_HELD_S: Final = 0.5  # that a request waits for its refusal
_FOR_WATCHERS: Final = (b"/health", b"/ready", b"/metrics")
_COME_AGAIN: Final = json_bytes(
    {
        "error": {
            "message": OVERLOADED,
            "type": Overloaded.code,
            "param": None,
            "code": Overloaded.code,
        }
    }
)


async def _turn_away(scope: Scope, receive: Receive, send: Send) -> None:
    """Not at once: a client that asks again without waiting would have the server do nothing else."""
    del scope, receive
    await asyncio.sleep(_HELD_S)
    await send_whole(send, 503, _COME_AGAIN, headers={"retry-after": "1"})


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, connections: Connections | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._all = connections or Connections()
        self.known = False
        self.idle = True
        self.address: IPv4Address | IPv6Address | None = None
        self._stuck: StuckReader | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._unread = 0  # bytes since the parser last understood some
        self._fields = 0  # bytes of this request's headers
        self._authorization = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._stuck = StuckReader(self.loop, transport, WRITE_S)
        self._wait()
        self.address = peer({"client": self.client})
        if not self._all.arrived(self):
            transport.write(_FULL)
            transport.close()

    def end(self) -> None:
        self.idle = False
        self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        if self._stuck is not None:
            self._stuck.paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.resumed()

    def handle_websocket_upgrade(self) -> None:
        """The connection becomes a WebSocket, and counts as it did. One on which an answer is still on its way does
        not: the two would be one stream of bytes."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.send_400_response("The connection cannot be upgraded before the answers to earlier requests.")
            return
        try:
            dict(self.headers).get(b"host", b"").decode("idna")
        except UnicodeError:
            self.send_400_response("The Host header is no name.")
            return
        super().handle_websocket_upgrade()
        follower = self.transport.get_protocol()
        if isinstance(follower, SocketProtocol) and self._stuck is not None:
            follower.taken_over(self._stuck, self.recognized, partial(self._all.left, self))

    def recognized(self) -> None:
        """The sender of the request is authenticated."""
        if not self.known:
            self.known = True
            self._all.answered(self)

    def turned_away(self, scope: Scope) -> None:
        """The request is refused because its sender has too many under way: this one, and not one that follows it on
        the connection and is read already."""
        self._all.turned_away.note(scope.get(_AUTHORIZED, b""))

    def on_response_complete(self) -> None:
        self.known = self.known or context_of(self.scope).principal is not None  # type: ignore[arg-type]  # a TypedDict
        self.idle = not self.pipeline
        self._all.answered(self)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        self.resume_writing()
        self._all.left(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._waiting is None and (self.cycle is None or self.cycle.response_complete):
            self._wait()  # also for the rest of a body after its answer
        self._unread += len(data)
        super().data_received(data)
        if self._unread > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's headers are too large.")

    def on_message_begin(self) -> None:
        self._fields = 0
        self._authorization = b""
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        _bounded(len(self.url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._unread = 0
        self._fields += len(name) + len(value)
        _bounded(self._fields)
        if len(name) == _LENGTH and name.lower() == _AUTHORIZATION:
            self._authorization = value
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unread = 0
        self.idle = False
        self._wait_no_more()
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]  # ours
        self.scope[_AUTHORIZED] = self._authorization  # type: ignore[typeddict-unknown-key]  # ours
        turned_away = self._all.turned_away.has(self._authorization) and self.url not in _FOR_WATCHERS
        app = self.app
        if turned_away:
            self.app = _turn_away
        try:
            super().on_headers_complete()
        finally:
            self.app = app

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
    """Raises ValueError, which ends the parser and the connection."""
    if size > HEAD_BYTES:
        raise ValueError(size)


_BACKLOG = 2_048
_HEALTHCHECK_S = 30  # a silent worker is replaced; a starting one is silent until its imports are done
END_S: Final = 5.0  # from the end of the last request, or of the grace, to that of the process
_KEEP_ALIVE_S = 75  # longer than load balancers usually wait, so that they close a connection first


@dataclass(frozen=True, slots=True)
class Serving:
    """Options of the program. `port` 0 takes a free one. `certificate` and `private_key` are files, for https.
    `log_format` is `json` or `text`."""

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
    """Whether there is a key. Raises InputError where there is none and other machines could reach the server, and for
    an option that cannot be used; StateError where the state is not as the operator left it, or no limiter answers."""
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
    """Serve until a signal ends it. `began` gets the URL once the server listens. Raises HostError."""
    raise_descriptors()
    with _listening(serving) as listener:
        host, port = listener.getsockname()[:2]
        url = f"{serving.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        if serving.workers == 1:
            _one(serving, listener, lambda: began(url))
            return
        began(url)
        with tempfile.TemporaryDirectory(prefix="catalyst-host-") as counted:
            environment.share_metrics(Path(counted))
            _Workers(_config(serving, _Worker(serving), factory=True), sockets=[listener]).run()


def _one(serving: Serving, listener: socket.socket, began: Callable[[], None]) -> None:
    application = _Worker(serving)()
    began()
    signal.signal(signal.SIGTERM, _ignore_signal)  # uvicorn raises the signal again at its end
    signal.signal(signal.SIGINT, _ignore_signal)
    signal.signal(signal.SIGHUP, _ignore_signal)
    try:
        _Server(_config(serving, application), application).run(sockets=[listener])
    finally:
        application.close()


class _Server(uvicorn.Server):
    """Uvicorn's own looks for the signal every 100 ms, and takes requests until then."""

    def __init__(self, config: uvicorn.Config, application: Application) -> None:
        super().__init__(config)
        self._application = application

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._application.stop()
        super().handle_exit(sig, frame)


class _Workers(Multiprocess):
    """The parent of the workers. Uvicorn's own looks for signals every 500 ms, and SIGHUP starts all workers anew."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hand_on)

    def handle_hup(self) -> None:
        pass

    def terminate_all(self) -> None:
        """At the end. First the listener is closed here too: else clients would connect, and nobody would answer."""
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal_queue.append(number)
        for worker in self.processes:
            if worker.pid is not None and worker.exitcode is None:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGTERM)


def _ignore_signal(number: int, frame: object) -> None:
    del number, frame


@dataclass(frozen=True, slots=True)
class _Worker:
    """Makes the application, in the worker process."""

    serving: Serving

    def __call__(self) -> Application:
        logs.configure(level=self.serving.log_level, in_json=self.serving.log_format == "json")
        if multiprocessing.parent_process() is not None:
            start(_end_with_parent, name="host-parent")
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series for the start of each series
        sys.set_int_max_str_digits(sys.int_info.str_digits_check_threshold)  # a number takes the square of its length
        application = Application(self.serving.settings)
        application.ending = _exit_in_time
        if multiprocessing.parent_process() is not None:
            _heed_signals(application)
        gc.collect()
        gc.freeze()  # all objects until now stay: no collection has to look at them
        return application


def _exit_in_time() -> None:
    start(_exit_after, END_S, name="host-end")


def _exit_after(seconds: float) -> None:
    time.sleep(seconds)
    _log.warning("what this server waits for does not answer: it ends all the same")
    os._exit(1)  # threads that are stuck outside of Python end in no other way


def _heed_signals(application: Application) -> None:
    """In a worker, in which uvicorn's handlers are in place: what `_Server` does, and no end by SIGHUP."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, partial(_stop_and, application, signal.getsignal(number)))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _stop_and(application: Application, then: object, number: int, frame: FrameType | None) -> None:
    application.stop()
    if callable(then):
        then(number, frame)


def _end_with_parent() -> None:
    """Ends a worker whose parent was killed: it would hold the port for good."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _config(serving: Serving, app: Callable[..., object], *, factory: bool = False) -> uvicorn.Config:
    """Uvicorn believes no header about the client's address: `host.server.asgi` knows the trusted proxies."""
    return uvicorn.Config(
        app,
        factory=factory,
        workers=serving.workers,
        loop="uvloop",
        http=partial(Protocol, connections=_connections(serving.settings)),  # type: ignore[arg-type]  # it makes one
        **OPTIONS,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(serving.grace_s),
        timeout_worker_healthcheck=_HEALTHCHECK_S,
        ssl_certfile=serving.certificate,
        ssl_keyfile=serving.private_key,
    )


def _connections(settings: ServerSettings) -> Connections:
    return Connections(
        settings.max_connections,
        settings.max_unknown_connections,
        settings.max_unknown_connections_per_address,
        settings.trusted_proxies,
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
