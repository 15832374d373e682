"""What an operation's tool is called: `openai_chat_completions_create`. Pure.

Names hold letters, digits, `_` and `-`, at most 64 of them, which every client and model takes. They follow from what
is installed alone: who asks changes nothing about them.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable

from host.names import Reference

LONGEST = 64
_HASH = 8
_OTHER = re.compile(r"[^a-zA-Z0-9_-]")


def names(operations: Iterable[tuple[Reference, str]], taken: Collection[str] = ()) -> dict[tuple[Reference, str], str]:
    """A name for each operation of each catalyst; for "", the catalyst's own. Where two would have the same, or one of
    those that are `taken`, both begin with their namespace; where that is not enough, they end in a hash."""
    wanted = list(operations)
    plain = {one: _joined(one[0].name, one[1]) for one in wanted}
    clashing = _clashing(plain.values(), taken)
    named = {
        one: _joined(one[0].namespace, one[0].name, one[1]) if name in clashing else name for one, name in plain.items()
    }
    clashing = _clashing(named.values(), taken)
    return {
        one: _hashed(name, *one) if name in clashing or len(name) > LONGEST else name for one, name in named.items()
    }


def _joined(*parts: str) -> str:
    return "_".join(_OTHER.sub("_", part) for part in parts if part)


def _clashing(found: Iterable[str], taken: Collection[str]) -> set[str]:
    counted = Counter(found)
    return {name for name, count in counted.items() if count > 1 or name in taken}


def _hashed(name: str, reference: Reference, operation: str) -> str:
    """Cut, and with a hash of what it stands for: the same wherever that is installed."""
    digest = hashlib.sha256(f"{reference.subject} {operation}".encode()).hexdigest()
    return f"{name[: LONGEST - _HASH - 1]}_{digest[:_HASH]}"
