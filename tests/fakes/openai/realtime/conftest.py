from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket

from host.fakes import FakeOpenAI


@pytest.fixture
def dial(fake: FakeOpenAI) -> Any:
    """`dial("/realtime?model=m", **headers)` is a connection to the fake; it ends with the test."""
    url = fake.url.replace("http", "ws", 1) + "/v1"
    with ExitStack() as stack:

        def connect(path: str, *, subprotocols: Any = None, key: str = "sk-test", **headers: str) -> ClientConnection:
            given = {**({"authorization": f"Bearer {key}"} if key else {}), **headers}
            how: dict[str, Any] = {"proxy": None, "max_size": None, "compression": None, "subprotocols": subprotocols}
            return stack.enter_context(connect_websocket(url + path, additional_headers=given, **how))

        yield connect


Dial = Callable[..., ClientConnection]
