"""Client secrets: short-lived keys for one session, that a browser may have. Each opens any number of sessions until
the fake is reset."""

from __future__ import annotations

from typing import Any, Final

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors
from host.fakes.openai.call import ApiCall, Params
from host.fakes.openai.realtime import settings
from host.fakes.openai.realtime.translation import described
from host.fakes.openai.store import CREATED
from host.fakes.openai.text import identifier, seed_of

_SECONDS: Final = 600
_MODEL: Final = "gpt-realtime"


def create_client_secret(call: ApiCall) -> FakeResponse:
    """POST /v1/realtime/client_secrets."""
    given = call.params.mapping("session")
    kind = Params(given).choice("type", ("realtime", "transcription"), "realtime")
    model = str(given.get("model") or _MODEL)
    known: settings.SessionKind = "realtime" if kind == "realtime" else "transcription"
    session = settings.changed(known, settings.first(known, _number(call, "sess_"), model), {"type": kind, **given})
    return _issued(call, session, given)


def create_translation_secret(call: ApiCall) -> FakeResponse:
    """POST /v1/realtime/translations/client_secrets."""
    call.params.required("session")
    given = call.params.mapping("session")
    model = Params(given).required_text("model")
    return _issued(call, described(_number(call, "sess_"), model, given), given)


def create_session(call: ApiCall) -> FakeResponse:
    """POST /v1/realtime/sessions, of the beta: the session itself, with its secret in it."""
    return _of_beta(call, "beta")


def create_transcription_session(call: ApiCall) -> FakeResponse:
    """POST /v1/realtime/transcription_sessions, of the beta."""
    return _of_beta(call, "beta_transcription")


def _of_beta(call: ApiCall, kind: settings.SessionKind) -> FakeResponse:
    given = Params.from_json(call.request.body or b"{}").all()
    model = str(given.get("model") or _MODEL)
    session = settings.changed(kind, settings.first(kind, _number(call, "sess_"), model), given)
    value = _number(call, "ek_")
    secret = {"value": value, "expires_at": CREATED + _SECONDS}
    call.state.realtime.client_secrets[value] = {name: one for name, one in given.items() if name != "model"}
    for name in ("id", "model"):  # which the answer's model has not
        session.pop(name, None)
    return FakeResponse.json({**session, "client_secret": secret})


def _issued(call: ApiCall, session: dict[str, Any], given: dict[str, Any]) -> FakeResponse:
    after = call.params.mapping("expires_after")
    if "anchor" in after and after["anchor"] != "created_at":
        raise errors.unsupported("expires_after.anchor", str(after["anchor"]), ("created_at",))
    seconds = Params(after).integer("seconds", _SECONDS, low=10, high=7_200)
    value = _number(call, "ek_")
    call.state.realtime.client_secrets[value] = given
    return FakeResponse.json({"value": value, "expires_at": CREATED + seconds, "session": session})


def _number(call: ApiCall, prefix: str) -> str:
    return identifier(prefix, seed_of("secret", call.state.next_number()))
