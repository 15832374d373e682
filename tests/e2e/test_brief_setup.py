"""The set-up that the project's brief shows for CYFR, with `host` in the place of `cyfr`: as it is typed there, line by
line. The fake stands in for OpenAI, by the one line that the brief lacks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from host.fakes import FakeOpenAI
from tests.conftest import KEY
from tests.e2e.conftest import Machine

SETUP = [
    "host register",
    f"host secret set OPENAI_API_KEY={KEY}",
    "host secret grant c:local.openai:0.1.0 OPENAI_API_KEY",
    """host policy set c:local.openai:0.1.0 allowed_domains '["api.openai.com"]'""",
]
USAGE = [
    """host run c:local.openai --input '{"operation": "models.list", "params": {}}'""",
    """host run c:local.openai --input '{"operation": "chat.completions.create", "params": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello in one word"}], "max_tokens": 1024}}'""",
    """host run c:local.openai --input '{"operation": "chat.completions.create", "params": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Write a haiku"}], "max_tokens": 1024}, "stream": true}'""",
    """host run c:local.openai --input '{"operation": "embeddings.create", "params": {"model": "text-embedding-3-small", "input": "Hello world"}}'""",
    """host run c:local.openai:0.1.0 --input '{"operation": "models.list", "params": {}}'""",
]


@pytest.fixture
def alice(machine: Callable[[str], Machine], openai_file: Path) -> Machine:
    one = machine("alice")
    shutil.copy(openai_file, one.home / "catalyst.wasm")
    return one


def test_the_briefs_set_up_and_its_calls_work_as_they_are_typed(alice: Machine, fake: FakeOpenAI) -> None:
    for line in SETUP:
        done = alice.types(line)
        assert done.status == 0, f"{line}\n{done.err}"
    upstreams = json.dumps({"https://api.openai.com": fake.url})
    assert alice.types(f"host policy set c:local.openai:0.1.0 upstreams '{upstreams}'").status == 0
    answers = []
    for line in USAGE:
        done = alice.types(line)
        assert done.status == 0, f"{line}\n{done.err}"
        assert KEY not in done.out + done.err
        answers.append(json.loads(done.out))
    models, chat, streamed, embeddings, again = (answer["data"] for answer in answers)
    assert models == again
    assert models["object"] == "list"
    assert chat["choices"][0]["message"]["content"]
    assert streamed["combined_text"] == "".join(
        chunk["choices"][0]["delta"].get("content") or "" for chunk in streamed["chunks"] if chunk["choices"]
    )
    assert len(embeddings["data"][0]["embedding"]) == 1536
    assert {request["headers"]["authorization"] for request in fake.requests} == {f"Bearer {KEY}"}
    assert KEY.encode() not in b"".join(file.read_bytes() for file in alice.state.rglob("*") if file.is_file())


def test_every_call_and_every_change_is_on_record_and_the_record_verifies(alice: Machine, fake: FakeOpenAI) -> None:
    for line in SETUP:
        alice.types(line)
    upstreams = json.dumps({"https://api.openai.com": fake.url})
    alice.types(f"host policy set c:local.openai:0.1.0 upstreams '{upstreams}'")
    alice.types(USAGE[0])
    kinds = [json.loads(line)["kind"] for line in alice.types("host audit export --format jsonl").out.splitlines()]
    for kind in ("component.registered", "component.approved", "secret.set", "secret.granted", "policy.changed"):
        assert kind in kinds
    assert kinds[kinds.index("run.started") :] == [
        "run.started", "secret.use", "http.request", "secret.use", "run.ended",  # asked for, and put into the request
    ]  # fmt: skip
    assert alice.types("host audit verify").status == 0
    runs = json.loads(alice.types("host runs list --json").out)
    assert [(run["reference"], run["status"]) for run in runs] == [("c:local.openai:0.1.0", 200)]


@pytest.mark.parametrize(
    ("left_out", "remedy"),
    [
        pytest.param(1, "host secret set OPENAI_API_KEY", id="the secret was not set"),
        pytest.param(2, "host secret grant c:local.openai OPENAI_API_KEY", id="nor granted"),
        pytest.param(3, """host policy set c:local.openai allowed_domains '["api.openai.com"]'""", id="no domain"),
    ],
)
def test_each_step_that_is_left_out_is_named_by_the_denial_that_comes_of_it(
    alice: Machine, fake: FakeOpenAI, left_out: int, remedy: str
) -> None:
    upstreams = json.dumps({"https://api.openai.com": fake.url})
    for line in SETUP[:left_out] + SETUP[left_out + 1 :]:
        assert alice.types(line).status == 0
    alice.types(f"host policy set c:local.openai:0.1.0 upstreams '{upstreams}'")
    denied = alice.types(USAGE[0])
    assert denied.status == 3
    assert remedy in denied.err
    assert fake.requests == []
    if left_out != 1:  # pasted, it is what was missing
        pasted = denied.err[denied.err.index("host ") :].splitlines()[0].removesuffix(")")
        assert alice.types(pasted).status == 0
        assert alice.types(USAGE[0]).status == 0
