"""Guest code under plain CPython: a scripted host stands where componentize-py puts the WIT bindings."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
INTERFACES = ("fetch", "streaming", "read", "output", "config", "log", "websocket")
GUEST = frozenset(
    {"catalyst", "app", "operations", "realtime", "servers", "helpers", "catalog", "webhooks"}
    | {"wit_world", "componentize_py_types"}
)


class Refused(Exception):
    """What componentize-py raises for the `err` of a result."""

    def __init__(self, value):
        super().__init__(value)
        self.value = value


class World:
    """The host's side of the contract, scripted: what it shall answer goes in, what it was asked is kept."""

    def __init__(self):
        self.requests = []
        self.streams = []
        self.closed = []
        self.emitted = []
        self.logged = []
        self.secrets = {"OPENAI_API_KEY": "placeholder-1"}
        self.settings = {}
        self.listeners = 0  # how many events are delivered before nobody listens any more
        self.answers = []
        self.opened = {"handle": "h1", "status": 200, "headers": {}}
        self.reads = []
        self.connected = []
        self.connection = {"handle": "w1", "subprotocol": "", "headers": {}, "relay": True}
        self.sent = []
        self.received = []

    def answer(self, body="{}", status=200, **more):
        self.answers.append({"status": status, "headers": {}, "body": body, **more})

    def answer_attached(self, size=2, content_type="application/json"):
        headers = {"content-type": content_type}
        self.answers.append({"status": 200, "headers": headers, "attachment": "att-1", "size": size})

    def stream(self, *pieces, **opened):
        self.opened = {**self.opened, **opened}
        self.reads = [*({"data": piece, "done": False} for piece in pieces), {"data": "", "done": True}]

    def functions(self, interface):
        return {
            "fetch": {"request": self._fetch},
            "streaming": {"request": self._open, "read": self._read, "close": self._close},
            "read": {"get": self._secret},
            "output": {"emit": self._emit},
            "config": {"get": lambda: json.dumps(self.settings)},
            "websocket": {
                "connect": self._connect,
                "send": lambda handle, text: self.sent.append(json.loads(text)) or '{"ok": true}',
                "receive": lambda handle, timeout_ms: json.dumps(self.received.pop(0)),
                "close": self._close,
            },
            "log": {"write": lambda level, message: self.logged.append((level, message))},
        }[interface]

    def _fetch(self, text):
        self.requests.append(json.loads(text))
        return json.dumps(self.answers.pop(0))

    def _open(self, text):
        self.streams.append(json.loads(text))
        return json.dumps(self.opened)

    def _read(self, handle):
        assert handle == self.opened["handle"]
        return json.dumps(self.reads.pop(0))

    def _close(self, handle):
        self.closed.append(handle)
        return '{"ok": true}'

    def _connect(self, text):
        self.connected.append(json.loads(text))
        return json.dumps(self.connection)

    def _secret(self, name):
        if name not in self.secrets:
            raise Refused(f"access-denied: {name} not granted to c:local.openai:0.1.0")
        return self.secrets[name]

    def _emit(self, text):
        if len(self.emitted) >= self.listeners:
            return False
        self.emitted.append(json.loads(text))
        return True


def _bindings(world, interfaces):
    package, imports, exports = (ModuleType(f"wit_world{rest}") for rest in ("", ".imports", ".exports"))
    package.__path__ = imports.__path__ = []
    package.imports, package.exports = imports, exports
    exports.Run = type("Run", (), {})
    types = ModuleType("componentize_py_types")
    types.Err = Refused
    modules = {m.__name__: m for m in (package, imports, exports, types)}
    for interface in interfaces:
        module = ModuleType(f"wit_world.imports.{interface}")
        vars(module).update(world.functions(interface))
        modules[module.__name__] = module
    return modules


def _forget():
    for module in [m for m in sys.modules if m.partition(".")[0] in GUEST]:
        del sys.modules[module]


@pytest.fixture
def world():
    return World()


@pytest.fixture
def guest(world, monkeypatch):
    """`guest(name)` imports a module of the guest as its build would; `guest(name, interfaces)` for a manifest that
    asks for those interfaces only."""

    def load(name="app", interfaces=INTERFACES):
        _forget()
        for module, binding in _bindings(world, interfaces).items():
            sys.modules[module] = binding
        for folder in (ROOT, ROOT / "catalyst" / "openai"):
            monkeypatch.syspath_prepend(folder)
        return importlib.import_module(name)

    yield load
    _forget()


@pytest.fixture
def call(guest):
    """`call(operation, params, stream)` runs the OpenAI catalyst and parses what it returns."""

    def run(operation, params=None, *, stream=None, interfaces=INTERFACES):
        document = {"operation": operation}
        if params is not None:
            document["params"] = params
        if stream is not None:
            document["stream"] = stream
        return json.loads(guest("app", interfaces).Run().run(json.dumps(document)))

    return run


@pytest.fixture
def sse():
    """`sse(event, …)`: the events as an upstream writes them, ended by `[DONE]`."""

    def written(*events, end="data: [DONE]\n\n"):
        return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + end

    return written
