"""Tokens that expire, in use: asked for over the one road out or from a program, once for all that wait."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from host import Host, Reference, Workspace, errors
from host.capabilities.secrets import CatalystSecrets
from host.core.names import SecretName
from host.egress import Egress
from host.errors import TokenUnavailable
from host.fakes import FakeOpenAI
from host.runtime import token_requests
from host.runtime.loader import Loader
from host.runtime.tokens import HeldToken, TokenKeeper
from host.secrets.value import SecretValue
from host.store.audit_log.records import Wanted, newest_records, run
from host.store.vault.tokens import CommandSource, OAuthSource, TokenSource
from tests.conftest import CACHE, late, with_enough_time
from tests.egress.conftest import Peer, Server, StopClock
from tests.store.conftest import (  # noqa: F401 - fixtures
    _nothing_from_outside,
    database_url,
    kind,
    migrated,
    postgres,
    state_dir,
    workspace,
)

NAME = SecretName("OPENAI_API_KEY")
USER = "c:local.openai"
OPENAI = Reference.parse(USER)
CLIENT_SECRET = "s3cret-of-the-client-0123456789"
NEAR = ("127.0.0.0/8",)
HOUR = 3_600


def issued(number: int) -> str:
    """The token with this number. No two have a part in common."""
    return hashlib.sha256(str(number).encode()).hexdigest()


class Endpoint:
    """A token endpoint: numbers its tokens, and answers what `replies` says instead, as long as there is something."""

    def __init__(self) -> None:
        self.forms: list[dict[str, list[str]]] = []
        self.replies: list[bytes] = []
        self.expires_in: Any = HOUR
        self.asked: Callable[[], None] = lambda: None  # called before each answer
        self.rotates = False
        self.gate = threading.Event()  # an answer waits for it
        self.gate.set()
        self._lock = threading.Lock()
        self._server = Server(self._behave, None, "127.0.0.1")
        self.url = self._server.url("/token")

    def _behave(self, peer: Peer) -> None:
        while asked := peer.request():
            with self._lock:
                form = parse_qs(asked.partition(b"\r\n\r\n")[2].decode())
                if self.rotates and form["refresh_token"] != [f"refresh-{len(self.forms)}-0123456789"]:
                    self.replies.append(reply({"error": "invalid_grant"}, 400))
                self.forms.append(form)
                self.asked()
                number = len(self.forms)
                answer = {"access_token": issued(number), "token_type": "bearer"}
                if self.rotates:
                    answer["refresh_token"] = f"refresh-{number}-0123456789"
                sent = self.replies.pop(0) if self.replies else reply({**answer, "expires_in": self.expires_in})
            self.gate.wait(late(10))
            peer.send(sent)

    def close(self) -> None:
        self.gate.set()
        self._server.close()


def reply(document: object, status: int = 200, media: str = "application/json", more: str = "") -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    one = Endpoint()
    yield one
    one.close()


@pytest.fixture
def now() -> list[float]:
    """The time, which a test moves."""
    return [time.time()]


@pytest.fixture
def keeper(workspace: Workspace, now: list[float]) -> Iterator[TokenKeeper]:  # noqa: F811 - the fixture
    egress = Egress()
    keeper = TokenKeeper(workspace, egress, lambda: now[0])
    yield keeper
    keeper.close()
    egress.close()


def oauth(endpoint: Endpoint, **fields: Any) -> OAuthSource:
    given = {"client_secret": SecretValue(CLIENT_SECRET), "private": NEAR, **fields}
    return OAuthSource(token_url=endpoint.url, client_id="host", **given)


def held(keeper: TokenKeeper, source: TokenSource, user: str = USER) -> HeldToken:
    return keeper.held(NAME, user, keeper.workspace.vault.set_source(NAME, source))


def beside_it(keeper: TokenKeeper, user: str = USER) -> HeldToken:
    """That token in another process, or for another user."""
    source = keeper.workspace.vault.source(NAME)
    assert source is not None
    return keeper.held(NAME, user, source)


def obtained(token: HeldToken, seconds: float = 30) -> str:
    return token.obtain(StopClock(late(seconds))).reveal()


def at_once(*tokens: HeldToken) -> list[str]:
    """What threads get that ask at the same time."""
    values: list[str] = []
    threads = [threading.Thread(target=lambda one=one: values.append(obtained(one))) for one in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return values


def settle(token: HeldToken) -> None:
    """Until no thread renews it any more."""
    ended = time.monotonic() + late(10)
    while token._renewal is not None and time.monotonic() < ended:
        time.sleep(0.005)


def test_a_token_is_asked_for_once_and_used_until_it_is_due(
    keeper: TokenKeeper, endpoint: Endpoint, now: list[float]
) -> None:
    token = held(keeper, oauth(endpoint, scope="a b"))
    first = obtained(token)
    assert [obtained(token) for _ in range(3)] == [first] * 3
    assert endpoint.forms == [{"grant_type": ["client_credentials"], "scope": ["a b"]}]
    now[0] += HOUR / 2
    assert obtained(token) == first


def test_a_due_token_is_used_while_the_next_one_is_had(
    keeper: TokenKeeper, endpoint: Endpoint, now: list[float]
) -> None:
    token = held(keeper, oauth(endpoint))
    first = obtained(token)
    endpoint.gate.clear()
    now[0] += HOUR - 200
    assert [obtained(token) for _ in range(3)] == [first] * 3  # nobody waits
    endpoint.gate.set()
    settle(token)
    second = obtained(token)
    assert second != first
    assert len(endpoint.forms) == 2
    assert [value.reveal() for value in token.known] == [second, first]


def test_where_the_next_one_cannot_be_had_the_old_one_is_used_while_it_is_valid(
    keeper: TokenKeeper, endpoint: Endpoint, now: list[float]
) -> None:
    token = held(keeper, oauth(endpoint))
    first = obtained(token)
    endpoint.replies += [reply({"error": "temporarily_unavailable"}, 503)] * 2
    now[0] += HOUR - 200
    assert obtained(token) == first
    settle(token)
    assert obtained(token) == first
    assert len(endpoint.forms) == 2  # and not at each use
    now[0] += 400
    token._failed = None  # the time in which nobody asks again is over
    with pytest.raises(TokenUnavailable, match="503: temporarily_unavailable"):
        obtained(token)


def test_it_is_on_record_before_it_is_asked_and_again_where_it_gives_no_token(
    keeper: TokenKeeper, endpoint: Endpoint
) -> None:
    database = keeper.workspace.database

    def told() -> list[tuple[str | None, str]]:
        found = newest_records(database, 9, Wanted(kind="secret.asked"))
        assert all((one.detail["secret"], one.detail["component"]) == (str(NAME), USER) for one in found)
        return [(one.decision, one.rule) for one in found]

    seen: list[object] = []
    endpoint.asked = lambda: seen.append(told())
    endpoint.replies.append(reply({"error": "invalid_client"}, 401))
    token = held(keeper, oauth(endpoint))
    with pytest.raises(TokenUnavailable):
        obtained(token)
    assert seen == [[("allow", "")]]
    _, (decision, rule) = told()
    assert (decision, "401: invalid_client" in rule, CLIENT_SECRET in rule) == ("deny", True, False)


def test_attack_nothing_is_asked_where_it_cannot_be_on_record(
    keeper: TokenKeeper, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(event: object) -> None:
        raise errors.AuditError("the disk is full")

    monkeypatch.setattr(keeper.workspace.audit_log, "record", broken)
    with pytest.raises(errors.AuditError):
        obtained(held(keeper, oauth(endpoint)))
    assert endpoint.forms == []


def test_after_a_failure_nobody_asks_again_for_a_while(keeper: TokenKeeper, endpoint: Endpoint) -> None:
    token = held(keeper, oauth(endpoint))
    endpoint.replies.append(reply({"error": "invalid_client"}, 401))
    for _ in range(5):
        with pytest.raises(TokenUnavailable, match="401: invalid_client") as caught:
            obtained(token)
        assert CLIENT_SECRET not in str(caught.value)
    assert len(endpoint.forms) == 1


def test_many_runs_that_wait_are_one_request(keeper: TokenKeeper, endpoint: Endpoint) -> None:
    token = held(keeper, oauth(endpoint))
    endpoint.gate.clear()
    threading.Timer(0.1, endpoint.gate.set).start()
    values = at_once(*[token] * 8)
    assert (len(values), len(set(values)), len(endpoint.forms)) == (8, 1, 1)


def test_a_renewal_that_ends_at_once_holds_up_nobody(
    keeper: TokenKeeper, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread is through before the one that started it goes on."""

    def done(work: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work())
        except errors.HostError as error:
            future.set_exception(error)
        return future

    monkeypatch.setattr(keeper.workers, "submit", done)
    token = held(keeper, oauth(endpoint))
    endpoint.replies.append(reply({}, 500))
    with pytest.raises(TokenUnavailable):
        obtained(token)
    token._failed = None
    assert obtained(token) == obtained(token)


