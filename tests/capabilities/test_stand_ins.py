"""Attacks on secrets of the operator that stand in for a catalyst's own at one of several upstreams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from host import Breaker, Host, Policy, Requested, Secret, UpstreamRule
from host.capabilities.exchange import Exchange, LiveUpstream
from host.capabilities.message import GuestError
from host.capabilities.upstream import NotAsked
from host.core.limits import CEILING
from host.core.names import SecretName
from host.egress import AddressPolicy, Egress
from host.errors import PolicyError, TokenUnavailable
from host.policy.permissions import compute_grant
from host.run import Run
from host.secrets.redaction import Redactor
from host.secrets.value import Placeholders, SecretValue, new_placeholder
from tests.egress.conftest import Peer, Server
from tests.probing import ORIGIN, TOKEN, Kept, answers, asking, calls, origin_of, probe, response, serving
from tests.sockets import echo, opening

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


LENT = {"TOKEN": "SPARE"}


@pytest.mark.parametrize(
    "elsewhere", [[], [{"origin": "http://127.0.0.1:1"}]], ids=["by itself", "as one of several upstreams"]
)
def test_attack_an_upstream_that_is_asked_for_another_origin_shows_what_stood_in_there(
    host: Host, elsewhere: list[Any]
) -> None:
    """An upstream may show an earlier request, of another run, to whoever can reach it by another name."""
    with serving(SHOWS_BOTH) as server:
        at = origin_of(server)
        one = probe(
            host,
            secrets={"TOKEN": Secret(TOKEN, domains=["api.test"]), "SPARE": OTHER},
            allowed_domains=[*BOTH, at],
            upstreams={
                ORIGIN: ["http://127.0.0.1:1", UpstreamRule(origin=at, secrets=LENT)],
                ELSEWHERE: [at, *(UpstreamRule(**rule) for rule in elsewhere)],
            },
        )
        seen = seen_of(one, ["fetch.request", asking(ELSEWHERE)], ["fetch.request", asking(f"{at}/x")])
    assert (TOKEN in seen, OTHER in seen) == (False, False)
    assert seen.count("'status': 200") == 2


def test_attack_a_secret_that_the_catalyst_sees_is_sent_by_it_where_another_should_stand(host: Host) -> None:
    rules = ["http://127.0.0.1:1", UpstreamRule(origin="https://llm.test", secrets=LENT)]
    secrets = {"TOKEN": Secret(TOKEN, domains=["api.test"], reveal=True), "SPARE": OTHER}
    with pytest.raises(PolicyError, match="TOKEN is revealed to the catalyst") as caught:
        probe(host, secrets=secrets, upstreams={ORIGIN: rules})
    assert caught.value.field == "upstreams"


class Caller:
    """A run that asks for ORIGIN, with a token in place of TOKEN at each upstream that is in `without`, which has none
    to give."""

    def __init__(self, upstreams: list[Server], without: list[Server]) -> None:
        name, listed = SecretName.parse("TOKEN"), []
        for one in upstreams:
            at = origin_of(one)
            listed.append(UpstreamRule(origin=at, secrets={"TOKEN": "LENT"}) if one in without else at)
        policy = Policy(allowed_domains=["api.test"], upstreams={ORIGIN: listed}, breaker=Breaker(failures=1))
        self._grant = compute_grant(
            reference="c:local.probe",
            interfaces=[],
            requested=Requested(),
            policy=policy,
            secrets={name: None},
            ceiling=CEILING,
        )
        client = Egress().client(AddressPolicy(mapped=frozenset(map(origin_of, upstreams))))
        self._exchange = Exchange(self._grant, LiveUpstream(self._grant, client, {name: SecretValue(TOKEN)}, no_token))

    def post(self) -> tuple[Run, str]:
        """One request, and its status, or the message of what came in its place."""
        placeholders = Placeholders()
        placeholders.bind("TOKEN", placeholder := new_placeholder())
        run = Run(limits=self._grant.limits, sink=Kept(), redactor=Redactor({}), placeholders=placeholders)
        message = asking(method="POST", body="{}", headers={"Authorization": f"Bearer {placeholder}"})
        try:
            answer = self._exchange.begin(run, json.dumps(message))[1]
        except GuestError as error:
            return run, error.message
        answer.close()
        return run, str(answer.status)


def no_token(run: Run, name: SecretName) -> None:
    raise TokenUnavailable("the token endpoint is down")


@pytest.mark.parametrize("status", ["400 Bad Request", "503 Service Unavailable"])
def test_attack_a_token_that_cannot_be_had_hides_what_another_upstream_said(status: str) -> None:
    with serving(response()) as first, serving(response(b"{}", status)) as second:
        run, told = Caller([first, second], without=[first]).post()
        assert (len(first.requests), len(second.requests)) == (0, 1)
    assert (told, run.behind) == (status[:3], None)
    [moved] = [one.rule for one in run.events if one.kind == "http.moved"]
    assert moved == "api.test:443 is not asked: its secret cannot be had"
    opened = [one.detail["origin"] for one in run.events if one.kind == "breaker.opened"]
    assert opened == ([origin_of(second)] if status.startswith("5") else []), "the first one has not failed"


def test_attack_nor_what_an_upstream_before_it_said() -> None:
    with serving(response(b"{}", "429 Too Many Requests")) as first, serving(response()) as second:
        run, told = Caller([first, second], without=[second]).post()
    assert (told, run.behind, run.once_only) == ("429", None, False)


def test_where_no_upstream_can_be_asked_the_caller_is_told_why() -> None:
    with serving(response()) as first, serving(response()) as second:
        run, told = Caller([first, second], without=[first, second]).post()
        assert (len(first.requests), len(second.requests)) == (0, 0)
    assert told == "api.test:443 is not asked: its secret cannot be had"
    assert isinstance(run.behind, TokenUnavailable)
    assert run.unserved == "network"


def test_attack_a_message_whose_token_cannot_be_had_ends_a_run_as_a_fault_of_the_host(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def filled(*given: Any) -> None:
        raise NotAsked("llm.test:443", TokenUnavailable("the token endpoint is down"))

    monkeypatch.setattr("host.capabilities.websocket.LiveSockets.filled", filled)
    with serving(opening(echo)) as server:
        connect = ["websocket.connect", {"url": "wss://api.test/x"}]
        _, told = answers(probe(host, origin_of(server)), connect, ["websocket.send", "$0.handle", {"text": "a"}])
    assert told["error"] == {"type": "http_error", "message": "api.test:443 is not asked: its secret cannot be had"}
