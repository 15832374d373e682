"""Where a client's operations run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from host import Catalyst, Host, Policy, Reference, errors
from host.fakes import FakeOpenAI
from host.openai import home, official
from tests.conftest import CACHE, ROOT, fresh_state
from tests.openai.conftest import KEYS, to


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOST_CACHE_DIR", str(CACHE / "host"))
    state = fresh_state(tmp_path / "state")
    monkeypatch.setenv("HOST_STATE_DIR", str(state))
    return state


@pytest.mark.usefixtures("own_state", "openai_wasm")
def test_with_a_policy_it_is_the_catalyst_that_comes_with_the_host(fake: FakeOpenAI) -> None:
    with (
        official.OpenAI(policy=to(fake.url), secrets=KEYS) as one,
        official.OpenAI(policy=to(fake.url), secrets=KEYS) as two,
    ):
        assert one.models.list().data
        one.close()
        assert two.models.list().data
        assert home._SHARED._host is not None
    assert home._SHARED._host is None


@pytest.mark.usefixtures("own_state", "openai_wasm")
@pytest.mark.parametrize("kind", [official.OpenAI, official.AsyncOpenAI])
def test_a_client_that_cannot_be_made_leaves_nothing_open(fake: FakeOpenAI, kind: Any) -> None:
    with pytest.raises(TypeError, match="max_retries cannot be None"):
        kind(policy=to(fake.url), secrets=KEYS, max_retries=None)
    assert home._SHARED._host is None


@pytest.mark.usefixtures("own_state")
@pytest.mark.parametrize("of", ["the shared host", "a host"])
def test_where_nothing_is_installed_the_error_says_what_to_do(of: str) -> None:
    with Host() as host, pytest.raises(errors.NotFound, match="no catalyst for OpenAI is installed") as caught:
        official.OpenAI(host if of == "a host" else None)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("host register openai")
    assert home._SHARED._host is None


@pytest.mark.usefixtures("own_state")
def test_a_reference_names_an_installed_one() -> None:
    with Host() as host, pytest.raises(errors.NotFound, match=r"acme\.other"):
        official.OpenAI(host.installed("c:acme.other").reference)
    with pytest.raises(errors.NotFound, match=r"acme\.openai"):
        official.OpenAI(Reference.parse("c:acme.openai"))


def test_a_loaded_catalyst_takes_no_grant(catalyst: Catalyst) -> None:
    given: Any
    for given in ({"policy": Policy()}, {"secrets": {}}, {"config": {}}):
        with pytest.raises(errors.InputError, match="this one is loaded"):
            official.OpenAI(catalyst, **given)
    with pytest.raises(errors.InputError, match="cannot run in a str"):
        official.OpenAI("sk-a-key")  # type: ignore[arg-type]


@pytest.mark.usefixtures("own_state", "openai_wasm")
def test_a_program_that_closes_nothing_ends(fake: FakeOpenAI) -> None:
    script = (
        "from host import Policy; from host.openai import OpenAI\n"
        f"policy = Policy(allowed_domains=['api.openai.com'], upstreams={{'https://api.openai.com': {fake.url!r}}})\n"
        f"client = OpenAI(policy=policy, secrets={KEYS!r})\n"
        "print(client.models.list().data[0].id)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "gpt-4\n"), done.stderr
    assert "Traceback" not in done.stderr
