"""Errors that are the host's and the official SDK's at once: handlers of both kinds catch them.

An error status is the SDK's class for it (`openai.RateLimitError`) and OperationFailed. An error of the host keeps its
class (Denied, DeadlineExceeded), and is an `openai.OpenAIError`; one about time is an `openai.APITimeoutError`.
"""

from __future__ import annotations

from typing import Any

import httpx2
import openai

from host.core.operation import Result
from host.errors import Busy, CircuitOpen, DeadlineExceeded, HostError, OperationFailed, TokenUnavailable


def of_host(error: HostError, request: httpx2.Request | None = None) -> HostError:
    """The same error, as one of the SDK too. `request` is the one that it ended."""
    if isinstance(error, openai.OpenAIError):
        return error
    theirs: type[openai.OpenAIError] = openai.OpenAIError
    if request is not None and isinstance(error, DeadlineExceeded):
        theirs = openai.APITimeoutError
    elif request is not None and isinstance(error, OperationFailed):  # in the middle of a stream
        theirs = openai.APIError
    elif request is not None and isinstance(error, CircuitOpen | TokenUnavailable | Busy):
        theirs = openai.APIConnectionError
    error.__class__ = _joined(type(error), theirs)
    if issubclass(theirs, openai.APIError):
        vars(error).update(request=request, body=None, param=None, type=error.code)
    return error


def of_status(error: openai.APIStatusError, result: Result) -> openai.APIStatusError:
    """The same error, as an OperationFailed too."""
    error.__class__ = _joined(type(error), OperationFailed)
    vars(error).update(result=result, hint=None, execution=result.execution)
    return error


_known: dict[tuple[object, object], type[Any]] = {}


def _joined(first: type[Any], second: type[Any]) -> type[Any]:
    """The class below both, with the name of the first."""
    if issubclass(first, second):
        return first

    def reduced(self: Exception) -> tuple[Any, ...]:
        return _made, (first, second, self.args), vars(self).copy()

    if (found := _known.get((first, second))) is not None:
        return found
    shown: dict[str, Any] = {"__module__": first.__module__, "__doc__": first.__doc__, "__reduce__": reduced}
    if not issubclass(first, HostError):
        shown["__repr__"] = Exception.__repr__
    return _known.setdefault((first, second), type(first.__name__, (first, second), shown))


def _made(first: type[Exception], second: type[Exception], args: tuple[Any, ...]) -> Exception:
    kind = _joined(first, second)
    made: Exception = kind.__new__(kind, *args)
    return made
