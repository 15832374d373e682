"""Every operation against a recorder: what the component sends is what the official SDK sends for the same arguments."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest

from host import Attachment, CancelToken, Catalyst, Host, Policy, errors
from tests.catalyst.openai.arguments import SDK, File, example, given_to_the_sdk, given_to_us
from tests.conftest import KEYS

FACTS = (Path(__file__).with_name("operations.txt")).read_text().splitlines()
OPERATIONS = [line.split(" ") for line in FACTS if not line.startswith("WEBSOCKET")]
OF_THE_BODY = ("content-type",)
COMPARED = ("accept", "authorization", "openai-beta", "idempotency-key")
SENT_UNASKED = {"embeddings.create": {"encoding_format": "base64"}}  # by the SDK, which decodes it
ANSWER = b'{"data":[{"embedding":[0.5]}],"id":"an id","thread_id":"a thread","status":"completed","file_counts":{"in_progress":0}}'
HELPERS: list[tuple[str, dict[str, Any]]] = [
    ("beta.threads.create_and_run_poll", {"assistant_id": "a"}),
    ("beta.threads.runs.create_and_poll", {"thread_id": "t", "assistant_id": "a", "metadata": {"a": "b"}}),
    ("beta.threads.runs.poll", {"thread_id": "t", "run_id": "r"}),
    ("beta.threads.runs.submit_tool_outputs_and_poll", {"thread_id": "t", "run_id": "r", "tool_outputs": []}),
    ("vector_stores.file_batches.create_and_poll", {"vector_store_id": "vs", "file_ids": ["a", "b"]}),
    ("vector_stores.file_batches.poll", {"vector_store_id": "vs", "batch_id": "b"}),
    (
        "vector_stores.file_batches.upload_and_poll",
        {"vector_store_id": "vs", "files": [File(b"a"), File(b"b", "b.md")]},
    ),
    ("vector_stores.files.create_and_poll", {"vector_store_id": "vs", "file_id": "f", "attributes": {"a": 1}}),
    ("vector_stores.files.poll", {"vector_store_id": "vs", "file_id": "f"}),
    ("vector_stores.files.upload", {"vector_store_id": "vs", "file": File(b"a", "a.txt")}),
    ("vector_stores.files.upload_and_poll", {"vector_store_id": "vs", "file": File(b"a", "a.txt")}),
    ("videos.create_and_poll", {"prompt": "p", "input_reference": File(b"a", "a.png")}),
    ("videos.poll", {"video_id": "v"}),
]


WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"a key of a webhook").decode()


def signature(signed: str) -> str:
    digest = hmac.digest(b"a key of a webhook", signed.encode(), hashlib.sha256)
    return base64.b64encode(digest).decode()


class Sent(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class _Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        names = [*COMPARED, *(OF_THE_BODY if body else ())]
        self.server.sent.append(  # type: ignore[attr-defined]
            Sent(self.command, self.path, {name: headers[name] for name in names if name in headers}, body)
        )
        streams = b'"stream":true' in body or b'"stream"\r\n\r\ntrue' in body or "stream=true" in self.path
        events = streams or headers.get("accept") == "text/event-stream"
        scripted = self.server.answers.pop(0) if self.server.answers else ANSWER  # type: ignore[attr-defined]
        answer = b"data: [DONE]\n\n" if events else scripted
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if events else "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        if after := self.server.__dict__.pop("after", None):
            after()

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def recording() -> Iterator[Any]:
    """A server that keeps what it is sent, in `sent`, and answers with ANSWER or with the next of its `answers`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Recorder) as server:
        server.sent, server.answers = [], []  # type: ignore[attr-defined]
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def recorder() -> Iterator[Any]:
    with recording() as one:
        yield one


@pytest.fixture(scope="module")
def catalyst(host: Host, openai_file: Path, recorder: Any) -> Catalyst:
    upstreams = {"https://api.openai.com": f"http://127.0.0.1:{recorder.server_port}"}
    return host.load(openai_file, policy=Policy(allowed_domains=["api.openai.com"], upstreams=upstreams), secrets=KEYS)


@pytest.fixture(scope="module")
def methods(recorder: Any) -> Iterator[dict[str, Any]]:
    base_url = f"http://127.0.0.1:{recorder.server_port}/v1"
    keys = {"api_key": KEYS["OPENAI_API_KEY"], "admin_api_key": KEYS["OPENAI_ADMIN_KEY"]}
    with openai.OpenAI(base_url=base_url, max_retries=0, **keys) as client:
        yield dict(SDK.methods(client))


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    return {row["name"]: row for row in SDK.operations()}


