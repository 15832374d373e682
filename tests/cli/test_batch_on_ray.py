"""`host batch --engine ray`: a cluster of two nodes on this machine, each with its own state, secret and audit log."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest

from host.core.names import SecretName
from host.core.quantities import Quota
from host.fakes import FakeOpenAI
from host.fakes.openai.faults import Fault
from host.runtime.workspace import Workspace
from host.secrets.value import OPERATOR, SecretValue
from host.service.limits import Budget, limits_of_budget
from host.service.limits.redis import RedisLimiter
from host.store.audit_log.records import Wanted, records
from tests.cli.conftest import PATIENCE_S, PROGRAM
from tests.cli.ray_nodes import RayNodes, children, kill, running_nodes
from tests.cli.test_batch import asked, chat, lines
from tests.conftest import CACHE, fresh_state
from tests.server.conftest import OPENAI, copied, held_up, installed_state, send_to, until  # noqa: F401 - installed_state is a fixture
from tests.service.limits.conftest import redis  # noqa: F401 - a fixture
from tests.service.limits.redis import PASSWORD, Redis

pytestmark = pytest.mark.slow

KEYS = {"one": "sk-of-node-one-" + "1" * 24, "two": "sk-of-node-two-" + "2" * 24, "driver": "sk-of-driver-" + "3" * 24}
PROCESS = b"ray::RayNode"  # how Ray names those that run lines

# The program, with everything that it hands to Ray's serializers, and what these make of it, in a file.
_OVERHEARD = """
import pickle, sys
into = open(sys.argv.pop(1), "wb")
import ray
from ray._private import serialization
from ray.job_config import JobConfig

def overhear(owner, name, read):
    original = getattr(owner, name)
    def heard(*given, **more):
        found = original(*given, **more)
        into.write(read(given, found))
        into.flush()
        return found
    setattr(owner, name, heard)

made = ray.cloudpickle.dumps
overhear(serialization.SerializationContext, "serialize", lambda given, found: made(given[1]))
overhear(ray.cloudpickle, "dumps", lambda given, found: found)
overhear(JobConfig, "_serialize", lambda given, found: found)
assert serialization.pickle is ray.cloudpickle
from host.cli import program
program()
"""


@dataclass
class Place:
    """The cluster, and the states of its nodes and of the driver: one that is `bare` has no catalyst. `nodes` are the
    processes that the nodes are."""

    cluster: RayNodes
    fake: FakeOpenAI
    states: dict[str, Path]
    nodes: dict[str, int]

    def with_nodes(self, *names: str) -> Place:
        """Add the nodes of these states that are not there."""
        self.fake.reset()
        for name in names:
            if name not in self.nodes:
                self.nodes[name] = self.cluster.add(self.states[name])
        return self

    def lose(self, name: str) -> None:
        kill(self.nodes.pop(name))


@pytest.fixture(scope="module")
def _ray() -> None:
    if importlib.util.find_spec("ray") is None:
        if os.environ.get("MUST_RUN"):
            pytest.fail("Ray is not installed; MUST_RUN is set")
        pytest.skip("Ray is not installed: the extra ray brings it, and MUST_RUN=1 makes this a failure")


@pytest.fixture(scope="module")
def cluster(
    _ray: None,
    redis: Redis,  # noqa: F811 - the fixture
    installed_state: Path,  # noqa: F811 - the fixture
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("ray")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "HOST_CACHE_DIR": str(CACHE / "host"),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        "HOST_LIMITS": redis.url,  # its password is not sent
        "GRPC_ENABLE_FORK_SUPPORT": "0",  # with it Ray's own client server now and then ends as it forks
    }
    with FakeOpenAI() as fake:
        states = {name: copied(installed_state, folder / name) for name in KEYS}
        for name, state in states.items():
            with Workspace.open(state) as workspace:
                workspace.vault.set(OPERATOR, SecretName.parse("OPENAI_API_KEY"), SecretValue(KEYS[name]))
                send_to(workspace, OPENAI, fake.url)
        states["bare"] = fresh_state(folder / "bare")
        with running_nodes(env) as nodes:
            yield Place(nodes, fake, states, {})


@pytest.fixture
def two_nodes(cluster: Place) -> Place:
    return cluster.with_nodes("one", "two")


Started = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def started(cluster: Place, tmp_path: Path) -> Iterator[Started]:
    """`started(lines, *options)` is `host batch` on the cluster, as a process group of its own; `program` begins it."""
    processes = []

    def start(given: list[Any], *options: str, program: tuple[str, ...] = (str(PROGRAM),), **env: str) -> Any:
        (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in given))
        state = {"HOST_STATE_DIR": str(cluster.states["driver"])}
        engine = () if "--engine" in options else ("--engine", "ray")
        process = subprocess.Popen(
            [*program, "batch", "in.jsonl", "-o", "out.jsonl", *engine, *options],
            env={**cluster.cluster.env, **state, "RAY_ADDRESS": cluster.cluster.address, **env}, cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for one in processes:
        kill(one.pid)
        one.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """What it wrote as JSON, and its words."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in err
    return json.loads(out or "{}"), err


