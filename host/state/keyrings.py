"""The desktop's keyring, through the library `keyring` where that is installed: Secret Service, KWallet, the keychain.

Only a backend that protects what it holds counts (`keyring` calls it recommended), so none that writes to a plain
file. What the desktop asks its user meanwhile can take a while, or for ever where nobody sits before it: every call is
given up after `PATIENCE_S` seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Final, TypeVar

from host.errors import VaultError

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
