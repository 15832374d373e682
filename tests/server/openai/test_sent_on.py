"""What of a request reaches the upstream, and as it was written: bodies, queries, headers, names of models and files."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from host import Host, Policy
from host.component.manifest import embedded_text
from host.core.names import Reference
from host.errors import InputError
from host.runtime.workspace import Workspace
from host.server import ServerSettings
from host.service.request import Routing
from host.store.audit_log.records import newest_records
from tests.conftest import KEY
from tests.server.conftest import OPENAI, Server, install
from tests.server.openai.test_gateway import with_manifest

CHAT = "/v1/chat/completions"
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a b\xe2\x80\xaf\xe2\x82\xac.jsonl"\r\n'
    b'Content-Type: text/plain\r\n\r\n{}\r\n--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n%s--x--\r\n'
)


class Recorder:
    """An upstream that keeps each request as it came: method, target, headers in lower case, body."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with suppress(ConnectionError):  # the host went away
                    super().handle()

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                named = {name.lower(): value for name, value in self.headers.items()}
                recorder.seen.append((self.command, self.path, named, body))
                answer = b'{"id": "x", "object": "list", "data": [], "deleted": true, "text": "t"}'
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - as the library calls them

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def upstream(workspace: Workspace) -> Iterator[Recorder]:
    with closing(Recorder()) as one:
        workspace.policies.set(OPENAI, "upstreams", {"https://api.openai.com": one.url})
        yield one


@pytest.fixture
def server(upstream: Recorder, serving: Callable[..., Server]) -> Server:
    return serving(ServerSettings(routing=Routing(default=OPENAI, aliases={"fast": "gpt-4o-mini"})))