def keys_used(fake: FakeOpenAI) -> set[str]:
    return {one["headers"]["authorization"].removeprefix("Bearer ") for one in fake.requests}


def recorded(workspace: Workspace, kind: str) -> list[dict[str, Any]]:
    """The details of the records of this kind."""
    return [one.detail for one in records(workspace.database, Wanted(kind=kind))]


def test_each_node_runs_lines_with_its_own_secret_and_none_is_sent(
    two_nodes: Place,
    started: Started,
    tmp_path: Path,
    redis: Redis,  # noqa: F811 - the fixture
) -> None:
    heard, config = tmp_path / "heard", tmp_path / "server.toml"
    config.write_text(f'limits = "{redis.url}"\n[budgets."c:local.openai"]\nrequests = "24/1d"\n')
    program = (sys.executable, "-c", _OVERHEARD, str(heard))
    options = ("--json", "--ordered", "--config", str(config))
    process = started([chat(number) for number in range(24)], *options, program=program)
    shown, err = ended(process)
    assert process.returncode == 0, (shown, err)
    assert [one["custom_id"] for one in lines(tmp_path / "out.jsonl")] == [f"line-{number}" for number in range(24)]
    assert keys_used(two_nodes.fake) == {KEYS["one"], KEYS["two"]}
    sent = heard.read_bytes()
    assert b"number 23" in sent, "what is sent was overheard"
    with Workspace.open(two_nodes.states["driver"]) as workspace:
        component = workspace.components.resolve(OPENAI)
        assert str(component.digest).encode() in sent
        assert len(sent) < len(workspace.components.content(component)) / 20, "and no component"
        known = [*KEYS.values(), PASSWORD, str(workspace.state_dir), os.environ["PATH"]]
        assert [one for one in known if one.encode() in sent] == []
    assert shown["ran_again"] == 0
    assert sum(one["lines"] for one in shown["nodes"]) == 24
    assert all(one["lines"] for one in shown["nodes"])
    _each_head_is_in_its_log(two_nodes, [one["head"] for one in shown["nodes"]])
    assert "its own state" not in err
    with closing(RedisLimiter.open(redis.url)) as limiter:
        budget = limits_of_budget({OPENAI: Budget(requests=Quota.parse("24/1d"))}, OPENAI)
        assert limiter.admit(budget) is not None, "both nodes have counted there: 24 are spent"


def _each_head_is_in_its_log(place: Place, heads: list[str]) -> None:
    """What the driver gathered, shows and keeps: `host audit verify --head` of each node takes one of them."""
    assert len(set(heads)) == 2
    for name in ("one", "two"):
        env = {**place.cluster.env, "HOST_STATE_DIR": str(place.states[name])}
        argv = [str(PROGRAM), "audit", "verify", "--head"]
        found = [subprocess.run([*argv, head], env=env, capture_output=True, check=False).returncode for head in heads]
        assert sorted(found) == [0, 6], name
    with Workspace.open(place.states["driver"]) as workspace:
        [kept] = recorded(workspace, "batch.gathered")
        assert sorted(one["head"] for one in kept["nodes"]) == sorted(heads)


def test_a_lost_node_costs_no_line_and_what_ran_there_runs_once_more_with_the_same_key(
    two_nodes: Place, started: Started, tmp_path: Path
) -> None:
    fake = two_nodes.fake
    fake.script([Fault(delay_s=0.3, times=None)])
    process = started([chat(number) for number in range(60)], "--json", "--concurrency", "6")
    until(lambda: len(asked(fake)) > 8 and KEYS["two"] in keys_used(fake), PATIENCE_S)
    two_nodes.lose("two")
    shown, err = ended(process)
    assert process.returncode == 0, err
    answered = [one["custom_id"] for one in lines(tmp_path / "out.jsonl")]
    assert sorted(answered) == sorted(f"line-{number}" for number in range(60))
    assert 1 <= shown["ran_again"] <= 6
    assert f"{shown['ran_again']} lines ran again because a node was lost" in err
    keys: dict[str, set[str]] = {}
    for one in fake.requests:
        keys.setdefault(one["body"]["messages"][0]["content"], set()).add(one["headers"]["idempotency-key"])
    assert {len(some) for some in keys.values()} == {1}
    assert max(Counter(asked(fake)).values()) <= 2
    assert sorted(one["head"] is None for one in shown["nodes"]) == [False, True], "the lost one's is not known"


