"""What a command line names: a file, or something that is installed or to be pulled."""

from __future__ import annotations

from collections.abc import Sequence

from host.errors import InputError
from host.names import looks_like_reference
from host.registry.oci.reference import looks_like_oci


def source_named(words: Sequence[str]) -> str:
    """The one source among `words`: `c local.openai`, also as one word, stands for `c:local.openai`. Raises
    InputError."""
    parts = words[0].split() if len(words) == 1 else words
    if len(parts) == 2 and looks_like_reference(f"{parts[0]}:"):
        return ":".join(parts)
    if len(words) != 1:
        raise InputError(f"one FILE or REF, not {len(words)}: {' '.join(words)}", field="FILE|REF")
    return words[0]


def is_reference(name: str) -> bool:
    """Whether `name` is a reference and no file (a file of such a name is `./c:x`)."""
    return looks_like_oci(name) or looks_like_reference(name)