def asked(server: Server, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and document, for a request whose target and headers go out as they are given."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        given = {"content-type": "application/json", **{name.replace("_", "-"): one for name, one in headers.items()}}
        connection.request(method, target, body or None, given)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


BODIES = [
    pytest.param(
        b'{"model":"gpt-4o","messages":[],"temperature":1e3,"top_p":3.14159265358979323846,"seed":-0,"n":1.0,'
        b'"max_tokens":123456789012345678901234567890,"x":1E-400,"y":0.1e+1}',
        id="numbers",
    ),
    pytest.param(b' {\n "messages" : [ ] ,\t"model":"gpt-4o"\r\n}\n', id="blanks, and the order of names"),
    pytest.param(b'{"model":"gpt-4o","messages":[{"role":"user","content":"\\u00e9\\ud83d\\ude00\\/\xc3\xa9"}]}', id="escapes"),
    pytest.param(b'{"model":"gpt-4o","messages":[],"x":[{"$attachment":"x"},{"$json":"y"}]}', id="what looks like an attachment"),
    pytest.param(b'{"model":"gpt-4o","messages":[],"metadata":{"$attachment":"a","stream":true}}', id="and is metadata"),
    pytest.param(b'{"model":"gpt-4o","messages":[],"body":1,"headers":{},"query":"q","params":[]}', id="names of the envelope"),
    pytest.param(b'{"model":"gpt-4o","messages":[],"stream":false,"stop":null}', id="no stream"),
]  # fmt: skip


def test_a_json_body_reaches_the_upstream_byte_for_byte(server: Server, upstream: Recorder) -> None:
    for one in BODIES:
        body: bytes = one.values[0]  # type: ignore[assignment]
        assert asked(server, "POST", CHAT, body)[0] == 200, one.id
        method, target, headers, sent = upstream.seen.pop()
        assert (method, target, sent) == ("POST", CHAT, body), one.id
        assert headers["content-type"] == "application/json"
        assert headers["content-length"] == str(len(body))


def test_only_what_the_host_changes_is_written_anew(server: Server, upstream: Recorder) -> None:
    assert asked(server, "POST", CHAT, b'{"temperature": 1e0, "model":"fast", "messages":[], "x":[ 1.0 ]}')[0] == 200
    assert upstream.seen.pop()[3] == b'{"temperature":1e0,"model":"gpt-4o-mini","messages":[],"x":[ 1.0 ]}'


def test_a_name_that_stands_twice_in_one_object_is_a_mistake(server: Server, upstream: Recorder) -> None:
    for body in (b'{"model":"a","model":"b","messages":[]}', b'{"model":"a","messages":[{"role":"a","role":"b"}]}'):
        status, document = asked(server, "POST", CHAT, body)
        assert status == 400
        assert "twice in one object" in document["error"]["message"]
    assert not upstream.seen


QUERY = "api-version=2024&beta=true&model=evil&include[]=b&include[]=a&order=a&order=b&e=&p=a+b%20c%2Fd&x=%5B&stream=1"


def test_a_query_stays_in_the_query(server: Server, upstream: Recorder) -> None:
    body = b'{"model":"gpt-4o","messages":[],"beta":"mine"}'
    assert asked(server, "POST", f"{CHAT}?{QUERY}", body)[0] == 200
    assert upstream.seen.pop()[1::2] == (f"{CHAT}?{QUERY}", body)
    for target in ("/v1/files", "/v1/models", "/v1/models/x"):
        assert asked(server, "GET", f"{target}?{QUERY}")[0] == 200
        assert upstream.seen.pop()[1] == f"{target}?{QUERY}"
    form = {"content_type": "multipart/form-data; boundary=x"}
    assert asked(server, "POST", "/v1/files?purpose=other&a=1&a=2", FORM % b"", **form)[0] == 200
    _, target, _, sent = upstream.seen.pop()
    assert target == "/v1/files?purpose=other&a=1&a=2"
    assert b"other" not in sent


HEADERS = {
    "OpenAI-Beta": "assistants=v2, x=1",
    "OpenAI-Organization": "org-1",
    "OpenAI-Project": "proj-1  ",
    "Idempotency-Key": "k-1",
    "X-Client-Request-Id": "r-1\t",
}
OTHERS = {
    "X-Mine": "1", "Cookie": "a=b",
 "X-Api-Key": "k", "Range": "bytes=0-1",
    "User-Agent": "evil", "From": "a@b.c", "Accept": "text/html", "If-Match": "x", "X-HTTP-Method-Override": "PUT",
}  # fmt: skip


def test_the_api_s_own_headers_go_on_and_no_others(server: Server, upstream: Recorder, workspace: Workspace) -> None:
    assert asked(server, "POST", CHAT, b'{"model":"gpt-4o","messages":[]}', **HEADERS, **OTHERS)[0] == 200
    headers = upstream.seen.pop()[2]
    assert {name: headers[name.lower()] for name in HEADERS} == {name: one.strip() for name, one in HEADERS.items()}
    assert headers.keys().isdisjoint({"x-mine", "cookie", "x-api-key", "range", "from", "if-match"})
    assert (headers["user-agent"] != "evil", headers["accept"]) == (True, "application/json")
    started = next(one for one in newest_records(workspace.database, 50) if one.kind == "run.started")
    assert started.detail["caller"]["headers"] == sorted(name.lower() for name in HEADERS)


def test_a_policy_forwards_further_headers_and_a_config_stands_over_the_caller(
    server: Server, upstream: Recorder, workspace: Workspace
) -> None:
    workspace.policies.set(OPENAI, "forward_headers", ["X-Mine"])
    workspace.config.set(OPENAI, "organization", "org-operator")
    server.up_to_date()
    assert asked(server, "POST", CHAT, b'{"model":"gpt-4o","messages":[]}', **HEADERS, **OTHERS)[0] == 200
    headers = upstream.seen.pop()[2]
    assert (headers["x-mine"], headers["openai-organization"], headers["openai-project"]) == (
        "1",
        "org-operator",
        "proj-1",
    )


def test_a_model_with_slashes_is_found(server: Server, upstream: Recorder) -> None:
    for method, name in (
        ("GET", "meta-llama/Llama-3"),
        ("GET", "meta-llama%2FLlama-3"),
        ("GET", "ft:gpt-4o:acme::x/y"),
    ):
        assert asked(server, method, f"/v1/models/{name}")[0] == 200
        sent = upstream.seen.pop()
        assert (sent[0], sent[1].replace("%2F", "/").replace("%3A", ":")) == (
            method,
            f"/v1/models/{name.replace('%2F', '/')}",
        )


def test_a_form_keeps_its_names(server: Server, upstream: Recorder) -> None:
    fields = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n{"$attachment":"file0"}\r\n' % name
        for name in (b"multipart", b"body", b"headers", b"stream", b"query", b"$attachment")
    )
    form = {"content_type": "multipart/form-data; boundary=x"}
    assert asked(server, "POST", "/v1/files", FORM % fields, **form)[0] == 200
    sent = upstream.seen.pop()[3]
    assert 'filename="a b\u202f€.jsonl"'.encode() in sent
    for name in ("multipart", "body", "headers", "stream", "query", "$attachment"):
        assert f'name="{name}"\r\n\r\n{{"$attachment":"file0"}}'.encode() in sent


