"""One vocabulary over the whole command line: what a thing is called in one command, it is called in all."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from host.cli import main
from host.cli.options import AliasedOption

# What a value is, by the word that stands for it in the help. A size would be a SIZE.
WORDS = {
    "ADDRESS": "an IP address or a name to listen on",
    "CIDR": "a network: 10.0.0.0/8",
    "COMMAND": "a program and its arguments",
    "DATE": "2026-11-20, or 2026-11-20T17:00",
    "DIGEST": "sha256:…",
    "DIR": "a folder",
    "DOMAIN": "api.openai.com, *.example.com",
    "DURATION": "500ms, 30s, 5m, 1h, 90d",
    "FIELD": "of a policy",
    "FILE": "a path",
    "GLOB": "gpt-*",
    "HEAD": "of the audit log",
    "ID": "of a run",
    "JSON": "any JSON",
    "KEY": "of a configuration, or a public key",
    "KIND": "of an audit record",
    "METHOD": "of HTTP",
    "MODEL": "an upstream's model",
    "N": "a number",
    "NAME": "of a secret, a key, a model, a host, a part of WASI",
    "NAMESPACE": "of references",
    "ORIGIN": "https://api.openai.com",
    "PLACE": "in a request",
    "PORT": "of TCP",
    "PREFIX": "of a model's name",
    "REF": "a reference: c:local.openai:0.1.0",
    "REGISTRY": "of OCI",
    "SCOPE": "of an API key, or of a token",
    "SIZE": "64MB, 16MiB",
    "SOURCE": "of a secret's value",
    "TAG": "of OCI",
    "TEXT": "any text",
    "URL": "a URL",
    "VERSION": "of a component: 0.1.0",
    "VALUE": "of a field or a key",
    "WORDS": "to search for",
}

# Commands whose result is no JSON: servers, an editor, documents, and files in a format of their own.
WITHOUT_JSON = {"serve", "mcp", "fake openai", "policy edit", "policy export", "audit export"}
# What cannot be undone: what was there is in no other place.
ASKING = {
    "approve",
    "audit accept",
    "audit prune",
    "config unset",
    "key revoke",
    "key rotate",
    "policy reset",
    "secret delete",
    "secret get",
    "trust revoke",
    "unregister",
}
SHORT = {"-o", "-h"}
# The configuration of a catalyst, a key at a time, and that of a server, which is a file.
TWO_THINGS = {"--config": {"KEY=VALUE", "FILE"}}
SINGULAR = {"--alias", "--as", "--expires", "--limits", "--max-failures", "--workers"}  # although they end in s


def walked(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command of the tree that does something, by what is typed for it; not the groups."""
    if not isinstance(command, click.Group):
        yield " ".join(words), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from walked(child, (*words, name))


EVERY = dict(walked(main))
OPTIONS = [
    pytest.param(name, option, id=f"{name} {option.opts[-1]}")
    for name, command in EVERY.items()
    for option in command.params
    if isinstance(option, click.Option)
]
VALUED = [one for one in OPTIONS if not one.values[1].is_flag]


def context_of(command: click.Command) -> click.Context:
    return click.Context(command, help_option_names=["-h", "--help"])


def shown(option: click.Option, command: str) -> str:
    """The option's line in the help, unwrapped."""
    with context_of(EVERY[command]) as context:
        record = option.get_help_record(context)
    assert record is not None, "an option that no help shows is an alias of one that it shows"
    return record[1]


def test_the_whole_tree_is_walked() -> None:
    assert {"run", "audit prune", "key create", "fake openai", "signing-key export"} <= EVERY.keys()
    assert len(EVERY) > 45


@pytest.mark.parametrize("name", EVERY)
def test_the_words_for_values_are_those_of_the_list(name: str) -> None:
    with context_of(EVERY[name]) as context:
        for parameter in EVERY[name].params:
            if isinstance(parameter, click.Option) and parameter.is_flag:
                continue
            metavar = parameter.make_metavar(context)
            if isinstance(parameter.type, click.Choice):
                assert re.fullmatch(r"\[[a-z0-9|-]+\]", metavar)
                continue
            assert "RANGE" not in metavar
            assert set(re.findall(r"[A-Z]+", metavar)) <= WORDS.keys(), f"host {name}: {metavar}"
            assert re.search(r"[A-Z]", metavar), f"host {name}: {metavar}"


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_every_option_is_explained(command: str, option: click.Option) -> None:
    assert option.help, command
    assert option.help[0].isupper() or ":" in option.help or option.help[0].isdecimal()
    assert re.search(r"[.…]$", option.help), "a sentence"


@pytest.mark.parametrize(("command", "option"), VALUED)
def test_every_default_is_shown_in_the_same_way(command: str, option: click.Option) -> None:
    text = shown(option, command)
    value = option.default
    if isinstance(value, (str, int)) and value != "":
        assert f"[default: {value}" in text
    without = re.sub(r"\[default: [^\]]+\]|\[required\]", "", text)
    assert not re.search(r"default", without, re.IGNORECASE), "a default is shown as [default: …], and nowhere else"


def test_an_option_of_one_name_takes_the_same_everywhere() -> None:
    taken: dict[str, set[str | None]] = defaultdict(set)
    for command in EVERY.values():
        with context_of(command) as context:
            for option in command.params:
                if isinstance(option, click.Option):
                    for word in option.opts:
                        taken[word].add(None if option.is_flag else option.make_metavar(context))
    different = {name: metavars for name, metavars in taken.items() if len(metavars) > 1}
    assert different == TWO_THINGS


@pytest.mark.parametrize("name", EVERY)
def test_a_result_can_be_had_as_json(name: str) -> None:
    assert ("--json" in EVERY[name].get_help(context_of(EVERY[name]))) is (name not in WITHOUT_JSON)


@pytest.mark.parametrize("name", EVERY)
def test_what_cannot_be_undone_asks_and_takes_yes(name: str) -> None:
    yes = [one for one in EVERY[name].params if "--yes" in one.opts]
    assert bool(yes) is (name in ASKING)


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_an_option_has_one_name_and_output_a_letter(command: str, option: click.Option) -> None:
    long = [word for word in option.opts if word.startswith("--")]
    assert len(long) == 1, f"{command}: other names are aliases, which no help shows"
    assert {word for word in option.opts if word not in long} <= SHORT
    assert ("-o" in option.opts) is (long == ["--output"])


@pytest.mark.parametrize(("command", "option"), VALUED)
def test_what_may_be_given_several_times_is_named_in_the_singular(command: str, option: click.Option) -> None:
    [name] = (word for word in option.opts if word.startswith("--"))
    assert not name.endswith("s") or name.endswith("ss") or name in SINGULAR, command


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_no_help_shows_the_names_of_earlier_versions(command: str, option: click.Option) -> None:
    help_ = EVERY[command].get_help(context_of(EVERY[command]))
    for alias in option.aliases if isinstance(option, AliasedOption) else ():
        assert not re.search(rf"{alias}\b(?!-)", help_)
        parser = EVERY[command].make_parser(context_of(EVERY[command]))
        assert parser._long_opt[alias].dest == option.name


@pytest.mark.parametrize("name", ["", *EVERY, *sorted({name.split()[0] for name in EVERY if " " in name})])
def test_help_fits_a_terminal_of_80_columns(name: str) -> None:
    ran = CliRunner(env={"COLUMNS": "80"}).invoke(main, [*name.split(), "--help"])
    assert ran.exit_code == 0
    ours = (line for line in ran.stdout.splitlines() if '"command":' not in line)  # a path of this machine
    assert [line for line in ours if len(line) > 80] == []
