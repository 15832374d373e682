"""The entry point: makes a function the component's exported `run`.

`Run = run(function)` for a function of the input's JSON object; `Run = run_operations(function)` for a function of a
Call, the operation envelope of wit/README.md. componentize-py looks for the name `Run` in the entry module.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import dumps, loads
from math import isfinite
from typing import Any, NamedTuple, NoReturn

from wit_world import exports

from catalyst.sdk import log, surroundings
from catalyst.sdk.errors import CatalystError, Invalid

_OUT_OF_MEMORY = '{"exception":"MemoryError","message":"the sandbox ran out of memory","traceback":""}'
_LEVELS = 200  # of an output; a host reads no more
_CAUSES_SHOWN = 4  # exceptions, including the one that ended the run
_FRAMES_SHOWN = 8  # of each end of a traceback
_TEXT_SHOWN = 1000  # characters of an exception's message

_reserve = [bytes(256 * 1024)]  # freed when memory runs out, so that the log message fits


class Call(NamedTuple):
    """An operation with the parameters of its caller; and, where the manifest's `passes` asks for them, parts of the
    caller's request as they came.

    `query`: the text of its query, without `?`. `headers`: the headers to send on, with names in lower case. `body`:
    `{"$attachment": id}` for the text of its JSON body; `params` are brief then: lists and objects in them are empty,
    and long texts cut. `sizes` has the size of each attachment in `params`, where the host says it.
    """

    operation: str
    params: dict[str, Any]
    stream: bool
    query: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    body: dict[str, str] | None = None
    sizes: dict[str, int] = {}  # noqa: RUF012 - never changed

    @classmethod
    def parse(cls, document: dict[str, Any]) -> "Call":
        """Raises Invalid for the field that is missing or wrong."""
        if "operation" not in document:
            raise Invalid("operation", "operation is required")
        operation = document["operation"]
        if not isinstance(operation, str):
            raise Invalid("operation", "operation must be a string")
        params = document.get("params", {})
        if not isinstance(params, dict):
            raise Invalid("params", "params must be an object")
        stream = document.get("stream", False)
        if not isinstance(stream, bool):
            raise Invalid("stream", "stream must be true or false")
        query, headers, body = document.get("query", ""), document.get("headers", {}), document.get("body")
        if not isinstance(query, str):
            raise Invalid("query", "query must be a string")
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            raise Invalid("headers", "headers must be an object of strings")
        if body is not None and not (isinstance(body, dict) and isinstance(body.get("$attachment"), str)):
            raise Invalid("body", 'body must be {"$attachment": id}')
        headers = {name.lower(): value for name, value in headers.items()}
        return cls(operation, params, stream, query, headers, body, _sizes(document.get("attachments")))


def run(function: Callable[[dict[str, Any]], Any]) -> type[exports.Run]:
    """Returns the class to export for `function`, which takes the input's JSON object and returns the output's value.

    Input that is no JSON object gives status 400. A CatalystError from the function becomes the result. Any other
    exception is logged as one `fatal` message `{"exception", "message", "traceback"}` and ends the sandbox in a trap.
    """

    class Run(exports.Run):
        def run(self, input: str) -> str:  # noqa: A002 - the contract's name
            try:
                with _imports_refused():
                    return _written(_answer(function, input))
            except BaseException as error:
                surroundings.end()
                log.write("fatal", _fatal_message(error))
                sys.stderr = None  # the interpreter would print the same once more, into the log
                raise
            finally:
                surroundings.end()

    return Run


def run_operations(function: Callable[[Call], Any]) -> type[exports.Run]:
    """`run` for a function of a Call. Input that is no operation gives status 400."""
    return run(lambda document: function(Call.parse(document)))


def _sizes(given: Any) -> dict[str, int]:
    told = given.items() if isinstance(given, dict) else ()
    return {ident: one["size"] for ident, one in told if isinstance(one, dict) and isinstance(one.get("size"), int)}


class _NoImport:
    """The only finder in `sys.meta_path` during a run. The usual ones would look for files and so end the sandbox."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> NoReturn:
        del path, target
        raise ImportError(
            f"{name} is not there: import it at the top of a module, which happens at build time", name=name
        )


@contextmanager
def _imports_refused() -> Iterator[None]:
    finders = sys.meta_path[:]
    sys.meta_path[:] = [_NoImport]
    try:
        yield
    finally:
        sys.meta_path[:] = finders


def _answer(function: Callable[[dict[str, Any]], Any], text: str) -> Any:
    try:
        return function(_parsed(text))
    except CatalystError as error:
        return error.as_result()


def _written(output: Any) -> str:
    """Raises ValueError or TypeError for what JSON has no way to write, with the place of it."""
    try:
        return dumps(output, allow_nan=False)
    except (ValueError, TypeError) as error:
        if (place := unwritable(output)) is None:
            raise
        raise type(error)(f"the output is not JSON: {place}") from None


def unwritable(value: Any, path: str = "the output", levels: int = _LEVELS) -> str | None:
    """Where the first value is that JSON has no way to write: NaN, infinity, an object of another type."""
    if value is None or isinstance(value, str | int):
        return None
    if isinstance(value, float):
        return None if isfinite(value) else f"{path} is {value}"
    if isinstance(value, list | tuple | dict):
        if levels == 0:
            return f"{path} is nested more than {_LEVELS} levels deep, or in itself"
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in entries:
            if not isinstance(name, str | int | float | None):
                return f"a name in {path} is of type {type(name).__name__}"
            place = f"{path}.{name}" if isinstance(value, dict) else f"{path}[{name}]"
            if (found := unwritable(inner, place, levels - 1)) is not None:
                return found
        return None
    return f"{path} is of type {type(value).__name__}"


def _parsed(text: str) -> dict[str, Any]:
    try:
        document = loads(text)
    except ValueError as error:
        raise Invalid("input", f"the input is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Invalid("input", "the input must be a JSON object")
    return document


def _fatal_message(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        _reserve.clear()
        return _OUT_OF_MEMORY
    words = {"exception": type(error).__name__, "message": str(error)[:_TEXT_SHOWN], "traceback": _traceback(error)}
    return dumps(words)


def _traceback(error: BaseException) -> str:
    """Most recent call last and causes first, like Python's, but without source lines: a sandbox has no files."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < _CAUSES_SHOWN:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\nwhich led to\n".join(map(_frames, reversed(chain)))


def _frames(error: BaseException) -> str:
    lines = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {trace.tb_lineno}, in {code.co_name}')
        trace = trace.tb_next
    if len(lines) > 2 * _FRAMES_SHOWN:
        left_out = f"  … {len(lines) - 2 * _FRAMES_SHOWN} frames …"
        lines = [*lines[:_FRAMES_SHOWN], left_out, *lines[-_FRAMES_SHOWN:]]
    return "\n".join([*lines, f"{type(error).__name__}: {str(error)[:_TEXT_SHOWN]}"])
