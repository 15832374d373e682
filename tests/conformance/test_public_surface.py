"""The public surface from a user's side, on the installed wheel: importable, listed, typed, and complete.

A wheel is built once for each state of the sources and installed into a virtual environment of its own in `.cache/`,
which gets everything but `host` from the environment of the tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import host
from host.fakes import FakeOpenAI
from tests.conftest import CACHE, KEY, OPENAI, ROOT

USERS = {}
USERS["embeds"] = """
from host import Host, Policy, Secret


def models(path: str, key: str) -> int:
    with Host() as host:
        openai = host.load(
            path,
            policy=Policy(allowed_domains=["api.openai.com"], timeout="30s"),
            secrets={"OPENAI_API_KEY": Secret(key, domains=["api.openai.com"])},
        )
        result = openai.run({"operation": "models.list"})
        for event in openai.stream({"operation": "chat.completions.create", "params": {}}):
            print(event)
        return result.status if result.ok else len(result.execution.refusals)


async def later(path: str) -> bytes:
    from host import errors

    catalyst = Host().load(path)
    try:
        result = await catalyst.arun({"operation": "audio.speech"}, timeout=5.0)
        async for event in catalyst.astream({"operation": "responses.create"}):
            print(event)
    except errors.Denied as denied:
        return denied.refusals[0].remedy.encode()
    return result.content
"""
USERS["operates"] = """
from host import Installed, Reference, Workspace
from host.errors import NotFound
from host.fakes import FakeOpenAI
from host.runtime.workspace_parts import Component
from host.server import ServerSettings, create_app


def installed(name: str) -> Installed | None:
    with Workspace.open() as workspace:
        component: Component = workspace.components.resolve(Reference.parse(name))
        print(component.digest)
        create_app(ServerSettings(), workspace=workspace)
        try:
            return workspace.installed(Reference.parse(name))
        except NotFound:
            return None


with FakeOpenAI() as fake:
    url: str = fake.url
"""
USERS["asks"] = """
from openai.types.chat import ChatCompletion

from host import Catalyst, Policy
from host.openai import AsyncOpenAI, OpenAI


def answered(catalyst: Catalyst) -> str | None:
    with OpenAI(catalyst, timeout=20, max_retries=0) as client:
        whole: ChatCompletion = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}]
        )
        for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
            print(chunk.choices[0].delta.content)
        for file in client.with_options(timeout=5).files.list():
            print(file.filename)
    return whole.choices[0].message.content


async def later() -> int:
    async with AsyncOpenAI(policy=Policy(allowed_domains=["api.openai.com"]), secrets={"OPENAI_API_KEY": "sk"}) as client:
        async with client.realtime.connect(model="gpt-realtime") as connection:
            await connection.response.create()
        return len((await client.models.list()).data)
"""
USERS["asks_wrongly"] = """
from host.openai import OpenAI

OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "nobody"}])
"""
USERS["writes"] = """
from catalyst.sdk import Call, Invalid, http, run, secrets
from wit_world.imports import log


def weather(document: dict[str, object]) -> dict[str, object]:
    if not isinstance(city := document.get("city"), str):
        raise Invalid("city", "city is required")
    log.write("info", city)
    answer = http.request("GET", "https://a.test" + http.path("/{city}", city=city), headers={"X-Key": secrets.get("K")})
    return {"status": answer.status, "data": answer.json()}