def test_a_line_whose_process_is_lost_twice_is_an_error_and_the_batch_goes_on(
    cluster: Place, started: Started, tmp_path: Path
) -> None:
    """Also where another node lacks the catalyst, and so gets no line."""
    fake = cluster.with_nodes("one", "bare").fake
    fake.script([Fault(delay_s=120.0, times=2)])
    process = started([chat(1), chat(2)], "--json", "--concurrency", "1")
    for count in (1, 2):
        until(lambda count=count: len(asked(fake)) == count, PATIENCE_S)
        [name] = (name for name, key in KEYS.items() if fake.requests[-1]["headers"]["authorization"].endswith(key))
        kill(cluster.nodes[name], PROCESS)
    shown, err = ended(process)
    assert process.returncode == 1, err
    assert [one["custom_id"] for one in lines(tmp_path / "out.jsonl")] == ["line-2"]
    [error] = lines(tmp_path / "out.errors.jsonl")
    assert (error["custom_id"], error["error"]["code"], error["error"]["line"]) == ("line-1", "node_lost", 1)
    assert asked(fake) == ["number 1", "number 1", "number 2"]
    assert shown["ran_again"] == 1
    assert "limits are counted by each node in its own state" in err
    assert "no line is run there: on the node 127.0.0.1" in err
    assert "there is no c:local.openai:0.1.0" in err
    assert "there: host register FILE" in err


def test_an_interrupt_from_a_terminal_finishes_the_lines_and_a_second_one_cancels_them_on_the_nodes(
    cluster: Place, started: Started, tmp_path: Path
) -> None:
    """By way of a Ray Client server; the whole process group gets the signals, as at a terminal."""
    fake = cluster.with_nodes("one").fake
    fake.script([Fault(delay_s=0.0, times=4), Fault(delay_s=2.0 * PATIENCE_S, times=None)])
    process = started([chat(number) for number in range(8)], "--engine", cluster.cluster.client, "--concurrency", "4")
    until(lambda: len(asked(fake)) >= 8, PATIENCE_S)
    until(lambda: len(lines(tmp_path / "out.jsonl")) == 4)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stderr is not None
    assert any("lines under way are finished first" in line for line in process.stderr)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "4 are left: the same command goes on with them" in err
    cancelled = 0
    for name in ("one", "two"):
        with Workspace.open(cluster.states[name]) as workspace:
            cancelled += sum(one["error"]["type"] == "cancelled" for one in recorded(workspace, "run.failed"))
    assert cancelled == 4


def test_where_no_cluster_answers_the_batch_says_so_and_not_after_minutes(
    cluster: Place, started: Started, tmp_path: Path
) -> None:
    process = started([chat(1)], RAY_ADDRESS="127.0.0.1:1")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 6
    assert "the Ray cluster at 127.0.0.1:1 cannot be used: nothing answers" in err
    assert not (tmp_path / "out.jsonl").read_bytes()


def test_a_ray_of_its_own_listens_to_this_machine_alone_and_nothing_of_it_is_left(
    cluster: Place, started: Started, tmp_path: Path
) -> None:
    fake = cluster.fake
    fake.reset()
    before = set(Path("/tmp").glob("ray*"))
    own = {name: "" for name in cluster.cluster.env if name.startswith("RAY_")}
    with held_up(fake):
        process = started([chat(number) for number in range(20)], "--concurrency", "20", **own, RAY_ADDRESS="")
        until(lambda: len(fake.requests) > 0, PATIENCE_S)
        until(
            lambda: len(_nodes(process.pid)) == min(2, os.cpu_count() or 1), PATIENCE_S
        )  # one for each 16 lines at once
        below = set(children(process.pid))
        addresses = [listening for one in (process.pid, *below) for listening in listening_at(one)]
        assert len(addresses) > 3, "Ray's own servers"
        assert {one for one in addresses if not one.is_loopback} == set()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert keys_used(fake) == {KEYS["driver"]}, "the only node has the state of this environment"
    until(lambda: not any(Path(f"/proc/{one}/exe").exists() for one in below), PATIENCE_S)
    assert set(Path("/tmp").glob("ray*")) <= before
    assert "Traceback" not in err


def _nodes(pid: int) -> list[int]:
    return [one for one in children(pid) if _name(one).startswith("ray::RayNode")]


def _name(pid: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def listening_at(pid: int) -> Iterator[IPv4Address | IPv6Address]:
    """The addresses at which a process listens (proc(5), /proc/net/tcp)."""
    with suppress(FileNotFoundError, ProcessLookupError):
        inodes = {os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir()}
        for table in ("tcp", "tcp6"):
            for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                columns = row.split()
                if columns[3] == "0A" and f"socket:[{columns[9]}]" in inodes:
                    words = bytes.fromhex(columns[1].partition(":")[0])
                    packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
                    found = ip_address(packed)
                    yield getattr(found, "ipv4_mapped", None) or found
