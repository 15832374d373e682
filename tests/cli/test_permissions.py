from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from host.cli.options import HiddenText
from host.cli.permissions import RunPermissions, read_permissions, read_policy
from host.errors import InputError
from host.policy.document import Policy
from host.secrets.value import SecretValue

VALUE = "sk-never-shown-0123456789"


def parsed(policy: str | None = None, **options: list[str]) -> RunPermissions:
    names = ("allow_domain", "allow_private", "upstream", "config")
    secrets = tuple(map(HiddenText, options.get("secrets", ())))
    given = {name: tuple(options.get(name, ())) for name in names}
    return read_permissions(RunPermissions(), policy_file=policy, secrets=secrets, **given)


def test_nothing_given_is_a_policy_that_allows_nothing() -> None:
    assert parsed() == RunPermissions(Policy())


def test_options_add_to_the_file_and_take_nothing_from_it(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(
        'allowed_domains = ["a.example"]\nallowed_private = ["10.0.0.0/8"]\ntimeout = "5s"\n'
        '[upstreams]\n"https://a.example" = "http://127.0.0.1:1"\n'
    )
    both = parsed(
        str(file),
        allow_domain=["b.example"],
        allow_private=["127.0.0.0/8"],
        upstream=["https://b.example=http://127.0.0.1:2"],
    ).policy
    assert tuple(both.allowed_domains) == ("a.example", "b.example")
    assert tuple(both.allowed_private) == ("10.0.0.0/8", "127.0.0.0/8")
    assert both.upstreams == {"https://a.example": "http://127.0.0.1:1", "https://b.example": "http://127.0.0.1:2"}
    assert both.timeout == "5s"


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        pytest.param("allow_domain", "https://a.example/path", "--allow-domain: 'https://a.example/path' is not a domain", id="a URL for a domain"),
        pytest.param("allow_domain", "*", "unsafe_any_domain", id="every domain there is"),
        pytest.param("allow_private", "10.0.0.1/8", "--allow-private: 10.0.0.1/8 has host bits set", id="a network with host bits"),
        pytest.param("upstream", "https://a.example", "--upstream: 'https://a.example' has no = in it", id="half a mapping"),
        pytest.param("upstream", "a=b", "--upstream: a URL begins with https://", id="a mapping of names"),
        pytest.param("config", "base_url", "KEY:=JSON", id="a setting without a value"),
        pytest.param("config", "=x", "has nothing before its =", id="a setting without a key"),
        pytest.param("config", "n:={", "--config: n is not JSON", id="a setting that is no JSON"),
        pytest.param("secrets", "KEY=vault:x", "--secret KEY: the source is not env:VAR, file:PATH or prompt", id="a source that is none"),
        pytest.param("secrets", "KEY=env:", "--secret KEY: the source", id="a variable without a name"),
        pytest.param("secrets", "KEY=env:NOT_SET_ANYWHERE", "--secret KEY: the environment variable NOT_SET_ANYWHERE is not set", id="a variable that is not set"),
        pytest.param("secrets", "KEY=file:/none", "--secret KEY: cannot read '/none'", id="a file that is not there"),
        pytest.param("secrets", "1KEY=env:X", "--secret 1KEY: '1KEY' is not the name of a secret", id="a name that is none"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_option(option: str, text: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        parsed(**{option: [text]})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"KEY={VALUE}", id="in the place of a source"),
        pytest.param(VALUE, id="in the place of a name"),
        pytest.param(f"KEY=value:{VALUE}", id="behind a source that is none"),
    ],
)
def test_a_value_on_the_command_line_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parsed(secrets=[text])
    assert VALUE not in str(refused.value)
    assert "never given on the command line" in str(refused.value)


def test_a_secret_by_name_alone_is_the_variable_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", VALUE)
    monkeypatch.setenv("OTHER", "o" * 8)
    assert parsed(secrets=["SOME_KEY", "B=env:OTHER"]).secrets == {
        "SOME_KEY": SecretValue(VALUE),
        "B": SecretValue("o" * 8),
    }


