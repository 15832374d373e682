"""JSON-RPC messages as clients send them (jsonrpc.org/specification), read before the SDK sees them: it passes over in
silence, or refuses without an id, what a client waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcp_types import INVALID_PARAMS, INVALID_REQUEST

from host.core.strict_json import Json, kind_of

CANCELLED = "notifications/cancelled"


@dataclass(frozen=True, slots=True)
class RpcMessage:
    """A message that the SDK reads. `ident` is its id, None for a notification; `method` is empty for an answer;
    `changed` says that an id in it was written in another way."""

    value: dict[str, Any]
    ident: str | int | None
    method: str
    changed: bool = False

    @property
    def cancels(self) -> str | int | None:
        """The id of the request that it cancels."""
        return _plain_id((self.value.get("params") or {}).get("requestId")) if self.method == CANCELLED else None


@dataclass(frozen=True, slots=True)
class RpcRefusal:
    """The answer to what is no message."""

    code: int
    text: str
    ident: str | int | None = None

    def body(self) -> dict[str, Json]:
        return {"jsonrpc": "2.0", "id": self.ident, "error": {"code": self.code, "message": self.text}}


def read_message(value: Json) -> RpcMessage | RpcRefusal:
    """The message in `value`. An id that is a whole number written as a fraction (`1.0`) becomes that number."""
    if not isinstance(value, dict):
        return RpcRefusal(INVALID_REQUEST, f"the message is a JSON {kind_of(value)}, not an object")
    ident = _plain_id(value.get("id"))
    if "id" in value and ident is None:
        return RpcRefusal(INVALID_REQUEST, f"id is a JSON {kind_of(value['id'])}, not a string or a whole number")
    if value.get("jsonrpc") != "2.0":
        return RpcRefusal(INVALID_REQUEST, 'jsonrpc is missing, or is not "2.0"', ident)
    changed = isinstance(value.get("id"), float)
    value = {**value, "id": ident} if changed else value
    method = value.get("method")
    if "method" not in value and ident is not None and ("result" in value) != ("error" in value):
        return RpcMessage(value, ident, "", changed)
    if not isinstance(method, str):
        return RpcRefusal(INVALID_REQUEST, "method is missing, or is not a string", ident)
    params = value.get("params")
    if params is not None and not isinstance(params, dict):
        return RpcRefusal(INVALID_PARAMS, f"params is a JSON {kind_of(params)}, not an object", ident)
    if method == CANCELLED and isinstance(given := (params or {}).get("requestId"), float):
        changed, value = True, {**value, "params": {**(params or {}), "requestId": _plain_id(given)}}
    return RpcMessage(value, ident, method, changed)


def _plain_id(given: Json) -> str | int | None:
    if isinstance(given, float) and given.is_integer():
        return int(given)
    return given if isinstance(given, str | int) and not isinstance(given, bool) else None
