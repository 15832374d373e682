from __future__ import annotations

from pathlib import Path

import pytest

from host.cli.inputs import blaming, read_bytes, read_text, write_bytes
from host.errors import ContractError, InputError


def test_the_option_takes_the_place_of_the_field() -> None:
    with pytest.raises(InputError) as refused, blaming("--this"):
        raise InputError("that: is wrong", field="that")
    assert (refused.value.message, refused.value.field) == ("--this: is wrong", "--this")


@pytest.mark.parametrize(("own", "shown"), [("its own", "its own"), (None, "the option's")])
def test_a_hint_that_is_there_stays(own: str | None, shown: str) -> None:
    with pytest.raises(InputError) as refused, blaming("--this", hint="the option's"):
        raise InputError("wrong", hint=own)
    assert refused.value.hint == shown


def test_what_no_argument_is_to_blame_for_goes_by() -> None:
    with pytest.raises(ContractError, match=r"^no$"), blaming("--this"):
        raise ContractError("no", subject="x")


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_bytes(str(tmp_path / "x"), b"\xff\n", "--output")
    assert read_bytes(str(tmp_path / "x"), "--input") == b"\xff\n"


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_bytes(b"\xef\xbb\xbfx\r\n")
    assert read_text(str(tmp_path / "policy.toml"), "--policy") == "x\r\n"


def test_files_that_cannot_be_had_are_the_options_mistake(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"--input: cannot read .*: Is a directory"):
        read_bytes(str(tmp_path), "--input")
    with pytest.raises(InputError, match=r"--input: .* is not UTF-8"):
        read_text(str(tmp_path / "binary"), "--input")
    with pytest.raises(InputError, match=r"--output: cannot write .*: Is a directory"):
        write_bytes(str(tmp_path), b"", "--output")
