"""The desktop's keyring: only a real one, with a limit for its time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import keyring
import pytest
from keyring.errors import KeyringLocked

from host.errors import VaultError
from host.store.vault import master as keyrings

# A backend for child processes. Defined in this process, it would be a candidate here.
BACKEND = """
from pathlib import Path
from keyring.backend import KeyringBackend

class Folder(KeyringBackend):
    priority = {priority}

    def _file(self, service, user):
        return Path({folder!r}) / (service + "-" + user)

    def get_password(self, service, user):
        file = self._file(service, user)
        return file.read_text() if file.exists() else None

    def set_password(self, service, user, text):
        self._file(service, user).write_text(text)

    def delete_password(self, service, user):
        self._file(service, user).unlink()
"""
USE = """
from host.store.vault import master as keyrings
print(keyrings.write("a service", "me", "the value"), keyrings.read("a service", "me"), keyrings.read("a service", "you"))
keyrings.remove("a service", "me")
print(keyrings.read("a service", "me"))
"""


def using(folder: Path, module: str = "folder_keyring", priority: float = 5) -> str:
    """Returns the output of a process that uses the backend in `module`."""
    kept = folder / "kept"
    kept.mkdir()
    file = folder.joinpath(*module.split(".")).with_suffix(".py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(BACKEND.format(priority=priority, folder=str(kept)))
    chosen = {"PYTHONPATH": str(folder), "PYTHON_KEYRING_BACKEND": f"{module}.Folder"}
    return subprocess.run(
        [sys.executable, "-c", USE],
        env={**os.environ, **chosen},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def test_a_real_backend_keeps_and_gives_and_forgets(tmp_path: Path) -> None:
    assert using(tmp_path) == "True the value None\nNone\n"


def test_a_backend_that_is_not_recommended_does_not_count(tmp_path: Path) -> None:
    assert using(tmp_path, priority=0.5) == "False None None\nNone\n"


def test_a_plain_file_of_keyrings_alt_does_not_count_whatever_it_says_of_itself(tmp_path: Path) -> None:
    assert using(tmp_path, module="keyrings.alt.file") == "False None None\nNone\n"


@pytest.mark.parametrize("name", ["keyring.backends.fail.Keyring", "keyring.backends.null.Keyring"])
def test_a_backend_that_keeps_nothing_does_not_count(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from host.store.vault import master as keyrings; print(keyrings.write('a', 'b', 'c'))"],
        env={**os.environ, "PYTHON_KEYRING_BACKEND": name},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "False\n"


def test_a_backend_that_does_not_exist_is_an_error_that_names_the_variable() -> None:
    code = "from host.store.vault import master as keyrings\nfrom host.errors import VaultError\ntry:\n    keyrings.read('a', 'b')\nexcept VaultError as error:\n    print(error)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHON_KEYRING_BACKEND": "none.Of.These"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "the keyring cannot be used: ModuleNotFoundError" in done.stdout
    assert "PYTHON_KEYRING_BACKEND" in done.stdout


class Backend:
    """The backend that `keyring` returns in this process."""

    priority = 5.0

    def get_password(self, service: str, user: str) -> str | None:
        return f"{service}/{user}"

    def set_password(self, service: str, user: str, text: str) -> None:
        """Stores nothing."""


class Plain(Backend):
    priority = 0.5


class Chain(Backend):
    priority = 10.0

    def __init__(self, *backends: Backend) -> None:
        self.backends = backends

    def get_password(self, service: str, user: str) -> str | None:
        raise AssertionError("which of them answers is not for the chain to say")


def chosen(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    monkeypatch.setattr(keyring, "get_keyring", lambda: backend)


def test_of_a_chain_the_first_that_counts_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen(monkeypatch, Chain(Plain(), Backend()))
    assert keyrings.read("service", "me") == "service/me"


def test_of_a_chain_of_plain_files_none_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen(monkeypatch, Chain(Plain(), Plain()))
    assert keyrings.read("service", "me") is None


def test_what_cannot_be_read_back_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen(monkeypatch, Backend())
    assert keyrings.write("service", "me", "the value") is False


def test_a_locked_keyring_is_an_error_with_words_and_not_with_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Locked(Backend):
        def get_password(self, service: str, user: str) -> str | None:
            raise KeyringLocked("the value is hunter2")

    chosen(monkeypatch, Locked())
    with pytest.raises(VaultError, match="cannot be used: KeyringLocked") as refused:
        keyrings.read("service", "me")
    assert "unlock it" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_keyring_that_waits_for_somebody_who_is_not_there_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    over = Event()

    class Asks(Backend):
        def get_password(self, service: str, user: str) -> str | None:
            over.wait()
            return None

    chosen(monkeypatch, Asks())
    monkeypatch.setattr(keyrings, "KEYRING_TIMEOUT_S", 0.01)
    try:
        with pytest.raises(VaultError, match=r"did not answer within 0\.01 s"):
            keyrings.read("service", "me")
    finally:
        over.set()


def test_without_the_library_there_is_no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert keyrings.read("service", "me") is None
    assert keyrings.write("service", "me", "the value") is False
