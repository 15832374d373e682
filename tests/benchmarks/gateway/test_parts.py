"""What the figures rest on: percentiles, the client's reading of HTTP, and the accounts from /proc."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.benchmarks.gateway.client import Answer, Connection, request
from tests.benchmarks.gateway.load import load, right
from tests.benchmarks.gateway.servers import upstream
from tests.benchmarks.gateway.tree import Tree
from tests.benchmarks.gateway.upstream import TEXT
from tests.benchmarks.measure import percentile

BURNS = """
import os, sys, time
def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until: pass
if (child := os.fork()) == 0:
    burn(0.3)
    os._exit(0)
os.waitpid(child, 0)
if (child := os.fork()) == 0:
    burn(0.2)
    sys.stdin.read(1)
    os._exit(0)
burn(0.1)
print("burnt", flush=True)
sys.stdin.read(1)
"""
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("times", "of", "expected"),
    [
        pytest.param([3.0, 1.0, 2.0], 0.5, 2.0, id="the median of an odd number is the middle one"),
        pytest.param([4.0, 1.0, 3.0, 2.0], 0.5, 2.0, id="of an even number it is the lower of the two"),
        pytest.param([float(each) for each in range(1, 101)], 0.99, 99.0, id="one in a hundred is above the 99th"),
        pytest.param([float(each) for each in range(1, 11)], 0.99, 10.0, id="of few it is the greatest"),
        pytest.param([7.0], 0.5, 7.0, id="of one it is that one"),
    ],
)
def test_a_percentile_is_one_of_the_times(times: Sequence[float], of: float, expected: float) -> None:
    assert percentile(times, of) == expected


def asked(*pieces: bytes, then_close: bool = False) -> Answer:
    """What a client makes of an answer that arrives in `pieces`, each read on its own."""

    async def once() -> Answer:
        ours, theirs = socket.socketpair()
        read = asyncio.Event()

        class Noticing(Connection):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                read.set()

        _, connection = await asyncio.get_running_loop().create_connection(Noticing, sock=ours)
        try:
            with theirs:
                asking = asyncio.ensure_future(connection.ask(request("GET", "/")))
                for piece in pieces:
                    theirs.sendall(piece)
                    await asyncio.wait_for(read.wait(), 10)
                    read.clear()
                if not then_close:
                    return await asyncio.wait_for(asking, 10)
            return await asyncio.wait_for(asking, 10)
        finally:
            await connection.gone()

    return asyncio.run(once())


def test_an_answer_is_whole_however_it_is_cut_into_pieces() -> None:
    whole = CHUNKED + b"6\r\ndata: \r\nA\r\n{} [DONE]\n\r\n0\r\n\r\n"
    for at in range(1, len(whole)):
        answer = asked(whole[:at], whole[at:])
        assert (answer.status, answer.body) == (200, b"data: {} [DONE]\n")
        assert 0 < answer.first_s <= answer.whole_s


def test_an_answer_that_breaks_off_is_an_error_and_not_a_short_one() -> None:
    with pytest.raises(ConnectionError):
        asked(CHUNKED + b"6\r\ndata: \r\n", then_close=True)
    with pytest.raises(ConnectionError):
        asked(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", then_close=True)
    with pytest.raises(ConnectionError):
        asked(b"SSH-2.0-OpenSSH\r\n")


def test_only_all_that_the_upstream_says_is_right(tmp_path: Path) -> None:
    with upstream(tmp_path) as server:
        for stream in (False, True):
            answer = server.ask(server.chat(stream=stream, paced=stream))
            assert answer.text() == TEXT
            assert right(answer, stream=stream)
            assert not right(answer, stream=not stream)
            answer.body = answer.body.replace(b"word1 ", b"")
            assert not right(answer, stream=stream)


def test_a_load_counts_each_answer_and_what_they_cost_the_server(tmp_path: Path) -> None:
    with upstream(tmp_path) as server:
        found = load(server, clients=3, seconds=0.3, stream=True)
        assert len(found.wholes) == len(found.firsts) >= 3
        assert found.wrong == 0
        assert all(0 < first <= whole for first, whole in zip(found.firsts, found.wholes, strict=True))
        assert found.elapsed_s >= 0.3
        assert 0 < found.cpu_s <= server.tree.cpu_s()


def test_a_tree_has_the_cpu_time_of_children_that_live_and_of_those_that_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", BURNS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdout.readline()
        tree = Tree(process.pid)
        until = time.monotonic() + 30
        while (
            spent := tree.cpu_s()
        ) < 0.55:  # 0.3 s of the one that ended, 0.2 of the one that lives, 0.1 of the parent
            assert time.monotonic() < until
        assert len(tree.pids()) == 2
        assert tree.threads() == 2
        assert 500_000 < tree.own_bytes() < tree.rss_bytes()
        assert tree.descriptors() >= 6
        process.stdin.write(b"  ")
        process.stdin.close()
    assert spent < 2
    assert tree.pids() == []
