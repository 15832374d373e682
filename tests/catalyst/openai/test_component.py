"""The OpenAI catalyst as the component that it is shipped as."""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from wasmtime import Store, WasmtimeError
from wasmtime.component import FuncType, Linker, String, Variant

from host.component.wasm import read_outline
from host.core.names import Digest
from host.sandbox import Sandbox
from tests.conftest import CACHE as SHARED

ROOT = Path(__file__).parents[3]
CACHE = ROOT / ".cache" / "guests"
MANIFEST = ROOT / "catalyst" / "openai" / "manifest.json"
IMPORT_OF = {  # by its name in a manifest
    "http": "cyfr:http/fetch@0.1.0",
    "streaming": "cyfr:http/streaming@0.1.0",
    "secrets": "cyfr:secrets/read@0.1.0",
    "output": "catalyst:host/output@0.1.0",
    "config": "catalyst:host/config@0.1.0",
    "log": "catalyst:host/log@0.1.0",
    "websocket": "catalyst:host/websocket@0.1.0",
}


def build(world):
    """The component for `world`, built once per content of its sources."""
    declared = [MANIFEST, MANIFEST.with_name("operations.json")]
    sources = sorted([*ROOT.glob("wit/**/*.wit"), *ROOT.glob("catalyst/**/*.py"), *declared])
    digest = hashlib.sha256(world.encode())
    for source in sources:
        digest.update(f"{source.relative_to(ROOT)}\0{source.read_text()}\0".encode())
    built = CACHE / f"openai-{world}-{digest.hexdigest()[:16]}.wasm"
    if not built.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            stage = Path(folder)
            shutil.copytree(ROOT / "catalyst" / "sdk", stage / "catalyst" / "sdk")
            shutil.copy(ROOT / "catalyst" / "__init__.py", stage / "catalyst")
            for file in (*MANIFEST.parent.glob("*.py"), *declared):
                shutil.copy(file, stage)
            command = [str(Path(sys.executable).with_name("componentize-py")), "-q", "-d", "wit", "-w", world]
            command += ["componentize", "--stub-wasi", "app", "-p", folder, "-o", f"{folder}/built.wasm"]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            (stage / "built.wasm").rename(built)
    return built


@pytest.fixture(scope="module")
def sandbox():
    """One that has compiled the component for other tests already."""
    with closing(Sandbox(SHARED / "host", SHARED / "state")) as one:
        yield one


@pytest.fixture(scope="module")
def engine(sandbox):
    return sandbox.lanes.narrow


@pytest.fixture(scope="module")
def component(sandbox, openai_wasm):
    return sandbox.load(openai_wasm, Digest.of(openai_wasm)).compiled.component


@pytest.fixture
def run(engine, component, world):
    """Runs the component against the scripted world, in a fresh instance."""
    secret = world.functions("read").pop("get")
    linker = Linker(engine)
    with linker.root() as root:
        for name in IMPORT_OF.values():
            functions = world.functions(name.partition("/")[2].partition("@")[0])
            if name == IMPORT_OF["secrets"]:
                functions = {"get": lambda name: Variant("ok", secret(name))}
            with root.add_instance(name) as instance:
                for function, act in functions.items():
                    instance.add_func(function, lambda _, *given, act=act: act(*given))

    def run_once(document):
        store = Store(engine)
        store.set_epoch_deadline(1 << 32)  # never: nothing advances it
        instance = linker.instantiate(store, component)
        exported = instance.get_export_index(store, "cyfr:catalyst/run@0.1.0")
        function = instance.get_func(store, instance.get_export_index(store, "run", exported))
        return json.loads(function(store, json.dumps(document)))

    return run_once


def test_it_imports_what_its_manifest_asks_for_and_nothing_else(engine, component):
    manifest = json.loads((ROOT / "catalyst" / "openai" / "manifest.json").read_text())
    asked = {IMPORT_OF[name] for name, wanted in manifest["wasi"].items() if wanted}
    assert set(component.type.imports(engine)) == asked


def test_it_exports_the_run_of_the_contract(engine, component):
    exported = component.type.exports(engine)["cyfr:catalyst/run@0.1.0"].ty.exports(engine)
    assert set(exported) == {"run"}
    function = exported["run"].ty
    assert isinstance(function, FuncType)
    assert function.params == [("input", String())]
    assert function.result == String()


def test_the_same_source_makes_a_component_for_cyfr():
    made = read_outline(build("cyfr").read_bytes())
    assert "cyfr:catalyst/run@0.1.0" in made.exports
    assert set(made.imports) == {name for name in IMPORT_OF.values() if name.startswith("cyfr:")}


def test_it_answers_in_the_sandbox(run, world):
    world.answer_attached()
    assert run({"operation": "models.list"}) == {"status": 200, "data": {"$json": "att-1"}}
    assert world.requests[0]["headers"]["Authorization"] == "Bearer placeholder-1"


def test_it_streams_in_the_sandbox(run, world, sse):
    world.listeners = 9
    world.stream(sse({"choices": [{"delta": {"content": "Hi 🐈"}}]}))
    params = {"model": "m", "messages": []}
    result = run({"operation": "chat.completions.create", "params": params, "stream": True})
    assert result == {"status": 200, "data": {"chunks": [], "combined_text": "Hi 🐈", "texts": ["Hi 🐈"]}}
    assert world.closed == ["h1"]


def test_it_refuses_in_the_sandbox(run):
    result = run({"operation": "models.lits"})
    assert (result["status"], result["error"]["param"]) == (400, "operation")
    assert "models.list" in result["error"]["message"]


def test_it_says_why_before_it_traps(run, world):
    world.answers = [{"status": "not", "headers": "a response"}]
    with pytest.raises(WasmtimeError):
        run({"operation": "models.list"})
    [(level, message)] = world.logged
    assert level == "fatal"
    words = json.loads(message)
    assert words["exception"] == "TypeError"
    assert "catalyst/sdk/" in words["traceback"]
