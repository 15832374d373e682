"""The clients where the official SDK is not installed: every operation by the SDK's names, with plain objects."""

from __future__ import annotations

import asyncio
import copy
import inspect
import io
import pickle
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host import Catalyst, Host, Secret, errors
from host.fakes import FakeOpenAI
from host.fakes.openai.faults import Fault
from host.openai import official
from host.openai.plain import PlainAsyncOpenAI, PlainOpenAI
from host.openai.plain_streams import PlainStream
from tests.catalyst.openai.arguments import given_to_the_sdk
from tests.catalyst.openai.test_every_operation import (
    HELPERS,
    OPERATIONS,
    arguments_of,
    call,
    methods,  # noqa: F401
    of_one,
    recorder,  # noqa: F401
    rows,  # noqa: F401
)
from tests.catalyst.openai.test_every_operation import (
    catalyst as recorded,  # noqa: F401 - fixtures
)
from tests.conftest import ROOT
from tests.openai.conftest import KEYS, Events, to

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}
ANOTHER_ANSWER = {"files.retrieve_content"}


@pytest.fixture
def client(catalyst: Catalyst) -> Iterator[PlainOpenAI]:
    with PlainOpenAI(catalyst) as one:
        yield one


def method(client: PlainOpenAI, name: str) -> Any:
    """A method of the client, which takes a stream to its end."""
    found: Any = client
    for word in name.split("."):
        found = getattr(found, word)

    def called(**given: Any) -> None:
        if isinstance(answer := found(**given), PlainStream):
            assert list(answer) == []

    return called


@pytest.mark.parametrize("least", [True, False], ids=["what is required", "all parameters"])
def test_every_operation_arrives_as_the_official_sdk_sends_it(
    host: Host,
    recorder: Any,  # noqa: F811
    methods: Any,  # noqa: F811
    rows: Any,  # noqa: F811
    recorded: Catalyst,  # noqa: F811
    least: bool,
) -> None:
    found = []
    with PlainOpenAI(recorded) as client:
        for _, _, name in OPERATIONS:
            if name in ANOTHER_ANSWER:
                continue
            row, sent = rows[name], []
            given = arguments_of(row, least=least, stream=False)
            for ours in (False, True):
                with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                    try:
                        call(methods if not ours else {name: method(client, name)}, row, given)
                    except TypeError:  # of several overloads, each requires more than what all of them do
                        given = arguments_of(row, least=False, stream=False)
                        call(methods, row, given)
                sent.append(of_one(recorder))
            if sent[0] != sent[1]:
                found.append(f"{name}:\n  {sent[0]}\n  {sent[1]}")
    assert not found, "\n".join(found)


def test_what_is_positional_in_the_sdk_is_so_here(methods: Any, rows: Any, recorded: Catalyst) -> None:  # noqa: F811
    found = []
    for _, _, name in OPERATIONS:
        parameters = inspect.signature(methods[name]).parameters.values()
        positional = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
        spec = recorded.operation(name)
        assert spec is not None
        if positional != [*spec.in_path[-1:]]:
            found.append((name, positional, spec.in_path))
    assert found == []


def test_the_helpers_are_there_too(recorded: Catalyst, recorder: Any) -> None:  # noqa: F811
    with PlainOpenAI(recorded) as client:
        for name, given in HELPERS:
            method(client, name)(**given_to_the_sdk(given))
            recorder.sent.clear()


def test_an_answer_has_its_fields_as_attributes(client: PlainOpenAI) -> None:
    answer = client.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content
    assert answer.model_dump()["choices"][0]["message"]["content"] == answer.choices[0].message.content
    assert answer.to_dict() == answer.model_dump()
    assert client.responses.create(model="gpt-4o-mini", input="Hello").output_text
    assert answer.no_such_field is None


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def test_an_answer_can_be_passed_back(client: PlainOpenAI, fake: FakeOpenAI) -> None:
    messages: list[Any] = list(CHAT["messages"])
    called = client.chat.completions.create(
        model="gpt-4o-mini", messages=messages, tools=[TOOL], tool_choice="required"
    ).choices[0]
    [call] = called.message.tool_calls
    messages += [called.message, {"role": "tool", "tool_call_id": call.id, "content": "7"}]
    client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=[TOOL])
    client.chat.completions.create(model="gpt-4o-mini", messages=(*messages,), extra_body={"tools": (TOOL,)})
    whole = client.responses.create(model="gpt-4o-mini", input="Hello")
    client.responses.create(model="gpt-4o-mini", input=whole.output, extra_body={"metadata": {"of": whole.id}})
    sent = [one["body"] for one in fake.requests]
    assert sent[1]["messages"] == sent[2]["messages"] == [*CHAT["messages"], called.message.to_dict(), messages[-1]]
    assert sent[2]["tools"] == [TOOL]
    assert sent[4]["input"] == [item.to_dict() for item in whole.output]


