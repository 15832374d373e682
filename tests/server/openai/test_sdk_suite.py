"""The official Python SDK's own tests of its resources, with the gateway as their server.

They come with its source distribution, of the version that is installed, from the package registry. The upstream
answers with every field that a type has, and the tests hold each answer to that type.

A developer's machine may lack a way to the registry: then the test is skipped. With MUST_RUN set, as by `.ci/run`, it
fails there.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree as ET

import pytest

from host.fakes.openai.specification import operations
from host.runtime.workspace import Workspace
from tests.conftest import CACHE, ROOT
from tests.server.conftest import Server, open_to_all
from tests.server.openai.shaped import ShapedUpstream

WITHOUT_TESTS = {"POST /v1/realtime/sessions", "POST /v1/realtime/transcription_sessions"}
PLUGIN = Path(__file__).with_name("sdk_suite.py")


@pytest.fixture(scope="module")
def suite() -> Path:
    """The folder of the SDK's source distribution."""
    name = f"openai-{version('openai')}"
    place = CACHE / "openai-python" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=place.parent) as made:
                with tarfile.open(_downloaded(Path(made))) as archive:
                    archive.extractall(made, filter="data")
                (Path(made) / name).rename(place)
    return place


def not_here(why: str) -> NoReturn:
    """Skips the test, for `why`; fails it where it must run."""
    if os.environ.get("MUST_RUN"):
        pytest.fail(f"{why}; MUST_RUN is set")
    pytest.skip(f"{why}: it runs where the registry is reached, and MUST_RUN=1 makes this a failure")


def _downloaded(folder: Path) -> Path:
    """The archive, which is the one that `constraints.txt` knows."""
    pinned = re.search(
        rf"^openai=={version('openai')} (?:\\\n.*)+", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
    if pinned is None:
        not_here("constraints.txt pins another version of the SDK than the one that is installed")
    wanted = folder / "wanted.txt"
    wanted.write_text(pinned[0])
    options = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes", "--retries", "1"]
    argv = [sys.executable, "-m", "pip", "download", "--quiet", *options, "--dest", str(folder), "-r", str(wanted)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert "HASH" not in done.stderr, done.stderr
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2][:200]
        not_here(f"the SDK's tests are not at the package registry, or it is not reached ({said})")
    [archive] = folder.glob("*.tar.gz")
    return archive


def test_where_it_must_run_a_registry_that_is_not_reached_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PIP_INDEX_URL", "http://127.0.0.1:9/simple"), ("PIP_TIMEOUT", "1"), ("PIP_RETRIES", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("MUST_RUN", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"it is not reached.*MUST_RUN=1 makes this a failure"):
        _downloaded(tmp_path)
    monkeypatch.setenv("MUST_RUN", "1")
    with pytest.raises(pytest.fail.Exception, match="it is not reached"):
        _downloaded(tmp_path)


def outcome(report: Path) -> tuple[int, dict[str, str]]:
    """How many tests there were, and why each failed that did."""
    cases = list(ET.parse(report).getroot().iter("testcase"))
    failed = {
        f"{case.get('classname')}.{case.get('name')}": (one.get("message") or "")[:300]
        for case in cases
        for one in case
        if one.tag in ("failure", "error")
    }
    return len(cases), failed


def test_the_sdk_s_own_tests_pass_through_the_gateway(
    suite: Path, workspace: Workspace, server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    report = tmp_path / "report.xml"
    options = ["-c", os.devnull, "--rootdir", ".", "--noconftest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    chosen = ["--whole"] if request.config.getoption("--whole-sdk-suite") else ["-k", "strict"]
    argv = [sys.executable, "-m", "pytest", *options, "-p", PLUGIN.stem, "--junitxml", str(report), *chosen]
    with ShapedUpstream() as upstream:
        key = open_to_all(workspace, server, upstream.url)
        env = {"PYTHONPATH": str(PLUGIN.parent), "TEST_API_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": key}
        argv += ["tests/api_resources"]
        done = subprocess.run(
            argv, cwd=suite, env={**os.environ, **env}, capture_output=True, text=True, timeout=590, check=False
        )
        asked = set(upstream.asked)
    assert report.exists(), done.stdout[-2_000:] + done.stderr[-2_000:]
    count, failed = outcome(report)
    assert failed == {}, f"{len(failed)} of {count}"
    assert count > len(operations())
    assert {f"{verb} {path}" for verb, path in operations()} - asked == WITHOUT_TESTS
