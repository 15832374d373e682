"""The master key: its places, and finding it again."""

from __future__ import annotations

import base64
import errno
import os
import pickle
import secrets
from pathlib import Path

import pytest

from host.errors import InputError, VaultError
from host.store.vault import master
from host.store.vault import master as keyrings


def key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


class Kept:
    """A working keyring in place of `host.store.vault.master`."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], str] = {}

    def read(self, service: str, user: str) -> str | None:
        return self.held.get((service, user))

    def write(self, service: str, user: str, text: str) -> bool:
        self.held[service, user] = text
        return True

    def remove(self, service: str, user: str) -> None:
        del self.held[service, user]


class Locked(Kept):
    def read(self, service: str, user: str) -> str | None:
        raise VaultError("the keyring cannot be used: KeyringLocked")

    def write(self, service: str, user: str, text: str) -> bool:
        raise VaultError("the keyring cannot be used: KeyringLocked")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Kept:
    return into_place(Kept(), monkeypatch)


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Kept:
    return into_place(Locked(), monkeypatch)


@pytest.fixture
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyrings, "_backend", lambda: None)


def into_place(one: Kept, monkeypatch: pytest.MonkeyPatch) -> Kept:
    for name in ("read", "write", "remove"):
        monkeypatch.setattr(keyrings, name, getattr(one, name))
    return one


@pytest.mark.usefixtures("no_keyring")
class TestAFile:
    def test_is_made_where_there_is_nothing_else_and_found_again(self, folder: Path) -> None:
        made = master.make(folder)
        assert made.place == "file"
        found = master.find(made.id, folder)
        assert (found.id, found.key, found.place) == (made.id, made.key, "file")

    def test_is_for_this_user_alone(self, folder: Path) -> None:
        made = master.make(folder)
        assert master.file_of(made.id, folder).stat().st_mode & 0o777 == 0o600

    def test_that_others_can_read_is_an_error_that_says_what_to_do(self, folder: Path) -> None:
        file = master.file_of(master.make(folder).id, folder)
        file.chmod(0o640)
        with pytest.raises(VaultError, match="others can read") as refused:
            master.find(file.stem.removeprefix("master-"), folder)
        assert f"chmod 600 {file}" in str(refused.value)

    def test_of_another_state_is_left_alone(self, folder: Path) -> None:
        mine, theirs = master.make(folder), master.make(folder)
        master.forget(mine, folder)
        assert master.find(theirs.id, folder).key == theirs.key
        with pytest.raises(VaultError, match=f"the master key {mine.id} is nowhere to be found"):
            master.find(mine.id, folder)

    @pytest.mark.parametrize("content", ["", "short", "*" * 44, base64.b64encode(bytes(31)).decode()])
    def test_that_is_no_key_is_an_error_without_its_content(self, folder: Path, content: str) -> None:
        made = master.make(folder)
        master.file_of(made.id, folder).write_text(content)
        with pytest.raises(InputError, match="is not 32 bytes in base64") as refused:
            master.find(made.id, folder)
        assert not content or content not in str(refused.value)

    def test_with_the_key_of_another_is_not_taken_for_it(self, folder: Path) -> None:
        one, other = master.make(folder), master.make(folder)
        master.file_of(one.id, folder).write_bytes(master.file_of(other.id, folder).read_bytes())
        with pytest.raises(VaultError, match="nowhere to be found"):
            master.find(one.id, folder)

    def test_that_cannot_be_written_is_an_error(self, folder: Path) -> None:
        with pytest.raises(VaultError, match="cannot write"):
            master.make(folder / "none")

    def test_that_could_not_be_written_whole_leaves_nothing(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(VaultError, match="No space left"):
            master.make(folder, "file")
        assert list(folder.iterdir()) == []

    def test_moved_into_the_variable_is_found_there(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = master.make(folder)
        monkeypatch.setenv("HOST_MASTER_KEY", master.file_of(made.id, folder).read_text())
        master.forget(made, folder)
        assert master.find(made.id, folder).place == "environment"


class TestTheVariable:
    def test_comes_before_everything_else(self, folder: Path, keyring: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOST_MASTER_KEY", given := key())
        made = master.make(folder)
        assert (made.place, base64.b64encode(made.key).decode()) == ("environment", given)
        assert (list(folder.iterdir()), keyring.held) == ([], {})

    def test_may_have_several_of_which_the_first_is_for_what_is_new(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOST_MASTER_KEY", old := key())
        before = master.make(folder)
        monkeypatch.setenv("HOST_MASTER_KEY", f"{key()} {old}")
        assert master.make(folder).id != before.id
        assert master.find(before.id, folder).key == before.key

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("hunter2-hunter2", id="a password"),
            pytest.param("00" * 32, id="hexadecimal digits"),
            pytest.param(key() + "A", id="a letter too many"),
            pytest.param("é", id="not ASCII"),
        ],
    )
    def test_that_is_no_key_is_an_error_and_never_passed_over(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        monkeypatch.setenv("HOST_MASTER_KEY", text)
        with pytest.raises(InputError, match="HOST_MASTER_KEY is not 32 bytes in base64") as refused:
            master.make(folder)
        assert text not in str(refused.value)

    def test_that_is_not_set_cannot_be_asked_for(self, folder: Path) -> None:
        with pytest.raises(InputError, match="HOST_MASTER_KEY is not set"):
            master.make(folder, "environment")


class TestAKeyring:
    def test_comes_before_a_file(self, folder: Path, keyring: Kept) -> None:
        made = master.make(folder)
        assert made.place == "keyring"
        assert list(folder.iterdir()) == []
        assert master.find(made.id, folder).key == made.key

    def test_has_one_for_each_state_and_forgets_only_that(self, folder: Path, keyring: Kept) -> None:
        one, other = master.make(folder), master.make(folder)
        master.forget(one, folder)
        assert master.find(other.id, folder).key == other.key
        with pytest.raises(VaultError, match="nowhere to be found"):
            master.find(one.id, folder)

    def test_that_is_locked_does_not_keep_a_new_state_from_its_file(self, folder: Path, locked: Kept) -> None:
        assert master.make(folder).place == "file"

    def test_that_is_locked_is_an_error_where_it_may_have_the_key(self, folder: Path, locked: Kept) -> None:
        master.make(folder)
        with pytest.raises(VaultError, match="KeyringLocked"):
            master.find("0123456789abcdef", folder)

    def test_that_is_locked_is_not_asked_for_what_a_file_has(self, folder: Path, locked: Kept) -> None:
        made = master.make(folder)
        assert master.find(made.id, folder).key == made.key

    def test_that_is_locked_is_an_error_where_it_is_asked_for(self, folder: Path, locked: Kept) -> None:
        with pytest.raises(VaultError, match="KeyringLocked"):
            master.make(folder, "keyring")
        assert list(folder.iterdir()) == []

    def test_that_is_not_there_is_an_error_where_it_is_asked_for(self, folder: Path, no_keyring: None) -> None:
        with pytest.raises(VaultError, match="there is no keyring"):
            master.make(folder, "keyring")

    def test_is_passed_over_where_a_file_is_asked_for(self, folder: Path, keyring: Kept) -> None:
        assert master.make(folder, "file").place == "file"
        assert keyring.held == {}


@pytest.mark.usefixtures("no_keyring")
def test_a_master_key_does_not_show(folder: Path) -> None:
    made = master.make(folder)
    assert f"{made} {made!r}" == "<MasterKey> <MasterKey>"
    with pytest.raises(TypeError):
        pickle.dumps(made)
