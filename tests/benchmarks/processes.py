"""Whole processes: `host run` on a warm cache, against the same call by the official SDK, both against one fake."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from tests.benchmarks.measure import CHAT, COMPONENT, KEY, MODELS, ORIGIN, PROGRAM, fake_openai, ms, table

COUNT = 15
SDK = "import json, sys; from openai import OpenAI; client = OpenAI(max_retries=0); "
CALLS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "models.list": (MODELS, "print(client.models.list().to_json())"),
    "chat.completions.create": (
        CHAT,
        "print(client.chat.completions.create(**json.loads(sys.argv[1])['params']).to_json())",
    ),
}


def ran(argv: list[str], env: Mapping[str, str]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of one process, which has to succeed."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(argv, env=dict(env), check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def measured(arguments: Mapping[str, list[str]], env: Mapping[str, str]) -> dict[str, list[tuple[float, float]]]:
    """Each of them once unmeasured, then in turns."""
    for argv in arguments.values():
        ran(argv, env)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in arguments}
    for _ in range(COUNT):
        for name, argv in arguments.items():
            taken[name].append(ran(argv, env))
    return taken


def main() -> None:
    rows = []
    with fake_openai() as url:
        env = {**os.environ, "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{url}/v1"}
        sent = ["--upstream", f"{ORIGIN}={url}", "--allow-domain", "api.openai.com", "--secret", "OPENAI_API_KEY"]
        for name, (operation, call) in CALLS.items():
            text = json.dumps(operation)
            arguments = {
                "host run": [str(PROGRAM), "run", str(COMPONENT), *sent, "--input", text],
                "openai SDK": [sys.executable, "-c", SDK + call, text],
                "python -c pass": [sys.executable, "-c", "pass"],
            }
            taken = measured(arguments, env)
            for program, times in taken.items():
                wall, cpu = zip(*times, strict=True)
                rows.append([name, program, ms(statistics.median(wall)), ms(min(wall)), ms(statistics.median(cpu))])
            ratio = [statistics.median(wall for wall, _ in taken[program]) for program in ("host run", "openai SDK")]
            rows.append([name, "host run / SDK", f"{ratio[0] / ratio[1]:.2f}", "", ""])
    table(f"Whole processes, {COUNT} each in turns", ["call", "program", "median ms", "best ms", "CPU ms"], rows)


if __name__ == "__main__":
    main()
