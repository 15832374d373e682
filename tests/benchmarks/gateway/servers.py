"""Servers in processes of their own: started on a free port of loopback, ready when they answer right, ended with their
block."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.gateway.client import Answer, Connection, request
from tests.benchmarks.gateway.tree import Tree
from tests.benchmarks.gateway.upstream import MODEL, PACED, PAUSE
from tests.conftest import ROOT

PATIENCE_S = 120.0
MESSAGES = [{"role": "user", "content": "Say hello in one word"}]
CHAT: dict[str, Any] = {"model": MODEL, "messages": MESSAGES}
PATH = "/v1/chat/completions"


class DidNotStart(Exception):
    """With the end of what the server said."""


@dataclass(frozen=True)
class Server:
    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def tree(self) -> Tree:
        return Tree(self.process.pid)

    def words(self) -> str:
        """The last that it said."""
        return self.log.read_text(errors="replace")[-2_000:]

    def get(self, path: str) -> Answer:
        return self.ask(request("GET", path))

    def chat(self, *, stream: bool, paced: bool = False) -> bytes:
        """The request for a chat completion; `paced`, its events don't come all at once."""
        document = {**CHAT, **({"stream": True} if stream else {}), **({"user": PACED} if paced else {})}
        return request("POST", PATH, document, self.headers)

    def ask(self, message: bytes) -> Answer:
        async def once() -> Answer:
            connection = await Connection.open(self.port)
            try:
                return await asyncio.wait_for(connection.ask(message), 30)
            finally:
                await connection.gone()

        return asyncio.run(once())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(
    name: str,
    argv: Sequence[str],
    port: int,
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """What listens on `port` once `argv` was started and answers a chat completion. Its words go to a file in `folder`.
    Raises DidNotStart."""
    log = folder / f"{name.replace(' ', '-').replace('/', '-')}.log"
    inherited = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    with log.open("wb") as words:
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**inherited, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        server = Server(name, port, process, log, headers or {})
        _wait(server)
        yield server
    finally:
        _end(process)


def _wait(server: Server) -> None:
    until = time.monotonic() + PATIENCE_S
    message, told = server.chat(stream=False), "nothing"
    while time.monotonic() < until and server.process.poll() is None:
        try:
            answer = server.ask(message)
        except OSError as error:
            told = str(error)
        else:
            if answer.status == 200:
                return
            told = f"{answer.status} {answer.body[:500]!r}"
        time.sleep(0.05)
    raise DidNotStart(f"{server.name} did not answer right: {told}\n{server.words()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """As an operator does; then, where that was not enough, with all that it started."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def upstream(folder: Path, *, pause: float = PAUSE, delay: float = 0) -> Iterator[Server]:
    port = free_port()
    argv = [sys.executable, "-m", "tests.benchmarks.gateway.upstream", "--port", str(port)]
    with running("direct", [*argv, "--pause", str(pause), "--delay", str(delay)], port, folder) as server:
        yield server
