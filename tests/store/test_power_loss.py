"""A loss of power leaves of each file what was synced, and of each folder the names that were. A state that loses power
at any moment opens again; one whose checkpoint files were cut by somebody does not."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from host.core.audit import Event
from host.core.names import Digest
from host.errors import AuditBroken, StateError
from host.store.audit_log import chain
from host.store.audit_log.log import AuditLog
from host.store.audit_log.records import records
from host.store.audit_log.verification import verify
from host.store.blobs import Blobs
from host.store.database import FILE, Database
from host.store.sql import delete, select, update
from host.store.tables import audit, rules
from host.store.vault.keys import Keys

HEADS = ("audit.head", "seal.head")


class LostPowerError(BaseException):
    pass


class Disk:
    """What of a state directory is on the disk: the content of each file and the names of each folder at their last
    sync. SQLite's own files count as synced. `after`: the power is lost at the sync with this number."""

    def __init__(self, after: int | None = None) -> None:
        self.after = after
        self.syncs = 0
        self._contents: dict[int, bytes] = {}
        self._names: dict[str, dict[str, int]] = {}

    def fsync(self, file: int) -> None:
        if self.syncs == self.after:
            raise LostPowerError
        self.syncs += 1
        path, found = os.readlink(f"/proc/self/fd/{file}"), os.fstat(file)
        if stat.S_ISDIR(found.st_mode):
            self._names[path] = {one.name: one.stat().st_ino for one in Path(path).iterdir()}
        else:
            self._contents[found.st_ino] = Path(path).read_bytes()

    def left(self, folder: Path, into: Path) -> Path:
        """The folder as it is after the loss."""
        into.mkdir(mode=0o700)
        for name, inode in self._names.get(str(folder), {}).items():
            if name.startswith(FILE):
                continue
            file = os.open(into / name, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(file, self._contents.get(inode, b""))
            os.close(file)
        for file in folder.glob(f"{FILE}*"):
            shutil.copy(file, into / file.name)
        return into


@contextmanager
def opened(state_dir: Path) -> Iterator[AuditLog]:
    with closing(Database.open(state_dir)) as database:
        yield AuditLog(database, Keys(state_dir), state_dir)


def change(audit_log: AuditLog, namespace: str) -> None:
    with audit_log.changing() as made:
        made.insert(rules, namespace=namespace, require_signature=True, threshold=1)
        made.record(Event("trust.ruled", namespace))


def work(audit_log: AuditLog, acknowledged: list[str]) -> None:
    for name in ("one", "two"):
        change(audit_log, name)
        acknowledged.append(name)
        audit_log.record(Event("log", f"run_{name}"))


def ruled(audit_log: AuditLog) -> list[str]:
    with audit_log.database.snapshot() as connection:
        audit_log.check(connection)
        return sorted(connection.execute(select(rules.c.namespace)).scalars())


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], Disk]:
    def made(after: int | None = None) -> Disk:
        disk = Disk(after)
        monkeypatch.setattr(os, "fsync", disk.fsync)
        return disk

    return made


