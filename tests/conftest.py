"""What the tests share: hosts, the fake OpenAI, and real components, built once for each state of their sources.

Built components and everything the host caches live in `.cache/` of the checkout; temporary files in a folder that goes
with the run (`scratch.py`); nothing of the user's is touched.
"""

from __future__ import annotations

import base64
import fcntl
import functools
import gc
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

import httpx2
import hypothesis
import pytest
from wasmtime import wat2wasm

from host import Host
from host.component.build import build
from host.component.manifest import Manifest, embed, embedded_schemas, embedded_text
from host.component.wasm import MANIFEST_SECTION, SCHEMAS_SECTION, append_section
from host.core.names import Digest
from host.fakes import FakeOpenAI
from host.runtime.loader import _PURPOSE
from host.sandbox import CompileLimits, Loaded, Sandbox, engine
from host.sandbox.cache import CompiledCache, cache_name, seal
from host.sandbox.compiler import memory_file
from host.sandbox.pages import first_bytes
from host.store.vault import master
from host.store.vault.master import MasterKey
from tests.scratch import Scratch

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
GUESTS = ROOT / "tests" / "guests"
WHOLLY_BUILT = {"openai", "raises", "remembers"}  # with all that makes runs faster; others without, to save time
CACHE = ROOT / ".cache"
KEY = "sk-test-0123456789abcdefghijklmnop"
KEYS = {"OPENAI_API_KEY": "sk-" + "k" * 40, "OPENAI_ADMIN_KEY": "sk-admin-" + "a" * 40}
MASTER_KEY = base64.b64encode(bytes(range(32))).decode()  # of states that find compiled what another has compiled


