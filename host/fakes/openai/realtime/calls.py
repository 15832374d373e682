"""Calls over WebRTC and SIP: they are made, accepted, refused, handed on and ended. Nobody speaks in them; a session
beside one (`/v1/realtime?call_id=`) is a session like any other."""

from __future__ import annotations

from host.fakes.messages import FakeResponse, MultipartError, parse_multipart
from host.fakes.openai import errors
from host.fakes.openai.call import ApiCall
from host.fakes.openai.text import identifier, seed_of

_ANSWER = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=recvonly\r\n"


def create_call(call: ApiCall) -> FakeResponse:
    """POST /v1/realtime/calls: an offer (SDP) as the body, or in a form beside a session."""
    _offer(call)
    ident = identifier("rtc_", seed_of("call", call.state.next_number()))
    call.state.realtime.calls[ident] = "active"
    headers = {"content-type": "application/sdp", "location": f"/v1/realtime/calls/{ident}"}
    return FakeResponse(201, headers, _ANSWER.encode())


def _offer(call: ApiCall) -> bytes:
    kind = call.request.headers.get("content-type", "")
    offer = call.request.body
    if kind.lower().startswith("multipart/"):
        try:
            parts = {part.name: part.content for part in parse_multipart(call.request.body, kind)}
        except MultipartError as error:
            raise errors.ApiError(400, f"Could not parse multipart form: {error}.") from error
        offer = parts.get("sdp", b"")
    if not offer.strip():
        raise errors.missing("sdp")
    if not offer.lstrip().startswith(b"v=0"):
        raise errors.wrong_value("sdp", "the offer is no session description.")
    return offer


def accept_call(call: ApiCall) -> FakeResponse:
    call.params.choice("type", ("realtime",), "")
    return _now(call, "active")


def reject_call(call: ApiCall) -> FakeResponse:
    return _now(call, "rejected")


def refer_call(call: ApiCall) -> FakeResponse:
    call.params.required_text("target_uri")
    return _now(call, "referred")


def hang_up(call: ApiCall) -> FakeResponse:
    return _now(call, "ended")


def _now(call: ApiCall, status: str) -> FakeResponse:
    """A call that comes in by SIP is known by the webhook that tells of it: its id is not in the state before."""
    ident = call.path["call_id"]
    if not ident.startswith("rtc_"):
        raise errors.not_found(f"Call with id '{ident[:80]}' not found.", param="call_id", code="call_not_found")
    if call.state.realtime.calls.get(ident) in ("ended", "rejected"):
        raise errors.ApiError(400, "The call has ended.", param="call_id", code="call_ended")
    call.state.realtime.calls[ident] = status
    return FakeResponse(200)