@pytest.mark.parametrize("end", ["", "\n", "\r\n"], ids=["no line break", "LF", "CR LF"])
def test_a_secret_in_a_file_is_its_text_less_the_line_break_at_its_end(tmp_path: Path, end: str) -> None:
    (tmp_path / "key").write_bytes(f"{VALUE}{end}".encode())
    assert parsed(secrets=[f"KEY=file:{tmp_path / 'key'}"]).secrets == {"KEY": SecretValue(VALUE)}


@pytest.mark.parametrize(
    "content", [b"", b"two\nlines\n", b" padded ", b"\xff"], ids=["empty", "two lines", "padded", "no UTF-8"]
)
def test_a_file_that_holds_no_secret_is_a_mistake_that_does_not_show_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InputError, match="--secret") as refused:
        parsed(secrets=[f"KEY=file:{tmp_path / 'key'}"])
    assert "two" not in str(refused.value)
    assert "padded" not in str(refused.value)


def test_a_prompt_without_a_terminal_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{VALUE}\n"))
    with pytest.raises(InputError, match="--secret KEY: prompt needs a terminal"):
        parsed(secrets=["KEY=prompt"])


def test_what_was_given_does_not_show_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", VALUE)
    assert VALUE not in repr(parsed(secrets=["SOME_KEY"]))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param("p.toml", 'allowed_domain = ["a.example"]', "unknown field 'allowed_domain'", id="a field that is none"),
        pytest.param("p.toml", "allowed_domains = [", "the policy cannot be read", id="no TOML"),
        pytest.param("p.json", 'allowed_domains = ["a.example"]', "the policy cannot be read", id="TOML in a file named .json"),
        pytest.param("p.json", '{"timeout": "never"}', "'never' is not a duration", id="a value that will not do"),
        pytest.param("p.json", '{"timeout": -1}', "timeout", id="a time below zero"),
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_meant_is_a_mistake(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as refused:
        read_policy(str(tmp_path / name))
    assert str(refused.value).startswith(f"--policy {tmp_path / name}: ")
    assert said in str(refused.value)


def test_a_secret_goes_where_the_option_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "x7Qp0ZmW31vKs8tY")
    to = ("TOKEN=a.example", "TOKEN=b.example")
    found = read_permissions(
        RunPermissions(), policy_file=None, secrets=(HiddenText("TOKEN"),), secret_to=to,
        allow_domain=(), allow_private=(), upstream=(), config=(),
    )  # fmt: skip
    assert found.bound()["TOKEN"].domains == ["a.example", "b.example"]


@pytest.mark.parametrize("text", ["TOKEN", "=a.example", "OTHER=a.example", "TOKEN=https://a.example/path", "TOKEN="])
def test_a_destination_without_a_secret_or_a_domain_is_a_mistake(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TOKEN", "x7Qp0ZmW31vKs8tY")
    with pytest.raises(InputError, match="--secret-to"):
        read_permissions(
            RunPermissions(), policy_file=None, secrets=(HiddenText("TOKEN"),), secret_to=(text,),
            allow_domain=(), allow_private=(), upstream=(), config=(),
        )  # fmt: skip


def test_a_weak_secret_is_a_warning_and_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The variable is there already: refusing it would protect nothing, and break what runs."""
    monkeypatch.setenv("PIN", "48213907")
    found = read_permissions(
        RunPermissions(), policy_file=None, secrets=(HiddenText("PIN"),),
        allow_domain=(), allow_private=(), upstream=(), config=(),
    )  # fmt: skip
    assert "PIN" in found.secrets
    said = capsys.readouterr().err
    assert "warning: PIN: it is weak" in said
    assert "48213907" not in said


def test_a_policy_file_that_is_not_there_never_means_the_default(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--policy: cannot read"):
        parsed(str(tmp_path / "none.toml"))


def test_an_empty_policy_file_allows_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").touch()
    (tmp_path / "empty.json").write_text(json.dumps({}))
    assert read_policy(str(tmp_path / "empty.toml")) == read_policy(str(tmp_path / "empty.json")) == Policy()
