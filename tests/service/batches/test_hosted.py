"""The work on batches that a server keeps, where it is cancelled, too old, too large, or another process has it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from host.core.audit import Event
from host.errors import Busy, HostError, InputError, LimitExceeded, NotFound, PolicyError
from host.service.batches import hosted, hosted_work
from host.service.batches.answers import BatchAnswer, DispatchEngine
from host.service.batches.hosted import HostedBatches
from host.service.batches.hosted_work import BatchSettings, Hosting, OneBatch
from host.service.principal import ANONYMOUS_SCOPES, Principal
from host.store.access.batches import Batches, with_facts
from host.store.database import Database
from host.store.sql import delete, func, select
from host.store.tables import batch_pieces
from host.store.vault.keys import Keys
from tests.conftest import late, with_enough_time
from tests.server.conftest import until

ME = Principal(None, ANONYMOUS_SCOPES, anonymous=True)
CHAT = "/v1/chat/completions"


def request(number: int, **more: Any) -> dict[str, Any]:
    return {"custom_id": f"line-{number}", "method": "POST", "url": CHAT, "body": {"model": "m"}, **more}


class Engine:
    """In place of `DispatchEngine._run`: what lines end in, and which were asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.ends: Callable[[int], Coroutine[Any, Any, Any]] | None = None

    async def run(self, asked: Any) -> Any:
        self.asked.append(asked.line.number)
        if self.ends is not None:
            await self.ends(asked.line.number)
        raise InputError("no such model")


class Catalog:
    async def off_loop(self, work: Callable[[], Any], _: float = 5.0) -> Any:
        return await asyncio.to_thread(work)

    async def current(self) -> Any:
        keys = SimpleNamespace(any=False, active=lambda *_: None)
        return SimpleNamespace(keys=keys, components=[])


class Recording:
    def __init__(self) -> None:
        self.events: list[Event] = []

    async def record(self, event: Event) -> None:
        self.events.append(event)


class Leases:
    def __init__(self) -> None:
        self.taken: list[str] = []
        self.released: list[str] = []

    def lease(self, name: str, seconds: float, *, anew: bool = False) -> float:
        del seconds, anew
        self.taken.append(name)
        return 0.0

    def release(self, name: str) -> None:
        self.released.append(name)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    found = Engine()

    async def run(_: DispatchEngine, asked: Any) -> Any:
        return await found.run(asked)

    monkeypatch.setattr(DispatchEngine, "_run", run)
    monkeypatch.setattr(hosted_work, "LEASE_S", 0.2)
    return found


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database.open(tmp_path)) as database:
        yield database


class Kept:
    """Batches of one caller."""

    def __init__(self, database: Database, place: Path, **settings: Any) -> None:
        self.store = Batches(database, Keys(place))
        self.leases = Leases()
        catalog: Any = Catalog()
        limiter: Any = self.leases
        self.recording = Recording()
        dispatch: Any = self.recording
        told = HostError.as_dict
        self.hosting = Hosting(catalog, dispatch, limiter, self.store, BatchSettings(**settings), told)
        self.batches = HostedBatches(self.hosting)

    async def begin(self, lines: int = 1, content: bytes | None = None) -> str:
        text = b"".join(json.dumps(request(one)).encode() + b"\n" for one in range(lines))
        file = await self.batches.create_file(ME, "in.jsonl", text if content is None else content)
        return await self.begun(str(file["id"]))

    async def begun(self, file: str) -> str:
        given = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
        return str((await self.batches.create(ME, given))["id"])

    def one(self, ident: str) -> OneBatch:
        found = self.store.get(ident)
        assert found is not None
        return OneBatch(self.hosting, found)

    def facts(self, ident: str) -> dict[str, Any]:
        found = self.store.get(ident)
        assert found is not None
        return {**found.facts, "ended": found.ended}

    async def lines(self, file: str | None) -> list[dict[str, Any]]:
        if file is None:
            return []
        kept = await self.batches.file(ME, file)
        content = b"".join([piece async for piece in self.batches.content(kept)])
        assert len(content) == kept.bytes, "what a download declares"
        return [json.loads(one) for one in content.splitlines()]


