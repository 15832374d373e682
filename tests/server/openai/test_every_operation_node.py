"""Every method of the official Node SDK through the gateway: its request arrives at the upstream as it would without us."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host.runtime.workspace import Workspace
from tests.catalyst.openai.arguments import SDK, File
from tests.catalyst.openai.test_every_operation import OPERATIONS, Sent, arguments_of, recording, without_boundary
from tests.conftest import KEYS, with_packages
from tests.server.conftest import Server, open_to_all

SOURCES = Path(__file__).parent / "node"
LACKING = (  # in this version of it: the beginnings of the names
    *(
        "admin.organization.external_",
        "admin.organization.workload_identity_providers.",
        "admin.organization.usage.decisions",
    ),
    *("admin.organization.projects.api_keys.update", "admin.organization.projects.service_tier_settings."),
    *(
        "audio.voice_consents.",
        "audio.voices.",
        "beta.agents.",
        "beta.chat.",
        "content_provenance_checks.",
        "decisions.",
    ),
    *("live.", "realtime.calls.create", "realtime.translations.", "safety.", "webhooks."),
)
ELSEWHERE = {"evals.runs.cancel"}  # which it asks for at another path than the Python SDK of today
OTHER_KEY = "fine_tuning.checkpoints.permissions."  # for which it sends the admin key, and the Python SDK does not

pytestmark = pytest.mark.node


def for_node(value: Any) -> Any:
    """`value` as JSON, a file as `{"$file": base64, "filename"}`."""
    if isinstance(value, File):
        return {"$file": value.ours["data"], "filename": value.filename}
    if isinstance(value, dict):
        return {getattr(name, "wire", name): for_node(one) for name, one in value.items()}
    return [for_node(one) for one in value] if isinstance(value, list) else value


def rows(*, stream: bool) -> Iterator[dict[str, Any]]:
    known = {row["name"]: row for row in SDK.operations()}
    for _, _, name in OPERATIONS:
        row = known[name]
        if name not in {"files.retrieve_content", *ELSEWHERE} and (not stream or row.get("stream")):
            params = for_node(arguments_of(row, least=False, stream=stream))
            yield {"name": name, "path": re.findall(r"{(\w+)}", row["path"]), "params": params}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_every_method_s_request_arrives_as_the_node_sdk_sends_it(
    workspace: Workspace, server: Server, *, stream: bool
) -> None:
    installed = with_packages("openai-node", SOURCES)
    asked = list(rows(stream=stream))
    with recording() as first, recording() as second:
        key = open_to_all(workspace, server, f"http://127.0.0.1:{second.server_port}")
        own = {"apiKey": KEYS["OPENAI_API_KEY"], "adminAPIKey": KEYS["OPENAI_ADMIN_KEY"]}
        clients = {
            "direct": {"baseURL": f"http://127.0.0.1:{first.server_port}/v1", **own},
            "through": {"baseURL": f"{server.url}/v1", "apiKey": key, "adminAPIKey": key},
        }
        program = ["node", "every_operation.mjs"]
        done = subprocess.run(
            program, cwd=installed, input=json.dumps({"clients": clients, "rows": asked}), capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        theirs, ours = ([without_boundary(one) for one in recorder.sent] for recorder in (first, second))
    found = json.loads(done.stdout)
    lacking = {name for name, one in found.items() if one is None}
    wrong = {name: one for name, one in found.items() if one and one["direct"] != one["through"]}
    assert wrong == {}
    assert len(theirs) == len(ours)
    called = [name for name, one in found.items() if one is not None]
    assert len(called) == len(theirs), [name for name, one in found.items() if one and one["direct"]]
    different = [
        f"{name}: {field}:\n  {getattr(mine, field)!r}\n  {getattr(their, field)!r}"
        for name, mine, their in zip(called, ours, theirs, strict=True)
        for field in Sent._fields
        if getattr(mine, field) != getattr(their, field) and not (field == "headers" and name.startswith(OTHER_KEY))
    ]
    assert not different, "\n".join(different)
    assert lacking == {name for name in found if name.startswith(LACKING)}
    assert len(called) == (12 if stream else 279)
