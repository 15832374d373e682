"""The official SDK's clients over a catalyst: what they give, what they raise, and that nothing goes past the sandbox."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from host import Catalyst, Host, Policy, errors
from host.fakes import FakeOpenAI
from host.fakes.openai.faults import Fault
from host.openai import official
from host.openai.home import REMEDIES
from tests.conftest import KEY, ROOT
from tests.openai.conftest import KEYS, Events, to
from tests.server.openai import test_sdk as programs

MESSAGES: Any = [{"role": "user", "content": "Say hello"}]
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": MESSAGES}


def test_an_answer_is_an_instance_of_the_sdks_model(client: official.OpenAI) -> None:
    answer = client.chat.completions.create(**CHAT)
    assert isinstance(answer, ChatCompletion)
    assert answer.choices[0].message.content
    assert answer._request_id


PROGRAMS = [
    value
    for name, value in vars(programs).items()
    if callable(value) and not name.startswith("test_") and getattr(value, "__module__", "") == programs.__name__
    and list(value.__annotations__) == ["client", "return"] and value.__annotations__["return"] == "None"
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # of some operations the SDK says so
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda one: one.__name__)
def test_a_program_for_the_sdk_runs_as_it_is(client: official.OpenAI, program: Callable[[Any], None]) -> None:
    program(client)


PROGRAM = """
import json
client = OpenAI(**given)
messages = [{"role": "user", "content": "Write a haiku"}]
for chunk in client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True):
    print(chunk.choices[0].delta.content if chunk.choices else chunk.usage, end="|")
with client.responses.stream(model="gpt-4o-mini", input="Hello") as stream:
    print([event.type for event in stream], stream.get_final_response().output_text)
made = [client.files.create(file=(f"{n}.jsonl", b"{}\\n" * n), purpose="batch") for n in (1, 2, 3)]
print([file.bytes for file in client.files.list(limit=2)], client.files.list(limit=2).has_next_page())
print(client.files.content(made[0].id).text, client.files.with_raw_response.retrieve(made[1].id).parse().filename)
print(client.embeddings.create(model="text-embedding-3-small", input="x", dimensions=3).data[0].embedding)
print(client.beta.chat.completions.parse(model="gpt-4o-mini", messages=messages).choices[0].message.content)
for bad in ({"model": "no-such-model", "messages": messages}, {"model": "gpt-4o-mini", "messages": []}):
    try:
        client.chat.completions.create(**bad)
        print("no error")
    except APIStatusError as error:
        print(type(error).__name__, repr(error), error, error.status_code, error.code, error.param, error.type, error.body)
try:
    client.files.retrieve("file-none")
except NotFoundError as error:
    print(error)