Run = run(weather)
"""
USERS["mistaken"] = "from host import Host\nHost().load('x').run({}).status + ''\n"
USERS["miswritten"] = "from wit_world.imports import log\nlog.write('info')\n"
USERS["misspelt"] = "from host import Hots\n"
USERS["looked_up"] = "import host\nhost.Hots\n"


@pytest.fixture(scope="session")
def python(openai_wasm: bytes) -> Path:
    """The interpreter of an environment in which the wheel is installed."""
    place = CACHE / "wheel"
    place.mkdir(parents=True, exist_ok=True)
    made = place / _digest_of_sources()
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            if not OPENAI.is_current():
                OPENAI.keep(openai_wasm)  # which the wheel would build otherwise
            for old in place.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            _install(place / "new")
            (place / "new").rename(made)
    return made / "bin" / "python"


def _digest_of_sources() -> str:
    total = hashlib.sha256(Path(sys.prefix).as_posix().encode())
    folders = (file for folder in ("host", "wit", "catalyst", ".ci", ".github") for file in (ROOT / folder).rglob("*"))
    for file in sorted((ROOT / "pyproject.toml", ROOT / "CHANGELOG.md", ROOT / "constraints.txt", *folders)):
        if file.is_file() and "__pycache__" not in file.parts:
            total.update(f"{file}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return total.hexdigest()[:20]


def _install(into: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--no-build-isolation", "--no-index", "--wheel-dir", into, ROOT),
        ],
        check=True,
        timeout=300,
    )
    venv.create(into, symlinks=True)
    [site] = into.glob("lib/python*/site-packages")
    [wheel] = into.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # whose own .pth files do not count


def run(python: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MYPY"))}
    command = [python, *arguments]
    return subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="session")
def findings(python: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What mypy says of the users' files. It runs here, and reads the packages of the other environment."""
    folder = tmp_path_factory.mktemp("user")
    for name, source in USERS.items():
        (folder / f"{name}.py").write_text(source)
    cache, ours = CACHE / "mypy-wheel", ROOT / ".mypy_cache"
    options = ["--strict", "--cache-dir", cache, "--python-executable", python]
    with (CACHE / "mypy-wheel.lock").open("w") as lock:  # what one process has read, the other need not
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cache.exists() and ours.exists():  # files with the same content are not read again, wherever they are
            shutil.copytree(ours, cache)
        done = run(Path(sys.executable), "-m", "mypy", *options, *(f"{name}.py" for name in USERS), cwd=folder)
    assert f"(checked {len(USERS)} source files)" in done.stdout, done.stdout + done.stderr
    return done.stdout


