"""Reference tables and examples say what the code says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

import host
from host import Policy
from host.cli.commands.docs import DOCUMENTS
from host.core.installation import shipped
from host.core.quantities import parse_size
from host.server import ServerSettings
from host.server.settings import _Batches, _Budget, _Document, _Failover, _Target
from tests.conformance.references import TABLES, UNDECIDED, renewed
from tests.conftest import ROOT

EXAMPLES = ROOT / "host" / "examples"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_reference_is_as_the_code_has_it(name: str) -> None:
    text = (ROOT / TABLES[name][0]).read_text()
    assert text == renewed(text, name), "python -m tests.conformance.references writes it anew"
    assert UNDECIDED not in text, "a row lacks its words"


# Examples ------------------------------------------------------------------------------------------------------------


def uncommented() -> dict[str, object]:
    """The example with the settings in it that are commented out, and without the comments."""
    return tomllib.loads(
        re.sub(r"^# (?=[a-z_]+ = |\[)", "", (EXAMPLES / "server.toml").read_text(), flags=re.MULTILINE)
    )


def test_the_example_of_settings_has_every_one_of_them() -> None:
    document = uncommented()
    assert set(document) == set(_Document.model_fields)
    assert set(document["budgets"]["c:local.openai"]) == set(_Budget.model_fields)
    assert set(document["batches"]) == set(_Batches.model_fields)
    assert set(document["failover"]["gpt-4o"]) == set(_Failover.model_fields)
    assert set(document["failover"]["gpt-4o"]["targets"][0]) == set(_Target.model_fields)


def test_the_example_of_settings_shows_the_defaults_and_changes_none() -> None:
    assert ServerSettings.read(EXAMPLES / "server.toml") == ServerSettings()
    shown = ServerSettings.from_document(uncommented())
    for name in (one.name for one in fields(ServerSettings) if isinstance(one.default, int)):
        assert getattr(shown, name) == getattr(ServerSettings(), name), name
    assert parse_size(uncommented()["max_body_size"]) == ServerSettings().max_body_bytes


def test_the_servers_readme_has_every_setting() -> None:
    text = (ROOT / "host/server/README.md").read_text()
    table = text[text.index("## Settings") : text.index("## Keys")]
    for name in _Document.model_fields:
        assert f"`{name}" in table or f"`…{name.removeprefix('max_unknown_connections')}`" in table, name
    for name in _Budget.model_fields:
        assert f"`{name}`" in table, name


def test_the_example_of_a_policy_is_one() -> None:
    policy = Policy.parse((EXAMPLES / "policy.toml").read_text())
    assert policy.allowed_domains == ["api.openai.com"]


def test_the_unit_is_one_that_systemd_accepts(tmp_path: Path) -> None:
    """Its program is where it says in a copy."""
    text = (EXAMPLES / "catalyst-host.service").read_text()
    start = re.search(r"^ExecStart=(\S+) (.+)$", text, re.MULTILINE)
    assert start
    program = Path(sys.executable).with_name("host")
    helped = subprocess.run([program, "serve", "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert all(option in helped for option in re.findall(r"--[a-z-]+", start[2]))
    if (checker := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not here")
    (unit := tmp_path / "catalyst-host.service").write_text(text.replace(start[1], str(program)))
    done = subprocess.run([checker, "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_image_copies_is_there_and_is_all_that_the_wheel_needs() -> None:
    text = (EXAMPLES / "Containerfile").read_text()
    lines = re.sub(r"\\\n", " ", text).splitlines()
    copied = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    for name in copied:
        assert (ROOT / name).exists(), name
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*built["packages"], *built["force-include"], built["hooks"]["custom"]["path"], ".ci/openai.py"}
    needed |= {"pyproject.toml", "constraints.txt", PROJECT["readme"]}
    needed |= {name for name in PROJECT["license-files"] if name.partition("/")[0] not in built["packages"]}
    assert set(copied) == needed
    assert {line.split()[0] for line in lines if line and line[0] not in "# "} <= {
        "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD",
    }  # fmt: skip
    extras = re.search(r"'\.\[([a-z,]+)\]'", text)
    assert extras
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    for line in lines:
        if line.startswith(("ENTRYPOINT", "CMD")):
            assert all(isinstance(word, str) for word in json.loads(line.partition(" ")[2]))


# What an installation has --------------------------------------------------------------------------------------------


def test_every_document_is_shipped_and_every_example_is_one() -> None:
    for name, (part, _) in DOCUMENTS.items():
        assert shipped(part), name
    assert {file.name for file in EXAMPLES.iterdir()} <= set(DOCUMENTS)


def test_the_version_and_the_changelog_agree() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert host.__version__ == PROJECT["version"]
    released = [one for one in headings if one != "Unreleased"]
    assert not released or released[0].startswith(PROJECT["version"]), "the newest release is the version"
    assert headings[0] == "Unreleased" or released


def test_the_addresses_of_the_project_lead_to_its_changelog_and_to_where_weaknesses_are_reported() -> None:
    if (urls := PROJECT.get("urls")) is None:
        pytest.skip("the project has no public address yet")
    assert {"Source", "Changelog", "Security"} <= set(urls)
    assert urls["Changelog"].endswith("CHANGELOG.md")
    assert all(url.startswith("https://") for url in urls.values())


def test_an_operator_is_told_what_an_upgrade_asks_of_them() -> None:
    assert "\n## Upgrading\n" in (ROOT / "host/store/README.md").read_text()
