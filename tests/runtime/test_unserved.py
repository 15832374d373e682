"""Whose doing it was that a run failed: the upstream's, or anybody else's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from host.errors import (
    Busy,
    Cancelled,
    DeadlineExceeded,
    GuestException,
    HostError,
    MemoryExceeded,
    Refusal,
    UpstreamTimeout,
)
from host.runtime.events import unserved


def stream(cause: str | None = "5xx", refusals: Any = ()) -> Any:
    return SimpleNamespace(_run=SimpleNamespace(unserved=cause, once_only=True, refusals=refusals))


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        pytest.param(UpstreamTimeout("late"), "5xx", id="the upstream was too late"),
        pytest.param(GuestException("no", exception="E", traceback=""), "5xx", id="the guest could not use the answer"),
        pytest.param(HostError("its circuit is open"), "5xx", id="the upstream was not asked"),
        pytest.param(Cancelled("left"), None, id="the caller left"),
        pytest.param(DeadlineExceeded("late"), None, id="the guest was too late"),
        pytest.param(MemoryExceeded("full"), None, id="the guest took too much"),
        pytest.param(Busy("full"), None, id="this host has no room"),
    ],
)
def test_whose_doing(error: HostError, cause: str | None) -> None:
    assert unserved(stream(), error) == (cause, True)
    assert unserved(stream(None), error)[0] is None
    assert unserved(stream(refusals=[Refusal("domain_blocked", "x", "not granted")]), error)[0] is None
