"""The `host` program without its start-up: each call is a fork of one process that has imported everything.

Importing takes most of the time of a short command. `running_warm` makes a folder with a program `host`, to come first
in PATH: it hands its arguments, environment, working directory and standard streams to that process, whose child runs
`host.cli.program` with them, and it ends as that child ends. There is no controlling terminal, and signals do not
arrive: what is about start-up, terminals or signals runs the installed program.
"""

from __future__ import annotations

import importlib
import io
import os
import pkgutil
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conftest import ROOT

ALSO = ("psycopg",)
LEFT_OUT = ("host.server.", "host.__main__")  # servers are no short commands
_HEAD_BYTES = 8

# Without `socket` and `json`, whose imports would take longer than all the rest.
_CLIENT = """#!{python} -ISE
import os, sys
from _socket import socket, SOL_SOCKET, SCM_RIGHTS
from array import array
parts = [os.fsencode(os.getcwd()), *(os.fsencode(one) for one in sys.argv[1:]), b"\\xff"]
parts += [name + b"=" + value for name, value in os.environb.items()]
data = b"\\0".join(parts)
server = socket(1, 1)
server.connect({place!r})
server.sendmsg([len(data).to_bytes({head}, "big")], [(SOL_SOCKET, SCM_RIGHTS, array("i", [0, 1, 2]))])
server.sendall(data)
status = server.recv(1)
os._exit(status[0] if status else 255)
"""


@contextmanager
def running_warm(folder: Path) -> Iterator[Path]:
    """The folder to put first in PATH, while the process runs; it ends with this block, and with this process."""
    place = folder / "warm.sock"
    programs = folder / "bin"
    programs.mkdir()
    (programs / "host").write_text(_CLIENT.format(python=sys.executable, place=str(place), head=_HEAD_BYTES))
    (programs / "host").chmod(0o755)
    argv = [sys.executable, "-m", "tests.warm", str(place)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield programs
        process.stdin.close()


def _import_everything() -> None:
    import host

    for found in pkgutil.walk_packages(host.__path__, "host."):
        if not found.name.startswith(LEFT_OUT):
            importlib.import_module(found.name)
    for name in ALSO:
        with suppress(ImportError):
            importlib.import_module(name)


def serve(place: str) -> None:
    """Until standard input ends."""
    _import_everything()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen(64)
        print("ready", flush=True)
        children: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor of the process
        clients: dict[int, int] = {}  # by the descriptor of the connection: that of the process
        while True:
            ready, _, _ = select.select([0, listener, *children, *clients], [], [])
            if 0 in ready:
                return
            for one in ready:
                if one is listener:
                    connection, _ = listener.accept()
                    pid = _begun(connection, listener)
                    child = os.pidfd_open(pid)
                    children[child] = pid, connection
                    clients[connection.fileno()] = child
                elif one in children:
                    pid, connection = children.pop(one)
                    del clients[connection.fileno()]
                    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    os.close(one)
                    with connection, suppress(OSError):
                        connection.sendall(bytes([status if status >= 0 else 128 - status]))
                elif one in clients and clients[one] in children:  # it hung up: nothing waits for the child
                    with suppress(ProcessLookupError):
                        os.kill(children[clients[one]][0], 9)
                    select.select([clients[one]], [], [])


def _begun(connection: socket.socket, listener: socket.socket) -> int:
    """The process that runs what `connection` asks for."""
    head, streams, _, _ = socket.recv_fds(connection, _HEAD_BYTES, 3)
    left, pieces = int.from_bytes(head, "big"), []
    while left:
        pieces.append(connection.recv(left))
        left -= len(pieces[-1])
    pid = os.fork()
    if pid:
        for stream in streams:
            os.close(stream)
        return pid
    try:
        listener.close()
        connection.detach()
        _become(b"".join(pieces), streams)
        from host.cli import program

        program()
    finally:
        os._exit(70)


def _become(asked: bytes, streams: list[int]) -> None:
    parts = asked.split(b"\0")
    end = parts.index(b"\xff")
    os.environb.clear()  # type: ignore[attr-defined]  # a mapping like environ
    for one in parts[end + 1 :]:
        name, _, value = one.partition(b"=")
        os.environb[name] = value
    os.chdir(parts[0])
    sys.argv = ["host", *map(os.fsdecode, parts[1:end])]
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    os.closerange(3, 256)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0)), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w")), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w")), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    tempfile.tempdir = None
    time.tzset()


if __name__ == "__main__":
    serve(sys.argv[1])
