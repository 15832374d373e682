"""What the OpenAI catalyst makes of what comes back."""

import base64
import json

import pytest

CYFR = ("fetch", "streaming", "read")
INTERFACES = (*CYFR, "output", "config", "log")
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
SPEECH = {"model": "tts-1", "input": "Hi", "voice": "alloy"}
AUDIO = {"file": {"$attachment": "a1"}, "model": "whisper-1"}


def delta(text, index=0):
    return {"choices": [{"index": index, "delta": {"content": text}}]}


def spoken(text, output=0, content=0):
    where = {"output_index": output, "content_index": content}
    return {"type": "response.output_text.delta", "delta": text, **where}


def test_a_json_answer_stays_with_the_host(call, world):
    world.answer_attached(size=1_000_000)
    assert call("embeddings.create", {"model": "m", "input": "i"}) == {"status": 200, "data": {"$json": "att-1"}}


def test_a_json_answer_without_a_byte_is_an_empty_object(call, world):
    world.answer_attached(size=0)
    assert call("responses.delete", {"response_id": "r"}) == {"status": 200, "data": {}}


def test_a_binary_answer_stays_with_the_host(call, world):
    world.answer_attached(size=9, content_type="audio/mpeg")
    data = {"$attachment": "att-1", "content_type": "audio/mpeg", "size": 9}
    assert call("audio.speech", SPEECH) == {"status": 200, "data": data}


def test_a_binary_answer_from_a_host_that_keeps_none_is_base64(call, world):
    world.answer("ID3")
    assert call("audio.speech", SPEECH)["data"] == {"base64": "SUQz", "response_encoding": "base64"}


def test_an_answer_in_plain_text_is_that_text(call, world):
    world.answer("1\n00:00 --> 00:01\nHi\n")
    result = call("audio.transcriptions", {**AUDIO, "response_format": "srt"})
    assert result == {"status": 200, "data": "1\n00:00 --> 00:01\nHi\n"}


def test_a_status_of_success_other_than_200_is_kept(call, world):
    world.answers.append({"status": 201, "headers": {}, "attachment": "att-1", "size": 2})
    assert call("models.list")["status"] == 201


