"""Catalyst.connect and aconnect: both directions, their bounds, and every way that a connection can end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from wsproto.frame_protocol import CloseReason

from host import Catalyst, Host, SecretRule, errors
from host.runtime import dialogue
from tests.conftest import late, with_enough_time
from tests.probing import TOKEN, calls, origin_of, probe, response, serving
from tests.sockets import SocketPeer, echo, opening, socket_serving

CONNECT = ["websocket.connect", {"url": "wss://api.test/x", "relay": True}]
WAIT = ["websocket.receive", "$0.handle", "0"]
TALK = calls(CONNECT, WAIT)


@contextmanager
def talking(host: Host, behave: Any = echo, **policy: Any) -> Iterator[Catalyst]:
    with socket_serving(behave) as server:
        yield probe(host, origin_of(server), **policy)


class TestSync:
    def test_events_go_out_and_come_back_in_their_order(self, host: Host) -> None:
        with talking(host) as one, one.connect(TALK) as connection:
            for number in range(200):
                connection.send({"number": number})
            assert [next(connection) for _ in range(200)] == [{"number": number} for number in range(200)]
        assert connection.closed == (1000, "")
        assert connection.result.data[1] == {"closed": {"code": 1000, "reason": ""}, "sent": 200, "received": 200}

    def test_a_text_goes_as_it_is_and_bytes_as_binary(self, host: Host) -> None:
        got: list[Any] = []

        def behave(socket: SocketPeer) -> None:
            got.extend(socket.receive() for _ in range(2))
            socket.send('{"a":  1}')
            socket.send(b"\x00\xff")
            socket.send("no JSON")
            socket.receive()

        with talking(host, behave) as one, one.connect(TALK) as connection:
            connection.send('{"as":   "it is"}')
            connection.send(b"\x01")
            assert [next(connection) for _ in range(3)] == [{"a": 1}, b"\x00\xff", {"raw": "no JSON"}]
        assert got == ['{"as":   "it is"}', b"\x01"]

    @pytest.mark.parametrize("closed", [(1000, ""), (1001, "bye"), (1005, "")])  # 1005: no code
    def test_the_end_of_the_other_side_ends_the_iteration(self, host: Host, closed: tuple[int, str]) -> None:
        def behave(socket: SocketPeer) -> None:
            socket.send("1")
            socket.close(CloseReason(closed[0]), closed[1])
            socket.receive()

        with talking(host, behave) as one:
            connection = one.connect(TALK)
            assert list(connection) == [1]
            assert connection.closed == closed
            assert connection.result.ok
            with pytest.raises(errors.StateError, match="closed"):
                connection.send("late")

    def test_our_code_reaches_the_other_side_behind_all_that_was_sent(self, host: Host) -> None:
        got: list[Any] = []

        def behave(socket: SocketPeer) -> None:
            while isinstance(message := socket.receive(), str):
                got.append(message)
            got.append(message)

        with talking(host, behave) as one:
            connection = one.connect(TALK)
            for number in range(10):
                connection.send(str(number))
            connection.close(4321, "enough")
        assert got[:10] == [str(number) for number in range(10)]
        assert (got[10].code, got[10].reason) == (4321, "enough")
        connection.close()  # any number of times

    def test_what_comes_after_hanging_up_can_be_read(self, host: Host) -> None:
        def behave(socket: SocketPeer) -> None:
            event = socket.event()
            socket.peer.send(b"\x81\x01" + b"7")
            socket.peer.send(socket.frames.send(event.response()))  # type: ignore[union-attr]

        with talking(host, behave) as one:
            connection = one.connect(TALK)
            connection.hang_up()
            assert list(connection) == [7]

    def test_the_head_says_what_was_chosen(self, host: Host) -> None:
        offering = calls(["websocket.connect", {**CONNECT[1], "subprotocols": ["a"]}], WAIT)
        behave = opening(echo, "Sec-WebSocket-Protocol: a", "X-Request-Id: r1")
        with serving(behave) as server, probe(host, origin_of(server)).connect(offering) as connection:
            assert (connection.subprotocol, connection.headers["x-request-id"]) == ("a", "r1")
            assert connection.id.startswith("run_")

    def test_the_record_has_the_run(self, host: Host) -> None:
        with talking(host) as one, one.connect(TALK, caller={"key": "k"}) as connection:
            connection.send("1")
            next(connection)
        execution = connection.result.execution
        assert execution.meters.http_requests == 1
        assert execution.meters.sent_bytes == execution.meters.emitted_bytes == 1
        assert execution.decisions[0].detail["caller"] == {"key": "k"}

    def test_relaying_costs_the_guest_no_cpu_time(self, host: Host) -> None:
        with talking(host, cpu_time="400ms") as one, one.connect(TALK) as connection:
            began = time.thread_time()
            for _ in range(300):
                connection.send("x" * 20_000)
                next(connection)
            assert time.thread_time() > began
        assert connection.result.execution.meters.cpu_time_s < 0.4


class TestFailures:
    def test_a_refusal_of_the_policy_is_raised_by_connect(self, host: Host) -> None:
        with talking(host, allowed_domains=[]) as one, pytest.raises(errors.Denied, match="domain not granted"):
            one.connect(calls(CONNECT, **{"return": {"status": 403}}))

    def test_so_is_a_refusal_of_the_upstream(self, host: Host) -> None:
        with serving(response(b"no", "401 Unauthorized")) as server:
            one = probe(host, origin_of(server))
            with pytest.raises(errors.OperationFailed) as raised:
                one.connect(calls(CONNECT, **{"return": {"status": 401, "error": {"type": "auth"}}}))
        assert raised.value.result.status == 401

    def test_an_operation_that_opens_nothing_is_a_mistake(self, host: Host) -> None:
        with pytest.raises(errors.InputError, match="opens no connection"):
            probe(host).connect(calls(["config.get"]))

    def test_without_a_caller_nothing_is_sent(self, host: Host) -> None:
        with socket_serving(echo) as server:
            one = probe(host, origin_of(server))
            assert one.run(calls(CONNECT)).data[0]["error"]["type"] == "no_caller"
            assert server.connections == 0

    def test_a_connection_that_breaks_off_says_so(self, host: Host) -> None:
        with talking(host, lambda socket: socket.send("1")) as one:
            connection = one.connect(TALK)
            assert list(connection) == [1]
            assert connection.closed is not None
            assert connection.closed.code == 1006

    def test_the_deadline_is_that_of_a_stream_and_typed(self, host: Host) -> None:
        def attempt(seconds: float) -> None:
            with talking(host, stream_timeout=seconds, timeout="10m") as one:
                connection = one.connect(TALK)
                began = time.monotonic()
                with pytest.raises(errors.DeadlineExceeded):
                    list(connection)
                assert time.monotonic() - began < seconds + late(1.5)

        with_enough_time(attempt, 0.5)

    def test_a_cancellation_ends_it(self, host: Host) -> None:
        with talking(host) as one:
            connection = one.connect(TALK)
            threading.Timer(0.05, connection.cancel).start()
            with pytest.raises(errors.Cancelled):
                list(connection)

    def test_an_exception_within_the_with_cancels_the_run(self, host: Host) -> None:
        with talking(host) as one:
            with pytest.raises(ZeroDivisionError), one.connect(TALK) as connection:
                raise ZeroDivisionError
            with pytest.raises(errors.Cancelled):
                _ = connection.result

    @pytest.mark.parametrize("event", [{"a": float("nan")}, {"a": {1}}, object()])
    def test_what_is_no_json_is_not_sent(self, host: Host, event: Any) -> None:
        with talking(host) as one, one.connect(TALK) as connection, pytest.raises(errors.InputError, match="event"):
            connection.send(event)

    def test_a_message_that_is_too_large_is_an_error_of_its_sender(self, host: Host) -> None:
        with talking(host, max_message_size="1KB") as one, one.connect(TALK) as connection:
            with pytest.raises(errors.TooLarge, match="over 1000"):
                connection.send("x" * 1_001)
            connection.send("1")
            assert next(connection) == 1

    def test_a_broken_frame_of_the_other_side_is_a_result_with_the_error(self, host: Host) -> None:
        with talking(host, lambda socket: socket.peer.send(b"\x83\x00")) as one:
            connection = one.connect(TALK)
            assert list(connection) == []
            assert connection.result.data[1]["error"]["type"] == "http_error"


class TestBackPressure:
    def test_a_caller_who_does_not_read_fills_no_memory_and_loses_nothing(self, host: Host) -> None:
        written = threading.Semaphore(0)
        count, size = 4_000, 2_000

        def behave(socket: SocketPeer) -> None:
            for number in range(count):
                socket.send(f'"{number:0{size}}"')
                written.release()
            socket.close()
            socket.receive()

        with talking(host, behave) as one:
            connection = one.connect(TALK)
            held = connection._dialogue._answered
            until = time.monotonic() + 0.3
            while time.monotonic() < until:
                assert held._bytes <= dialogue._BYTES_AHEAD + size + 2
                assert len(held._items) <= dialogue._AHEAD
                time.sleep(0.01)
            assert [int(event) for event in connection] == list(range(count))

    def test_one_who_only_sends_is_not_held_up_by_what_they_do_not_read(self, host: Host) -> None:
        got: list[str] = []

        def behave(socket: SocketPeer) -> None:
            for _ in range(dialogue._AHEAD * 2):
                socket.send("1")
            got.extend(str(socket.receive()) for _ in range(500))
            socket.close()
            socket.receive()

        with talking(host, behave) as one:
            connection = one.connect(TALK)
            for number in range(500):
                connection.send(str(number))
            assert len(list(connection)) == dialogue._AHEAD * 2
        assert got == [str(number) for number in range(500)]

    def test_one_who_takes_nothing_for_too_long_ends_the_run(self, host: Host) -> None:
        def behave(socket: SocketPeer) -> None:
            with suppress(OSError):
                while True:
                    socket.send("1" * 1_000)

        def attempt(seconds: float) -> None:
            with talking(host, behave, idle_timeout=seconds) as one:
                connection = one.connect(TALK)
                until = time.monotonic() + seconds + late(10)
                while connection._dialogue.outcome is None and time.monotonic() < until:
                    time.sleep(0.02)
                with pytest.raises(errors.HostError, match="caller"):
                    list(connection)

        with_enough_time(attempt, 0.3)  # in which the other side has filled what lies between

    def test_leaving_early_ends_the_run_and_frees_everything(self, host: Host) -> None:
        got: list[Any] = []
        with talking(host, lambda socket: got.append(socket.receive())) as one:
            connection = one.connect(TALK)
            held = connection._dialogue
            del connection
            until = time.monotonic() + late(5)
            while held.outcome is None and time.monotonic() < until:
                time.sleep(0.01)
            assert held.outcome is not None


class TestSecrets:
    @pytest.mark.parametrize("bound_to", ["api.test", "other.test"])
    def test_no_message_for_the_caller_shows_a_secret(self, host: Host, bound_to: str) -> None:
        def behave(socket: SocketPeer) -> None:
            socket.send(f'"{TOKEN}"')
            socket.send(TOKEN.encode())
            socket.close(4000, TOKEN)
            socket.receive()

        policy = {
            "policy_secrets": {"TOKEN": SecretRule(domains=[bound_to])},
            "allowed_domains": ["api.test", "other.test"],
        }
        with talking(host, behave, secrets={"TOKEN": TOKEN}, **policy) as one:
            connection = one.connect(TALK)
            seen = list(connection)
        assert TOKEN not in f"{seen} {connection.closed} {connection.result}"
        assert len(seen) == 2


class TestAsync:
    def test_one_task_sends_while_another_reads(self, host: Host) -> None:
        async def main() -> list[Any]:
            async with await one.aconnect(TALK) as connection:

                async def send() -> None:
                    for number in range(500):
                        await connection.send(number)

                sending, seen = asyncio.create_task(send()), []
                async for event in connection:
                    seen.append(event)
                    if event == 499:
                        connection.hang_up()
                await sending
                assert connection.closed == (1000, "")
                return seen

        with talking(host) as one:
            assert asyncio.run(main()) == list(range(500))

    def test_messages_come_as_they_are_and_end_in_an_empty_list(self, host: Host) -> None:
        def behave(socket: SocketPeer) -> None:
            socket.send('{"a":  1}')
            socket.send(b"\x00")
            socket.close()
            socket.receive()

        async def main() -> list[Any]:
            connection = await one.aconnect(TALK)
            seen = []
            while found := await connection.messages():
                seen += found
            assert await connection.messages() == []
            return seen

        with talking(host, behave) as one:
            assert asyncio.run(main()) == ['{"a":  1}', b"\x00"]

    def test_waiting_for_a_message_can_be_given_up_without_losing_any(self, host: Host) -> None:
        async def main() -> None:
            async with await one.aconnect(TALK) as connection:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await connection.messages()
                await connection.send("1")
                assert await connection.messages() == ["1"]

        with talking(host) as one:
            asyncio.run(main())

    def test_a_task_that_is_cancelled_while_it_opens_ends_the_run(self, host: Host) -> None:
        with serving(lambda peer: (peer.request(), peer.hang())) as server:  # type: ignore[arg-type, return-value]
            one = probe(host, origin_of(server))

            async def main() -> None:
                opening = asyncio.ensure_future(one.aconnect(TALK))
                assert await asyncio.to_thread(server.asked.wait, 60)
                opening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await opening

            asyncio.run(main())
            assert server.hung_up.wait(late(5))

    def test_a_refusal_is_raised_by_aconnect(self, host: Host) -> None:
        async def main() -> None:
            await one.aconnect(calls(CONNECT, **{"return": {"status": 403}}))

        with talking(host, allowed_domains=[]) as one, pytest.raises(errors.Denied):
            asyncio.run(main())
