"""Who may open which WebSocket of the fake, its faults, and the REST beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from openai.types.beta.realtime import TranscriptionSession
from openai.types.realtime import ClientSecretCreateResponse, RealtimeTranslationClientSecretCreateResponse
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection

from host.fakes import FakeOpenAI
from tests.fakes.conftest import Raw
from tests.fakes.openai.realtime.conftest import Dial
from tests.fakes.openai.realtime.test_events import OF_EXAMPLES, WITHOUT_SPEECH_DETECTION, talk
from tests.fakes.openai.strictness import mistakes

AT = "/realtime?model=gpt-realtime"


def first(line: ClientConnection) -> dict[str, Any]:
    heard: dict[str, Any] = json.loads(line.recv(timeout=30))
    return heard


def refused(dial: Dial, path: str = AT, **more: Any) -> int:
    with pytest.raises(InvalidStatus) as answer:
        dial(path, **more)
    assert json.loads(answer.value.response.body)["error"]["message"]
    return answer.value.response.status_code


def test_a_key_is_needed(dial: Dial) -> None:
    assert refused(dial, key="") == 401


def test_a_browser_s_key_comes_in_a_subprotocol(dial: Dial) -> None:
    line = dial(AT, key="", subprotocols=["realtime", "openai-insecure-api-key.sk-browser"])
    assert line.subprotocol == "realtime"
    assert first(line)["type"] == "session.created"


def test_a_path_without_a_websocket_is_unknown(dial: Dial) -> None:
    assert refused(dial, "/chat/completions") == 404
    assert refused(dial, "/live/sessions/live_none/attach") == 404


def test_a_session_without_a_model_says_so_and_closes(dial: Dial) -> None:
    line = dial("/realtime")
    assert first(line)["error"]["code"] == "missing_model"
    with pytest.raises(ConnectionClosed) as closed:
        line.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4000


def test_a_client_secret_opens_the_session_it_was_made_for(client: openai.OpenAI, dial: Dial) -> None:
    made = client.realtime.client_secrets.create(
        session={"type": "realtime", "model": "gpt-realtime", "instructions": "Be brief."}
    )
    assert made.value.startswith("ek_")
    session = first(dial("/realtime", key=made.value))["session"]
    assert (session["model"], session["instructions"]) == ("gpt-realtime", "Be brief.")
    assert refused(dial, key="ek_of_nobody") == 401
    assert refused(dial, "/responses", key=made.value) == 401


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("client_secrets", {"session": {"type": "realtime"}}, ClientSecretCreateResponse),
        ("client_secrets", {"session": {"type": "transcription"}}, ClientSecretCreateResponse),
        ("translations/client_secrets", {"session": {"model": "t"}}, RealtimeTranslationClientSecretCreateResponse),
        ("transcription_sessions", {}, TranscriptionSession),
    ],
)
def test_an_answer_of_the_rest_beside_it_is_what_the_sdk_s_model_says(
    http: httpx2.Client, path: str, body: Any, kind: Any
) -> None:
    answer = http.post(f"/v1/realtime/{path}", json=body)
    assert answer.status_code == 200, answer.text
    known = OF_EXAMPLES | WITHOUT_SPEECH_DETECTION | {".turn_detection is null"}
    assert set(mistakes(answer.json(), kind)) <= known


def test_a_session_of_the_beta_has_its_secret_in_it(client: openai.OpenAI, dial: Dial) -> None:
    made = client.beta.realtime.sessions.create(model="gpt-4o-realtime-preview", instructions="Be brief.")
    line = dial(AT, key=made.client_secret.value, **{"openai-beta": "realtime=v1"})
    assert first(line)["session"]["instructions"] == "Be brief."


def test_a_call_is_made_accepted_referred_and_ended(client: openai.OpenAI) -> None:
    made = client.realtime.calls.create(sdp="v=0\r\n")
    assert made.response.status_code == 201
    assert made.content.startswith(b"v=0")
    ident = made.response.headers["location"].rpartition("/")[2]
    client.realtime.calls.accept(ident, type="realtime")
    client.realtime.calls.refer(ident, target_uri="tel:+1")
    client.realtime.calls.hangup(ident)
    with pytest.raises(openai.BadRequestError, match="ended"):
        client.realtime.calls.reject(ident)
    with pytest.raises(openai.NotFoundError):
        client.realtime.calls.hangup("call_none")
    with pytest.raises(openai.BadRequestError, match="sdp"):
        client.realtime.calls.create(sdp="no description")


def test_an_upgrade_is_in_the_log_with_its_key(fake: FakeOpenAI, dial: Dial) -> None:
    dial(AT)
    (seen,) = fake.requests
    assert (seen["method"], seen["path"], seen["query"]) == ("GET", "/v1/realtime", {"model": "gpt-realtime"})
    assert seen["headers"]["authorization"] == "Bearer sk-test"


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_a_fault_refuses_the_upgrade(fake: FakeOpenAI, dial: Dial, status: int) -> None:
    fake.fail_next(status)
    assert refused(dial) == status
    assert first(dial(AT))["type"] == "session.created"


def test_a_fault_breaks_a_session_off_after_some_messages(fake: FakeOpenAI, dial: Dial) -> None:
    fake.script([{"cut_after_events": 3}])
    line = dial(AT)
    with pytest.raises(ConnectionClosed) as closed:
        list(talk(line, [{"type": "response.create"}], "response.done"))
    assert closed.value.rcvd is None


def test_a_fault_closes_a_session_with_a_code_of_its_own(fake: FakeOpenAI, dial: Dial) -> None:
    fake.script([{"cut_after_events": 1, "close_code": 4321, "headers": {"x-fault": "yes"}}])
    line = dial(AT)
    assert line.response is not None
    assert line.response.headers["x-fault"] == "yes"
    assert first(line)["type"] == "session.created"
    with pytest.raises(ConnectionClosed) as closed:
        line.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4321


def test_a_fault_closes_a_session_without_a_code(fake: FakeOpenAI, dial: Dial) -> None:
    fake.script([{"cut_after_events": 1, "close_code": 1005}])
    line = dial(AT)
    assert first(line)["type"] == "session.created"
    with pytest.raises(ConnectionClosedOK) as closed:
        line.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1005, "")  # RFC 6455, 7.1.5: an empty close frame


@pytest.mark.parametrize("without", ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"])
def test_a_malformed_upgrade_is_refused(connect: Callable[[], Raw], without: str) -> None:
    lines = [
        *("GET /v1/realtime?model=m HTTP/1.1", "Host: fake", "Authorization: Bearer key", "Upgrade: websocket"),
        *("Connection: Upgrade", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"),
    ]
    raw = connect()
    raw.send("\r\n".join([*(one for one in lines if one != without), "", ""]).encode())
    assert raw.head()[0] == 400
