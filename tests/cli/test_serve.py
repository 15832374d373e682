"""`host serve` as people start it: a process, its words, its workers, and its end."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.service.limits import open_limiter
from host.store.audit_log.records import runs
from tests.cli.conftest import PATIENCE_S, Ran, Upstream
from tests.server.conftest import OPENAI, install, until
from tests.server.openai.test_gateway import CHAT, EVENT, STREAM_HEAD, Client

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def workspace(state: Path, openai_file: Path, fake: FakeOpenAI) -> Iterator[Workspace]:
    with Workspace.open(state) as opened:
        install(opened, openai_file, fake.url)
        yield opened


class Serving:
    """`host serve …` on a free port. `said` are the lines of its standard error until now."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        until(lambda: self.url is not None or process.poll() is not None)
        assert self.url, self.said
        self.port = int(self.url.rpartition(":")[2])
        self.client = httpx2.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False, verify=False)
        until(lambda: self.status("/ready") == 200)

    @property
    def url(self) -> str | None:
        found = re.search(r"serving on (\S+)", "".join(self.said))
        return found[1] if found else None

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    def status(self, path: str) -> int:
        try:
            return self.client.get(path).status_code
        except httpx2.TransportError:
            return 0

    def says(self, words: str) -> None:
        """Wait until it has said them."""
        until(lambda: words in "".join(self.said))

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end, and for all that it says."""
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return status


@pytest.fixture
def serve(started: Start, workspace: Workspace) -> Iterator[Callable[..., Serving]]:
    del workspace
    opened: list[Serving] = []

    def start(*options: str, **more: Any) -> Serving:
        opened.append(Serving(started("serve", "--port", "0", *options, **more)))
        return opened[-1]

    yield start
    for one in opened:
        one.client.close()


def test_it_says_what_it_serves_and_who_may_ask(serve: Any) -> None:
    one = serve()
    one.says(f"{one.url}/v1")
    one.says(f"{one.url}/mcp")
    one.says("all models by c:local.openai")
    one.says("there is no key: any is accepted, on this machine alone")
    assert one.client.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_with_nothing_installed_it_says_so_to_the_operator_and_to_whoever_asks(started: Start, state: Path) -> None:
    one = Serving(started("serve", "--port", "0"))
    with closing(one.client):
        answer = one.client.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    assert "nothing is installed yet" in answer.json()["error"]["message"]
    one.says("nothing is installed yet (host register FILE")


def test_with_a_key_it_says_nothing_of_going_without(serve: Any, workspace: Workspace) -> None:
    workspace.api_keys.create(name="ci", type="secret")
    one = serve()
    assert one.end() == 0
    assert "there is no key" not in "".join(one.said)


def test_without_a_key_it_does_not_listen_where_others_could_reach_it(program: Any, workspace: Workspace) -> None:
    ran: Ran = program("serve", "--host", "0.0.0.0", "--port", "0")
    assert ran.status == 2
    assert "host key create" in ran.err


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        pytest.param(["--default", "c:local.nothing"], 2, "there is no c:local.nothing", id="a catalyst that is not there"),
        pytest.param(["--route", "gpt"], 2, "PREFIX=REF", id="a route that is none"),
        pytest.param(["--config", "nothing.toml"], 2, "cannot read", id="a file that is not there"),
        pytest.param(["--limits", "memcached://x"], 2, "redis", id="a place to count that is none"),
        pytest.param(["--tls-cert", "x.pem"], 2, "--tls-key", id="half of what https needs"),
        pytest.param(["--trusted-proxy", "somewhere"], 2, "--trusted-proxy", id="a network that is none"),
        pytest.param(["--cors-origin", "example.com"], 2, "--cors-origin", id="an origin without a scheme"),
        pytest.param(["--tls-cert", __file__, "--tls-key", __file__], 2, "two PEM files", id="no certificate"),
        pytest.param(["--grace", "long"], 2, "--grace", id="a span that is none"),
        pytest.param(["--limits", "redis://:a-password@127.0.0.1:1/0"], 6, "failed at 127.0.0.1:1: Connection refused", id="a Redis that is down"),
        pytest.param(["--limits", "redis+unix:///nowhere"], 6, "failed at /nowhere: No such file", id="a socket that is not there"),
        pytest.param(["--host", "192.0.2.1"], 2, "host key create", id="an address of somebody else, without a key"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_before_it_serves(
    program: Any, workspace: Workspace, options: list[str], status: int, said: str
) -> None:
    ran: Ran = program("serve", "--port", "0", *options)
    assert (ran.status, said in ran.err) == (status, True), ran.err
    assert "serving on" not in ran.err
    assert "a-password" not in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("env", "status", "said"),
    [
        pytest.param({"HOST_DATABASE": "postgresql://me:a-password@127.0.0.1:1/x"}, 6, "at 127.0.0.1:1: Connection refused", id="a database that is down"),
        pytest.param({"HOST_STATE_DIR": "/proc/1/nowhere"}, 6, "cannot make '/proc/1/nowhere'", id="a folder that cannot be made"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["mcp", "--reference", "c:local.x"], ["list"], ["audit", "verify"]], ids=" ".join)  # fmt: skip
def test_a_state_that_cannot_be_opened_is_named_before_anything_is_served(
    program: Any, state: Path, command: list[str], env: dict[str, str], status: int, said: str
) -> None:
    ran: Ran = program(*command, env=env)
    assert (ran.status, said in ran.err) == (status, True), ran.err
    assert ran.err.startswith("error: ")
    assert "a-password" not in ran.err
    assert "serving on" not in ran.err


def test_a_master_key_that_is_gone_is_named_before_it_serves(program: Any, workspace: Workspace, state: Path) -> None:
    for file in state.glob("master-*.key"):
        file.unlink()
    ran: Ran = program("serve", "--port", "0")
    assert (ran.status, "the master key" in ran.err, "serving on" in ran.err) == (6, True, False), ran.err


def test_a_port_that_is_taken_is_named(program: Any, serve: Any) -> None:
    one = serve()
    ran: Ran = program("serve", "--port", str(one.port))
    assert ran.status == 6
    assert f"cannot listen on 127.0.0.1:{one.port}: Address already in use\n" in ran.err


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told_to_once_its_streams_have(
    serve: Any, workspace: Workspace, how: signal.Signals
) -> None:
    with closing(Upstream()) as upstream:
        workspace.policies.set(OPENAI, "upstreams", {"https://api.openai.com": upstream.url})
        one = serve()
        with closing(Client(one, {**CHAT, "stream": True})) as client:
            upstream.send(STREAM_HEAD + EVENT % b"one")
            client.read_until(b'"one"')
            one.process.send_signal(how)
            until(lambda: one.status("/health") == 0)  # it takes no more
            assert one.process.poll() is None
            upstream.send(EVENT % b"two" + b"data: [DONE]\n\n")
            upstream.close()
            client.read_until(b"data: [DONE]\n\n")
        assert one.process.wait(PATIENCE_S) == 0


def test_a_second_interrupt_ends_it_at_once_and_without_a_traceback(serve: Any, workspace: Workspace) -> None:
    with closing(Upstream()) as upstream:
        workspace.policies.set(OPENAI, "upstreams", {"https://api.openai.com": upstream.url})
        one = serve()
        with closing(Client(one, {**CHAT, "stream": True})) as client:
            upstream.send(STREAM_HEAD + EVENT % b"one")
            client.read_until(b'"one"')
            one.process.send_signal(signal.SIGINT)
            until(lambda: one.status("/health") == 0)
            one.process.send_signal(signal.SIGINT)
            one.ended()
        assert "cut short by the end of the server" in "".join(one.said)
        assert "Traceback" not in "".join(one.said)
        assert runs(workspace.database, limit=1)[0].outcome == "cancelled"


def test_what_takes_longer_than_its_grace_is_cancelled_and_recorded(serve: Any, workspace: Workspace) -> None:
    with closing(Upstream()) as upstream:
        workspace.policies.set(OPENAI, "upstreams", {"https://api.openai.com": upstream.url})
        one = serve("--grace", "1s")
        with closing(Client(one, {**CHAT, "stream": True})) as client:
            upstream.send(STREAM_HEAD + EVENT % b"one")
            client.read_until(b'"one"')
            assert one.end() == 0
        assert runs(workspace.database, limit=1)[0].outcome == "cancelled"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_terminal_that_hangs_up_ends_neither_the_server_nor_its_streams(
    serve: Any, workspace: Workspace, workers: str
) -> None:
    with closing(Upstream()) as upstream:
        workspace.policies.set(OPENAI, "upstreams", {"https://api.openai.com": upstream.url})
        one = serve("--workers", workers)
        with closing(Client(one, {**CHAT, "stream": True})) as client:
            upstream.send(STREAM_HEAD + EVENT % b"one")
            client.read_until(b'"one"')
            for pid in (one.process.pid, *children(one.process.pid)):
                if "resource_tracker" not in command(pid):
                    os.kill(pid, signal.SIGHUP)
            time.sleep(1.0)  # uvicorn looks for signals twice a second
            upstream.send(EVENT % b"two" + b"data: [DONE]\n\n")
            upstream.close()
            client.read_until(b"data: [DONE]\n\n")
        assert one.status("/ready") == 200
        assert one.end() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_request_right_after_the_signal_is_not_taken(serve: Any, workspace: Workspace, workers: str) -> None:
    """Over connections that are kept, while a stream goes on."""
    with closing(Upstream()) as upstream:
        workspace.policies.set(OPENAI, "upstreams", {"https://api.openai.com": upstream.url})
        one = serve("--workers", workers)
        with closing(Client(one, {**CHAT, "stream": True})) as client:
            upstream.send(STREAM_HEAD + EVENT % b"one")
            client.read_until(b'"one"')
            before = len(runs(workspace.database, limit=50))
            kept = [connected(one) for _ in range(8)]
            told = told_by_each(one)
            one.process.send_signal(signal.SIGTERM)
            for other in told:
                with closing(other):
                    until(lambda other=other: not ready(other))  # type: ignore[misc]
            for other in kept:
                with closing(other):
                    try:
                        answer = other.post("/v1/chat/completions", json=CHAT)
                    except httpx2.TransportError:
                        continue  # the connection was closed before
                    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
                    assert answer.headers["connection"] == "close"
            assert len(runs(workspace.database, limit=50)) == before
            upstream.send(b"data: [DONE]\n\n")
            upstream.close()
            client.read_until(b"data: [DONE]\n\n")
        assert one.process.wait(PATIENCE_S) == 0


def test_ready_says_so_while_the_disk_takes_nothing(serve: Any) -> None:
    one = serve()
    assert one.client.post("/v1/chat/completions", json=CHAT).status_code == 200
    soft, hard = resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    until(lambda: one.status("/ready") == 503)
    assert one.client.post("/v1/chat/completions", json=CHAT).status_code == 503
    resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
    until(lambda: one.status("/ready") == 200)
    assert one.client.post("/v1/chat/completions", json=CHAT).status_code == 200


class TestWorkers:
    def test_share_keys_metrics_and_what_was_compiled(self, serve: Any, workspace: Workspace) -> None:
        one = serve("--workers", "2")
        pids = children(one.process.pid)
        assert len(pids) >= 2
        for _ in range(12):
            with httpx2.Client(base_url=one.url, trust_env=False, timeout=PATIENCE_S) as client:  # a connection each
                assert client.post("/v1/chat/completions", json=CHAT).status_code == 200

        def counted() -> float:
            said = one.client.get("/metrics").text
            found = re.search(r'catalyst_host_runs_total\{.*outcome="200".*\} (\S+)', said)
            return float(found[1]) if found else 0.0

        until(lambda: counted() == 12.0)
        workspace.api_keys.create(name="ci", type="secret")
        until(lambda: all(refused(one.url) for _ in range(8)))
        assert one.end() == 0

    def test_one_that_dies_is_replaced(self, serve: Any) -> None:
        one = serve("--workers", "2")
        before = workers(one)
        os.kill(before[0], signal.SIGKILL)
        until(lambda: len(set(workers(one)) - set(before)) == 1)
        until(lambda: one.status("/ready") == 200)
        assert one.client.post("/v1/chat/completions", json=CHAT).status_code == 200
        assert one.end() == 0

    def test_end_when_the_process_that_started_them_was_killed(self, serve: Any) -> None:
        one = serve("--workers", "2")
        one.end(signal.SIGKILL)
        until(lambda: one.status("/health") == 0)

    def test_a_run_is_cancelled_whichever_has_it(self, serve: Any, workspace: Workspace) -> None:
        with closing(Upstream()) as upstream:
            workspace.policies.set(OPENAI, "upstreams", {"https://api.openai.com": upstream.url})
            one = serve("--workers", "2")
            with closing(Client(one, {**CHAT, "stream": True})) as client:
                upstream.send(STREAM_HEAD + EVENT % b"one")
                client.read_until(b'"one"')
                workspace.cancellations.ask(runs(workspace.database, limit=1)[0].id)
                client.read_until(b'"code":"cancelled"')
            assert one.end() == 0


def test_a_batch_of_a_server_that_was_killed_is_finished_by_the_next_one(
    serve: Any, workspace: Workspace, fake: FakeOpenAI, tmp_path: Path
) -> None:
    settings = tmp_path / "server.toml"
    settings.write_text("[batches]\n")
    lines = [{"custom_id": f"n{n}", "method": "POST", "url": "/v1/chat/completions", "body": CHAT} for n in range(60)]
    content = "".join(json.dumps(one) + "\n" for one in lines).encode()
    fake.script([{"times": 20}, {"delay_s": 120.0, "times": 4}])
    first = serve("--config", str(settings))
    file = first.client.post("/v1/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"}).json()
    asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = first.client.post("/v1/batches", json=asked).json()["id"]
    until(lambda: first.client.get(f"/v1/batches/{batch}").json()["request_counts"]["completed"] >= 20)
    until(lambda: len(fake.requests) >= 20 + 4)  # none of the slow answers is left for the next one
    first.end(signal.SIGKILL)
    open_limiter(None, workspace).release(f"batch:{batch}")  # as it is once the lease of the killed one is over
    second = serve("--config", str(settings))
    until(lambda: second.client.get(f"/v1/batches/{batch}").json()["status"] == "completed")
    found = second.client.get(f"/v1/batches/{batch}").json()
    answers = second.client.get(f"/v1/files/{found['output_file_id']}/content").text.splitlines()
    assert sorted(json.loads(one)["custom_id"] for one in answers) == sorted(f"n{n}" for n in range(60))
    assert found["request_counts"] == {"total": 60, "completed": 60, "failed": 0}
    assert len(fake.requests) <= 60 + 16 + 64, "those that were under way, or not yet in the state"


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers(one: Serving) -> list[int]:
    """Those that serve: not what multiprocessing starts beside them."""
    return [pid for pid in children(one.process.pid) if "spawn_main" in command(pid)]


def command(pid: int) -> str:
    """Empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""


