"""What a fake was asked, for a test to look at afterwards."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from typing import Any

from host.fakes import multipart
from host.fakes.messages import Request

MAX_REQUESTS = 10_000
MAX_BYTES = 256 * 1024 * 1024  # of bodies: four of the largest


class RequestLog:
    """The newest requests, within both bounds. Written by the server's thread and read by any."""

    def __init__(self, max_requests: int = MAX_REQUESTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._kept: deque[tuple[float, Request]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, request: Request) -> None:
        with self._lock:
            self._kept.append((time.time(), request))
            self._bytes += len(request.body)
            while len(self._kept) > self._max_requests or self._bytes > self._max_bytes:
                self._bytes -= len(self._kept.popleft()[1].body)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def entries(self) -> list[dict[str, Any]]:
        """Oldest first: `{"method", "path", "query", "headers", "body", "at"}`. The headers are whole, credentials
        included, because tests ask which credential arrived. `body` is None when empty, parsed JSON, a list of parts
        for multipart, else text. `at` is Unix time in seconds."""
        with self._lock:
            kept = list(self._kept)
        return [
            {
                "method": request.method,
                "path": request.path,
                "query": request.arguments,
                "headers": request.headers,
                "body": _shown(request),
                "at": at,
            }
            for at, request in kept
        ]


def _shown(request: Request) -> Any:
    if not request.body:
        return None
    try:
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            parts = multipart.parse(request.body, request.headers["content-type"])
            return [_described(part) for part in parts]
        return json.loads(request.body)
    except (ValueError, RecursionError):  # MultipartError, JSONDecodeError and UnicodeDecodeError are ValueErrors
        return request.body.decode("utf-8", "replace")


def _described(part: multipart.Part) -> dict[str, Any]:
    if part.filename is None:
        return {"name": part.name, "value": part.content.decode("utf-8", "replace")}
    return {
        "name": part.name,
        "filename": part.filename,
        "content_type": part.content_type,
        "size": len(part.content),
        "sha256": hashlib.sha256(part.content).hexdigest(),
    }
