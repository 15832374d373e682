"""The bytes of components, with what they say of themselves and their signatures.

The bytes are files of the state directory. If several machines share the database, it holds the bytes too, and the
files are this machine's copies. A reader of bytes verifies them; this module does not.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from host.core.names import Digest
from host.errors import StateError
from host.store.audit_log.log import Change
from host.store.connections import StateConnection
from host.store.database import LONG_S, Database, make_private, sync_folder
from host.store.sql import delete, exists, insert, select
from host.store.tables import artifacts, blobs, signatures
from host.trust.bundle import MAX_BUNDLES

_FOLDER = "components"


class Blobs:
    """One per process, thread-safe."""

    def __init__(self, database: Database, state_dir: Path) -> None:
        self._database = database
        self._folder = state_dir / _FOLDER

    @contextmanager
    def prepared(self, digest: Digest, content: bytes, drop: Callable[[Digest], None]) -> Iterator[None]:
        """Store `content` on this machine, and send it to the others, which may take long: in a transaction of its own,
        beside which others write. Inside, `put` follows; where that fails, `drop` is called. Raises StateError."""
        self._write(digest, content)
        if self._database.shared:
            with self._database.adding(LONG_S) as connection:
                _add(connection, digest, content)
        try:
            yield
        except BaseException:
            with suppress(StateError):  # what went wrong before says more
                drop(digest)
            raise

    def put(self, connection: StateConnection, digest: Digest, content: bytes) -> None:
        """Keep `content`, in a write transaction: what somebody else dropped meanwhile is stored again. Raises
        StateError."""
        if not self._file(digest).exists():
            self._write(digest, content)
        if self._database.shared:
            _add(connection, digest, content)

    def get(self, digest: Digest) -> bytes:
        """Raises StateError if the bytes are gone."""
        try:
            return self._file(digest).read_bytes()
        except OSError as error:
            if not self._database.shared:
                raise StateError(
                    f"the bytes of {digest} cannot be read: {error.strerror}", hint="register or pull it again"
                ) from None
        with self._database.reading(LONG_S) as connection:
            content = connection.execute(select(blobs.c.content).where(blobs.c.digest == str(digest))).scalar()
        if content is None:
            raise StateError(f"the bytes of {digest} are no longer in the database", hint="register or pull it again")
        self._write(digest, bytes(content))
        return bytes(content)

    def delete(self, connection: StateConnection, digest: Digest) -> None:
        connection.execute(delete(blobs).where(blobs.c.digest == str(digest)))
        self._file(digest).unlink(missing_ok=True)

    def _file(self, digest: Digest) -> Path:
        return self._folder / f"{digest.hex}.wasm"

    def _write(self, digest: Digest, content: bytes) -> None:
        """Write the file whole or not at all, even if the process is killed. An existing file is replaced, because its
        content may have been changed."""
        make_private(self._folder)
        draft = self._folder / f".{digest.hex}.{secrets.token_hex(4)}"
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:  # noqa: PTH123 - with its mode from the start
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._file(digest))
            sync_folder(self._folder)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise StateError(f"cannot write to {str(self._folder)!r}: {error.strerror}") from None


def _add(connection: StateConnection, digest: Digest, content: bytes) -> None:
    if not connection.execute(select(exists().where(blobs.c.digest == str(digest)))).scalar():
        adding = insert(blobs).values(digest=str(digest), content=content)
        connection.execute(adding.where_there(("digest",), {}))


def store_artifact(change: Change, digest: Digest, size: int, manifest: str, imports: Sequence[str]) -> None:
    if not change.connection.execute(select(exists().where(artifacts.c.digest == str(digest)))).scalar():
        change.insert(
            artifacts,
            digest=str(digest),
            size=size,
            manifest=manifest,
            imports=json.dumps(list(imports)),
            added_at=time.time(),
        )


def store_bundles(connection: StateConnection, digest: Digest, bundles: Sequence[str]) -> None:
    """Store bundles in the order of their arrival, each once, and no more than verification looks at: otherwise
    somebody who can attach bundles to an artifact could block its use. If there are too many, the new bundles come
    first, because they verified the artifact just now."""
    query = select(signatures.c.bundle).where(signatures.c.digest == str(digest))
    known = list(connection.execute(query.order_by(signatures.c.position)).scalars())
    both = list(dict.fromkeys([*known, *bundles]))
    if len(both) > MAX_BUNDLES:
        both = list(dict.fromkeys([*bundles, *known]))[:MAX_BUNDLES]
    if both != known:
        connection.execute(delete(signatures).where(signatures.c.digest == str(digest)))
        rows = [{"digest": str(digest), "position": at, "bundle": bundle} for at, bundle in enumerate(both)]
        connection.execute(insert(signatures), rows)
