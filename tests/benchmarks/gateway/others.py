"""Other people's gateways: installed into `.cache/bench` on first use, and started so that they do as little as they can.

Neither is asked for a key, keeps a record, counts money or looks anything up outside: what is measured is the way of a
request through them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from tests.benchmarks.gateway.servers import Server, free_port, running
from tests.benchmarks.gateway.upstream import MODEL
from tests.benchmarks.measure import KEY
from tests.conftest import CACHE

LITELLM = "1.108.7"
PORTKEY = "1.15.2"
# npm would take later ones, with which Portkey answers each stream with 500 (its issue 1389).
HONO = {"@hono/node-server": "1.13.5", "@hono/node-ws": "1.2.0"}
QUIET = {  # of LiteLLM: no outside calls, no pages, no words
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # it takes any bearer, as ours does on loopback
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
    "DISABLE_ADMIN_UI": "True",
    "NO_DOCS": "True",
    "NO_REDOC": "True",
}
_PATIENCE_S = 600


class NotInstalled(Exception):
    """With what the installer said last."""


@contextmanager
def litellm(upstream: Server, folder: Path) -> Iterator[Server]:
    """One worker, as `host serve` has: it would take as many as there are cores. Raises NotInstalled, DidNotStart."""
    place = CACHE / "bench" / f"litellm-{LITELLM}"
    python = place / "bin" / "python"
    _install(
        place,
        [sys.executable, "-m", "venv", str(place)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"litellm[proxy]=={LITELLM}"],
    )
    parameters = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream.port}/v1", "api_key": KEY}
    config = folder / "litellm.yaml"  # JSON is YAML too
    config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": parameters}]}))
    port = free_port()
    argv = [str(python), str(place / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    with running(f"LiteLLM {LITELLM}", argv, port, folder, env=QUIET) as server:
        yield server


@contextmanager
def portkey(upstream: Server, folder: Path) -> Iterator[Server]:
    """It takes where to go from each request's headers, and trusts hosts of loopback of itself. Raises NotInstalled,
    DidNotStart."""
    place = CACHE / "bench" / f"portkey-{PORTKEY}"
    package = {"dependencies": {"@portkey-ai/gateway": PORTKEY}, "overrides": HONO}
    _install(
        place,
        ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(place)],
        files={"package.json": json.dumps(package)},
    )
    port = free_port()
    script = place / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    argv = ["node", str(script), f"--port={port}", "--headless"]
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{upstream.port}/v1"}
    env = {"NODE_ENV": "production"}
    with running(f"Portkey {PORTKEY}", argv, port, folder, env=env, headers=headers) as server:
        yield server


def _install(place: Path, *commands: Sequence[str], files: Mapping[str, str] = MappingProxyType({})) -> None:
    """Once: a folder in which it did not come to an end is begun anew."""
    finished = place / "installed"
    if finished.exists():
        return
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name, text in files.items():
        (place / name).write_text(text)
    print(f"installing {place.name} into {place.parent} …", file=sys.stderr, flush=True)
    for command in commands:
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_PATIENCE_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotInstalled(f"{command[0]}: {error}") from None
        if done.returncode != 0:
            raise NotInstalled(f"{' '.join(command)}\n{done.stdout[-1_000:]}")
    finished.touch()
