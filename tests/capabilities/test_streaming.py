"""`cyfr:http/streaming`, as wit/README.md has it, called from inside a sandbox."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from host import Host, SecretRule, errors
from host.core.sse import ServerSentEvent
from tests.conftest import with_enough_time
from tests.egress.conftest import Peer
from tests.probing import (
    TOKEN,
    answers,
    asking,
    calls,
    chunk,
    chunked,
    error_type,
    event,
    origin_of,
    probe,
    response,
    serving,
)

OPEN = ["streaming.request", asking()]
READ_ALL = ["streaming.read_all", "$0.handle"]
DONE = {"data": "", "done": True}
LAST = b"0\r\n\r\n"


def pieces(*texts: bytes, last: bytes = LAST) -> Any:
    """Behaviour: one answer in these chunks, each its own write."""

    def behave(peer: Peer) -> None:
        while peer.request():
            peer.send(chunked())
            for text in texts:
                peer.send(chunk(text))
            peer.send(last)
            if last != LAST:
                return

    return behave


def test_an_opened_stream_has_a_handle_and_tells_status_and_headers(host: Host) -> None:
    with serving(response(b"x", "201 Created", "X-A: 1", "x-a: 2")) as server:
        [opened] = answers(probe(host, origin_of(server)), OPEN)
    assert opened.keys() == {"handle", "status", "headers"}
    assert opened["status"] == 201
    assert opened["headers"]["x-a"] == "1, 2"


def test_a_stream_is_read_to_its_end_and_data_never_comes_with_done(host: Host) -> None:
    with serving(pieces(b"one ", b"two ", b"three")) as server:
        _, read = answers(probe(host, origin_of(server)), OPEN, READ_ALL)
    assert "".join(read["pieces"]) == "one two three"
    assert all(read["pieces"])
    assert read["end"] == DONE


def test_an_empty_answer_is_done_at_once(host: Host) -> None:
    with serving(response(b"")) as server:
        _, first, again = answers(probe(host, origin_of(server)), OPEN, *[["streaming.read", "$0.handle"]] * 2)
    assert first == again == DONE


def test_an_error_status_opens_a_stream_like_any_other(host: Host) -> None:
    with serving(response(b'{"error": 1}', "401 Unauthorized")) as server:
        opened, read = answers(probe(host, origin_of(server)), OPEN, READ_ALL)
    assert opened["status"] == 401
    assert read["pieces"] == ['{"error": 1}']


def test_a_character_is_never_cut(host: Host) -> None:
    text = "aé€🐈z"
    with serving(pieces(*[bytes((byte,)) for byte in text.encode()])) as server:
        _, read = answers(probe(host, origin_of(server)), OPEN, READ_ALL)
    assert "".join(read["pieces"]) == text
    assert not any("\ufffd" in piece for piece in read["pieces"])


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        pytest.param(["é".encode()[:1]], "Ã", id="a character that the end cuts"),
        pytest.param(["é".encode(), b"\xe9", "é".encode()], "ééÃ©", id="Latin-1 from the first byte that is not UTF-8"),
        pytest.param(["a😀".encode()[:3], b"b"], "að\x9fb", id="a character that never ends"),
        pytest.param([b"\xf0\x9f", b"\x98\x80", b"\xff\xc3", b"\xa9"], "😀ÿÃ©", id="cut, whole, then binary"),
        pytest.param([b"\xff" * 3], "ÿÿÿ", id="binary from the start"),
    ],
)
def test_a_stream_that_is_not_utf8_goes_on_as_latin1(host: Host, sent: list[bytes], text: str) -> None:
    with serving(pieces(*sent)) as server:
        _, read = answers(probe(host, origin_of(server)), OPEN, READ_ALL)
    assert ("".join(read["pieces"]), read["end"]) == (text, DONE)


def test_a_byte_that_is_not_utf8_spoils_no_later_event(host: Host) -> None:
    def behave(peer: Peer) -> None:
        while peer.request():
            peer.send(chunked("200 OK", "Content-Type: text/event-stream"))
            for text in (
                b"data: \xff\n\n",
                b"data: \xc3",
                b"\n\n",
                "data: é😀\n\n".encode()[:8],
                "data: é😀\n\n".encode()[8:],
            ):
                peer.send(chunk(text))
            peer.send(LAST)

    with serving(behave) as server:
        _, read = answers(probe(host, origin_of(server)), OPEN, READ_ALL)
    assert "".join(read["pieces"]) == "data: \ufffd\n\ndata: \ufffd\n\ndata: é😀\n\n"


def test_a_read_waits_for_data_and_returns_it_before_there_is_more(host: Host) -> None:
    """The server sends its second piece only once the first was read."""
    was_read = threading.Event()

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked())
        peer.send(chunk(b"first"))
        assert was_read.wait(10)
        peer.send(chunk(b"second") + LAST)

    with serving(behave) as server:
        stream = probe(host, origin_of(server)).stream(
            calls(
                OPEN,
                ["streaming.read", "$0.handle"],
                ["output.emit", "$1.data"],
                ["streaming.read", "$0.handle"],
                ["output.emit", "$3.data"],
            )
        )
        assert next(stream) == {"raw": "first"}
        was_read.set()
        assert list(stream) == [{"raw": "second"}]


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(b"", id="the server hangs up"),
        pytest.param(b"ZZ\r\n", id="a malformed chunk"),
        pytest.param(b"a\r\nhalf", id="a chunk cut short"),
    ],
)
def test_a_failure_in_mid_stream_is_an_error_and_never_a_silent_end(host: Host, last: bytes) -> None:
    with serving(pieces(b"begun", last=last)) as server:
        _, read = answers(probe(host, origin_of(server)), OPEN, READ_ALL)
    assert "".join(read["pieces"]).startswith("begun")
    assert error_type(read["end"]) == "http_error"


def test_after_a_failure_a_stream_has_ended(host: Host) -> None:
    with serving(pieces(b"begun", last=b"ZZ\r\n")) as server:
        *_, after = answers(probe(host, origin_of(server)), OPEN, READ_ALL, ["streaming.read", "$0.handle"])
    assert after == DONE


def test_an_answer_over_the_limit_is_an_error_in_mid_stream(host: Host) -> None:
    with serving(pieces(b"x" * 60, b"y" * 60)) as server:
        result = probe(host, origin_of(server), max_response_size=100).run(calls(OPEN, READ_ALL))
    assert error_type(result.data[1]["end"]) == "response_too_large"
    assert [refusal.kind for refusal in result.execution.refusals] == ["response_too_large"]


def test_the_fourth_open_stream_is_refused_and_closing_one_makes_room(host: Host) -> None:
    with serving(response(b"x")) as server:
        *opened, fourth, closed, again = answers(
            probe(host, origin_of(server)), OPEN, OPEN, OPEN, OPEN, ["streaming.close", "$0.handle"], OPEN
        )
    assert all("handle" in one for one in opened)
    assert error_type(fourth) == "stream_limit"
    assert "max_streams" in fourth["error"]["message"]
    assert closed == {"ok": True}
    assert "handle" in again


def test_a_stream_read_to_its_end_no_longer_counts_as_open(host: Host) -> None:
    with serving(response(b"x")) as server:
        *_, fourth = answers(probe(host, origin_of(server)), OPEN, READ_ALL, OPEN, OPEN, OPEN)
    assert "handle" in fourth


def test_the_policy_says_how_many_streams_may_be_open(host: Host) -> None:
    with serving(response(b"x")) as server:
        first, second = answers(probe(host, origin_of(server), max_streams=1), OPEN, OPEN)
    assert "handle" in first
    assert error_type(second) == "stream_limit"


@pytest.mark.parametrize("handle", ["", "0", "str_" + "0" * 32, "null", "{}", "../..", "\x00", "x" * 100_000, "\ufffd"])
def test_a_forged_handle_is_invalid(host: Host, handle: str) -> None:
    with serving(response(b"x")) as server:
        _, read = answers(probe(host, origin_of(server)), OPEN, ["streaming.read", handle])
    assert error_type(read) == "invalid_handle"


@pytest.mark.parametrize("handle", ["", "str_nobody", "\x00", "x" * 100_000])
def test_closing_an_unknown_handle_is_fine(host: Host, handle: str) -> None:
    assert answers(probe(host), ["streaming.close", handle]) == [{"ok": True}]


def test_closing_twice_is_fine_and_reading_after_it_is_not(host: Host) -> None:
    with serving(response(b"x")) as server:
        _, first, second, read = answers(
            probe(host, origin_of(server)),
            OPEN,
            *[["streaming.close", "$0.handle"]] * 2,
            ["streaming.read", "$0.handle"],
        )
    assert first == second == {"ok": True}
    assert error_type(read) == "invalid_handle"


def test_a_handle_of_another_run_is_invalid_while_that_run_still_has_it_open(host: Host) -> None:
    with serving(response(b"mine")) as server:
        one = probe(host, origin_of(server))
        running = one.stream(calls(OPEN, ["output.emit", "$0.handle"], spin=True))
        stolen = next(running)["raw"]
        [read, closed] = answers(one, ["streaming.read", stolen], ["streaming.close", stolen])
        running.close()
    assert error_type(read) == "invalid_handle"
    assert closed == {"ok": True}


def test_no_two_handles_are_alike_and_none_can_be_guessed(host: Host) -> None:
    with serving(response(b"x")) as server:
        opened = answers(probe(host, origin_of(server)), OPEN, OPEN, OPEN)
    handles = {one["handle"] for one in opened}
    assert len(handles) == 3
    assert all(len(handle) >= 32 for handle in handles)


@pytest.mark.parametrize(
    ("more", "ended"),
    [
        pytest.param({}, None, id="by returning"),
        pytest.param({"return": 5}, errors.GuestTrap, id="by a trap"),
        pytest.param({"spin": True}, errors.DeadlineExceeded, id="by its deadline"),
    ],
)
def test_what_a_run_left_open_is_closed_when_it_ends(
    host: Host, more: dict[str, Any], ended: type[errors.HostError] | None
) -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked() + chunk(b"x"))
        peer.hang()

    with serving(behave) as server:
        one = probe(host, origin_of(server))
        if ended is None:
            one.run(calls(OPEN))
        else:

            def attempt(seconds: float) -> None:
                with pytest.raises(ended):
                    one.run(calls(OPEN, **more), timeout=seconds)
                assert server.connections

            with_enough_time(attempt, 0.5)
        assert server.hung_up.wait(60)


def test_a_read_that_nothing_answers_ends_with_the_run(host: Host) -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked())
        peer.hang()

    with serving(behave) as server:

        def attempt(seconds: float) -> None:
            with pytest.raises(errors.DeadlineExceeded):
                answers(probe(host, origin_of(server)), OPEN, READ_ALL, timeout=seconds)
            assert server.connections

        with_enough_time(attempt, 0.3)
        assert server.hung_up.wait(60)


# Relay: the answer goes to the caller without passing through the guest.

RELAY = ["streaming.request", asking(relay=True)]
READ = ["streaming.read", "$0.handle"]


def test_a_relayed_answer_reaches_the_caller_and_the_guest_sees_only_its_end(host: Host) -> None:
    with serving(pieces(b'data: {"n": 1}\n\n', b'data: {"n": 2}\n\ndata: [DONE]\n\n')) as server:
        stream = probe(host, origin_of(server)).stream(calls(RELAY, READ, READ))
        assert list(stream) == [{"n": 1}, {"n": 2}]
        opened, read, again = stream.result.data
    assert opened["relay"] is True
    assert read == {"data": "", "done": True, "events": 2, "last": '{"n": 2}'}
    assert (again["data"], again["done"]) == ("", True)


def test_relayed_events_arrive_one_by_one_as_the_upstream_sends_them(host: Host) -> None:
    """Each event is sent only once the one before has reached the caller."""
    arrived = [threading.Event() for _ in range(3)]

    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked())
        for number, seen in enumerate(arrived):
            peer.send(event({"n": number}))
            assert seen.wait(10)
        peer.send(LAST)

    with serving(behave) as server:
        stream = probe(host, origin_of(server)).stream(calls(RELAY, READ))
        for expected, seen in enumerate(arrived):
            assert next(stream) == {"n": expected}
            seen.set()
        assert list(stream) == []


def test_without_a_listener_there_is_no_relay_and_the_guest_reads_for_itself(host: Host) -> None:
    with serving(pieces(b"data: 1\n\n")) as server:
        opened, read = answers(probe(host, origin_of(server)), RELAY, READ)
    assert opened["relay"] is False
    assert read == {"data": "data: 1\n\n", "done": False}


def test_an_answer_outside_2xx_is_not_relayed(host: Host) -> None:
    with serving(response(b'{"error": {}}', "401 Unauthorized")) as server:
        stream = probe(host, origin_of(server)).stream(calls(RELAY, READ))
        assert list(stream) == []
        opened, read = stream.result.data
    assert opened["relay"] is False
    assert read == {"data": '{"error": {}}', "done": False}


def test_a_relayed_answer_that_breaks_is_an_error_after_the_events_that_came(host: Host) -> None:
    with serving(pieces(b"data: 1\n\n", last=b"ZZ\r\n")) as server:
        stream = probe(host, origin_of(server)).stream(calls(RELAY, READ))
        assert list(stream) == [1]
        assert error_type(stream.result.data[1]) == "http_error"


def test_relayed_events_do_not_count_towards_what_the_guest_may_emit(host: Host) -> None:
    with serving(pieces(b"data: " + b"1" * 2000 + b"\n\n")) as server:
        stream = probe(host, origin_of(server), max_output_size=1500).stream(
            {**calls(RELAY, READ, ["output.emit", "7"]), "raw": "{}"}
        )
        assert len(list(stream)) == 2
        assert stream.result.ok


def test_the_last_event_is_shown_to_the_guest_only_in_part(host: Host) -> None:
    with serving(pieces(b'data: "' + b"x" * 50_000 + b'"\n\n')) as server:
        stream = probe(host, origin_of(server)).stream(calls(RELAY, READ))
        assert len(next(stream)) == 50_000
        assert list(stream) == []
        assert len(stream.result.data[1]["last"]) == 4096


def relayed(host: Host, *texts: bytes, **policy: Any) -> tuple[list[str], Any]:
    """The texts of the events that the caller gets, and what the guest reads last."""
    with serving(pieces(*texts)) as server:
        stream = probe(host, origin_of(server), **policy).stream(calls(RELAY, READ))
        return [str(one) for one in stream], stream.result.data[1]


def test_an_error_in_a_relayed_answer_is_told_with_its_status_however_long_it_is(host: Host) -> None:
    error = {"message": "x" * 6_000, "code": 503}
    sent = b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
    for more in ((), (b"data: {}\n\n",), (b"data: [DONE]\n\n",)):
        _, read = relayed(host, sent, *more)
        assert read["failure"] == {"status": 503, "error": error}
        assert json.loads(read["last"]) == {"error": error}


def test_a_relayed_answer_that_breaks_off_within_an_event_has_failed(host: Host) -> None:
    events, read = relayed(host, b'data: {"n":1}\n\ndata: {"n"')
    assert (len(events), read["failure"]["status"]) == (1, 502)


def test_an_event_that_is_no_json_object_is_handed_on_and_told(host: Host) -> None:
    events, read = relayed(host, b"data: words\n\n")
    assert (events, read["odd"]) == (["{'raw': 'words'}"], True)
    assert "odd" not in relayed(host, b"data: {}\n\n")[1]


@pytest.mark.parametrize("listened", [True, False])
def test_a_document_in_place_of_events_stays_with_the_host(host: Host, listened: bool) -> None:
    body = b'\n {"a": 1e400, "b": NaN}'
    with serving(response(body, "200 OK", "Content-Type: text/event-stream")) as server:
        one = probe(host, origin_of(server))
        asked = {**calls(RELAY, READ, READ)}
        data = one.stream(asked) if listened else one.run(asked).data
        if listened:
            assert list(data) == []
            data = data.result.data
    assert data[1]["document"]["size"] == len(body)
    assert (data[1]["data"], data[1]["done"], data[2]["done"]) == ("", True, True)


def test_a_document_that_is_an_error_is_told_as_one(host: Host) -> None:
    _, read = relayed(host, b'{"error":{"code":429}}')
    assert read["failure"] == {"status": 429, "error": {"code": 429}}
    assert "document" not in read


def test_text_that_is_no_event_stream_is_read_by_the_guest(host: Host) -> None:
    with serving(response("<p>é</p>".encode())) as server:
        stream = probe(host, origin_of(server)).stream(calls(RELAY, READ, READ))
        assert list(stream) == []
        _, *reads = stream.result.data
    assert reads == [{"data": "<p>é</p>", "done": False}, DONE]


def test_a_connection_serves_again_after_a_stream_that_ended_with_done(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end may come a little later than `[DONE]`."""
    monkeypatch.setattr("host.capabilities.streaming._LINGER_S", 60.0)

    def behave(peer: Peer) -> None:
        while peer.request():
            peer.send(chunked() + chunk(b"data: {}\n\ndata: [DONE]\n\n"))
            peer.stopped.wait(0.01)
            peer.send(LAST)

    with serving(behave) as server:
        one = probe(host, origin_of(server))
        for _ in range(3):
            list(one.stream(calls(RELAY, READ)))
        assert server.connections == 1


