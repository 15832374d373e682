"""`host fake`: the fake as a process of its own."""

from __future__ import annotations

import json
import signal
import socket
from typing import Any
from urllib.request import Request, urlopen

import pytest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_it_says_where_it_is_serves_and_ends(started: Any, number: signal.Signals) -> None:
    process = started("fake", "openai", "--port", "0")
    line = process.stdout.readline()
    url = line.split()[3]
    assert line == f"fake OpenAI on {url} (any key will do; Ctrl-C ends it)\n"
    with urlopen(Request(f"{url}/models", headers={"authorization": "Bearer any"}), timeout=60) as answer:
        assert json.load(answer)["object"] == "list"
    process.send_signal(number)
    assert (*process.communicate(timeout=60), process.returncode) == ("", "", 0)


def test_it_listens_on_the_loopback_interface_at_the_port_given(started: Any) -> None:
    with socket.socket() as kept:  # bound: nobody else gets the port; not listening: the program does
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
        assert f"http://127.0.0.1:{port}/v1" in started("fake", "openai", "--port", port).stdout.readline()


def test_a_port_that_is_taken_is_6_with_the_remedy(program: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = program("fake", "openai", "--port", taken.getsockname()[1])
    assert (ran.status, ran.out) == (6, "")
    assert ran.err.startswith("error: cannot listen on 127.0.0.1:")
    assert ": Address already in use\n" in ran.err
    assert ran.err.endswith("\nhint: port 0 takes a free one\n")


def test_a_port_that_is_none_is_a_mistake(program: Any) -> None:
    ran = program("fake", "openai", "--port", "65536")
    assert (ran.status, ran.out) == (2, "")
    assert "--port" in ran.err
