"""Batches that the server runs itself, as the official SDK asks for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

from host.core.names import Reference
from host.core.quantities import Quota
from host.fakes import FakeOpenAI
from host.fakes.openai.faults import Fault
from host.runtime.workspace import Workspace
from host.server import Application, ServerSettings
from host.service.batches import hosted, hosted_work
from host.service.batches.hosted import BATCH, FILE
from host.service.batches.hosted_work import BatchSettings
from host.store.audit_log.records import Wanted, newest_records
from host.store.sql import update
from host.store.tables import batches
from tests.server.conftest import Server, until

SETTINGS = ServerSettings(batches=BatchSettings(concurrency=4))
ENDED = {"completed", "failed", "expired", "cancelled"}


def chat(number: int, **more: Any) -> dict[str, Any]:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"number {number}"}], **more}
    return {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


class Caller:
    """The holder of a key, by the official SDK."""

    def __init__(self, server: Server, workspace: Workspace, name: str, **more: Any) -> None:
        self.key, text = workspace.api_keys.create(name=name, type="secret", **more)
        self.sdk = openai.OpenAI(base_url=f"{server.url}/v1", api_key=text, max_retries=0)
        server.up_to_date()

    def upload(self, lines: Iterable[Any]) -> Any:
        text = "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines)
        return self.sdk.files.create(file=("in.jsonl", text.encode()), purpose="batch")

    def begin(self, lines: Iterable[Any], **more: Any) -> Any:
        file = self.upload(lines)
        given = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **more}
        return self.sdk.batches.create(input_file_id=file.id, **given)

    def ended(self, batch: Any) -> Any:
        until(lambda: self.sdk.batches.retrieve(batch.id).status in ENDED)
        return self.sdk.batches.retrieve(batch.id)

    def lines(self, file: str | None) -> list[dict[str, Any]]:
        return [json.loads(one) for one in self.sdk.files.content(file).text.splitlines()] if file else []


@pytest.fixture
def server(serving: Callable[..., Server]) -> Server:
    return serving(SETTINGS)


@pytest.fixture
def caller(server: Server, workspace: Workspace) -> Caller:
    return Caller(server, workspace, "one")


@pytest.fixture
def other(server: Server, workspace: Workspace) -> Caller:
    return Caller(server, workspace, "other")


class TestAnswered:
    def test_by_the_official_sdk(self, caller: Caller) -> None:
        made = caller.begin([chat(1), chat(2, n="many"), chat(3)], metadata={"job": "nightly"})
        assert made.id.startswith(BATCH)
        assert (made.object, made.status, made.endpoint) == ("batch", "validating", "/v1/chat/completions")
        batch = caller.ended(made)
        assert batch.status == "completed", batch
        counts = batch.request_counts
        assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
        assert batch.metadata == {"job": "nightly"}
        assert batch.usage.total_tokens > 0
        assert batch.created_at <= batch.in_progress_at <= batch.completed_at <= batch.expires_at
        results = {one["custom_id"]: one for one in caller.lines(batch.output_file_id)}
        assert results.keys() == {"line-1", "line-3"}
        assert results["line-1"]["response"]["body"]["object"] == "chat.completion"
        [error] = caller.lines(batch.error_file_id)
        assert error["custom_id"] == "line-2"
        file = caller.sdk.files.retrieve(batch.output_file_id)
        assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")
        assert file.bytes == len(caller.sdk.files.content(file.id).content)
        assert [one.id for one in caller.sdk.batches.list(limit=1)] == [batch.id]

    def test_files_are_listed_by_purpose_and_deleted(self, caller: Caller) -> None:
        first, second = caller.upload([chat(1)]), caller.upload([chat(2)])
        assert first.id.startswith(FILE)
        assert caller.sdk.files.content(first.id).text == json.dumps(chat(1)) + "\n"
        listed = caller.sdk.files.list(purpose="batch")
        assert [one.id for one in listed] == [second.id, first.id]
        assert caller.sdk.files.delete(first.id).deleted
        with pytest.raises(openai.NotFoundError):
            caller.sdk.files.retrieve(first.id)

    def test_other_files_go_to_the_upstream_as_before(self, caller: Caller, fake: FakeOpenAI) -> None:
        file = caller.sdk.files.create(file=("a.txt", b"text"), purpose="assistants")
        assert not file.id.startswith(FILE)
        assert caller.sdk.files.retrieve(file.id).filename == "a.txt"
        assert len([one for one in fake.requests if "/files" in one["path"]]) == 2

    @pytest.mark.parametrize(
        ("lines", "code", "number"),
        [
            pytest.param([chat(1), "{"], "invalid_input", 2, id="no JSON"),
            pytest.param([chat(1), {**chat(2), "url": "/v1/embeddings"}], "invalid_input", 2, id="another endpoint"),
            pytest.param([chat(1), chat(1)], "duplicate_custom_id", None, id="an id twice"),
            pytest.param([chat(1), {"operation": "models.list"}], "invalid_input", 2, id="an operation"),
            pytest.param([""], "empty_file", None, id="nothing"),
        ],
    )
    def test_a_file_with_a_mistake_fails_and_sends_nothing(
        self, caller: Caller, fake: FakeOpenAI, lines: list[Any], code: str, number: int | None
    ) -> None:
        batch = caller.ended(caller.begin(lines))
        assert batch.status == "failed"
        assert [(one.code, one.line) for one in batch.errors.data] == [(code, number)]
        assert fake.requests == []

    @pytest.mark.parametrize(
        "wrong", [{"endpoint": "chat"}, {"completion_window": "7d"}, {"metadata": {"a": 1}}], ids=str
    )
    def test_a_batch_that_is_asked_for_wrongly_is_refused(self, caller: Caller, wrong: Any) -> None:
        with pytest.raises(openai.BadRequestError):
            caller.begin([chat(1)], **wrong)

    def test_a_cancelled_batch_keeps_what_is_finished(self, caller: Caller, fake: FakeOpenAI) -> None:
        fake.script([Fault(delay_s=0.05, times=8), Fault(delay_s=120.0, times=None)])
        batch = caller.begin(chat(number) for number in range(40))
        until(lambda: caller.sdk.batches.retrieve(batch.id).request_counts.completed >= 8)
        assert caller.sdk.batches.cancel(batch.id).status == "cancelling"
        batch = caller.ended(batch)
        assert batch.status == "cancelled"
        assert len(caller.lines(batch.output_file_id)) == batch.request_counts.completed >= 8
        with pytest.raises(openai.BadRequestError):
            caller.sdk.batches.cancel(batch.id)


class TestKeys:
    def test_each_key_sees_its_own(self, caller: Caller, other: Caller) -> None:
        batch = caller.ended(caller.begin([chat(1)]))
        for ask in (
            lambda: other.sdk.batches.retrieve(batch.id),
            lambda: other.sdk.batches.cancel(batch.id),
            lambda: other.sdk.files.retrieve(batch.input_file_id),
            lambda: other.sdk.files.content(batch.output_file_id),
            lambda: other.sdk.files.delete(batch.output_file_id),
            lambda: other.sdk.batches.create(
                input_file_id=batch.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
            ),
        ):
            with pytest.raises(openai.NotFoundError):
                ask()
        assert list(other.sdk.batches.list()) == []
        assert list(other.sdk.files.list(purpose="batch")) == []

    def test_the_limits_of_the_key_hold_and_its_lines_wait_for_them(
        self,
        server: Server,
        other: Caller,
        workspace: Workspace,
        fake: FakeOpenAI,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(hosted, "_REST_S", 0.5)
        one = Caller(server, workspace, "slow", rate_limit=Quota.parse("12/1d"))
        batch = one.begin(chat(number) for number in range(20))  # two requests
        until(lambda: len(fake.requests) >= 10)
        assert other.ended(other.begin(chat(number) for number in range(20, 40))).status == "completed"
        assert len(fake.requests) == 10 + 20, "the first key has no more"
        assert not workspace.batches.get(batch.id).ended  # type: ignore[union-attr]
        workspace.api_keys.update("slow", rate_limit=Quota.parse("100/1d"))
        server.up_to_date()
        assert one.ended(batch).request_counts.completed == 20
        assert len(fake.requests) == 20 + 20

    def test_many_batches_of_one_key_keep_no_other_from_running(
        self, caller: Caller, other: Caller, fake: FakeOpenAI
    ) -> None:
        fake.script([Fault(delay_s=120.0, times=4)])
        for number in range(6):
            caller.begin([chat(number)])
        until(lambda: len(fake.requests) == 4)
        assert other.ended(other.begin([chat(9)])).status == "completed"

    def test_what_the_key_may_not_ask_fails_line_by_line(self, server: Server, workspace: Workspace) -> None:
        one = Caller(server, workspace, "narrow", models=["gpt-4o-mini"])
        batch = one.ended(one.begin([chat(1), chat(2, model="gpt-5")]))
        assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)
        [error] = one.lines(batch.error_file_id)
        assert (error["custom_id"], error["error"]["code"]) == ("line-2", "forbidden")
        [record] = newest_records(workspace.database, 9, Wanted(kind="request.refused"))
        assert record.detail == {"key": one.key.id, "request": error["id"], "route": "POST /v1/chat/completions"}
        assert "gpt-5" in record.rule

    def test_a_line_that_an_upstream_may_have_done_is_not_repeated_by_the_policy(
        self, caller: Caller, server: Server, workspace: Workspace, fake: FakeOpenAI
    ) -> None:
        """The host's own idempotency key is unknown to most of the upstreams that these batches are for."""
        workspace.policies.set(Reference.parse("c:local.openai"), "retries", 3)
        server.up_to_date()
        fake.script([Fault(status=500)])
        batch = caller.ended(caller.begin([chat(1)]))
        assert (batch.request_counts.failed, len(fake.requests)) == (1, 1)

    def test_a_key_for_other_operations_makes_no_batch(self, server: Server, workspace: Workspace) -> None:
        one = Caller(server, workspace, "chats", operations=["chat.*"])
        with pytest.raises(openai.PermissionDeniedError):
            one.upload([chat(1)])

    def test_a_batch_ends_with_its_key(
        self, caller: Caller, server: Server, workspace: Workspace, fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hosted_work, "LEASE_S", 10.0)  # it looks ten times within it
        fake.script([Fault(delay_s=120.0, times=None)])
        batch = caller.begin([chat(1)])
        until(lambda: len(fake.requests) == 1)
        workspace.api_keys.revoke("one")
        until(lambda: workspace.batches.get(batch.id).ended)  # type: ignore[union-attr]
        facts = workspace.batches.get(batch.id).facts  # type: ignore[union-attr]
        assert facts["status"] == "failed"
        assert "revoked" in str(facts["errors"])

    def test_files_of_one_key_have_a_size(self, serving: Callable[..., Server], workspace: Workspace) -> None:
        server = serving(ServerSettings(batches=BatchSettings(max_size=1_000)))
        one = Caller(server, workspace, "full")
        one.upload([chat(1)])
        with pytest.raises(openai.RateLimitError, match="as many bytes of batches"):
            one.upload(chat(number) for number in range(10))


