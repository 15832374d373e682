"""`catalyst:host/websocket`, as wit/README.md has it, called from inside a sandbox."""

from __future__ import annotations

import threading
from base64 import b64decode, b64encode
from typing import Any

import pytest

from host import Host, RateLimit, SecretRule
from tests.probing import TOKEN, answers, calls, error_type, origin_of, probe, response, serving
from tests.sockets import SocketPeer, echo, opening, socket_serving

URL = "wss://api.test/x"
CONNECT = ["websocket.connect", {"url": URL}]
RECEIVE = ["websocket.receive", "$0.handle", "5000"]
BEARER = {"Authorization": "Bearer $0"}


def connect(**more: Any) -> list[Any]:
    return ["websocket.connect", {"url": URL, **more}]


def send(**message: Any) -> list[Any]:
    return ["websocket.send", "$0.handle", message]


def test_messages_go_to_and_fro(host: Host) -> None:
    with socket_serving(echo) as server:
        one = probe(host, origin_of(server))
        opened, *told = answers(one, CONNECT, send(text="hellö"), RECEIVE, send(data="AP8="), RECEIVE)
    assert opened["handle"].startswith("ws_")
    assert (opened["subprotocol"], "sec-websocket-accept" in opened["headers"]) == ("", False)
    assert told == [{"ok": True}, {"text": "hellö"}, {"ok": True}, {"data": "AP8="}]


def test_what_nobody_answers_is_sent_without_waiting_for_an_answer(host: Host) -> None:
    def behave(socket: SocketPeer) -> None:
        socket.send(",".join(str(socket.receive()) for _ in range(3)))
        socket.receive()

    with socket_serving(behave) as server:
        one = probe(host, origin_of(server), timeout="15s")  # before a ping would be due
        *_, told = answers(one, CONNECT, send(text="a"), send(text="b"), send(text="c"), RECEIVE)
    assert told == {"text": "a,b,c"}


def test_an_attachment_is_sent_as_data(host: Host) -> None:
    with socket_serving(echo) as server:
        one = probe(host, origin_of(server))
        ids = one.run(
            calls(CONNECT, ["echo", {"$attachment": "s"}], ["websocket.send", "$0.handle", {"attachment": "$1.$attachment"}], RECEIVE),
            attachments={"s": b"\x01\x02"},
        ).data  # fmt: skip
    assert ids[2:] == [{"ok": True}, {"data": "AQI="}]


def test_the_end_has_its_code_and_counts(host: Host) -> None:
    def behave(socket: SocketPeer) -> None:
        socket.send("last")
        socket.close(4001, "enough")
        socket.receive()

    with socket_serving(behave) as server:
        _, first, end, again, unsent = answers(
            probe(host, origin_of(server)), CONNECT, RECEIVE, RECEIVE, RECEIVE, send(text="late")
        )
    assert first == {"text": "last"}
    assert end == again == {"closed": {"code": 4001, "reason": "enough"}, "sent": 0, "received": 1}
    assert unsent["closed"]["code"] == 4001


def test_where_nothing_comes_in_time_nothing_is_returned(host: Host) -> None:
    with socket_serving(echo) as server:
        _, none = answers(probe(host, origin_of(server)), CONNECT, ["websocket.receive", "$0.handle", "1"])
    assert none == {"none": True}


def test_the_other_side_chooses_a_subprotocol(host: Host) -> None:
    with serving(opening(echo, "Sec-WebSocket-Protocol: b")) as server:
        [opened] = answers(probe(host, origin_of(server)), connect(subprotocols=["a", "b"]))
        assert opened["subprotocol"] == "b"
        assert b"Sec-WebSocket-Protocol: a, b\r\n" in server.requests[0]


def test_an_answer_in_place_of_a_connection_is_beside_the_error(host: Host) -> None:
    with serving(response(b'{"error": {"type": "auth"}}', "401 Unauthorized", "X-Request-Id: r1")) as server:
        [refused] = answers(probe(host, origin_of(server)), CONNECT)
    assert refused["error"]["type"] == "http_error"
    assert "api.test:443 answered 401" in refused["error"]["message"]
    assert (refused["status"], refused["body"]) == (401, '{"error": {"type": "auth"}}')
    assert refused["headers"]["x-request-id"] == "r1"


def test_a_redirect_is_not_followed(host: Host) -> None:
    with serving(response(b"", "302 Found", "Location: http://127.0.0.1/")) as server:
        [refused] = answers(probe(host, origin_of(server)), CONNECT)
        assert (refused["status"], server.connections) == (302, 1)


