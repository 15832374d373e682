"""Results as OpenAI's API answers."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from host.component.operations import OperationSpec
from host.core.audit import Meters
from host.core.operation import Attachment, Execution, Result
from host.core.sse import ServerSentEvent
from host.openai import messages as answers
from host.server.asgi import final_status

NO_EXECUTION = Execution("run_1", "c:local.x", "sha256:0", 0.0, 0.0, Meters(), (), (), ())
SPEC = OperationSpec("x.y", method="POST", path="/x", request="json")


def result(data: Any = None, *, status: int = 200, error: Any = None, **more: Any) -> Result:
    return Result(status, data, error, more.pop("attachments", {}), NO_EXECUTION, **more)


@pytest.mark.parametrize(
    ("one", "body", "media_type"),
    [
        pytest.param(result({"a": "é"}), '{"a":"é"}'.encode(), "application/json", id="a document"),
        pytest.param(result({}, document=b'{ "a": 1 }'), b'{ "a": 1 }', "application/json", id="the upstream's own bytes"),
        pytest.param(
            result({"$attachment": "i", "content_type": "audio/mpeg"}, attachments={"i": Attachment(b"\0\1")}),
            b"\0\1", "audio/mpeg", id="bytes",
        ),
        pytest.param(
            result({"audio_base64": base64.b64encode(b"\0\1").decode(), "response_encoding": "base64"}),
            b"\0\1", "audio/mpeg", id="bytes in base64, of a catalyst that knows no attachments",
        ),
        pytest.param(
            result({"base64": "AAE=", "response_encoding": "base64"}), b"\0\1", "application/octet-stream", id="of no type"
        ),
        pytest.param(
            result({"base64": "%%%", "response_encoding": "base64"}),
            b'{"base64":"%%%","response_encoding":"base64"}', "application/json", id="what is no base64",
        ),
        pytest.param(result("words"), b'"words"', "application/json", id="a text where a document is expected"),
        pytest.param(
            result(status=418, error="words"),
            b'{"error":{"message":"words","type":"upstream_error","param":null,"code":null}}', "application/json",
            id="an error that is words",
        ),
        pytest.param(
            result(status=429, error={"message": "slow", "type": "requests", "more": 1}),
            b'{"error":{"message":"slow","type":"requests","param":null,"code":null,"more":1}}', "application/json",
            id="an error, whole",
        ),
    ],
)  # fmt: skip
def test_a_result_is_a_body(one: Result, body: bytes, media_type: str) -> None:
    assert answers.whole(one, SPEC) == (body, media_type)


def test_a_transcription_as_text_is_text() -> None:
    spec = OperationSpec("x.y", method="POST", path="/x", request="multipart")
    assert answers.whole(result("1\n00:00"), spec) == (b"1\n00:00", "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    "said",
    [
        "text/html",
        "text/html; charset=utf-8",
        "image/svg+xml",
        "application/xhtml+xml",
        "text/javascript",
        "a/b\r\nset-cookie: x=1",
        "nonsense",
        "",
        None,
        5,
        "a/" + "b" * 500,
    ],
)
def test_a_guest_cannot_have_a_browser_run_its_bytes(said: Any) -> None:
    one = result({"$attachment": "i", "content_type": said}, attachments={"i": Attachment(b"<script>")})
    assert answers.whole(one, SPEC)[1] == "application/octet-stream"


@pytest.mark.parametrize(
    ("text", "event"),
    [
        pytest.param('{"id":"c"}', 'data: {"id":"c"}\n\n', id="without a type"),
        pytest.param('{"type":"response.created"}', 'event: response.created\ndata: {"type":"response.created"}\n\n', id="with one"),
        pytest.param('{"type": "a b"}', 'data: {"type": "a b"}\n\n', id="with one that is no name"),
        pytest.param('{"a":\n1}', 'data: {"a":\ndata: 1}\n\n', id="over two lines"),
        pytest.param('{"a":{"type":"b"}}', 'data: {"a":{"type":"b"}}\n\n', id="with a type inside"),
        pytest.param('{"a":1,"type":"b"}', 'event: b\ndata: {"a":1,"type":"b"}\n\n', id="with a type further on"),
        pytest.param(ServerSentEvent.of('{"type":"b"}', None, None, None), 'data: {"type":"b"}\n\n', id="of an upstream that sent no name"),
        pytest.param(
            ServerSentEvent.of("{}", "thread.run.created", "", 5), "event: thread.run.created\nid: \nretry: 5\ndata: {}\n\n",
            id="of an upstream, with what it sent",
        ),
    ],
)  # fmt: skip
def test_a_text_is_an_event(text: str, event: str) -> None:
    assert answers.events([text]) == event.encode()


@pytest.mark.parametrize("text", ["a\rdata: forged", "a\r\ndata: forged", "a\n\ndata: [DONE]"])
def test_a_guest_cannot_forge_the_lines_of_a_stream(text: str) -> None:
    lines = answers.events([text]).decode().split("\n")
    assert all(line.startswith("data: ") for line in lines[:-2])
    assert "\r" not in "".join(lines)
    assert "data: forged" not in lines
    assert "data: [DONE]" not in lines


@pytest.mark.parametrize(("said", "status"), [(101, 502), (100, 502), (200, 200), (418, 418), (599, 599)])
def test_a_guest_cannot_announce_another_answer(said: int, status: int) -> None:
    assert final_status(said) == status


@pytest.mark.parametrize("status", [204, 205, 304])
def test_an_answer_that_has_no_body_has_none(status: int) -> None:
    assert answers.whole(result({"a": 1}, status=status), SPEC)[0] == b""


def test_what_a_catalyst_gathered_is_events_too() -> None:
    assert answers.gathered(result({"chunks": [{"a": 1}, {"b": 2}], "combined_text": ""})) == ['{"a":1}', '{"b":2}']
    assert answers.gathered(result({"chunks": "none"})) == []
    assert answers.gathered(result("text")) == []


def test_a_success_says_where_its_call_is() -> None:
    place = "/v1/realtime/calls/rtc_u1_a.b"
    assert answers.place_of(result(status=201, headers={"location": place})) == {"location": place}


@pytest.mark.parametrize(
    ("status", "place"),
    [
        pytest.param(302, "/v1/files", id="by a redirect"),
        pytest.param(401, "/v1/files", id="by an error"),
        pytest.param(200, "https://evil.test/", id="to another host"),
        pytest.param(200, "//evil.test/x", id="to one without a scheme"),
        pytest.param(200, "/\\evil.test", id="to one behind a backslash"),
        pytest.param(200, "/v1/../admin", id="up"),
        pytest.param(200, "/v1/..", id="up at the end"),
        pytest.param(200, "/v1/a?x=1", id="with a query"),
        pytest.param(200, "/a" * 2_000, id="without end"),
        pytest.param(200, "", id="nowhere"),
    ],
)
def test_a_guest_cannot_lead_a_client_elsewhere(status: int, place: str) -> None:
    assert answers.place_of(result(status=status, headers={"location": place})) == {}