def test_a_run_that_is_cancelled_waits_no_longer_and_ends_nothing_for_others(
    keeper: TokenKeeper, endpoint: Endpoint
) -> None:
    token = held(keeper, oauth(endpoint))
    endpoint.gate.clear()
    clock, said = StopClock(), list[str]()

    def wait() -> None:
        try:
            token.obtain(clock)
        except TokenUnavailable as error:
            said.append(error.message)

    waiting = threading.Thread(target=wait)
    waiting.start()
    clock.cancel()
    waiting.join(late(5))
    assert said == [f"no token for {NAME} in the time that the run had left"]
    endpoint.gate.set()
    assert obtained(token)


def test_each_component_has_a_token_of_its_own(keeper: TokenKeeper, endpoint: Endpoint) -> None:
    one = held(keeper, oauth(endpoint))
    other = beside_it(keeper, "c:local.other")
    assert obtained(one) != obtained(other)


def test_another_process_finds_the_token_in_the_vault(
    keeper: TokenKeeper, endpoint: Endpoint, now: list[float]
) -> None:
    token = held(keeper, oauth(endpoint))
    first = obtained(token)
    beside = TokenKeeper(keeper.workspace, keeper.egress, lambda: now[0])
    assert obtained(beside_it(beside)) == first
    assert len(endpoint.forms) == 1
    beside.close()


