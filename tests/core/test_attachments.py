"""Bytes that stay with the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.core.operation import Attachment, Attachments
from host.errors import InputError


@pytest.mark.parametrize(
    "given", [b"x", bytearray(b"x"), pytest.param(memoryview(b"x"), id="memoryview"), Attachment(b"x")], ids=repr
)
def test_what_a_caller_may_hand_over(given: object) -> None:
    assert Attachment.of(given).data == b"x"


@pytest.mark.parametrize("given", ["a text is no path", 5, None, [b"x"]], ids=repr)
def test_what_a_caller_may_not_hand_over(given: object) -> None:
    with pytest.raises(InputError, match=r"pathlib\.Path"):
        Attachment.of(given)


def test_a_file_is_read_under_its_own_name_with_a_type_to_match(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp3"
    file.write_bytes(b"sound")
    assert Attachment.of(file) == Attachment(b"sound", "clip.mp3", "audio/mpeg")
    (tmp_path / "plain").write_bytes(b"")
    assert Attachment.read(str(tmp_path / "plain")).content_type == "application/octet-stream"


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read_is_an_input_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot read"):
        Attachment.read(tmp_path / name)


def test_what_is_put_is_found_under_an_id_that_cannot_be_guessed() -> None:
    held = Attachments(100)
    ids = [held.put(Attachment(bytes((number,)))) for number in range(5)]
    assert len(set(ids)) == 5
    assert all(ident is not None and len(ident) > 32 for ident in ids)
    assert [held.get(ident).data for ident in ids] == [bytes((number,)) for number in range(5)]
    assert Attachments(100).get(ids[0]) is None


@pytest.mark.parametrize("ident", ["", "att_1", None, 5, ["x"], {}], ids=repr)
def test_an_unknown_id_is_none_whatever_its_type(ident: object) -> None:
    assert Attachments(100).get(ident) is None


def test_the_room_is_for_all_of_them_together() -> None:
    held = Attachments(10)
    assert held.put(Attachment(b"x" * 6)) is not None
    assert held.put(Attachment(b"x" * 5)) is None
    assert held.room == 4
    assert held.put(Attachment(b"x" * 4)) is not None
    assert held.put(Attachment(b"x")) is None
    assert held.put(Attachment(b"")) is not None


def test_bytes_do_not_show_in_a_repr() -> None:
    assert "private" not in repr(Attachment(b"private", "name.txt"))


def test_a_snapshot_does_not_change() -> None:
    held = Attachments(10)
    before = held.snapshot()
    held.put(Attachment(b"x"))
    assert before == {}
    assert len(held.snapshot()) == 1
