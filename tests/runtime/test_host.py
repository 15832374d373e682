"""The embedding API: a Host loads a Catalyst, which runs operations; synchronously, asynchronously, as a stream."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest

import host as public
from host import Attachment, CancelToken, Event, Host, Operation, Policy, Secret, errors
from host.component.manifest import embed
from host.egress import Egress
from host.fakes import FakeOpenAI
from host.runtime.loader import Loader
from host.secrets.value import SecretValue
from tests.conftest import CACHE, KEY, ROOT, wat, with_enough_time
from tests.egress.conftest import Peer, Server
from tests.probing import (
    TOKEN,
    Kept,
    answers,
    asking,
    calls,
    chunked,
    event,
    guest,
    origin_of,
    probe,
    response,
    serving,
)

LIST = {"operation": "models.list"}
CHAT = {
    "operation": "chat.completions.create",
    "params": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]},
}
FETCH = ["fetch.request", asking()]
LAST = b"0\r\n\r\n"


@pytest.fixture
def openai(host: Host, openai_file: Path, fake: FakeOpenAI) -> public.Catalyst:
    policy = Policy(allowed_domains=["api.openai.com"], upstreams={"https://api.openai.com": fake.url})
    return host.load(openai_file, policy=policy, secrets={"OPENAI_API_KEY": KEY})


# Loading.


def test_the_example_of_the_embedding_api(openai_file: Path, fake: FakeOpenAI) -> None:
    with Host() as host:
        openai = host.load(
            str(openai_file),
            policy=Policy(allowed_domains=["api.openai.com"], upstreams={"https://api.openai.com": fake.url}),
            secrets={"OPENAI_API_KEY": KEY},
        )
        result = openai.run({"operation": "models.list"})
    assert result.ok
    assert result.data["object"] == "list"
    assert fake.requests[0]["headers"]["authorization"] == f"Bearer {KEY}"


def test_a_loaded_catalyst_says_what_it_is(openai: public.Catalyst, openai_wasm: bytes, openai_file: Path) -> None:
    from host.core.names import Digest

    assert openai.digest == Digest.of(openai_wasm)
    assert openai.reference == str(openai_file)
    assert openai.manifest is not None
    assert openai.manifest.id == "catalyst:local.openai"
    assert "cyfr:http/fetch@0.1.0" in openai.imports
    assert [str(domain) for domain in openai.grant.domains] == ["api.openai.com"]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        pytest.param("/nowhere/at/all.wasm", errors.InputError, id="a file that is not there"),
        pytest.param("/", errors.InputError, id="a directory"),
        pytest.param(b"", errors.NotAComponent, id="nothing"),
        pytest.param(b"(component)", errors.NotAComponent, id="text"),
        pytest.param(b"\0asm\x01\0\0\0", errors.NotAComponent, id="a core module"),
    ],
)
def test_what_cannot_be_loaded(host: Host, source: Any, error: type[errors.HostError]) -> None:
    with pytest.raises(error):
        host.load(source)


def test_without_a_policy_nothing_is_reachable(host: Host) -> None:
    [answer] = answers(host.load(guest("probe")), FETCH)
    assert answer["error"]["type"] == "domain_blocked"


@pytest.mark.parametrize("value", ["", " x", 5 * "\n"])
def test_a_secret_that_could_not_travel_is_refused_when_loading(host: Host, value: str) -> None:
    with pytest.raises(errors.InputError, match="secret TOKEN: ") as error:
        host.load(guest("probe"), secrets={"TOKEN": value})
    assert error.value.field == "secrets.TOKEN"


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(TOKEN, id="text"),
        pytest.param(SecretValue(TOKEN), id="a value that does not print"),
        pytest.param(Secret(TOKEN), id="a Secret of text"),
        pytest.param(Secret(SecretValue(TOKEN)), id="a Secret of a value"),
    ],
)
def test_a_secret_is_handed_over_in_any_of_its_forms(host: Host, secret: Any) -> None:
    with serving(response()) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": secret})
        answers(one, ["secrets.get", "TOKEN"], ["fetch.request", asking(headers={"X-Api-Key": "$0"})])
        assert TOKEN.encode() in server.requests[0]


def test_a_secret_holds_no_text() -> None:
    assert Secret(TOKEN).value == SecretValue(TOKEN)
    with pytest.raises(errors.InputError, match="white space"):
        Secret(" padded")


def test_what_is_public_says_what_it_is_and_no_secret() -> None:
    token = CancelToken()
    with Host() as host, serving(response()) as server:
        catalyst = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        stream = catalyst.stream(calls(["secrets.get", "TOKEN"]))
        shown = [repr(one) for one in (host, catalyst, token, stream)]
        list(stream)
    token.cancel()
    assert shown[0] == "<Host open>"
    assert shown[1] == f"<Catalyst c:local.probe ({catalyst.digest.short})>"
    assert shown[2:] == ["<CancelToken>", f"<EventStream of {stream.id}, open>"]
    assert [repr(host), repr(token), repr(stream)] == [
        "<Host closed>",
        "<CancelToken: cancelled>",
        f"<EventStream of {stream.id}, ended>",
    ]
    assert TOKEN not in "".join(shown)


@pytest.mark.parametrize(
    "secret",
    [
        Secret(TOKEN, domains=["*"]),
        Secret(TOKEN, places=["cookie"]),
        Secret(TOKEN, places=[]),
    ],
)
def test_a_secret_that_is_bound_badly_is_refused_when_loading(host: Host, secret: Secret) -> None:
    with pytest.raises(errors.InputError) as error:
        host.load(guest("probe"), secrets={"TOKEN": secret})
    assert TOKEN not in str(error.value) + repr(secret)


def test_a_host_has_a_ceiling_that_no_policy_exceeds() -> None:
    from dataclasses import replace

    from host.core.limits import CEILING

    with Host(limits=replace(CEILING, max_http_requests=1)) as small:
        assert probe(small, max_http_requests=50).grant.limits.max_http_requests == 1


# Running.


@pytest.mark.parametrize(
    "operation",
    [LIST, Operation("models.list"), json.dumps(LIST), json.dumps(LIST).encode()],
    ids=["a mapping", "an Operation", "JSON text", "JSON bytes"],
)
def test_an_operation_in_every_form(openai: public.Catalyst, operation: Any) -> None:
    assert openai.run(operation).data["object"] == "list"


@pytest.mark.parametrize("operation", ["", "[]", {"a": {1}}, {"f": {"$attachment": "x"}}], ids=repr)
def test_an_operation_that_is_none_is_an_input_error_and_no_run(operation: Any) -> None:
    kept = Kept()
    with Host(sink=kept) as host:
        one = probe(host)
        for way in (one.run, one.stream, lambda given: asyncio.run(one.arun(given))):
            with pytest.raises(errors.InputError):
                way(operation)
    assert kept == []


def test_an_error_status_of_the_upstream_is_a_result(openai: public.Catalyst, fake: FakeOpenAI) -> None:
    fake.fail_next(429)
    result = openai.run(LIST)
    assert (result.ok, result.status) == (False, 429)
    assert result.error["type"]


def test_a_run_that_failed_for_a_refusal_is_denied(host: Host, openai_file: Path) -> None:
    with pytest.raises(errors.Denied) as denied:
        host.load(openai_file, secrets={"OPENAI_API_KEY": KEY}).run(LIST)
    assert denied.value.exit_status == 3
    assert denied.value.result is not None
    assert not denied.value.result.ok
    assert "--allow-domain api.openai.com" in str(denied.value)


def test_a_run_that_went_well_in_spite_of_a_refusal_is_a_result_that_has_it(host: Host) -> None:
    result = probe(host).run(calls(["fetch.request", asking("https://other.test/")]))
    assert result.ok
    assert [refusal.kind for refusal in result.execution.refusals] == ["domain_blocked"]


def test_a_run_that_trapped_after_a_refusal_is_denied_and_the_trap_is_its_cause(host: Host) -> None:
    with pytest.raises(errors.Denied) as denied:
        probe(host).run(calls(["secrets.get", "TOKEN"], **{"return": 5}))
    assert denied.value.result is None
    assert isinstance(denied.value.__cause__, errors.GuestTrap)


def test_a_run_that_trapped_without_a_refusal_is_a_sandbox_error(host: Host) -> None:
    with pytest.raises(errors.SandboxError):
        probe(host).run(calls(**{"return": 5}))


def test_a_result_tells_how_it_came_about(host: Host) -> None:
    before = time.time()
    with serving(response()) as server:
        result = probe(host, origin_of(server), secrets={"TOKEN": TOKEN}).run(calls(["secrets.get", "TOKEN"], FETCH))
    execution = result.execution
    assert execution.reference == "c:local.probe"
    assert before <= execution.started_at <= time.time()
    assert execution.meters.cpu_time_s > 0
    assert execution.meters.sandbox_time_s <= execution.duration_s
    assert [event.kind for event in execution.decisions] == [
        "run.started",
        "secret.use",
        "http.request",
        "run.ended",
    ]
    assert {event.run for event in execution.decisions} == {execution.id}


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_above_zero(host: Host, timeout: float) -> None:
    with pytest.raises(errors.InputError) as error:
        probe(host).run(calls(), timeout=timeout)
    assert error.value.field == "timeout"


def test_a_timeout_narrows_the_policys_and_never_widens_it(host: Host) -> None:
    for policy, timeout in (("60s", 0.2), ("200ms", 60.0), ("200ms", None)):
        with pytest.raises(errors.DeadlineExceeded, match=r"0\.2 s"):
            probe(host, timeout=policy).run(calls(spin=True), timeout=timeout)


def test_attachments_go_in_and_come_out(openai: public.Catalyst, fake: FakeOpenAI, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(b"line\n" * 100)
    for given in (file, b"line\n" * 100, Attachment(b"line\n" * 100, "notes.txt")):
        created = openai.run(
            {"operation": "files.create", "params": {"purpose": "user_data", "file": {"$attachment": "f"}}},
            attachments={"f": given},
        )
        content = openai.run({"operation": "files.content", "params": {"file_id": created.data["id"]}})
        assert content.content == b"line\n" * 100


def test_a_result_that_is_not_binary_says_so(openai: public.Catalyst) -> None:
    with pytest.raises(errors.InputError, match="not binary"):
        _ = openai.run(LIST).content


# Cancelling: wherever the run is blocked, it ends at once.


@contextmanager
def full_listener() -> Iterator[int]:
    """A port whose listener accepts nothing and whose queue is full: connecting to it waits."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        try:
            yield port
        finally:
            for one in waiting:
                one.close()