def test_two_processes_that_renew_at_once_use_a_refresh_token_once(
    keeper: TokenKeeper, endpoint: Endpoint, now: list[float]
) -> None:
    """The endpoint takes each refresh token once, and revokes all where one comes again, as RFC 6819, 5.2.2.3 has it."""
    endpoint.rotates = True
    token = held(keeper, oauth(endpoint, refresh_token=SecretValue("refresh-0-0123456789")))
    beside = TokenKeeper(keeper.workspace, keeper.egress, lambda: now[0])
    other = beside_it(beside)
    for _ in range(3):
        assert len(set(at_once(token, other))) == 1
        now[0] += HOUR
    assert [form["refresh_token"] for form in endpoint.forms] == [[f"refresh-{n}-0123456789"] for n in range(3)]
    kept = keeper.workspace.vault.source(NAME)
    assert isinstance(kept, OAuthSource)
    assert kept.refresh_token == SecretValue("refresh-3-0123456789")
    beside.close()


def test_a_lease_whose_holder_was_killed_ends_by_itself(
    keeper: TokenKeeper, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = held(keeper, oauth(endpoint))
    assert token._take() is not None
    assert token._take() is None
    monkeypatch.setattr("host.runtime.tokens._LEASE_S", 1)
    assert obtained(token, 60)


def test_a_source_that_was_set_anew_is_asked_and_the_old_token_is_not_used(
    keeper: TokenKeeper, endpoint: Endpoint
) -> None:
    first = obtained(held(keeper, oauth(endpoint)))
    assert obtained(held(keeper, oauth(endpoint, scope="other"))) != first


def test_attack_the_token_of_an_account_that_the_operator_replaced_is_not_used_on(
    keeper: TokenKeeper, endpoint: Endpoint
) -> None:
    """It differs in its refresh token alone; or not at all, where the operator wants to be rid of a token."""
    first = obtained(held(keeper, oauth(endpoint, refresh_token=SecretValue("refresh-of-A-0123456789"))))
    second = obtained(held(keeper, oauth(endpoint, refresh_token=SecretValue("refresh-of-B-0123456789"))))
    third = obtained(held(keeper, oauth(endpoint, refresh_token=SecretValue("refresh-of-B-0123456789"))))
    assert len({first, second, third}) == 3
    assert [form["refresh_token"][0][11] for form in endpoint.forms] == ["A", "B", "B"]


def test_a_token_that_could_not_be_kept_is_not_used_and_not_lost(
    keeper: TokenKeeper, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not on record does not happen; and a refresh token that was used once would be gone."""
    token = held(keeper, oauth(endpoint))

    def broken(*given: object) -> None:
        raise errors.StateError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(type(keeper.workspace.vault), "keep_token", broken)
        with pytest.raises(errors.StateError, match="the disk is full"):
            obtained(token)
    token._failed = None
    assert obtained(token) == issued(1)
    assert len(endpoint.forms) == 1


def test_a_token_that_could_not_be_kept_until_its_end_is_not_used_and_its_refresh_token_is(
    keeper: TokenKeeper, endpoint: Endpoint, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.rotates = True
    token = held(keeper, oauth(endpoint, refresh_token=SecretValue("refresh-0-0123456789")))

    def broken(*given: object) -> None:
        raise errors.StateError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(type(keeper.workspace.vault), "keep_token", broken)
        with pytest.raises(errors.StateError, match="the disk is full"):
            obtained(token)
    token._failed = None
    now[0] += HOUR
    assert obtained(token) == issued(2)
    assert [form["refresh_token"] for form in endpoint.forms] == [[f"refresh-{n}-0123456789"] for n in range(2)]


ELSEWHERE = "Location: http://127.0.0.1:1/token\r\n"


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        pytest.param(reply(b"", 302, more=ELSEWHERE), "answered 302, and a redirect is not followed", id="redirects"),
        pytest.param(reply(b"x" * 10_000_000), "larger than", id="answers 10 MB"),
        pytest.param(reply(b"<html>" + CLIENT_SECRET.encode(), media="text/html"), "a page", id="answers with a page"),
        pytest.param(reply({"access_token": "t", "expires_in": 0}), "above 0", id="expires at once"),
        pytest.param(reply({"access_token": "t", "expires_in": -1}), "above 0", id="has expired"),
        pytest.param(reply({"access_token": "t", "expires_in": "x"}), "above 0", id="expires some time"),
        pytest.param(reply({"error": CLIENT_SECRET}, 400), "answered 400$", id="echoes the secret"),
        pytest.param(b"", "can't be reached", id="has gone"),
    ],
)
def test_attack_a_token_endpoint_that(keeper: TokenKeeper, endpoint: Endpoint, sent: bytes, says: str) -> None:
    endpoint.replies.append(sent)
    if not sent:
        endpoint._server.close()
    with pytest.raises(TokenUnavailable, match=says) as caught:
        obtained(held(keeper, oauth(endpoint)))
    assert CLIENT_SECRET not in str(caught.value)
    assert caught.value.code == "token_unavailable"


def test_a_token_endpoint_at_a_private_address_is_asked_only_where_it_may_be(
    keeper: TokenKeeper, endpoint: Endpoint
) -> None:
    source = oauth(endpoint, private=("10.0.0.0/8",))
    with pytest.raises(TokenUnavailable, match="no address that --allow-private names") as caught:
        obtained(held(keeper, source))
    assert "--allow-private" in (caught.value.hint or "")
    assert endpoint.forms == []


def test_attack_a_name_that_leads_a_plain_endpoint_to_a_public_address(
    keeper: TokenKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's secret would go over a public network as it is."""
    egress = Egress(resolver=lambda name: (ip_address("93.184.216.34"),))
    monkeypatch.setattr(keeper, "egress", egress)
    source = OAuthSource(
        token_url="http://login.near.test/token",
        client_id="host",
        client_secret=SecretValue(CLIENT_SECRET),
        private=("10.0.0.0/8",),
    )
    with pytest.raises(TokenUnavailable, match="over plain http, and at no address that --allow-private names"):
        obtained(held(keeper, source))
    egress.close()


# programs


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], CommandSource]:
    """program(script, *arguments): a source that runs a shell script."""

    def made(script: str, *arguments: str, **more: Any) -> CommandSource:
        file = tmp_path / "print-token"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(stat.S_IRWXU)
        return CommandSource(argv=(str(file), *arguments), **more)

    return made


