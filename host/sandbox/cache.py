"""Compiled components on disk, private to this user and authenticated.

wasmtime runs whatever code a compiled file holds, so a file is only loaded after an HMAC-SHA256 over the very bytes
that are loaded: they are copied into a sealed file in memory, authenticated there, and loaded from there. The key is
derived from the master key of the state, so nobody who can write to both directories, and has no master key, brings
code into a run. Where there is no master key, it is a file in the state directory: outside the cache, so that restoring
a cache (in CI, say) brings no code with it.

A file: the compiled code, then 32 bytes of MAC. Its name: the component's digest, the engine's fingerprint, both of
which the MAC covers, and the id of the key, so that states that share a cache have files of their own. Files appear by
rename; a lock per name lets two processes compile one thing once.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import mmap
import os
import secrets
import stat
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wasmtime import Engine, WasmtimeError
from wasmtime.component import Component

from host.core.names import Digest
from host.core.waiting import lacking, left
from host.errors import CacheError
from host.sandbox.compiler import memory_file

_MAC_BYTES = 32
_KEY_BYTES = 32
_MAX_CACHE_BYTES = 1 << 30  # some 30 Python catalysts; the least recently used go first
_LOCK_S = 130.0  # longer than the limit for compiling
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe in its place must not make us wait


class CompiledCache:
    """`derived` returns the key that is derived from a master key, None if there is none. It is called once, by the
    first use."""

    def __init__(self, cache_dir: Path, state_dir: Path, derived: Callable[[], bytes | None] | None = None) -> None:
        self._dir = cache_dir / "compiled"
        self._state_dir = state_dir
        self._derived = derived
        self._key: bytes | None = None

    def protect(self, state_dir: Path, key: bytes) -> bool:
        """Use `key` from here on, if the cache belongs to the state in `state_dir`. Returns whether that is another key
        than before."""
        if state_dir.absolute() != self._state_dir.absolute() or self._key == key:
            return False
        self._key = key
        return True

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Inside, no other thread or process holds `name`. If the directory cannot be written, nothing is locked.
        Raises CacheError where another process holds it for longer than compiling may take."""
        try:
            _private_dir(self._dir)
            fd = os.open(self._path(name).with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            yield
            return
        try:
            _lock(fd)
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # closing would leave it to a child of a fork
            os.close(fd)

    def load(self, name: str, engine: Engine) -> Compiled | None:
        """The component cached as `name`; None unless there is one that is authentic and fits the engine."""
        try:
            source = os.open(self._path(name), _OPEN)
        except OSError:
            return None
        try:
            found = os.fstat(source)
            size = found.st_size - _MAC_BYTES
            if not stat.S_ISREG(found.st_mode) or not 0 < size <= _MAX_CACHE_BYTES:
                return None
            with memory_file("compiled") as held:
                _copy(source, held, size)
                seal(held)
                mac = os.pread(source, _MAC_BYTES, size)
                key = self._secret_key()
                if key is None or not hmac.compare_digest(mac, _mac(key, name, held)):
                    return None
                with suppress(OSError):
                    os.utime(source)
                return Compiled(engine, held)
        except (OSError, WasmtimeError) as error:
            if (busy := lacking(error)) is not None:  # it is not worth another compilation, which would fail too
                raise busy from None
            return None
        finally:
            os.close(source)

    def store(self, name: str, held: int) -> None:
        """Store the content of the sealed file `held` as `name`. Does nothing if the cache cannot be written."""
        key = self._secret_key()
        if key is None:
            return
        temporary = self._dir / f".{name}.{secrets.token_hex(8)}.cwasm"
        try:
            _private_dir(self._dir)
            target = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                _copy(held, target, os.fstat(held).st_size)
                os.write(target, _mac(key, name, held))
            finally:
                os.close(target)
            temporary.rename(self._path(name))
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            return
        self._prune()

    def _path(self, name: str) -> Path:
        key = self._secret_key()
        ident = "" if key is None else hashlib.sha256(b"compiled cache\0" + key).hexdigest()[:8]
        return self._dir / f"{name}-{ident}.cwasm"

    def _secret_key(self) -> bytes | None:
        """The key; None if it cannot be stored: then nothing is cached. Raises CacheError if it is not private."""
        if self._key is None and self._derived is not None:
            self._key = self._derived()
        if self._key is None:
            with suppress(OSError):
                self._key = _read_key(self._state_dir / "cache.key")
        return self._key

    def _prune(self) -> None:
        with suppress(OSError):
            kept = sorted(self._dir.glob("*.cwasm"), key=lambda path: path.stat().st_mtime, reverse=True)
            total = 0
            for path in kept:
                total += path.stat().st_size
                if total > _MAX_CACHE_BYTES:
                    path.unlink(missing_ok=True)
                    path.with_suffix(".lock").unlink(missing_ok=True)


def _lock(fd: int) -> None:
    until = time.monotonic() + left(_LOCK_S)
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise CacheError(
                    "another process compiles this component, and does not end", hint="is there a stopped one?"
                ) from None
            time.sleep(0.02)
        else:
            return


def cache_name(digest: Digest, fingerprint: str) -> str:
    return f"{digest.hex}-{fingerprint}"


def seal(fd: int) -> None:
    """No process can change the file from here on, where the system can promise that."""
    if hasattr(fcntl, "F_ADD_SEALS"):
        fcntl.fcntl(
            fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        )


class Compiled:
    """The `component` in a sealed file, for `engine`. The file is kept, so that other engines can have it, too."""

    def __init__(self, engine: Engine, fd: int) -> None:
        """Raises OSError, and WasmtimeError where it does not fit the engine."""
        self._fd = os.dup(fd)
        weakref.finalize(self, os.close, self._fd)
        self.component = self.for_engine(engine)

    def for_engine(self, engine: Engine) -> Component:
        """Mapped, not copied, where the system shows descriptors as files. Raises WasmtimeError."""
        shown = f"/proc/self/fd/{self._fd}"
        if hasattr(fcntl, "F_ADD_SEALS") and os.path.exists(shown):  # noqa: PTH110 - a descriptor, not a path to resolve
            return Component.deserialize_file(engine, shown)
        return Component.deserialize(engine, os.pread(self._fd, os.fstat(self._fd).st_size, 0))


def _copy(source: int, target: int, size: int) -> None:
    offset = 0
    while offset < size:
        sent = os.sendfile(target, source, offset, size - offset)
        if sent == 0:
            raise OSError("the file became shorter")
        offset += sent


def _private_dir(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)


def _mac(key: bytes, name: str, held: int) -> bytes:
    digest = hmac.new(key, name.encode() + b"\0", hashlib.sha256)
    with mmap.mmap(held, 0, prot=mmap.PROT_READ) as mapped:
        digest.update(mapped)
    return digest.digest()


def _read_key(path: Path) -> bytes:
    """The key in `path`, made on first use. Raises CacheError if it is not private to this user, OSError if it cannot
    be stored."""
    _private_dir(path.parent)
    if not path.exists():
        _make_key(path)
    fd = os.open(path, _OPEN)
    try:
        found, key = os.fstat(fd), os.read(fd, _KEY_BYTES + 1)
    finally:
        os.close(fd)
    if found.st_mode & 0o077 or found.st_uid != os.geteuid() or len(key) != _KEY_BYTES:
        raise CacheError(
            "the key of the compiled cache is not private to this user",
            hint="remove cache.key from the state directory",
        )
    return key


def _make_key(path: Path) -> None:
    """The file appears whole, and the first of several processes wins."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_bytes(_KEY_BYTES))
        os.fsync(fd)
        with suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        os.close(fd)
        fresh.unlink()
