"""Whole processes: `host run` of a file and of what is installed, on a warm cache, against the same call by the official
SDK, all against one fake."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host.core.names import Reference, SecretName
from host.runtime.loader import Loader
from host.runtime.workspace import Workspace
from tests.benchmarks.measure import CHAT, COMPONENT, KEY, MODELS, ORIGIN, PROGRAM, fake_openai, ms, table

COUNT = 15
REFERENCE = "c:local.openai"
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


def install(state: Path, cache: Path, url: str) -> None:
    """The catalyst, with what it needs for the calls kept in `state`; compiled in `cache`."""
    with Workspace.open(state) as workspace:
        component = workspace.register(COMPONENT, Loader(cache, state), reference=Reference.parse(f"{REFERENCE}:0.1.0"))
        policy = {"allowed_domains": ["api.openai.com"], "upstreams": {ORIGIN: url}}
        workspace.policies.update(component.reference, policy)
        workspace.grants.grant(component.reference, SecretName.parse("OPENAI_API_KEY"))


def programs(operation: Mapping[str, Any], call: str, url: str) -> dict[str, list[str]]:
    text = json.dumps(operation)
    sent = ["--upstream", f"{ORIGIN}={url}", "--allow-domain", "api.openai.com", "--secret", "OPENAI_API_KEY"]
    return {
        "host run FILE": [str(PROGRAM), "run", str(COMPONENT), *sent, "--input", text],
        "host run REF": [str(PROGRAM), "run", REFERENCE, "--input", text],
        "openai SDK": [sys.executable, "-c", SDK + call, text],
        "python -c pass": [sys.executable, "-c", "pass"],
    }


def main() -> None:
    rows = []
    with fake_openai() as url, tempfile.TemporaryDirectory() as folder:
        state, cache = Path(folder, "state"), Path(folder, "cache")
        install(state, cache, url)
        env = {**os.environ, "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{url}/v1"}
        env |= {"HOST_STATE_DIR": str(state), "HOST_CACHE_DIR": str(cache)}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode
        for name, (operation, call) in CALLS.items():
            taken = measured(programs(operation, call, url), env)
            for program, times in taken.items():
                wall, cpu = zip(*times, strict=True)
                rows.append([name, program, ms(statistics.median(wall)), ms(min(wall)), ms(statistics.median(cpu))])
    table(f"Whole processes, {COUNT} each in turns", ["call", "program", "median ms", "best ms", "CPU ms"], rows)


if __name__ == "__main__":
    main()