def test_a_program_prints_a_token(
    keeper: TokenKeeper, program: Callable[..., CommandSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_PROGRAM", "cloud")
    monkeypatch.setenv("HOST_MASTER_KEY_OF_A_TEST", "never")
    script = 'printf "%s" "$1-$OF_THE_PROGRAM-$HOST_MASTER_KEY_OF_A_TEST-0123456789"'
    assert obtained(held(keeper, program(script, "a b", environment=("OF_THE_PROGRAM",)))) == "a b-cloud--0123456789"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        pytest.param("exit 1", "it ended with the status 1", id="exits 1"),
        pytest.param("echo $1 >&2; exit 3", "it ended with the status 3", id="prints a secret to stderr"),
        pytest.param("echo $1 >&2", "no token in it", id="prints to stderr alone"),
        pytest.param("kill -9 $$", "it was killed", id="is killed"),
        pytest.param("yes $1", "printed more than", id="prints without end"),
        pytest.param("echo '{\"token\": 5}'", "no token in it", id="prints no token"),
    ],
)
def test_attack_a_program_that(
    keeper: TokenKeeper, program: Callable[..., CommandSource], script: str, says: str
) -> None:
    with pytest.raises(TokenUnavailable, match=says) as caught:
        obtained(held(keeper, program(script, CLIENT_SECRET)))
    assert "print-token" in caught.value.message
    assert CLIENT_SECRET not in str(caught.value)