def test_an_event_may_have_parts_of_another(client: PlainOpenAI) -> None:
    with client.realtime.connect(model="gpt-realtime") as connection:
        content = [{"type": "input_text", "text": "Hello"}]
        connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        made = next(event for event in connection if event.type == "conversation.item.added").item
        connection.conversation.item.create(item={**made.to_dict(), "id": "again", "content": made.content})
        again = next(event for event in connection if event.type == "conversation.item.added").item
        assert again.content == made.content


def test_clients_and_answers_can_be_copied(client: PlainOpenAI) -> None:
    answer = client.chat.completions.create(**CHAT)
    for again in (copy.copy(answer), copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):
        assert again == answer
        assert again.choices[0].message.content
    assert copy.copy(client).models.list().data
    for one in (client, client.chat, answer):
        with pytest.raises(AttributeError):
            _ = one._no_such_name


def test_names_and_arguments_that_are_not_there_are_errors(client: PlainOpenAI) -> None:
    with pytest.raises(AttributeError, match=r"no operation chat\.completion$"):
        client.chat.completion.create(**CHAT)
    with pytest.raises(TypeError, match="unexpected keyword argument 'modle'"):
        client.chat.completions.create(modle="gpt-4o-mini")
    with pytest.raises(TypeError, match="takes 1 positional"):
        client.models.retrieve("gpt-4", "gpt-5")


def test_an_error_status_is_the_hosts(client: PlainOpenAI, fake: FakeOpenAI) -> None:
    fake.fail_next(429)
    with pytest.raises(errors.OperationFailed) as caught:
        client.chat.completions.create(**CHAT)
    assert caught.value.result.status == 429


def test_what_only_the_sdk_does_is_refused(catalyst: Catalyst) -> None:
    with pytest.raises(errors.InputError, match="api_key"):
        PlainOpenAI(catalyst, api_key="sk-mine")
    with pytest.raises(errors.InputError, match="the policy has retries"):
        PlainOpenAI(catalyst, max_retries=2)
    timeout: Any
    for timeout in (0, True, "30s", float("nan")):
        with pytest.raises(errors.InputError, match="timeout"):
            PlainOpenAI(catalyst, timeout=timeout)


OWN = ("Authorization", "User-Agent", "Accept", "X-Stainless-Lang", "X-Mine")


@pytest.mark.parametrize("name", OWN)
def test_a_callers_header_that_is_not_sent_on_is_refused(catalyst: Catalyst, fake: FakeOpenAI, name: str) -> None:
    said = "own key" if name == "Authorization" else name.lower()
    with PlainOpenAI(catalyst) as client, pytest.raises(errors.InputError, match=said):
        client.models.list(extra_headers={name: "Bearer sk-tenant"})
    with PlainOpenAI(catalyst, default_headers={name: "Bearer sk-tenant"}) as client:
        with pytest.raises(errors.InputError, match=said):
            client.chat.completions.create(**CHAT, stream=True)
        with pytest.raises(errors.InputError, match=said):
            client.realtime.connect(model="gpt-realtime")
    assert fake.requests == []


def test_an_idempotency_key_that_is_not_sent_on_is_refused(host: Host, openai_file: Path, fake: FakeOpenAI) -> None:
    kept_for_a_secret = Secret(KEYS["OPENAI_API_KEY"], places=("header", "header:Idempotency-Key"))
    catalyst = host.load(openai_file, policy=to(fake.url), secrets={**KEYS, "OPENAI_API_KEY": kept_for_a_secret})
    with PlainOpenAI(catalyst) as client, pytest.raises(errors.InputError, match="idempotency-key"):
        client.chat.completions.create(**CHAT, extra_headers={"Idempotency-Key": "one"})


def test_arguments_that_a_connection_or_a_file_has_not_are_refused(client: PlainOpenAI) -> None:
    for given in ({"timeout": 1}, {"extra_body": {"a": 1}}):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{next(iter(given))}'"):
            client.realtime.connect(model="gpt-realtime", **given)
    with pytest.raises(errors.InputError, match="headers of its own"):
        client.files.create(file=("a.jsonl", b"{}", "application/json", {"X-Mine": "1"}), purpose="batch")


@pytest.mark.parametrize("resource", ["models", "realtime"])
def test_a_query_is_written_as_the_sdk_writes_it(catalyst: Catalyst, fake: FakeOpenAI, resource: str) -> None:
    given: dict[str, Any] = {"extra_query": {"yes": True, "list": [1, "a b"], "deep": {"no": False, "empty": None}}}
    for kind in (official.OpenAI, PlainOpenAI):
        with kind(catalyst, default_query={"own": True}) as client:
            if resource == "models":
                client.models.list(**given)
            else:
                with client.realtime.connect(model="gpt-realtime", **given) as connection:
                    connection.recv()
    first, second = fake.requests
    assert first["query"] == second["query"]
    assert first["query"]["yes"] == first["query"]["own"] == "true"