def test_opening_and_end_are_on_record_in_their_order(host: Host) -> None:
    with socket_serving(echo) as server:
        sink_events = probe(host, origin_of(server)).run(calls(CONNECT, send(text="ab"), RECEIVE)).execution.decisions
    shown = [(one.kind, one.decision) for one in sink_events]
    assert shown == [("run.started", None), ("http.request", "allow"), ("websocket.closed", None), ("run.ended", None)]
    opened, closed = sink_events[1], sink_events[2]
    assert opened.detail["url"] == URL
    assert opened.detail["websocket"] is True
    assert closed.detail["sent"] == closed.detail["received"] == 1
    assert (closed.detail["sent_bytes"], closed.detail["code"]) == (2, 1001)


class TestPolicy:
    @pytest.mark.parametrize(
        ("url", "policy", "kind"),
        [
            pytest.param("wss://other.test/", {}, "domain_blocked", id="another domain"),
            pytest.param("ws://api.test/", {}, "domain_blocked", id="ws is not wss: no downgrade"),
            pytest.param("wss://api.test:8443/", {}, "domain_blocked", id="another port"),
            pytest.param(URL, {"allowed_methods": ["POST"]}, "method_blocked", id="opening is a GET"),
            pytest.param("https://api.test/", {}, "http_error", id="no URL of a WebSocket"),
            pytest.param("wss://u:p@api.test/", {}, "http_error", id="a user in it"),
            pytest.param(URL, {"max_connections": 0}, "stream_limit", id="none may be open"),
            pytest.param(URL, {"max_http_requests": 0}, "rate_limited", id="it counts as a request"),
            pytest.param(URL, {"rate_limit": {"requests": 0, "window": "1m"}}, "rate_limited", id="and for the rate"),
        ],
    )
    def test_it_decides_before_anything_is_sent(self, host: Host, url: str, policy: dict[str, Any], kind: str) -> None:
        if "rate_limit" in policy:
            policy = {"rate_limit": RateLimit(**policy["rate_limit"])}
        with socket_serving(echo) as server:
            [refused] = answers(probe(host, origin_of(server), **policy), ["websocket.connect", {"url": url}])
            assert error_type(refused) == kind
            assert server.connections == 0

    def test_a_private_address_is_refused(self, host: Host) -> None:
        with socket_serving(echo) as server:
            port = origin_of(server).rpartition(":")[2]
            one = probe(host, allowed_domains=[f"http://127.0.0.1:{port}"])
            [refused] = answers(one, ["websocket.connect", {"url": f"ws://127.0.0.1:{port}/"}])
            assert error_type(refused) == "private_ip_blocked"
            assert server.connections == 0

    def test_only_so_many_are_open_and_a_closed_one_makes_room(self, host: Host) -> None:
        with socket_serving(echo) as server:
            one = probe(host, origin_of(server), max_connections=1)
            _, second, _, third = answers(one, CONNECT, CONNECT, ["websocket.close", "$0.handle"], CONNECT)
        assert error_type(second) == "stream_limit"
        assert "max_connections" in second["error"]["message"]
        assert "handle" in third

    def test_a_thousand_connections_are_refused_within_the_run(self, host: Host) -> None:
        with socket_serving(echo) as server:
            one = probe(host, origin_of(server), max_http_requests=5, max_connections=2)
            result = one.run(calls(CONNECT, repeat=1_000))
            assert error_type(result.data[-1]) in ("stream_limit", "rate_limited")
            assert server.connections <= 2

    @pytest.mark.parametrize(
        ("policy", "told"),
        [
            pytest.param({"max_message_size": 3}, "max_message_size", id="one message"),
            pytest.param({"max_connection_size": 3}, "max_connection_size", id="all of them"),
        ],
    )
    def test_what_is_sent_has_bounds(self, host: Host, policy: dict[str, Any], told: str) -> None:
        with socket_serving(echo) as server:
            _, refused = answers(probe(host, origin_of(server), **policy), CONNECT, send(text="four"))
        assert error_type(refused) == "request_too_large"
        assert told in refused["error"]["message"]

    @pytest.mark.parametrize(
        ("policy", "told"),
        [
            pytest.param({"max_message_size": 3}, "max_message_size", id="one message"),
            pytest.param({"max_connection_size": 5}, "max_connection_size", id="a flood of small ones"),
        ],
    )
    def test_what_comes_has_bounds(self, host: Host, policy: dict[str, Any], told: str) -> None:
        def flood(socket: SocketPeer) -> None:
            for _ in range(10):
                socket.send("four" if "max_message_size" in policy else "a")

        with socket_serving(flood) as server:
            *_, last = answers(probe(host, origin_of(server), **policy), CONNECT, *[RECEIVE] * 5)
        assert error_type(last) == "response_too_large"
        assert told in last["error"]["message"]