def _cancelled(catalyst: public.Catalyst, operation: Any, begun: threading.Event) -> None:
    """Run it, cancel it from another thread once it has begun, and see it end long before its deadline."""
    token = CancelToken()

    def cancel() -> None:
        assert begun.wait(20)
        token.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    started = time.monotonic()
    with pytest.raises(errors.Cancelled):
        catalyst.run(operation, cancel=token, timeout=60)
    assert time.monotonic() - started < 30
    canceller.join()


class Telling(Kept):
    """A sink that tells when a request is about to be sent."""

    def __init__(self) -> None:
        self.about_to_send = threading.Event()

    def record(self, event: Event) -> None:
        super().record(event)
        if event.kind == "http.request":
            self.about_to_send.set()


def test_a_run_blocked_in_name_resolution_is_cancelled(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, release = threading.Event(), threading.Event()

    def never(name: str) -> tuple[IPv4Address, ...]:
        begun.set()
        release.wait(60)
        return ()

    monkeypatch.setattr(host, "_egress", Egress(resolver=never))
    try:
        _cancelled(probe(host), calls(FETCH), begun)
    finally:
        release.set()


def test_a_run_blocked_in_connecting_is_cancelled() -> None:
    sink = Telling()
    with Host(sink=sink) as host, full_listener() as port:
        _cancelled(probe(host, f"http://127.0.0.1:{port}"), calls(FETCH), sink.about_to_send)


def test_a_run_blocked_in_reading_is_cancelled(host: Host) -> None:
    with serving(lambda peer: peer.request() and peer.hang()) as server:
        _cancelled(probe(host, origin_of(server)), calls(FETCH), server.asked)
        assert server.hung_up.wait(60)


def test_a_run_blocked_in_a_stream_is_cancelled(host: Host) -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked())
        peer.hang()

    with serving(behave) as server:
        operation = calls(["streaming.request", asking()], ["streaming.read", "$0.handle"])
        _cancelled(probe(host, origin_of(server)), operation, server.asked)
        assert server.hung_up.wait(60)


