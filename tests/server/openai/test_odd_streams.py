"""What upstreams answer to the request for a stream, and what each caller gets: the gateway's client, those who listen
to events, and those who wait for the whole. One reading for all of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel

from host import Catalyst, Host, Policy, errors
from host.runtime.workspace import Workspace
from host.server import Application
from tests.conftest import KEY, the_master_key_in_a_file, with_packages
from tests.egress.conftest import Peer
from tests.egress.conftest import Server as RawServer
from tests.probing import chunk, chunked
from tests.server.conftest import OPENAI, PATIENCE_S, Server, send_to
from tests.server.engine import SharedLoader

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}
RESPONSES: dict[str, Any] = {"model": "gpt-4o-mini", "input": "Hello"}
IMAGES: dict[str, Any] = {"model": "gpt-image-1", "prompt": "a cat"}
SOUND = {"data": "c291bmQ=", "filename": "a.mp3"}
ROUTES = {
    "chat.completions.create": "/v1/chat/completions",
    "responses.create": "/v1/responses",
    "images.generate": "/v1/images/generations",
    "audio.transcriptions.create": "/v1/audio/transcriptions",
}
CUT = {"type": "upstream_error", "message": "the stream broke off in the middle of an event"}
STRAY = {"message": "no more", "code": 503}
ODD = {"type": "upstream_error", "message": "the stream holds an event that is no JSON object"}


def written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def data(*values: Any) -> str:
    return "".join(f"data: {written(value)}\n\n" for value in values)


def named(name: str, value: Any) -> str:
    return f"event: {name}\n{data(value)}"


def word(text: str, choice: int = 0) -> dict[str, Any]:
    return {"id": "c1", "choices": [{"index": choice, "delta": {"content": text}}]}


def typed(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **more}


DONE = data("[DONE]")
HI = data(word("Hi"))
COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
}
RESPONSE = {"id": "r1", "object": "response", "status": "completed", "error": None, "output": []}
IMAGE = {"created": 1, "data": [{"b64_json": "AA=="}]}
MANY = {"message": "x" * 6_000, "type": "server_error", "code": 503}
STREAM = "text/event-stream"


@dataclass
class Upstream:
    """A server that sends `body` to every request, or that of the row which the request names."""

    body: str = ""
    content_type: str | None = STREAM
    ends: str = "well"  # or "closed": the connection's end is the body's; "open": it never ends

    def take(self, row: Row) -> None:
        self.body, self.content_type, self.ends = row.sent, row.content_type, row.ends

    def behave(self, peer: Peer) -> None:
        while asked := peer.request():
            if named := re.search(rb"a row called (\d+)", asked):
                self.take(list(TABLE.values())[int(named[1])])
            kind = [f"Content-Type: {self.content_type}"] if self.content_type else []
            if self.ends == "closed":
                peer.send("\r\n".join(["HTTP/1.1 200 OK", "Connection: close", *kind, "", self.body]).encode())
                return
            peer.send(chunked("200 OK", *kind) + (chunk(self.body.encode()) if self.body else b""))
            if self.ends == "open":
                peer.hang()
                return
            peer.send(b"0\r\n\r\n")


@dataclass
class Row:
    """`sent` by the upstream. `passed`: what the gateway's client reads, if that is not just what was sent. `status` and
    `error` of the run; `document`: its data, in place of events. `better`: where the official SDK gets
    something else through the gateway than from such an upstream itself, what it raises then ("": nothing). It would
    wait on, lose an event or an error, or take half an answer for a whole one."""

    sent: str
    content_type: str | None = STREAM
    ends: str = "well"
    operation: str = "chat.completions.create"
    params: dict[str, Any] = field(default_factory=lambda: CHAT)
    passed: str | None = None
    status: int = 200
    error: dict[str, Any] | None = None
    document: Any = None
    texts: list[str] | None = None
    better: str | None = None


def last_error(error: dict[str, Any]) -> str:
    """The error that the gateway adds to a stream."""
    return named("error", {"error": {"message": None, "type": "upstream_error", "param": None, "code": None, **error}})


TABLE = {
    "a stream as it should be": Row(HI + DONE, texts=["Hi"]),
    "[DONE], and the connection stays open": Row(HI + DONE, ends="open", texts=["Hi"]),
    "no [DONE], and the connection is closed": Row(HI, ends="closed", texts=["Hi"]),
    "no [DONE], and a proper end": Row(HI, texts=["Hi"]),
    "[DONE] without its line end": Row(HI + "data: [DONE]", passed=HI + DONE),
    "[DONE] without its blank line": Row(HI + "data: [DONE]\n", passed=HI + DONE),
    "a last event without its blank line": Row(HI + f"data: {written(word('!'))}\n", passed=HI + data(word("!")), better=""),
    "events after [DONE]": Row(HI + DONE + HI, passed=HI + DONE),
    "nothing at all": Row("", texts=[]),
    "comments alone": Row(": ping\n\n: ping\n\n", texts=[]),
    "[DONE] alone": Row(DONE, texts=[]),
    "two choices, mixed": Row(data(word("a"), word("c", 1), word("b"), word("d", 1)) + DONE, texts=["ab", "cd"]),
    # fields
    "names, ids and retries": Row(
        'event: thread.run.created\nid: 1\nretry: 500\ndata: {"id":"run_1"}\n\n' + "event: done\ndata: [DONE]\n\n"
    ),
    "a name that is not the type": Row('event: a\ndata: {"x":1,"type":"b"}\n\n'),
    "a type without a name": Row('data: {"type":"response.created"}\n\n'),
    "an id with a NUL": Row("id: 1\0\n" + HI + DONE, passed=HI + DONE),
    "an empty id": Row("id: \n" + HI + DONE),
    "several lines of data": Row('data: {"id":\ndata: "c1"}\n\n' + DONE),
    "carriage returns": Row((HI + DONE).replace("\n", "\r\n"), passed=HI + DONE),
    "carriage returns alone": Row((HI + DONE).replace("\n", "\r"), passed=HI + DONE),
    "a byte order mark and blank lines": Row("\ufeff\n\n" + HI + DONE, passed=HI + DONE),
    "[DONE] after two blanks": Row(HI + "data:  [DONE]\n\n", passed=HI + DONE, better=""),
    "data without content": Row("data:\n\n" + HI + "data\n\nevent: x\ndata: \n\n" + DONE, passed=HI + DONE, better=""),
    "fields that nobody knows": Row("foo: bar\n" + HI + DONE, passed=HI + DONE),
    # what the content type says
    "events without a content type": Row(HI + DONE, content_type=None),
    "events called JSON": Row(HI + DONE, content_type="application/json"),
    "events called text": Row(HI + DONE, content_type="text/plain"),
    "a document": Row(written(COMPLETION), content_type="application/json", document=COMPLETION),
    "a document called an event stream": Row(written(COMPLETION), document=COMPLETION),
    "a document without a content type": Row(written(COMPLETION), content_type=None, document=COMPLETION),
    "a document after blank lines": Row("\n\n" + written(COMPLETION), document=COMPLETION),
    "a response": Row(
        written(RESPONSE), "application/json", operation="responses.create", params=RESPONSES, document=RESPONSE
    ),
    "a response that failed": Row(
        written({**RESPONSE, "status": "failed", "error": {"code": "server_error"}}),
        "application/json",
        operation="responses.create",
        params=RESPONSES,
        document={**RESPONSE, "status": "failed", "error": {"code": "server_error"}},
    ),
    "an image": Row(written(IMAGE), "application/json", operation="images.generate", params=IMAGES, document=IMAGE),
    "a transcription": Row(
        '{"text":"hello"}', "application/json", operation="audio.transcriptions.create",
        params={"model": "whisper-1", "file": SOUND}, document={"text": "hello"},
    ),
    "a transcription as text": Row(
        "data: that was the first word\n", "text/plain", operation="audio.transcriptions.create",
        params={"model": "whisper-1", "file": SOUND, "response_format": "text"},
        document="data: that was the first word\n",
    ),
    # errors
    "an error in a document": Row(
        '{"error":{"message":"no","code":429}}', "application/json", status=429, error={"message": "no", "code": 429}, better="RateLimitError"),
    "an error in a list in a document": Row(
        '[{"error":{"message":"no","code":503}}]', "application/json", status=503, error={"message": "no", "code": 503}, better="InternalServerError"),
    "an error as vLLM writes it": Row(
        '{"object":"error","message":"no","code":400}', "application/json", status=400,
        error={"object": "error", "message": "no", "code": 400}, better="BadRequestError"),
    "a page": Row(
        "<html>welcome</html>", "text/html", status=502, error={"type": "upstream_error", "message": "<html>welcome</html>"}, better="InternalServerError"),
    "a page called an event stream": Row(
        "<html>welcome</html>", status=502, error={"type": "upstream_error", "message": "<html>welcome</html>"}, better="InternalServerError"),
    "words called an event stream": Row(
        "upstream timed out", status=502, error={"type": "upstream_error", "message": "upstream timed out"}, better="InternalServerError"),
    "an event called error": Row(
        HI + named("error", {"message": "boom", "code": 500}), status=500, error={"message": "boom", "code": 500}
    ),
    "an event called error that is words": Row(
        HI + "event: error\ndata: boom\n\n", status=502, error={"type": "upstream_error", "message": "boom"}
    ),
    "a long error": Row(HI + data({"error": MANY}), status=503, error=MANY),
    "an error, then more": Row(
        HI + data({"error": {"message": "no", "code": 529}}) + HI + DONE, status=529, error={"message": "no", "code": 529}
    ),
    "an error in a list": Row(
        HI + data([{"error": {"message": "no", "code": 500}}]), status=500, error={"message": "no", "code": 500}
    ),
    "an error and an open connection": Row(
        HI + data({"error": {"message": "no", "code": 500}}), ends="open", status=500, error={"message": "no", "code": 500}
    ),
    "an error as a type": Row(
        HI + named("error", typed("error", message="no", code="e", param=None)), status=502,
        error=typed("error", message="no", code="e", param=None),
    ),
    "an error with a status in digits": Row(
        HI + data({"error": {"message": "no", "code": "401"}}), status=401, error={"message": "no", "code": "401"}
    ),
    "an error within the upstream's own words is none": Row(data(word('"error"'), {"error": None, **word("x")}) + DONE),
    "an error between the events": Row(
        HI + '{"error":{"message":"no more","code":503}}\n\n' + HI, passed=HI + HI, status=503, error=STRAY, better="APIError"),
    "an error without a line end behind the events": Row(
        HI + '{"error":{"message":"no more","code":503}}', ends="closed", passed=HI, status=503, error=STRAY, better="APIError"),
    "an error with numbers that no result can hold": Row(
        '{"error":{"message":"no","code":503,"a":NaN,"b":1e400}}', "application/json", status=503,
        error={"message": "no", "code": 503, "a": "NaN", "b": "1e400"}, better="InternalServerError"),
    "a response that fails": Row(
        named("response.failed", typed("response.failed", response={"error": {"code": "server_error", "message": "no"}})),
        operation="responses.create", params=RESPONSES, status=502, error={"code": "server_error", "message": "no"},
    ),
    # the end of typed streams
    "a response that is complete": Row(
        named("response.completed", typed("response.completed", response=RESPONSE)), ends="open",
        operation="responses.create", params=RESPONSES, better=""),
    "a response that is incomplete": Row(
        data(typed("response.incomplete", response=RESPONSE)), ends="open", operation="responses.create", params=RESPONSES, better=""),
    "a response that is complete, and [DONE]": Row(
        data(typed("response.completed", response=RESPONSE)) + DONE, ends="open", operation="responses.create",
        params=RESPONSES,
    ),
    "an image that is complete": Row(
        data(typed("image_generation.completed", b64_json="AA==")), ends="open", operation="images.generate", params=IMAGES, better=""),
    "two images that are complete": Row(
        data(*[typed("image_generation.completed", b64_json="AA==")] * 2), ends="open", operation="images.generate",
        params={**IMAGES, "n": 2}, better=""),
    "a transcription that is complete": Row(
        data(typed("transcript.text.delta", delta="hello"), typed("transcript.text.done", text="hello")), ends="open",
        operation="audio.transcriptions.create", params={"model": "gpt-4o-transcribe", "file": SOUND}, texts=["hello"], better=""),
    # cut
    "half a line": Row(HI + 'data: {"id":"c1","choices":[{"delta":{"con', ends="closed", passed=HI, status=502, error=CUT, better="APIError"),
    "half a line, and a proper end": Row(HI + 'data: {"id":"c1","cho', passed=HI, status=502, error=CUT, better="APIError"),
    "half an event": Row(HI + 'data: {"id":\n', ends="closed", passed=HI, status=502, error=CUT, better="APIError"),
    "half a name": Row(HI + "eve", ends="closed", passed=HI, status=502, error=CUT, better="APIError"),
    "a name, and no more": Row(HI + "event: x\n", ends="closed", passed=HI, status=502, error=CUT, better="APIError"),
    "half of the first event": Row('data: {"id":"c1","cho', ends="closed", passed="", status=502, error=CUT, better="InternalServerError"),
    "half a comment is no loss": Row(HI + ": pi", ends="closed", passed=HI),
    "an event that is no JSON": Row(HI + "data: {oops\n\n" + DONE, passed=HI + "data: {oops\n\n", status=502, error=ODD),
}  # fmt: skip


@pytest.fixture(scope="module")
def upstream() -> Iterator[tuple[Upstream, str]]:
    one = Upstream()
    server = RawServer(one.behave, None, "127.0.0.1")
    yield one, server.url("")
    server.close()


@pytest.fixture(scope="module")
def catalyst(host: Host, openai_file: Path, upstream: tuple[Upstream, str]) -> Catalyst:
    policy = Policy(allowed_domains=["api.openai.com"], upstreams={"https://api.openai.com": upstream[1]})
    return host.load(openai_file, policy=policy, secrets={"OPENAI_API_KEY": KEY})


@pytest.fixture(scope="module")
def gateway(
    installed_state: Path, upstream: tuple[Upstream, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("odd") / "state"
    shutil.copytree(installed_state, folder)
    with ExitStack() as stack:
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        patched.setattr("host.runtime.host.Loader", SharedLoader)
        stack.enter_context(the_master_key_in_a_file())
        workspace = stack.enter_context(Workspace.open(folder))
        send_to(workspace, OPENAI, upstream[1])
        application = Application(None, state_dir=folder, workspace=workspace)
        stack.callback(application.close)
        yield stack.enter_context(closing(Server(application)))


@pytest.fixture(params=TABLE)
def row(request: pytest.FixtureRequest, upstream: tuple[Upstream, str]) -> Row:
    found: Row = TABLE[request.param]
    upstream[0].take(found)
    return found


def events_in(text: str) -> list[Any]:
    """The documents of the events in a stream that is as it should be."""
    found = []
    for one in text.split("\n\n"):
        said = "\n".join(line.removeprefix("data: ") for line in one.split("\n") if line.startswith("data: "))
        if said and said != "[DONE]":
            try:
                found.append(json.loads(said))
            except ValueError:
                found.append({"raw": said})
    return found


def passed_on(row: Row) -> str:
    return row.sent if row.passed is None else row.passed


def of_gateway(gateway: Server, row: Row) -> httpx2.Response:
    path = ROUTES[row.operation]
    if row.operation == "audio.transcriptions.create":
        form = {"stream": "true", **{name: one for name, one in row.params.items() if name != "file"}}
        return gateway.post(path, data=form, files={"file": ("a.mp3", b"sound")})
    return gateway.post(path, json={**row.params, "stream": True})


def test_the_gateway_passes_on_what_the_upstream_sent(gateway: Server, row: Row) -> None:
    began = time.monotonic()
    answer = of_gateway(gateway, row)
    assert time.monotonic() - began < PATIENCE_S / 2  # and not at the deadline
    kind = answer.headers["content-type"].partition(";")[0]
    if row.document is not None:
        assert (answer.status_code, kind) == (
            200,
            row.content_type if row.content_type == "text/plain" else "application/json",
        )
        assert answer.text == row.sent
        return
    said = passed_on(row)
    if row.status != 200 and not events_in(said):
        assert (answer.status_code, kind) == (row.status, "application/json")
        assert row.error is not None
        assert row.error.items() <= answer.json()["error"].items()
    else:
        assert (answer.status_code, kind) == (200, STREAM)
        told = row.error not in (CUT, ODD, STRAY)
        assert answer.text == said + ("" if row.status == 200 or told else last_error(row.error or {}))


def test_a_listener_gets_the_events_and_then_the_result(catalyst: Catalyst, row: Row) -> None:
    stream = catalyst.stream({"operation": row.operation, "params": row.params})
    found = []
    try:
        for one in stream:
            found.append(one)  # noqa: PERF402 - what came before an error counts
    except errors.OperationFailed:
        pass
    result = stream.result
    assert (result.status, result.error) == (row.status, row.error)
    if row.document is not None:
        assert (found, result.data) == ([], row.document)
    else:
        assert found == events_in(passed_on(row))


def test_one_who_waits_gets_the_same_as_one_who_listens(catalyst: Catalyst, row: Row) -> None:
    result = catalyst.run({"operation": row.operation, "params": row.params, "stream": True})
    assert (result.status, result.error) == (row.status, row.error)
    if row.document is not None:
        assert result.data == row.document
    elif result.ok:
        assert result.data["chunks"] == events_in(passed_on(row))
        if row.texts is not None:
            assert result.data["texts"] == row.texts
            assert result.data["combined_text"] == (row.texts[0] if row.texts else "")


@pytest.mark.parametrize("value", ["NaN", "1e400", "[" * 300 + "]" * 300, '{"a":' * 5_000 + "1" + "}" * 5_000])
def test_what_no_result_can_hold_is_a_text_in_a_gathered_stream(
    catalyst: Catalyst, upstream: tuple[Upstream, str], value: str
) -> None:
    """A paid answer is not lost for it, and neither are the words of an error."""
    call = {"operation": "chat.completions.create", "params": CHAT, "stream": True}
    upstream[0].take(Row(HI + f'data: {{"id":"c1","x":{value}}}\n\n' + DONE))
    result = catalyst.run(call)
    assert (result.status, result.data["combined_text"]) == (200, "Hi")
    upstream[0].take(Row(HI + f'data: {{"error":{{"message":"no","code":503,"x":{value}}}}}\n\n'))
    result = catalyst.run(call)
    assert (result.status, result.error["message"]) == (503, "no")


def of_sdk(url: str, row: Row) -> tuple[list[Any], str]:
    """The official SDK's events of a stream, and the name of the exception that ended it."""
    found: list[Any] = []
    given = {name: one for name, one in row.params.items() if name != "file"}
    if "file" in row.params:
        given["file"] = ("a.mp3", b"sound")
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE_S) as sdk:
        try:
            made: Any = {
                "chat.completions.create": sdk.chat.completions.create,
                "responses.create": sdk.responses.create,
                "images.generate": sdk.images.generate,
                "audio.transcriptions.create": sdk.audio.transcriptions.create,
            }[row.operation](**given, stream=True)
            for one in made:
                found.append(json.loads(one.to_json()) if isinstance(one, BaseModel) else one)  # noqa: PERF401 - some may come before an error
        except (openai.OpenAIError, ValueError) as error:
            return found, type(error).__name__
    return found, ""


