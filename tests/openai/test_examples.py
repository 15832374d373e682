"""Every example of host/openai/README.md, against the fake, one after another as a reader types them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from host.fakes import FakeOpenAI
from tests.conftest import CACHE, ROOT, fresh_state

FILE = ROOT / "host" / "openai" / "README.md"
TEXT = FILE.read_text()
PORT = "http://127.0.0.1:4747"
KINDS = {  # that the examples use, as the API divides its operations
    "chat", "responses", "completions", "embeddings", "moderations", "models", "images", "audio", "files", "uploads",
    "batches", "fine_tuning", "vector_stores", "beta", "realtime", "admin",
}  # fmt: skip


class Example(NamedTuple):
    line: int
    source: str


EXAMPLES = [
    Example(TEXT[: found.start()].count("\n") + 1, found[1])
    for found in re.finditer(r"```python\n(.*?)```", TEXT, re.DOTALL)
]


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Example], None]]:
    """Runs an example, after those before it: a test process that begins in the middle runs them as well."""
    folder = tmp_path_factory.mktemp("reader")
    known: dict[str, Any] = {"__name__": "reader"}
    done: list[Example] = []
    with FakeOpenAI() as fake, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOST_CACHE_DIR", str(CACHE / "host"))
        patch.setenv("HOST_STATE_DIR", str(fresh_state(folder / "state")))
        patch.chdir(folder)

        def up_to(example: Example) -> None:
            while example not in done:
                following = EXAMPLES[len(done)]
                done.append(following)
                source = following.source.replace(PORT, fake.url)
                exec(compile(source, f"{FILE}:{following.line}", "exec"), known)

        yield up_to
        known["client"].close()


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # of some operations the SDK says so
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: f"line {one.line}")
def test_an_example_works(
    example: Example, typed: Callable[[Example], None], capsys: pytest.CaptureFixture[str]
) -> None:
    typed(example)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert "sk-demo" not in said.out + said.err


def test_there_is_an_example_for_every_api() -> None:
    assert set(re.findall(r"(?:client|later)\.(\w+)\.", TEXT)) >= KINDS


def test_every_error_of_the_table_is_one_of_the_sdk() -> None:
    import openai

    named = set(re.findall(r"`(\w+Error)`", TEXT[TEXT.index("## Errors") :]))
    assert len(named) == 8
    assert all(issubclass(getattr(openai, name), openai.APIStatusError) for name in named)
