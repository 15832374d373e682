"""The bytes of components, by digest. Files of the state directory; where several machines share the database it has
them too, and the files are this machine's copies. Whoever reads bytes verifies them: nothing here is taken at its word.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select

from host.errors import StateError
from host.names import Digest
from host.state.database import Database, make_private
from host.state.tables import blobs

_FOLDER = "components"


class Blobs:
    """One per process, thread-safe."""

    def __init__(self, database: Database, state_dir: Path) -> None:
        self._database = database
        self._folder = state_dir / _FOLDER

    def put(self, connection: Connection, digest: Digest, content: bytes) -> None:
        """Keep `content`: there once this returns, and for other machines once the transaction is through. Raises
        StateError."""
        self._write(digest, content)
        if self._database.shared:
            known = connection.execute(select(blobs.c.digest).where(blobs.c.digest == str(digest))).first()
            if known is None:
                connection.execute(insert(blobs).values(digest=str(digest), content=content))

    def get(self, digest: Digest) -> bytes:
        """Raises StateError where it is not there any more."""
        try:
            return self._file(digest).read_bytes()
        except OSError as error:
            if not self._database.shared:
                raise StateError(
                    f"the bytes of {digest} cannot be read: {error.strerror}", hint="register or pull it again"
                ) from None
        with self._database.reading() as connection:
            content = connection.execute(select(blobs.c.content).where(blobs.c.digest == str(digest))).scalar()
        if content is None:
            raise StateError(f"the bytes of {digest} are in the database no more", hint="register or pull it again")
        self._write(digest, bytes(content))
        return bytes(content)

    def delete(self, connection: Connection, digest: Digest) -> None:
        connection.execute(delete(blobs).where(blobs.c.digest == str(digest)))
        self._file(digest).unlink(missing_ok=True)

    def _file(self, digest: Digest) -> Path:
        return self._folder / f"{digest.hex}.wasm"

    def _write(self, digest: Digest, content: bytes) -> None:
        """Whole or not at all, whenever the process is killed; anew where a file is there, which may not be what it
        was."""
        make_private(self._folder)
        draft = self._folder / f".{digest.hex}.{secrets.token_hex(4)}"
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:  # noqa: PTH123 - with its mode from the start
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._file(digest))
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise StateError(f"cannot write to {str(self._folder)!r}: {error.strerror}") from None
