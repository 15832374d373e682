"""A server over a state of its own, in which the OpenAI catalyst is installed and may reach the fake of the test."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from host.core.names import Reference, SecretName
from host.fakes import FakeOpenAI
from host.fakes.messages import FakeRequest
from host.fakes.openai.faults import Fault
from host.runtime.workspace import Workspace
from host.secrets.value import OPERATOR, SecretValue
from host.server import Application, ServerSettings
from host.server.sockets import OPTIONS
from tests.conftest import KEY, KEYS, fresh_state, the_master_key_in_a_file
from tests.server.engine import SharedLoader
from tests.server.prompt import PromptServer

OPENAI = Reference.parse("c:local.openai")
PATIENCE_S = 60
APART = ("admin.*", "beta.*", "fine_tuning.*", "realtime.*", "webhooks.*")  # with operations that a key has to name


def until(true: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait for what another thread or process is about to do."""
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, "it never came to be so"
        time.sleep(0.02)


@contextmanager
def held_up(fake: FakeOpenAI) -> Iterator[None]:
    """Within it the fake takes requests, and answers none."""
    go_on, script = threading.Event(), fake._api.script
    take = script.take

    def later(request: FakeRequest) -> Fault | None:
        assert go_on.wait(PATIENCE_S)
        return take(request)

    script.take = later  # type: ignore[method-assign]
    try:
        yield
    finally:
        script.take = take  # type: ignore[method-assign]
        go_on.set()


class Server:
    """One process's server, on a thread and a free port of the loopback interface."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            application, http="httptools", **OPTIONS, lifespan="on", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, timeout_graceful_shutdown=10,
        )  # fmt: skip
        self._server = PromptServer(config)
        self._thread = self._server.begin(self._listener, PATIENCE_S)
        self._client = httpx2.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False)

    def up_to_date(self) -> Server:
        """Once it has seen what was changed until now."""

        def seen() -> bool:
            self.application.readiness._until = 0.0  # else the answer is that of a second ago
            self.get("/ready")
            view = self.application.catalog._view
            return view is not None and view.stamp == self.application.workspace.stamp()

        until(seen)
        return self

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return self._client.get(path, **more)

    def post(self, path: str, **more: Any) -> httpx2.Response:
        return self._client.post(path, **more)

    def request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        return self._client.request(method, path, **more)

    def stop(self) -> None:
        """As SIGTERM does; returns once it has ended."""
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self._client.close()
        self.stop()
        self._listener.close()


@pytest.fixture(autouse=True)
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all servers of a test process."""
    monkeypatch.setattr("host.runtime.host.Loader", SharedLoader)


@pytest.fixture
def patient_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """`/ready` answers once it has looked: what a busy machine takes longer for than probes wait is no failure."""
    monkeypatch.setattr("host.server.observability.readiness.READY_S", PATIENCE_S)


@pytest.fixture(scope="session")
def installed_state(openai_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state in which the catalyst is installed, with its secret: to be copied, since installing takes a second."""
    folder = fresh_state(tmp_path_factory.mktemp("installed") / "state")
    with Workspace.open(folder) as opened, the_master_key_in_a_file():
        install(opened, openai_file, "http://127.0.0.1:9")
    return folder


@pytest.fixture
def state_dir(installed_state: Path, tmp_path: Path) -> Path:
    return copied(installed_state, tmp_path / "state")


def copied(state_dir: Path, folder: Path) -> Path:
    """A copy of a state directory. The bytes of components are the same files: nothing writes into them, others take
    their place."""

    def copy(source: str, target: str) -> None:
        os.link(source, target) if source.endswith(".wasm") else shutil.copy2(source, target)

    return Path(shutil.copytree(state_dir, folder, copy_function=copy))


@pytest.fixture
def workspace(state_dir: Path, fake: FakeOpenAI) -> Iterator[Workspace]:
    """With the catalyst, its secret, and a policy that sends it to the fake."""
    with Workspace.open(state_dir) as opened:
        send_to(opened, OPENAI, fake.url)
        yield opened


def install(workspace: Workspace, openai_file: Path, upstream: str, reference: Reference | None = None) -> None:
    loader = SharedLoader()
    try:
        component = workspace.register(openai_file, loader, reference=reference)
    finally:
        loader.sandbox.close()
    at = component.reference.any_version
    workspace.vault.set(OPERATOR, SecretName.parse("OPENAI_API_KEY"), SecretValue(KEY))
    workspace.grants.grant(at, SecretName.parse("OPENAI_API_KEY"))
    workspace.policies.set(at, "allowed_domains", ["api.openai.com"])
    send_to(workspace, at, upstream)


def send_to(workspace: Workspace, reference: Reference, upstream: str) -> None:
    workspace.policies.set(reference, "upstreams", {"https://api.openai.com": upstream})


def open_to_all(workspace: Workspace, server: Server, upstream: str) -> str:
    """Everything goes to `upstream`, with both keys of OpenAI; the key of the server that is for every operation."""
    for name, value in KEYS.items():
        workspace.vault.set(OPERATOR, SecretName.parse(name), SecretValue(value))
        workspace.grants.grant(OPENAI, SecretName.parse(name))
    send_to(workspace, OPENAI, upstream)
    _, key = workspace.api_keys.create(name="all", type="secret", operations=("*", *APART))
    server.up_to_date()
    return key


@pytest.fixture
def serving(workspace: Workspace, state_dir: Path) -> Iterator[Callable[..., Server]]:
    """`serving(settings)` is a server with these settings; what of it runs at the end of the test is stopped."""
    with ExitStack() as stack:

        def start(settings: ServerSettings | None = None) -> Server:
            application = Application(settings, state_dir=state_dir, workspace=workspace)
            stack.callback(application.close)
            return stack.enter_context(closing(Server(application)))

        yield start


@pytest.fixture
def server(serving: Callable[..., Server]) -> Server:
    return serving()
