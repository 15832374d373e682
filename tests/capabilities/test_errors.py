"""Errors as a guest sees them."""

from __future__ import annotations

import json

from host.capabilities.message import GuestError
from host.policy.permissions import Deny


def test_a_guest_is_told_what_would_allow_it_and_the_record_has_the_whole_line() -> None:
    deny = Deny("domain_blocked", "not granted", "add --x a, or run: host y intranet.test", guest_remedy="add --x a")
    error = GuestError.denied(deny, "GET https://a.test/")
    assert json.loads(error.as_json())["error"] == {
        "type": "domain_blocked",
        "message": "GET https://a.test/: not granted (add --x a)",
    }
    assert error.refusal is not None
    assert error.refusal.remedy == "add --x a, or run: host y intranet.test"
