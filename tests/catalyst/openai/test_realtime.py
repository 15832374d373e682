"""The operations that open a connection: what they ask the host for."""

import json

import pytest

from tests.conftest import ROOT

END = {"closed": {"code": 1000, "reason": ""}, "sent": 2, "received": 3}
BASE = "wss://api.openai.com/v1"


@pytest.mark.parametrize(
    ("operation", "params", "url"),
    [
        ("realtime.connect", {"model": "gpt-realtime"}, f"{BASE}/realtime?model=gpt-realtime"),
        ("realtime.connect", {"call_id": "rtc_1"}, f"{BASE}/realtime?call_id=rtc_1"),
        ("beta.realtime.connect", {"model": "m"}, f"{BASE}/realtime?model=m"),
        ("realtime.translations.connect", {"model": "m"}, f"{BASE}/realtime/translations?model=m"),
        ("responses.connect", {}, f"{BASE}/responses"),
        ("beta.responses.connect", {}, f"{BASE}/responses"),
        ("live.connect", {}, f"{BASE}/live/sessions"),
        ("live.sideband.connect", {"session_id": "a/b", "graceful_close": True}, f"{BASE}/live/sessions/a%2Fb/attach?graceful_close=true"),
        ("live.forks.connect", {"session_id": "s"}, f"{BASE}/live/sessions/s/fork"),
    ],
)  # fmt: skip
def test_each_connects_where_the_sdk_does(call, world, operation, params, url) -> None:
    world.received = [END]
    result = call(operation, params, stream=True)
    assert result == {"status": 200, "data": {"code": 1000, "reason": "", "sent": 2, "received": 3}}
    [asked] = world.connected
    assert (asked["url"], asked["relay"]) == (url, True)
    assert asked["headers"]["Authorization"] == "Bearer placeholder-1"
    assert asked["headers"].get("OpenAI-Beta") == ("realtime=v1" if operation == "beta.realtime.connect" else None)
    assert world.closed == ["w1"]


@pytest.mark.parametrize(
    ("operation", "field"), [("beta.realtime.connect", "model"), ("live.forks.connect", "session_id")]
)
def test_a_missing_parameter_is_named_and_nothing_is_opened(call, world, operation, field) -> None:
    result = call(operation, {})
    assert (result["status"], result["error"]["param"]) == (400, field)
    assert world.connected == []


def test_the_connections_are_those_that_are_declared(guest) -> None:
    declared = json.loads((ROOT / "catalyst" / "openai" / "operations.json").read_text())["websockets"]
    assert guest("realtime").SOCKETS.names == sorted(declared)
    assert len(declared) == 8


def test_a_base_url_over_http_connects_by_ws(call, world) -> None:
    world.received, world.settings = [END], {"base_url": "http://localhost:8000/v1"}
    assert call("responses.connect")["status"] == 200
    assert world.connected[0]["url"] == "ws://localhost:8000/v1/responses"


def test_azure_names_the_deployment_and_the_version(call, world) -> None:
    world.received = [END]
    azure = {"base_url": "https://n.openai.azure.com", "server": "azure", "api_version": "2026-01-01"}
    world.settings = {**azure, "deployments": {"gpt-realtime": "mine"}}
    assert call("realtime.connect", {"model": "gpt-realtime"})["status"] == 200
    [asked] = world.connected
    assert asked["url"].endswith("/openai/realtime?model=gpt-realtime&deployment=mine&api-version=2026-01-01")
    assert asked["headers"]["api-key"] == "placeholder-1"


def test_a_connection_that_ends_in_an_error_is_one(call, world) -> None:
    world.received = [{"closed": {"code": 1011, "reason": "internal"}}]
    result = call("responses.connect")
    assert (result["status"], result["error"]) == (
        502,
        {"type": "connection_closed", "message": "internal", "close_code": 1011},
    )


def test_the_error_of_a_refused_handshake_is_the_upstreams(call, world) -> None:
    body = json.dumps({"error": {"type": "invalid_request_error", "code": "invalid_api_key", "message": "bad key"}})
    world.connection = {"error": {"type": "http_error", "message": "x"}, "status": 401, "headers": {}, "body": body}
    result = call("realtime.connect", {"model": "m"})
    assert (result["status"], result["error"]["code"]) == (401, "invalid_api_key")