@pytest.fixture
def older(workspace: Workspace, openai_file: Path) -> str:
    """The reference of a catalyst that takes all of a request from `params`, as those of CYFR do."""
    wasm = openai_file.read_bytes()
    manifest = json.loads(embedded_text(wasm) or b"")
    del manifest["passes"]
    file = with_manifest(wasm, {**manifest, "id": "catalyst:local.older"}, workspace.state_dir / "older.wasm")
    upstreams = workspace.policies.effective(OPENAI).policy.upstreams
    install(workspace, file, upstreams["https://api.openai.com"], Reference.parse("c:local.older:0.1.0"))
    return "c:local.older"


def test_a_catalyst_that_takes_all_from_its_parameters_is_sent_data_as_data(
    upstream: Recorder, older: str, server: Server
) -> None:
    body = {
        "model": "gpt-4o",
        "messages": [],
        "x": [{"$attachment": "x"}, {"$json": "y"}],
        "metadata": {"data": "AAAA"},
    }
    named = {"x_catalyst": older}
    assert asked(server, "POST", CHAT, json.dumps(body).encode(), **named, **HEADERS)[0] == 200
    _, target, headers, sent = upstream.seen.pop()
    assert (target, json.loads(sent)) == (CHAT, body)
    assert "openai-beta" not in headers
    assert asked(server, "GET", "/v1/files?order=asc&after=a%2Fb", **named)[0] == 200
    assert upstream.seen.pop()[1] == "/v1/files?order=asc&after=a%2Fb"
    form = {"content_type": "multipart/form-data; boundary=x", **named}
    assert asked(server, "POST", "/v1/files", FORM % b"", **form)[0] == 200
    assert b"filename=" in upstream.seen.pop()[3]
    status, document = asked(server, "POST", f"{CHAT}?beta=true", json.dumps(body).encode(), **named)
    assert (status, document["error"]["param"]) == (400, "query")
    large = json.dumps({**body, "x": "A" * 30_000_000}).encode()
    status, document = asked(server, "POST", CHAT, large, **named)
    assert (status, "max_memory_bytes" in document["error"]["message"]) == (413, True), document
    assert not upstream.seen