def test_the_names_are_literal_and_sorted() -> None:
    assert host.__all__ == sorted(host.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'host' has no attribute 'Hosts'"):
        host.Hosts  # type: ignore[attr-defined]  # noqa: B018 - the access is the test


def test_what_is_installed_is_the_wheel_and_every_public_name_can_be_listed_and_imported(
    python: Path, tmp_path: Path
) -> None:
    script = (
        "import host, pathlib; print(pathlib.Path(host.__file__).parent)\n"
        "assert set(host.__all__) <= set(dir(host)), 'dir(host) lacks names'\n"
        "from host import *\n"
        "assert all(globals()[name] is getattr(host, name) for name in host.__all__)\n"
        "assert host.errors.HostError and host.__version__\n"
        "from host.server import ServerSettings, create_app; from host.fakes import FakeOpenAI\n"
    )
    done = run(python, "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(python.parents[1])


def test_a_user_of_the_wheel_alone_runs_the_openai_catalyst(python: Path, fake: FakeOpenAI, tmp_path: Path) -> None:
    """By its name, which no file of the folder can take."""
    (tmp_path / "openai").write_text("not a component")
    granted = ["--allow-domain", "api.openai.com", "--upstream", f"https://api.openai.com={fake.url}"]
    secret = ["--secret", f"OPENAI_API_KEY=file:{tmp_path / 'key'}"]
    (tmp_path / "key").write_text(KEY)
    asked = ["--input", '{"operation": "models.list"}', "--no-prompt"]
    done = run(python, "-m", "host", "run", "openai", *granted, *secret, *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"]["object"] == "list"
    assert len(fake.requests) == 1


def test_a_user_of_the_wheel_alone_has_the_sources_and_their_readme(python: Path, tmp_path: Path) -> None:
    script = (
        "import pathlib, catalyst, catalyst.sdk; place = pathlib.Path(catalyst.__file__).parent\n"
        "names = ('README.md', 'py.typed', 'openai/app.py', 'openai/manifest.json', 'sdk/sse.py')\n"
        "print(place.parent.name, *(name for name in names if not (place / name).is_file()))"
    )
    done = run(python, "-c", script, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("site-packages\n", "")


def test_a_user_of_the_wheel_alone_has_every_document_and_example(python: Path, tmp_path: Path) -> None:
    listed = run(python, "-m", "host", "docs", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "not in this installation" not in listed.stdout
    one = run(python, "-m", "host", "docs", "server.toml", cwd=tmp_path)
    assert one.stdout == (ROOT / "host" / "examples" / "server.toml").read_text()


def test_the_wheel_says_what_it_needs_and_what_it_contains(python: Path) -> None:
    """In `.dist-info` (PEP 770): the declared dependencies, and the component with its own parts and notices."""
    [information] = python.parents[1].glob("lib/python*/site-packages/catalyst_host-*.dist-info")
    [file] = (information / "sboms").iterdir()
    document = json.loads(file.read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["version"] == host.__version__
    parts = {part["name"]: part for part in document["components"]}
    pinned = (ROOT / "constraints.txt").read_text()
    assert f"wasmtime=={parts['wasmtime']['version']}" in pinned
    assert parts["wasmtime"]["purl"] == f"pkg:pypi/wasmtime@{parts['wasmtime']['version']}"
    assert (parts["wasmtime"]["scope"], parts["uvicorn"]["scope"]) == ("required", "optional")
    assert "pytest" not in parts
    wasm = information.parent / "host" / "_guest" / "dist" / "openai.wasm"
    assert parts["local.openai"]["hashes"] == [
        {"alg": "SHA-256", "content": hashlib.sha256(wasm.read_bytes()).hexdigest()}
    ]
    assert "cpython" in {part["name"] for part in parts["local.openai"]["components"]}
    nested = [part["bom-ref"] for part in parts["local.openai"]["components"]]
    references = [*(part["bom-ref"] for part in document["components"]), *nested]
    assert len(set(references)) == len(references)
    assert "Python Software Foundation" in (information / "licenses" / "catalyst" / "NOTICE").read_text()


def test_an_author_tests_a_catalyst_without_a_sandbox(python: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(USERS["writes"])
    test = (
        "import app, json\n"
        "from wit_world.imports import fetch, log, read\n"
        "log.write = lambda level, message: None\n"
        "read.get = lambda name: 'the key'\n"
        "fetch.request = lambda asked: json.dumps({'status': 200, 'headers': {}, 'body': '{\"degrees\": 21}'})\n"
        'print(app.Run().run(\'{"city": "Oslo"}\'))'
    )
    done = run(python, "-c", test, cwd=tmp_path)
    assert json.loads(done.stdout) == {"status": 200, "data": {"degrees": 21}}, done.stderr


def test_the_names_of_the_list_are_those_that_are_imported_for_type_checkers(python: Path, tmp_path: Path) -> None:
    named = "import host.runtime.public as public, host; print(*(n for n in vars(public) if n[0] != '_'), 'Installed', "
    done = run(python, "-c", f"{named}'Workspace')", cwd=tmp_path)
    assert set(done.stdout.split()) == set(host.__all__), done.stderr


def test_every_type_in_a_public_signature_is_public(python: Path, tmp_path: Path) -> None:
    done = run(python, ROOT / "tests" / "conformance" / "signatures.py", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("", 0), done.stdout + done.stderr


@pytest.mark.parametrize("name", ["asks", "embeds", "operates", "writes"])
def test_a_users_file_passes_the_strict_check(findings: str, name: str) -> None:
    assert [line for line in findings.splitlines() if line.startswith(f"{name}.py")] == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("mistaken", "Unsupported operand types", id="the types are there"),
        pytest.param(
            "miswritten", 'Missing positional argument "message"', id="the world of a guest has its types too"
        ),
        pytest.param("asks_wrongly", "TypedDict item", id="the types of the official SDK are there"),
        pytest.param("misspelt", 'Module "host" has no attribute "Hots"', id="a name that is misspelt"),
        pytest.param("looked_up", 'Module has no attribute "Hots"', id="a misspelt name that is looked up"),
    ],
)
def test_a_mistake_in_a_users_file_is_found(findings: str, name: str, said: str) -> None:
    [found] = [line for line in findings.splitlines() if line.startswith(f"{name}.py")]
    assert said in found


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("Policy(allowed_domains=['a.test'])", "Policy(allowed_domains=['a.test'])"),
        ("Policy()", "Policy()"),
        ("Reference.parse('c:local.openai:0.1.0')", "Reference('c:local.openai:0.1.0')"),
        ('Manifest.parse(\'{"id": "catalyst:local.x", "version": "0.1.0"}\')', "<Manifest c:local.x:0.1.0>"),
        ("Manifest.parse('{}')", "<Manifest>"),
        ("errors.InputError('no', field='a.b', hint='do')", "InputError('no', hint='do', field='a.b')"),
        ("Secret('sk-123')", "Secret(domains=None, reveal=False, places=('header',))"),
    ],
)
def test_a_repr_says_what_an_object_is(expression: str, shown: str) -> None:
    assert repr(eval(expression, {name: getattr(host, name) for name in host.__all__})) == shown
