"""`python -m tests.benchmarks [audit_log|bodies|components|crowd|egress|gateway|loading|processes|redaction|runs|summary] …`: tables, and nothing that could fail. All
by default; `summary` writes the table of speed in the README.

Numbers of different runs don't compare unless the machine was as idle both times: each table measures both sides of
what it compares in turns. Needs `dist/openai.wasm` (`./build.sh build`).
"""

from __future__ import annotations

import os
import platform
import sys

from tests.benchmarks import audit_log, bodies, components, egress, loading, processes, redaction, runs, summary
from tests.benchmarks.gateway import comparison, crowd
from tests.benchmarks.measure import COMPONENT

TABLES = {
    "processes": processes.main,
    "runs": runs.main,
    "bodies": bodies.main,
    "components": components.main,
    "loading": loading.main,
    "egress": egress.main,
    "redaction": redaction.main,
    "audit_log": audit_log.main,
    "summary": summary.main,
    "gateway": comparison.main,
    "crowd": crowd.main,
}


def main(names: list[str]) -> None:
    if unknown := set(names) - set(TABLES):
        sys.exit(f"there is no benchmark {', '.join(sorted(unknown))}: there are {', '.join(TABLES)}")
    if not COMPONENT.exists():
        sys.exit(f"{COMPONENT} is not there: ./build.sh build")
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}, {platform.machine()}")
    for name in names or TABLES:
        TABLES[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