@pytest.mark.parametrize("kind", [PlainOpenAI, PlainAsyncOpenAI])
def test_a_timeout_bounds_each_wait_of_a_stream_and_not_all_of_it(host: Host, openai_file: Path, kind: Any) -> None:
    sink = Events()
    with FakeOpenAI() as fake, Host(sink=sink) as own:
        client = kind(own.load(openai_file, policy=to(fake.url), secrets=KEYS))
        most, words = 6.0, 12  # a busy machine may be late with any of them
        fake.script([Fault(event_delay_s=most / 10), Fault(delay_s=30)])
        long: dict[str, Any] = {**CHAT, "messages": [{"role": "user", "content": f"Say hello in {words} words"}]}

        async def later(**given: Any) -> int:
            return len([event async for event in await client.chat.completions.create(**given)])

        def now(**given: Any) -> int:
            return len(list(client.chat.completions.create(**given)))

        def taken(**given: Any) -> int:
            return now(**given) if kind is PlainOpenAI else asyncio.run(later(**given))

        began = time.monotonic()
        assert taken(**long, stream=True, timeout=most) > words
        assert time.monotonic() - began > most
        with pytest.raises(errors.UpstreamTimeout, match="the timeout that the caller set"):
            taken(**CHAT, stream=True, timeout=0.3)
        assert sink.settled()


def test_a_stream_is_iterated_and_left(client: PlainOpenAI) -> None:
    words = [one.choices[0].delta.content for one in client.chat.completions.create(**CHAT, stream=True) if one.choices]
    assert len([one for one in words if one]) > 1
    with client.responses.create(model="gpt-4o-mini", input="Hello", stream=True) as stream:
        assert next(stream).type == "response.created"
    assistant = client.beta.assistants.create(model="gpt-4o-mini")
    thread = client.beta.threads.create(messages=CHAT["messages"])
    events = client.beta.threads.runs.create(thread_id=thread.id, assistant_id=assistant.id, stream=True)
    assert next(events).event == "thread.run.created"
    events.close()


def test_pages_bytes_and_files(client: PlainOpenAI, tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(b"{}\n{}\n")
    made = [
        client.files.create(file=file, purpose="batch")
        for file in (("a.jsonl", b"{}\n"), tmp_path / "b.jsonl", io.BytesIO(b"{}\n"), b"{}\n")
    ]
    assert [one.filename for one in made] == ["a.jsonl", "b.jsonl", "upload", "upload"]
    assert len({one.id for one in client.files.list(limit=2)}) == 4
    assert not client.models.list().has_next_page()
    with pytest.raises(errors.InputError, match="no next page"):
        client.models.list().get_next_page()
    content = client.files.content(made[1].id)
    assert content.read() == b"".join(content.iter_bytes(2)) == b"{}\n{}\n"
    content.write_to_file(tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == content.content


def test_connections_speak_in_events(client: PlainOpenAI) -> None:
    with client.realtime.connect(model="gpt-realtime") as connection:
        assert connection.recv().type == "session.created"
        connection.response.create(response={"output_modalities": ["text"]})
        assert "response.done" in [event.type for event in until_done(connection)]


def until_done(connection: Any) -> Iterator[Any]:
    for event in connection:
        yield event
        if event.type == "response.done":
            return


def test_async_code_has_all_of_it(catalyst: Catalyst) -> None:
    async def used() -> None:
        async with PlainAsyncOpenAI(catalyst) as client:
            assert (await client.chat.completions.create(**CHAT)).choices
            stream = await client.chat.completions.create(**CHAT, stream=True)
            assert len([one async for one in stream]) > 1
            for _ in range(3):
                await client.files.create(file=b"{}\n", purpose="batch")
            assert len([one async for one in client.files.list(limit=2)]) == 3
            assert (await client.files.list(limit=2)).has_next_page()
            async with client.realtime.connect(model="gpt-realtime") as connection:
                assert (await connection.recv()).type == "session.created"
                await connection.response.create(response={})
                async for event in connection:
                    if event.type == "response.done":
                        break

    asyncio.run(used())


def test_it_is_what_a_program_gets_without_the_sdk() -> None:
    script = (
        "import sys; from importlib.machinery import PathFinder as P; find = P.find_spec\n"
        "P.find_spec = classmethod(lambda cls, name, *a: None if name.split('.')[0] in ('openai', 'httpx2') else find(name, *a))\n"
        "from host.openai import OpenAI, AsyncOpenAI; print(OpenAI.__name__, AsyncOpenAI.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "PlainOpenAI PlainAsyncOpenAI\n", done.stderr


def test_importing_the_package_imports_neither() -> None:
    script = "import sys, host.openai; print(*(m for m in ('openai', 'httpx2', 'asyncio') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("\n", "")
