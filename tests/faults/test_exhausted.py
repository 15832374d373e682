"""A process that runs out of something: it serves fewer, says why, and serves all again when there is enough."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from host.core.quantities import Quota
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from tests.conftest import CACHE, GUESTS, ROOT
from tests.faults.conftest import READY_S, asked, consistent, crowd, in_time, served, until_back
from tests.server.conftest import Server
from tests.server.test_keys import Holder

pytestmark = pytest.mark.timeout(300)


def test_a_request_of_any_kind_imports_nothing(workspace: Workspace, state_dir: Path, fake: FakeOpenAI) -> None:
    """An import opens files: where there are no more descriptors, it would fail without a word of ours."""
    del workspace
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.requests_of_all_kinds", str(state_dir)],
        cwd=ROOT,
        env={**os.environ, "HOST_CACHE_DIR": str(CACHE / "host")},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    statuses = [status for _, status in said["answers"]]
    assert statuses.count(200) > 10, said["answers"]
    assert all(status < 500 for status in statuses), said["answers"]
    assert len(fake.requests) > 6
    assert said["imported"] == []


FAULTS = {
    "descriptors": resource.RLIMIT_NOFILE,
    "memory": resource.RLIMIT_AS,
    "disk": resource.RLIMIT_FSIZE,
}


def size_bytes(pid: int) -> int:
    """Of the address space that the process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def descriptors(pid: int) -> int:
    return max(int(one.name) for one in Path(f"/proc/{pid}/fd").iterdir()) + 1


def limited(pid: int, what: str) -> tuple[int, int]:
    """From now on the process gets no more, or hardly more, than it has. Returns the limits before."""
    least = {
        "descriptors": lambda: descriptors(pid) + 1,
        "memory": lambda: size_bytes(pid) + (4 << 20),
        "disk": lambda: 4096,
    }[what]()
    before = resource.prlimit(pid, FAULTS[what])
    resource.prlimit(pid, FAULTS[what], (least, before[1]))
    return before


@pytest.mark.parametrize("what", FAULTS)
def test_a_server_without_any_more_of_it_says_503_and_why_and_is_itself_again_when_there_is_some(
    what: str, workspace: Workspace, state_dir: Path, fake: FakeOpenAI
) -> None:
    with served(state_dir) as one:
        first = [asked(one.url) for _ in range(3)]
        assert {told.status for told in first} == {200}
        before = limited(one.process.pid, what)
        try:
            told = crowd(one.url, 24)
        finally:
            resource.prlimit(one.process.pid, FAULTS[what], before)
        until_back(one.url)
        served_again = crowd(one.url, 24)
        assert one.process.poll() is None, one.said
        assert not [line for line in one.said if "Traceback" in line]
    answered = [each for each in told if each.status]
    assert {each.status for each in answered} <= {200, 503}, told
    assert all(each.retry_after for each in answered if each.status == 503), told
    in_time(told)
    if what != "descriptors":  # without one, a connection cannot even be taken
        assert len(answered) == 24, told
        assert any(each.status == 503 for each in told), "there is a fault"
    assert {each.status for each in served_again} == {200}, served_again
    consistent(workspace, fake, [*first, *told, *served_again])


@pytest.mark.parametrize(
    "most", [64, pytest.param(48, marks=pytest.mark.slow), pytest.param(32, marks=pytest.mark.slow)]
)
def test_a_server_that_may_open_few_files_serves_fewer_at_once_and_all_in_the_end(
    most: int, workspace: Workspace, state_dir: Path, fake: FakeOpenAI
) -> None:
    with served(state_dir, nofile=most) as one:
        told = crowd(one.url, 64)
        with ThreadPoolExecutor(8) as clients:  # which ask again, as they are told to
            in_the_end = list(clients.map(lambda _: until_back(one.url), range(16)))
        assert one.process.poll() is None
    kinds = {(each.status, each.kind) for each in told if each.status not in (0, 200)}
    assert kinds <= {(503, "busy"), (503, "audit_unavailable"), (503, "host_state")}, kinds
    assert len(in_the_end) == 16
    consistent(workspace, fake, [*told, *in_the_end])


def test_where_no_thread_can_be_started_a_run_is_refused_and_does_not_happen_later(
    server: Server, workspace: Workspace, fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(server.url).status == 200
    server.application.host._executor._threads = None  # as before the first run: no thread has been started yet
    real = threading._start_new_thread  # type: ignore[attr-defined]

    def starts_none_of_ours(function: Any, *arguments: Any) -> Any:
        if threading.current_thread().name.startswith(("asker", "ThreadPool")):
            return real(function, *arguments)
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("threading._start_new_thread", starts_none_of_ours)
        told = [asked(server.url) for _ in range(5)]
    assert {(each.status, each.kind, each.retry_after) for each in told} == {(503, "busy", "1")}
    served_again = [asked(server.url) for _ in range(3)]
    assert {each.status for each in served_again} == {200}
    assert len(fake.requests) == 4, "what was refused did not happen, and does not happen now"
    consistent(workspace, fake, served_again)


@pytest.mark.parametrize("by_s", [3600.0, pytest.param(-3600.0, marks=pytest.mark.slow)])
def test_a_clock_that_jumps_by_an_hour_changes_no_answer_and_loses_no_record(
    by_s: float, server: Server, workspace: Workspace, fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = workspace.api_keys.create(name="ci", type="secret", request_budget=Quota.parse("40/1d"))
    holder = Holder(server, text).known()
    before = [asked(server.url, headers=holder.headers) for _ in range(2)]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + by_s)
    after = crowd(server.url, 8, headers=holder.headers)
    monkeypatch.undo()
    back = [asked(server.url, headers=holder.headers) for _ in range(2)]
    assert {each.status for each in (*before, *after, *back)} == {200}
    in_time(after)
    in_time([asked(server.url, "/ready")], READY_S)
    consistent(workspace, fake, [*before, *after, *back])


IN_LITTLE_SPACE = """
import resource, sys, threading
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]) << 30, int(sys.argv[1]) << 30))
from wasmtime import wat2wasm
from host import Host

said = []
with Host() as host:
    catalyst = host.load(bytes(wat2wasm(open(sys.argv[2]).read())))

    def run():
        try:
            said.append(str(catalyst.run({}).status))
        except Exception as error:
            said.append(getattr(error, "code", repr(error)))

    threads = [threading.Thread(target=run) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print(*said)
"""


@pytest.mark.parametrize(
    ("gib", "kinds"),
    [
        pytest.param(3, {"busy"}, id="for no sandbox at all"),
        pytest.param(6, {"200", "busy"}, id="for one at a time", marks=pytest.mark.slow),
    ],
)
def test_in_little_address_space_a_host_runs_fewer_and_says_why(gib: int, kinds: set[str]) -> None:
    argv = [sys.executable, "-c", IN_LITTLE_SPACE, str(gib), str(GUESTS / "rust_like.wat")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=240, check=True)
    assert len(done.stdout.split()) == 12
    assert set(done.stdout.split()) == kinds
