"""A process that forks after it made a Host: the child is told, nothing waits for ever, and nothing of the parent's is
used or closed. The forks are real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from host.core.waiting import within
from host.fakes import FakeOpenAI
from host.fakes.openai.faults import Fault
from host.sandbox.cache import CompiledCache
from host.store.audit_log.chain import CheckpointFile
from tests.conftest import CACHE, KEY, ROOT, fresh_state

BEGIN = """
import asyncio, gc, json, os, sys, threading, warnings
from functools import partial
from pathlib import Path
from host import Host, Policy, Secret, errors
from host.core import forks

warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads
url, wasm, key = sys.argv[1:]
policy = Policy(allowed_domains=["api.openai.com"], upstreams={"https://api.openai.com": url})
given = {"policy": policy, "secrets": {"OPENAI_API_KEY": Secret(key, weak=True)}}
chat = {"operation": "chat.completions.create", "params": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}}
models = {"operation": "models.list"}


def process():
    return forks.generation


def told(work):
    try:
        return f"nothing: {work()!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {getattr(error, 'hint', error)}"


def child(work):
    \"\"\"What `work` returns in a child of a fork, which ends as any program does; and how it ended.\"\"\"
    reads, writes = os.pipe()
    sys.stdout.flush()
    if pid := os.fork():
        os.close(writes)
        with open(reads) as answer:
            found = json.loads(answer.read() or "null")
        return found, os.waitpid(pid, 0)[1]
    os.write(writes, json.dumps(work()).encode())
    os.close(writes)
    sys.exit(0)
"""


def run(script: str, fake: FakeOpenAI, wasm: Path, state: Path) -> Any:
    """What the script prints, as JSON."""
    env = {**os.environ, "HOST_CACHE_DIR": str(CACHE / "host"), "HOST_STATE_DIR": str(state)}
    argv = [sys.executable, "-c", BEGIN + script, fake.url, str(wasm), KEY]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3_000:]
    return json.loads(done.stdout)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return fresh_state(tmp_path / "state")


USES = """
host = Host()
catalyst = host.load(wasm, **given)
catalyst.run(models)
stream, connection = catalyst.stream(chat), catalyst.connect({"operation": "realtime.connect", "params": {"model": "gpt-realtime"}})
first = next(stream), next(connection)
workspace, token = host.workspace, None


async def later():
    return await catalyst.arun(models)


async def flows():
    return [event async for event in catalyst.astream(chat)]


def in_the_child():
    found = {
        "run": told(lambda: catalyst.run(models)),
        "stream": told(lambda: catalyst.stream(chat)),
        "arun": told(lambda: asyncio.run(later())),
        "astream": told(lambda: asyncio.run(flows())),
        "connect": told(lambda: catalyst.connect({"operation": "realtime.connect", "params": {}})),
        "load": told(lambda: host.load(wasm, **given)),
        "a host with its loader": told(lambda: Host(loader=host._loader).load(wasm, **given)),
        "its workspace": told(lambda: host.workspace),
        "a workspace that was open": told(lambda: workspace.components.all()),
        "an event": told(lambda: next(stream)),
        "a message": told(lambda: next(connection)),
        "send": told(lambda: connection.send({"type": "response.create"})),
        "cancel_asked": told(lambda: host.cancel_asked(lambda runs: runs)),
    }
    stream.cancel(), connection.cancel()
    stream.close(), connection.close(), workspace.close(), host.close()
    with Host() as own:
        found["a host of its own"] = own.load(wasm, **given).run(models).status
        found["its own workspace"] = len(list(own.workspace.components.all()))
    return found


found, ended = child(in_the_child)
connection.send({"type": "response.create", "response": {}})
print(json.dumps({
    "child": found, "ended": ended, "events": 1 + len(list(stream)), "message": next(connection)["type"],
    "again": catalyst.run(models).status,
}))
connection.close()
host.close()
"""


def test_a_child_is_told_that_the_host_is_its_parents_and_disturbs_nothing(
    fake: FakeOpenAI, openai_file: Path, state: Path
) -> None:
    fake.script([Fault(path="/v1/chat/*", event_delay_s=0.2)])
    found = run(USES, fake, openai_file, state)
    own = {name: found["child"].pop(name) for name in ("a host of its own", "its own workspace")}
    assert own == {"a host of its own": 200, "its own workspace": 0}
    assert set(found["child"].values()) == {
        "StateError: make the Host, and the clients that use one, after the fork"
    }, found["child"]
    assert (found["ended"], found["again"], found["message"]) == (0, 200, "response.created")
    assert found["events"] > 4


FORGETS = """
import sqlite3
host = Host()
stream = host.load(wasm, **given).stream(chat)
next(stream)
opened = host.workspace.database