class TestOnCyfr:
    """A component built for CYFR's world alone: no attachments, and no word of ours in a request."""

    def test_a_json_answer_is_parsed(self, call, world):
        world.answer('{"object": "list", "data": []}')
        assert call("models.list", interfaces=CYFR) == {"status": 200, "data": {"object": "list", "data": []}}
        assert world.requests[0].keys() == {"method", "url", "headers"}

    @pytest.mark.parametrize("body", ["hello", "<html>", '{"a": NaN}', '{"a": 1'])
    def test_an_answer_that_is_no_json_is_an_error(self, call, world, body):
        world.answer(body)
        result = call("models.list", interfaces=CYFR)
        assert (result["status"], result["error"]["type"]) == (502, "upstream_error")
        assert "not JSON" in result["error"]["message"]

    def test_speech_is_asked_for_and_given_in_base64(self, call, world):
        audio = base64.b64encode(b"ID3").decode()
        headers = {"content-type": "audio/mpeg"}
        world.answers.append({"status": 200, "headers": headers, "body": audio, "body_encoding": "base64"})
        result = call("audio.speech", SPEECH, interfaces=CYFR)
        assert result == {"status": 200, "data": {"audio_base64": audio, "response_encoding": "base64"}}
        assert world.requests[0]["response_encoding"] == "base64"

    def test_a_file_is_given_in_base64_and_not_called_audio(self, call, world):
        world.answer("e30=", body_encoding="base64")
        result = call("files.content", {"file_id": "f"}, interfaces=CYFR)
        assert result["data"] == {"base64": "e30=", "response_encoding": "base64"}

    def test_an_error_in_base64_is_understood(self, call, world):
        body = base64.b64encode(b'{"error": {"type": "t", "message": "m"}}').decode()
        world.answer(body, status=429, body_encoding="base64")
        assert call("audio.speech", SPEECH, interfaces=CYFR)["error"] == {"type": "t", "message": "m"}

    def test_a_stream_without_status_is_taken_for_a_success(self, call, world, sse):
        world.opened = {"handle": "h1"}
        world.stream(sse(delta("Hi")))
        result = call("chat.completions.create", CHAT, stream=True, interfaces=CYFR)
        data = {"chunks": [delta("Hi")], "combined_text": "Hi", "texts": ["Hi"]}
        assert result == {"status": 200, "data": data}
        assert "relay" not in world.streams[0]

    def test_a_stream_without_status_that_holds_an_error_is_that_error(self, call, world):
        world.opened = {"handle": "h1"}
        world.stream('{\n "error": {"type": "invalid_api_key",\n', ' "message": "no"}\n}\n')
        result = call("chat.completions.create", CHAT, stream=True, interfaces=CYFR)
        assert result == {"status": 502, "error": {"type": "invalid_api_key", "message": "no"}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param('[{"error": {"code": 400, "message": "m", "status": "INVALID"}}]', "m", id="in a list"),
        pytest.param('{"message": "m"}', "m", id="a message by itself"),
        pytest.param(
            '{"object": "error", "message": "m", "type": "BadRequestError", "code": 400}', "m", id="with its own type"
        ),
        pytest.param('{"detail": "m"}', "m", id="a detail"),
        pytest.param(
            '{"detail": [{"loc": ["body", "x"], "msg": "m", "type": "missing"}, {"msg": "n"}]}', "m; n", id="details"
        ),
        pytest.param('{"error": "m"}', "m", id="a text"),
        pytest.param('{"error": "e", "error_description": "m"}', "m", id="with a description"),
        pytest.param('{"errors": [{"message": "m"}]}', "m", id="errors"),
        pytest.param('{"error": null, "message": "m"}', "m", id="an error that is null"),
        pytest.param('{"title": "m", "status": 401}', "m", id="a problem with a title"),
        pytest.param('"m"', "m", id="a JSON text"),
        pytest.param("m\n", "m", id="a text that is no JSON"),
        pytest.param(
            "<!DOCTYPE html><html><head><title>\n 502 Bad  Gateway</title>", "a page: 502 Bad Gateway", id="a page"
        ),
        pytest.param("[" * 5_000 + "]" * 5_000, "[" * 2_000, id="a deep one"),
        pytest.param('event: error\ndata: {"error": {"message": "m"}}\n\n', "m", id="an event"),
        pytest.param('\ufeff{"error": {"message": "m"}}', "m", id="after a byte order mark"),
        pytest.param("", "the upstream answered 401", id="nothing"),
    ],
)
def test_an_error_in_any_shape_has_its_status_and_a_message(call, world, body, message):
    world.answer(body, status=401)
    result = call("models.list")
    assert (result["status"], result["error"]["message"], "body" in result) == (401, message, False)
    assert result["error"].get("type", "upstream_error") in ("upstream_error", "BadRequestError")


UPSTREAM = {"message": "Incorrect API key", "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(json.dumps({"error": UPSTREAM}), UPSTREAM, id="OpenAI's own is passed on whole"),
        pytest.param(
            '{"error": "words"}',
            {"type": "upstream_error", "message": "words"},
            id="words in its place are the message",
        ),
        pytest.param(
            '{"object": "error", "type": "t", "message": "m"}',
            {"object": "error", "type": "t", "message": "m"},
            id="an object that is the error is passed on whole",
        ),
        pytest.param(
            '{"detail": "x"}',
            {"type": "upstream_error", "message": "x", "detail": "x"},
            id="an object without a message gets one",
        ),
        pytest.param("<html>", {"type": "upstream_error", "message": "<html>"}, id="a page is the message"),
        pytest.param("[1]", {"type": "upstream_error", "message": "[1]"}, id="a list is the message"),
        pytest.param("", {"type": "upstream_error", "message": "the upstream answered 401"}, id="nothing is said so"),
        pytest.param("x" * 9000, {"type": "upstream_error", "message": "x" * 2000}, id="a long page is cut"),
    ],
)
class TestAnErrorOfTheUpstream:
    def test_comes_with_its_status(self, call, world, body, error):
        world.answer(body, status=401)
        assert without_body(call("models.list"), body) == {"status": 401, "error": error}

    def test_comes_with_its_status_instead_of_a_stream(self, call, world, body, error):
        world.stream(body[:5], body[5:], status=401)
        assert without_body(call("chat.completions.create", CHAT, stream=True), body) == {"status": 401, "error": error}
        assert world.closed == ["h1"]


