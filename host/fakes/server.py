"""An HTTP/1.1 server for fakes, on the loopback interface: asyncio and h11, with faults on request.

It knows sockets and framing: keep-alive, pipelining, streams, WebSockets. The application decides the answers. The
server reads a whole request before it answers, and takes pipelined requests one after the other.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Protocol, Self

import h11
from wsproto.utilities import RemoteProtocolError

from host.errors import StateError
from host.fakes.messages import PROMPT, FakeRequest, FakeResponse
from host.fakes.websocket import FakeSocket, SocketConnection, rest_of

MAX_BODY_BYTES = 64 * 1024 * 1024
_MAX_HEADER_BYTES = 64 * 1024
_READ_BYTES = 256 * 1024
_LINGER_S = 5.0  # a refused client gets this time to stop sending: an earlier close could destroy the answer
_STATUSES_WITHOUT_BODY = {204, 304}  # RFC 9110, section 6.4.1

_log = logging.getLogger(__name__)


class FakeApplication(Protocol):
    """Answers requests. Both methods return at once; a response's `delivery` has the pauses."""

    def respond(self, request: FakeRequest) -> FakeResponse | FakeSocket:
        """A FakeSocket takes the upgrade that the request asks for (`host.fakes.websocket.is_upgrade`)."""
        ...

    def refuse(self, status: int, reason: str) -> FakeResponse:
        """The answer to a request that cannot be read or whose handler failed."""
        ...


