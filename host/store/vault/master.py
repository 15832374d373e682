"""The master key, which encrypts the data keys of the state, and the desktop's keyring, which may hold it.

A master key is outside the database, in one of three places: the variable HOST_MASTER_KEY, the desktop's keyring, or a
file in the state directory. A state has one master key at a time. A new state takes the variable's; else it makes one,
in the keyring, or in a file if there is no usable keyring.

Each key is stored under its id. So two states in one place cannot take or remove each other's key, and during a
rotation the old and the new key are both there.

The keyring is used through the library `keyring`, if that is installed: Secret Service, KWallet, the macOS keychain.
Only a backend that protects its content is used (`keyring` calls it recommended), and none that writes plain files. A
desktop may ask its user and wait for the answer, so every call is given up after `KEYRING_TIMEOUT_S` seconds, or with
the caller's own time (`host.core.waiting`). Calls that hang for good keep `_MOST_ASKED` threads at most.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from host.core import environment, installation
from host.core.waiting import left, start
from host.errors import InputError, VaultError
from host.secrets.value import Unspoken

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend


KEYRING_TIMEOUT_S: Final = 30.0
_MOST_ASKED: Final = 4
_asking = BoundedSemaphore(_MOST_ASKED)
_HINT = "unlock it, or name another backend in PYTHON_KEYRING_BACKEND"

T = TypeVar("T")


def read(service: str, user: str) -> str | None:
    """The keyring's entry for `service` and `user`; None if there is none, or no keyring. Raises VaultError."""
    return _asked(lambda backend: backend.get_password(service, user))


def write(service: str, user: str, text: str) -> bool:
    """Returns whether the keyring holds it now: False if there is no keyring. Raises VaultError."""

    def stored(backend: KeyringBackend) -> bool:
        backend.set_password(service, user, text)
        return backend.get_password(service, user) == text

    return _asked(stored) or False


def remove(service: str, user: str) -> None:
    """Raises VaultError."""
    _asked(lambda backend: backend.delete_password(service, user))


def _asked(question: Callable[[KeyringBackend], T]) -> T | None:
    """The keyring's answer, which another thread gets and this one waits for; None if there is no keyring."""
    from concurrent.futures import Future  # noqa: PLC0415 - brings logging, and most states have a file

    answer: Future[T | None] = Future()

    def ask() -> None:
        try:
            backend = _backend()
            answer.set_result(None if backend is None else question(backend))
        except Exception as error:  # noqa: BLE001 - backends raise the errors of many libraries
            answer.set_exception(error)
        finally:
            _asking.release()

    if not _asking.acquire(blocking=False):
        raise VaultError("the keyring does not answer", hint=_HINT)
    try:
        start(ask, name="keyring")
    except BaseException:
        _asking.release()
        raise
    patience_s = left(KEYRING_TIMEOUT_S)
    try:
        return answer.result(patience_s)
    except TimeoutError:
        raise VaultError(f"the keyring did not answer within {patience_s:.2g} s", hint=_HINT) from None
    except Exception as error:  # noqa: BLE001 - see above
        raise VaultError(f"the keyring cannot be used: {type(error).__name__}", hint=_HINT) from None


def _backend() -> KeyringBackend | None:
    try:
        import keyring  # noqa: PLC0415 - an extra, and slow to find what there is
    except ImportError:
        return None
    chosen = keyring.get_keyring()
    chain: list[KeyringBackend] = getattr(chosen, "backends", [chosen])  # one backend may stand for several
    return next((one for one in chain if one.priority >= 1 and not _in_plain_files(one)), None)


def _in_plain_files(backend: KeyringBackend) -> bool:
    return type(backend).__module__.split(".")[:2] == ["keyrings", "alt"]


KEY_BYTES: Final = 32
KeyPlace = Literal["environment", "keyring", "file"]
KEYRING_SERVICE = "catalyst-host master key"
_VARIABLE = "HOST_MASTER_KEY"


class MasterKey(Unspoken):
    """`id` identifies the key without revealing it; `place` says where it was found."""

    __slots__ = ("id", "key", "place")

    def __init__(self, key: bytes, place: KeyPlace) -> None:
        self.key = key
        self.place = place
        self.id = hashlib.sha256(b"catalyst-host master key\0" + key).hexdigest()[:16]

    def derived(self, purpose: str) -> bytes:
        """A key for `purpose` alone: 32 bytes, by HKDF-SHA256 (RFC 5869) without a salt."""
        extracted = hmac.digest(bytes(hashlib.sha256().digest_size), self.key, "sha256")
        return hmac.digest(extracted, f"catalyst-host {purpose}".encode() + b"\x01", "sha256")