def test_attack_a_program_that_never_ends_is_ended_with_all_that_it_started(
    program: Callable[..., CommandSource], tmp_path: Path
) -> None:
    source = program(f"sleep 600 & echo $! > {tmp_path}/child; wait")

    def attempt(seconds: float) -> int:
        with Egress_() as egress, pytest.raises(TokenUnavailable, match=f"did not end within {seconds:g} s"):
            token_requests.ask(source, NAME, egress, seconds=seconds)
        return int((tmp_path / "child").read_text())

    child = with_enough_time(attempt, 1.0)
    ended = time.monotonic() + late(5)
    while alive(child) and time.monotonic() < ended:
        time.sleep(0.01)
    assert not alive(child)


def test_attack_a_program_that_ends_and_leaves_something_that_holds_its_output(
    program: Callable[[str], CommandSource], tmp_path: Path
) -> None:
    source = program(f"echo t0ken-0123456789; sleep 600 & echo $! > {tmp_path}/child")

    def attempt(seconds: float) -> int:
        with Egress_() as egress, pytest.raises(TokenUnavailable, match=f"did not end within {seconds:g} s"):
            token_requests.ask(source, NAME, egress, seconds=seconds)
        return int((tmp_path / "child").read_text())

    child = with_enough_time(attempt, 1.0)
    ended = time.monotonic() + late(5)
    while alive(child) and time.monotonic() < ended:
        time.sleep(0.01)
    assert not alive(child)


