"""The audit record: what one entry costs its writer, alone and beside others, and what verifying one costs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from host.core.audit import Event
from host.store.audit_log.log import AuditLog
from host.store.audit_log.verification import verify
from host.store.database import Database
from host.store.vault.keys import Keys
from tests.benchmarks.measure import table
from tests.conftest import ROOT
from tests.store.postgres import running_postgres

COUNT, ROUNDS = 2_000, 3
DETAIL = {"method": "POST", "url": "https://api.openai.com/v1/chat/completions", "request_bytes": 123}


@contextmanager
def opened(folder: Path, url: str | None) -> Iterator[AuditLog]:
    with closing(Database.open(folder, url)) as database:
        yield AuditLog(database, Keys(folder), folder)


def write(audit_log: AuditLog, count: int) -> None:
    for _ in range(count):
        audit_log.record(Event("http.request", "run_0123456789abcdef01234567", "allow", "api.openai.com", DETAIL))


def in_threads(audit_log: AuditLog, number: int) -> float:
    threads = [threading.Thread(target=write, args=(audit_log, COUNT // number)) for _ in range(number)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def in_processes(folder: Path, url: str | None, number: int) -> float:
    argv = [sys.executable, "-m", "tests.benchmarks.audit_log", str(folder), url or "", str(COUNT // number)]
    processes = [subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(number)]
    for process in processes:
        process.stdout.readline()  # type: ignore[union-attr]  # it is a pipe
    began = time.perf_counter()
    for process in processes:
        process.communicate(b"go\n")
    return time.perf_counter() - began


def measured(folder: Path, url: str | None) -> Iterator[tuple[str, float]]:
    """What was measured, and its seconds for COUNT entries: the best of the rounds."""
    with opened(folder, url) as audit_log:
        for number in (1, 8, 64):
            name = "1 thread" if number == 1 else f"{number} threads"
            yield name, min(in_threads(audit_log, number) for _ in range(ROUNDS))
        yield "2 processes", min(in_processes(folder, url, 2) for _ in range(ROUNDS))
        began = time.perf_counter()
        found = verify(audit_log)
        yield "verify", (time.perf_counter() - began) * COUNT / found.records


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder, running_postgres() as server:
        for name, url in (("SQLite", None), ("PostgreSQL", server.create())):
            for what, seconds in measured(Path(folder) / name, url):
                rows.append([name, what, f"{seconds / COUNT * 1e6:.0f}", f"{COUNT / seconds:,.0f}"])
    table("The audit record (PostgreSQL without fsync)", ["database", "by", "µs an entry", "entries a second"], rows)


def _work(folder: str, url: str, count: str) -> None:
    with opened(Path(folder), url or None) as audit_log:
        print("ready", flush=True)
        sys.stdin.readline()
        write(audit_log, int(count))


if __name__ == "__main__":
    _work(*sys.argv[1:])