def _component_of_the_checkout() -> ModuleType:
    """`.ci/openai.py`, which build.sh and the wheel use as well."""
    spec = importlib.util.spec_from_file_location("openai_component", ROOT / ".ci" / "openai.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OPENAI = _component_of_the_checkout()

# The same examples in every run: what fails, fails for everybody. Others are looked for with HYPOTHESIS_PROFILE=explore.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# The longest first, so that none is left for the end when all others are done.
LONGEST_FIRST = (
    "tests/e2e/test_load.py",
    "tests/cli/test_build.py",
    "tests/component/build/",
    "tests/catalyst/openai/test_component.py",
    "tests/e2e/test_foreign_guests.py",
    "tests/conformance/test_readme.py",
    "tests/e2e/",
    "tests/conformance/",
    "tests/sandbox/",
    "tests/cli/",
)

os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"  # a developer's own collects no keys of tests
os.environ["HOST_CACHE_DIR"] = str(CACHE / "host")
os.environ["HOST_STATE_DIR"] = str(CACHE / "state")

# A shell's background jobs ignore SIGINT, and their children inherit that: programs under test would never be interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


@functools.cache
def _ssl_context(**options: object) -> ssl.SSLContext:
    return httpx2.create_ssl_context(**options)  # type: ignore[arg-type]  # the caller's, as they came


# Reading 150 certificates takes longer than most tests; clients that verify the same way share them.
httpx2._transports.default.create_ssl_context = _ssl_context


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-faults", action="store_true", help="also the slow ones of tests/faults")
    parser.addoption("--whole-sdk-suite", action="store_true", help="all tests of the official SDK's resources")
    parser.addoption("--load-seconds", type=float, default=15.0, help="how long the load test lasts (default: 15)")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # which only a process of pytest-xdist has
        config.add_cleanup(Scratch().remove)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Without the garbage collector: it would walk all that is imported again and again, and free nothing."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        return next((n for n, start in enumerate(LONGEST_FIRST) if item.nodeid.startswith(start)), len(LONGEST_FIRST))

    items.sort(key=rank)


def _digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()[:20]


def _sources(*places: str) -> list[Path]:
    return [
        file
        for place in (ROOT / one for one in places)
        for file in (place.rglob("*") if place.is_dir() else [place])
        if file.is_file() and "__pycache__" not in file.parts and "node_modules" not in file.parts
    ]


def slack(seconds: float) -> float:
    """How late something may be on this machine, if it may be late by `seconds` on one with nothing else to do: twice
    as long, as another test runs beside this one, and longer by as many times as more programs want to run than there
    are processors. A hang is longer still."""
    return seconds * 2 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def late(seconds: float) -> float:
    """The same by the clock on the wall: a busy machine keeps any thread from running for some seconds, at any point."""
    return slack(seconds) + 5


def with_enough_time(attempt: Callable[[float], T], seconds: float) -> T:
    """What `attempt(seconds)` returns, a test of what happens once this time is over. What has to come before may take
    longer than that on a busy machine: where the attempt fails, it is made once more with ten times as much time, and
    with a hundred times. What is wrong fails with any."""
    for times in (1, 10):
        with suppress(Exception, pytest.fail.Exception):
            return attempt(seconds * times)
    return attempt(seconds * 100)


def cached(name: str, sources: Iterable[Path], make: Callable[[], bytes]) -> bytes:
    """What `make` returns, made once for each state of `sources`, also with several test processes."""
    place = CACHE / "components"
    place.mkdir(parents=True, exist_ok=True)
    kept = place / f"{name}-{_digest(sources)}.wasm"
    with (place / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            for old in place.glob(f"{name}-*.wasm"):
                old.unlink()
            kept.write_bytes(make())
    return kept.read_bytes()


def fresh_state(folder: Path) -> Path:
    """`folder` as a state directory in which there is nothing but the key of the tests' compiled components: they need
    not be compiled again."""
    folder.mkdir(mode=0o700)
    key = CACHE / "state" / "cache.key"
    if not key.exists():
        CompiledCache(CACHE / "host", CACHE / "state")._secret_key()  # made by its first use
    shutil.copy(key, folder / key.name)
    return folder


def wat(name: str) -> bytes:
    """The binary of a guest written in WebAssembly text."""
    return bytes(wat2wasm((GUESTS / f"{name}.wat").read_text()))


def compiled(wasm: bytes) -> bytes:
    """`wasm`, compiled where the tests' hosts look for it: with the key of their state, and with that of states whose
    master key is MASTER_KEY. A busy machine may take longer than a host would wait."""
    digest, pooling = Digest.of(wasm), engine.pool_fits()
    name = cache_name(digest, engine.fingerprint(pooling=pooling))
    places = CACHE / "host", CACHE / "state"
    shared = CompiledCache(*places, lambda: MasterKey(base64.b64decode(MASTER_KEY), "file").derived(_PURPOSE))
    if not all(cache._path(name).exists() for cache in (CompiledCache(*places), shared)):
        limits = CompileLimits(cpu_time_s=240, wall_time_s=1200.0)
        with closing(Sandbox(*places, compile_limits=limits, pooling=pooling)) as sandbox:
            _keep(shared, name, sandbox.load(wasm, digest))
    return wasm


def _keep(cache: CompiledCache, name: str, loaded: Loaded) -> None:
    with memory_file("compiled") as held:
        os.write(held, loaded.compiled.component.serialize())
        seal(held)
        cache.store(name, held)


@contextmanager
def the_master_key_in_a_file() -> Iterator[None]:
    """Inside, a new master key is MASTER_KEY: a state that is made here finds what the tests have compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(master, "secrets", SimpleNamespace(token_bytes=lambda _: base64.b64decode(MASTER_KEY)))
        yield


def keep_compiled(wasm: bytes, like: bytes) -> None:
    """Keep for `wasm` what `like` is compiled to: they are the same code, with different manifests."""
    with closing(Sandbox(CACHE / "host", CACHE / "state")) as sandbox:
        _keep(sandbox._cache, cache_name(Digest.of(wasm), sandbox._fingerprint), sandbox.load(like, Digest.of(like)))


def python_guest(folder: Path, *, quick: bool | None = None) -> bytes:
    """The component of a guest written in Python, as `host build` or `host build --quick` makes it."""
    whole = folder.name in WHOLLY_BUILT if quick is None else not quick
    name = str(folder.relative_to(ROOT)).replace("/", "-") + ("" if whole else "-quick")
    shown = str(folder.relative_to(ROOT))
    sources = _sources(shown, *OPENAI.EVERY_COMPONENT)
    return compiled(cached(name, sources, lambda: build(folder, quick=not whole, first_bytes=first_bytes)))


def javascript_guest() -> bytes:
    """The component of the guest written in JavaScript, built by npm's componentize-js."""
    folder = GUESTS / "javascript"

    def make() -> bytes:
        place = CACHE / "javascript"
        shutil.copytree(folder, place, dirs_exist_ok=True)
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"], cwd=place, check=True, capture_output=True, timeout=600
        )
        output = place / "built.wasm"
        subprocess.run(
            ["node", "build.mjs", str(ROOT / "wit"), str(output)],
            cwd=place,
            check=True,
            capture_output=True,
            timeout=600,
        )
        return output.read_bytes()

    return compiled(cached("javascript", _sources("tests/guests/javascript", "wit"), make))


def with_packages(name: str, folder: Path, *options: str) -> Path:
    """A copy of `folder` in the cache, with the npm packages that its lock file names: for tests that run Node.js."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs Node.js 20 or newer, and npm")
    place = CACHE / name
    place.mkdir(parents=True, exist_ok=True)
    lock, stamp = (folder / "package-lock.json").read_text(), place / "installed"
    with (CACHE / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        shutil.copytree(folder, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
        if not stamp.exists() or stamp.read_text() != lock:
            install = ["npm", "ci", "--no-audit", "--no-fund", *options]
            subprocess.run(install, cwd=place, check=True, capture_output=True, timeout=600)
            stamp.write_text(lock)
    return place


def without_manifest(wasm: bytes) -> bytes:
    """The component without its manifest, the schemas of its operations, and the sections that `embed` makes of the
    manifest's fields: the same bytes for the same code."""
    text, schemas = embedded_text(wasm), embedded_schemas(wasm)
    for section, content in ((MANIFEST_SECTION, text), (SCHEMAS_SECTION, schemas)):
        if content:
            wasm = wasm.removesuffix(append_section(b"", section, content))
    manifest = Manifest.parse(text) if text else Manifest()
    for section, field in (
        ("source", "source"),
        ("homepage", "homepage"),
        ("authors", "authors"),
        ("licenses", "license"),
        ("description", "description"),
        ("version", "version"),
    ):
        if value := getattr(manifest, field):
            wasm = wasm.removesuffix(append_section(b"", section, value.encode()))
    return wasm


def with_other_manifest(wasm: bytes, manifest: Mapping[str, Any]) -> bytes:
    """The component with another manifest, and with the schemas that it had."""
    return embed(without_manifest(wasm), json.dumps(manifest).encode(), embedded_schemas(wasm))


def openai_manifest() -> Manifest:
    """The manifest of the OpenAI catalyst's sources, with its operations and their schemas."""
    found = Manifest.beside(ROOT / "catalyst" / "openai")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def openai_wasm() -> bytes:
    """As `./build.sh build` has made it, if its sources are still the same; otherwise made anew."""
    if OPENAI.is_current():
        return compiled(OPENAI.COMPONENT.read_bytes())
    return python_guest(ROOT / "catalyst" / "openai")


@pytest.fixture(scope="session")
def openai_file(openai_wasm: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("dist") / "openai.wasm"
    file.write_bytes(openai_wasm)
    return file


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """One host for a test process, as one serves a real one: what a test does to it, the next one meets."""
    with Host() as one:
        yield one


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder like `tmp_path`, on the disk that has the checkout: for what must survive a process."""
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        yield Path(folder)


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(port=0) as one:
        yield one
