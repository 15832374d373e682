from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket

from host.runtime.workspace import Workspace
from tests.server.conftest import PATIENCE_S, Server
from tests.server.test_fairness import key  # noqa: F401 - a fixture

AT = "/v1/realtime?model=gpt-realtime"
ASK = {"type": "response.create", "response": {"output_modalities": ["text"], "instructions": "Say hello"}}

Dial = Callable[..., ClientConnection]


@pytest.fixture
def dial(server: Server) -> Any:
    """`dial(path, key="host_sk_…", subprotocols=[…], to=server, **headers)` is a connection; it ends with the test."""
    with ExitStack() as stack:

        def connect(path: str = AT, *, key: str = "", to: Server | None = None, **more: Any) -> ClientConnection:
            url = (to or server).url.replace("http", "ws", 1) + path
            how = {name: more.pop(name) for name in ("subprotocols", "origin", "max_queue") if name in more}
            headers = {**({"authorization": f"Bearer {key}"} if key else {}), **more}
            line = connect_websocket(
                url, additional_headers=headers, proxy=None, max_size=None, compression=None, ping_interval=None, **how
            )
            return stack.enter_context(line)

        yield connect


def refused(dial: Dial, path: str = AT, **more: Any) -> tuple[int, dict[str, Any]]:
    """The status and the error of an answer that is no WebSocket."""
    answer = answered(dial, path, **more)
    return answer.status_code, json.loads(answer.body or b"{}")["error"]


def answered(dial: Dial, path: str = AT, **more: Any) -> Response:
    with pytest.raises(InvalidStatus) as caught:
        dial(path, **more)
    return caught.value.response


def heard(line: ClientConnection, last: str) -> list[dict[str, Any]]:
    """The events up to the first of the type `last`."""
    events = []
    while not events or events[-1]["type"] != last:
        events.append(json.loads(line.recv(timeout=PATIENCE_S)))
    return events


def said(line: ClientConnection, event: Any, last: str) -> list[dict[str, Any]]:
    line.send(json.dumps(event))
    return heard(line, last)


def last_run(workspace: Workspace) -> list[dict[str, Any]]:
    """The records of the last run."""
    records = list(workspace.audit_log.records())
    ident = next(one["run"] for one in reversed(records) if one["run"])
    return [one for one in records if one["run"] == ident]
