"""The guest's side of the end of a build (host/component/build/finish.py): bytecode kept, examples rehearsed, and
objects listed.

A component cannot import it: the build takes it away.
"""

import _imp
import _io
import gc
import json
import random
import sys
from collections.abc import Iterator
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any

from componentize_py_types import Ok

runtime: Any = import_module("componentize_py_runtime")  # what the bindings call
loaders: Any = import_module("_frozen_importlib_external")
_STANDARD = "/python/"  # where componentize-py has the standard library during a build
_ROUNDS = 211  # a prime: what turns over its own few states, two hosts say, does not end where it began
_FIRST_ROUND = 1_000
_PIECE = 8_000  # bytes
_MOST_CALLS = 1_000  # of the host, for one example: a catalyst may wait for a state that no example host ever has


class _Endless(BaseException):
    """More calls of the host than a rehearsal has."""


class _Asked(BaseException):
    """The number of the function that would have been called."""


_functions: dict[int, tuple[str, str]] = {}


def keep_bytecode(sources: str, besides: set[str]) -> None:
    """Write the bytecode of every module in the folder `sources` or of the standard library, but of `besides`, where
    `sys.pycache_prefix` says. The library is without docstrings and assertions; the catalyst keeps both."""
    for name, module in [*sys.modules.items()]:
        loader: Any = getattr(module, "__loader__", None)
        origin = getattr(module, "__file__", None) or ""
        kept = isinstance(loader, loaders.SourceFileLoader) and origin.startswith((_STANDARD, sources))
        if name in besides or not kept:
            continue
        source = loader.get_data(origin)
        code = compile(source, origin, "exec", dont_inherit=True, optimize=2 if origin.startswith(_STANDARD) else 0)
        mark = _imp.source_hash(_imp.pyc_magic_number_token, source)
        loader.set_data(loaders.cache_from_source(origin), loaders._code_to_hash_pyc(code, mark, checked=False))  # noqa: SLF001


def keep_answers(run: Any, folder: str) -> None:
    """Keep what the catalyst answers to each example in the folder, with all that it asks the host for and is told."""
    _write(folder + "rehearsing", True)
    _write(folder + "answers", _answers(run, _read(folder + "examples")))
    _write(folder + "rehearsing", False)


def rehearse(run: Any, folder: str) -> None:
    """Run the examples until the interpreter knows their code. Raises AssertionError if their answers are not those
    that were kept."""
    _write(folder + "rehearsing", True)
    examples = _read(folder + "examples")
    state = random.getstate()
    for number in range(_FIRST_ROUND, _FIRST_ROUND + _ROUNDS):
        for example in examples:
            _rehearsed(run, example, number)
    random.setstate(state)
    if json.dumps(_answers(run, examples)) != json.dumps(_read(folder + "answers")):
        raise AssertionError("the examples are answered otherwise")
    random.setstate(state)
    _write(folder + "rehearsing", False)


def list_objects(path: str) -> None:
    """Write where each object is and where its type is, four bytes each, the lowest first. None comes first. Some are
    listed more than once, and some have gone when the build ends."""
    with _io.FileIO(path, "w") as file:
        listed = bytearray()
        _list(listed, None)
        for one in gc.get_objects():
            _list(listed, one)
            for part in gc.get_referents(one):
                _list(listed, part)
            if len(listed) > _PIECE:  # what is held meanwhile makes the memory larger
                file.write(listed)
                listed.clear()
        file.write(listed)


def _list(listed: bytearray, one: object) -> None:
    listed += id(one).to_bytes(4, "little") + id(type(one)).to_bytes(4, "little")
    if isinstance(one, CodeType):  # the collector does not look into it, nor into what it does not track
        names = (*one.co_varnames, *one.co_cellvars, *one.co_freevars, one.co_name, one.co_qualname, one.co_filename)
        for part in (one.co_consts, one.co_names, one.co_linetable, one.co_exceptiontable, *names):
            _list(listed, part)
    elif type(one) in (tuple, dict) and not gc.is_tracked(one):
        for part in gc.get_referents(one):
            _list(listed, part)