def test_a_run_by_itself_sends_on_what_it_is_given(upstream: Recorder, openai_wasm: bytes, host: Host) -> None:
    policy = Policy(
        allowed_domains=["api.openai.com"],
        upstreams={"https://api.openai.com": upstream.url},
        forward_headers=["X-Mine"],
    )
    catalyst = host.load(openai_wasm, policy=policy, secrets={"OPENAI_API_KEY": KEY})
    params = '{"model": "gpt-4o", "messages": [], "seed": 1e3, "x": {"$attachment": "x"}}'
    more = '"query": "a=1&a=2", "headers": {"x-mine": "1"}'
    for stream in ("", ', "stream": false'):
        given = '{"operation": "chat.completions.create", "params": ' + params + stream + ", " + more + "}"
        assert catalyst.run(given).ok
        _, target, headers, sent = upstream.seen.pop()
        assert (target, headers["x-mine"], sent.decode()) == (f"{CHAT}?a=1&a=2", "1", params)
    values = {"model": "gpt-4o", "messages": [], "x": {"data": "A" * 20_000_000}}
    assert catalyst.run({"operation": "chat.completions.create", "params": values}).ok
    assert json.loads(upstream.seen.pop()[3]) == values
    with pytest.raises(InputError, match="forward_headers") as raised:
        catalyst.run({"operation": "models.list", "headers": {"x-other": "1"}})
    assert raised.value.field == "headers.x-other"
    assert not catalyst.run({"operation": "chat.completions.create", "params": {"model": "gpt-4o"}}).ok
    assert not upstream.seen


def test_the_arguments_of_a_tool_reach_the_upstream_as_they_were_written(server: Server, upstream: Recorder) -> None:
    params = (
        '{"model": "gpt-4o", "messages": [], "temperature": 1e0, "x": [3.14159265358979323846, {"$attachment": "x"}]}'
    )
    given = f'{{"operation": "chat.completions.create", "params": {params}}}'
    large = params[:-1] + ', "y": "' + "A" * 100_000 + '"}'
    run = '"action": "run", "reference": "c:local.openai"'
    for name, arguments, sent in (
        ("openai_chat_completions_create", params, params),
        ("openai_chat_completions_create", large, large),
        ("execution", f'{{{run}, "input": {given}}}', params),
        ("execution", f'{{{run}, "input": {json.dumps(given)}}}', params),
    ):
        call = f'{{"name": "{name}", "arguments": {arguments}}}'
        body = f'{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {call}}}'
        headers = {"accept": "*/*", "mcp_protocol_version": "2025-11-25"}
        status, document = asked(server, "POST", "/mcp", body.encode(), **headers)
        assert (status, document["result"].get("isError", False)) == (200, False), document
        assert upstream.seen.pop()[3].decode() == sent


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", '"utf-8"', "us-ascii", "ISO-8859-1"])
def test_a_charset_that_agrees_with_utf_8_is_passed_over(server: Server, upstream: Recorder, charset: str) -> None:
    kind = f"application/json; charset={charset}"
    assert asked(server, "POST", CHAT, b'{"model":"gpt-4o","messages":[]}', content_type=kind)[0] == 200
    assert upstream.seen.pop()[2]["content-type"] == "application/json"


def test_another_charset_is_not_read(server: Server, upstream: Recorder) -> None:
    for charset, body in (("utf-16", '{"model":"x"}'.encode("utf-16")), ("latin1", '{"model":"é"}'.encode("latin1"))):
        assert asked(server, "POST", CHAT, body, content_type=f"application/json; charset={charset}")[0] == 415
    assert not upstream.seen


def test_a_body_that_fits_the_limits_works_and_another_is_told_its_limit(
    server: Server, upstream: Recorder, workspace: Workspace
) -> None:
    picture = b'{"model":"gpt-4o","messages":[{"role":"user","content":"data:image/png;base64,%s"}]}'
    large = picture % (b"A" * 20_000_000)
    assert asked(server, "POST", CHAT, large)[0] == 200
    assert upstream.seen.pop()[3] == large
    status, document = asked(server, "POST", CHAT, picture % (b"A" * 34_000_000))
    assert (status, "max_request_size" in document["error"]["message"]) == (413, True), document
    form = {"content_type": "multipart/form-data; boundary=x"}
    status, document = asked(server, "POST", "/v1/files", FORM.replace(b"{}", b"A" * 60_000_000) % b"", **form)
    assert (status, "max_request_size" in document["error"]["message"]) == (413, True), document
    status, document = asked(server, "POST", CHAT, picture % (b"A" * 68_000_000))
    assert (status, "max_body_size" in document["error"]["message"]) == (413, True), document
    assert not upstream.seen