class TestEnds:
    def test_a_server_that_ends_leaves_the_rest_to_the_next_one(
        self, workspace: Workspace, state_dir: Path, fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hosted_work, "LEASE_S", 10.0)
        fake.script([Fault(delay_s=0.02, times=20), Fault(delay_s=120.0, times=4)])
        first = Application(SETTINGS, state_dir=state_dir, workspace=workspace)
        with closing(Server(first)) as server:
            caller = Caller(server, workspace, "one")
            batch = caller.begin(chat(number) for number in range(60))
            until(lambda: caller.sdk.batches.retrieve(batch.id).request_counts.completed >= 20)
            until(lambda: len(fake.requests) == 20 + 4)  # none of the slow answers is left for the next one
        first.close()
        before = [one for _, one in workspace.batches.pieces(str(workspace.batches.get(batch.id).facts["output"]))]  # type: ignore[union-attr]
        assert len(before) >= 20
        second = Application(SETTINGS, state_dir=state_dir, workspace=workspace)
        with closing(Server(second)) as server:
            caller.sdk = caller.sdk.with_options(base_url=f"{server.url}/v1")
            batch = caller.ended(batch)
            names = [one["custom_id"] for one in caller.lines(batch.output_file_id)]
            assert sorted(names) == sorted(f"line-{number}" for number in range(60))
        second.close()
        asked = [one["body"]["messages"][0]["content"] for one in fake.requests]
        assert len(asked) <= 60 + 4, "those that were under way were asked again, and no others"

    def test_where_a_process_left_its_lease_another_goes_on_once_it_is_over(
        self, workspace: Workspace, state_dir: Path, fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As one that was killed: it releases nothing."""
        for module in (hosted, hosted_work):
            monkeypatch.setattr(module, "LEASE_S", 6.0)
        fake.script([Fault(delay_s=120.0, times=3)])
        killed = Application(SETTINGS, state_dir=state_dir, workspace=workspace)
        monkeypatch.setattr(killed.limiter, "release", lambda _: None)
        with closing(Server(killed)) as server:
            caller = Caller(server, workspace, "one")
            batch = caller.begin(chat(number) for number in range(3))
            until(lambda: len(fake.requests) == 3)
        killed.close()
        assert workspace.batches.get(batch.id).facts["status"] == "in_progress"  # type: ignore[union-attr]
        second = Application(SETTINGS, state_dir=state_dir, workspace=workspace)
        with closing(Server(second)) as server:
            caller.sdk = caller.sdk.with_options(base_url=f"{server.url}/v1")
            assert caller.ended(batch).request_counts.completed == 3
        second.close()
        keys = [one["headers"]["idempotency-key"] for one in fake.requests]
        assert sorted(keys) == sorted([f"batch_req_{batch.id}_{number}" for number in (1, 2, 3)] * 2)

    def test_two_servers_of_one_state_run_a_batch_once(
        self, serving: Callable[..., Server], caller: Caller, fake: FakeOpenAI
    ) -> None:
        serving(SETTINGS)
        batch = caller.ended(caller.begin(chat(number) for number in range(30)))
        assert batch.request_counts.completed == 30
        assert len(fake.requests) == 30

    def test_a_batch_that_is_too_old_ends_with_an_error_for_each_line_that_was_not_run(
        self, caller: Caller, fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hosted_work, "LEASE_S", 10.0)
        monkeypatch.setattr("host.service.batches.hosted.WINDOW_S", 2.0)
        fake.script([Fault(delay_s=120.0, times=None)])
        batch = caller.ended(caller.begin(chat(number) for number in range(10)))
        assert batch.status == "expired"
        errors = caller.lines(batch.error_file_id)
        assert {one["custom_id"] for one in errors} == {f"line-{number}" for number in range(10)}
        assert {one["error"]["code"] for one in errors} == {"batch_expired"}

    def test_a_row_that_somebody_else_wrote_runs_nothing(
        self, caller: Caller, other: Caller, workspace: Workspace, fake: FakeOpenAI
    ) -> None:
        """Whoever can write to the database would else spend what another key may."""
        batch = caller.ended(caller.begin([chat(1)]))
        with workspace.database.writing() as connection:
            connection.execute(update(batches).values(ended=False))
        asked = len(fake.requests)
        second = other.ended(other.begin([chat(2)]))
        assert second.status == "completed"
        assert len(fake.requests) == asked + 1
        with pytest.raises(openai.APIStatusError):
            caller.sdk.batches.retrieve(batch.id)

    def test_nothing_of_a_batch_is_in_plain_text_in_the_state(self, caller: Caller, state_dir: Path) -> None:
        caller.ended(caller.begin([chat(1, user="a-very-plain-name")]))
        for file in state_dir.rglob("*"):
            assert not file.is_file() or b"a-very-plain-name" not in file.read_bytes(), file