"""


def test_a_program_says_the_same_when_only_its_import_is_changed(
    catalyst: Catalyst, fake: FakeOpenAI, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    with FakeOpenAI(port=0) as other:
        alone: dict[str, Any] = {"api_key": KEY, "base_url": f"{other.url}/v1", "max_retries": 0}
        for line, given in (
            ("from openai import OpenAI", alone),
            ("from host.openai import OpenAI", {"catalyst": catalyst, "max_retries": 0}),
        ):
            source = f"{line}\nfrom openai import APIStatusError, NotFoundError\n{PROGRAM}\nclient.close()\n"
            exec(source, {"given": given})
            said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert len(said[0].splitlines()) >= 9


# Errors ---------------------------------------------------------------------------------------------------------------


STATUSES = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}


@pytest.mark.parametrize("status", STATUSES)
def test_an_error_status_is_one_of_the_sdk_and_of_the_host(
    client: official.OpenAI, fake: FakeOpenAI, status: int
) -> None:
    fake.fail_next(status)
    with pytest.raises(STATUSES[status]) as caught:
        client.chat.completions.create(**CHAT)
    error = caught.value
    assert isinstance(error, errors.OperationFailed)
    assert error.status_code == status == error.result.status
    assert isinstance(error.body, dict)
    assert error.body["message"] in str(error)
    assert error.request_id == error.response.headers["x-request-id"]
    assert error.execution is not None
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert (str(again), again.status_code, again.body) == (str(error), error.status_code, error.body)


def test_an_error_status_is_tried_again_as_the_sdk_does_it(catalyst: Catalyst, fake: FakeOpenAI) -> None:
    with official.OpenAI(catalyst, max_retries=1) as client:
        fake.fail_next(429, headers={"retry-after-ms": "1"})
        assert client.chat.completions.create(**CHAT).choices
    assert len(fake.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_denial_is_raised_as_it_is_and_at_once(host: Host, openai_file: Path, stream: bool) -> None:
    denied = host.load(openai_file, policy=Policy(allowed_domains=["a.test"]), secrets={})
    with official.OpenAI(denied) as client, pytest.raises(errors.Denied) as caught:
        client.chat.completions.create(**CHAT, stream=stream)
    assert caught.value.refusals[0].remedy
    assert isinstance(caught.value, openai.OpenAIError)
    assert pickle.loads(pickle.dumps(caught.value)).refusals == caught.value.refusals


def test_a_run_that_takes_too_long_is_a_timeout_of_both(client: official.OpenAI, fake: FakeOpenAI) -> None:
    fake.script([Fault(delay_s=30)])
    with pytest.raises(openai.APITimeoutError) as caught:
        client.chat.completions.create(**CHAT, timeout=0.3)
    assert isinstance(caught.value, errors.DeadlineExceeded)
    assert len(fake.requests) <= 1


def test_a_stream_that_pauses_for_longer_than_its_caller_waits_is_a_timeout(
    client: official.OpenAI, fake: FakeOpenAI
) -> None:
    fake.script([Fault(delay_s=30)])
    with pytest.raises(openai.APITimeoutError) as caught:
        list(client.chat.completions.create(**CHAT, stream=True, timeout=0.3))
    assert isinstance(caught.value, errors.DeadlineExceeded)


# Arguments ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REMEDIES)
@pytest.mark.parametrize("kind", [official.OpenAI, official.AsyncOpenAI])
def test_an_argument_that_cannot_work_is_refused_with_what_does(catalyst: Catalyst, kind: Any, name: str) -> None:
    with pytest.raises(errors.InputError, match=name) as caught:
        kind(catalyst, **{name: "something"})
    assert caught.value.hint == REMEDIES[name]
    assert isinstance(caught.value, openai.OpenAIError)


@pytest.mark.parametrize("kind", ["OpenAI", "AsyncOpenAI"])
def test_what_the_sdk_takes_is_taken_or_refused(catalyst: Catalyst, kind: str) -> None:
    import inspect

    one: Any = getattr(official, kind)
    theirs = inspect.signature(getattr(openai, kind)).parameters.keys() - {"self"}
    ours = inspect.signature(one).parameters.keys()
    assert theirs - ours - REMEDIES.keys() == {"_strict_response_validation", "_enforce_credentials"}
    with pytest.raises(TypeError, match=rf"{kind}\(\) got an unexpected keyword argument 'api_kez'"):
        one(catalyst, api_kez="x")


def test_a_copy_refuses_too_and_shares_the_catalyst(client: official.OpenAI, fake: FakeOpenAI) -> None:
    with pytest.raises(errors.InputError, match="api_key"):
        client.with_options(api_key="sk-other")
    other = client.with_options(timeout=20, default_headers={"X-Client-Request-Id": "one"})
    assert other.catalyst is client.catalyst
    other.models.list()
    assert fake.requests[-1]["headers"]["x-client-request-id"] == "one"


def test_headers_go_on_where_the_catalyst_sends_them_and_are_refused_else(catalyst: Catalyst, fake: FakeOpenAI) -> None:
    with official.OpenAI(catalyst, organization="org-1", project="proj-1") as client:
        client.models.list(extra_headers={"Idempotency-Key": "i"}, extra_query={"a": "b"})
        with pytest.raises(errors.InputError, match="x-mine"):
            client.models.list(extra_headers={"X-Mine": "1"})
        with pytest.raises(errors.InputError, match="own key"):
            client.models.list(extra_headers={"Authorization": "Bearer sk-mine"})
    [sent] = fake.requests
    assert (sent["headers"]["openai-organization"], sent["headers"]["openai-project"]) == ("org-1", "proj-1")
    assert sent["headers"]["idempotency-key"] == "i"
    assert sent["headers"]["authorization"] == f"Bearer {KEY}"
    assert sent["query"] == {"a": "b"}


def test_nothing_is_taken_from_the_environment(
    catalyst: Catalyst, fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_WEBHOOK_SECRET"):
        monkeypatch.setenv(name, "from-the-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Mine: 1")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with official.OpenAI(catalyst, max_retries=0) as client:
        assert client.models.list().data
        assert client.webhook_secret is None
    assert "from-the-environment" not in str(fake.requests)


@pytest.mark.usefixtures("openai_wasm")
def test_what_the_sdk_logs_has_no_key_no_header_and_no_body(openai_file: Path, fake: FakeOpenAI) -> None:
    """`OPENAI_LOG` is the one variable that the SDK reads when it is imported."""
    script = (
        "from host import Host, Policy; from host.openai import OpenAI\n"
        f"policy = Policy(allowed_domains=['api.openai.com'], upstreams={{'https://api.openai.com': {fake.url!r}}})\n"
        f"with Host() as host, OpenAI(host.load({str(openai_file)!r}, policy=policy, secrets={KEYS!r})) as client:\n"
        "    said = [{'role': 'user', 'content': 'said-to-nobody-else'}]\n"
        "    more = {'X-Client-Request-Id': 'header-of-mine'}\n"
        "    client.chat.completions.create(model='gpt-4o-mini', messages=said, extra_headers=more)\n"
        "    with client.realtime.connect(model='gpt-realtime', extra_headers=more) as connection:\n"
        "        connection.recv()\n"
    )
    env = {**os.environ, "OPENAI_LOG": "debug"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "HTTP Response: POST 200" in done.stderr
    assert "Received WebSocket message" in done.stderr
    for one in (*KEYS.values(), "said-to-nobody-else", "header-of-mine"):
        assert one not in done.stderr
        assert one in str(fake.requests) or one == KEYS["OPENAI_ADMIN_KEY"]


# Nothing goes past the sandbox ----------------------------------------------------------------------------------------


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch, fake: FakeOpenAI) -> None:
    """Only the host's road out opens connections here, which it does with `socket.socket`; and all of those of the SDK
    begin with `socket.create_connection`, an event loop or `getaddrinfo`."""

    def opened(*args: Any, **_: Any) -> Any:
        raise AssertionError(f"a connection was opened past the host: {args}")

    monkeypatch.setattr(socket, "create_connection", opened)
    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "create_connection", opened)
    monkeypatch.setattr(httpx2.HTTPTransport, "handle_request", opened)
    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", opened)


@pytest.mark.usefixtures("no_sockets")
def test_no_connection_is_the_sdks_own(client: official.OpenAI, catalyst: Catalyst, fake: FakeOpenAI) -> None:
    client.chat.completions.create(**CHAT)
    list(client.chat.completions.create(**CHAT, stream=True))
    with client.realtime.connect(model="gpt-realtime") as connection:
        assert connection.recv().type == "session.created"

    async def later() -> None:
        async with official.AsyncOpenAI(catalyst) as other:
            await other.chat.completions.create(**CHAT)
            async with other.realtime.connect(model="gpt-realtime") as connection:
                assert (await connection.recv()).type == "session.created"

    asyncio.run(later())
    assert len(fake.requests) >= 3


@pytest.mark.usefixtures("no_sockets")
def test_a_request_to_anywhere_else_is_refused(client: official.OpenAI, fake: FakeOpenAI) -> None:
    with pytest.raises(errors.InputError, match=r"evil\.test"):
        client.get("https://evil.test/v1/models", cast_to=httpx2.Response)
    with pytest.raises(errors.InputError):
        client.get("https://api.openai.com/other", cast_to=httpx2.Response)
    with pytest.raises(errors.NotFound, match="no operation for GET /no/such"):
        client.get("/no/such", cast_to=httpx2.Response)
    client.base_url = "http://127.0.0.1:9/v1"
    with pytest.raises(errors.InputError, match="base_url"):
        client.models.list()
    assert fake.requests == []


@pytest.mark.usefixtures("no_sockets")
def test_a_connection_by_the_sdks_own_resource_is_refused(client: official.OpenAI) -> None:
    from openai.resources.beta.realtime import Realtime as Older
    from openai.resources.realtime import Realtime

    for resource in (Realtime(client), Older(client)):
        with pytest.raises(errors.InputError, match="opened by the host"):
            resource.connect(model="gpt-realtime").enter()


# Streams, pages and bytes ---------------------------------------------------------------------------------------------


def test_leaving_a_stream_ends_its_run(host: Host, openai_file: Path, fake: FakeOpenAI) -> None:
    sink = Events()
    with (
        Host(sink=sink, cache_dir=None) as own,
        official.OpenAI(own.load(openai_file, policy=to(fake.url), secrets=KEYS)) as client,
    ):
        fake.script([Fault(event_delay_s=0.05, times=None)])
        with client.chat.completions.create(**CHAT, stream=True) as stream:
            next(iter(stream))
        assert sink.settled()
        stream = client.chat.completions.create(**CHAT, stream=True)
        next(stream)
        stream.close()
        assert sink.settled()


def test_pages_go_on_to_the_next_one(client: official.OpenAI, catalyst: Catalyst) -> None:
    for n in range(5):
        client.files.create(file=(f"{n}.jsonl", b"{}\n"), purpose="batch")
    page = client.files.list(limit=2)
    assert page.has_next_page()
    assert len({one.id for one in client.files.list(limit=2)}) == 5
    assert page.get_next_page().data[0].id not in {one.id for one in page.data}

    async def later() -> set[str]:
        async with official.AsyncOpenAI(catalyst) as other:
            return {one.id async for one in other.files.list(limit=2)}

    assert len(asyncio.run(later())) == 5


def test_bytes_come_whole_and_in_pieces(client: official.OpenAI, tmp_path: Path) -> None:
    content = bytes(n * 7 % 251 for n in range(256_000))
    made = client.files.create(file=("a.bin", content), purpose="user_data")
    answer = client.files.content(made.id)
    assert answer.read() == answer.content == content
    answer.write_to_file(tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == content
    with client.files.with_streaming_response.content(made.id) as flowing:
        assert b"".join(flowing.iter_bytes()) == content


def test_what_is_parsed_is_the_programs_own_model(client: official.OpenAI) -> None:
    class Step(BaseModel):
        name: str

    parsed = client.chat.completions.parse(**CHAT, response_format=Step)
    assert isinstance(parsed.choices[0].message.parsed, Step)


# Async code, threads and closing --------------------------------------------------------------------------------------


def test_a_run_is_cancelled_with_its_task(host: Host, openai_file: Path, fake: FakeOpenAI) -> None:
    sink = Events()

    async def cancelled(client: official.AsyncOpenAI, *, stream: bool) -> None:
        fake.script([Fault(delay_s=30)])
        before = sink.begun
        task = asyncio.ensure_future(client.chat.completions.create(**CHAT, stream=stream))
        assert await asyncio.to_thread(sink.began, before)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def both() -> None:
        with Host(sink=sink) as own:
            catalyst = own.load(openai_file, policy=to(fake.url), secrets=KEYS)
            async with official.AsyncOpenAI(catalyst, max_retries=0) as client:
                await cancelled(client, stream=False)
                await cancelled(client, stream=True)
                assert sink.settled()

    asyncio.run(both())


def test_many_threads_and_tasks_share_a_client(client: official.OpenAI, catalyst: Catalyst) -> None:
    texts = [f"the text with the number {n}" for n in range(24)]
    embedded = {"model": "text-embedding-3-small", "dimensions": 4}
    alone = [client.embeddings.create(input=text, **embedded).data[0].embedding for text in texts]  # type: ignore[arg-type]
    assert len({tuple(one) for one in alone}) == len(texts)

    def embedding(text: str) -> list[float]:
        return client.embeddings.create(input=text, **embedded).data[0].embedding  # type: ignore[arg-type]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(embedding, texts)) == alone

    async def many() -> list[str]:
        async with official.AsyncOpenAI(catalyst) as other:

            async def said(text: str) -> str:
                asked: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}
                stream = await other.chat.completions.create(**asked, stream=True)
                return "".join([one.choices[0].delta.content or "" async for one in stream if one.choices])

            return await asyncio.gather(*(said(text) for text in texts[:12]))

    whole = [
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])
        for text in texts[:12]
    ]
    answers = [one.choices[0].message.content for one in whole]
    assert len(set(answers)) > len(answers) // 2
    assert asyncio.run(many()) == answers


def test_closing_a_client_leaves_a_catalyst_that_it_was_given(catalyst: Catalyst) -> None:
    with official.OpenAI(catalyst) as client:
        client.models.list()
    assert client.is_closed()
    assert catalyst.run({"operation": "models.list"}).ok
