"""What a command line names: a file, or something that is installed or to be pulled."""

from __future__ import annotations

from collections.abc import Sequence

from host.errors import InputError
from host.names import looks_like_reference


def source_named(words: Sequence[str]) -> str:
    """The one source among `words`: `c local.openai` is two words for `c:local.openai`. Raises InputError."""
    if len(words) == 2 and looks_like_reference(f"{words[0]}:"):
        return ":".join(words)
    if len(words) != 1:
        raise InputError(f"one FILE or REF, not {len(words)}: {' '.join(words)}", field="FILE|REF")
    return words[0]


def is_reference(name: str) -> bool:
    """Whether `name` is a reference and no file (a file of such a name is `./c:x`)."""
    return name.startswith("oci://") or looks_like_reference(name)