def test_the_official_sdk_gets_what_it_gets_from_the_upstream_itself(
    gateway: Server, upstream: tuple[Upstream, str], row: Row
) -> None:
    found, raised = of_sdk(gateway.url, row)
    if row.better is None:
        assert (found, raised) == of_sdk(upstream[1], row)
    else:
        assert (len(found), raised) == (
            len(events_in(passed_on(row))) if row.error in (None, CUT, STRAY) else 0,
            row.better,
        )


@pytest.mark.node
def test_nor_does_the_node_sdk_see_a_difference(gateway: Server, upstream: tuple[Upstream, str]) -> None:
    """Where it sees one, it gets less from the upstream itself, as Python's does."""
    rows = []
    for at, (name, row) in enumerate(TABLE.items()):
        field = "prompt" if row.operation.startswith(("images", "audio")) else "user"
        called = {**row.params, field: f"a row called {at}"}
        params = {key: one for key, one in called.items() if key != "file"}
        alone = row.better is not None or row.ends == "open"  # there this SDK waits on after `[DONE]`
        urls = [gateway.url] if alone else [gateway.url, upstream[1]]
        rows.append({"name": name, "operation": row.operation, "params": params, "urls": urls})
    done = subprocess.run(
        ["node", "odd_streams.mjs"],
        cwd=with_packages("openai-node", Path(__file__).parent / "node"),
        input=json.dumps(rows),
        env={**os.environ, "KEY": KEY},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found.keys() == TABLE.keys()
    assert {name: both for name, both in found.items() if len(both) == 2 and both[0] != both[1]} == {}
    for name, row in TABLE.items():
        if row.better is not None:
            assert (name, found[name][0]["error"]) == (name, row.better)