class LoopbackServer:
    """Serves `application` on 127.0.0.1 at `port` (0: a free one), in a thread or in the foreground.

    Instances share nothing, so several can run at once. `start()` (or `with`) listens; `stop()` (or the end of `with`)
    closes every connection.
    """

    def __init__(self, application: FakeApplication, port: int = 0) -> None:
        self._application = application
        self._port = port
        self._listener: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = asyncio.Event()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`. Raises StateError while the server does not run."""
        if self._listener is None:
            raise StateError("the fake is not running", hint="enter it with `with`, or call start()")
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def start(self) -> Self:
        """Serves from a thread. Raises StateError if the port is taken or the server runs already."""
        listener = self._listen()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop, listener), name=f"fake at {self.url}", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends the thread and closes every connection. Does nothing if the server does not run."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None
        self._close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def serve_forever(self, ready: Callable[[str], object] | None = None) -> None:
        """Serves until SIGINT or SIGTERM. Call it from the main thread.

        Calls `ready` with the URL once the server listens. Raises StateError as `start` does.
        """
        listener = self._listen()
        try:
            asyncio.run(self._until_signalled(listener, ready))
        finally:
            self._close()

    async def _until_signalled(self, listener: socket.socket, ready: Callable[[str], object] | None) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        if ready is not None:
            ready(self.url)
        await serve(listener, self._application, self._stopping)

    def _run(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        loop.run_until_complete(serve(listener, self._application, self._stopping))

    def _listen(self) -> socket.socket:
        if self._listener is not None:
            raise StateError("the fake is running already")
        try:
            self._listener = socket.create_server(("127.0.0.1", self._port), backlog=512)
        except OSError as error:
            raise StateError(
                f"cannot listen on 127.0.0.1:{self._port}: {os.strerror(error.errno or 0)}",
                hint="port 0 takes a free one",
            ) from error
        self._listener.setblocking(False)
        self._stopping = asyncio.Event()
        return self._listener

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None


async def serve(listener: socket.socket, application: FakeApplication, stopping: asyncio.Event) -> None:
    """Answers on `listener` (listening, non-blocking) until `stopping` is set. Then closes every connection."""
    loop = asyncio.get_running_loop()
    connections: set[asyncio.Task[None]] = set()

    def accept() -> None:
        try:
            sock, _ = listener.accept()
        except OSError:  # the client has left, or file descriptors ran out: the next event tries again
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each event of a stream leaves at once
        task = loop.create_task(_Connection(sock, application).run())
        connections.add(task)
        task.add_done_callback(connections.discard)
        task.add_done_callback(lambda _: sock.close())  # also for a task cancelled before its first step

    loop.add_reader(listener, accept)
    try:
        await stopping.wait()
    finally:
        loop.remove_reader(listener)
        remaining = list(connections)
        for task in remaining:
            task.cancel()
        await asyncio.gather(*remaining, return_exceptions=True)


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class _Connection:
    def __init__(self, sock: socket.socket, application: FakeApplication) -> None:
        self._sock = sock
        self._application = application
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEADER_BYTES)
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        try:
            address, port = self._sock.getsockname()[:2]
            while (request := await self._read_request(f"http://{address}:{port}")) is not None:
                response = self._respond(request)
                if isinstance(response, FakeSocket):
                    await self._speak(request, response)
                    return
                if not await self._send(response, bodiless=request.method == "HEAD"):
                    return
                self._http.start_next_cycle()
                await asyncio.sleep(0)  # a client that pipelines takes turns with the others
        except _Refused as refused:
            await self._refuse(refused.status, refused.reason)
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint, str(error))
        except OSError:
            return  # the client left

    async def _read_request(self, server_url: str) -> FakeRequest | None:
        """Returns the next request, or None at the end of the connection."""
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return None
        headers: dict[str, str] = {}
        for raw_name, raw_value in head.headers:
            name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if len(declared := headers.get("content-length", "0")) > 18 or int(declared) > MAX_BODY_BYTES:
            raise _Refused(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        body = await self._read_body()
        try:
            return FakeRequest.from_target(
                head.method.decode("ascii"), head.target.decode("ascii"), headers, body, server_url
            )
        except ValueError as error:  # an absolute target that is no URL
            raise _Refused(400, f"the request target is malformed: {error}") from error

    async def _read_body(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while isinstance(event := await self._next_event(), h11.Data):
            size += len(event.data)
            if size > MAX_BODY_BYTES:
                raise _Refused(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
            parts.append(bytes(event.data))
        return b"".join(parts)

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._loop.sock_recv(self._sock, _READ_BYTES))
        return event  # type: ignore[return-value]  # mypy cannot subtract NEED_DATA, a class used as a value

    async def _speak(self, request: FakeRequest, accepted: FakeSocket) -> None:
        try:
            speaking = SocketConnection(self._sock, request, accepted, rest_of(self._http))
        except RemoteProtocolError as error:
            raise _Refused(400, f"the upgrade is malformed: {error}") from error
        await speaking.run()

    def _respond(self, request: FakeRequest) -> FakeResponse | FakeSocket:
        try:
            return self._application.respond(request)
        except Exception:  # noqa: BLE001 - a mistake in a handler is an answer, not a dead connection
            _log.exception("the fake failed on %s %s", request.method, request.path)
            return self._application.refuse(500, "the fake failed; its log says why")

    async def _send(self, response: FakeResponse, *, bodiless: bool = False) -> bool:
        """Writes `response`. Returns whether the connection can take another request."""
        delivery = response.delivery
        body = b"" if bodiless or response.status in _STATUSES_WITHOUT_BODY else response.body
        head = h11.Response(status_code=response.status, headers=_headers(response), reason=_reason(response.status))
        if delivery is PROMPT and isinstance(body, bytes):
            await self._write(head, h11.Data(data=body), h11.EndOfMessage())
            return self._http.our_state is h11.DONE
        await asyncio.sleep(delivery.delay_s)
        if delivery.cut_before_headers:
            return False
        await self._write(head)
        pause_s = delivery.event_delay_s if delivery.drip_s is None else delivery.drip_s
        for piece in delivery.pieces(body):
            await asyncio.sleep(
                pause_s
            )  # also for 0 s: writes to a fast reader never wait, and would block the other connections
            if delivery.content_length is None:
                await self._write(h11.Data(data=piece))
            else:  # h11 enforces the declared length; here it is wrong on purpose
                await self._loop.sock_sendall(self._sock, piece)
        if delivery.cut or delivery.content_length is not None:
            return False
        await self._write(h11.EndOfMessage())
        return self._http.our_state is h11.DONE

    async def _write(self, *events: h11.Event) -> None:
        await self._loop.sock_sendall(self._sock, b"".join(self._http.send(event) or b"" for event in events))

    async def _refuse(self, status: int, reason: str) -> None:
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        response = self._application.refuse(status, reason)
        try:
            await self._send(FakeResponse(status, {**response.headers, "connection": "close"}, response.body))
            self._sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_LINGER_S):
                while await self._loop.sock_recv(self._sock, _READ_BYTES):
                    pass
        except (OSError, TimeoutError):
            return  # the client left, or does not stop sending


def _headers(response: FakeResponse) -> list[tuple[str, str]]:
    length = response.delivery.content_length
    if length is None and isinstance(response.body, bytes) and response.status not in _STATUSES_WITHOUT_BODY:
        length = len(response.body)
    framing = {} if length is None else {"content-length": str(length)}
    return list({**response.headers, **framing}.items())


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