def test_what_a_program_leaves_behind_ends_with_it(program: Callable[[str], CommandSource], tmp_path: Path) -> None:
    source = program(f"sleep 600 >/dev/null & echo $! > {tmp_path}/child; echo t0ken-0123456789")
    with Egress_() as egress:
        assert token_requests.ask(source, NAME, egress).value.reveal() == "t0ken-0123456789"
    child = int((tmp_path / "child").read_text())
    ended = time.monotonic() + late(5)
    while alive(child) and time.monotonic() < ended:
        time.sleep(0.01)
    assert not alive(child)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_attack_nobody_waits_for_a_program_that_cannot_be_killed(
    program: Callable[[str], CommandSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that runs as another user (set-user-ID)."""

    def not_permitted(group: int, number: int) -> None:
        raise PermissionError

    source = program(f"echo $$ > {tmp_path}/own; exec sleep 600")
    with monkeypatch.context() as patched, Egress_() as egress:
        patched.setattr(token_requests.os, "killpg", not_permitted)
        patched.setattr(token_requests, "_END_S", 0.05)

        def attempt(seconds: float) -> int:
            with pytest.raises(TokenUnavailable, match="did not end within"):
                token_requests.ask(source, NAME, egress, seconds=seconds)
            return int((tmp_path / "own").read_text())

        own = with_enough_time(attempt, 0.5)
    assert alive(own)  # and so nobody waited for it
    os.kill(own, signal.SIGKILL)


def test_a_program_that_has_gone_is_an_error_that_names_it(keeper: TokenKeeper) -> None:
    with pytest.raises(TokenUnavailable, match="gone cannot be run: no such file"):
        obtained(held(keeper, CommandSource(argv=("/nowhere/gone", CLIENT_SECRET))))


class Egress_:  # noqa: N801 - an Egress in a `with`
    def __enter__(self) -> Egress:
        self._egress = Egress()
        return self._egress

    def __exit__(self, *ended: object) -> None:
        self._egress.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


# in a catalyst


def test_answers_are_searched_for_the_last_token_and_the_one_before_it(
    keeper: TokenKeeper, endpoint: Endpoint, now: list[float]
) -> None:
    token = held(keeper, oauth(endpoint))
    secrets = CatalystSecrets({}, {NAME: token}, {NAME})
    values = []
    for _ in range(3):
        values.append(obtained(token))
        now[0] += HOUR
    redactor = secrets.redactor({str(NAME): "PLACEHOLDER"})
    shown = [redactor.text(f"the token {value} was used") for value in values]
    assert [value in text for value, text in zip(values, shown, strict=True)] == [True, False, False]
    assert shown[2] == "the token PLACEHOLDER was used"


@pytest.fixture
def kept(
    workspace: Workspace,  # noqa: F811 - the fixture
    openai_wasm: bytes,
    fake: FakeOpenAI,
) -> Iterator[Host]:
    """A host with the OpenAI catalyst, whose key is granted and comes from a source."""
    with Host(workspace=workspace, loader=Loader(CACHE / "host", CACHE / "state")) as one:
        workspace.install(openai_wasm, one._loader, bundles=(), source="/openai.wasm")
        workspace.policies.update(
            OPENAI, {"allowed_domains": ["api.openai.com"], "upstreams": {"https://api.openai.com": fake.url}}
        )
        workspace.grants.grant(OPENAI, NAME)
        yield one


def test_a_catalyst_uses_a_token_as_any_secret(
    kept: Host,
    workspace: Workspace,  # noqa: F811 - the fixture
    endpoint: Endpoint,
    fake: FakeOpenAI,
) -> None:
    workspace.vault.set_source(NAME, oauth(endpoint))
    catalyst = kept.load(OPENAI)
    fake.script([{"echo_authorization": True, "status": 400}])
    echoed = catalyst.run({"operation": "models.list"})
    assert not echoed.ok
    assert catalyst.run({"operation": "models.list"}).ok
    token = issued(1)
    assert [one["headers"]["authorization"] for one in fake.requests] == [f"Bearer {token}"] * 2
    assert token not in str(echoed.error)
    _, told = run(workspace.database, echoed.execution.id)
    assert token not in str(told)
    assert len(endpoint.forms) == 1


def test_without_a_token_the_run_ends_in_an_error_that_says_so_and_nothing_is_sent(
    kept: Host,
    workspace: Workspace,  # noqa: F811 - the fixture
    endpoint: Endpoint,
    fake: FakeOpenAI,
) -> None:
    workspace.vault.set_source(NAME, oauth(endpoint))
    endpoint.replies.append(reply({"error": "invalid_client"}, 401))
    with pytest.raises(TokenUnavailable, match="401: invalid_client") as caught:
        kept.load(OPENAI).run({"operation": "models.list"})
    assert caught.value.execution is not None
    assert fake.requests == []
    _, told = run(workspace.database, caught.value.execution.id)
    assert [(one.kind, one.decision) for one in told if one.kind == "secret.use"] == [("secret.use", "deny")]
    assert CLIENT_SECRET not in str(told)
