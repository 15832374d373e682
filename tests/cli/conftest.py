"""The `host` program: in this process with streams and an environment of its own, or as a process with pipes or on a
terminal, where that is the subject."""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from host.cli import main
from host.component.manifest import embed
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from tests.conftest import CACHE, GUESTS, KEY, fresh_state, python_guest, the_master_key_in_a_file, wat

PROGRAM = Path(sys.executable).with_name("host")
PATIENCE_S = 300  # a busy machine takes long over a short thing

MODELS = '{"operation":"models.list"}'
CHAT: dict[str, Any] = {
    "operation": "chat.completions.create",
    "params": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 5},
}
SPEECH = json.dumps({"operation": "audio.speech", "params": {"model": "tts-1", "input": "hi", "voice": "alloy"}})

# A process group of its own, whose controlling terminal is its standard input: what a shell gives a program.
# An interrupt has its default effect: what a suite that was started in the background would hand down ignored.
_ON_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True)
class Ran:
    """`out` has surrogates for what is no UTF-8: `out.encode("utf-8", "surrogateescape")` are the bytes."""

    status: int
    out: str
    err: str


class Terminal:
    """The program on a pseudo-terminal. `piped`: its standard output is a pipe, as in `host run … | jq`."""

    def __init__(self, arguments: list[str], env: Mapping[str, str], *, piped: bool) -> None:
        self._main, child = os.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_TERMINAL, str(PROGRAM), *arguments],
            stdin=child,
            stdout=subprocess.PIPE if piped else child,
            stderr=child,
            env=dict(env),
            start_new_session=True,
        )
        os.close(child)
        self.screen = ""  # all that was ever on it
        self._expected = 0  # up to where

    def expect(self, text: str) -> None:
        """Wait until the screen shows `text` after what was expected before."""
        while (found := self.screen.find(text, self._expected)) < 0:
            assert self._read(), f"{text!r} never came; the screen:\n{self.screen}"
        self._expected = found + len(text)

    def send(self, line: str) -> None:
        os.write(self._main, line.encode())

    def press(self, key: str, until: str) -> None:
        """Press `key`, and again as long as nothing comes of it: an interrupt between a prompt and the read that waits
        for its answer is not noticed before the next one."""
        while self.screen.find(until, self._expected) < 0:
            self.send(key)
            while until not in self.screen and select.select([self._main], [], [], 2)[0]:
                assert self._read(), f"{until!r} never came; the screen:\n{self.screen}"

    def finish(self) -> Ran:
        while self._read():
            pass
        out = self._process.stdout.read().decode() if self._process.stdout else ""
        status = self._process.wait(PATIENCE_S)
        self.close()
        return Ran(status, out, self.screen)

    def close(self) -> None:
        if self._main >= 0:
            self._process.kill()
            self._process.wait()
            if self._process.stdout:
                self._process.stdout.close()
            os.close(self._main)
            self._main = -1

    def _read(self) -> bool:
        """False once the program has gone."""
        ready, _, _ = select.select([self._main], [], [], PATIENCE_S)
        assert ready, f"nothing happened; the screen:\n{self.screen}"
        try:
            data = os.read(self._main, 65536)
        except OSError:  # Linux's way of saying that nobody has the other end open
            return False
        self.screen += data.decode("utf-8", "replace")
        return bool(data)


class Upstream:
    """A server for one request, which answers when the test says so."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE_S)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._connection: socket.socket | None = None
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked = threading.Event()
        self._thread.start()

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        self._connection = connection
        received = b""
        while b"\r\n\r\n" not in received:
            more = connection.recv(65536)
            if not more:
                return
            received += more
        self.asked.set()

    def send(self, data: bytes) -> None:
        assert self.asked.wait(PATIENCE_S)
        assert self._connection is not None
        self._connection.sendall(data)

    def close(self) -> None:
        with suppress(OSError):  # it was closed before
            self._listener.shutdown(socket.SHUT_RDWR)  # which wakes a thread that waits for a connection
        self._listener.close()
        self._thread.join(PATIENCE_S)
        if self._connection is not None:
            self._connection.close()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """What the program's environment is: its caches, and nothing of the user's."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TERM": "xterm",
        "LANG": "C.UTF-8",
        "HOST_CACHE_DIR": str(CACHE / "host"),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        "HOST_STATE_DIR": str(CACHE / "state"),
    }


