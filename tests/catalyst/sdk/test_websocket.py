"""`catalyst.sdk.websocket` against a scripted host."""

import pytest

END = {"closed": {"code": 1000, "reason": "done"}, "sent": 2, "received": 3}


def test_texts_bytes_and_attachments_are_sent_as_such(guest, world) -> None:
    with guest("catalyst.sdk.websocket").connect("wss://x.test") as socket:
        for message in ("hello", b"\x00\xff", {"$attachment": "att-1"}):
            assert socket.send(message) is None
    assert world.sent == [{"text": "hello"}, {"data": "AP8="}, {"attachment": "att-1"}]
    assert world.closed == ["w1"]


def test_what_is_received_is_a_text_bytes_nothing_or_the_end(guest, world) -> None:
    world.received = [{"text": "a"}, {"data": "AP8="}, {"none": True}, END]
    module = guest("catalyst.sdk.websocket")
    socket = module.connect("wss://x.test")
    assert [socket.receive(5) for _ in range(4)] == ["a", b"\x00\xff", None, module.Closed(1000, "done", 2, 3)]


def test_a_relay_is_asked_for_and_waited_for(guest, world) -> None:
    world.received = [END]
    socket = guest("catalyst.sdk.websocket").connect("wss://x.test", subprotocols=["a"], relay=True)
    assert socket.relayed
    assert world.connected == [{"url": "wss://x.test", "headers": {}, "subprotocols": ["a"], "relay": True}]
    assert socket.wait().ok


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        pytest.param({"error": {"type": "domain_blocked", "message": "no"}}, 403, "domain_blocked", id="by the host"),
        pytest.param({"error": {"type": "no_caller", "message": "no"}}, 400, "no_caller", id="for want of a caller"),
        pytest.param(
            {"error": {"type": "http_error", "message": "x"}, "status": 401, "body": '{"error": {"type": "auth"}}'},
            401,
            "auth",
            id="by the other side, with its own error",
        ),
        pytest.param(
            {"error": {"type": "http_error", "message": "x"}, "status": 302, "body": ""},
            502,
            "http_error",
            id="redirect",
        ),
    ],
)
def test_a_refusal_is_an_error(guest, world, answer, status, kind) -> None:
    world.connection = answer
    module = guest("catalyst.sdk.websocket")
    with pytest.raises(Exception, match=r".*") as raised:
        module.connect("wss://x.test")
    assert (raised.value.status, raised.value.error["type"]) == (status, kind)


def test_without_the_interface_it_is_refused(guest) -> None:
    module = guest("catalyst.sdk.websocket", interfaces=("fetch",))
    with pytest.raises(Exception, match="does not ask for websocket"):
        module.connect("wss://x.test")