def files():
    return sorted(os.readlink(f"/proc/self/fd/{fd}").rpartition("/")[2] for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}"))


def in_the_child():
    global host, stream, opened
    before = [name for name in files() if name.startswith("state.db")]
    host = stream = opened = None
    gc.collect()
    return before, [name for name in files() if name.startswith("state.db")]


(before, after), ended = child(in_the_child)
print(json.dumps([before, after, ended, 1 + len(list(stream))]))
host.close()
"""


def test_what_a_child_forgets_is_not_closed_for_its_parent(fake: FakeOpenAI, openai_file: Path, state: Path) -> None:
    """Neither a connection to the database, nor the stream of an upstream."""
    fake.script([Fault(path="/v1/chat/*", event_delay_s=0.1)])
    before, after, ended, events = run(FORGETS, fake, openai_file, state)
    assert before
    assert (after, ended) == (before, 0)
    assert events > 4


CLIENTS = """
from host.openai import home
from host.openai import OpenAI, official
from host.openai.plain import PlainOpenAI

clients = [kind(**given) for kind in (OpenAI, PlainOpenAI)]
shared = home._SHARED._host
for client in clients:
    client.models.list()


def in_the_child():
    messages = chat["params"]["messages"]
    found = [told(lambda: client.models.list()) for client in clients]
    found += [
        told(lambda: list(client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True)))
        for client in clients
    ]
    found += [told(lambda: clients[0].realtime.connect(model="gpt-realtime").enter())]
    assert home._SHARED._host is None
    with OpenAI(**given) as own:
        for client in clients:
            client.close()
        ids = [model.id for model in own.models.list()]
        assert home._SHARED._host not in (None, shared)
    return {"found": found, "own": len(ids)}


found, ended = child(in_the_child)
print(json.dumps({**found, "ended": ended, "again": [len(client.models.list().data) for client in clients]}))
for client in clients:
    client.close()
assert home._SHARED._host is None
"""


def test_a_client_of_the_parents_says_so_and_one_of_the_childs_own_works(
    fake: FakeOpenAI, openai_file: Path, state: Path
) -> None:
    found = run(CLIENTS, fake, openai_file, state)
    assert set(found["found"]) == {"StateError: make the Host, and the clients that use one, after the fork"}
    assert len(found["found"]) == 5
    assert found["own"] > 0
    assert (found["ended"], found["again"]) == (0, [found["own"]] * 2)


WORKERS = """
from host.runtime.threads import Workers, aside

workers = Workers("of-a-test", 2)
workers.submit(lambda: 1).result()
asyncio.run(aside(process))
held = threading.Lock()


def in_the_child():
    workers.close(60.0)
    return [told(lambda: workers.submit(lambda: 2)), asyncio.run(aside(process)), child(process)[0]]


print(json.dumps([process(), child(in_the_child)[0], workers.submit(lambda: 3).result()]))
"""


def test_threads_that_a_child_has_not_are_given_no_work(fake: FakeOpenAI, openai_file: Path, state: Path) -> None:
    told = "StateError: make the Host, and the clients that use one, after the fork"
    assert run(WORKERS, fake, openai_file, state) == [0, [told, 1, 2], 3]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("of", ["the audit log", "the compiled cache"])
def test_a_lock_that_was_held_during_a_fork_ends_with_the_parents_work(tmp_path: Path, of: str) -> None:
    """The child has the descriptor of the lock for as long as it lives."""
    if of == "the audit log":
        file = CheckpointFile(tmp_path)
        file.path.write_bytes(b"")
        locked: Any = file.held
    else:
        locked = lambda: CompiledCache(tmp_path / "cache", tmp_path, lambda: bytes(32)).locked("a")  # noqa: E731
    reads, writes = os.pipe()
    with locked():
        if not (pid := os.fork()):
            os.close(writes)
            os.read(reads, 1)
            os._exit(0)
    os.close(reads)
    try:
        with within(3.0), locked():
            pass
    finally:
        os.close(writes)
        os.waitpid(pid, 0)