def connected(one: Serving) -> httpx2.Client:
    client = httpx2.Client(base_url=one.url, trust_env=False, timeout=PATIENCE_S)
    assert client.get("/health").status_code == 200
    return client


def told_by_each(one: Serving) -> list[httpx2.Client]:
    """Clients of which each process that serves has at least one."""
    before = {pid: sockets(pid) for pid in workers(one) or [one.process.pid]}
    clients: list[httpx2.Client] = []

    def one_more() -> bool:
        clients.append(connected(one))
        return all(sockets(pid) > many for pid, many in before.items())

    until(one_more)
    return clients


def sockets(pid: int) -> int:
    return sum(os.readlink(one).startswith("socket:") for one in Path(f"/proc/{pid}/fd").iterdir())


def ready(client: httpx2.Client) -> bool:
    """Whether whoever has the client's connection takes requests."""
    try:
        return client.get("/ready").status_code == 200
    except httpx2.TransportError:
        return False


def refused(url: str) -> bool:
    with httpx2.Client(base_url=url, trust_env=False, timeout=PATIENCE_S) as client:
        return client.get("/v1/models").status_code == 401


def test_it_speaks_https(serve: Any, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    one = serve("--tls-cert", str(certificate), "--tls-key", str(key))
    assert one.url.startswith("https://")
    assert one.client.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_a_file_says_how_it_is_set_up(serve: Any, tmp_path: Path, fake: FakeOpenAI) -> None:
    file = tmp_path / "server.yml"
    file.write_text("prefix_map:\n  gpt: c:local.openai\naliases:\n  fast: gpt-4o-mini\n")
    one = serve("--config", str(file), "--alias", "slow=gpt-4o")
    one.says("models gpt… by c:local.openai")
    for alias, model in (("fast", "gpt-4o-mini"), ("slow", "gpt-4o")):
        assert one.client.post("/v1/chat/completions", json={**CHAT, "model": alias}).status_code == 200
        assert fake.requests[-1]["body"]["model"] == model
    assert one.client.post("/v1/chat/completions", json={**CHAT, "model": "claude"}).status_code == 404


def test_its_log_is_json_lines_where_nobody_watches(serve: Any) -> None:
    one = serve()
    answer = one.client.post("/v1/chat/completions", json=CHAT)
    until(lambda: any(answer.headers["x-catalyst-request-id"] in line for line in one.said))
    [line] = [json.loads(line) for line in one.said if answer.headers["x-catalyst-request-id"] in line]
    assert (line["message"], line["route"], line["status"]) == ("request", "POST /v1/chat/completions", 200)


def test_traces_are_sent_where_the_environment_says(serve: Any) -> None:
    got: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        one = serve(env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"})
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        answer = one.client.post("/v1/chat/completions", json=CHAT, headers={"traceparent": parent})
        assert one.end() == 0
        collector.shutdown()
    sent = b"".join(got)
    assert bytes.fromhex("0af7651916cd43dd8448eb211c80319c") in sent
    assert b"POST /v1/chat/completions" in sent
    assert b"run chat.completions.create" in sent
    assert answer.headers["x-catalyst-run"].encode() in sent
    assert b"Say hello" not in sent


def test_its_help_tells_how_to_begin(program: Any) -> None:
    ran: Ran = program("serve", "--help")
    assert ran.status == 0
    assert "curl http://127.0.0.1:4000/v1/chat/completions" in ran.out
