"""Attacks on secrets of the operator that stand in for a catalyst's own at one of several upstreams."""

from __future__ import annotations

from typing import Any

import pytest

from host import Host, Secret, UpstreamRule
from tests.egress.conftest import Peer
from tests.probing import ORIGIN, TOKEN, asking, calls, origin_of, probe, response, serving

ELSEWHERE = "https://other.test"
BOTH = ["api.test", "other.test"]
OTHER = "oth-Test-9876543210zyxwvutsrqponmlk"  # shares no part with TOKEN that is long enough to be found
SHOWS_BOTH = response(f"{TOKEN} {OTHER}".encode())


def echoes(peer: Peer) -> None:
    while request := peer.request():
        peer.send(response(request))


def seen_of(catalyst: Any, *listed: Any) -> str:
    """What the guest has: it says it backwards, so that nothing of it is redacted when it leaves."""
    return str(catalyst.run(calls(*listed, backwards=True)).data[::-1])


@pytest.mark.parametrize(
    "elsewhere", [{"TOKEN": "OTHER"}, {"TOKEN": "OTHER", "OTHER": "TOKEN"}], ids=["one", "swapped"]
)
def test_attack_a_stand_in_that_is_also_the_catalysts_own_is_echoed_to_it(
    host: Host, elsewhere: dict[str, str]
) -> None:
    with serving(echoes) as server, serving(SHOWS_BOTH) as shows:
        one = probe(
            host,
            secrets={"TOKEN": Secret(TOKEN, domains=["api.test"]), "OTHER": Secret(OTHER, domains=["other.test"])},
            allowed_domains=BOTH,
            upstreams={
                ORIGIN: [origin_of(shows), UpstreamRule(origin="http://127.0.0.1:1", secrets=elsewhere)],
                ELSEWHERE: origin_of(server),
            },
        )
        sent = asking(ELSEWHERE, headers={"X-Api-Key": "$0"})
        seen = seen_of(one, ["secrets.get", "OTHER"], ["fetch.request", sent], ["fetch.request", asking()])
        assert OTHER.encode() in server.requests[0]
    assert (TOKEN in seen, OTHER in seen) == (False, False)
