"""Where the program runs: users without a name or a home, folders that are not there, streams that take nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import PATIENCE_S, PROGRAM, Ran
from tests.conftest import wat

UID = "54321"  # without an entry in the password file
TOOL = "c:local.tool"

# The user may read the interpreter, wherever that is, and write nothing of root's.
_AS_NOBODY = [
    "setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
]  # fmt: skip


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that another user may look into and write to, with a component in it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o777)
        (place / "tool.wasm").write_bytes(wat("hostile/returns_not_json"))
        (place / "read-only").mkdir(mode=0o555)
        yield place


@pytest.fixture
def as_nobody(open_place: Path) -> Any:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("another user's process takes root and setpriv")

    def run(*arguments: object, cwd: Path = Path("/"), **environ: str) -> Ran:
        return _ran([*_AS_NOBODY, str(PROGRAM), *map(str, arguments)], environ, cwd)

    return run


def _ran(command: list[str], environ: Mapping[str, str], cwd: Path) -> Ran:
    done = subprocess.run(
        command, env={"PATH": os.environ["PATH"], **environ}, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "HOST_STATE_DIR"),
        ({"HOME": ""}, "HOST_STATE_DIR"),
        ({"HOME": "relative"}, "HOST_STATE_DIR"),
        ({"HOME": "/"}, "'/.local/state/catalyst-host': Permission denied"),
        ({"HOME": "/nonexistent"}, "HOST_STATE_DIR"),
        ({"HOME": "{place}/read-only"}, "read-only/.local/state/catalyst-host': Permission denied"),
        ({"XDG_STATE_HOME": "relative"}, "HOST_STATE_DIR"),
        ({"XDG_STATE_HOME": "{place}/read-only"}, "HOST_STATE_DIR"),
        ({"HOST_STATE_DIR": "~/state"}, "HOST_STATE_DIR: '~/state'"),
    ],
    ids=str,
)
def test_a_user_without_a_home_runs_files_and_is_told_what_names_a_state(
    as_nobody: Any, open_place: Path, environ: dict[str, str], said: str
) -> None:
    environ = {name: value.format(place=open_place) for name, value in environ.items()}
    ran = as_nobody("list", **environ)
    assert (ran.status in (2, 6), ran.out) == (True, "")
    assert said in ran.err
    assert len(ran.err.splitlines()) == 2, "an error and a hint"
    if "HOST_STATE_DIR" not in environ:
        ran = as_nobody("run", open_place / "tool.wasm", "--input", "{}", **environ)
        assert (ran.status, ran.out, ran.err) == (0, '{"status":200,"data":{"raw":"not JSON"}}\n', "")


def test_a_user_without_an_entry_works_with_a_state_of_their_own(as_nobody: Any, open_place: Path) -> None:
    def works(*arguments: object) -> str:
        ran = as_nobody(*arguments, HOST_STATE_DIR=f"{open_place}/kept/state", TMPDIR="/nonexistent")
        assert ran.status == 0, f"{arguments}: {ran.err}"
        assert "Traceback" not in ran.err
        return str(ran.out)

    (open_place / "value").write_text("a-long-enough-value-0123456789")
    works("register", open_place / "tool.wasm", "--as", f"{TOOL}:0.1.0")
    works("secret", "set", "TOKEN", "--from", f"file:{open_place}/value")
    works("signing-key", "generate", "acme")
    assert "not JSON" in works("run", TOOL, "--input", "{}")
    assert TOOL in works("runs", "list")
    works("audit", "verify")
    works("mcp")
    assert os.stat(open_place / "kept" / "state").st_uid == int(UID)


@pytest.mark.parametrize(
    ("arguments", "environ", "status"),
    [
        (["list"], {"HOST_STATE_DIR": "{place}/state"}, 0),
        (["list"], {"HOST_STATE_DIR": "relative"}, 2),
        (["run", "{place}/tool.wasm", "--input", "{{}}"], {"HOME": "{place}"}, 0),
        (["run", "tool.wasm", "--input", "{{}}"], {"HOME": "{place}"}, 2),
        (["register"], {"HOME": "{place}"}, 2),
        (["mcp", "--help"], {"HOME": "{place}"}, 0),
        (["serve", "--default", "c:local.none"], {"HOME": "{place}"}, 2),
    ],
    ids=str,
)
def test_a_working_directory_that_has_gone_is_no_traceback(
    open_place: Path, arguments: list[str], environ: dict[str, str], status: int
) -> None:
    words = [str(PROGRAM), *(word.format(place=open_place) for word in arguments)]
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    ran = _ran(
        ["sh", "-c", script, "sh", *words], {k: v.format(place=open_place) for k, v in environ.items()}, open_place
    )
    assert (ran.status, "Traceback" in ran.err) == (status, False), ran.err


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LANG": "xx_YY"},
    ],
    ids=str,
)
def test_words_beyond_the_locale_are_escaped(process: Any, state: Path, locale: dict[str, str]) -> None:
    for arguments in (["run", "--help"], ["search", "…"]):
        ran = process(*arguments, env=locale)
        assert (ran.status, "Traceback" in ran.err) == (0, False), ran.err


KINDS = {
    "a run": 'run "$1" --input "{}"',
    "a stream": 'run "$1" --input "{}" --stream',
    "a result in JSON": 'run "$1" --input "{}" --json',
    "a table": "policy list",
    "lines": "audit export",
    "help": "--help",
    "the version": "--version",
    "an error in JSON": "runs show nothing --json",
}


@pytest.fixture
def shell(environ: dict[str, str], state: Path, guest_file: Any, program: Any) -> Any:
    assert program("policy", "set", TOOL, "timeout", "30s").status == 0
    file = guest_file("returns_not_json")

    def run(command: str) -> Ran:
        script = f'set -o pipefail; "$0" {command}'
        return _ran(["bash", "-c", script, str(PROGRAM), str(file)], environ, Path("/"))

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_that_cannot_be_written_is_an_error_and_words_are_not(shell: Any, kind: str) -> None:
    command = KINDS[kind]
    closed, full = shell(f"{command} >&-"), shell(f"{command} >/dev/full")
    for ran, why in ((closed, "closed"), (full, "No space left on device")):
        assert ran.status == 6, ran
        assert len(ran.err.splitlines()) <= 2
        assert "standard output" in ran.err
        assert why in ran.err


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full", "<&-"])
def test_a_result_is_written_whatever_else_is_closed(shell: Any, streams: str) -> None:
    assert [shell(f"{KINDS[kind]} {streams}").status for kind in ("a run", "a table")] == [0, 0]
    ran = shell(f"{KINDS['an error in JSON']} {streams}")
    assert (ran.status, ran.out[:9]) == (2, '{"error":')


@pytest.mark.parametrize("kind", ["a stream", "lines", "help", "an error in JSON"])
def test_a_reader_that_has_enough_is_no_error_to_speak_of(shell: Any, kind: str) -> None:
    ran = shell(f"{KINDS[kind]} 2>&1 | true")
    assert (ran.err, ran.status in (0, 1, 2)) == ("", True), ran


def test_what_has_no_result_does_its_work_without_a_standard_output(shell: Any) -> None:
    assert shell(f"policy set {TOOL} timeout 40s >&- 2>&-").status == 0
    assert "40s" in shell(f"policy show {TOOL}").out
