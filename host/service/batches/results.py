"""Answers in files: the results, and the errors beside them. The files themselves say which lines are finished.

Each answer begins with the id of the batch and the number of its line. A group of answers is written, and then synced
to the disk, before it counts. What a kill or a loss of power left behind the last whole answer is cut off when the
batch goes on. A third file has the id of the batch and the digest of its input, and is locked by the process that
writes.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from host.core.strict_json import Json, parse_json
from host.errors import InputError, StateError
from host.service.batches.answers import BatchAnswer
from host.service.batches.lines import Checked, idempotency_key
from host.store.database import sync_folder

_LONGEST_HEAD: Final = 64 * 1024
_PIECE: Final = 1 << 20
_ID: Final = re.compile("[0-9a-f]{16}")
_BEGIN: Final = b'{"batch": "'  # of a record


@dataclass(frozen=True, slots=True)
class ResultPaths:
    """The file of the results, the one of the errors, and the `record` of the batch, which is locked."""

    results: Path
    errors: Path
    record: Path

    @classmethod
    def of(cls, source: str, results: str, errors: str | None = None) -> ResultPaths:
        """`out.jsonl` has its errors in `out.errors.jsonl`, unless they are given another file, and its record in
        `out.jsonl.batch`. `source` is the input. Raises InputError where two of them are one file."""
        place = Path(results)
        beside = place.with_name(f"{place.stem}.errors{place.suffix}")
        found = cls(place, Path(errors) if errors else beside, place.with_name(f"{place.name}.batch"))
        if len({one.resolve() for one in (Path(source), found.results, found.errors, found.record)}) < 4:
            raise InputError("the input, the results and the errors are three files", field="--output")
        if not place.absolute().parent.is_dir():
            raise InputError(f"--output: there is no directory {str(place.parent)!r}", field="--output")
        return found


class ResultFiles:
    """The files of one batch, opened and locked. To be used in a `with`. `batch` is its id; `answered` and `failed`
    count the lines that are finished. A `host.service.batches.work.AnswerSink`."""

    def __init__(self, paths: ResultPaths, checked: Checked, *, ordered: bool) -> None:
        """Begin the batch of this input, or go on with it. Raises InputError where the files are those of another
        input, or no results at all; StateError where another process writes, a file was changed or cannot be
        written."""
        self.paths = paths
        self.answered = self.failed = 0
        self._done = bytearray(checked.last // 8 + 1)  # a bit for each line
        self._lock = threading.Lock()
        self._files: list[IO[bytes]] = []
        self._sizes = [0, 0]  # of what is on the disk, of the results and of the errors
        self._record = _locked(paths.record, os.O_NOFOLLOW)
        try:
            self.batch = self._begun(checked, ordered=ordered)
            for place in (paths.results, paths.errors):
                self._files.append(_locked(place, buffering=0))  # what could not be written is nowhere else
            for at in (0, 1):
                self._recover(at, checked.last)
            sync_folder(paths.results.absolute().parent)
            sync_folder(paths.errors.absolute().parent)
        except BaseException:
            self.close()
            raise

    def is_done(self, number: int) -> bool:
        return bool(self._done[number >> 3] & 1 << (number & 7))

    @property
    def done(self) -> int:
        return self.answered + self.failed

    def write(self, answers: Sequence[BatchAnswer]) -> None:
        with self._lock:
            groups = [[one.text for one in answers if one.failed is failed] for failed in (False, True)]
            try:
                for at, texts in enumerate(groups):
                    if texts:
                        self._append(at, b"".join([text + b"\n" for text in texts]))
            except OSError as error:
                self._cut_back()
                raise self._cannot_write(error) from None
            for at, texts in enumerate(groups):
                self._sizes[at] += sum(len(text) + 1 for text in texts)
            for one in answers:
                self._mark(one.number, failed=one.failed)

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._record.close()

    def _begun(self, checked: Checked, *, ordered: bool) -> str:
        """The id of the batch: of the one that is there, or a new one."""
        facts = {"input": f"sha256:{checked.digest}", "lines": checked.lines, "ordered": ordered}
        text = self._record.read(_LONGEST_HEAD)
        filled = [one for one in (self.paths.results, self.paths.errors) if one.exists() and one.stat().st_size]
        if filled and text.endswith(b"\n"):
            return self._same(text, facts)
        if filled:
            raise InputError(
                f"{str(filled[0])!r} is there already, and not of a batch that was begun",
                field="--output",
                hint="name another file, or move it away",
            )
        batch = secrets.token_hex(8)
        if text.endswith(b"\n") and facts.items() <= (known := self._known(text)).items():
            return str(known["batch"])  # what was under way was sent with its id
        torn = text.rstrip(b"\0")
        if not torn.startswith(_BEGIN[: len(torn)]) or len(text) >= _LONGEST_HEAD:
            raise self._no_record()
        try:
            self._record.seek(0)
            self._record.truncate()
            self._record.write(json.dumps({"batch": batch, **facts}).encode() + b"\n")
            self._record.flush()
            os.fsync(self._record.fileno())
        except OSError as error:
            raise self._cannot_write(error) from None
        return batch

    def _known(self, text: bytes) -> dict[str, Json]:
        known = parse_json(text, str(self.paths.record)) if text.startswith(_BEGIN) else None
        if not isinstance(known, dict) or not _ID.fullmatch(str(known.get("batch"))):
            raise self._no_record()
        return known

    def _no_record(self) -> InputError:
        name = str(self.paths.record)
        return InputError(f"{name!r} is no record of a batch", field="--output", hint="name another file")

    def _same(self, text: bytes, facts: Mapping[str, Json]) -> str:
        known = self._known(text)
        if known.get("input") != facts["input"]:
            raise InputError(
                f"the results in {str(self.paths.results)!r} are those of another input: it had {known.get('lines')} "
                f"lines, and this one has {facts['lines']} or other ones",
                field="--output",
                hint="go on with the input as it was; for this one name another file",
            )
        if known.get("ordered") != facts["ordered"]:
            was = "with" if known.get("ordered") else "without"
            raise InputError(f"the batch was begun {was} --ordered", field="--ordered", hint=f"go on {was} it")
        return str(known["batch"])

    def _recover(self, at: int, last: int) -> None:
        """Mark the lines that are finished in the file `at`, and cut off what is behind the last whole one."""
        file = self._files[at]
        begins = re.compile(rb'\{"id":"%s(\d{1,15})",' % idempotency_key(self.batch, 0)[:-1].encode())
        good = at_byte = 0
        for text in _whole_lines(file):
            at_byte += len(text)
            found = begins.match(text)
            if b"\0" in text:
                break  # a loss of power: what was not synced has a hole, and nothing behind it was finished
            if found is None or not text.endswith(b"}\n"):
                continue  # it has to be at the end
            number = int(found[1])
            if good != at_byte - len(text) or not 0 < number <= last or self.is_done(number):
                raise StateError(
                    f"{file.name!r} was changed: it is not as this batch has written it",
                    hint="put it back as it was; or begin anew, with another --output",
                )
            self._mark(number, failed=bool(at))
            good = at_byte
        try:
            file.truncate(good)
            file.seek(good)
            os.fsync(file.fileno())
        except OSError as error:
            raise self._cannot_write(error) from None
        self._sizes[at] = good

    def _mark(self, number: int, *, failed: bool) -> None:
        self._done[number >> 3] |= 1 << (number & 7)
        self.failed += failed
        self.answered += not failed

    def _append(self, at: int, content: bytes) -> None:
        file = self._files[at]
        view = memoryview(content)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())

    def _cut_back(self) -> None:
        """Half an answer would be cut off by whoever goes on; readers are to see none either."""
        for file, size in zip(self._files, self._sizes, strict=True):
            try:
                file.truncate(size)
                file.seek(size)
            except OSError:
                continue

    def _cannot_write(self, error: OSError) -> StateError:
        return StateError(
            f"the answers cannot be written: {error.strerror}",
            hint=f"{self.done} lines are finished and kept; the same command goes on once there is room",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _locked(place: Path, more: int = 0, *, buffering: int = -1) -> IO[bytes]:
    """A file that this user alone reads, locked for as long as it is open: by whatever name another process opens it,
    and no longer once this one is killed. `more`: flags."""
    try:
        number = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | more, 0o600)
        file = open(number, "r+b", buffering=buffering)  # noqa: PTH123, SIM115 - with its mode from the start; `close` closes it
    except OSError as error:
        raise InputError(f"cannot write {str(place)!r}: {error.strerror}", field="--output") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(file.fileno(), 0o600)  # it may have been there
    except BlockingIOError:
        file.close()
        raise StateError(
            f"another process is at work on this batch: it holds {str(place)!r}", hint="wait for its end"
        ) from None
    except OSError as error:
        file.close()
        raise InputError(f"cannot write {str(place)!r}: {error.strerror}", field="--output") from None
    return file


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines that have an end."""
    file.seek(0)
    rest = b""
    while piece := file.read(_PIECE):
        *whole, rest = (rest + piece).split(b"\n")
        for one in whole:
            yield one + b"\n"
