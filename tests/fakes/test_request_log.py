import hashlib
import time

from host.fakes.messages import FakeRequest
from host.fakes.request_log import RequestLog

HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


def request(body=b"", path="/v1/x", **headers):
    return FakeRequest("POST", path, "", headers, body, "http://127.0.0.1:1")


def test_a_request_is_kept_as_it_arrived(fake, http):
    before = time.time()
    http.post("/v1/chat/completions?a=1&b=2&b=3&c=", json=HELLO, headers={"X-Custom": "yes"})
    [kept] = fake.requests
    assert (kept["method"], kept["path"], kept["body"]) == ("POST", "/v1/chat/completions", HELLO)
    assert kept["query"] == {"a": "1", "b": ["2", "3"], "c": ""}
    assert kept["headers"]["authorization"] == "Bearer sk-test"
    assert kept["headers"]["x-custom"] == "yes"
    assert before <= kept["at"] <= time.time()


def test_a_path_is_kept_undecoded(fake, http):
    http.get("/v1/models/a%2Fb")
    assert fake.requests[0]["path"] == "/v1/models/a%2Fb"


def test_refused_and_failed_requests_are_kept_too(fake, http):
    fake.fail_next(503)
    http.get("/v1/models")
    http.get("/v1/models", headers={"authorization": ""})
    http.get("/v1/nowhere")
    assert [kept["path"] for kept in fake.requests] == ["/v1/models", "/v1/models", "/v1/nowhere"]


def test_probes_and_the_fakes_own_routes_are_not_kept(fake, http):
    for path in ("/", "/health", "/__parlel/requests", "/__parlel/nowhere"):
        http.get(path)
    http.options("/v1/models")
    assert fake.requests == []


def test_an_upload_is_kept_as_a_description(fake, client):
    content = bytes(range(256))
    client.files.create(file=("a.bin", content), purpose="batch")
    assert fake.requests[0]["body"] == [
        {"name": "purpose", "value": "batch"},
        {
            "name": "file",
            "filename": "a.bin",
            "content_type": "application/octet-stream",
            "size": 256,
            "sha256": hashlib.sha256(content).hexdigest(),
        },
    ]


def test_bodies_are_shown_as_what_they_are():
    log = RequestLog()
    bodies = [b"", b'{"a": 1}', b"{broken", b"\xff\x00", b"[" * 100_000]
    for body in bodies:
        log.add(request(body))
    log.add(request(b"--x", **{"content-type": "multipart/form-data; boundary=x"}))
    shown = [kept["body"] for kept in log.entries()]
    assert shown == [None, {"a": 1}, "{broken", "\ufffd\x00", "[" * 100_000, "--x"]


def test_only_the_newest_requests_are_kept():
    log = RequestLog(max_requests=2)
    for number in range(5):
        log.add(request(path=f"/{number}"))
    assert [kept["path"] for kept in log.entries()] == ["/3", "/4"]


def test_large_bodies_push_older_requests_out():
    log = RequestLog(max_bytes=10)
    for number in range(4):
        log.add(request(b"12345", path=f"/{number}"))
    assert [kept["path"] for kept in log.entries()] == ["/2", "/3"]
    log.clear()
    log.add(request(b"1234567890"))
    assert len(log.entries()) == 1
