"""Authenticated encryption: AES-256-GCM (NIST SP 800-38D), as 12 random bytes of nonce, the ciphertext, 16 of tag."""

from __future__ import annotations

import json
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class DecryptionFailed(Exception):
    """The bytes were not encrypted with this key and this context."""


def encrypt(key: bytes, plaintext: bytes, *context: str) -> bytes:
    """`context` is authenticated with the plaintext: only the same parts in the same order decrypt it."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, _associated_data(context))


def decrypt(key: bytes, encrypted: bytes, *context: str) -> bytes:
    """Raises DecryptionFailed."""
    try:
        return AESGCM(key).decrypt(encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:], _associated_data(context))
    except (InvalidTag, ValueError):
        raise DecryptionFailed from None


def _associated_data(context: tuple[str, ...]) -> bytes:
    return json.dumps(["catalyst-host", *context]).encode()
