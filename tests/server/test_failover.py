"""Several catalysts for one model: which one answers, what the caller sees, and attacks on the way between them."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from host.cli.commands.health import health
from host.component.manifest import embedded_text
from host.core.names import Reference, SecretName
from host.core.quantities import Quota
from host.errors import Busy, DeadlineExceeded, PolicyError
from host.fakes import FakeOpenAI
from host.fakes.openai.faults import Fault
from host.runtime.workspace import Workspace
from host.server import Application, ServerSettings
from host.service.health import check
from host.service.limits import limits_of_budget, limits_of_key
from host.service.limits.store import StoreLimiter
from host.store.audit_log.records import Wanted, newest_records
from host.store.audit_log.records import run as run_of
from tests.conftest import ROOT, the_master_key_in_a_file, with_enough_time, with_other_manifest
from tests.server.conftest import OPENAI, Server, copied, held_up, install, send_to, until
from tests.server.engine import SharedLoader
from tests.service.limits.levels import levels

SECOND, THIRD, UNAPPROVED = map(Reference.parse, ("c:local.azure", "c:local.third", "c:local.unapproved"))
README = (ROOT / "host" / "server" / "README.md").read_text()
SHOWN = tomllib.loads(README.partition("```toml\n")[2].partition("```")[0])
PLAIN: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
KEYED = {"idempotency-key": "once"}
NONE: Mapping[Reference, list[str]] = {}
CHAT = "/v1/chat/completions"


def group(*targets: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"targets": list(targets), **more}


FIRST_OF_TWO = {"catalyst": str(OPENAI)}, {"catalyst": str(SECOND), "model": "gpt-4o"}
SETTINGS = ServerSettings.from_document(
    {
        "default": str(OPENAI),
        "aliases": {"fast": "two"},
        "failover": {
            **SHOWN["failover"],
            "two": group({"catalyst": str(OPENAI), "model": "gpt-4o-mini"}, FIRST_OF_TWO[1]),
            "gpt-4o*": group(*FIRST_OF_TWO),
            "reckless": group(
                {"catalyst": str(OPENAI), "model": "gpt-4o-mini"}, FIRST_OF_TWO[1], unsafe_repeat=True
            ),
            "only429": group({"catalyst": str(OPENAI), "model": "gpt-4o-mini"}, FIRST_OF_TWO[1], on=["429"]),
            "three": group(*({"catalyst": str(one), "model": "gpt-4o"} for one in (OPENAI, SECOND, THIRD))),
            "spent-first": group(*({"catalyst": str(one), "model": "gpt-4o"} for one in (THIRD, SECOND))),
            "waiting": group(*({"catalyst": str(one), "model": "gpt-4o"} for one in (UNAPPROVED, SECOND))),
            "then-waiting": group(*({"catalyst": str(one), "model": "gpt-4o"} for one in (OPENAI, UNAPPROVED, SECOND))),
            "gone": group(*({"catalyst": str(one), "model": "gpt-4o"} for one in (UNAPPROVED, Reference.parse("c:local.none")))),
        },
        "budgets": {
            str(OPENAI): {"tokens": "1M/1d"},
            str(SECOND): {"tokens": "2M/1d"},
            str(THIRD): {"tokens": "1/1d"},
        },
    }
)  # fmt: skip


@dataclass
class Place:
    """A server with three catalysts, each at a fake of its own."""

    server: Server
    workspace: Workspace
    fakes: dict[Reference, FakeOpenAI]
    headers: dict[str, str] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)

    def post(self, model: str, headers: dict[str, str] | None = None, path: str = CHAT, **more: Any) -> httpx2.Response:
        body = {"model": model, **PLAIN, **more}
        return self.server.post(path, json=body, headers={**self.headers, **(headers or {})})

    def asked(self) -> list[int]:
        """How many requests each upstream had."""
        return [len(fake.requests) for fake in self.fakes.values()]

    def fails(self, at: Reference, **fault: Any) -> None:
        self.fakes[at].script([Fault(**{"times": None, **fault})])

    def models(self, at: Reference) -> list[str]:
        return [one["body"]["model"] for one in self.fakes[at].requests if one["body"]]

    def key(self, **more: Any) -> Any:
        key, text = self.workspace.api_keys.create(name=f"ci-{next(self.numbers)}", type="secret", **more)
        self.headers = {"authorization": f"Bearer {text}"}
        self.server.up_to_date()
        return key

    def budgets(self) -> list[float]:
        """What was spent at the first and the second target."""
        return [self.spent(limits_of_budget(SETTINGS.budgets, one)) for one in (OPENAI, SECOND)]

    def spent(self, limits: Any) -> float:
        return levels(StoreLimiter(self.workspace.counters), [one for one in limits if one.unit == "tokens"])[0]


def named(openai_file: Path, folder: Path, reference: Reference) -> Path:
    """The same component by another name."""
    wasm = openai_file.read_bytes()
    text = embedded_text(wasm) or b""
    file = folder / f"{reference.name}.wasm"
    manifest = {**json.loads(text), "id": reference.subject}
    file.write_bytes(with_other_manifest(wasm, manifest))
    return file


@pytest.fixture(scope="module")
def installed(installed_state: Path, openai_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copied(installed_state, tmp_path_factory.mktemp("targets") / "state")
    with pytest.MonkeyPatch.context() as patch, Workspace.open(folder) as opened, the_master_key_in_a_file():
        patch.setattr("host.runtime.host.Loader", SharedLoader)
        opened.grants.grant(UNAPPROVED, SecretName.parse("OPENAI_API_KEY"))  # so its bytes wait for the operator
        for one in (SECOND, THIRD, UNAPPROVED):
            install(opened, named(openai_file, folder, one), "http://127.0.0.1:9")
        assert [one.reference.name for one in opened.components.all() if not one.approved] == ["unapproved"]
    return folder


@pytest.fixture(scope="module")
def fakes() -> Iterator[dict[Reference, FakeOpenAI]]:
    with ExitStack() as stack:
        yield {one: stack.enter_context(FakeOpenAI(port=0)) for one in (OPENAI, SECOND, THIRD)}


@contextmanager
def opened(
    installed: Path,
    folder: Path,
    fakes: dict[Reference, FakeOpenAI],
    settings: ServerSettings = SETTINGS,
    several: Mapping[Reference, list[str]] = NONE,
) -> Iterator[Place]:
    """`several`: the upstreams of a catalyst that has more than its own fake."""
    copied(installed, folder)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr("host.runtime.host.Loader", SharedLoader)
        workspace = stack.enter_context(Workspace.open(folder))
        for reference, fake in fakes.items():
            send_to(workspace, reference, fake.url)
        for reference, upstreams in several.items():
            workspace.policies.set(reference, "upstreams", {"https://api.openai.com": upstreams})
        application = Application(settings, state_dir=folder, workspace=workspace)
        stack.callback(application.close)
        yield Place(stack.enter_context(closing(Server(application))), workspace, fakes)


@pytest.fixture(scope="module")
def places(
    installed: Path, tmp_path_factory: pytest.TempPathFactory, fakes: dict[Reference, FakeOpenAI]
) -> Iterator[tuple[Place, Place]]:
    """One without API keys, and one with."""
    folder = tmp_path_factory.mktemp("places")
    with opened(installed, folder / "one", fakes) as one, opened(installed, folder / "other", fakes) as other:
        yield one, other


@pytest.fixture(autouse=True)
def reset(fakes: dict[Reference, FakeOpenAI]) -> None:
    for fake in fakes.values():
        fake.reset()


@pytest.fixture
def place(places: tuple[Place, Place]) -> Place:
    return places[0]


@pytest.fixture
def keyed(places: tuple[Place, Place]) -> Place:
    return places[1]


@pytest.fixture
def own(installed: Path, tmp_path: Path, fakes: dict[Reference, FakeOpenAI]) -> Iterator[Place]:
    """For a test that changes policies."""
    with opened(installed, tmp_path / "state", fakes) as one:
        yield one


FAULTS: dict[str, dict[str, Any]] = {
    "cut before an answer": {"cut_before_headers": True},
    "500": {"status": 500},
    "503 for now": {"status": 503, "headers": {"retry-after": "1"}},
    "429": {"status": 429},
    "x-should-retry": {"status": 500, "headers": {"x-should-retry": "true"}},
}


class TestMoved:
    @pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "with an idempotency key"])
    def test_a_request_goes_to_the_next_target_if_it_may_be_repeated(
        self, place: Place, fault: str, keyed: bool, stream: bool
    ) -> None:
        place.fails(OPENAI, **FAULTS[fault])
        """A key is known to the first upstream alone: the second one would do the work again."""
        moved = fault in ("503 for now", "429", "x-should-retry")
        answer = place.post("two", KEYED if keyed else None, stream=stream)
        assert answer.status_code == (200 if moved else 500 if fault == "500" else 502)
        assert place.asked() == [1, int(moved), 0]
        assert answer.headers["x-catalyst"].startswith(str(SECOND if moved else OPENAI))
        if moved:
            assert place.models(SECOND) == ["gpt-4o"]
            assert (b"data: [DONE]" in answer.content) is stream
        else:
            assert "x-catalyst-tried" not in answer.headers

    def test_with_unsafe_repeat_also_what_the_first_may_have_done(self, place: Place) -> None:
        place.fails(OPENAI, status=500)
        assert place.post("reckless").status_code == 200
        assert place.asked() == [1, 1, 0]

    def test_what_was_not_sent_goes_on(self, own: Place) -> None:
        send_to(own.workspace, OPENAI, "http://127.0.0.1:9")
        own.server.up_to_date()
        assert own.post("two").status_code == 200
        assert own.asked() == [0, 1, 0]

    def test_a_target_that_does_not_answer_in_time_is_left_for_the_next(self, own: Place) -> None:
        own.workspace.policies.set(OPENAI, "first_byte_timeout", "200ms")
        own.server.up_to_date()
        own.fails(OPENAI, delay_s=5.0)
        assert own.post("two").status_code == 504  # it may have been done, so the next one is not asked
        assert own.post("two", KEYED).status_code == 504
        assert own.post("reckless").status_code == 200
        until(lambda: own.asked() == [3, 1, 0])  # the first one may read a request after it was given up

    def test_a_target_whose_circuit_is_open_is_not_asked(self, own: Place) -> None:
        own.workspace.policies.set(OPENAI, "breaker", {"failures": 2, "pause": "5m"})
        own.server.up_to_date()
        own.fails(OPENAI, status=503, headers={"retry-after": "1"})
        answers = [own.post("two") for _ in range(4)]
        assert [one.status_code for one in answers] == [200] * 4
        assert own.asked() == [2, 4, 0]
        _, run, outcome = answers[3].headers["x-catalyst-tried"].split()
        assert outcome == "circuit_open"
        [moved] = newest_records(own.workspace.database, 1, Wanted(run=run, kind="run.moved"))
        assert moved.rule == "circuit_open"

    def test_where_all_circuits_are_open_the_caller_is_told_when_to_try_again(self, own: Place) -> None:
        for one in (OPENAI, SECOND):
            own.workspace.policies.set(one, "breaker", {"failures": 1, "pause": "5m"})
            own.fails(one, status=503, headers={"retry-after": "1"})
        own.server.up_to_date()
        answers = [own.post("two") for _ in range(2)]
        assert [one.status_code for one in answers] == [503, 503]
        assert 1 < int(answers[1].headers["retry-after"]) <= 300
        assert own.asked() == [1, 1, 0]

    @pytest.mark.parametrize("status", [400, 401, 404, 409, 422])
    def test_a_mistake_goes_nowhere_else(self, place: Place, status: int) -> None:
        place.fails(OPENAI, status=status)
        assert place.post("two", KEYED).status_code == status
        assert place.asked() == [1, 0, 0]

    def test_only_on_the_failures_that_are_listed(self, place: Place) -> None:
        place.fails(OPENAI, status=500)
        assert place.post("only429", KEYED).status_code == 500
        place.fakes[OPENAI].reset()
        place.fails(OPENAI, status=429)
        assert place.post("only429", KEYED).status_code == 200

    def test_a_stream_does_not_move_on_after_its_first_event(self, place: Place) -> None:
        place.fails(OPENAI, cut_after_events=2)
        answer = place.post("two", KEYED, stream=True)
        assert answer.status_code == 200
        assert b"event: error" in answer.content
        assert place.asked() == [1, 0, 0]

    def test_a_refusal_by_the_policy_goes_nowhere_else(self, own: Place) -> None:
        own.workspace.policies.set(OPENAI, "allowed_domains", ["other.example"])
        own.server.up_to_date()
        assert own.post("two", KEYED).status_code == 403
        assert own.asked() == [0, 0, 0]

    def test_a_catalyst_that_the_caller_names_has_no_other(self, place: Place) -> None:
        place.fails(OPENAI, status=429)
        assert place.post("two", {"x-catalyst": str(OPENAI)}).status_code == 429
        assert place.asked() == [1, 0, 0]

    def test_as_the_readme_shows_it(self, place: Place) -> None:
        place.fails(OPENAI, status=429)
        assert place.post("gpt-4o").status_code == 200
        assert (place.models(OPENAI), place.models(SECOND)) == (["gpt-4o"], ["gpt-4o-eu"])

    def test_by_an_alias_and_by_the_beginning_of_a_name(self, place: Place) -> None:
        place.fails(OPENAI, status=429)
        assert place.post("fast").status_code == 200
        assert place.post("gpt-4o-2024").status_code == 200
        assert place.models(OPENAI) == ["gpt-4o-mini", "gpt-4o-2024"]
        assert place.models(SECOND) == ["gpt-4o", "gpt-4o"]


class TestSeen:
    def test_the_answer_and_the_log_tell_the_whole_way(self, place: Place) -> None:
        place.fails(OPENAI, status=429)
        place.fails(SECOND, status=503, headers={"retry-after": "9"})
        send_to(place.workspace, THIRD, place.fakes[THIRD].url)
        answer = place.post("three", max_tokens=1)
        assert answer.status_code == 429  # the third has no budget left for it
        tried = [one.split() for one in answer.headers["x-catalyst-tried"].split(", ")]
        assert [(one.rpartition(":")[0], came) for one, _, came in tried] == [
            (str(OPENAI), "429"),
            (str(SECOND), "503"),
        ]
        assert answer.headers["x-catalyst-run"] == tried[0][1]
        first, second = (run_of(place.workspace.database, run) for _, run, _ in tried)
        assert second[0] is not None
        assert (second[0].caller["attempt"], second[0].caller["first"]) == (2, tried[0][1])
        moved = next(record for record in first[1] if record.kind == "run.moved")
        assert (moved.rule, moved.detail["as"]) == ("429", tried[1][1])

    def test_all_targets_are_down_and_the_first_one_s_error_is_told(self, place: Place) -> None:
        place.fails(OPENAI, status=429, body={"error": {"message": "the first"}})
        place.fails(SECOND, status=503, headers={"retry-after": "9"})
        sdk = openai.OpenAI(base_url=f"{place.server.url}/v1", api_key="k", max_retries=0)
        with sdk, pytest.raises(openai.RateLimitError, match="the first") as raised:
            sdk.chat.completions.create(model="two", **PLAIN)
        assert "503" in raised.value.response.headers["x-catalyst-tried"]
        assert raised.value.response.headers["x-catalyst"].startswith(str(OPENAI))

    def test_of_several_that_fail_the_one_is_told_that_may_have_done_the_work(self, place: Place) -> None:
        place.fails(OPENAI, status=429)
        place.fails(SECOND, status=500)
        answer = place.post("two")
        assert answer.status_code == 500
        assert answer.headers["x-catalyst"].startswith(str(SECOND))
        assert [one.split()[2] for one in answer.headers["x-catalyst-tried"].split(", ")] == ["429", "500"]

    def test_what_the_second_may_have_done_nobody_is_told_to_try_again(self, own: Place) -> None:
        """The first one's 429 would say so: the work would be done, and paid for, twice."""
        own.workspace.policies.set(SECOND, "first_byte_timeout", "200ms")
        own.server.up_to_date()
        own.fails(OPENAI, status=429)
        own.fails(SECOND, delay_s=5.0)
        assert own.post("two").status_code == 504
        first, second = own.budgets()
        assert (first, second > 0) == (0, True)  # what it may have cost stays spent

    def test_a_mistake_that_the_next_target_finds_is_told_by_that_one(self, place: Place) -> None:
        place.fails(OPENAI, status=429)
        place.fails(SECOND, status=400, body={"error": {"message": "no such parameter"}})
        answer = place.post("two")
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, "no such parameter")

    def test_metrics_and_usage_count_each_once(self, keyed: Place) -> None:
        key = keyed.key(scopes=["run", "metrics"])
        keyed.fails(OPENAI, status=429)
        assert keyed.post("two").status_code == 200
        text = keyed.server.get("/metrics", headers=keyed.headers).text
        assert f'catalyst_host_moved_total{{catalyst="{OPENAI}:0.1.0",cause="429"}} 1.0' in text
        until(lambda: bool(keyed.workspace.usage.totals(key=key.id)))
        assert [(one.catalyst, one.requests, one.failed) for one in keyed.workspace.usage.totals(key=key.id)] == [
            (f"{SECOND}:0.1.0", 1, 0)
        ]

    def test_models_are_listed_with_those_of_several_targets(self, place: Place) -> None:
        ids = [one["id"] for one in place.server.get("/v1/models").json()["data"]]
        assert {"two", "three", "fast", "gpt-4o"} <= {*ids}
        assert "gpt-4o*" not in ids
        assert len(ids) == len({*ids})


