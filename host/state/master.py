"""The master key: it seals the keys that the state holds, and is itself kept elsewhere. Three places can have one, each
looked at for the key that is needed: the variable HOST_MASTER_KEY, the desktop's keyring, a file in the state
directory. A new state takes the first of them that there is, and makes the file where there is none.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from host import environment
from host.errors import InputError, VaultError
from host.secret import Unspoken
from host.state.sealing import KEY_BYTES

FILE = "master.key"
Place = Literal["environment", "keyring", "file"]


class MasterKey(Unspoken):
    """`id` names it without telling it; `place` says where it was found."""

    __slots__ = ("id", "key", "place")

    def __init__(self, key: bytes, place: Place) -> None:
        self.key = key
        self.place = place
        self.id = hashlib.sha256(b"catalyst-host master key\0" + key).hexdigest()[:16]


def find(ident: str, state_dir: Path) -> MasterKey:
    """The master key `ident`. Raises VaultError where no place has it."""
    for found in _held(state_dir):
        if found.id == ident:
            return found
    raise VaultError(
        f"the master key {ident} is nowhere to be found, and the state cannot be opened without it",
        hint=f"HOST_MASTER_KEY, the keyring or {FILE} in the state directory had it",
    )


def choose(state_dir: Path) -> MasterKey:
    """The master key for something new. Raises VaultError."""
    return next(_held(state_dir), None) or make(state_dir)


def make(state_dir: Path) -> MasterKey:
    """A new one, in a file for this user alone. Raises VaultError."""
    key = secrets.token_bytes(KEY_BYTES)
    file = state_dir / FILE
    draft = state_dir / f".{FILE}.{secrets.token_hex(8)}"
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as opened:  # noqa: PTH123 - with its mode from the start
            opened.write(base64.b64encode(key) + b"\n")
            opened.flush()
            os.fsync(opened.fileno())
        try:
            os.link(draft, file)  # of two processes at once, one makes it
        except FileExistsError:
            return _from_file(file)
        finally:
            draft.unlink()
    except OSError as error:
        raise VaultError(f"cannot write {str(file)!r}: {error.strerror}") from None
    return MasterKey(key, "file")


def _held(state_dir: Path) -> Iterator[MasterKey]:
    if given := environment.master_key():
        yield MasterKey(_decoded(given, "HOST_MASTER_KEY"), "environment")
    file = state_dir / FILE
    if file.exists():
        yield _from_file(file)


def _from_file(file: Path) -> MasterKey:
    try:
        mode, text = file.stat().st_mode, file.read_text("ascii", errors="replace")
    except OSError as error:
        raise VaultError(f"cannot read {str(file)!r}: {error.strerror}") from None
    if mode & 0o077:
        raise VaultError(
            f"others can read {str(file)!r}",
            hint=f"chmod 600 {file}; and if somebody may have: host secret rotate-key --master",
        )
    return MasterKey(_decoded(text, FILE), "file")


def _decoded(text: str, name: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise InputError(f"{name} is not {KEY_BYTES} bytes in base64", field=name, hint="openssl rand -base64 32")
    return key
