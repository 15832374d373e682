"""What it costs to search a megabyte for twenty keys of 164 characters, by what the megabyte holds: text that is clean, and
text that somebody wrote who knows how the search works. `compared` relates it to a loop over the bytes."""

from __future__ import annotations

import base64
import random
import string
import time
from collections.abc import Callable

from host.secrets.redaction import Redactor
from host.secrets.value import SecretValue
from tests.benchmarks.measure import ms, table

MEGABYTE = 1 << 20
ALPHABET = string.ascii_letters + string.digits + "-_"
_random = random.Random(1)
KEYS = ["sk-proj-" + "".join(_random.choices(ALPHABET, k=156)) for _ in range(20)]
PROSE = '{"id": "chatcmpl-9abcdefghij", "text": "The quick brown fox jumps over the lazy dog\\nand \\"so\\" on"}, '


def nested(text: bytes, times: int) -> str:
    for _ in range(times):
        text = base64.b64encode(text)
    return text.decode()


UNITS: dict[str, Callable[[], str]] = {
    "clean JSON": lambda: PROSE,
    "clean text": lambda: "The quick brown fox jumps over the lazy dog. ",
    "clean Japanese": lambda: "漢字仮名交じり文",
    "longer and longer beginnings of the keys": lambda: "".join(f"{k[:n]} " for k in KEYS for n in range(8, 20)),
    "near misses in one run": lambda: "".join(key[:19] for key in KEYS),
    "pieces of 15 characters of the keys": lambda: "".join(
        f"{k[n : n + 15]} " for k in KEYS for n in range(8, 150, 15)
    ),
    "the keys": lambda: " ".join(KEYS),
    "pieces in hex": lambda: " ".join(key[:19].encode().hex() for key in KEYS),
    "one letter": lambda: "a",
    "an alphabet that is its own base64": lambda: "VVVV",
    "the alphabet of base64": lambda: ALPHABET,
    "random base64": lambda: "".join(random.Random(2).choices(ALPHABET, k=MEGABYTE)),
    "base64 of JSON": lambda: nested(PROSE.encode() * 1_000, 1),
    "base64 of base64 of JSON": lambda: nested(PROSE.encode() * 1_000, 2),
    "base64, ten times": lambda: nested(b"sk-proj-zzzz" * 3_000, 10),
    "base32 of JSON": lambda: base64.b32encode(PROSE.encode() * 1_000).decode(),
    "hex of JSON": lambda: (PROSE * 1_000).encode().hex(),
    "percent signs": lambda: "%41",
    "percent signs escaped again and again": lambda: "%2525252525252525252525252541",
    "backslashes": lambda: "\\",
    "backslashes and letters": lambda: "\\\\k",
    "ampersands": lambda: "&",
    "ampersands escaped again and again": lambda: "&amp;",
    "ampersands and letters": lambda: "&" + "a" * 35,
    "escapes of JSON": lambda: r"\u0073\u006b",
    "references of HTML": lambda: "&#65;",
    "quoted-printable": lambda: "=41",
    "octal escapes": lambda: r"\101",
    "escapes within escapes": lambda: "%5Cu0026amp;#x25;41",
    "a list of numbers": lambda: "1,",
    "words of twelve letters": lambda: "a" * 12 + " ",
    "words of sixteen letters": lambda: "aB3" * 5 + "a ",
    "every second byte NUL": lambda: "a\0",
}


def redactor() -> Redactor:
    return Redactor({f"host-secret-{number:032x}": SecretValue(key) for number, key in enumerate(KEYS)})


def sample(name: str, size: int) -> bytes:
    unit = UNITS[name]()
    return (unit * (size // len(unit) + 1)).encode()[:size]


def looked_at(data: bytes) -> int:
    """A loop that looks at each byte once: what a search byte by byte costs at least."""
    moves, state = dict.fromkeys(range(256), 0), 0
    for byte in data:
        state += moves[byte]
    return state


def cpu_time(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def compared(redact: Redactor, data: bytes) -> float:
    """How many times as long as `looked_at` it takes, at best of three."""
    search = min(cpu_time(lambda: redact.data(data)) for _ in range(3))
    return search / min(cpu_time(lambda: looked_at(data)) for _ in range(3))


def main() -> None:
    redact, rows = redactor(), []
    for name in UNITS:
        data = sample(name, MEGABYTE)
        best = min(cpu_time(lambda data=data: redact.data(data)) for _ in range(2))  # type: ignore[misc]
        rows.append((name, ms(best)))
    table("Searching 1 MiB for 20 keys of 164 characters", ("of", "ms"), rows)
