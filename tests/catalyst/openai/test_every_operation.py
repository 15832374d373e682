"""Every operation against a recorder: what the component sends is what the official SDK sends for the same arguments."""

from __future__ import annotations

import json
import re
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest

from host import Catalyst, Host, Policy
from tests.catalyst.openai.arguments import declared_by_the_sdk, example, given_to_the_sdk, given_to_us

KEYS = {"OPENAI_API_KEY": "sk-" + "k" * 40, "OPENAI_ADMIN_KEY": "sk-admin-" + "a" * 40}
FACTS = (Path(__file__).with_name("operations.txt")).read_text().splitlines()
OPERATIONS = [line.split(" ") for line in FACTS if not line.startswith("WEBSOCKET")]
OF_THE_BODY = ("content-type",)
COMPARED = ("accept", "authorization", "openai-beta", "idempotency-key")
SDK = declared_by_the_sdk()
SENT_UNASKED = {"embeddings.create": {"encoding_format": "base64"}}  # by the SDK, which decodes it
ANSWER = b'{"data":[{"embedding":[0.5]}]}'


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
        answer = b"data: [DONE]\n\n" if events else ANSWER
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if events else "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def recorder() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Recorder) as server:
        server.sent = []  # type: ignore[attr-defined]
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


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
    assert sorted(declared["websockets"]) == sorted(
        line.split(" ")[1] for line in FACTS if line.startswith("WEBSOCKET")
    )


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