def of_one(recorder: Any) -> Sent:
    """The one request that was sent, its boundary replaced."""
    [sent] = recorder.sent
    recorder.sent.clear()
    return without_boundary(sent)


def without_boundary(sent: Sent) -> Sent:
    boundary = re.search(r"boundary=(\S+)", sent.headers.get("content-type", ""))
    if boundary is None:
        return sent
    text = sent.headers["content-type"].replace(boundary[1], "BOUNDARY")
    body = sent.body.replace(boundary[1].encode(), b"BOUNDARY")
    return sent._replace(headers={**sent.headers, "content-type": text}, body=body)


def arguments_of(row: dict[str, Any], *, least: bool, stream: bool) -> dict[str, Any]:
    """By the names in the API."""
    names = [name for name in row["hints"] if not least or name in row["required"]]
    given = {name: example(name, row["hints"][name]) for name in names}
    given |= {name: value for name, value in SENT_UNASKED.get(row["name"], {}).items() if name not in given}
    if "stream" in row["hints"] and not (least and not stream):
        given["stream"] = stream
    return given


def call(methods: dict[str, Any], row: dict[str, Any], arguments: dict[str, Any]) -> None:
    given = given_to_the_sdk(arguments)
    methods[row["name"]](**{row["python"].get(name, name): value for name, value in given.items()})


