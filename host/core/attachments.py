"""Bytes that stay with the host: named by random ids that one run owns (CONTRACT.md, Attachments)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from host.errors import InputError


@dataclass(frozen=True, slots=True)
class Attachment:
    """Bytes with what is known of them. `content_type` is a media type such as `audio/mpeg`, or empty."""

    data: bytes = field(repr=False)
    filename: str = ""
    content_type: str = ""

    @classmethod
    def read(cls, path: str | Path) -> Attachment:
        """The file at `path`, under its own name; the type is guessed from the name. Raises InputError."""
        file = Path(path)
        try:
            data = file.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the attachment {str(path)!r}: {error.strerror}") from error
        import mimetypes  # noqa: PLC0415 - only files need it

        return cls(data, file.name, mimetypes.guess_type(file.name)[0] or "application/octet-stream")

    @classmethod
    def of(cls, given: object) -> Attachment:
        """What a caller may hand over: bytes, a path, or an Attachment. Raises InputError."""
        match given:
            case Attachment():
                return given
            case bytes() | bytearray() | memoryview():
                return cls(bytes(given))
            case Path():
                return cls.read(given)
        raise InputError(
            f"an attachment cannot be made of {type(given).__name__}",
            hint="hand over bytes, a pathlib.Path or an Attachment",
        )


class Attachments:
    """The attachments of one run: nothing here outlives it, and no other run can name them."""

    def __init__(self, max_bytes: int) -> None:
        self._held: dict[str, Attachment] = {}
        self._room = max_bytes

    def put(self, attachment: Attachment) -> str | None:
        """The id under which the run now has it; None when it is over `max_attachment_bytes`."""
        if len(attachment.data) > self._room:
            return None
        self._room -= len(attachment.data)
        name = "att_" + secrets.token_hex(16)
        self._held[name] = attachment
        return name

    def get(self, name: object) -> Attachment | None:
        return self._held.get(name) if isinstance(name, str) else None

    @property
    def room(self) -> int:
        """Bytes that may still be put."""
        return self._room

    def snapshot(self) -> Mapping[str, Attachment]:
        return dict(self._held)