@pytest.mark.parametrize("folder_is_there", [True, False])
def test_a_state_that_loses_power_at_any_sync_opens_with_all_that_was_acknowledged(
    tmp_path: Path, disk: Callable[[int | None], Disk], folder_is_there: bool
) -> None:
    number, lost = 0, True
    while lost:
        place = tmp_path / str(number)
        if folder_is_there:
            place.mkdir(mode=0o700)
        power, acknowledged = disk(number), list[str]()
        try:
            with opened(place) as audit_log:
                work(audit_log, acknowledged)
            lost = False
        except LostPowerError:
            pass
        left = power.left(place, tmp_path / f"{number}-left") if place.exists() else place
        disk(None)
        with opened(left) as audit_log:
            heads = (audit_log.checkpoint_file, audit_log.digest_file)
            assert [head.torn_at() for head in heads] == [None, None], "nothing was left to be mended"
            assert set(acknowledged) <= set(ruled(audit_log)), number
            change(audit_log, "after")
            audit_log.record(Event("log", "run_after"))
            verify(audit_log)
        number += 1
    assert number > 6


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A state with four records."""
    place = tmp_path / "made"
    with opened(place) as audit_log:
        work(audit_log, [])
    return place


def again(made: Path, number: object) -> Path:
    place = made.with_name(f"again-{number}")
    return Path(shutil.copytree(made, place))


LINE = chain._LINE_BYTES
CUTS = [*range(0, LINE - 1, 17), 19, 20, 21, 84, 85, 86, 107, 108, 109, LINE - 2]


@pytest.mark.parametrize("heads", [("audit.head",), ("seal.head",), HEADS], ids="+".join)
def test_a_head_that_is_cut_or_zeroed_when_the_state_is_made_is_mended(made: Path, heads: tuple[str, ...]) -> None:
    for cut in CUTS:
        for tail in (b"", bytes(LINE - cut)):
            place = again(made, f"{cut}-{len(tail)}")
            for head in heads:
                file = place / head
                file.write_bytes(file.read_bytes()[:cut] + tail)
            with opened(place) as audit_log:
                assert ruled(audit_log) == ["one", "two"]
                verify(audit_log)
                audit_log.record(Event("log", "run_after"))
                change(audit_log, "after")
                assert verify(audit_log).noted
                mended = [one for one in records(audit_log.database) if one.kind == "audit.mended"]
                assert len(mended) == ("audit.head" in heads)
            for head in heads:
                assert (place / head).stat().st_size == LINE
            shutil.rmtree(place)


def test_each_cut_of_a_line_is_torn_and_a_line_is_not(made: Path) -> None:
    line = (made / "audit.head").read_bytes()
    assert len(line) == LINE
    for cut in range(LINE - 1):
        assert chain._is_torn(line[:cut]), cut
        assert chain._is_torn(line[:cut] + bytes(LINE - cut)), cut
        assert chain._is_torn(bytes(cut + 1) + line[cut + 1 :]), cut
    assert not chain._is_torn(line)
    assert not chain._is_torn(line[:-1])


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda line: line.replace(line[21:25], b"beef", 1), id="another mac"),
        pytest.param(lambda line: b"0" * 19 + b"1" + line[20:], id="another number"),
        pytest.param(lambda line: b"garbage", id="something else"),
        pytest.param(lambda line: line[:60] + b"~" + line[61:100], id="a cut line with another letter"),
        pytest.param(lambda line: bytes(4096), id="more zeros than a line has"),
        pytest.param(lambda line: line.upper(), id="capitals"),
    ],
)
@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_was_changed_is_not_mended(made: Path, head: str, changed: Callable[[bytes], bytes]) -> None:
    file = made / head
    file.write_bytes(changed(file.read_bytes()))
    refused(made, head)


def refused(place: Path, head: str) -> None:
    with opened(place) as audit_log:
        if head == "seal.head":
            with pytest.raises(StateError):
                ruled(audit_log)
            with pytest.raises(StateError):
                change(audit_log, "after")
        else:
            with pytest.raises(AuditBroken):
                verify(audit_log)
            audit_log.record(Event("log", "run_after"))
        with pytest.raises(StateError):
            verify(audit_log)
        assert not [one for one in records(audit_log.database) if one.kind == "audit.mended"]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("content", [b"", bytes(LINE), b"0000"], ids=["empty", "zeros", "four letters"])
def test_a_head_that_somebody_cuts_later_is_evidence_whatever_time_they_give_it(
    made: Path, head: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "_SOON_S", 0.05)
    first = (made / head).stat().st_mtime
    time.sleep(0.2)
    (made / head).write_bytes(content)
    os.utime(made / head, (first, first))
    refused(made, head)


@pytest.mark.parametrize("cut_too", [True, False])
def test_a_log_that_was_cut_with_its_head_later_does_not_verify(
    made: Path, monkeypatch: pytest.MonkeyPatch, cut_too: bool
) -> None:
    monkeypatch.setattr(chain, "_SOON_S", 0.05)
    time.sleep(0.2)
    with opened(made) as audit_log, audit_log.database.writing() as connection:
        connection.execute(delete(audit).where(audit.c.seq == 4))
    if cut_too:
        (made / "audit.head").write_bytes(b"")
    refused(made, "audit.head")


def test_a_first_record_that_is_given_the_time_of_the_cut_does_not_help(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "_SOON_S", 0.05)
    time.sleep(0.2)
    (made / "seal.head").write_bytes(b"")
    with opened(made) as audit_log:
        with audit_log.database.writing() as connection:
            connection.execute(update(audit).where(audit.c.seq == 1).values(at=time.time()))
        with pytest.raises(StateError):
            ruled(audit_log)


def test_a_torn_head_is_not_mended_over_a_chain_that_does_not_verify(made: Path) -> None:
    (made / "audit.head").write_bytes(b"")
    with opened(made) as audit_log:
        with audit_log.database.writing() as connection:
            connection.execute(update(audit).where(audit.c.seq == 2).values(rule="changed"))
        audit_log.record(Event("log", "run_after"))
        with pytest.raises(AuditBroken):
            verify(audit_log)
    assert (made / "audit.head").read_bytes() == b""


@pytest.mark.parametrize("head", HEADS)
def test_the_words_tell_torn_from_changed_and_acceptance_ends_it(
    made: Path, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "_SOON_S", -1.0)
    (made / head).write_bytes(b"")
    with opened(made) as audit_log:
        with pytest.raises(StateError, match=rf"{head} is torn, by a crash or by somebody"):
            verify(audit_log)
        audit_log.accept()
        verify(audit_log)


def test_a_head_that_is_gone_is_not_mended(made: Path) -> None:
    (made / "seal.head").unlink()
    with opened(made) as audit_log, pytest.raises(StateError):
        ruled(audit_log)


def test_a_component_and_its_name_are_synced(tmp_path: Path, disk: Callable[[int | None], Disk]) -> None:
    power = disk(None)
    with (
        closing(Database.open(tmp_path)) as database,
        Blobs(database, tmp_path).prepared(Digest.of(b"bytes"), b"bytes", lambda _: None),
    ):
        pass
    left = power.left(tmp_path / "components", tmp_path / "left")
    assert [file.read_bytes() for file in left.iterdir()] == [b"bytes"]
