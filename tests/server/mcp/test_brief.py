"""The brief's two lines of curl, as they stand there: a plain POST with a key, and no handshake before it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.store.access.api_keys import ApiKeys
from tests.conftest import KEY
from tests.server.conftest import PATIENCE_S, Server

CHAT = """{
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
      "name": "execution",
      "arguments": {
        "action": "run",
        "reference": {"registry": "catalyst:local.openai:0.1.0"},
        "input": {
          "operation": "chat.completions.create",
          "params": {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 1024
          }
        },
        "type": "catalyst"
      }
    }
  }"""
MODELS = """{
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {
      "name": "execution",
      "arguments": {
        "action": "run",
        "reference": {"registry": "catalyst:local.openai:0.1.0"},
        "input": {"operation": "models.list", "params": {}},
        "type": "catalyst"
      }
    }
  }"""


def key(keys: ApiKeys) -> str:
    return keys.create(name="ci", type="secret")[1]


def curl(server: Server, bearer: str, body: str) -> tuple[str, dict[str, Any]]:
    """The answer's content type, and its body."""
    done = subprocess.run(
        [
            "curl", "-sS", "-X", "POST", f"{server.url}/mcp",
            "-H", "Content-Type: application/json",
            "-H", "MCP-Protocol-Version: 2025-11-25",
            "-H", f"Authorization: Bearer {bearer}",
            "-w", "\n%{http_code} %{content_type}",
            "-d", body,
        ],
        capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    answer, _, told = done.stdout.rpartition("\n")
    status, _, content_type = told.partition(" ")
    assert status == "200", done.stdout
    return content_type, json.loads(answer)


def test_the_brief_makes_a_chat_completion(server: Server, workspace: Workspace, fake: FakeOpenAI) -> None:
    content_type, answer = curl(server, key(workspace.api_keys), CHAT)
    assert content_type == "application/json"
    assert answer["id"] == 1
    result = answer["result"]
    assert not result["isError"]
    assert result["structuredContent"]["status"] == 200
    assert result["structuredContent"]["data"]["choices"][0]["message"]["content"]
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    [sent] = fake.requests
    assert sent["headers"]["authorization"] == f"Bearer {KEY}"
    assert sent["body"]["max_tokens"] == 1024


def test_the_brief_lists_models(server: Server, workspace: Workspace) -> None:
    content_type, answer = curl(server, key(workspace.api_keys), MODELS)
    assert content_type == "application/json"
    assert answer["id"] == 2
    data = answer["result"]["structuredContent"]["data"]
    assert "gpt-4o-mini" in {one["id"] for one in data["data"]}