@pytest.fixture(scope="session")
def empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with the tables in its database, and nothing in them but keys: to be copied, not used."""
    folder = fresh_state(tmp_path_factory.mktemp("empty") / "state")
    with Workspace.open(folder) as workspace, the_master_key_in_a_file(), workspace.audit_log.changing():
        return folder


@pytest.fixture
def state(environ: dict[str, str], tmp_path: Path, empty_state: Path) -> Path:
    """Where the program keeps things in this test: nothing is kept yet."""
    folder = shutil.copytree(empty_state, tmp_path / "state")
    environ["HOST_STATE_DIR"] = str(folder)
    return folder


@pytest.fixture
def tool(tmp_path: Path) -> Callable[..., Path]:
    """`tool(id="c:acme.tool", version="0.1.0", …)` is the file of a small component with that manifest."""

    def make(file: str = "tool.wasm", **fields: Any) -> Path:
        manifest = {"id": "catalyst:local.tool", "version": "0.1.0", **fields}
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(embed(wat("hostile/returns_not_json"), json.dumps(manifest).encode()))
        return path

    return make


class _Stream(io.TextIOWrapper):
    """A standard stream as the program finds it in the C.UTF-8 locale, with a pipe behind it."""

    def __init__(self, content: bytes = b"", errors: str = "surrogateescape") -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8", errors=errors, newline="\n", write_through=True)

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode("utf-8", "surrogateescape")  # type: ignore[attr-defined]


@pytest.fixture
def program(environ: dict[str, str], tmp_path: Path) -> Callable[..., Ran]:
    """`program("run", …)` is `host run …` within this process: a click of its own, but no start-up. `stdin` is what it
    reads, `env` joins its environment, which has nothing of this process's. It has to end by SystemExit."""

    def run(*arguments: object, stdin: str = "", env: Mapping[str, str] | None = None) -> Ran:
        out, err = _Stream(), _Stream(errors="backslashreplace")
        with pytest.MonkeyPatch.context() as patch:
            for name in set(os.environ) - set(environ):
                patch.delenv(name)
            for name, value in {**environ, **(env or {})}.items():
                patch.setenv(name, value)
            patch.chdir(tmp_path)
            patch.setattr(sys, "stdin", _Stream(stdin.encode()))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit) as ended:
                main([str(argument) for argument in arguments], prog_name="host")
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, out.text, err.text)

    return run


@pytest.fixture
def process(environ: dict[str, str], tmp_path: Path) -> Callable[..., Ran]:
    """The same as a process, for what only one shows: start-up, imports, a working directory, an environment that is
    read when Python starts."""

    def run(*arguments: object, stdin: str = "", env: Mapping[str, str] | None = None) -> Ran:
        done = subprocess.run(
            [str(PROGRAM), *map(str, arguments)],
            input=stdin.encode(),
            capture_output=True,
            env={**environ, **(env or {})},
            timeout=PATIENCE_S,
            cwd=tmp_path,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode())

    return run


@pytest.fixture
def started(environ: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The same, not waited for; what still runs when the test ends is ended."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(PROGRAM), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**environ, **(env or {})},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def terminal(environ: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    """`terminal("run", …)` starts `host run …` on a terminal."""
    opened: list[Terminal] = []

    def start(*arguments: object, piped: bool = False, env: Mapping[str, str] | None = None) -> Terminal:
        one = Terminal([str(argument) for argument in arguments], {**environ, **(env or {})}, piped=piped)
        opened.append(one)
        return one

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with closing(Upstream()) as one:
        yield one


@pytest.fixture
def grants(environ: dict[str, str]) -> Callable[[FakeOpenAI | Upstream], list[str]]:
    """The options that let the OpenAI catalyst reach a server of this test with `KEY`."""
    environ["OPENAI_API_KEY"] = KEY

    def options(server: FakeOpenAI | Upstream) -> list[str]:
        sent = f"https://api.openai.com={server.url}"
        return ["--upstream", sent, "--allow-domain", "api.openai.com", "--secret", "OPENAI_API_KEY"]

    return options


@pytest.fixture(scope="session")
def probe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("probe") / "probe.wasm"
    file.write_bytes(python_guest(GUESTS / "probe"))
    return file


@pytest.fixture
def guest_file(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        file = tmp_path / "guest.wasm"
        file.write_bytes(wat(f"hostile/{name}"))
        return file

    return make
