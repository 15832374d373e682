"""A program that is killed: `python -m tests.store.writer`.

For each line on its standard input, a JSON object, it starts a process that repeats `work` in `state_dir` and the
database at `url`. It kills that process (SIGKILL) `after_s` seconds after its report number `kept`, and prints all its
reports of stored data as a JSON list. All modules are imported before, so the time is spent on the work.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import psycopg

from host.core.audit import Event
from host.store import database, group_commit
from host.store.audit_log.log import AuditLog
from host.store.audit_log.verification import prune
from host.store.database import Database
from host.store.tables import rules
from host.store.vault.keys import Keys

LOADED = (psycopg,)  # the modules that the state imports on demand

Kept = Callable[[str], None]


def record(audit_log: AuditLog, kept: Kept, name: str) -> None:
    for number in count():
        audit_log.record(Event("log", f"{name}_{number}"))
        kept(f"{name}_{number}")


def change(audit_log: AuditLog, kept: Kept, name: str) -> None:
    """Each change with its record: both are stored, or neither."""
    for number in count():
        namespace = f"{name}_{number}"
        with audit_log.changing() as change:
            change.insert(rules, namespace=namespace, require_signature=True, threshold=1)
            change.record(Event("trust.ruled", namespace))
        kept(namespace)


def write(audit_log: AuditLog, kept: Kept) -> None:
    for work in (record, record, change):
        name = f"{work.__name__}{os.urandom(6).hex()}"
        threading.Thread(target=work, args=(audit_log, kept, name), daemon=True).start()
    threading.Event().wait()


def let_go(audit_log: AuditLog, kept: Kept) -> None:
    for number in count():
        audit_log.record(Event("log", f"run_{number}"))
        if number % 5 == 4:
            prune(audit_log, time.time())
            kept(str(number))


def work_until_killed(state_dir: Path, url: str | None, work: Callable[[AuditLog, Kept], None], into: int) -> None:
    database._BUSY_S = group_commit._BATCH_S = 60.0  # a busy machine lets one stand still that writes
    group_commit.GroupCommit.submit.__defaults__ = (60.0,)
    audit_log = AuditLog(Database.open(state_dir, url), Keys(state_dir), state_dir)
    work(audit_log, lambda said: os.write(into, f"{said}\n".encode()) and None)


def killed(
    state_dir: Path, url: str | None, work: Callable[[AuditLog, Kept], None], kept: int, after_s: float
) -> list[str]:
    out, into = os.pipe()
    child = os.fork()
    if not child:
        try:
            work_until_killed(state_dir, url, work, into)
        finally:
            os._exit(1)
    os.close(into)
    with open(out) as said:
        lines = [said.readline() for _ in range(kept)]
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        lines += said.readlines()
    assert os.WIFSIGNALED(status), f"it ended by itself, with {status}"
    return [line.strip() for line in lines]


def main() -> None:
    works = {"write": write, "let_go": let_go}
    for line in sys.stdin:
        given = json.loads(line)
        work = works[given["work"]]
        print(
            json.dumps(killed(Path(given["state_dir"]), given["url"], work, given["kept"], given["after_s"])),
            flush=True,
        )


if __name__ == "__main__":
    main()
