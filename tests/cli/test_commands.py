"""The program as a whole: what it says of itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import host
from host import errors
from host.cli import COMMANDS, main


def every(name: str) -> list[click.Command]:
    """The command, and those that it groups."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return [command, *(command.commands.values() if isinstance(command, click.Group) else ())]


def options(command: click.Command) -> list[click.Option]:
    return [one for one in command.params if isinstance(one, click.Option)]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["fake", "openai"]], ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    ran = CliRunner().invoke(main, [*command, "--help"])
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert ran.stdout.startswith("Usage: ")
    assert ran.stdout == CliRunner().invoke(main, [*command, "-h"]).stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_is_explained(name: str) -> None:
    for command in every(name):
        assert [option.opts for option in options(command) if not option.help] == []


def test_the_list_of_commands_fits_a_terminal() -> None:
    shown = CliRunner().invoke(main, ["--help"]).stdout
    listed = re.findall(
        r"^  ([a-z-]+)  +(\S.*)$", shown.partition("\nRun:\n")[2].partition("  Exit status")[0], re.MULTILINE
    )
    assert [name for name, _ in listed] == list(COMMANDS)
    assert all(words.endswith(".") and not words.endswith("...") for _, words in listed)


def test_help_says_what_each_exit_status_means() -> None:
    shown = CliRunner().invoke(main, ["--help"]).stdout
    documented = {int(found) for found in re.findall(r"^ +(\d+)  ", shown, re.MULTILINE)}
    kinds: list[type[errors.HostError]] = [errors.HostError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert documented == {0, 130} | {kind.exit_status for kind in kinds}


def test_inspect_takes_the_options_that_grant_authority_as_run_does() -> None:
    [run], [inspect] = every("run"), every("inspect")
    granting = {
        "policy_file",
        "allow_domain",
        "allow_private",
        "upstream",
        "secrets",
        "secret_to",
        "config",
        "allow_import",
    }
    assert {one.name for one in options(run)} >= granting
    assert {one.name for one in options(inspect)} == granting | {"in_json", "only_sbom", "pattern"}


def test_the_version_is_the_packages(process: Any) -> None:
    ran = process("--version")
    assert (ran.status, ran.out) == (0, f"host, version {host.__version__}\n")


def test_a_command_that_is_none_is_a_mistake(program: Any) -> None:
    ran = program("rnu")
    assert (ran.status, ran.out) == (2, "")
    assert "No such command 'rnu'" in ran.err


def test_the_list_of_documents_fits_a_terminal_uncut(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.cli.commands.docs.terminal_width", lambda: 80)
    ran = program("docs")
    listed = json.loads(program("docs", "--json").out)
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "…" not in ran.out
    assert [line.split()[0] for line in ran.out.splitlines()[1:]] == [one["name"] for one in listed]
    assert all(Path(one["file"]).is_file() for one in listed)
