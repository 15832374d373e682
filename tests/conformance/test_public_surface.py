"""`from host import …`: explicit, sorted, importable, and typed from a user's side."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import host
from tests.conftest import CACHE

USER = """
from host import Host, Policy, Secret


def models(path: str, key: str) -> int:
    with Host() as host:
        openai = host.load(
            path,
            policy=Policy(allowed_domains=["api.openai.com"], timeout="30s"),
            secrets={"OPENAI_API_KEY": Secret(key, domains=["api.openai.com"])},
        )
        result = openai.run({"operation": "models.list"})
        for event in openai.stream({"operation": "chat.completions.create", "params": {}}):
            print(event)
        return result.status if result.ok else len(result.execution.refusals)


async def later(path: str) -> bytes:
    from host import errors

    catalyst = Host().load(path)
    try:
        result = await catalyst.arun({"operation": "audio.speech"}, timeout=5.0)
        async for event in catalyst.astream({"operation": "responses.create"}):
            print(event)
    except errors.Denied as denied:
        return denied.refusals[0].remedy.encode()
    return result.content
"""


def declared() -> dict[str, str]:
    """Name -> module, as type checkers read it."""
    tree = ast.parse(Path(host.__file__).read_text())
    [block] = [one for one in tree.body if isinstance(one, ast.If)]
    found = {}
    for one in block.body:
        assert isinstance(one, ast.ImportFrom)
        [alias] = one.names
        assert alias.asname == alias.name, f"{alias.name} is not exported: write `import {alias.name} as {alias.name}`"
        found[alias.name] = str(one.module)
    return found


def test_what_type_checkers_see_is_what_is_imported() -> None:
    assert declared() == host._HOME


def test_the_names_are_sorted() -> None:
    assert host.__all__ == sorted(host.__all__)


@pytest.mark.parametrize("name", [name for name in host.__all__ if name != "errors"])
def test_a_public_name_is_there_and_lives_where_the_table_says(name: str) -> None:
    found = getattr(host, name)
    assert found.__module__ == host._HOME[name]
    assert found is getattr(import_module(host._HOME[name]), name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'host' has no attribute 'Hosts'"):
        host.Hosts  # noqa: B018 - the access is the test


@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param(USER, "Success: no issues found", id="the example passes"),
        pytest.param(
            "from host import Host\nHost().load('x').run({}).status + ''\n",
            "Unsupported operand types",
            id="a mistake does not: the types are there",
        ),
    ],
)
def test_a_users_file_is_checked_strictly(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "user.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(CACHE / "mypy"), "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert said in done.stdout, done.stdout + done.stderr
