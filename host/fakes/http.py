"""A small HTTP/1.1 server for fakes: asyncio and h11, keep-alive, pipelining, streaming, and misbehaviour on request.

It knows sockets and framing; what to answer is the application's. It reads a whole request before it answers, and
takes pipelined requests one after the other.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from http import HTTPStatus
from typing import Protocol

import h11

from host.fakes.messages import PROMPT, Request, Response

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_HEADER_BYTES = 64 * 1024
_READ_BYTES = 256 * 1024
_LINGER_S = 5.0  # for a refused client to stop sending: closing before that could destroy the answer on its way

_NEVER_WITH_BODY = {204, 304}  # RFC 9110, section 6.4.1

_log = logging.getLogger(__name__)


class Application(Protocol):
    """Both answer at once; pauses belong into the response's `delivery`."""

    def respond(self, request: Request) -> Response: ...

    def refuse(self, status: int, reason: str) -> Response:
        """The answer to what could not be read as a request, or whose handling failed."""
        ...


async def serve(listener: socket.socket, application: Application, stopping: asyncio.Event) -> None:
    """Answers on `listener` (listening already, non-blocking) until `stopping` is set; then no connection is left."""
    loop = asyncio.get_running_loop()
    connections: set[asyncio.Task[None]] = set()

    def accept() -> None:
        try:
            sock, _ = listener.accept()
        except OSError:  # the client is gone already, or files ran out: the next event tries again
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # an event leaves when it is written
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
    def __init__(self, sock: socket.socket, application: Application) -> None:
        self._sock = sock
        self._application = application
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        try:
            address, port = self._sock.getsockname()[:2]
            while (request := await self._request(f"http://{address}:{port}")) is not None:
                if not await self._send(self._respond(request), bodiless=request.method == "HEAD"):
                    return
                self._http.start_next_cycle()
                await asyncio.sleep(0)  # a client that pipelines takes turns with the others
        except _Refused as refused:
            await self._refuse(refused.status, refused.reason)
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint, str(error))
        except OSError:
            return  # the client left

    async def _request(self, server_url: str) -> Request | None:
        """The next request, or None where the client has no more."""
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None
        headers: dict[str, str] = {}
        for raw_name, raw_value in head.headers:
            name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if len(declared := headers.get("content-length", "0")) > 18 or int(declared) > MAX_BODY_BYTES:
            raise _Refused(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        body = await self._body()
        try:
            return Request.read(head.method.decode("ascii"), head.target.decode("ascii"), headers, body, server_url)
        except ValueError as error:  # an absolute target that is no URL
            raise _Refused(400, f"the request target is malformed: {error}") from error

    async def _body(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while isinstance(event := await self._event(), h11.Data):
            size += len(event.data)
            if size > MAX_BODY_BYTES:
                raise _Refused(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
            parts.append(bytes(event.data))
        return b"".join(parts)

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._loop.sock_recv(self._sock, _READ_BYTES))
        return event  # type: ignore[return-value]  # mypy cannot subtract NEED_DATA, a class used as a value

    def _respond(self, request: Request) -> Response:
        try:
            return self._application.respond(request)
        except Exception:  # noqa: BLE001 - a mistake in a handler is an answer, not a dead connection
            _log.exception("the fake failed on %s %s", request.method, request.path)
            return self._application.refuse(500, "the fake failed; its log says why")

    async def _send(self, response: Response, *, bodiless: bool = False) -> bool:
        """Write `response`; whether the connection can take another request afterwards."""
        delivery = response.delivery
        body = b"" if bodiless or response.status in _NEVER_WITH_BODY else response.body
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
            await asyncio.sleep(pause_s)  # also when it is 0: sending to a fast reader never waits, and others would
            if delivery.content_length is None:
                await self._write(h11.Data(data=piece))
            else:  # h11 holds to the declared length; these bytes are not to
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
            await self._send(Response(status, {**response.headers, "connection": "close"}, response.body))
            self._sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_LINGER_S):
                while await self._loop.sock_recv(self._sock, _READ_BYTES):
                    pass
        except (OSError, TimeoutError):
            return  # the client left, or will not stop


def _headers(response: Response) -> list[tuple[str, str]]:
    length = response.delivery.content_length
    if length is None and isinstance(response.body, bytes) and response.status not in _NEVER_WITH_BODY:
        length = len(response.body)
    framing = {} if length is None else {"content-length": str(length)}
    return list({**response.headers, **framing}.items())


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
