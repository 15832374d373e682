"""`host serve`, set up by the lines of the README: each request in a fresh sandbox, with its records in SQLite."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.gateway.servers import Server, free_port, running
from tests.benchmarks.measure import COMPONENT, KEY, ORIGIN, PROGRAM
from tests.conftest import fresh_state

REFERENCE = "c:local.openai"


def set_up(state: Path, component: Path, upstream: Server) -> dict[str, str]:
    """All that it needs, kept in `state`, which is new: returns the environment that the program finds it by."""
    env = {"HOST_STATE_DIR": str(fresh_state(state))}
    lines: list[tuple[list[str], str]] = [
        (["register", str(component)], ""),
        (["secret", "set", "OPENAI_API_KEY"], KEY),
        (["secret", "grant", REFERENCE, "OPENAI_API_KEY"], ""),
        (["policy", "set", REFERENCE, "allowed_domains", '["api.openai.com"]'], ""),
        (["policy", "set", REFERENCE, "upstreams", json.dumps({ORIGIN: f"http://127.0.0.1:{upstream.port}"})], ""),
    ]
    for arguments, typed in lines:
        host(env, *arguments, typed=typed)
    return env


def host(env: dict[str, str], *arguments: str, typed: str = "") -> str:
    """What `host ARGUMENTS` prints."""
    done = subprocess.run(
        [str(PROGRAM), *arguments], env={**os.environ, **env}, input=typed, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, f"host {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def shared_by_key(env: dict[str, str]) -> dict[str, str]:
    """The headers of a key whose operations share a sandbox."""
    host(env, "policy", "set", REFERENCE, "isolation", "key")
    return {"Authorization": f"Bearer {host(env, 'key', 'create', '--name', 'load', '--type', 'secret')}"}


@contextmanager
def host_serve(
    upstream: Server,
    folder: Path,
    *,
    workers: int = 1,
    component: Path = COMPONENT,
    name: str = "host serve",
    shared: bool = False,
) -> Iterator[Server]:
    """In a state of its own below `folder`; `shared`: with isolation = "key". Raises DidNotStart."""
    env = set_up(folder / f"state-{workers}{'-shared' if shared else ''}", component, upstream)
    port = free_port()
    argv = [str(PROGRAM), "serve", "--port", str(port)]
    if workers > 1:
        argv += ["--workers", str(workers)]
        name = f"{name} --workers {workers}"
    if shared:
        name = f"{name}, isolation = key"
    with running(name, argv, port, folder, env=env, headers=shared_by_key(env) if shared else None) as server:
        yield server
