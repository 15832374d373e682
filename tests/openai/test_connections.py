"""The connections of the client: opened by the host, and asked for as the official SDK asks."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.resources.realtime import Realtime
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from host import Catalyst, Host, Policy, errors
from host.fakes import FakeOpenAI
from host.fakes.openai.faults import Fault
from host.openai import official
from tests.conftest import KEY
from tests.openai.conftest import KEYS

CONNECTIONS: dict[str, dict[str, Any]] = {
    "realtime": {"model": "gpt-realtime"},
    "realtime.translations": {"model": "gpt-realtime-translate"},
    "responses": {},
    "live": {},
    "live.sideband": {"session_id": "sess_1"},
    "live.forks": {"session_id": "sess_1"},
    "beta.realtime": {"model": "gpt-realtime"},
    "beta.responses": {},
}
MORE = {
    "extra_query": {"intent": "x", "yes": True, "list": [1, 2], "empty": None},
    "extra_headers": {"X-Client-Request-Id": "one"},
}
COMPARED = ("authorization", "openai-beta", "x-client-request-id", "openai-organization")


def resource(client: Any, name: str) -> Any:
    for word in name.split("."):
        client = getattr(client, word)
    return client


def opened(client: Any, name: str) -> None:
    with suppress(openai.APIStatusError, InvalidStatus), resource(client, name).connect(**CONNECTIONS[name], **MORE):
        pass


def asked_of(fake: FakeOpenAI) -> tuple[Any, ...]:
    [sent] = fake.requests
    headers = {name: sent["headers"][name] for name in COMPARED if name in sent["headers"]}
    return sent["method"], sent["path"], sent["query"], headers


@pytest.mark.parametrize("name", CONNECTIONS)
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_a_connection_is_asked_for_as_the_official_sdk_does(catalyst: Catalyst, fake: FakeOpenAI, name: str) -> None:
    with FakeOpenAI() as other:
        given = {
            "organization": "org-1",
            "max_retries": 0,
            "default_query": {"own": False, "list": [3], "more": [4, 5]},
        }
        with openai.OpenAI(
            api_key=KEY, base_url=f"{other.url}/v1", websocket_base_url=f"ws{other.url[4:]}/v1", **given
        ) as one:  # type: ignore[arg-type]
            opened(one, name)
        with official.OpenAI(catalyst, **given) as one:  # type: ignore[arg-type]
            opened(one, name)
        assert asked_of(fake) == asked_of(other)


@pytest.mark.parametrize("code", [1000, 1001, 1005])
@pytest.mark.parametrize("road", ["host", "SDK"])
def test_the_upstreams_end_is_that_of_the_iteration(catalyst: Catalyst, fake: FakeOpenAI, code: int, road: str) -> None:
    """1005 stands for a close without a code."""
    to_fake = {"api_key": KEY, "base_url": f"{fake.url}/v1", "websocket_base_url": f"ws{fake.url[4:]}/v1"}
    fake.script([Fault(cut_after_events=1, close_code=code, times=2)])
    one: Any = official.OpenAI(catalyst) if road == "host" else openai.OpenAI(**to_fake)
    with one, one.realtime.connect(model="gpt-realtime") as connection:
        assert [event.type for event in connection] == ["session.created"]
        with pytest.raises(ConnectionClosedOK) as caught:
            connection.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == code

    async def later() -> list[str]:
        other: Any = official.AsyncOpenAI(catalyst) if road == "host" else openai.AsyncOpenAI(**to_fake)
        async with other, other.realtime.connect(model="gpt-realtime") as connection:
            return [event.type async for event in connection]

    assert asyncio.run(later()) == ["session.created"]


def test_another_end_of_the_upstream_is_an_error(client: official.OpenAI, fake: FakeOpenAI) -> None:
    fake.script([Fault(cut_after_events=1, close_code=1011)])
    with client.realtime.connect(model="gpt-realtime") as connection, pytest.raises(ConnectionClosedError) as caught:
        list(connection)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1011


def test_a_connection_that_is_refused_is_an_error_of_both(client: official.OpenAI, fake: FakeOpenAI) -> None:
    fake.fail_next(429)
    with pytest.raises(openai.RateLimitError) as caught, client.realtime.connect(model="gpt-realtime"):
        pass
    assert isinstance(caught.value, errors.OperationFailed)
    assert caught.value.status_code == 429


def test_a_connection_that_the_policy_denies_is_denied(host: Host, openai_file: Path) -> None:
    denied = host.load(openai_file, policy=Policy(allowed_domains=["a.test"]), secrets=KEYS)

    async def later() -> None:
        async with official.AsyncOpenAI(denied) as client, client.realtime.connect(model="gpt-realtime"):
            pass

    with pytest.raises(errors.Denied):
        asyncio.run(later())


def test_options_of_another_library_are_refused(client: official.OpenAI) -> None:
    with pytest.raises(errors.InputError, match="websocket_connection_options"):
        client.realtime.connect(model="gpt-realtime", websocket_connection_options={"max_size": 1})


@pytest.mark.parametrize("name", ["Authorization", "User-Agent", "X-Mine"])
def test_a_callers_header_that_is_not_sent_on_is_refused(catalyst: Catalyst, fake: FakeOpenAI, name: str) -> None:
    said = "own key" if name == "Authorization" else name.lower()
    with official.OpenAI(catalyst) as client, pytest.raises(errors.InputError, match=said) as caught:
        client.realtime.connect(model="gpt-realtime", extra_headers={name: "Bearer sk-tenant"}).enter()
    assert isinstance(caught.value, openai.OpenAIError)
    with (
        official.OpenAI(catalyst, default_headers={name: "Bearer sk-tenant"}) as client,
        pytest.raises(errors.InputError, match=said),
    ):
        client.realtime.connect(model="gpt-realtime").enter()
    assert fake.requests == []


def test_a_parameter_is_not_lost_for_its_type(client: official.OpenAI, fake: FakeOpenAI) -> None:
    with suppress(openai.APIStatusError), client.realtime.connect(model=5):  # type: ignore[arg-type]
        pass
    assert fake.requests[0]["query"] == {"model": "5"}


def test_no_thread_gets_a_resource_before_its_connections_are_the_hosts(
    client: official.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, seen = Realtime.translations, []

    def second() -> None:
        with client.realtime.connect(model="gpt-realtime") as connection:
            seen.append(connection.recv().type)

    thread = threading.Thread(target=second)

    def in_between(resource: Realtime) -> Any:
        if not thread.is_alive() and not seen:
            thread.start()
            thread.join(0.3)  # where it need not wait for this thread, it has a resource by now
        return inner.func(resource)  # type: ignore[attr-defined]  # a cached_property

    monkeypatch.setattr(Realtime, "translations", property(in_between))
    assert client.realtime is client.realtime
    thread.join(60)
    assert seen == ["session.created"]


def test_handlers_and_raw_messages_work_as_in_the_sdk(client: official.OpenAI) -> None:
    manager = client.realtime.connect(model="gpt-realtime")
    seen: list[str] = []
    manager.on("session.created", lambda event: seen.append(event.type))
    connection = manager.enter()
    assert b"session.created" in connection.recv_bytes()
    connection.send({"type": "response.create", "response": {}})
    assert connection.recv().type == "response.created"
    connection.close()