def test_a_run_in_an_endless_loop_is_cancelled() -> None:
    sink = Telling()
    with Host(sink=sink) as host, serving(response()) as server:
        _cancelled(probe(host, origin_of(server)), calls(FETCH, spin=True), sink.about_to_send)


def test_a_run_that_was_cancelled_before_it_began_does_nothing(host: Host) -> None:
    token = CancelToken()
    token.cancel()
    with serving(response()) as server:
        with pytest.raises(errors.Cancelled):
            probe(host, origin_of(server)).run(calls(FETCH), cancel=token)
        assert server.connections == 0


def test_after_a_cancelled_run_the_next_one_works(host: Host) -> None:
    token = CancelToken()
    one = probe(host)
    token.cancel()
    with pytest.raises(errors.Cancelled):
        one.run(calls(spin=True), cancel=token)
    assert one.run(calls()).ok


# Closing.


@pytest.mark.parametrize("way", ["run", "stream", "blocked"])
def test_closing_a_host_ends_what_runs(way: str) -> None:
    sink, ended = Telling(), []

    def run() -> None:
        try:
            if way == "stream":
                list(one.stream(calls(FETCH, spin=True)))
            else:
                one.run(calls(FETCH, spin=True))
        except errors.HostError as error:
            ended.append(error)

    def behave(peer: Peer) -> None:
        peer.request()
        if way == "blocked":
            peer.hang()
        else:
            peer.send(response())

    with serving(behave) as server:
        host = Host(sink=sink)
        one = probe(host, origin_of(server))
        thread = threading.Thread(target=run)
        thread.start()
        assert sink.about_to_send.wait(20)
        host.close()
        thread.join(20)
        assert not thread.is_alive()
    assert [type(error) for error in ended] == [errors.Cancelled]
    host.close()  # any number of times


def test_a_closed_host_runs_and_loads_nothing() -> None:
    with Host() as host:
        one = probe(host)
    for use in (
        lambda: host.load(guest("probe")),
        lambda: one.run(calls()),
        lambda: list(one.stream(calls())),
        lambda: asyncio.run(one.arun(calls())),
    ):
        with pytest.raises(errors.StateError, match="closed"):
            use()


# Streaming.


