"""Guests that are not ours run unmodified: the contract is what counts, not who compiled against it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from host import Catalyst, Host, Policy, errors
from host.fakes import FakeOpenAI
from tests.conftest import KEY, javascript_guest, wat


def _node() -> int:
    """The major version of the Node.js that is here; 0 where there is none, or no npm."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return 0
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.removeprefix("v").partition(".")[0])


pytestmark = pytest.mark.timeout(1200)  # npm installs a compiler

in_javascript = pytest.mark.skipif(_node() < 20, reason="needs Node.js 20 or newer, and npm")


@pytest.fixture
def catalyst(host: Host, fake: FakeOpenAI) -> Catalyst:
    policy = Policy(allowed_domains=["api.openai.com"], upstreams={"https://api.openai.com": fake.url})
    return host.load(javascript_guest(), policy=policy, secrets={"OPENAI_API_KEY": KEY})


@in_javascript
def test_a_catalyst_in_javascript_imports_cyfr_alone(catalyst: Catalyst) -> None:
    assert set(catalyst.imports) == {"cyfr:http/fetch@0.1.0", "cyfr:http/streaming@0.1.0", "cyfr:secrets/read@0.1.0"}


@in_javascript
def test_a_catalyst_in_javascript_gets_its_answers(catalyst: Catalyst, fake: FakeOpenAI) -> None:
    result = catalyst.run({"operation": "models.list", "params": {}})
    assert result.ok
    assert result.data["object"] == "list"
    assert fake.requests[-1]["headers"]["authorization"] == f"Bearer {KEY}"


@in_javascript
def test_a_catalyst_in_javascript_reads_a_stream_to_its_end(catalyst: Catalyst) -> None:
    chat = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
    result = catalyst.run({"operation": "chat.completions.create", "params": chat, "stream": True})
    assert result.ok
    assert result.data["combined_text"]


@in_javascript
def test_a_catalyst_in_javascript_is_bound_by_the_same_policy(host: Host) -> None:
    with pytest.raises(errors.Denied) as caught:
        host.load(javascript_guest(), secrets={"OPENAI_API_KEY": KEY}).run({"operation": "models.list", "params": {}})
    assert caught.value.refusals[0].kind == "domain_blocked"


def test_a_catalyst_with_the_imports_of_a_rust_build_runs(host: Host) -> None:
    assert host.load(wat("rust_like")).run({}).as_dict() == {"status": 200, "data": {"environment": "empty"}}


def test_a_catalyst_with_the_imports_of_the_preview_1_adapter_runs_with_no_flag(host: Host) -> None:
    """As CYFR's gemini and web are built: the adapter brings `wasi:filesystem` along."""
    catalyst = host.load(wat("adapter_like"))
    assert [name for name in catalyst.imports if name.startswith("wasi:filesystem/")] != []
    assert catalyst.run({}).as_dict() == {"status": 200, "data": 0}
