"""Every operation by `host run`: what arrives upstream is what the official SDK sends for the same arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.catalyst.openai.arguments import File, given_to_us
from tests.catalyst.openai.test_every_operation import (
    OPERATIONS,
    Sent,
    arguments_of,
    call,
    methods,  # noqa: F401 - fixtures
    of_one,
    recorder,  # noqa: F401
    rows,  # noqa: F401
)
from tests.conftest import KEYS
from tests.server.engine import SharedLoader

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's own, of what it calls deprecated

DEPRECATED = "files.retrieve_content"  # a form of files.content that asks for JSON and gets bytes
AS_PROCESSES = (
    "models.list",
    "files.create",
    "images.edit",
    "admin.organization.projects.list",
    "realtime.calls.create",
)


class CommandLine:
    """`host run` with all that the catalyst may have, and its files in a folder."""

    def __init__(self, run: Callable[..., Any], component: Path, folder: Path, port: int) -> None:
        self._run = run
        self._component = component
        self._folder = folder
        self._upstream = f"https://api.openai.com=http://127.0.0.1:{port}"

    def __call__(self, operation: str, arguments: dict[str, Any], *more: str) -> Any:
        attached: list[str] = []
        params = self._with_files(arguments, attached)
        granted = ["--allow-domain", "api.openai.com", *(option for name in KEYS for option in ("--secret", name))]
        asked = {"operation": operation, "params": given_to_us(params)}
        text = json.dumps(asked, ensure_ascii=False, separators=(",", ":"))  # what is given is sent as it was written
        options = ["--upstream", self._upstream, "--no-prompt", "--input", text, *attached, *more]
        return self._run("run", self._component, *granted, *options, env=KEYS)

    def _with_files(self, value: Any, attached: list[str]) -> Any:
        """`value` with an attachment for each file that has a name: the others have none on a disk."""
        if isinstance(value, File) and value.filename:
            name = f"f{len(attached)}"
            path = self._folder / name / value.filename
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(value.content)
            attached += ["--attach", f"{name}={path}"]
            return {"$attachment": name}
        if isinstance(value, list):
            return [self._with_files(one, attached) for one in value]
        return (
            {key: self._with_files(one, attached) for key, one in value.items()} if isinstance(value, dict) else value
        )


@pytest.fixture
def by_program(
    program: Any, openai_file: Path, tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> CommandLine:  # fmt: skip
    """Within this process, where the component is loaded once and not 400 times."""
    monkeypatch.setattr("host.runtime.loader.Loader", SharedLoader)
    return CommandLine(program, openai_file, tmp_path, recorder.server_port)


@pytest.fixture
def by_process(process: Any, openai_file: Path, tmp_path: Path, recorder: Any) -> CommandLine:  # noqa: F811
    return CommandLine(process, openai_file, tmp_path, recorder.server_port)


def differences(
    run: CommandLine, methods: dict[str, Any], recorder: Any, row: dict[str, Any], *, stream: bool  # noqa: F811
) -> Iterator[str]:  # fmt: skip
    arguments = arguments_of(row, least=False, stream=stream)
    call(methods, row, arguments)
    theirs = of_one(recorder)
    ran = run(row["name"], arguments, *(["--stream"] if stream else []))
    if ran.status != 0:
        recorder.sent.clear()
        yield f"{row['name']}: {ran.status}: {ran.err}{ran.out}"[:500]
        return
    ours = of_one(recorder)
    for field in Sent._fields:
        if getattr(theirs, field) != getattr(ours, field):
            yield f"{row['name']}: {field}:\n  {getattr(theirs, field)!r}\n  {getattr(ours, field)!r}"


def test_every_operation_sends_what_the_official_sdk_sends(
    by_program: CommandLine, methods: Any, rows: Any, recorder: Any  # noqa: F811 - the fixtures
) -> None:  # fmt: skip
    names = [name for _, _, name in OPERATIONS if name != DEPRECATED]
    assert len(names) == 395
    found = [text for name in names for text in differences(by_program, methods, recorder, rows[name], stream=False)]
    assert not found, "\n".join(found)


def test_every_operation_that_streams_asks_for_it(
    by_program: CommandLine, methods: Any, rows: Any, recorder: Any  # noqa: F811 - the fixtures
) -> None:  # fmt: skip
    streaming = [row for row in rows.values() if "stream" in row]
    assert len(streaming) == 15
    found = [text for row in streaming for text in differences(by_program, methods, recorder, row, stream=True)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", AS_PROCESSES)
def test_as_a_process_it_sends_the_same(
    by_process: CommandLine, methods: Any, rows: Any, recorder: Any, name: str  # noqa: F811 - the fixtures
) -> None:  # fmt: skip
    assert not list(differences(by_process, methods, recorder, rows[name], stream=False))
