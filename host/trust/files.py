"""Signatures as files beside the artifact: the first signer's is `X.wasm.sigstore.json`, where cosign's users look for
it; each further one has twelve hex digits of the key's id before its ending: `X.wasm.0123456789ab.sigstore.json`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host.errors import InputError
from host.trust.bundle import MAX_BUNDLE_BYTES, MAX_BUNDLES, Bundle

if TYPE_CHECKING:
    from host.trust.keys import PublicKey

_ENDING: Final = ".sigstore.json"
# Digits alone: `X.wasm.old.sigstore.json` is a signature of `X.wasm.old`.
_FURTHER = re.compile(r"\.[0-9a-f]{12}")


def bundles_beside(path: str | Path) -> tuple[str, ...]:
    """The texts of the bundles beside the artifact at `path`, the first signer's first; () where there are none. A text
    longer than a bundle may be is cut just above that, and a byte that is not UTF-8 is U+FFFD: neither is a bundle any
    more, and verification says so. Raises InputError."""
    artifact = Path(path)
    try:
        found = [file for file in artifact.parent.iterdir() if _is_bundle(file.name, artifact.name) and file.is_file()]
        found.sort(key=lambda file: (len(file.name), file.name))
        return tuple(_text(file) for file in found[: MAX_BUNDLES + 1])  # one more than verification looks at
    except OSError as error:
        raise InputError(f"cannot read the signatures of {str(path)!r}: {error.strerror}") from None


def bundle_path(path: str | Path, key: PublicKey) -> Path:
    """Where the signature of `key` over the artifact at `path` belongs: the file in which it has one already, or else
    the first that is no other signer's. Raises InputError."""
    artifact = Path(path)
    first = artifact.with_name(artifact.name + _ENDING)
    further = artifact.with_name(f"{artifact.name}.{key.id.removeprefix('sha256:')[:12]}{_ENDING}")
    try:
        if further.exists():
            return further
        return further if first.exists() and not _is_by(_text(first), key) else first
    except OSError as error:
        raise InputError(f"cannot read the signature in {str(first)!r}: {error.strerror}") from None


def _is_bundle(name: str, artifact: str) -> bool:
    between = name.removeprefix(artifact).removesuffix(_ENDING)
    return name == artifact + between + _ENDING and (not between or bool(_FURTHER.fullmatch(between)))


def _text(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(MAX_BUNDLE_BYTES + 1).decode("utf-8", "replace")


def _is_by(text: str, key: PublicKey) -> bool:
    try:
        return Bundle.parse(text).hint == key.hint
    except InputError:
        return False
