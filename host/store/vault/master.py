"""The desktop's keyring, through the library `keyring` where that is installed: Secret Service, KWallet, the keychain.

Only a backend that protects what it holds counts (`keyring` calls it recommended), so none that writes to a plain file.
What the desktop asks its user meanwhile can take a while, or for ever where nobody sits before it: every call is given
up after `PATIENCE_S` seconds.

The master key: it seals the keys that the state holds, and is itself kept elsewhere. Three places can have one: the
variable HOST_MASTER_KEY, the desktop's keyring, a file in the state directory. A state has one at a time; a new state
takes the variable's, else it makes one and keeps it in the keyring, or in a file where there is no keyring to be used.

Each is kept under its id, so that of two states in one place neither can take or remove the other's, and so that while
one takes the place of another both are there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from host.core import environment
from host.errors import InputError, VaultError
from host.secrets.value import Unspoken
from host.store.vault.aead import KEY_BYTES

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend


PATIENCE_S: Final = 30.0
_HINT = "unlock it, or name another backend in PYTHON_KEYRING_BACKEND"

T = TypeVar("T")


def read(service: str, user: str) -> str | None:
    """What is kept under `service` and `user`; None where it is not, or there is no keyring. Raises VaultError."""
    return _asked(lambda backend: backend.get_password(service, user))


def write(service: str, user: str, text: str) -> bool:
    """Whether it is kept now: False where there is no keyring. Raises VaultError."""

    def kept(backend: KeyringBackend) -> bool:
        backend.set_password(service, user, text)
        return backend.get_password(service, user) == text

    return _asked(kept) or False


def remove(service: str, user: str) -> None:
    """Raises VaultError."""
    _asked(lambda backend: backend.delete_password(service, user))


def _asked(question: Callable[[KeyringBackend], T]) -> T | None:
    """The answer; None where there is nobody to ask. It is waited for on this thread, not given on it."""
    answer: Future[T | None] = Future()

    def ask() -> None:
        try:
            backend = _backend()
            answer.set_result(None if backend is None else question(backend))
        except Exception as error:  # noqa: BLE001 - backends are of many makers, and raise what their libraries do
            answer.set_exception(error)

    Thread(target=ask, name="keyring", daemon=True).start()
    try:
        return answer.result(PATIENCE_S)
    except TimeoutError:
        raise VaultError(f"the keyring did not answer within {PATIENCE_S:g} s", hint=_HINT) from None
    except Exception as error:  # noqa: BLE001 - see above
        raise VaultError(f"the keyring cannot be used: {type(error).__name__}", hint=_HINT) from None


def _backend() -> KeyringBackend | None:
    try:
        import keyring  # noqa: PLC0415 - an extra, and slow to find what there is
    except ImportError:
        return None
    chosen = keyring.get_keyring()
    chain: list[KeyringBackend] = getattr(chosen, "backends", [chosen])  # of several that would do, one stands for all
    return next((one for one in chain if one.priority >= 1 and not _in_plain_files(one)), None)


def _in_plain_files(backend: KeyringBackend) -> bool:
    return type(backend).__module__.split(".")[:2] == ["keyrings", "alt"]


Place = Literal["environment", "keyring", "file"]
KEYRING_SERVICE = "catalyst-host master key"
_VARIABLE = "HOST_MASTER_KEY"


class MasterKey(Unspoken):
    """`id` names it without telling it; `place` says where it was found."""

    __slots__ = ("id", "key", "place")

    def __init__(self, key: bytes, place: Place) -> None:
        self.key = key
        self.place = place
        self.id = hashlib.sha256(b"catalyst-host master key\0" + key).hexdigest()[:16]


def file_of(ident: str, state_dir: Path) -> Path:
    """Where the master key `ident` is, if it is in a file."""
    return state_dir / f"master-{ident}.key"


def find(ident: str, state_dir: Path) -> MasterKey:
    """The master key `ident`. Raises VaultError where no place has it, or the one that may have it cannot be asked;
    InputError where what a place has is no key."""
    for held in _held(ident, state_dir):
        if held.id == ident:
            return held
    raise VaultError(
        f"the master key {ident} is nowhere to be found, and the state cannot be opened without it",
        hint=f"it was in {_VARIABLE}, in the keyring, or in {file_of(ident, state_dir).name} in the state directory of "
        f"whoever made it; other machines that share the state are given what that file holds as {_VARIABLE}",
    )


def make(state_dir: Path, place: Place | None = None) -> MasterKey:
    """The one that something new is sealed with: from `place`, or from the first of them all that there is. Raises
    InputError, VaultError."""
    if place in (None, "environment"):
        for given in _given():
            return given
    if place == "environment":
        raise InputError(f"{_VARIABLE} is not set", field=_VARIABLE, hint="openssl rand -base64 32")
    key = secrets.token_bytes(KEY_BYTES)
    return (place != "file" and _into_keyring(key, required=place == "keyring")) or _into_file(key, state_dir)


def forget(key: MasterKey, state_dir: Path) -> None:
    """Remove it from the place where it was found; what the environment has, it keeps. Raises VaultError."""
    if key.place == "keyring":
        remove(KEYRING_SERVICE, key.id)
    elif key.place == "file":
        file_of(key.id, state_dir).unlink(missing_ok=True)


def _held(ident: str, state_dir: Path) -> Iterator[MasterKey]:
    """What there is, the quickest to look at first."""
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
    """None where there is no keyring, or none that can be used now: unless it is `required`, that is as good."""
    made = MasterKey(key, "keyring")
    try:
        if write(KEYRING_SERVICE, made.id, base64.b64encode(key).decode()):
            return made
    except VaultError:
        if required:
            raise
    if required:
        raise VaultError("there is no keyring that could keep a key", hint="pip install 'catalyst-host[keyring]'")
    return None


def _into_file(key: bytes, state_dir: Path) -> MasterKey:
    """For this user alone, and on the disk before anything relies on it."""
    made = MasterKey(key, "file")
    file = file_of(made.id, state_dir)
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as opened:  # noqa: PTH123 - with its mode from the start
            opened.write(base64.b64encode(key) + b"\n")
            opened.flush()
            os.fsync(opened.fileno())
        folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            file.unlink()  # half a key would only puzzle whoever finds it
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