class TestAttacks:
    def test_the_handle_of_another_run_is_none(self, host: Host) -> None:
        with socket_serving(echo) as server:
            one = probe(host, origin_of(server))
            [opened] = answers(one, CONNECT)
            stolen = answers(
                one, ["websocket.receive", opened["handle"], "0"], ["websocket.send", opened["handle"], {"text": ""}]
            )
        assert [error_type(answer) for answer in stolen] == ["invalid_handle"] * 2  # fmt: skip

    def test_a_streams_handle_is_no_connections(self, host: Host) -> None:
        with socket_serving(echo) as server:
            one = probe(host, origin_of(server))
            _, read = answers(one, CONNECT, ["streaming.read", "$0.handle"])
        assert error_type(read) == "invalid_handle"

    @pytest.mark.parametrize(
        "name",
        [
            *("Sec-WebSocket-Key", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "sec_websocket_extensions"),
            *("Host", "Upgrade", "Connection", "Origin", "X-Forwarded-For", "Content-Length", "Transfer-Encoding"),
        ],
    )
    def test_headers_of_the_handshake_are_the_hosts(self, host: Host, name: str) -> None:
        with socket_serving(echo) as server:
            [opened] = answers(probe(host, origin_of(server)), connect(headers={name: "forged"}))
            assert "handle" in opened
            assert b"forged" not in server.requests[0]

    @pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00b"])
    def test_a_line_break_in_a_header_sends_nothing(self, host: Host, value: str) -> None:
        with socket_serving(echo) as server:
            [refused] = answers(probe(host, origin_of(server)), connect(headers={"X-A": value}))
            assert error_type(refused) == "http_error"
            assert server.connections == 0

    @pytest.mark.parametrize("offered", [["a b"], ["a,b"], ["a\r\nX: 1"], [""], ["a", "a"], ["ü"], ["p"] * 30])
    def test_a_subprotocol_that_is_no_token_sends_nothing(self, host: Host, offered: list[str]) -> None:
        with socket_serving(echo) as server:
            [refused] = answers(probe(host, origin_of(server)), connect(subprotocols=offered))
            assert error_type(refused) == "http_error"
            assert server.connections == 0

    def test_a_method_override_needs_the_method(self, host: Host) -> None:
        with socket_serving(echo) as server:
            one = probe(host, origin_of(server), allowed_methods=["GET"])
            [refused] = answers(one, connect(headers={"X-HTTP-Method-Override": "DELETE"}))
            assert error_type(refused) == "method_blocked"
            assert server.connections == 0

    @pytest.mark.parametrize(
        "message",
        [{}, {"text": 1}, {"text": "a", "data": "AA=="}, {"data": "?"}, {"attachment": "att_none"}, "[]", "{"],
    )
    def test_a_malformed_message_is_an_error_that_names_the_field(self, host: Host, message: Any) -> None:
        with socket_serving(echo) as server:
            _, refused = answers(probe(host, origin_of(server)), CONNECT, ["websocket.send", "$0.handle", message])
        assert error_type(refused) == "http_error"