def step_by_step(count: int) -> tuple[Callable[[Peer], None], list[threading.Event]]:
    """A server that sends event N + 1 only once the Nth of these was set."""
    seen = [threading.Event() for _ in range(count)]

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked("200 OK", "Content-Type: text/event-stream"))
        for number, one in enumerate(seen):
            peer.send(event({"choices": [{"delta": {"content": str(number)}}]}))
            assert one.wait(20)
        peer.send(LAST)

    return behave, seen


def streamed(host: Host, openai_file: Path, server: Server) -> public.Catalyst:
    policy = Policy(allowed_domains=["api.openai.com"], upstreams={"https://api.openai.com": origin_of(server)})
    return host.load(openai_file, policy=policy, secrets={"OPENAI_API_KEY": KEY})


def test_the_first_event_is_out_before_the_second_is_in(host: Host, openai_file: Path) -> None:
    behave, seen = step_by_step(3)
    with serving(behave) as server, streamed(host, openai_file, server).stream(CHAT) as stream:
        for number, one in enumerate(seen):
            assert next(stream)["choices"][0]["delta"]["content"] == str(number)
            one.set()
        assert list(stream) == []
        assert stream.result.ok


def test_an_operation_streams_without_saying_so_itself(openai: public.Catalyst) -> None:
    for operation in (CHAT, Operation(CHAT["operation"], CHAT["params"]), json.dumps(CHAT)):
        assert len(list(openai.stream(operation))) > 1


def test_the_result_of_a_stream_is_there_after_its_last_event_and_not_before(openai: public.Catalyst) -> None:
    stream = openai.stream(CHAT)
    with pytest.raises(errors.StateError):
        _ = stream.result
    assert len(list(stream)) > 1
    assert stream.result.ok
    assert list(stream) == []


def test_a_stream_that_ends_in_an_error_status_raises_it(openai: public.Catalyst, fake: FakeOpenAI) -> None:
    fake.fail_next(401)
    stream = openai.stream(CHAT)
    with pytest.raises(errors.OperationFailed) as failed:
        list(stream)
    assert failed.value.result.status == 401
    assert stream.result is failed.value.result


def test_a_stream_that_is_refused_something_is_denied(host: Host, openai_file: Path) -> None:
    with pytest.raises(errors.Denied):
        list(host.load(openai_file, secrets={"OPENAI_API_KEY": KEY}).stream(CHAT))


def test_leaving_a_stream_early_cancels_the_run_and_closes_its_connection(host: Host, openai_file: Path) -> None:
    behave, seen = step_by_step(2)
    with serving(behave) as server:
        with streamed(host, openai_file, server).stream(CHAT) as stream:
            next(stream)
        for one in seen:
            one.set()
        assert server.hung_up.wait(60)
        with pytest.raises(errors.StateError):
            _ = stream.result
        stream.close()  # any number of times


def test_forgetting_a_stream_cancels_the_run(host: Host, openai_file: Path) -> None:
    behave, seen = step_by_step(2)
    with serving(behave) as server:
        stream = streamed(host, openai_file, server).stream(CHAT)
        next(stream)
        del stream
        for one in seen:
            one.set()
        assert server.hung_up.wait(60)


def test_a_slow_consumer_does_not_make_a_buffer_grow(host: Host) -> None:
    """The upstream has more events than anybody should hold: the run stops reading, and TCP holds the server back."""
    sent, total = [], 20_000

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked())
        for number in range(total):
            peer.send(event({"n": number, "pad": "x" * 1000}))
            sent.append(number)

    with serving(behave) as server:
        stream = probe(host, origin_of(server)).stream(
            calls(["streaming.request", asking(relay=True)], ["streaming.read", "$0.handle"])
        )
        with stream:
            assert next(stream)["n"] == 0
            before = -1
            while before != len(sent):  # until the server is stuck
                before = len(sent)
                threading.Event().wait(0.3)
            assert len(sent) < total * 0.9
            assert [next(stream)["n"] for _ in range(200)] == list(range(1, 201))


# What the upstream says of trying again.

LIMITED = {"Retry-After": "20", "X-RateLimit-Remaining-Requests": "0", "X-Request-Id": "req_1", "X-Other": "no"}
HANDED_ON = {"retry-after": "20", "x-ratelimit-remaining-requests": "0", "x-request-id": "req_1"}


def test_a_failure_has_the_headers_that_say_when_to_try_again(openai: public.Catalyst, fake: FakeOpenAI) -> None:
    fake.fail_next(429, headers=LIMITED)
    result = openai.run(LIST)
    assert (result.status, result.error["type"]) == (429, "requests")
    assert HANDED_ON.items() <= result.headers.items()
    assert "x-other" not in result.headers
    assert result.as_dict().keys() == {"status", "error"}
    assert not {"retry-after", "x-ratelimit-remaining-requests"} & openai.run(LIST).headers.keys()


def test_a_stream_that_did_not_begin_has_them_too(openai: public.Catalyst, fake: FakeOpenAI) -> None:
    fake.fail_next(429, headers=LIMITED)
    with pytest.raises(errors.OperationFailed) as failed:
        list(openai.stream(CHAT))
    assert HANDED_ON.items() <= failed.value.result.headers.items()


