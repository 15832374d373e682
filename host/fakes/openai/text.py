"""Deterministic text: every answer is a function of a seed, and a seed is the hash of what was asked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

CREATED = 1_700_000_000  # the `created` of everything: a clock would make two runs differ
MAX_WORDS = 100_000

# 64 words, so that six bits choose one; some are not ASCII, so that a client which splits UTF-8 is found out.
_WORDS = (  # noqa: SIM905 - a list of 64 quoted words is longer and no clearer
    "amber river stone quiet lantern harbour willow copper meadow signal orbit velvet cedar ripple canyon ember "
    "falcon garden hollow island jasper kettle ladder marble nectar orchid pepper quartz ribbon saffron timber umber "
    "valley winter yonder zephyr anchor basil cobalt drift echo fable glacier hazel indigo juniper linen mosaic "
    "nimbus opal prairie quill raven sable thistle upland vessel wander naïve café Zürich 東京 🌊 señal"
).split()
_TOKEN = re.compile(r"\s*\S+|\s+\Z")
_ASKED_LENGTH = re.compile(r"\bin (\d{1,6}) words\b")


def seed_of(*asked: Any) -> bytes:
    """32 bytes from JSON values, whatever the order of their keys."""
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).digest()


def identifier(prefix: str, seed: bytes, length: int = 24) -> str:
    return prefix + hashlib.sha256(prefix.encode() + seed).hexdigest()[:length]


def sentence(seed: bytes, words: int | None = None) -> str:
    """`words` words that read like a sentence; without it 8 to 23 of them, as the seed will have it."""
    length = 8 + seed[0] % 16 if words is None else words
    chosen = [_WORDS[byte & 63] for byte in hashlib.shake_256(seed).digest(length)]
    text = " ".join(chosen) + "." if chosen else ""
    return text[:1].upper() + text[1:]


def asked_length(prompt: str) -> int | None:
    """The N of "in N words", the one thing that a prompt can ask of this model; for tests of long answers."""
    found = _ASKED_LENGTH.search(prompt)
    return min(int(found[1]), MAX_WORDS) if found else None


def tokens(text: str) -> list[str]:
    """Words, each with the white space before it; joined they are `text`."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    return len(text.split())


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote, and why it ended."""

    tokens: list[str]
    finish: Literal["stop", "length"]

    @property
    def text(self) -> str:
        return "".join(self.tokens)


def written(text: str, *, limit: int | None = None, stops: Sequence[str] = ()) -> Written:
    """`text`, ended by `limit` tokens or before the first of `stops`, whichever comes first."""
    every = tokens(text)
    finish: Literal["stop", "length"] = "stop"
    if limit is not None and limit < len(every):
        every, finish = every[:limit], "length"
    kept = "".join(every)
    cuts = [at for stop in stops if stop and (at := kept.find(stop)) >= 0]
    if cuts:
        return Written(tokens(kept[: min(cuts)]), "stop")
    return Written(every, finish)