@pytest.fixture
def kept(database: Database, tmp_path: Path, engine: Engine) -> Kept:
    return Kept(database, tmp_path)


async def spent(_: int) -> None:
    raise LimitExceeded("spent", unit="requests", retry_after_s=7 * 86_400.0)


async def worked(kept: Kept, true: Callable[[], bool]) -> None:
    """The work of a process, until it is `true`."""
    working = asyncio.ensure_future(kept.batches.work())
    await asyncio.to_thread(until, true)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


class TestOver:
    def test_a_batch_whose_limit_is_spent_for_longer_than_its_window_ends_as_expired(
        self, kept: Kept, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hosted, "_LOOK_S", 0.05)
        engine.ends = spent

        async def main() -> dict[str, Any]:
            engine.asked.clear()
            batch = await kept.begin(20)
            await worked(kept, lambda: kept.facts(batch)["ended"])
            assert len(engine.asked) <= 20, "it was not begun again and again"
            facts = kept.facts(batch)
            assert [one["error"]["code"] for one in await kept.lines(facts["error_file_id"])] == ["batch_expired"] * 20
            return facts

        def attempt(window_s: float) -> None:
            monkeypatch.setattr(hosted, "WINDOW_S", window_s)
            facts = asyncio.run(main())
            assert (facts["status"], facts["ended"], facts["counts"]) == ("expired", True, [20, 0, 20])

        with_enough_time(attempt, 2.0)

    def test_batches_whose_limits_are_spent_keep_no_other_from_running(
        self, kept: Kept, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hosted, "AT_ONCE", 2)
        monkeypatch.setattr(hosted, "_LOOK_S", 0.05)
        stuck: set[str] = set()

        async def run(_: DispatchEngine, asked: Any) -> Any:
            if asked.batch in stuck:
                await spent(1)
            raise InputError("no such model")

        monkeypatch.setattr(DispatchEngine, "_run", run)

        async def main() -> None:
            stuck.update([await kept.begin(3) for _ in range(4)])
            other = await kept.begin(3)
            await worked(kept, lambda: kept.facts(other)["ended"])
            assert not any(kept.facts(one)["ended"] for one in stuck)

        asyncio.run(main())

    def test_a_batch_that_rests_is_cancelled_at_once(
        self, kept: Kept, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hosted, "_LOOK_S", 0.05)
        engine.ends = spent

        async def main() -> str:
            batch = await kept.begin(3)
            working = asyncio.ensure_future(kept.batches.work())
            await asyncio.to_thread(until, lambda: batch in kept.batches._again)
            await kept.batches.cancel(ME, batch)
            await asyncio.to_thread(until, lambda: kept.facts(batch)["ended"])
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            return str(kept.facts(batch)["status"])

        assert asyncio.run(main()) == "cancelled"

    def test_a_batch_that_became_too_old_before_it_began_sends_nothing(
        self, kept: Kept, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hosted, "WINDOW_S", -5.0)

        async def main() -> dict[str, Any]:
            batch = await kept.begin(20)
            await kept.one(batch).run()
            return kept.facts(batch)

        facts = asyncio.run(main())
        assert (facts["status"], facts["ended"], engine.asked) == ("expired", True, [])

    def test_a_batch_that_was_cancelled_before_it_began_sends_nothing(self, kept: Kept, engine: Engine) -> None:
        async def main() -> dict[str, Any]:
            batch = await kept.begin(20)
            assert (await kept.batches.cancel(ME, batch))["status"] == "cancelling"
            await kept.one(batch).run()
            return kept.facts(batch)

        facts = asyncio.run(main())
        assert (facts["status"], facts["ended"], engine.asked) == ("cancelled", True, [])

    def test_a_batch_that_is_cancelled_at_its_last_line_does_not_end_as_completed(
        self, kept: Kept, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hosted_work, "LEASE_S", 600.0)  # it does not look again

        async def main() -> dict[str, Any]:
            batch = await kept.begin(1)

            async def cancelled(_: int) -> None:
                await kept.batches.cancel(ME, batch)

            engine.ends = cancelled
            await kept.one(batch).run()
            return kept.facts(batch)

        assert asyncio.run(main())["status"] == "cancelled"

    def test_a_file_that_changed_ends_the_batch_and_what_is_finished_stays(
        self, kept: Kept, database: Database, engine: Engine
    ) -> None:
        """As one does that is gone: nothing is paid for in vain, and no bytes are left that nobody counts."""

        async def main() -> None:
            batch = await kept.begin(3)
            one = kept.one(batch)
            kept.store.change(batch, lambda now: with_facts(now, by=one._mark))
            one.write([BatchAnswer(1, b"{}", failed=False)])
            with database.writing() as connection:
                connection.execute(
                    delete(batch_pieces).where(batch_pieces.c.file == kept.facts(batch)["input_file_id"])
                )
            await kept.one(batch).run()
            facts = kept.facts(batch)
            assert (facts["status"], facts["ended"]) == ("failed", True)
            assert await kept.lines(facts["output_file_id"]) == [{}]

        asyncio.run(main())

    def test_a_policy_that_is_malformed_stops_the_batch_and_does_not_end_it(self, kept: Kept, engine: Engine) -> None:
        async def malformed(_: int) -> None:
            raise PolicyError("timeout: no duration")

        engine.ends = malformed

        async def main() -> bool:
            batch = await kept.begin(1)
            with pytest.raises(PolicyError):
                await kept.one(batch).run()
            return bool(kept.facts(batch)["ended"])

        assert not asyncio.run(main())