# Async.


def test_arun_is_run(openai: public.Catalyst) -> None:
    async def three() -> list[public.Result]:
        return await asyncio.gather(*[openai.arun(LIST) for _ in range(3)])

    assert [result.data for result in asyncio.run(three())] == [openai.run(LIST).data] * 3


def test_arun_leaves_the_event_loop_free(host: Host) -> None:
    async def both() -> bool:
        spinning = asyncio.create_task(probe(host).arun(calls(spin=True), timeout=30))
        await asyncio.sleep(0)
        quick = await probe(host).arun(calls())
        spinning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await spinning
        return quick.ok

    assert asyncio.run(both())


def test_arun_is_cancelled_with_its_task_and_the_connection_closes(host: Host) -> None:
    with serving(lambda peer: peer.request() and peer.hang()) as server:

        async def cancelled() -> None:
            task = asyncio.create_task(probe(host, origin_of(server)).arun(calls(FETCH)))
            await asyncio.to_thread(server.asked.wait, 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancelled())
        assert server.hung_up.wait(60)


def test_astream_gives_events_as_they_arrive(host: Host, openai_file: Path) -> None:
    behave, seen = step_by_step(3)

    async def consumed() -> list[Any]:
        events = []
        async for one in streamed(host, openai_file, server).astream(CHAT):
            seen[len(events)].set()
            events.append(one)
        return events

    with serving(behave) as server:
        assert len(asyncio.run(consumed())) == 3


def test_astream_is_cancelled_with_its_task_and_the_upstream_sees_it(host: Host, openai_file: Path) -> None:
    behave, seen = step_by_step(2)

    async def consume(first: asyncio.Event) -> None:
        async for _ in streamed(host, openai_file, server).astream(CHAT):
            first.set()

    async def cancelled() -> None:
        first = asyncio.Event()
        task = asyncio.create_task(consume(first))
        await asyncio.wait_for(first.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with serving(behave) as server:
        asyncio.run(cancelled())
        for one in seen:
            one.set()
        assert server.hung_up.wait(60)


def test_leaving_an_astream_early_cancels_the_run(host: Host, openai_file: Path) -> None:
    behave, seen = step_by_step(2)

    async def leave() -> None:
        events = cast("AsyncGenerator[Any, None]", streamed(host, openai_file, server).astream(CHAT))
        await anext(events)
        await events.aclose()

    with serving(behave) as server:
        asyncio.run(leave())
        for one in seen:
            one.set()
        assert server.hung_up.wait(60)


def test_breaking_out_of_an_astream_cancels_the_run_as_well(host: Host, openai_file: Path) -> None:
    behave, seen = step_by_step(2)

    async def leave() -> None:
        async for _ in streamed(host, openai_file, server).astream(CHAT):
            break

    with serving(behave) as server:
        asyncio.run(leave())
        for one in seen:
            one.set()
        assert server.hung_up.wait(60)


def test_an_astream_has_the_result_after_its_last_event(openai: public.Catalyst) -> None:
    async def consume() -> public.Result:
        async with openai.astream(CHAT) as events:
            with pytest.raises(errors.StateError):
                _ = events.result
            assert [event async for event in events]
            return events.result

    assert asyncio.run(consume()).ok


def test_astream_raises_what_stream_raises(openai: public.Catalyst, fake: FakeOpenAI) -> None:
    fake.fail_next(401)

    async def consume() -> None:
        async for _ in openai.astream(CHAT):
            pass

    with pytest.raises(errors.OperationFailed):
        asyncio.run(consume())


def test_texts_are_the_events_as_the_upstream_wrote_them(openai: public.Catalyst, fake: FakeOpenAI) -> None:
    async def consume() -> list[str]:
        texts: list[str] = []
        async with openai.astream(CHAT) as events:
            while batch := await events.texts():
                texts += batch
            assert events.result.ok
        return texts

    texts = asyncio.run(consume())
    events = [json.loads(text) for text in texts]
    assert len(events) > 1
    assert {one["object"] for one in events} == {"chat.completion.chunk"}


def test_texts_raise_what_the_iteration_raises(openai: public.Catalyst, fake: FakeOpenAI) -> None:
    fake.fail_next(401)

    async def consume() -> None:
        async with openai.astream(CHAT) as events:
            await events.texts()

    with pytest.raises(errors.OperationFailed):
        asyncio.run(consume())


# The record.


class Failing(Kept):
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def record(self, event: Event) -> None:
        if event.kind == self.kind:
            raise OSError
        super().record(event)


@pytest.mark.parametrize("kind", ["run.started", "http.request"])
def test_a_sink_that_fails_stops_the_effect(kind: str) -> None:
    with Host(sink=Failing(kind)) as host, serving(response()) as server:
        with pytest.raises(errors.AuditError):
            probe(host, origin_of(server)).run(calls(FETCH))
        assert server.connections == 0


def test_a_sink_that_fails_at_the_end_is_an_error_although_the_run_went_well() -> None:
    with Host(sink=Failing("run.ended")) as host, pytest.raises(errors.AuditError):
        probe(host).run(calls())


@pytest.mark.parametrize(
    ("operation", "detail"),
    [
        pytest.param(calls(), {"status": 200}, id="well"),
        pytest.param(calls(**{"return": {"status": 404}}), {"status": 404}, id="in an error status"),
        pytest.param(calls(**{"return": 5}), {"error": "guest_trap"}, id="in a trap"),
        pytest.param(calls(spin=True), {"error": "deadline_exceeded"}, id="by its deadline"),
    ],
)
def test_every_run_is_recorded_from_its_start_to_its_end_however_it_ends(operation: Any, detail: Any) -> None:
    def attempt(seconds: float) -> None:
        kept = Kept()
        with Host(sink=kept) as host:
            one = probe(host)
            try:
                one.run(operation, timeout=seconds)
            except errors.HostError:
                assert "error" in detail
        started, *failed, ended = kept
        assert [one.kind for one in failed] == ([] if detail == {"status": 200} else ["run.failed"])
        assert started.kind == "run.started"
        assert started.detail == {"reference": "c:local.probe", "digest": str(one.digest), "timeout_s": seconds}
        assert ended.kind == "run.ended"
        assert ended.detail.pop("duration_s") > 0
        assert ended.detail.pop("cpu_time_s") > 0
        assert ended.detail == {**detail, "http_requests": 0, "sent_bytes": 0, "received_bytes": 0}

    with_enough_time(attempt, 0.5)


def test_the_record_says_on_whose_behalf_a_run_was() -> None:
    kept = Kept()
    with Host(sink=kept) as host:
        probe(host).run(calls(), caller={"key": "ab12", "request": "req_1"})
    assert kept[0].detail["caller"] == {"key": "ab12", "request": "req_1"}


def test_a_sink_that_is_empty_is_still_a_sink() -> None:
    """A sink with a length of 0 is false, and no reason to keep nothing."""
    kept = Kept()
    with Host(sink=kept) as host:
        probe(host).run(calls())
    assert [event.kind for event in kept] == ["run.started", "run.ended"]


# Threads.


def test_eight_threads_get_each_their_own_results(host: Host) -> None:
    def behave(peer: Peer) -> None:
        while asked := peer.request():
            peer.send(response(asked.split(b" ")[1]))

    mixed: list[tuple[str, Any]] = []
    done: list[int] = []

    def run(number: int) -> None:
        for turn in range(25):
            path = f"/{number}/{turn}"
            [secret, answer] = answers(
                one, ["secrets.get", "TOKEN"], ["fetch.request", asking(f"https://api.test{path}")]
            )
            if answer.get("body") != path or secret["ok"] in seen:
                mixed.append((path, answer))
            seen.add(secret["ok"])
        done.append(number)

    seen: set[str] = set()
    with serving(behave) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN})
        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert mixed == []
    assert sorted(done) == list(range(8))
    assert len(seen) == 200