class TestHeld:
    def test_what_is_held_is_settled_once_where_the_answer_came_from(self, keyed: Place) -> None:
        key = keyed.key(token_budget=Quota.parse("1M/1d"))
        keyed.fails(OPENAI, status=429)
        before = keyed.budgets()
        usage = keyed.post("two").json()["usage"]["total_tokens"]
        assert keyed.spent(limits_of_key(key)) == usage
        assert keyed.budgets() == [before[0], before[1] + usage]

    def test_where_all_fail_nothing_is_spent(self, keyed: Place) -> None:
        key = keyed.key(token_budget=Quota.parse("1M/1d"))
        for one in (OPENAI, SECOND):
            keyed.fails(one, status=429)
        before = keyed.budgets()
        assert keyed.post("two").status_code == 429
        assert (keyed.spent(limits_of_key(key)), keyed.budgets()) == (0, before)

    def test_of_a_target_that_was_never_reached_nothing_stays_spent(self, own: Place) -> None:
        own.workspace.policies.set(OPENAI, "connect_timeout", "200ms")
        with socket.create_server(("127.0.0.1", 0)) as silent:  # which says no word of TLS
            send_to(own.workspace, OPENAI, f"https://127.0.0.1:{silent.getsockname()[1]}")
            own.server.up_to_date()
            answer = own.post("two")
        assert (answer.status_code, answer.headers["x-catalyst-tried"].split()[2]) == (200, "upstream_timeout")
        assert own.budgets() == [0, answer.json()["usage"]["total_tokens"]]

    def test_of_a_target_that_may_have_done_the_work_it_stays_spent(self, own: Place) -> None:
        own.fails(OPENAI, cut_before_headers=True)
        answer = own.post("reckless")
        assert answer.status_code == 200
        first, second = own.budgets()
        assert (first > 0, second) == (True, answer.json()["usage"]["total_tokens"])

    def test_attack_who_leaves_while_something_is_given_back_gets_it_once(
        self, own: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else the budget of one target grew with each such request, and that of the next one shrank."""
        dispatch = own.server.application.dispatch
        accounts, left = dispatch._accounts, threading.Event()
        settle = accounts._settle

        async def leaving(held: Any, tokens: Any, *more: Any, **named: Any) -> Any:
            if not left.is_set():
                left.set()
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            return await settle(held, tokens, *more, **named)

        StoreLimiter(own.workspace.counters).spend(limits_of_budget(SETTINGS.budgets, OPENAI), 100_000)
        before = own.budgets()
        monkeypatch.setattr(accounts, "_settle", leaving)
        own.fails(OPENAI, status=429)
        with suppress(httpx2.HTTPError):
            own.post("two")
        until(lambda: left.is_set() and not dispatch.running)
        until(lambda: own.budgets() == before)
        assert own.asked() == [1, 0, 0]

    def test_a_request_under_way_counts_once_for_its_key(self, keyed: Place) -> None:
        keyed.key(concurrency=1)
        keyed.fails(OPENAI, status=429)
        assert [keyed.post("two").status_code for _ in range(3)] == [200] * 3
        assert not keyed.server.application.dispatch.running

    def test_who_leaves_in_between_starts_nothing_more(self, keyed: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        dispatch = keyed.server.application.dispatch
        before = keyed.budgets()
        reached, go_on = threading.Event(), threading.Event()
        moved = dispatch.moved

        async def slowly(running: Any) -> Any:
            reached.set()
            found = await moved(running)
            await asyncio.to_thread(go_on.wait, 30)
            return found

        monkeypatch.setattr(dispatch, "moved", slowly)
        keyed.fails(OPENAI, status=429)
        answers: list[httpx2.Response] = []
        asking = threading.Thread(target=lambda: answers.append(keyed.post("two")))
        asking.start()
        assert reached.wait(30)
        (ident,) = dispatch.running
        dispatch.cancel([ident])
        go_on.set()
        asking.join(30)
        assert answers[0].status_code == 409
        assert keyed.asked() == [1, 0, 0]
        assert keyed.budgets() == before


class TestAttacks:
    def test_failover_does_not_reach_a_catalyst_that_the_key_is_not_for(self, keyed: Place) -> None:
        key = keyed.key(catalysts=[OPENAI])
        keyed.fails(OPENAI, status=429)
        answer = keyed.post("two")
        assert answer.status_code == 429
        assert keyed.asked() == [1, 0, 0]
        record = newest_records(keyed.workspace.database, 1, Wanted(kind="request.refused"))[0]
        assert (record.decision, record.detail["key"]) == ("deny", key.id)
        assert str(SECOND) in record.rule

    def test_a_key_for_the_second_target_alone_does_not_ask_the_first(self, keyed: Place) -> None:
        keyed.key(catalysts=[SECOND])
        assert keyed.post("two").status_code == 200
        assert keyed.asked() == [0, 1, 0]

    def test_a_key_for_none_of_them_is_refused(self, keyed: Place) -> None:
        keyed.key(catalysts=[THIRD])
        assert keyed.post("two").status_code == 403
        assert keyed.asked() == [0, 0, 0]

    def test_a_key_for_another_model_does_not_get_one_by_the_name_of_a_target(self, keyed: Place) -> None:
        keyed.key(models=["gpt-3.5*"])
        assert keyed.post("two").status_code == 403
        keyed.key(models=["two"])
        keyed.fails(OPENAI, status=429)
        assert keyed.post("two").status_code == 200

    @pytest.mark.parametrize("model", ["waiting", "then-waiting"])
    def test_a_target_that_is_not_approved_is_never_run(self, place: Place, model: str) -> None:
        place.fails(OPENAI, status=429)
        assert place.post(model).status_code == 200
        assert place.asked() == [int(model == "then-waiting"), 1, 0]

    def test_a_first_target_whose_budget_is_spent_is_passed_over(self, keyed: Place) -> None:
        key = keyed.key(token_budget=Quota.parse("1M/1d"))
        before = keyed.budgets()
        answer = keyed.post("spent-first")
        usage = answer.json()["usage"]["total_tokens"]
        assert keyed.asked() == [0, 1, 0]
        assert (keyed.spent(limits_of_key(key)), keyed.budgets()) == (usage, [before[0], before[1] + usage])

    def test_a_key_without_tokens_is_refused_at_every_target(self, keyed: Place) -> None:
        keyed.key(token_budget=Quota.parse("2/1d"))
        before = keyed.budgets()
        assert keyed.post("two").status_code == 429
        assert (keyed.asked(), keyed.budgets()) == ([0, 0, 0], before)

    @pytest.mark.parametrize(
        ("error", "at", "status"),
        [
            pytest.param(PolicyError("it cannot be read"), OPENAI, 200, id="a first one whose policy is none"),
            pytest.param(Busy("no room to load it"), SECOND, 429, id="a next one that waits for others"),
            pytest.param(DeadlineExceeded("it takes long"), SECOND, 429, id="a next one that loads for too long"),
        ],
    )
    def test_a_target_that_does_not_load_is_passed_over(
        self, place: Place, monkeypatch: pytest.MonkeyPatch, error: Exception, at: Reference, status: int
    ) -> None:
        dispatch = place.server.application.dispatch
        way = dispatch._way

        async def prepared(resolved: Any, view: Any) -> Any:
            if resolved.component.reference.any_version == at:
                raise error
            return await way.prepared(resolved, view)

        monkeypatch.setattr(dispatch, "_way", replace(way, prepared=prepared))
        place.fails(OPENAI, status=429)
        assert place.post("two").status_code == status
        assert place.asked() == [int(at == SECOND), int(at == OPENAI), 0]

    def test_without_a_target_that_may_run_the_caller_hears_of_the_first(self, place: Place) -> None:
        answer = place.post("gone")
        assert answer.status_code == 503
        assert "approve" in json.dumps(answer.json())

    def test_a_key_that_was_revoked_meanwhile_asks_nobody_else(self, keyed: Place) -> None:
        key = keyed.key()
        keyed.fails(OPENAI, status=429)
        answers: list[httpx2.Response] = []
        asking = threading.Thread(target=lambda: answers.append(keyed.post("two")))
        with held_up(keyed.fakes[OPENAI]):
            asking.start()
            until(lambda: keyed.asked()[0] == 1)
            keyed.workspace.api_keys.revoke(key.id)
            keyed.server.up_to_date()
        asking.join(30)
        assert answers[0].status_code == 401
        assert keyed.asked() == [1, 0, 0]


class TestStored:
    """The fake's ids are numbers: each fake has a response of the same id."""

    def test_a_request_for_an_object_goes_where_it_was_made(self, place: Place) -> None:
        place.fails(OPENAI, status=429)
        made = place.post("two", path="/v1/responses", input="Hi").json()["id"]
        place.fakes[OPENAI]._api.script.clear()
        before = place.asked()
        assert place.server.get(f"/v1/responses/{made}").status_code == 200
        follows = place.post("two", path="/v1/responses", input="And?", previous_response_id=made)
        assert follows.headers["x-catalyst"].startswith(str(SECOND))
        assert [now - then for now, then in zip(place.asked(), before, strict=True)] == [0, 2, 0]
        assert place.models(SECOND)[-1] == "gpt-4o"

    def test_it_goes_nowhere_else_when_that_fails(self, place: Place) -> None:
        place.fails(OPENAI, status=429)
        made = place.post("two", path="/v1/responses", input="Hi").json()["id"]
        place.fakes[OPENAI]._api.script.clear()
        place.fails(SECOND, status=429)
        answer = place.post("two", path="/v1/responses", input="And?", previous_response_id=made)
        assert answer.status_code == 429
        assert place.asked()[0] == 1

    def test_a_streamed_response_is_remembered_by_its_first_event(self, place: Place) -> None:
        place.fails(OPENAI, status=429)
        stream = place.post("two", path="/v1/responses", input="Hi", stream=True).text
        made = json.loads(stream.partition("data: ")[2].partition("\n")[0])["response"]["id"]
        answer = place.server.get(f"/v1/responses/{made}")
        assert answer.headers["x-catalyst"].startswith(str(SECOND))

    def test_other_workers_know_it_too(self, place: Place) -> None:
        place.fails(OPENAI, status=429)
        made = place.post("two", path="/v1/responses", input="Hi").json()["id"]
        objects = place.server.application.dispatch._objects
        until(lambda: not objects._writing)
        objects._recent.clear()
        assert place.server.get(f"/v1/responses/{made}").headers["x-catalyst"].startswith(str(SECOND))

    def test_so_it_does_among_several_upstreams_of_a_catalyst(
        self, installed: Path, tmp_path: Path, fakes: dict[Reference, FakeOpenAI]
    ) -> None:
        upstreams = [fakes[OPENAI].url, fakes[SECOND].url]
        alone = replace(SETTINGS, routing=replace(SETTINGS.routing, failover={}))
        with opened(installed, tmp_path / "state", fakes, alone, several={OPENAI: upstreams}) as place:
            place.fails(OPENAI, status=429)
            made = place.post("gpt-4o-mini", path="/v1/responses", input="Hi").json()["id"]
            place.fakes[OPENAI]._api.script.clear()
            before = place.asked()
            objects = place.server.application.dispatch._objects
            until(lambda: not objects._writing)
            objects._recent.clear()
            assert place.server.get(f"/v1/responses/{made}").status_code == 200
            more = {"path": "/v1/responses", "input": "And?"}
            assert place.post("gpt-4o-mini", previous_response_id=made, **more).status_code == 200
            assert [now - then for now, then in zip(place.asked(), before, strict=True)] == [0, 2, 0]
            place.fails(SECOND, status=429)
            assert place.post("gpt-4o-mini", previous_response_id=made, **more).status_code == 429
            assert place.post("gpt-4o-mini", **more).status_code == 200
            assert [now - then for now, then in zip(place.asked(), before, strict=True)] == [1, 3, 0]

    def test_another_key_cannot_learn_where_an_id_is(self, keyed: Place) -> None:
        keyed.key()
        keyed.fails(OPENAI, status=429)
        made = keyed.post("two", path="/v1/responses", input="Hi").json()["id"]
        keyed.key()
        guessed = keyed.server.get(f"/v1/responses/{made}", headers=keyed.headers)
        unknown = keyed.server.get("/v1/responses/resp_unknown", headers=keyed.headers)
        assert [one.headers["x-catalyst"] for one in (guessed, unknown)] == [f"{OPENAI}:0.1.0"] * 2

    def test_an_object_at_a_catalyst_that_the_key_lost_is_refused(self, keyed: Place) -> None:
        key = keyed.key()
        keyed.fails(OPENAI, status=429)
        made = keyed.post("two", path="/v1/responses", input="Hi").json()["id"]
        keyed.workspace.api_keys.update(key.id, catalysts=[OPENAI])
        keyed.server.up_to_date()
        assert keyed.server.get(f"/v1/responses/{made}", headers=keyed.headers).status_code == 403


@pytest.mark.usefixtures("patient_probes")
class TestReady:
    def test_one_target_of_several_that_cannot_run_leaves_the_server_ready(self, own: Place) -> None:
        application = own.server.application
        routing = application.settings.routing
        view = application.catalog
        view._routing = replace(routing, failover={"waiting": routing.failover["waiting"]})
        view._view = None
        application.readiness._until = 0.0
        assert own.server.get("/ready").status_code == 200
        view._routing, view._view, application.readiness._until = routing, None, 0.0
        assert (own.server.get("/ready").status_code, own.server.get("/ready").json()["code"]) == (503, "not_approved")


@pytest.mark.usefixtures("patient_probes")
class TestHealth:
    @pytest.fixture
    def watched(self, installed: Path, tmp_path: Path, fakes: dict[Reference, FakeOpenAI]) -> Iterator[Place]:
        fakes[SECOND].script([Fault(path="/v1/models", status=503, times=None)])
        groups = {name: one for name, one in SETTINGS.routing.failover.items() if name != "gone"}
        settings = replace(SETTINGS, routing=replace(SETTINGS.routing, failover=groups), health_checks_s=3600.0)
        with opened(installed, tmp_path / "state", fakes, settings) as one:
            until(lambda: bool(one.server.get("/ready").json().get("catalysts")))
            yield one

    def test_one_ill_upstream_is_shown_and_leaves_the_server_ready(self, watched: Place) -> None:
        watched.fails(OPENAI, status=429, path=CHAT)
        assert watched.post("two").status_code == 200
        answer = watched.server.get("/ready")
        assert (answer.status_code, answer.json()["status"]) == (200, "ready")
        shown = {one["reference"]: one for one in answer.json()["catalysts"]}
        first, second = shown[f"{OPENAI}:0.1.0"], shown[f"{SECOND}:0.1.0"]
        assert (first["check"]["state"], first["runs"], first["failed"], first["last_failure"]) == ("ok", 1, 1, "429")
        assert (second["check"]["state"], second["check"]["cause"], second["runs"]) == ("ill", "503", 1)
        assert shown[str(UNAPPROVED)]["check"]["cause"] == "not_approved"
        summary, _ = run_of(watched.workspace.database, second["check"]["run"])
        assert summary is not None
        assert dict(summary.caller) == {"via": "health", "operation": "models.list"}
        text = watched.server.get("/metrics").text
        assert f'catalyst_host_upstream_up{{catalyst="{OPENAI}:0.1.0"}} 1.0' in text
        assert f'catalyst_host_upstream_up{{catalyst="{SECOND}:0.1.0"}} 0.0' in text
        _, text = watched.workspace.api_keys.create(name="operator", type="admin")
        watched.server.up_to_date()
        listed = watched.server.get("/console/api/catalysts", headers={"authorization": f"Bearer {text}"}).json()
        assert {one["reference"]: one["health"] for one in listed["catalysts"] if one["approved"]} == {
            name: one for name, one in shown.items() if name != str(UNAPPROVED)
        }
        watched.key()
        assert watched.server.get("/ready").json() == {"status": "ready"}  # to anybody
        watched.key(scopes=["metrics"])
        assert "catalysts" in watched.server.get("/ready", headers=watched.headers).json()

    def test_the_command_asks_each_and_names_the_cause(
        self, watched: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("HOST_STATE_DIR", str(watched.workspace.state_dir))
        with pytest.raises(SystemExit) as ended:
            health.main(["--json"], prog_name="host health")
        found = {one["reference"]: one for one in json.loads(capsys.readouterr().out)}
        assert (found[f"{OPENAI}:0.1.0"]["state"], found[f"{SECOND}:0.1.0"]["cause"], ended.value.code) == (
            "ok",
            "503",
            1,
        )
        with pytest.raises(SystemExit) as ended:
            health.main([str(OPENAI)], prog_name="host health")
        assert ended.value.code == 0
        assert "ok" in capsys.readouterr().out

    def test_each_of_several_upstreams_is_asked_and_shown(
        self,
        installed: Path,
        tmp_path: Path,
        fakes: dict[Reference, FakeOpenAI],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        first, second = fakes[OPENAI].url, fakes[SECOND].url
        fakes[SECOND].script([Fault(path="/v1/models", status=503, times=None)])
        settings = replace(SETTINGS, routing=replace(SETTINGS.routing, failover={}), health_checks_s=3600.0)
        with opened(installed, tmp_path / "state", fakes, settings, several={OPENAI: [first, second]}) as place:
            until(lambda: bool(place.server.get("/ready").json().get("catalysts")))
            [shown] = place.server.get("/ready").json()["catalysts"]
            found = [(one["upstream"], one["state"], one["cause"]) for one in shown["upstreams"]]
            assert found == [(first, "ok", ""), (second, "ill", "503")]
            assert (shown["check"]["state"], shown["check"]["upstream"]) == ("ok", first)
            assert f'catalyst_host_upstream_up{{catalyst="{OPENAI}:0.1.0"}} 1.0' in place.server.get("/metrics").text
            monkeypatch.setenv("HOST_STATE_DIR", str(place.workspace.state_dir))
            with pytest.raises(SystemExit) as ended:
                health.main([str(OPENAI)], prog_name="host health")
            told = capsys.readouterr().out
            assert (ended.value.code, first in told, second in told) == (1, True, True)

    def test_an_upstream_that_hangs_ends_with_its_check(self, own: Place) -> None:
        own.fails(OPENAI, delay_s=30.0)
        view = own.server.application.host.load(OPENAI)

        def attempt(seconds: float) -> None:
            found = asyncio.run(check(view, seconds))
            assert (found.state, found.cause) == ("ill", "upstream_timeout")

        with_enough_time(attempt, 0.3)


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"cut_before_headers": True}])
def test_a_websocket_that_the_first_upstream_does_not_open_is_opened_by_the_next(place: Place, fault: Any) -> None:
    place.fails(OPENAI, path="/v1/realtime", **fault)
    url = f"ws://127.0.0.1:{place.server.port}/v1/realtime?model=gpt-4o"
    with connect(url, proxy=None) as line:
        assert json.loads(line.recv(timeout=60))["type"] == "session.created"
    assert place.asked() == [1, 1, 0]


def test_one_that_both_refuse_is_refused_as_the_first_one_did(place: Place) -> None:
    for at, status in ((OPENAI, 503), (SECOND, 500)):
        place.fails(at, path="/v1/realtime", status=status)
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://127.0.0.1:{place.server.port}/v1/realtime?model=gpt-4o", proxy=None)
    assert caught.value.response.status_code == 503
    assert place.asked() == [1, 1, 0]
