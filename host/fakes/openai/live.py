"""Live sessions (…/api-reference/live): made over HTTP with a transport, then accepted, referred, forked, ended. What
is said in them goes another way."""

from __future__ import annotations

from host.fakes.messages import FakeResponse
from host.fakes.openai import rest
from host.fakes.openai.call import ApiCall, EndpointTable
from host.fakes.openai.store import Stored

_SESSIONS = "/v1/live/sessions"
_SESSION = f"{_SESSIONS}/{{session_id}}"
_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"  # the answer to every offer


def create_session(call: ApiCall) -> FakeResponse:
    return _made(call, rest.make(call, _SESSIONS, rest.body(call).all()))


def fork_session(call: ApiCall) -> FakeResponse:
    """A new session that begins with what the other one has."""
    source = rest.found(call, _SESSION)
    return _made(call, rest.make(call, _SESSIONS, {**source.fields, **rest.body(call).all()}, forked_from=source.id))


def _made(call: ApiCall, stored: Stored) -> FakeResponse:
    return rest.answer(call, {"session": {"id": stored.id}, "transport": {"type": "webrtc", "sdp": _SDP}})


ENDPOINTS: EndpointTable = {
    _SESSIONS: {"POST": create_session},
    f"{_SESSION}/fork": {"POST": fork_session},
}