def test_a_run_that_finds_no_sandbox_free_is_refused_by_its_own_deadline() -> None:
    """As many streams as there are sandboxes, all blocked; one more, however it is run, does not wait for them."""
    asked = threading.Semaphore(0)

    def behave(peer: Peer) -> None:
        peer.request()
        asked.release()
        peer.hang()

    loader = Loader(CACHE / "host", CACHE / "state")
    with serving(behave) as server, Host(loader=loader, max_runs=8) as host, ExitStack() as blocked:
        one = probe(host, origin_of(server))
        for _ in range(8):
            blocked.enter_context(one.stream(calls(FETCH)))
        for _ in range(8):
            assert asked.acquire(timeout=30)
        for way in (
            lambda: one.run(calls(), timeout=0.2),
            lambda: list(one.stream(calls(), timeout=0.2)),
            lambda: asyncio.run(one.arun(calls(), timeout=0.2)),
        ):
            with pytest.raises(errors.Busy):
                way()
        blocked.close()
        assert one.run(calls()).ok


def test_a_thread_with_a_small_stack_may_run_a_guest(host: Host) -> None:
    """Runs of the sandbox need more stack than such a thread has, and get it."""
    one, results = probe(host), []
    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=lambda: results.append(one.run(calls())))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert results[0].ok


