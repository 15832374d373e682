"""The nodes of a Ray cluster on this machine, each with a state directory of its own.

As a program it has them as its children: for each state directory that it reads, a line, it adds a node, and writes one
line of JSON with its raylet's `pid`, the `address` of the cluster and that of its Ray `client` server. It ends with its
standard input.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SMALL = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
PATIENCE_S = 60


def children(pid: int) -> Iterator[int]:
    """All processes below this one, the lowest first."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, file.read_text().split()):
                yield from children(child)
                yield child


def kill(pid: int, of_name: bytes = b"") -> None:
    """End the process and all below it, or those below it whose command begins with `of_name`: as a machine ends that
    loses its power."""
    for one in (*children(pid), *([] if of_name else [pid])):
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{one}/cmdline").read_bytes().startswith(of_name):
                os.kill(one, signal.SIGKILL)


class RayNodes:
    """A running cluster. Its nodes are added one by one; the first one is the head."""

    def __init__(self, env: Mapping[str, str], process: subprocess.Popen[str]) -> None:
        self.env = env  # what a program needs to reach the cluster
        self.process = process
        self.address = self.client = ""

    def add(self, state_dir: Path) -> int:
        """Add a node, and return the process that it is."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(state_dir, file=self.process.stdin, flush=True)
        told = json.loads(self.process.stdout.readline())
        self.address, self.client = told["address"], told["client"]
        return int(told["pid"])


@contextmanager
def running_nodes(env: Mapping[str, str]) -> Iterator[RayNodes]:
    """A cluster without nodes, on the loopback interface, whose nodes have the environment `env`. Nothing of it is left
    afterwards."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets are there: its path has to be short
    own = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 2,
        "RAY_TMPDIR": folder,
    }
    log = Path(folder) / "log"
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, __file__], env={**env, **own}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
            text=True, start_new_session=True,
        )  # fmt: skip
    try:
        with process:
            yield RayNodes(own, process)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(PATIENCE_S)
    finally:
        kill(process.pid)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    cluster: Any = None
    with socket.create_server(("127.0.0.1", 0)) as free:
        client = free.getsockname()[1]
    for line in sys.stdin:
        from ray.cluster_utils import Cluster  # which takes a second, and not every test adds a node

        cluster = cluster or Cluster()
        os.environ["HOST_STATE_DIR"] = line.strip()
        head = {} if cluster.head_node else {"ray_client_server_port": client}
        node = cluster.add_node(**SMALL, **head)
        [raylet] = node.all_processes["raylet"]
        told = {"pid": raylet.process.pid, "address": cluster.address, "client": f"ray://127.0.0.1:{client}"}
        print(json.dumps(told), flush=True)
    if cluster is not None:
        cluster.shutdown()


if __name__ == "__main__":
    main()