class TestSecrets:
    def secretive(self, host: Host, server: str, *places: str, domains: tuple[str, ...] = ("api.test",)) -> Any:
        rule = SecretRule(domains=list(domains), places=places or ("header",))
        return probe(
            host,
            server,
            secrets={"TOKEN": TOKEN},
            policy_secrets={"TOKEN": rule},
            allowed_domains=["api.test", "other.test"],
        )

    def test_a_placeholder_in_a_header_becomes_the_value(self, host: Host) -> None:
        with socket_serving(echo) as server:
            one = self.secretive(host, origin_of(server))
            _, opened = answers(one, ["secrets.get", "TOKEN"], connect(headers=BEARER))
            assert "handle" in opened
            assert f"Authorization: Bearer {TOKEN}\r\n".encode() in server.requests[0]

    def test_a_placeholder_at_the_end_of_a_subprotocol_becomes_the_value(self, host: Host) -> None:
        offered = ["realtime", "openai-insecure-api-key.$0", "openai-beta.realtime-v1"]
        with serving(opening(echo, "Sec-WebSocket-Protocol: realtime")) as server:
            one = self.secretive(host, origin_of(server))
            result = one.run(calls(["secrets.get", "TOKEN"], connect(subprotocols=offered)))
            assert result.data[1]["subprotocol"] == "realtime"
            assert f"openai-insecure-api-key.{TOKEN}, ".encode() in server.requests[0]
        used = [one for one in result.execution.decisions if one.kind == "secret.use" and "origin" in one.detail]
        assert [one.detail["secret"] for one in used] == ["TOKEN"]

    def test_an_echoed_subprotocol_shows_the_placeholder(self, host: Host) -> None:
        with serving(opening(echo, f"Sec-WebSocket-Protocol: key.{TOKEN}")) as server:
            one = self.secretive(host, origin_of(server))
            placeholder, opened = answers(one, ["secrets.get", "TOKEN"], connect(subprotocols=["key.$0"]))
        assert opened["subprotocol"] == f"key.{placeholder['ok']}"

    def test_a_secret_by_subprotocol_to_another_domain_stays_a_placeholder(self, host: Host) -> None:
        with socket_serving(echo) as server:
            one = self.secretive(host, origin_of(server), domains=("other.test",))
            result = one.run(calls(["secrets.get", "TOKEN"], connect(subprotocols=["key.$0"], headers=BEARER)))
            assert TOKEN.encode() not in server.requests[0]
            assert b"host-secret-" in server.requests[0]
        assert [one.kind for one in result.execution.refusals] == ["secret_denied"] * len(result.execution.refusals)
        assert any("Sec-WebSocket-Protocol" in one.rule for one in result.execution.refusals)

    @pytest.mark.parametrize(
        "offered",
        [
            pytest.param(["a" * 65 + "$0"], id="behind many characters"),
            pytest.param(["a" * 40, "b" * 40, "$0"], id="behind many subprotocols"),
            pytest.param(["a.$0", "b.$0"], id="twice"),
        ],
    )
    def test_a_secret_is_not_moved_along_in_the_subprotocols(self, host: Host, offered: list[str]) -> None:
        with socket_serving(echo) as server:
            one = self.secretive(host, origin_of(server))
            _, refused = answers(one, ["secrets.get", "TOKEN"], connect(subprotocols=offered))
            assert error_type(refused) == "http_error"
            assert server.connections == 0

    def test_over_ws_no_secret_is_sent(self, host: Host) -> None:
        with socket_serving(echo) as server:
            port = origin_of(server).rpartition(":")[2]
            one = probe(
                host,
                secrets={"TOKEN": TOKEN},
                policy_secrets={"TOKEN": SecretRule(domains=[f"http://127.0.0.1:{port}"])},
                allowed_domains=[f"http://127.0.0.1:{port}"],
                allowed_private=["127.0.0.0/8"],
            )
            wanted = ["websocket.connect", {"url": f"ws://127.0.0.1:{port}/", "headers": BEARER}]
            answers(one, ["secrets.get", "TOKEN"], wanted)
            assert TOKEN.encode() not in server.requests[0]

    @pytest.mark.parametrize(("places", "sent"), [(("header",), False), (("header", "body"), True)])
    def test_in_messages_it_is_replaced_only_where_the_grant_says_body(
        self, host: Host, places: tuple[str, ...], sent: bool
    ) -> None:
        got: list[Any] = []
        with socket_serving(lambda socket: got.append(socket.receive())) as server:
            one = self.secretive(host, origin_of(server), *places)
            message = ["websocket.send", "$1.handle", {"text": '{"key": "$0"}'}]
            result = one.run(
                calls(["secrets.get", "TOKEN"], CONNECT, message, ["websocket.receive", "$1.handle", "9999"])
            )
        assert (got[0] == f'{{"key": "{TOKEN}"}}') == sent
        assert bool(result.execution.refusals) != sent

    @pytest.mark.parametrize("binary", [False, True])
    def test_a_message_that_echoes_the_secret_shows_the_placeholder(self, host: Host, binary: bool) -> None:
        def behave(socket: SocketPeer) -> None:
            for text in (TOKEN, b64encode(TOKEN.encode()).decode()):
                socket.send(text.encode() if binary else text)
            socket.receive()

        with socket_serving(behave) as server:
            one = self.secretive(host, origin_of(server))
            got = answers(one, CONNECT, *[RECEIVE] * 2)[1:]
        texts = [one["text"] if "text" in one else b64decode(one["data"]).decode() for one in got]
        assert all("host-secret-" in text for text in texts), texts


def test_one_that_has_ended_is_let_go_when_the_guest_is_told_and_not_at_the_end_of_the_run(host: Host) -> None:
    freed = threading.Event()
    seen: list[SocketPeer] = []

    def behave(socket: SocketPeer) -> None:
        seen.append(socket)
        if len(seen) > 1:
            socket.send(str(freed.wait(10)))
            return
        socket.send("last")
        socket.close(4001)
        socket.peer.hang()
        freed.set()

    with socket_serving(behave) as server:
        one = probe(host, origin_of(server), max_connections=1)
        told = answers(one, CONNECT, RECEIVE, RECEIVE, RECEIVE, CONNECT, ["websocket.receive", "$4.handle", "9999"])
    assert told[1] == {"text": "last"}
    assert told[2] == told[3]
    assert told[5] == {"text": "True"}


def test_connections_that_a_run_leaves_open_end_with_it(host: Host) -> None:
    ends: list[Any] = []
    with socket_serving(lambda socket: ends.append(socket.receive())) as server:
        answers(probe(host, origin_of(server)), CONNECT, CONNECT)
        assert server.hung_up.wait(10)
    assert [end.code for end in ends if end is not None] in ([1001], [1001, 1001])
