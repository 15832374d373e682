"""Answers in files: what outlives a kill, a loss of power and a full disk."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from host.errors import InputError, StateError
from host.service.batches.answers import BatchAnswer
from host.service.batches.lines import Checked, idempotency_key
from host.service.batches.results import ResultFiles, ResultPaths
from tests.conftest import ROOT
from tests.server.conftest import until
from tests.service.batches.program import work

MANY = 4_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "in.jsonl"
    operation = {"operation": "models.list"}
    file.write_text("".join(json.dumps({"custom_id": f"n{n}", **operation}) + "\n" for n in range(1, MANY + 1)))
    return file


@pytest.fixture
def paths(source: Path, tmp_path: Path) -> ResultPaths:
    return ResultPaths.of(str(source), str(tmp_path / "out.jsonl"))


def started(source: Path, paths: ResultPaths, *options: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.service.batches.program", str(source), str(paths.results), *options]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def whole_lines(file: Path) -> list[bytes]:
    return file.read_bytes().split(b"\n")[:-1] if file.exists() else []


def names(*files: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for file in files for line in whole_lines(file)]


EVERY = [f"n{number}" for number in range(1, MANY + 1)]


@pytest.mark.parametrize("options", [[], ["ordered"]], ids=["as they come", "ordered"])
def test_after_kills_every_line_is_there_once_and_few_were_run_again(
    source: Path, paths: ResultPaths, options: list[str]
) -> None:
    seen: dict[str, bytes] = {}
    for least in (MANY // 10, MANY // 3, MANY // 2):
        with started(source, paths, *options) as running:
            until(lambda least=least: len(whole_lines(paths.results)) >= least)
            running.kill()
        finished = {json.loads(one)["id"]: one for one in whole_lines(paths.results)}
        assert seen.items() <= finished.items(), "what was finished stays as it was"
        seen = finished
    with started(source, paths, *options) as running:
        assert running.wait() == 0
    assert Counter(names(paths.results, paths.errors)) == Counter(EVERY)
    assert names(paths.errors) == [one for one in names(paths.errors) if int(one[1:]) % 7 == 0]
    asked = source.with_suffix(".asked").read_text().split()
    assert {*asked} == {*EVERY}
    assert len(asked) - MANY <= 3 * (16 + 64), "those that were under way, or not yet on the disk"
    if options:
        assert names(paths.results) == [one for one in EVERY if int(one[1:]) % 7]


def test_on_a_full_disk_it_stops_with_a_remedy_and_goes_on_once_there_is_room(source: Path, paths: ResultPaths) -> None:
    with started(source, paths, "50000") as running:
        said, _ = running.communicate()
    assert running.returncode == StateError.exit_status
    assert "File too large" in said
    assert "the same command goes on once there is room" in said
    kept = whole_lines(paths.results)
    assert len(kept) > 100
    assert paths.results.read_bytes().endswith(b"\n"), "readers see no half of an answer"
    with started(source, paths) as running:
        assert running.wait() == 0
    assert whole_lines(paths.results)[: len(kept)] == kept
    assert Counter(names(paths.results, paths.errors)) == Counter(EVERY)


def test_a_long_input_takes_no_more_memory_than_a_short_one(source: Path, paths: ResultPaths, tmp_path: Path) -> None:
    short = tmp_path / "short.jsonl"
    short.write_text("".join(source.read_text().splitlines(keepends=True)[:100]))
    long = tmp_path / "long.jsonl"
    filler = "x" * 4_000
    with long.open("w") as file:
        for number in range(8_000):
            file.write(json.dumps({"custom_id": f"n{number}", "operation": "models.list", "more": filler}) + "\n")
    assert long.stat().st_size > 32_000_000
    used = []
    for number, one in enumerate((short, long)):
        with started(one, ResultPaths.of(str(one), str(tmp_path / f"{number}.jsonl"))) as running:
            said, _ = running.communicate()
        used.append(int(said) * 1024)
    assert used[1] - used[0] < 8_000_000


class TestRecovered:
    def answer(self, batch: str, number: int, *, failed: bool = False) -> BatchAnswer:
        text = f'{{"id":"{idempotency_key(batch, number)}","custom_id":"n{number}","response":null,"error":null}}'
        return BatchAnswer(number, text.encode(), failed)

    @pytest.fixture
    def opened(self, paths: ResultPaths) -> Callable[..., ResultFiles]:
        return lambda *, ordered=False: ResultFiles(paths, Checked("a" * 64, 9, 9), ordered=ordered)

    @pytest.fixture
    def some(self, opened: Callable[..., ResultFiles]) -> str:
        """Lines 1 to 3 are finished, the second failed."""
        with opened() as files:
            files.write([self.answer(files.batch, 1), self.answer(files.batch, 2, failed=True)])
            files.write([self.answer(files.batch, 3)])
            return files.batch

    def test_what_is_finished_is_known_again(self, opened: Callable[..., ResultFiles], some: str) -> None:
        with opened() as files:
            assert files.batch == some
            assert [number for number in range(10) if files.is_done(number)] == [1, 2, 3]
            assert (files.answered, files.failed) == (2, 1)

    @pytest.mark.parametrize(
        "torn", [b"{", b'{"id":"batch_req_', b"\0" * 100, b'{"id":"x"}\n', b"\0" * 10 + b"}\n", b"\n"], ids=repr
    )
    def test_what_is_behind_the_last_whole_answer_is_cut_off(
        self, opened: Callable[..., ResultFiles], some: str, paths: ResultPaths, torn: bytes
    ) -> None:
        whole = paths.results.read_bytes()
        paths.results.write_bytes(whole + torn)
        with opened() as files:
            assert files.done == 3
            files.write([self.answer(some, 4)])
        assert paths.results.read_bytes() == whole + self.answer(some, 4).text + b"\n"

    def test_a_hole_after_a_loss_of_power_ends_what_is_finished(
        self, opened: Callable[..., ResultFiles], some: str, paths: ResultPaths
    ) -> None:
        first, second = paths.results.read_bytes().splitlines(keepends=True)
        paths.results.write_bytes(first + b"\0" * (len(second) - 2) + b"}\n" + self.answer(some, 5).text + b"\n")
        with opened() as files:
            assert [number for number in range(10) if files.is_done(number)] == [1, 2]

    @pytest.mark.parametrize("changed", ["twice", "foreign", "beyond"])
    def test_a_file_that_somebody_changed_is_refused(
        self, opened: Callable[..., ResultFiles], some: str, paths: ResultPaths, changed: str
    ) -> None:
        line = self.answer(some, {"twice": 1, "foreign": 4, "beyond": 10}[changed]).text + b"\n"
        with paths.results.open("ab") as file:
            file.write(b"{}\n" + line if changed == "foreign" else line)
        with pytest.raises(StateError, match="was changed"):
            opened()

    def test_another_process_is_kept_out(self, opened: Callable[..., ResultFiles]) -> None:
        with opened(), pytest.raises(StateError, match="another process is at work"):
            opened()

    def test_another_order_is_refused(self, opened: Callable[..., ResultFiles], some: str) -> None:
        with pytest.raises(InputError, match="begun without --ordered"):
            opened(ordered=True)

    def test_a_batch_that_was_killed_before_its_first_answer_keeps_its_id(
        self, opened: Callable[..., ResultFiles]
    ) -> None:
        """What was under way has been sent with it."""
        with opened() as files:
            batch = files.batch
        with opened() as files:
            assert files.batch == batch

    def test_a_record_that_was_torn_when_it_was_made_is_made_anew(
        self, opened: Callable[..., ResultFiles], paths: ResultPaths
    ) -> None:
        paths.record.write_bytes(b'{"batch": "0123')
        with opened() as files:
            assert files.done == 0

    @pytest.mark.parametrize(
        "content",
        [b"precious line\n" * 10_000, b"no end of the line", b"a line\n", b'{"batches": 1}'],
        ids=["long", "without an end", "short", "other JSON"],
    )
    def test_a_file_with_the_name_of_the_record_is_not_written_over(
        self, opened: Callable[..., ResultFiles], paths: ResultPaths, content: bytes
    ) -> None:
        paths.record.write_bytes(content)
        with pytest.raises(InputError, match="no record of a batch"):
            opened()
        assert paths.record.read_bytes() == content

    def test_a_link_with_the_name_of_the_record_is_not_followed(
        self, opened: Callable[..., ResultFiles], paths: ResultPaths, tmp_path: Path
    ) -> None:
        victim = tmp_path / "victim"
        victim.touch()
        paths.record.symlink_to(victim)
        with pytest.raises(InputError, match="cannot write"):
            opened()
        assert victim.read_bytes() == b""

    def test_two_batches_do_not_write_one_file_by_two_names(
        self, opened: Callable[..., ResultFiles], paths: ResultPaths, source: Path, tmp_path: Path
    ) -> None:
        link = tmp_path / "link.jsonl"
        link.symlink_to(paths.results)
        with opened() as files:
            files.write([self.answer(files.batch, 1), self.answer(files.batch, 2, failed=True)])
            for results, errors in ((link, None), (tmp_path / "other.jsonl", str(paths.errors))):
                other = ResultPaths.of(str(source), str(results), errors)
                with pytest.raises((StateError, InputError), match=r"another process|is there already"):
                    ResultFiles(other, Checked("a" * 64, 9, 9), ordered=False)
        assert len(whole_lines(paths.results)) == len(whole_lines(paths.errors)) == 1

    def test_two_batches_that_begin_do_not_write_one_file_by_two_names(
        self, opened: Callable[..., ResultFiles], paths: ResultPaths, source: Path, tmp_path: Path
    ) -> None:
        link = tmp_path / "link.jsonl"
        link.symlink_to(paths.results)
        with opened():
            for results, errors in ((link, None), (tmp_path / "other.jsonl", str(paths.errors))):
                other = ResultPaths.of(str(source), str(results), errors)
                with pytest.raises(StateError, match="another process"):
                    ResultFiles(other, Checked("a" * 64, 9, 9), ordered=False)

    def test_files_that_were_there_become_this_users_alone(
        self, opened: Callable[..., ResultFiles], paths: ResultPaths
    ) -> None:
        for one in (paths.results, paths.errors, paths.record):
            one.touch()
            one.chmod(0o644)
        with opened():
            assert {one.stat().st_mode & 0o777 for one in (paths.results, paths.errors, paths.record)} == {0o600}

    def test_files_are_this_users_alone(
        self, opened: Callable[..., ResultFiles], some: str, paths: ResultPaths
    ) -> None:
        for one in (paths.results, paths.errors, paths.record):
            assert one.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("other", ["in.jsonl", "out.jsonl"])
def test_the_input_is_not_written_over(tmp_path: Path, other: str) -> None:
    with pytest.raises(InputError, match="three files"):
        ResultPaths.of(str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), str(tmp_path / other))


def test_an_input_that_is_changed_while_it_is_read_ends_in_an_error(
    source: Path, paths: ResultPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked(*arguments: object) -> Checked:
        found = check(*arguments)
        text = source.read_text()
        source.write_text(text.replace("models.list", "files.list."))
        return found

    check = sys.modules["tests.service.batches.program"].check_input
    monkeypatch.setattr("tests.service.batches.program.check_input", checked)
    with pytest.raises(InputError, match="changed while it was read"):
        asyncio.run(work(source, paths.results))