RETRY = {
    "retry-after": "20",
    "retry-after-ms": "20000",
    "x-should-retry": "true",
    "x-request-id": "req_1",
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "1s",
}
LIMITED = {"type": "requests", "message": "too many"}


class TestTheHeadersOfAnErrorOfTheUpstream:
    def test_those_that_a_client_needs_to_try_again_are_handed_on(self, call, world):
        others = {"content-type": "application/json", "set-cookie": "a=1", "x-ratelimit": "1", "server": "x"}
        world.answer(json.dumps({"error": LIMITED}), status=429, headers={**others, **RETRY})
        body = json.dumps({"error": LIMITED})
        assert call("models.list") == {"status": 429, "error": LIMITED, "headers": RETRY, "body": body}

    def test_instead_of_a_stream_too(self, call, world):
        world.stream(json.dumps({"error": LIMITED}), status=429, headers={**RETRY, "date": "today"})
        result = call("chat.completions.create", CHAT, stream=True)
        assert result == {"status": 429, "error": LIMITED, "headers": RETRY, "body": json.dumps({"error": LIMITED})}

    @pytest.mark.parametrize("interfaces", [CYFR, ("fetch", "streaming", "read", "output")])
    def test_instead_of_a_binary_answer_and_on_any_host(self, call, world, interfaces):
        world.answer("busy", status=503, headers={"retry-after": "1"})
        result = call("audio.speech", SPEECH, interfaces=interfaces)
        assert (result["status"], result["headers"]) == (503, {"retry-after": "1"})

    @pytest.mark.parametrize("headers", [{}, {"content-type": "text/html"}])
    def test_where_there_are_none_the_result_has_none(self, call, world, headers):
        world.answer("busy", status=503, headers=headers)
        assert call("models.list").keys() == {"status", "error"}

    def test_they_are_at_most_sixteen_and_the_limits_are_left_out_first(self, call, world):
        limits = {f"x-ratelimit-{n:02}": str(n) for n in range(30)}
        world.answer("busy", status=429, headers={**limits, "retry-after": "20", "x-request-id": "req_1"})
        headers = call("models.list")["headers"]
        kept = [f"x-ratelimit-{n:02}" for n in range(14)]
        assert list(headers) == ["retry-after", "x-request-id", *kept]

    def test_one_that_is_no_text_is_left_out(self, call, world):
        world.answer("busy", status=429, headers={"retry-after": 20, "x-request-id": ["a"], "x-should-retry": "false"})
        assert call("models.list")["headers"] == {"x-should-retry": "false"}

    def test_an_error_in_the_middle_of_a_stream_has_none(self, call, world, sse):
        world.stream(sse(delta("a"), end='data: {"error": {"message": "m", "code": 429}}\n\n'), headers=RETRY)
        assert call("chat.completions.create", CHAT, stream=True).keys() == {"status", "error"}

    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_an_error_in_a_document_in_place_of_a_stream_has_them(self, call, world, mark):
        world.stream(mark + json.dumps({"error": {**LIMITED, "code": 429}}), headers=RETRY)
        result = call("chat.completions.create", CHAT, stream=True)
        assert result == {"status": 429, "error": {**LIMITED, "code": 429}, "headers": RETRY}

    @pytest.mark.parametrize(("events", "kept"), [(0, {"headers": RETRY}), (1, {})])
    def test_one_that_the_host_read_has_them_if_no_event_came_before(self, call, world, events, kept):
        failure = {"status": 429, "error": LIMITED}
        world.stream(relay=True, headers=RETRY)
        world.reads[-1] |= {"failure": failure, "events": events}
        assert call("chat.completions.create", CHAT, stream=True) == {**failure, **kept}

    def test_a_success_has_them_too_with_the_makers_own(self, call, world):
        makers = {"openai-processing-ms": "12", "openai-organization": "org"}
        world.answer("{}", headers={**RETRY, **makers, "set-cookie": "a=1", "server": "x"})
        assert call("models.list", interfaces=CYFR) == {"status": 200, "data": {}, "headers": {**RETRY, **makers}}

    @pytest.mark.parametrize(
        ("given", "handed_on"),
        [
            pytest.param("/v1/realtime/calls/rtc_1", "/v1/realtime/calls/rtc_1", id="a path"),
            pytest.param("https://a.test/v1/calls/rtc_1?key=k#x", "/v1/calls/rtc_1", id="a URL, without its host and query"),
            pytest.param("//a.test/calls/1", "/calls/1", id="without its scheme"),
            pytest.param("https://a.test", "/", id="of a host alone"),
            pytest.param("rtc_1", None, id="what has no path"),
            pytest.param("", None, id="nothing"),
        ],
    )  # fmt: skip
    def test_a_success_says_by_its_path_what_was_made(self, call, world, given, handed_on):
        world.answer("answer", status=201, headers={"location": given})
        result = call("realtime.calls.create", {"sdp": "offer"}, interfaces=CYFR)
        assert (result["status"], result.get("headers", {}).get("location")) == (201, handed_on)

    def test_an_error_leads_nowhere(self, call, world):
        world.answer("", status=302, headers={"location": "/v1/elsewhere"})
        assert "headers" not in call("models.list")


