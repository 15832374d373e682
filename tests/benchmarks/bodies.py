"""What bodies of every size cost the guest: the least memory with which a run succeeds, and the CPU time of its thread, in
which the host's own copying is, too."""

from __future__ import annotations

import statistics

from host import Host
from tests.benchmarks.measure import COMPONENT, ms, table
from tests.catalyst.openai.test_every_operation import ANSWER, recording
from tests.e2e.test_large_bodies import MIB, Runs, embedded, embeddings, in_parts, upload

ROUNDS = 5


def main() -> None:
    cases = {
        "a file of 1 kB": (upload(1_000), ANSWER),
        "a file of 25 MB": (upload(25_000_000), ANSWER),
        "9 MiB in 2 parts": (in_parts(9 * MIB), ANSWER),
        "100 MiB in 13 parts": (in_parts(100 * MIB), ANSWER),
        "1 embedding": (embeddings("float", 1), embedded("float", 1)),
        "2,048 embeddings as floats": (embeddings("float", 2_048), embedded("float", 2_048)),
        "2,048 embeddings as base64": (embeddings("base64", 2_048), embedded("base64", 2_048)),
    }
    rows = []
    with recording() as recorder, Host() as host:
        runs = Runs(host, COMPONENT, recorder)
        for name, (asked, answer) in cases.items():
            least = runs.least_memory(asked, answer)
            meters = [runs(asked, answer).execution.meters for _ in range(ROUNDS)]
            cpu = statistics.median(one.cpu_time_s for one in meters)
            moved = meters[0].sent_bytes + meters[0].received_bytes
            rows.append([name, f"{moved / 1e6:.1f}", f"{least / MIB:.1f}", ms(cpu), str(meters[0].host_calls)])
    table("Large bodies", ["", "MB moved", "least memory, MiB", "CPU ms", "host calls"], rows)
