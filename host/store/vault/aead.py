"""AES-256-GCM (NIST SP 800-38D): 12 random bytes of nonce, the ciphertext, 16 bytes of tag."""

from __future__ import annotations

import json
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12


class DecryptionFailed(Exception):
    """These bytes were not sealed with this key for this place."""


def seal(key: bytes, plaintext: bytes, *place: str) -> bytes:
    """`place` is what the sealed bytes are bound to: they open with the same parts in the same order only."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, _associated(place))


def decrypt(key: bytes, sealed: bytes, *place: str) -> bytes:
    """Raises DecryptionFailed."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _associated(place))
    except (InvalidTag, ValueError):
        raise DecryptionFailed from None


def _associated(place: tuple[str, ...]) -> bytes:
    return json.dumps(["catalyst-host", *place]).encode()