class TestRoom:
    def test_the_input_of_an_open_batch_is_not_deleted(self, kept: Kept, engine: Engine) -> None:
        async def main() -> None:
            batch = await kept.begin(1)
            file = kept.facts(batch)["input_file_id"]
            with pytest.raises(InputError, match="has not ended"):
                await kept.batches.delete_file(ME, file)
            await kept.one(batch).run()
            assert (await kept.batches.delete_file(ME, file))["deleted"]

        asyncio.run(main())

    def test_the_input_of_an_open_batch_does_not_expire(
        self, database: Database, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = Kept(database, tmp_path, keep_s=3_600.0)

        async def main() -> dict[str, Any]:
            batch = await kept.begin(1)
            with monkeypatch.context() as later:
                now = time.time
                later.setattr(time, "time", lambda: now() + 2 * 3_600)
                kept.store.sweep()
            await kept.one(batch).run()
            return kept.facts(batch)

        assert asyncio.run(main())["status"] == "completed"

    def test_after_a_batch_and_its_files_nothing_is_left(
        self, kept: Kept, database: Database, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main() -> None:
            await kept.one(await kept.begin(3)).run()
            await kept.one(await kept.begin(content=b"{\n")).run()

        asyncio.run(main())
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 400 * 86_400)
        kept.store.sweep()
        with database.reading() as connection:
            assert connection.execute(select(func.count()).select_from(batch_pieces)).scalar() == 0
        assert kept.store.held("") == hosted.KeptSizes()

    def test_the_answers_of_a_batch_that_runs_count(self, kept: Kept, engine: Engine) -> None:
        async def main() -> None:
            batch = await kept.begin(1)
            before = kept.store.held("").bytes
            one = kept.one(batch)
            kept.store.change(batch, lambda now: with_facts(now, by=one._mark))
            one.write([BatchAnswer(1, b"y" * 5_000_000, failed=False)])
            assert kept.store.held("").bytes - before >= 5_000_000

        asyncio.run(main())

    def test_a_batch_whose_answers_have_no_room_stops_and_what_is_finished_stays(
        self, database: Database, tmp_path: Path, engine: Engine
    ) -> None:
        kept = Kept(database, tmp_path, max_size=60_000, concurrency=4)

        async def main() -> None:
            batch = await kept.begin(300)
            await kept.one(batch).run()
            facts = kept.facts(batch)
            assert (facts["status"], facts["errors"]["data"][0]["code"]) == ("failed", "out_of_room")
            assert 0 < len(await kept.lines(facts["error_file_id"])) < 300
            assert kept.store.held("").bytes < 2 * 60_000
            with pytest.raises(LimitExceeded, match="as many bytes"):
                await kept.begin(1)
            with pytest.raises(LimitExceeded, match="as many bytes"):
                await kept.begun(facts["input_file_id"])

        asyncio.run(main())

    @pytest.mark.parametrize("endpoint", ["/v1/" + "x" * 30_000_000, "/v1/chat?x", "/v1/\n", "/v1/"], ids=len)
    def test_an_endpoint_is_a_short_path(self, kept: Kept, endpoint: str) -> None:
        """Else it would take 30 MB for a month, and count nothing."""
        given = {"input_file_id": "file-hosted-x", "endpoint": endpoint, "completion_window": "24h"}
        with pytest.raises(InputError, match="short path"):
            asyncio.run(kept.batches.create(ME, given))

    def test_the_number_of_open_batches_and_of_empty_files_is_bounded(
        self, kept: Kept, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hosted, "MOST_OPEN", 2)
        monkeypatch.setattr(hosted, "MOST_KEPT", 3)

        async def main() -> None:
            file = str((await kept.batches.create_file(ME, "in.jsonl", b""))["id"])
            for _ in range(2):
                await kept.begun(file)
            with pytest.raises(LimitExceeded, match="batches that have not ended"):
                await kept.begun(file)
            for _ in range(2):
                await kept.batches.create_file(ME, "in.jsonl", b"")
            with pytest.raises(LimitExceeded, match="as many files"):
                await kept.batches.create_file(ME, "in.jsonl", b"")
            with pytest.raises(InputError, match="name has more than"):
                await kept.batches.create_file(ME, "n" * 1_000_000, b"")

        asyncio.run(main())

    def test_lists_come_in_parts(self, kept: Kept) -> None:
        async def main() -> None:
            file = str((await kept.batches.create_file(ME, "in.jsonl", b""))["id"])
            made = [await kept.begun(file) for _ in range(5)]
            first = await kept.batches.batches(ME, most=2)
            rest = await kept.batches.batches(ME, str(first[-1]["id"]), most=9)
            assert [one["id"] for one in [*first, *rest]] == made[::-1]
            files = [file, *[str((await kept.batches.create_file(ME, "x", b""))["id"]) for _ in range(4)]]
            some = await kept.batches.files(ME, "batch", files[1], most=2, oldest_first=True)
            assert [one.id for one in some] == files[2:4]
            assert await kept.batches.files(ME, "batch_output", most=2) == []
            with pytest.raises(NotFound):
                await kept.batches.batches(ME, "batch_hosted_of_others", most=1)

        asyncio.run(main())


class TestLines:
    @pytest.mark.parametrize("junk", [b"1\n", b"\n", b"[]\n"], ids=repr)
    def test_an_input_of_millions_of_lines_is_not_read_to_its_end(
        self, kept: Kept, junk: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = 0

        def counting(line: Any) -> Any:
            nonlocal read
            read += 1
            raise InputError("no object")

        monkeypatch.setattr("host.service.batches.lines.read_request", counting)

        async def main() -> dict[str, Any]:
            batch = await kept.begin(content=junk * 2_000_000)
            await kept.one(batch).run()
            return kept.facts(batch)

        facts = asyncio.run(main())
        assert (facts["status"], facts["errors"]["data"][0]["code"]) == ("failed", "too_many_requests")
        assert read == 0

    def test_one_line_too_many_is_one_too_many(self, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hosted_work, "MOST_LINES", 3)

        async def main() -> tuple[dict[str, Any], dict[str, Any]]:
            found = []
            for lines in (3, 4):
                batch = await kept.begin(lines)
                await kept.one(batch).run()
                found.append(kept.facts(batch))
            return found[0], found[1]

        three, four = asyncio.run(main())
        assert three["status"] == "completed"
        assert (four["status"], four["errors"]["data"][0]["code"]) == ("failed", "too_many_requests")


class TestTaken:
    def test_a_process_whose_batch_another_has_taken_writes_nothing_more(self, kept: Kept) -> None:
        """Its lease had lapsed. Two writers of one line would count it twice, and break the file's length."""

        async def main() -> None:
            batch = await kept.begin(1)
            first, second = kept.one(batch), kept.one(batch)
            for one in (first, second):
                kept.store.change(batch, lambda now, one=one: with_facts(now, by=one._mark))
            second.write([BatchAnswer(1, b"{}", failed=False)])
            with pytest.raises(Busy, match="another process"):
                first.write([BatchAnswer(1, b"{}", failed=False)])
            with pytest.raises(Busy, match="another process"):
                await first._end(status="completed")
            assert first.lost
            await second._end(status="completed")
            facts = kept.facts(batch)
            assert facts["counts"][1] == 1
            assert await kept.lines(facts["output_file_id"]) == [{}]

        asyncio.run(main())

    def test_a_process_whose_lease_lapsed_stops_and_leaves_the_lease_to_the_other(
        self, kept: Kept, engine: Engine
    ) -> None:
        async def main() -> None:
            batch = await kept.begin(1)
            waiting = asyncio.Event()

            async def hangs(_: int) -> None:
                waiting.set()
                await asyncio.Event().wait()

            engine.ends = hangs
            running = asyncio.ensure_future(kept.batches._run(batch))
            await waiting.wait()
            kept.store.change(batch, lambda now: with_facts(now, by="another"))
            async with asyncio.timeout(late(20)):
                await running
            assert not kept.facts(batch)["ended"]
            assert kept.leases.released == []

        asyncio.run(main())

    def test_the_lease_is_renewed_while_the_input_is_checked(
        self, kept: Kept, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main() -> int:
            batch = await kept.begin(1)
            one = kept.one(batch)
            checked = one._checked

            def slowly() -> Any:
                latest = time.monotonic() + late(20)
                while len(kept.leases.taken) < 4 and time.monotonic() < latest:
                    time.sleep(0.01)
                return checked()

            monkeypatch.setattr(one, "_checked", slowly)
            await one.run()
            return len(kept.leases.taken)

        assert asyncio.run(main()) >= 4


def test_what_is_made_cancelled_and_deleted_is_on_record_before_it_is_done(kept: Kept, engine: Engine) -> None:
    async def main() -> list[tuple[str, str]]:
        batch = await kept.begin(1)
        file = str(kept.facts(batch)["input_file_id"])
        await kept.batches.cancel(ME, batch)
        await kept.one(batch).run()
        await kept.batches.delete_file(ME, file)
        with pytest.raises(NotFound):
            await kept.batches.delete_file(ME, file)
        return [("files.create", file), ("batches.create", batch), ("batches.cancel", batch), ("files.delete", file)]

    expected = asyncio.run(main())
    assert [(one.rule, one.detail["id"]) for one in kept.recording.events] == expected
    assert {(one.kind, one.detail["key"]) for one in kept.recording.events} == {("batch.asked", "")}


def test_an_error_that_nobody_foresaw_does_not_end_the_work_of_the_process(
    kept: Kept, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, times = kept.store.open_batches, 0

    def odd() -> list[tuple[str, str]]:
        nonlocal times
        times += 1
        if times == 1:
            raise ValueError("unforeseen")
        return real()

    monkeypatch.setattr(kept.store, "open_batches", odd)
    monkeypatch.setattr(hosted, "_LOOK_S", 0.01)

    async def main() -> None:
        batch = await kept.begin(1)
        await worked(kept, lambda: kept.facts(batch)["ended"])

    asyncio.run(main())
