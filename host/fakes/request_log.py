"""The log of the requests to a fake, for the assertions of tests."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from typing import Any

from host.fakes.messages import FakeRequest, Part, parse_multipart

_MAX_REQUESTS = 10_000
_MAX_BYTES = 256 * 1024 * 1024  # of bodies: four of the largest


class RequestLog:
    """The newest requests, within both limits. The server's thread writes, any thread reads."""

    def __init__(self, max_requests: int = _MAX_REQUESTS, max_bytes: int = _MAX_BYTES) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._requests: deque[tuple[float, FakeRequest]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, request: FakeRequest) -> None:
        with self._lock:
            self._requests.append((time.time(), request))
            self._bytes += len(request.body)
            while len(self._requests) > self._max_requests or self._bytes > self._max_bytes:
                self._bytes -= len(self._requests.popleft()[1].body)

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()
            self._bytes = 0

    def entries(self) -> list[dict[str, Any]]:
        """Returns the requests, oldest first, each as `{"method", "path", "query", "headers", "body", "at"}`.

        The headers include credentials, for tests of them. `body` is None if empty, parsed JSON, a list of parts for
        multipart, else text. `at` is Unix time in seconds.
        """
        with self._lock:
            requests = list(self._requests)
        return [
            {
                "method": request.method,
                "path": request.path,
                "query": request.arguments,
                "headers": request.headers,
                "body": _body(request),
                "at": at,
            }
            for at, request in requests
        ]


def _body(request: FakeRequest) -> Any:
    if not request.body:
        return None
    try:
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            parts = parse_multipart(request.body, request.headers["content-type"])
            return [_describe(part) for part in parts]
        return json.loads(request.body)
    except (ValueError, RecursionError):  # MultipartError, JSONDecodeError and UnicodeDecodeError are ValueErrors
        return request.body.decode("utf-8", "replace")


def _describe(part: Part) -> dict[str, Any]:
    if part.filename is None:
        return {"name": part.name, "value": part.content.decode("utf-8", "replace")}
    return {
        "name": part.name,
        "filename": part.filename,
        "content_type": part.content_type,
        "size": len(part.content),
        "sha256": hashlib.sha256(part.content).hexdigest(),
    }