def _answers(run: Any, examples: list[Any]) -> list[Any]:
    return [_rehearsed(run, example, number) for number, example in enumerate(examples)]


def _read(path: str) -> Any:
    with _io.FileIO(path) as file:
        return json.loads(file.read())


def _write(path: str, value: Any) -> None:
    with _io.FileIO(path, "w") as file:
        file.write(json.dumps(value).encode())


def _rehearsed(run: Any, example: Any, number: int) -> list[Any]:
    """The calls of the host, each with its answer at the end, and the output."""
    host = _Host(number)
    before, runtime.call_import = runtime.call_import, host.call
    try:
        return [host.calls, run().run(json.dumps(example))]
    finally:
        runtime.call_import = before


def _found() -> Iterator[tuple[int, tuple[str, str]]]:
    """The number of each function that the catalyst may import, with its interface and its name."""

    def asked(index: int, _arguments: list[Any]) -> None:
        raise _Asked(index)

    before, runtime.call_import = runtime.call_import, asked
    try:
        for name, module in [*sys.modules.items()]:
            for function in [*vars(module).values()] if name.startswith("wit_world.imports.") else ():
                if isinstance(function, FunctionType) and function.__module__ == name:
                    try:
                        function(*[""] * function.__code__.co_argcount)
                    except _Asked as found:
                        yield found.args[0], (name.rpartition(".")[2], function.__name__)
    finally:
        runtime.call_import = before


class _Host:
    """The host's side of a rehearsal. Whatever a host makes anew for every run has `number` in it, so that what a
    catalyst keeps of one run is seen in the next."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls: list[Any] = []
        self.events = 0
        if not _functions:
            _functions.update(_found())

    def call(self, index: int, arguments: list[Any]) -> Any:
        if len(self.calls) >= _MOST_CALLS:
            raise _Endless(f"an example calls the host more than {_MOST_CALLS} times")
        interface, name = _functions[index]
        self.calls.append(call := [interface, name, *arguments])
        answer = getattr(self, f"{interface}_{name}")(*arguments)
        call.append(answer.value if isinstance(answer, Ok) else answer)
        return answer

    def ident(self) -> str:
        return f"{self.number:032x}"

    def headers(self, kind: str) -> dict[str, str]:
        return {"content-type": kind, "x-request-id": f"req_{self.ident()}"}

    def fetch_request(self, text: str) -> str:
        document = json.dumps({"id": self.ident(), "object": "example", "data": [], "choices": []})
        answer = {"status": 200, "headers": self.headers("application/json")}
        if json.loads(text).get("response_encoding") == "attachment":
            return json.dumps({**answer, "attachment": self.ident(), "size": len(document)})
        return json.dumps({**answer, "body": document})

    def streaming_request(self, text: str) -> str:
        self.events = 0 if json.loads(text).get("relay") else 4
        return json.dumps({"handle": self.ident(), "status": 200, "headers": self.headers("text/event-stream")})

    def streaming_read(self, _handle: str) -> str:
        self.events -= 1
        if self.events < 0:
            return '{"data": "", "done": true}'
        event = {"id": self.ident(), "choices": [{"index": 0, "delta": {"content": f"word {self.events} "}}]}
        data = f"data: {json.dumps(event)}\n\n" if self.events else "data: [DONE]\n\n"
        return json.dumps({"data": data, "done": False})

    def streaming_close(self, _handle: str) -> str:
        return '{"ok": true}'

    def read_get(self, name: str) -> Any:
        return Ok(f"{name}_{self.ident()}")

    def output_emit(self, _event: str) -> bool:
        return self.number % 2 == 0

    def config_get(self) -> str:
        return "{}"

    def log_write(self, _level: str, _message: str) -> None:
        return None

    def websocket_connect(self, _request: str) -> str:
        return '{"error": {"type": "http_error", "message": "there is no server at build time"}}'

    websocket_send = websocket_receive = websocket_close = lambda self, *_: self.websocket_connect("")
