"""The texts of API keys: how one is made, and which id is in it.

The text of a key is `host_sk_`, its id, `_`, 32 random characters and 6 of a checksum, in the style of GitHub's tokens.
A scanner for leaked keys, or a client with a typo, can check a text offline.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib
from typing import Final, Literal, get_args

KeyType = Literal["public", "secret", "admin"]
KEY_TYPES: Final[tuple[KeyType, ...]] = get_args(KeyType)

_PREFIX: Final[dict[KeyType, str]] = {"public": "host_pk_", "secret": "host_sk_", "admin": "host_ak_"}
_ID: Final = string.ascii_lowercase + string.digits
_ID_LENGTH: Final = 12
_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_LENGTH: Final = 32  # of 62 characters: 190 bits
_CHECK_LENGTH: Final = 6  # of 62 characters: more than the 32 bits of a CRC32
KEY_TEXT: Final = re.compile(rf"host_[psa]k_([a-z0-9]{{{_ID_LENGTH}}})_[0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECK_LENGTH}}}")


def new_id() -> str:
    return "".join(secrets.choice(_ID) for _ in range(_ID_LENGTH))


def new_text(kind: KeyType, ident: str) -> str:
    """The text of a new key: a secret, shown once to the person who uses it."""
    body = f"{_PREFIX[kind]}{ident}_{''.join(secrets.choice(_BASE62) for _ in range(_RANDOM_LENGTH))}"
    return body + _check(body)


def id_in(text: str) -> str:
    """The id in the text of a key; "" if `text` has another form, or a wrong checksum."""
    match = KEY_TEXT.fullmatch(text)
    if match is None or _check(text[:-_CHECK_LENGTH]) != text[-_CHECK_LENGTH:]:
        return ""
    return match[1]


def _check(body: str) -> str:
    left, digits = zlib.crc32(body.encode("ascii")), []
    for _ in range(_CHECK_LENGTH):
        left, digit = divmod(left, len(_BASE62))
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