def differences(
    catalyst: Catalyst, methods: dict[str, Any], recorder: Any, row: dict[str, Any], *, least: bool, stream: bool
) -> list[str]:
    arguments = arguments_of(row, least=least, stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            call(methods, row, arguments)
        except TypeError:  # of several overloads, each requires more than what all of them do
            arguments = arguments_of(row, least=False, stream=stream)
            call(methods, row, arguments)
    theirs = of_one(recorder)
    result = catalyst.run({"operation": row["name"], "params": given_to_us(arguments)})
    if result.status != 200:
        recorder.sent.clear()
        return [f"{row['name']}: {result.error}"]
    ours = of_one(recorder)
    fields = [field for field in Sent._fields if getattr(theirs, field) != getattr(ours, field)]
    return [f"{row['name']}: {field}:\n  {getattr(theirs, field)!r}\n  {getattr(ours, field)!r}" for field in fields]


def test_every_operation_of_the_api_is_declared_with_its_method_and_path() -> None:
    declared = json.loads((Path(__file__).parents[3] / "catalyst/openai/operations.json").read_bytes())
    found = {
        name: (one["method"], one["path"])
        for first, one in declared["operations"].items()
        if "path" in one
        for name in (first, *one.get("aliases", ()))
    }
    facts = {name: (method, path) for method, path, name in OPERATIONS}
    assert len(facts) == 396
    assert {name: found.get(name) for name in facts} == facts
    connections = [line.split(" ")[1] for line in FACTS if line.startswith("WEBSOCKET")]
    assert len(connections) == 8
    assert sorted(declared["websockets"]) == sorted(connections)


@pytest.mark.parametrize("least", [True, False], ids=["what is required", "all parameters"])
def test_every_operation_sends_what_the_official_sdk_sends(
    catalyst: Catalyst, methods: dict[str, Any], rows: dict[str, Any], recorder: Any, *, least: bool
) -> None:
    found = []
    for _, _, name in OPERATIONS:
        if name != "files.retrieve_content":  # the deprecated form of files.content, which asks for JSON and gets bytes
            found += differences(catalyst, methods, recorder, rows[name], least=least, stream=False)
    assert not found, "\n".join(found)


def test_every_operation_that_streams_asks_for_it_as_the_official_sdk_does(
    catalyst: Catalyst, methods: dict[str, Any], rows: dict[str, Any], recorder: Any
) -> None:
    streaming = [row for row in rows.values() if "stream" in row]
    assert len(streaming) == 15
    found = [
        difference
        for row in streaming
        for difference in differences(catalyst, methods, recorder, row, least=False, stream=True)
    ]
    assert not found, "\n".join(found)


# What is more than one request.


def all_of(recorder: Any) -> list[Sent]:
    found = [without_boundary(sent) for sent in recorder.sent]
    recorder.sent.clear()
    return found


@pytest.mark.parametrize(("name", "arguments"), HELPERS, ids=[name for name, _ in HELPERS])
def test_a_helper_sends_the_requests_that_the_official_sdk_sends(
    catalyst: Catalyst, methods: dict[str, Any], recorder: Any, name: str, arguments: dict[str, Any]
) -> None:
    with warnings.catch_warnings(action="ignore"):
        methods[name](**given_to_the_sdk(arguments))
    theirs = all_of(recorder)
    result = catalyst.run({"operation": name, "params": given_to_us(arguments)})
    assert result.status == 200, result.error
    assert sorted(all_of(recorder)) == sorted(theirs)  # the SDK uploads several files at once


@pytest.mark.parametrize("way", ["an attachment", "base64"])
def test_a_large_file_goes_up_in_parts_as_with_the_official_sdk(
    catalyst: Catalyst, methods: dict[str, Any], recorder: Any, way: str
) -> None:
    content, part = bytes(range(256)) * 40, 3_000
    more = {"mime_type": "application/jsonl", "purpose": "batch", "part_size": part}
    methods["uploads.upload_file_chunked"](file=content, filename="a.jsonl", bytes=len(content), md5="0a", **more)
    theirs = all_of(recorder)
    assert len(theirs) == 2 + 4
    attached = {"a.jsonl": Attachment(content, "a.jsonl")} if way == "an attachment" else None
    file = {"$attachment": "a.jsonl"} if attached else File(content, "a.jsonl").ours
    params = {"file": file, "md5": "0a", **more}
    result = catalyst.run({"operation": "uploads.upload_file_chunked", "params": params}, attachments=attached)
    assert result.status == 200, result.error
    assert sorted(all_of(recorder)) == sorted(theirs)


def test_a_wait_is_as_long_as_asked_and_ends_with_the_run(catalyst: Catalyst, recorder: Any) -> None:
    recorder.answers = [ANSWER.replace(b"completed", b"queued")] * 2
    params = {"video_id": "v", "poll_interval_ms": 30}
    began = time.monotonic()
    assert catalyst.run({"operation": "videos.poll", "params": params}).data["status"] == "completed"
    assert time.monotonic() - began >= 0.06
    assert len(all_of(recorder)) == 3


def test_a_cancelled_run_does_not_wait_on(catalyst: Catalyst, recorder: Any) -> None:
    recorder.answers = [ANSWER.replace(b"completed", b"queued")]
    token = CancelToken()
    recorder.after = token.cancel
    operation = {"operation": "videos.poll", "params": {"video_id": "v", "poll_interval_ms": 600_000}}
    with pytest.raises(errors.Cancelled):
        catalyst.run(operation, cancel=token)
    assert len(all_of(recorder)) == 1


def test_what_there_is_can_be_asked(catalyst: Catalyst, recorder: Any) -> None:
    found = catalyst.run({"operation": "operations.list", "params": {"query": "video delete"}}).data
    assert [one["name"] for one in found["operations"]] == ["videos.delete"]
    told = catalyst.run({"operation": "operations.describe", "params": {"operation": "chat.completions.create"}}).data
    assert (told["method"], told["path"]) == ("POST", "/chat/completions")
    assert "chat.completions.create.message" in told["params"]["$defs"]
    assert recorder.sent == []


SIGNED = {
    "webhook-id": "wh_1",
    "webhook-timestamp": "1750861078",
    "webhook-signature": "v1,bm8= v1," + signature('wh_1.1750861078.{"type":"x"}'),
}


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        pytest.param({}, 200, "", id="as it was signed"),
        pytest.param({"payload": '{"type":"y"}'}, 400, "no signature", id="another body"),
        pytest.param({"now": 1750861078 + 301}, 400, "too long ago", id="an old one"),
        pytest.param({"now": 1750861078 - 301}, 400, "in the future", id="one of tomorrow"),
        pytest.param({"now": float("nan")}, 400, "", id="no time"),
        pytest.param({"now": None}, 400, "now", id="no clock"),
        pytest.param({"headers": {}}, 400, "webhook-id", id="unsigned"),
    ],
)
@pytest.mark.parametrize("operation", ["webhooks.unwrap", "webhooks.verify_signature"])
def test_a_webhook_is_one_of_openai_if_its_signature_is_right(
    call: Any, world: Any, operation: str, changes: dict[str, Any], status: int, said: str
) -> None:
    world.secrets["OPENAI_WEBHOOK_SECRET"] = WEBHOOK_SECRET
    params = {"payload": '{"type":"x"}', "headers": SIGNED, "now": 1750861078, **changes}
    result = call(operation, params)
    assert result["status"] == status, result
    assert said in str(result.get("error", ""))


def test_a_webhook_cannot_be_checked_with_a_hidden_secret(call: Any, world: Any) -> None:
    world.secrets["OPENAI_WEBHOOK_SECRET"] = "host-secret-" + "0" * 32
    result = call("webhooks.unwrap", {"payload": "{}", "headers": SIGNED, "now": 1750861078})
    assert (result["status"], result["error"]["param"]) == (500, "OPENAI_WEBHOOK_SECRET")
    assert "reveal" in result["error"]["message"]