@pytest.mark.parametrize("after", [b"", b"data: {}\n\n"])
def test_a_relay_ends_with_done_whatever_its_connection_does(host: Host, after: bytes) -> None:
    def behave(peer: Peer) -> None:
        peer.request()
        peer.send(chunked() + chunk(b"data: {}\n\ndata: [DONE]\n\n"))
        if after:
            peer.drip(chunk(after))
        peer.hang()

    with serving(behave) as server:
        stream = probe(host, origin_of(server)).stream(calls(RELAY, READ))
        assert list(stream) == [{}]
        assert stream.result.data[1]["events"] == 1


@pytest.mark.parametrize("bound_to", ["api.test", "other.test"])
def test_no_field_of_a_relayed_event_shows_a_secret(host: Host, bound_to: str) -> None:
    sent = f"event: {TOKEN}\nid: {TOKEN}\ndata: {TOKEN}\n\n".encode()
    policy = {
        "policy_secrets": {"TOKEN": SecretRule(domains=[bound_to])},
        "allowed_domains": ["api.test", "other.test"],
    }
    with serving(pieces(sent)) as server:
        one = probe(host, origin_of(server), secrets={"TOKEN": TOKEN}, **policy)
        with one.stream(calls(["secrets.get", "TOKEN"], RELAY, ["streaming.read", "$1.handle"])) as stream:
            event = stream._channel.get()
    assert isinstance(event, ServerSentEvent)
    assert None not in (event.event, event.id)
    assert TOKEN not in f"{event} {event.event} {event.id}"
