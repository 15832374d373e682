"""A Redis server of the tests' own, on a socket in a folder that goes when they end."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from signal import SIGCONT, SIGSTOP

PATIENCE_S = 60
PASSWORD = "tiger-4711"


class Redis:
    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.url = f"redis+unix://:{PASSWORD}@{folder}/redis.sock"

    def freeze(self) -> None:
        """It holds its connections, takes new ones, and answers nothing."""
        self._process.send_signal(SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(SIGCONT)

    def stop(self) -> None:
        """At once: nothing that it holds has to survive."""
        self._process.kill()
        self._process.wait(PATIENCE_S)


@contextmanager
def running_redis() -> Iterator[Redis]:
    """Ends with this block, and with this process however that ends."""
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("these tests need Redis: apt-get install redis-server")
    folder = Path(tempfile.mkdtemp(prefix="host-redis-"))
    settings = {
        "port": "0",
        "unixsocket": str(folder / "redis.sock"),
        "requirepass": PASSWORD,
        "save": "",
        "appendonly": "no",
        "dir": str(folder),
    }
    arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig=KILL", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    server = Redis(folder, process)
    try:
        assert process.stdout is not None
        said = b""
        while b"ready to accept connections" not in said.lower():
            ready, _, _ = select([process.stdout], [], [], PATIENCE_S)
            more = process.stdout.read1(65536) if ready else b""  # type: ignore[attr-defined]  # of a pipe that is buffered
            if not more:
                raise RuntimeError(f"Redis does not start: {said.decode(errors='replace')}")
            said += more
        yield server
    finally:
        server.stop()
        if process.stdout is not None:
            process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)
