"""The page, its style and its modules: files of this package, served under their names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from host.errors import NotFound

PAGE: Final = "page.html"
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "form-action 'none'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",  # no text becomes HTML, whatever the modules do
    "trusted-types 'none'",
)
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "; ".join(_POLICY),
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-cache",
}


class Assets:
    """Read once, when it is made."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for file in (files(__package__) / "page").iterdir():
            kind = _TYPES.get(file.name.rpartition(".")[2])
            if kind is not None:
                content = file.read_bytes()
                self._files[file.name] = content, f"{kind}; charset=utf-8", f'"{hashlib.sha256(content).hexdigest()}"'

    def answer(self, request: Request, name: str) -> Response:
        """Raises NotFound."""
        if name not in self._files:
            raise NotFound("there is no such file")
        content, kind, tag = self._files[name]
        headers = {**HEADERS, "etag": tag, "content-type": kind}
        given = request.headers.get("if-none-match", "")
        if tag in (one.strip().removeprefix("W/") for one in given.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)
