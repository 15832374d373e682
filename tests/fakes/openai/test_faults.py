import gzip
import json

import httpx2
import openai
import pytest

from host.errors import InputError
from host.fakes import FakeOpenAI, Fault

CHAT = "/v1/chat/completions"
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
MODEL = "/v1/models/gpt-4o"


def statuses(http, count, path=MODEL):
    return [http.get(path).status_code for _ in range(count)]


def test_a_failure_hits_the_next_request_alone(fake, http):
    fake.fail_next(503)
    assert statuses(http, 2) == [503, 200]


def test_rules_are_used_up_in_order(fake, http):
    fake.script([{"status": 500, "times": 2}, Fault(status=429)])
    assert statuses(http, 4) == [500, 500, 429, 200]


def test_a_rule_without_times_stays_until_it_is_cleared(fake, http):
    fake.script([{"status": 500, "times": None}])
    assert statuses(http, 3) == [500] * 3
    fake.reset()
    assert statuses(http, 1) == [200]


def test_a_rule_waits_for_the_requests_it_speaks_of(fake, http):
    fake.script([{"method": "POST", "path": "/v1/chat/*", "status": 500}])
    assert statuses(http, 1) == [200]
    assert http.post(CHAT, json=HELLO).status_code == 500
    assert http.post(CHAT, json=HELLO).status_code == 200


def test_health_and_the_fakes_own_routes_never_fail(fake, http):
    fake.script([{"path": "*", "status": 500}])
    assert [http.get(path).status_code for path in ("/", "/health", "/__parlel/faults")] == [200] * 3
    assert http.get("/elsewhere").status_code == 500


def test_a_request_that_fails_has_no_effect(fake, client):
    fake.fail_next(500)
    with pytest.raises(openai.InternalServerError):
        client.files.create(file=("a", b"x"), purpose="batch")
    assert list(client.files.list()) == []


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        pytest.param(400, openai.BadRequestError, None, id="400"),
        pytest.param(401, openai.AuthenticationError, "invalid_api_key", id="401"),
        pytest.param(403, openai.PermissionDeniedError, None, id="403"),
        pytest.param(404, openai.NotFoundError, None, id="404"),
        pytest.param(409, openai.ConflictError, None, id="409"),
        pytest.param(422, openai.UnprocessableEntityError, None, id="422"),
        pytest.param(429, openai.RateLimitError, "rate_limit_exceeded", id="429"),
        pytest.param(500, openai.InternalServerError, None, id="500"),
        pytest.param(503, openai.InternalServerError, None, id="503"),
    ],
)
def test_the_sdk_raises_its_own_class_for_a(fake, client, status, error, code):
    fake.fail_next(status)
    with pytest.raises(error) as caught:
        client.models.list()
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.request_id == "req_00000000000000000000000000000001"


def test_retry_after_is_sent_and_the_sdk_comes_back(fake):
    fake.fail_next(429, times=2, headers={"Retry-After-Ms": "1"})
    with openai.OpenAI(base_url=fake.url + "/v1", api_key="k", max_retries=2) as client:
        assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    assert len(fake.requests) == 3


def test_a_body_and_headers_can_be_given(fake, http):
    fake.script([{"status": 402, "body": {"error": {"code": "pay"}}, "headers": {"X-A": "1", "openai-version": "x"}}])
    response = http.get(MODEL)
    assert (response.status_code, response.json()) == (402, {"error": {"code": "pay"}})
    assert (response.headers["x-a"], response.headers["openai-version"]) == ("1", "x")


def test_a_body_that_is_text_is_sent_as_it_is(fake, http):
    fake.script([{"body": "<html>", "headers": {"content-type": "text/html"}}])
    response = http.get(MODEL)
    assert (response.status_code, response.text, response.headers["content-type"]) == (200, "<html>", "text/html")


