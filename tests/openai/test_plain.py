"""The clients where the official SDK is not installed: every operation by the SDK's names, with plain objects."""

from __future__ import annotations

import asyncio
import inspect
import io
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host import Catalyst, Host, errors
from host.fakes import FakeOpenAI
from host.openai.plain import PlainAsyncOpenAI, PlainOpenAI, PlainStream
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
