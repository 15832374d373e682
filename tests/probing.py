"""Driving any capability from inside a real sandbox: the probe guest, and servers that do what a test says."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from host import Catalyst, Event, Host, Policy, SecretRule
from tests.conftest import GUESTS, python_guest
from tests.egress.conftest import Peer, Server

ORIGIN = "https://api.test"
TOKEN = "tok-Test-0123456789abcdefghijklmnop"


class Kept(list[Event]):
    """A sink that keeps everything."""

    def record(self, event: Event) -> None:
        self.append(event)


@functools.cache
def guest(name: str) -> bytes:
    return python_guest(GUESTS / name)


def probe(
    host: Host,
    server: str = "",
    *,
    secrets: Mapping[str, Any] | None = None,
    policy_secrets: Mapping[str, SecretRule] | None = None,
    config: Any = None,
    **policy: Any,
) -> Catalyst:
    """The probe, granted ORIGIN, which is mapped to the URL `server`; `policy` adds to that or takes its place."""
    policy["secrets"] = policy_secrets or {}
    granted = {"allowed_domains": ["api.test"], "upstreams": {ORIGIN: server} if server else {}, **policy}
    return host.load(
        guest("probe"), policy=Policy(**granted), secrets=secrets, config=config, reference="c:local.probe"
    )


def asking(url: str = f"{ORIGIN}/x", method: str = "GET", **more: Any) -> dict[str, Any]:
    """A request message."""
    return {"method": method, "url": url, **more}


def calls(*listed: Any, **more: Any) -> dict[str, Any]:
    """An input for the probe."""
    return {"calls": list(listed), **more}


def answers(catalyst: Catalyst, *listed: Any, **options: Any) -> list[Any]:
    """What each of these host calls returned, all of them in one run."""
    data = catalyst.run(calls(*listed), **options).data
    assert isinstance(data, list)
    return data


def fetched(catalyst: Catalyst, message: Any = None, **more: Any) -> dict[str, Any]:
    """What one fetch returned."""
    [answer] = answers(catalyst, ["fetch.request", asking(**more) if message is None else message])
    return answer


def error_type(answer: Any) -> str:
    """The error type in an answer of the host; it has the contract's shape."""
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"type", "message"}
    assert answer["error"]["message"]
    return answer["error"]["type"]


def response(body: bytes = b"ok", status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(status: str = "200 OK", *headers: str) -> bytes:
    """The head of an answer whose body follows in chunks."""
    return "\r\n".join([f"HTTP/1.1 {status}", "Transfer-Encoding: chunked", *headers, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(value: Any) -> bytes:
    """One server-sent event, as a chunk."""
    return chunk(b"data: " + json.dumps(value).encode() + b"\n\n")


@contextmanager
def serving(behave: bytes | Callable[[Peer], None]) -> Iterator[Server]:
    """A server on loopback: these bytes for every request, or whatever `behave` does with each connection."""

    def answer(peer: Peer) -> None:
        while peer.request():
            peer.send(behave)

    server = Server(answer if isinstance(behave, bytes) else behave, None, "127.0.0.1")
    try:
        yield server
    finally:
        server.close()


def origin_of(server: Server) -> str:
    return server.url("")
