"""A secret's value on its way in and out."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest

from host import Host
from host.cli.options import HiddenText
from host.cli.secret_values import parse_assignment, read_value
from host.core.names import SecretName
from host.errors import InputError
from host.secrets.value import SecretValue, doubt, masked
from host.store.vault import master as keyrings
from host.store.vault.secrets import Vault

VALUE = "sk-proj-0123456789abcdefghijKLMN"
NAME = SecretName("OPENAI_API_KEY")


def piped(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("KEY", ("KEY", None), id="a name"),
        pytest.param("KEY=value", ("KEY", "value"), id="and a value"),
        pytest.param("KEY=a=b", ("KEY", "a=b"), id="an equals sign in the value"),
        pytest.param("hf_token", ("hf_token", None), id="a name that begins as a key does"),
    ],
)
def test_what_a_name_may_have_behind_it(text: str, expected: tuple[str, str | None]) -> None:
    name, value = parse_assignment(HiddenText(text))
    assert (str(name), value and value.reveal()) == expected


def test_an_empty_value_is_a_mistake() -> None:
    with pytest.raises(InputError, match="a secret's value is empty"):
        parse_assignment(HiddenText("KEY="))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(VALUE, "host secret set OPENAI_API_KEY", id="one of a known kind"),
        pytest.param(f"{VALUE}=x", "host secret set OPENAI_API_KEY", id="with an equals sign behind it"),
        pytest.param("c2VjcmV0/dmFsdWU=", "NAME is not the name of a secret", id="base64"),
        pytest.param("a sentence", "NAME is not the name of a secret", id="a sentence"),
    ],
)
def test_a_value_in_the_place_of_a_name_is_refused_and_not_repeated(text: str, said: str) -> None:
    with pytest.raises(InputError, match="NAME ") as refused:
        parse_assignment(HiddenText(text))
    assert text.partition("=")[0] not in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"], ids=["no line break", "LF", "CR LF"])
@pytest.mark.parametrize("source", [None, "-"], ids=["by default", "asked for"])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, source: str | None, end: bytes) -> None:
    piped(VALUE.encode() + end, monkeypatch)
    assert read_value(NAME, source and HiddenText(source)).reveal() == VALUE


def test_the_other_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{VALUE}\n")
    monkeypatch.setenv("SOME_KEY", "from-the-environment")
    monkeypatch.setattr(keyrings, "read", lambda service, user: f"{service}|{user}")
    assert read_value(NAME, HiddenText(f"file:{tmp_path / 'key'}")).reveal() == VALUE
    assert read_value(NAME, HiddenText("env:SOME_KEY")).reveal() == "from-the-environment"
    assert read_value(NAME, HiddenText("keyring:https://api.example/v1/me")).reveal() == "https://api.example/v1|me"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param(VALUE, "there is no such source", id="a value in the place of a source"),
        pytest.param("env:", "there is no such source", id="a variable without a name"),
        pytest.param("env:NOT_SET_ANYWHERE", "the environment variable NOT_SET_ANYWHERE is not set", id="a variable that is not set"),
        pytest.param("file:/none", "cannot read '/none'", id="a file that is not there"),
        pytest.param("keyring:service", "there is no such source", id="a keyring without a user"),
        pytest.param("keyring:service/user", "no keyring has a password of 'user' for 'service'", id="a keyring that has none"),
        pytest.param("-:x", "there is no such source", id="more than standard input"),
    ],
)  # fmt: skip
def test_a_source_that_has_nothing_is_a_mistake(source: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyrings, "read", lambda service, user: None)
    with pytest.raises(InputError, match="--from: ") as refused:
        read_value(NAME, source and HiddenText(source))
    assert said in str(refused.value)
    assert VALUE not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\xff", b"two\nlines\n", b" padded\n"], ids=repr)
def test_standard_input_that_is_no_secret_is_a_mistake_that_does_not_show_it(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(content, monkeypatch)
    with pytest.raises(InputError, match="--from: ") as refused:
        read_value(NAME, HiddenText("-"))
    assert "two" not in str(refused.value)
    assert "padded" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param(VALUE, "sk-…KLMN", id="a long key of a known kind"),
        pytest.param("sk-ant-0123456789abcdefghijKLMN", "sk-ant-…KLMN", id="the more particular kind"),
        pytest.param("0123456789abcdefghijKLMN", "…KLMN", id="a long one of none"),
        pytest.param("sk-0123456789abcdefghi", "sk-…", id="nineteen characters behind how it begins"),
        pytest.param("hunter2", "…", id="a short one, not even its length"),
        pytest.param("correct horse battery", "…tery", id="a sentence"),
    ],
)
def test_what_is_shown_of_a_value(text: str, shown: str) -> None:
    assert masked(SecretValue(text)) == shown


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        pytest.param("OPENAI_API_KEY", VALUE, None, id="as it should be"),
        pytest.param("OPENAI_API_KEY", "pk-0123456789", "begins with sk-; this does not", id="another beginning"),
        pytest.param("OPENAI_API_KEY", "sk-ant-0123456789", "this looks like ANTHROPIC_API_KEY", id="somebody else's"),
        pytest.param(
            "ANTHROPIC_API_KEY", VALUE, "this looks like OPENAI_API_KEY", id="somebody else's, less particular"
        ),
        pytest.param("GITHUB_TOKEN", "x", "begins with ghp_ or gho_ or", id="a kind with several beginnings"),
        pytest.param("MY_KEY", "anything", None, id="a kind that nobody knows"),
    ],
)
def test_what_looks_wrong_is_said_without_the_value(name: str, text: str, said: str | None) -> None:
    found = doubt(SecretName(name), SecretValue(text))
    assert (found is None) is (said is None)
    assert said is None or (said in str(found) and text not in str(found))


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        pytest.param(["secret", "set", str(NAME)], f"{VALUE}\n", id="standard input"),
        pytest.param(["secret", "set", str(NAME), "--from", "env:SOME_KEY"], "", id="a variable"),
        pytest.param(["secret", "set", str(NAME), "--from", "file:key"], "", id="a file"),
        pytest.param(["secret", "set", f"{NAME}={VALUE}"], "", id="the command line"),
        pytest.param(["run", "tool.wasm", "--input", "{}", "--secret", "SOME_KEY"], "", id="an option of a run"),
        pytest.param(["run", "tool.wasm", "--input", "{}", "--secret", "KEY=file:key"], "", id="an option with a file"),
        pytest.param(["run", "tool.wasm", "--input", "{}", "--secret", VALUE], "", id="a value by mistake"),
    ],
)
def test_no_frame_and_no_parameter_shows_a_value(
    program: Any, tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], stdin: str
) -> None:
    """What a debugger or an error reporter sees of the program while it holds a value: its frames' variables, and
    click's parameters. Only click's own parser has the words of the command line as they are."""
    tool()
    (tmp_path / "key").write_text(VALUE)
    seen: list[str] = []

    def look(*_: object, **__: object) -> None:
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_globals["__name__"].startswith("host."):
                seen.append(repr(frame.f_locals))
            frame = frame.f_back
        context = click.get_current_context(silent=True)
        while context is not None:
            seen.append(repr((context.params, context.args)))
            context = context.parent

    def refuse(*_: object, **__: object) -> NoReturn:
        look()
        raise InputError("seen enough")

    monkeypatch.setattr(Vault, "set", refuse)
    monkeypatch.setattr(Host, "load", refuse)
    monkeypatch.setattr(click, "echo", look)  # where a mistake ends
    ran = program(*arguments, stdin=stdin, env={"SOME_KEY": VALUE})
    assert ran.status == 2
    assert seen
    assert VALUE not in "".join(seen)
