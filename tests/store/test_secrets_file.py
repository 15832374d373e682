"""A file of NAME=VALUE lines: read like a shell does, or refused; values are never shown."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.core.names import SecretName
from host.errors import InputError
from host.store.vault.sources import SecretsFile

VALUE = "sk-never-shown-0123456789"


def read(folder: Path, content: str | bytes) -> SecretsFile:
    file = folder / ".env"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    file.chmod(0o600)
    return SecretsFile.read(file)


def value(file: SecretsFile, name: str = "KEY") -> str | None:
    found = file.value(SecretName(name))
    return None if found is None else found.reveal()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("KEY=value", "value", id="bare"),
        pytest.param("export KEY=value", "value", id="exported"),
        pytest.param("  export\tKEY=value  ", "value", id="white space around it"),
        pytest.param('export KEY="your-api-key-here"', "your-api-key-here", id="as the project's brief has it"),
        pytest.param("KEY='a b'", "a b", id="single quotes"),
        pytest.param('KEY="a b"', "a b", id="double quotes"),
        pytest.param(r"""KEY='a"\$b`c${D}'""", r'a"\$b`c${D}', id="single quotes take everything as it is"),
        pytest.param(r'KEY="a\"b\\c\$d\`e\nf"', r'a"b\c$d`e\nf', id="double quotes escape what a shell escapes there"),
        pytest.param("KEY=a#b", "a#b", id="a number sign within a value"),
        pytest.param("KEY=a # b", "a", id="a comment behind a value"),
        pytest.param("KEY='a' # 'b'", "a", id="a comment behind quotes"),
        pytest.param('KEY="a # b"', "a # b", id="a number sign within quotes"),
        pytest.param("KEY=a=b==", "a=b==", id="equals signs in a value"),
        pytest.param("KEY=a$5", "a$5", id="a dollar sign that a shell would leave"),
        pytest.param("KEY=first\nKEY=second", "second", id="of two the last"),
        pytest.param("KEY=value\r\n", "value", id="the line breaks of Windows"),
        pytest.param("\ufeffKEY=value", "value", id="a byte order mark"),
        pytest.param("# KEY=no\n\n   # KEY=no\nKEY=value\n", "value", id="comments and empty lines"),
        pytest.param("OTHER=value", None, id="another name"),
        pytest.param("KEY=", None, id="no value"),
        pytest.param('KEY=""', None, id="an empty value"),
        pytest.param("", None, id="an empty file"),
    ],
)
def test_a_line(tmp_path: Path, line: str, expected: str | None) -> None:
    assert value(read(tmp_path, line)) == expected


@given(text=st.text(st.sampled_from("ab\"'\\$` #={}()"), min_size=1, max_size=12))
def test_a_value_is_what_a_shell_makes_of_it_or_none(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "hypothesis.env"
    file.write_text(f"KEY={text}\n")
    try:
        ours = value(SecretsFile.read(file))
    except InputError:
        return
    done = subprocess.run(
        ["sh", "-c", f'. {file} && printf %s "$KEY"'], capture_output=True, text=True, timeout=60, check=False, env={}
    )
    assert (ours or "") == done.stdout or any(sign in text for sign in "\\(){}")  # with a meaning in bare words


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(f"A=1\n{VALUE}\n", "line 2: not NAME=VALUE", id="no equals sign"),
        pytest.param(f"KEY = {VALUE}", "line 1: not NAME=VALUE", id="spaces around the equals sign"),
        pytest.param(f"KEY={VALUE} {VALUE}", "not NAME=VALUE", id="two bare words"),
        pytest.param(f"KEY='{VALUE}", "not NAME=VALUE", id="quotes that do not end"),
        pytest.param(f"KEY='{VALUE}'tail", "not NAME=VALUE", id="text behind quotes"),
        pytest.param(f"1KEY={VALUE}", "not NAME=VALUE", id="a name that is none"),
        pytest.param(f"{'K' * 129}={VALUE}", "", id="a name that is too long"),
        pytest.param(b"KEY=\xff" + VALUE.encode(), "is not UTF-8", id="no UTF-8"),
        pytest.param("#" * (1 << 20) + "##", "larger than 1 MiB", id="too large"),
    ],
)
def test_a_file_that_is_not_understood_is_an_error_that_tells_nothing_of_it(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path, content)
    assert said in str(refused.value)
    assert VALUE not in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"KEY=${{X}}{VALUE}", id="a variable in braces"),
        pytest.param(f'KEY="$X{VALUE}"', id="a variable within quotes"),
        pytest.param(f"KEY=$(cat {VALUE})".replace(" ", ""), id="a command"),
        pytest.param(f"KEY=`{VALUE}`", id="a command in backticks"),
        pytest.param(f'KEY=" {VALUE}"', id="white space before it"),
        pytest.param(f'KEY="{VALUE}\x01"', id="a control character"),
    ],
)
def test_a_value_that_no_secret_can_have_is_an_error_for_who_asks_for_it(tmp_path: Path, line: str) -> None:
    file = read(tmp_path, f"OTHER=other\n{line}\n")
    assert value(file, "OTHER") == "other"
    with pytest.raises(InputError, match="line 2: ") as refused:
        value(file)
    assert VALUE not in str(refused.value)


@pytest.mark.parametrize(("mode", "exposed"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_file_that_others_can_read_says_so(tmp_path: Path, mode: int, exposed: bool) -> None:
    file = tmp_path / "secrets"
    file.write_text("KEY=value")
    file.chmod(mode)
    assert SecretsFile.read(file).exposed is exposed


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        SecretsFile.read(tmp_path / "none")


def test_the_values_do_not_show(tmp_path: Path) -> None:
    assert VALUE not in repr(read(tmp_path, f"KEY={VALUE}"))
