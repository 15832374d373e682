"""What keys may do and spend, through the whole server."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from host.core.names import Reference
from host.core.quantities import Quota
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.server import ServerSettings
from host.server.settings import Budget
from host.store.audit_log.records import Wanted, newest_records
from tests.server.conftest import OPENAI, Server, until
from tests.server.openai.test_gateway import CHAT, errors_of


class Holder:
    """Of a key: asks with it."""

    def __init__(self, server: Server, text: str) -> None:
        self._server = server
        self.headers = {"authorization": f"Bearer {text}"}

    def known(self) -> Holder:
        """Once the server knows the key, and that nobody needs to come without one."""
        self._server.up_to_date()
        return self

    def get(self, path: str) -> Any:
        return self._server.get(path, headers=self.headers)

    def chat(self, **more: Any) -> Any:
        return self._server.post("/v1/chat/completions", json={**CHAT, **more}, headers=self.headers)


@pytest.fixture
def holder(server: Server, workspace: Workspace) -> Callable[..., Holder]:
    """`holder(rate_limit=…, …)` has a new key."""

    def make(**more: Any) -> Holder:
        number = len(workspace.api_keys.all())
        _, text = workspace.api_keys.create(name=f"key {number}", **{"type": "secret", **more})
        return Holder(server, text).known()

    return make


def spent(workspace: Workspace) -> list[tuple[int, int, int, int]]:
    return [(one.requests, one.failed, one.input_tokens, one.output_tokens) for one in workspace.usage.totals(None)]


def test_a_key_opens_the_server_and_closes_it_to_all_others(holder: Any, server: Server) -> None:
    one = holder()
    assert one.chat().status_code == 200
    answer = server.post("/v1/chat/completions", json=CHAT, headers={"authorization": "Bearer any-key"})
    assert answer.status_code == 401
    assert errors_of(answer)["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_key_that_is_revoked_is_over_within_a_moment(holder: Any, workspace: Workspace) -> None:
    one = holder()
    assert one.chat().status_code == 200
    workspace.api_keys.revoke("key 0")
    until(lambda: one.chat().status_code == 401)


def test_a_key_that_is_rotated_works_until_its_time_is_over(holder: Any, workspace: Workspace, server: Server) -> None:
    one = holder()
    _, text = workspace.api_keys.rotate("key 0", overlap_s=3600.0)
    other = Holder(server, text)
    until(lambda: other.chat().status_code == 200)
    assert one.chat().status_code == 200
    workspace.api_keys.rotate("key 0")
    until(lambda: one.chat().status_code == 401)
    assert other.chat().status_code == 401


def test_a_key_is_for_its_models(holder: Any, fake: FakeOpenAI, workspace: Workspace) -> None:
    one = holder(models=("gpt-4o-mini", "text-*"))
    assert one.chat().status_code == 200
    before = len(fake.requests)
    answer = one.chat(model="gpt-4o")
    assert answer.status_code == 403
    assert "not for the model" in errors_of(answer)["message"]
    assert len(fake.requests) == before
    ids = [model["id"] for model in one.get("/v1/models").json()["data"]]
    assert ids
    assert all(ident == "gpt-4o-mini" or ident.startswith("text-") for ident in ids)
    assert one.get("/v1/models/gpt-4o").status_code == 403
    [record] = newest_records(workspace.database, 1, Wanted(kind="request.refused"))
    assert record.decision == "deny"


def test_a_key_for_some_models_cannot_leave_the_model_out(holder: Any, server: Server) -> None:
    one = holder(models=("gpt-4o-mini",))
    answer = server.post("/v1/responses", json={"input": "Hi"}, headers=one.headers)
    assert answer.status_code == 403


def test_a_key_is_for_its_catalysts(holder: Any) -> None:
    assert holder(catalysts=(OPENAI,)).chat().status_code == 200
    other = holder(catalysts=(Reference.parse("c:acme.other"),))
    assert other.chat().status_code == 403
    assert other.get("/v1/models").status_code == 404  # it has no catalyst that lists any


def test_a_key_that_may_not_run_runs_nothing(holder: Any) -> None:
    assert holder(scopes={"runs"}).chat().status_code == 403


class TestARate:
    def test_is_kept_and_says_when_to_try_again(self, holder: Any, fake: FakeOpenAI) -> None:
        one = holder(rate_limit=Quota.parse("3/1h"))
        assert [one.chat().status_code for _ in range(4)] == [200, 200, 200, 429]
        answer = one.chat()
        error = errors_of(answer)
        assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
        assert int(answer.headers["retry-after"]) >= 1

    def test_is_each_keys_own(self, holder: Any) -> None:
        one, other = (holder(rate_limit=Quota.parse("1/1h"), scopes={"run"}) for _ in range(2))
        assert [one.chat().status_code for _ in range(2)] == [200, 429]
        assert other.chat().status_code == 200

    def test_holds_for_many_at_once(self, holder: Any, workspace: Workspace) -> None:
        one = holder(rate_limit=Quota.parse("10/1h"))
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda _: one.chat().status_code, range(30)))
        assert sorted(statuses) == [200] * 10 + [429] * 20


class TestABudget:
    def test_of_tokens_ends_when_it_is_spent(self, holder: Any) -> None:
        one = holder(token_budget=Quota.parse("20/1d"))
        used = one.chat().json()["usage"]["total_tokens"]
        for _ in range(20 // used + 1):
            one.chat()
        answer = one.chat()
        assert answer.status_code == 429
        assert errors_of(answer)["type"] == "tokens"

    def test_of_tokens_is_not_gone_round_by_streaming(self, holder: Any, fake: FakeOpenAI) -> None:
        """The stream is asked to say what it costs; its caller did not ask, and does not see it."""
        one = holder(token_budget=Quota.parse("20/1d"))
        text = one.chat(stream=True).text
        assert '"usage":{' not in text.replace(" ", "")
        assert text.endswith("data: [DONE]\n\n")
        assert fake.requests[-1]["body"]["stream_options"] == {"include_usage": True}
        for _ in range(20):
            if one.chat(stream=True).status_code == 429:
                return
        raise AssertionError("twenty streams cost nothing")

    def test_of_tokens_shows_the_usage_to_whoever_asked_for_it(self, holder: Any) -> None:
        one = holder(token_budget=Quota.parse("1k/1d"))
        text = one.chat(stream=True, stream_options={"include_usage": True}).text
        assert '"usage":{' in text.replace(" ", "")

    def test_of_requests_is_counted_beside_the_rate(self, holder: Any) -> None:
        one = holder(request_budget=Quota.parse("2/1d"), rate_limit=Quota.parse("100/1m"))
        assert [one.chat().status_code for _ in range(3)] == [200, 200, 429]

    @pytest.fixture
    def bounded(self, serving: Callable[..., Server]) -> Server:
        return serving(ServerSettings(budgets={OPENAI: Budget(requests=Quota.parse("2/1d"))}))

    def test_of_a_catalyst_is_for_all_keys_together(self, bounded: Server, workspace: Workspace) -> None:
        statuses = []
        for name in ("a", "b", "c"):
            _, text = workspace.api_keys.create(name=name, type="secret")
            statuses.append(Holder(bounded, text).known().chat().status_code)
        assert statuses == [200, 200, 429]

    def test_refused_for_a_mistake_costs_a_request(self, holder: Any) -> None:
        """Reading it was work."""
        one = holder(request_budget=Quota.parse("2/1d"))
        assert one.chat(temperature="hot").status_code == 400
        assert one.chat().status_code == 200
        assert one.chat(temperature="hot").status_code == 429


def test_two_servers_that_share_a_state_count_together(serving: Callable[..., Server], workspace: Workspace) -> None:
    servers = [serving(), serving()]
    _, text = workspace.api_keys.create(name="ci", type="secret", request_budget=Quota.parse("3/1d"))
    holders = [Holder(server, text).known() for server in servers]
    assert [holders[n % 2].chat().status_code for n in range(4)] == [200, 200, 200, 429]


class TestUsage:
    def test_is_kept_by_key_and_catalyst(self, holder: Any, workspace: Workspace, fake: FakeOpenAI) -> None:
        one = holder()
        usage = one.chat().json()["usage"]
        fake.fail_next(500)
        one.chat()
        until(lambda: spent(workspace) == [(2, 1, usage["prompt_tokens"], usage["completion_tokens"])])
        [row] = workspace.usage.totals(None)
        assert (row.key, row.catalyst) == (workspace.api_keys.find("key 0").id, "c:local.openai:0.1.0")

    def test_is_not_lost_when_the_server_ends(self, serving: Callable[..., Server], workspace: Workspace) -> None:
        server = serving()
        server.post("/v1/chat/completions", json=CHAT)
        server.stop()
        assert sum(row[0] for row in spent(workspace)) == 1


def test_no_key_is_in_the_record_or_the_state(holder: Any, workspace: Workspace, state_dir: Any) -> None:
    one = holder()
    one.chat()
    one.chat(model=5)
    text = one.headers["authorization"].removeprefix("Bearer ")
    for file in state_dir.rglob("*"):
        if file.is_file():
            assert text.encode() not in file.read_bytes(), file.name
    assert text not in json.dumps([record.as_dict() for record in newest_records(workspace.database, 100)])