@pytest.mark.parametrize("kib", [256, 1024], ids=["a quarter of a MiB", "as little as a guest may use"])
def test_a_small_stack_of_the_whole_process_ends_a_guest_and_not_the_process(kib: int, tmp_path: Path) -> None:
    program = """
import sys, threading
from host import Host
from host.errors import StackExhausted
with Host(cache_dir=sys.argv[1], state_dir=sys.argv[1]) as host:
    catalyst = host.load(bytes.fromhex(sys.argv[2]))
    ended = []
    def run():
        try:
            catalyst.run({})
        except StackExhausted:
            ended.append(1)
    run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    sys.exit(0 if len(ended) == 2 else 1)
"""
    argv = [sys.executable, "-c", program, str(tmp_path), wat("hostile/recurses_forever").hex()]

    def shrink() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_STACK)
        resource.setrlimit(resource.RLIMIT_STACK, (kib << 10, hard))

    done = subprocess.run(argv, cwd=ROOT, preexec_fn=shrink, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_error_has_the_record_of_its_run_with_what_the_guest_logged(host: Host) -> None:
    catalyst = probe(host)

    def attempt(seconds: float) -> None:
        with pytest.raises(errors.SandboxError) as caught:
            catalyst.run({**calls(("log.write", "info", "before the end")), "spin": True}, timeout=seconds)
        assert caught.value.execution is not None
        assert [line.message for line in caught.value.execution.logs] == ["before the end"]

    with_enough_time(attempt, 0.3)


def test_a_denial_has_the_record_of_its_run(host: Host, openai_file: Path) -> None:
    with pytest.raises(errors.Denied) as caught:
        host.load(openai_file).run({"operation": "models.list"})
    assert caught.value.execution is not None
    assert caught.value.execution.refusals == caught.value.refusals


@pytest.mark.parametrize("policy", [{"allowed_domains": ["api.openai.com"]}, "allow", 5])
def test_a_policy_that_is_none_is_an_input_error(host: Host, openai_file: Path, policy: Any) -> None:
    with pytest.raises(errors.InputError) as caught:
        host.load(openai_file, policy=policy)
    assert caught.value.field == "policy"


def test_the_domains_of_a_secret_are_a_list(host: Host, openai_file: Path) -> None:
    with pytest.raises(errors.InputError, match="domains are a list"):
        host.load(openai_file, secrets={"OPENAI_API_KEY": public.Secret("sk-0123456789", domains="api.openai.com")})


# What the manifest says of the input and of the config.

SAYING = {
    "type": "object",
    "required": ["say"],
    "properties": {"say": {"type": "string"}},
    "additionalProperties": False,
}


def with_schemas(**schemas: Any) -> bytes:
    """A guest that takes anything, with a manifest that does not; its config has a default."""
    manifest = {"schema": schemas, "defaults": {"base_url": "https://api.test"}}
    return embed(wat("hostile/returns_not_json"), json.dumps(manifest).encode())


def test_an_input_of_another_form_is_no_run_by_whatever_way_it_comes() -> None:
    kept = Kept()
    with Host(sink=kept) as host:
        one = host.load(with_schemas(input=SAYING))
        ways = (one.run, one.stream, lambda given: asyncio.run(one.arun(given)), one.astream)
        for given in ({"say": 5}, '{"say": 5}', b'{"say": 5}'):
            for way in ways:
                with pytest.raises(errors.InputError) as error:
                    way(given)
                assert (error.value.field, error.value.exit_status) == ("say", 2)
        with pytest.raises(errors.InputError, match="operation is not known here"):
            one.run(Operation("say"))
    assert kept == []


def test_an_input_of_that_form_runs(host: Host) -> None:
    one = host.load(with_schemas(input=SAYING))
    assert one.run({"say": "hello"}).ok


def test_events_are_the_hosts_wish_and_need_no_field_in_the_schema(host: Host) -> None:
    with host.load(with_schemas(input=SAYING)).stream({"say": "hello"}) as events:
        assert list(events) == []
    assert events.result is not None


def test_an_attachment_may_be_where_the_schema_wants_a_text(host: Host) -> None:
    one = host.load(with_schemas(input=SAYING))
    assert one.run({"say": {"$attachment": "speech"}}, attachments={"speech": b"hello"}).ok


def test_a_schema_that_cannot_be_enforced_is_refused_when_loading(host: Host) -> None:
    for name in ("input", "config"):
        with pytest.raises(errors.ManifestError, match=rf"schema\.{name}\.type"):
            host.load(with_schemas(**{name: {"type": "strin"}}))


def test_a_config_of_another_form_is_refused_when_loading_and_the_key_is_named(host: Host) -> None:
    schema = {"required": ["base_url"], "properties": {"base_url": {"type": "string"}}, "additionalProperties": False}
    wasm = with_schemas(config=schema)
    host.load(wasm)
    host.load(wasm, config={"base_url": "https://other.test"})
    for config, field in (({"base_url": 5}, "config.base_url"), ({"base_ur": "x"}, "config.base_ur")):
        with pytest.raises(errors.InputError) as error:
            host.load(wasm, config=config)
        assert error.value.field == field


def test_of_a_manifest_without_schemas_nothing_is_enforced(host: Host) -> None:
    assert host.load(with_schemas()).run({"anything": [5]}).ok


# What the manifest says of its operations.

SPEAKING = {
    "chat.create": {"method": "POST", "path": "/chat", "params": SAYING, "aliases": ["chat"], "stream": True},
    "anything": {},
    "broken": {"params": {"type": "strin"}},
}


def with_operations(**schemas: Any) -> bytes:
    manifest = {"operations": SPEAKING, "schema": schemas}
    return embed(wat("hostile/returns_not_json"), json.dumps(manifest).encode())


def test_a_catalyst_has_its_operations_by_name_and_by_alias(host: Host, openai: public.Catalyst) -> None:
    one = host.load(with_operations())
    assert list(one.operations) == ["chat.create", "anything", "broken"]
    found = one.operation("chat")
    assert found is one.operation("chat.create") is one.operations["chat.create"]
    assert found is not None
    assert (found.method, found.path, found.stream) == ("POST", "/chat", True)
    assert one.operation("chat.creat") is None
    assert openai.operation("audio.speech") is openai.operations["audio.speech.create"]
    assert (host.load(with_schemas()).operations, host.load(wat("hostile/returns_not_json")).operations) == ({}, {})


@pytest.mark.parametrize("name", ["chat", "chat.create"])
@pytest.mark.parametrize(
    ("params", "field"),
    [
        pytest.param({"say": 5}, "params.say", id="of another type"),
        pytest.param({}, "params.say", id="missing"),
        pytest.param(None, "params", id="null in place of all"),
        pytest.param([], "params", id="a list in place of all"),
        pytest.param({"say": "x", "louder": True}, "params.louder", id="not known there"),
    ],
)
def test_params_of_another_form_are_an_input_error_to_whoever_asks(
    host: Host, name: str, params: Any, field: str
) -> None:
    one = host.load(with_operations())
    given = {"operation": name, "params": params}
    for form in (given, json.dumps(given), json.dumps(given).encode()):
        with pytest.raises(errors.InputError) as error:
            one.check(form)
        assert (error.value.field, error.value.code) == (field, "invalid_input")


def test_params_that_are_left_out_are_none(host: Host) -> None:
    one = host.load(with_operations())
    one.check({"operation": "anything"})
    with pytest.raises(errors.InputError, match=r"params\.say is required"):
        one.check({"operation": "chat"})


@pytest.mark.parametrize(
    "operation",
    [
        {"operation": "chat", "params": {"say": "x"}},
        {"operation": "chat", "params": {"say": {"$attachment": "speech"}}, "stream": True},
        {"operation": "anything", "params": {"say": 5}},
        {"operation": "not.named", "params": {"say": 5}},
        {"operation": 5},
        {"operation": ["chat"]},
        {"say": "x"},
        {},
        Operation("chat", {"say": "x"}),
    ],
    ids=str,
)
def test_what_fits_or_what_the_manifest_does_not_name_passes(host: Host, operation: Any) -> None:
    host.load(with_operations()).check(operation)


def test_a_check_is_of_the_whole_input_and_runs_nothing() -> None:
    kept = Kept()
    with Host(sink=kept) as host:
        one = host.load(with_operations(input={"properties": {"operation": {"enum": ["chat"]}}}))
        one.check({"operation": "chat", "params": {"say": "x"}})
        with pytest.raises(errors.InputError) as error:
            one.check({"operation": "chatt", "params": {"say": "x"}})
        assert error.value.field == "operation"
        with pytest.raises(errors.InputError, match="not JSON"):
            one.check("{")
    assert kept == []


@pytest.mark.parametrize(
    "value", [{1}, b"x", float("nan"), float("inf"), object()], ids=["set", "bytes", "nan", "inf", "object"]
)
@pytest.mark.parametrize("schema", [{"enum": ["x"]}, {"type": "integer"}, {"multipleOf": 2}, {"uniqueItems": True}])
def test_a_check_of_what_is_no_json_is_an_input_error_or_none(host: Host, value: Any, schema: Any) -> None:
    manifest = {"operations": {"x": {"params": {"properties": {"a": schema}}}}}
    one = host.load(embed(wat("hostile/returns_not_json"), json.dumps(manifest).encode()))
    for given in (value, [value, value]):
        try:
            one.check({"operation": "x", "params": {"a": given}})
        except errors.InputError:
            continue


def test_an_operations_schema_that_cannot_be_enforced_is_told_when_it_is_needed(host: Host) -> None:
    one = host.load(with_operations())
    one.check({"operation": "anything"})
    for _ in range(2):
        with pytest.raises(errors.ManifestError, match=r"operations\.broken\.params\.type"):
            one.check({"operation": "broken"})


def test_a_schema_is_compiled_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from host.component.schema import InputSchema

    one = host.load(with_operations())
    compiled = []
    make = InputSchema.compile
    monkeypatch.setattr(InputSchema, "compile", lambda *given: compiled.append(given[1]) or make(*given))
    for name in ("chat", "chat.create", "anything", "chat"):
        one.check({"operation": name, "params": {"say": "x"}})
    assert compiled == ["operations.chat.create.params", "operations.anything.params"]


def test_a_run_leaves_params_to_the_catalyst(openai: public.Catalyst) -> None:
    bad = {"operation": "chat.completions.create", "params": {"model": "gpt-4o-mini"}}
    with pytest.raises(errors.InputError) as error:
        openai.check(bad)
    assert error.value.field == "params.messages"
    result = openai.run(bad)
    assert (result.status, result.error["param"]) == (400, "messages")