@pytest.mark.parametrize("status", [None, 307])
def test_a_redirect_names_its_location(fake, http, status):
    fake.script([{"redirect": "http://169.254.169.254/latest", "status": status}])
    response = http.get(MODEL)
    assert (response.status_code, response.headers["location"]) == (status or 302, "http://169.254.169.254/latest")


def test_a_huge_body_has_the_length_asked_for_and_is_never_held_whole(fake, http):
    fake.script([{"body_bytes": 3_000_001}])
    with http.stream("GET", MODEL) as response:
        assert "content-length" not in response.headers
        assert sum(len(block) for block in response.iter_bytes()) == 3_000_001


@pytest.mark.parametrize("layers", [1, 2])
def test_a_body_can_be_compressed(fake, http, layers):
    fake.script([{"gzip": layers, "body_bytes": 100_000}])
    with http.stream("GET", MODEL) as response:
        assert response.headers["content-encoding"] == ", ".join(["gzip"] * layers)
        content = b"".join(response.iter_raw())
    for _ in range(layers):
        content = gzip.decompress(content)
    assert content == b" " * 100_000


def test_malformed_json_is_half_of_the_true_answer(fake, http):
    whole = http.get(MODEL).content
    fake.script([{"malformed_json": True}])
    half = http.get(MODEL)
    assert half.content == whole[: len(whole) // 2]
    assert (half.status_code, half.headers["content-type"]) == (200, "application/json")


@pytest.mark.parametrize("status", [None, 401])
def test_the_authorization_can_be_echoed(fake, http, status):
    fake.script([{"echo_authorization": True, "status": status}])
    response = http.get(MODEL)
    assert response.status_code == (status or 200)
    assert "Bearer sk-test" in response.text
    assert isinstance(response.json(), dict)


def test_a_cut_before_the_headers_is_no_answer_at_all(fake, http):
    fake.script([{"cut_before_headers": True}])
    with pytest.raises(httpx2.RemoteProtocolError):
        http.get(MODEL)
    assert http.get(MODEL).status_code == 200


def test_a_cut_body_ends_early(fake, connect):
    fake.script([{"cut_after_bytes": 5}])
    raw = connect()
    raw.send(b"GET %s HTTP/1.1\r\nHost: f\r\nAuthorization: Bearer k\r\n\r\n" % MODEL.encode())
    status, headers = raw.head()
    assert (status, int(headers["content-length"]) > 5) == (200, True)
    assert raw.read() == b'{"id"'


def test_a_cut_stream_ends_after_so_many_events_without_its_last_chunk(fake, connect):
    fake.script([{"cut_after_events": 2}])
    raw = connect()
    raw.post(CHAT, {**HELLO, "stream": True})
    assert raw.head()[0] == 200
    rest = raw.read()
    assert rest.count(b"data: ") == 2
    assert not rest.endswith(b"0\r\n\r\n")


def test_the_sdk_notices_a_cut_stream(fake, client):
    fake.script([{"cut_after_events": 2}])
    with pytest.raises(openai.APIConnectionError):
        list(client.chat.completions.create(**HELLO, stream=True))


def test_a_cut_stream_can_end_within_an_event(fake, connect):
    fake.script([{"cut_after_bytes": 10}])
    raw = connect()
    raw.post(CHAT, {**HELLO, "stream": True})
    raw.head()
    assert raw.read() == b'a\r\ndata: {"id\r\n'


@pytest.mark.parametrize("length", [1, 10_000], ids=["too short", "too long"])
def test_a_declared_length_can_be_wrong(fake, connect, length):
    fake.script([{"content_length": length, "body": {"a": "b"}}])
    raw = connect()
    raw.send(b"GET /v1/models HTTP/1.1\r\nHost: f\r\n\r\n")
    status, headers = raw.head()
    assert (status, headers["content-length"]) == (200, str(length))
    assert raw.read() == b'{"a":"b"}'


def test_a_dripped_body_arrives_whole(fake, http):
    whole = http.get(MODEL).content
    fake.script([{"drip_s": 0}])
    with http.stream("GET", MODEL) as response:
        assert b"".join(response.iter_raw()) == whole


def test_a_dripped_stream_has_a_byte_in_each_chunk(fake, connect):
    fake.script([{"drip_s": 0.0, "cut_after_bytes": 3}])
    raw = connect()
    raw.post(CHAT, {**HELLO, "stream": True})
    raw.head()
    assert raw.read() == b"1\r\nd\r\n1\r\na\r\n1\r\nt\r\n"


def test_a_delay_comes_before_the_headers(fake, connect):
    fake.script([{"delay_s": 3600}])
    slow, quick = connect(), connect()
    slow.send(b"GET /v1/models HTTP/1.1\r\nHost: f\r\n\r\n")
    slow_was_read = False
    while not slow_was_read:
        slow_was_read = bool(fake.requests)
        quick.send(b"GET /health HTTP/1.1\r\nHost: f\r\n\r\n")
        assert quick.answer()[0] == 200, "nobody else waits"
    slow.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        slow.socket.recv(1)


def test_a_delayed_answer_comes(fake, http):
    fake.script([{"delay_s": 0.01, "event_delay_s": 0.001}])
    assert http.post(CHAT, json={**HELLO, "stream": True}).text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_that_has_no_body_has_none(fake, connect, status):
    fake.script([{"status": status}])
    raw = connect()
    raw.send(b"GET /v1/models HTTP/1.1\r\nHost: f\r\n\r\n", b"GET /health HTTP/1.1\r\nHost: f\r\n\r\n")
    assert raw.head()[0] == status
    assert raw.answer()[0] == 200


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        pytest.param({"colour": "red"}, "colour", id="a field unheard of"),
        pytest.param({"status": 99}, "status", id="a status below 200"),
        pytest.param({"status": 600}, "status", id="a status above 599"),
        pytest.param({"status": "500"}, "status", id="a status that is text"),
        pytest.param({"status": True}, "status", id="true as status"),
        pytest.param({"times": 0}, "times", id="no times"),
        pytest.param({"delay_s": -1}, "delay_s", id="a negative delay"),
        pytest.param({"drip_s": float("nan")}, "drip_s", id="a delay that is no number"),
        pytest.param({"gzip": True}, "gzip", id="true as a count"),
        pytest.param({"cut_before_headers": 1}, "cut_before_headers", id="a number as boolean"),
        pytest.param({"path": None}, "path", id="no path"),
        pytest.param({"headers": []}, "headers", id="headers that are a list"),
        pytest.param({"headers": {"a": 1}}, "headers", id="a header that is a number"),
        pytest.param({"headers": {"a": "b\r\nc: d"}}, "headers", id="a header with a line break"),
        pytest.param({"headers": {"a b": "c"}}, "headers", id="a header name with a space"),
        pytest.param({"headers": {"Content-Length": "1"}}, "headers", id="a header that is framing"),
        pytest.param({"redirect": "/\r\nx: y"}, "redirect", id="a redirect with a line break"),
        pytest.param("status", "faults", id="a string"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(fake, http, rule, field):
    with pytest.raises(InputError) as caught:
        fake.script([{"status": 500}, rule])
    assert caught.value.field == field
    assert http.get(MODEL).status_code == 200, "nor are the rules beside it taken"


def test_a_fault_survives_the_way_through_json():
    fault = Fault(method="POST", times=None, status=429, headers={"retry-after": "1"}, delay_s=0.5)
    assert Fault.from_dict(json.loads(json.dumps(fault.as_dict()))) == fault


def test_a_script_can_be_written_before_the_fake_runs():
    fake = FakeOpenAI()
    fake.fail_next(500)
    with fake, httpx2.Client(base_url=fake.url, trust_env=False) as http:
        assert http.get(MODEL).status_code == 500