def without_body(result, body):
    """The result of an error without its body, which is there as it came if it has an error object."""
    assert result.pop("body", body) == body
    return result


def test_a_redirect_is_an_error_and_not_followed(call, world):
    world.answer("", status=302)
    result = call("models.list")
    assert (result["status"], result["error"]["message"]) == (302, "the upstream answered 302")


def test_a_refusal_of_the_host_is_the_result(call, world):
    refusal = {"type": "domain_blocked", "message": "add --allow-domain api.openai.com"}
    world.answers.append({"error": refusal})
    assert call("models.list") == {"status": 403, "error": refusal}


class TestStream:
    def test_without_a_listener_it_is_collected(self, call, world, sse):
        world.stream(sse(delta("Hel"), delta("lo")))
        data = {"chunks": [delta("Hel"), delta("lo")], "combined_text": "Hello", "texts": ["Hello"]}
        assert call("chat.completions.create", CHAT, stream=True) == {"status": 200, "data": data}
        assert world.closed == ["h1"]

    def test_events_that_were_delivered_are_not_kept(self, call, world, sse):
        world.listeners = 5
        world.stream(sse(delta("Hel"), delta("lo")))
        result = call("chat.completions.create", CHAT, stream=True)
        assert result["data"] == {"chunks": [], "combined_text": "Hello", "texts": ["Hello"]}
        assert world.emitted == [delta("Hel"), delta("lo")]

    def test_events_after_the_listener_left_are_kept(self, call, world, sse):
        world.listeners = 1
        world.stream(sse(delta("a"), delta("b"), delta("c")))
        result = call("chat.completions.create", CHAT, stream=True)
        assert result["data"] == {"chunks": [delta("b"), delta("c")], "combined_text": "abc", "texts": ["abc"]}

    def test_a_relayed_one_is_only_waited_for(self, call, world):
        world.stream(relay=True)
        result = call("chat.completions.create", CHAT, stream=True)
        assert result == {"status": 200, "data": {"chunks": [], "combined_text": "", "texts": []}}
        assert (world.reads, world.emitted, world.closed) == ([], [], ["h1"])

    def test_a_relayed_one_whose_last_event_is_an_error_is_that_error(self, call, world):
        error = {"type": "server_error", "message": "m"}
        world.stream(relay=True)
        world.reads[-1]["last"] = json.dumps({"error": error})
        assert call("chat.completions.create", CHAT, stream=True) == {"status": 502, "error": error}

    @pytest.mark.parametrize("last", [json.dumps(delta("lo")), '{"type": "response.completed", "response": {"cut he'])
    def test_a_relayed_one_with_any_other_last_event_is_a_success(self, call, world, last):
        world.stream(relay=True)
        world.reads[-1]["last"] = last
        assert call("chat.completions.create", CHAT, stream=True)["status"] == 200

    def test_a_relayed_one_that_breaks_is_an_error(self, call, world):
        world.stream(relay=True)
        world.reads = [{"error": {"type": "http_error", "message": "reset"}}]
        result = call("chat.completions.create", CHAT, stream=True)
        assert result == {"status": 502, "error": {"type": "http_error", "message": "reset"}}

    def test_one_that_breaks_in_its_middle_is_an_error_and_no_short_answer(self, call, world, sse):
        world.stream(sse(delta("Hel"), end=""))
        world.reads[-1] = {"error": {"type": "http_error", "message": "reset"}}
        result = call("chat.completions.create", CHAT, stream=True)
        assert result == {"status": 502, "error": {"type": "http_error", "message": "reset"}}
        assert world.closed == ["h1"]

    def test_one_that_ends_in_the_middle_of_an_event_is_an_error(self, call, world, sse):
        world.stream(sse(delta("Hel"), end='data: {"choices": [{"del'))
        result = call("chat.completions.create", CHAT, stream=True)
        assert (result["status"], result["error"]["type"]) == (502, "upstream_error")

    def test_one_whose_last_event_lacks_only_its_blank_line_is_whole(self, call, world, sse):
        world.stream(sse(delta("Hel"), end=f"data: {json.dumps(delta('lo'))}"))
        assert call("chat.completions.create", CHAT, stream=True)["data"]["combined_text"] == "Hello"

    def test_one_that_is_no_event_stream_is_an_error(self, call, world):
        world.stream("<html>welcome to the proxy</html>")
        result = call("chat.completions.create", CHAT, stream=True)
        error = {"type": "upstream_error", "message": "<html>welcome to the proxy</html>"}
        assert result == {"status": 502, "error": error}

    @pytest.mark.parametrize("interfaces", [CYFR, INTERFACES], ids=["on CYFR", "here"])
    def test_a_document_in_its_place_is_the_answer(self, call, world, interfaces):
        world.stream('{"id": "c1", ', '"choices": []}', headers={"content-type": "application/json"})
        result = call("chat.completions.create", CHAT, stream=True, interfaces=interfaces)
        assert result == {"status": 200, "data": {"id": "c1", "choices": []}}

    def test_a_document_that_the_host_keeps_is_the_answer(self, call, world):
        world.stream(relay=True)
        world.reads[-1]["document"] = {"attachment": "att-1", "size": 20_000_000}
        assert call("chat.completions.create", CHAT, stream=True) == {"status": 200, "data": {"$json": "att-1"}}

    @pytest.mark.parametrize("relay", [True, False])
    def test_a_relayed_one_that_failed_has_the_status_and_the_error_that_the_host_read(self, call, world, relay):
        failure = {"status": 429, "error": {"message": "x" * 6_000}}
        world.stream(relay=relay)
        world.reads[-1] |= {"failure": failure, "last": '{"cut'}
        assert call("chat.completions.create", CHAT, stream=True) == failure

    def test_a_relayed_one_with_an_event_that_is_no_object_is_an_error(self, call, world):
        world.stream(relay=True)
        world.reads[-1]["odd"] = True
        assert call("chat.completions.create", CHAT, stream=True)["status"] == 502

    def test_the_number_of_images_is_told_to_the_host(self, call, world):
        for n, told in ((2, 2), (1, None), (None, None)):
            world.stream("data: {}\n\n")
            given = {"model": "gpt-image-1", "prompt": "a cat", **({} if n is None else {"n": n})}
            call("images.generate", given, stream=True)
            assert world.streams[-1].get("answers") == told

    def test_a_transcription_as_text_is_that_text(self, call, world):
        world.stream("data: was the ", "first word", headers={"content-type": "text/plain"})
        params = {"model": "whisper-1", "file": {"data": "AA=="}, "response_format": "text"}
        result = call("audio.transcriptions.create", params, stream=True)
        assert result == {"status": 200, "data": "data: was the first word"}

    def test_nothing_is_read_after_its_end(self, call, world, sse):
        world.stream(sse(delta("a")), "data: {broken\n\n")
        assert call("chat.completions.create", CHAT, stream=True)["status"] == 200

    @pytest.mark.parametrize(
        ("written", "status", "error"),
        [
            pytest.param(
                'data: {"error": {"type": "server_error", "message": "m", "code": null}}\n\n',
                502,
                {"type": "server_error", "message": "m", "code": None},
                id="as an object with an error",
            ),
            pytest.param(
                'data: {"error": {"type": "t", "message": "m", "code": 429}}\n\n',
                429,
                {"type": "t", "message": "m", "code": 429},
                id="with a status of its own",
            ),
            pytest.param(
                'event: error\ndata: {"type": "error", "code": "e", "message": "m", "param": null}\n\n',
                502,
                {"type": "error", "code": "e", "message": "m", "param": None},
                id="as an event of that name",
            ),
            pytest.param(
                'data: {"type": "error", "code": "e", "message": "m"}\n\n',
                502,
                {"type": "error", "code": "e", "message": "m"},
                id="as an event of that type",
            ),
            pytest.param('data: {"error": "m"}\n\n', 502, {"type": "upstream_error", "message": "m"}, id="as words"),
        ],
    )
    def test_an_error_in_its_middle_is_the_result(self, call, world, sse, *, written, status, error):
        world.stream(sse(delta("Hel"), end=written))
        assert call("chat.completions.create", CHAT, stream=True) == {"status": status, "error": error}
        assert world.closed == ["h1"]

    @pytest.mark.parametrize(
        ("events", "texts"),
        [
            pytest.param([delta("a"), delta("b", 1), delta("c")], ["ac", "b"], id="of each choice by itself"),
            pytest.param([delta("b", 1), delta("a"), delta("c", 1)], ["a", "bc"], id="by the number of the choice"),
            pytest.param([{"choices": [{"text": "a"}, {"text": "b"}]}], ["a", "b"], id="by their place without one"),
            pytest.param([{"choices": [{"index": 0, "text": "a"}]}], ["a"], id="of legacy completions"),
            pytest.param([spoken("a")], ["a"], id="of responses"),
            pytest.param([spoken("c", 1), spoken("b", 0, 1), spoken("a"), spoken("d", 1)], ["abcd"], id="in its order"),
            pytest.param([{"type": "transcript.text.delta", "delta": "a"}], ["a"], id="of transcriptions"),
            pytest.param([{"type": "response.reasoning_text.delta", "delta": "a"}], [], id="but not of reasoning"),
            pytest.param(
                [delta(None), {"choices": []}, {"choices": None}, {"choices": [None, {}]}], [], id="where any is"
            ),
        ],
    )
    def test_its_text_is_put_together(self, call, world, sse, events, texts):
        world.stream(sse(*events))
        data = {"chunks": events, "combined_text": texts[0] if texts else "", "texts": texts}
        assert call("chat.completions.create", CHAT, stream=True)["data"] == data
