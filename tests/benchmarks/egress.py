"""What a small request costs over a kept-alive loopback connection, by client: `python tests/benchmarks/egress.py`.

Prints CPU and wall-clock time per request, in microseconds: the best of several rounds, since a busy machine only adds.
The server is a raw socket in a process of its own, so its work is not counted.

A second table is of a server that writes head and body apart and leaves Nagle's algorithm on: the body leaves once the
head is acknowledged, which a client's system may put off for 40 ms.
"""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from ipaddress import IPv4Network

import h11
import httpcore2
import httpx2

from host.egress import AddressPolicy, Egress, Outgoing
from host.policy.urls import Target

ROUNDS, REQUESTS, REQUESTS_APART = 5, 1_000, 20
REQUEST_BODY = b'{"model": "gpt", "messages": [{"role": "user", "content": "hi"}]}'
ANSWER_BODY = b'{"id": "chatcmpl-1", "choices": [{"message": {"content": "hello"}}]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(ANSWER_BODY),
    ANSWER_BODY,
)
PATH = "/v1/chat/completions"
HEADERS = (("Content-Type", "application/json"), ("Authorization", "Bearer placeholder"))


class NoDeadline:
    def remaining(self) -> float:
        return 60.0

    def interruptible(self, abort: Callable[[], None]) -> nullcontext[None]:
        return nullcontext()


def serve(listener: socket.socket, apart: bool = False) -> None:
    """`apart`: head and body are written one after the other, and wait for each other's acknowledgement."""
    pieces = ANSWER.partition(b"\r\n\r\n") if apart else (ANSWER,)

    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, not apart)
        received = b""
        while more := connection.recv(65_536):
            received += more
            if received.endswith(REQUEST_BODY):
                received = b""
                for piece in pieces:
                    connection.sendall(piece)

    while True:
        threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


def clients(port: int) -> dict[str, Callable[[], bytes]]:
    """Name -> a function that makes one request and returns the answer's body."""
    url = f"http://127.0.0.1:{port}{PATH}"
    httpx_client = httpx2.Client(trust_env=False)
    pool = httpcore2.ConnectionPool()
    client = Egress().client(AddressPolicy(private=(IPv4Network("127.0.0.0/8"),)))
    clock = NoDeadline()
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    http = h11.Connection(h11.CLIENT)
    fields = [*HEADERS, ("Host", f"127.0.0.1:{port}"), ("Content-Length", str(len(REQUEST_BODY)))]
    raw_fields = [(name.encode(), value.encode()) for name, value in fields]

    def over_h11() -> bytes:
        sent = http.send(h11.Request(method="POST", target=PATH, headers=raw_fields)) or b""
        connection.sendall(sent + (http.send(h11.Data(data=REQUEST_BODY)) or b""))
        http.send(h11.EndOfMessage())
        body = b""
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(connection.recv(65_536))
            elif isinstance(event, h11.Data):
                body += event.data
        http.start_next_cycle()
        return body

    def over_egress() -> bytes:
        return client.send(Outgoing("POST", Target.parse(url), HEADERS, REQUEST_BODY, 1_000_000), clock).read_all(clock)

    return {
        "httpx2.Client": lambda: httpx_client.post(url, content=REQUEST_BODY, headers=HEADERS).content,
        "httpcore2.ConnectionPool": lambda: pool.request("POST", url, headers=raw_fields, content=REQUEST_BODY).content,
        "EgressClient": over_egress,
        "h11 on one socket": over_h11,
    }


def measure(request: Callable[[], bytes], requests: int = REQUESTS) -> tuple[float, float]:
    """CPU and wall-clock microseconds per request: the best of the rounds."""
    rounds = []
    for _ in range(ROUNDS):
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(requests):
            if request() != ANSWER_BODY:
                raise SystemExit("a client did not get the answer")
        rounds.append((time.process_time() - cpu, time.perf_counter() - wall))
    return tuple(min(column) / requests * 1e6 for column in zip(*rounds, strict=True))


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as slow_listener:
        for args in ((listener,), (slow_listener, True)):
            multiprocessing.Process(target=serve, args=args, daemon=True).start()
        print(f"{'client':<28}{'CPU µs':>8}{'wall µs':>9}")
        for name, request in clients(listener.getsockname()[1]).items():
            cpu, wall = measure(request)
            print(f"{name:<28}{cpu:>8.0f}{wall:>9.0f}")
        print("\nthe server writes head and body apart")
        print(f"{'client':<28}{'wall µs':>9}{'ratio':>8}")
        walls = {}
        for name, request in clients(slow_listener.getsockname()[1]).items():
            walls[name] = measure(request, REQUESTS_APART)[1]
        for name, wall in walls.items():
            print(f"{name:<28}{wall:>9.0f}{wall / walls['EgressClient']:>8.1f}")
    for process in multiprocessing.active_children():
        process.terminate()


if __name__ == "__main__":
    main()