def file_of(ident: str, state_dir: Path) -> Path:
    """The path of the master key `ident`, if it is in a file."""
    return state_dir / f"master-{ident}.key"


def find(ident: str, state_dir: Path) -> MasterKey:
    """The master key `ident`. Raises VaultError if no place has it or a place cannot be read; InputError if a place
    holds something that is not a key."""
    for held in _held(ident, state_dir):
        if held.id == ident:
            return held
    raise VaultError(
        f"the master key {ident} is nowhere to be found, and the state cannot be opened without it",
        hint=f"it was in {_VARIABLE}, in the keyring, or in {file_of(ident, state_dir).name} in the state directory of "
        f"the machine that made it; other machines that share the state need the content of that file in {_VARIABLE}",
    )


def nearby(state_dir: Path) -> MasterKey | None:
    """The master key that is found without the database and without a keyring: the first in HOST_MASTER_KEY, else the
    latest in a file of the state directory. None if there is none that can be read."""
    with suppress(InputError):
        for given in _given():
            return given
    with suppress(OSError):
        for file in sorted(state_dir.glob(file_of("*", state_dir).name), key=lambda one: -one.stat().st_mtime_ns):
            with suppress(VaultError, InputError):
                return _from_file(file)
    return None


def make(state_dir: Path, place: KeyPlace | None = None, *, note: Callable[[str], None] = lambda _: None) -> MasterKey:
    """The master key for new data keys: from `place`, or from the first usable place. `note` is called with its id
    before it is stored. Raises InputError, VaultError."""
    if place in (None, "environment"):
        for given in _given():
            return given
    if place == "environment":
        raise InputError(f"{_VARIABLE} is not set", field=_VARIABLE, hint="openssl rand -base64 32")
    key = secrets.token_bytes(KEY_BYTES)
    note(MasterKey(key, "file").id)
    return (place != "file" and _into_keyring(key, required=place == "keyring")) or _into_file(key, state_dir)


def forget(key: MasterKey, state_dir: Path) -> None:
    """Remove the key from the keyring or its file. A key in the environment stays. Raises VaultError."""
    if key.place == "keyring":
        remove(KEYRING_SERVICE, key.id)
    elif key.place == "file":
        file_of(key.id, state_dir).unlink(missing_ok=True)


def remove_unused(ident: str, state_dir: Path) -> None:
    """Remove the master key `ident` from its file, or else from the keyring, if it is there. Raises VaultError."""
    file = file_of(ident, state_dir)
    if file.exists():
        file.unlink(missing_ok=True)
    elif read(KEYRING_SERVICE, ident) is not None:
        remove(KEYRING_SERVICE, ident)


def _held(ident: str, state_dir: Path) -> Iterator[MasterKey]:
    """The master keys in all places, the quickest place first."""
    yield from _given()
    file = file_of(ident, state_dir)
    if file.exists():
        yield _from_file(file)
    if text := read(KEYRING_SERVICE, ident):
        yield MasterKey(_decoded(text, "the keyring's master key"), "keyring")


def _given() -> Iterator[MasterKey]:
    for text in environment.master_keys():
        yield MasterKey(_decoded(text, _VARIABLE), "environment")


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
    return MasterKey(_decoded(text, file.name), "file")


def _into_keyring(key: bytes, *, required: bool) -> MasterKey | None:
    """None if there is no usable keyring. Raises VaultError instead if it is `required`."""
    made = MasterKey(key, "keyring")
    try:
        if write(KEYRING_SERVICE, made.id, base64.b64encode(key).decode()):
            return made
    except VaultError:
        if required:
            raise
    if required:
        raise VaultError("there is no keyring that could keep a key", hint=installation.remedy("keyring"))
    return None


def _into_file(key: bytes, state_dir: Path) -> MasterKey:
    """Write the key for this user alone, and sync it to the disk before anything is encrypted with it."""
    from host.store.database import sync_folder  # noqa: PLC0415 - for `nearby`, a file's run imports no database

    made = MasterKey(key, "file")
    file = file_of(made.id, state_dir)
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as opened:  # noqa: PTH123 - with its mode from the start
            opened.write(base64.b64encode(key) + b"\n")
            opened.flush()
            os.fsync(opened.fileno())
        sync_folder(state_dir)
    except OSError as error:
        with suppress(OSError):
            file.unlink()  # half a key is of no use
        raise VaultError(f"cannot write {str(file)!r}: {error.strerror}") from None
    return made


def _decoded(text: str, name: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise InputError(f"{name} is not {KEY_BYTES} bytes in base64", field=name, hint="openssl rand -base64 32")
    return key
