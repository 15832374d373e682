"""Which session answers which path, and who may open it.

A key comes in `Authorization`, or, from a browser, in the subprotocol `openai-insecure-api-key.KEY` beside `realtime`.
Every key is accepted but an ephemeral one (`ek_…`) that the fake did not issue; those open sessions of /v1/realtime
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote

from host.fakes.messages import FakeRequest, FakeResponse
from host.fakes.openai import errors
from host.fakes.openai.call import FakeState
from host.fakes.openai.faults import Fault
from host.fakes.openai.realtime import settings
from host.fakes.openai.realtime.events import encoded
from host.fakes.openai.realtime.live import LiveSession
from host.fakes.openai.realtime.responses import ResponsesSession
from host.fakes.openai.realtime.session import RealtimeSession
from host.fakes.openai.realtime.translation import TranslationSession
from host.fakes.websocket import Close, FakeMessage, FakeSession, FakeSocket

KEY_PROTOCOL: Final = "openai-insecure-api-key."
_PROTOCOL: Final = "realtime"
_EPHEMERAL: Final = "ek_"

CreateResponse = Callable[[FakeRequest], FakeResponse]


class _Refusal:
    """A session that says what is wrong, and closes."""

    def __init__(self, error: errors.ApiError) -> None:
        self._error = error

    def opened(self) -> Iterable[FakeMessage]:
        shown = {"type": self._error.kind, "code": self._error.code, "message": self._error.message}
        yield encoded({"type": "error", "event_id": "event_0", "error": shown})
        yield Close(4000, f"{self._error.kind}.{self._error.code}"[:120])

    def received(self, message: str | bytes) -> Iterable[FakeMessage]:
        del message
        return ()


def open_socket(request: FakeRequest, state: FakeState, create_response: CreateResponse) -> FakeSocket:
    """Raises ApiError: 401 without a key, 404 for a path that has no WebSocket."""
    offered = [one.strip() for one in request.headers.get("sec-websocket-protocol", "").split(",")]
    key = _key(request, offered)
    known = state.realtime.client_secrets.get(key)
    if key.startswith(_EPHEMERAL) and known is None:
        raise errors.standard(401)
    session = _session(request, state, known, create_response)
    if known is not None and not request.path.startswith("/v1/realtime"):
        raise errors.standard(401)
    return FakeSocket(session, _PROTOCOL if _PROTOCOL in offered else None)


def faulty(opened: FakeSocket, fault: Fault) -> FakeSocket:
    """`opened` with the headers and the delivery of the fault."""
    headers = {**opened.headers, **{name.lower(): value for name, value in fault.headers.items()}}
    return replace(opened, headers=headers, delivery=fault.delivery, close_code=fault.close_code)


def _key(request: FakeRequest, offered: list[str]) -> str:
    """Raises ApiError."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for one in offered:
        if one.startswith(KEY_PROTOCOL) and (key := one.removeprefix(KEY_PROTOCOL)):
            return key
    raise errors.missing_key()


def _session(
    request: FakeRequest, state: FakeState, known: dict[str, Any] | None, create_response: CreateResponse
) -> FakeSession:
    match request.path.removesuffix("/").split("/")[1:]:
        case ["v1", "realtime"]:
            return _realtime(request, known)
        case ["v1", "realtime", "translations"]:
            model = _named(request, "model") or str((known or {}).get("model") or "")
            return TranslationSession(model, known) if model else _Refusal(_missing_model())
        case ["v1", "responses"]:
            return ResponsesSession(request, create_response)
        case ["v1", "live", "sessions"]:
            return LiveSession("own", state.realtime)
        case ["v1", "live", "sessions", ident, ("attach" | "fork") as how]:
            ident = unquote(ident)
            if ident not in state.realtime.live:
                raise errors.not_found(f"Session with id '{ident[:80]}' not found.", param="session_id")
            return LiveSession("fork" if how == "fork" else "beside", state.realtime, ident)
        case _:
            raise errors.not_found(f"Invalid URL (GET {request.path})")


def _realtime(request: FakeRequest, known: dict[str, Any] | None) -> FakeSession:
    beta = "realtime=v1" in request.headers.get("openai-beta", "")
    transcribes = _named(request, "intent") == "transcription" or (known or {}).get("type") == "transcription"
    kinds: dict[tuple[bool, bool], settings.SessionKind] = {
        (False, False): "realtime",
        (False, True): "transcription",
        (True, False): "beta",
        (True, True): "beta_transcription",
    }
    model = _named(request, "model") or str((known or {}).get("model") or "")
    if not model and not transcribes:
        if not _named(request, "call_id"):
            return _Refusal(_missing_model())
        model = "gpt-realtime"
    kind = kinds[beta, transcribes]
    own = {name: one for name, one in (known or {}).items() if name not in ("model", "type")}
    return RealtimeSession(kind, model, own)


def _named(request: FakeRequest, name: str) -> str:
    value = request.arguments.get(name)
    return value if isinstance(value, str) else ""


def _missing_model() -> errors.ApiError:
    return errors.ApiError(400, "You must provide a model parameter.", param="model", code="missing_model")
