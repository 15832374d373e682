"""The contract as data: its interfaces, and the types of their functions (wit/ has the same in WIT).

Strings hold JSON unless noted; see wit/README.md for the messages.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypeAlias

Type = Literal["string", "bool", "u32", "u64", "list<u8>", "result<string, string>"]


class Ok(NamedTuple):
    value: str


class Err(NamedTuple):
    value: str


HostValue: TypeAlias = str | bool | int | bytes | Ok | Err | None  # what a host function may return


class Cut(str):
    """The beginning of a text from a guest that is longer than its room. `size` is that of the whole text, in bytes of
    UTF-8. It is cut before it is decoded, so the rest costs nothing."""

    __slots__ = ("size",)
    size: int

    @classmethod
    def of(cls, beginning: str, size: int) -> Cut:
        cut = cls(beginning)
        cut.size = size
        return cut


class Room(NamedTuple):
    """The bytes of UTF-8 that an argument may have: `fixed`, and so many tenths of a field of the run's Limits. None
    for a number."""

    fixed: int
    limit: str = "max_request_bytes"
    tenths: int = 0


class Signature(NamedTuple):
    """A function of the contract. `rooms` has the room of each parameter; an argument beyond it arrives as a Cut."""

    params: tuple[Type, ...]
    result: Type | None
    rooms: tuple[Room, ...] = ()


FETCH = "cyfr:http/fetch@0.1.0"
STREAMING = "cyfr:http/streaming@0.1.0"
SECRETS = "cyfr:secrets/read@0.1.0"
OUTPUT = "catalyst:host/output@0.1.0"
CONFIG = "catalyst:host/config@0.1.0"
LOG = "catalyst:host/log@0.1.0"
WEBSOCKET = "catalyst:host/websocket@0.1.0"
RUN = "cyfr:catalyst/run@0.1.0"

_KIB = 1024
_NAME = Room(_KIB)
_REQUEST = Signature(("string",), "string", (Room(64 * _KIB, "max_request_bytes", 14),))  # base64 takes a third more
_HANDLE = Signature(("string",), "string", (_NAME,))

IMPORTS: dict[str, dict[str, Signature]] = {
    FETCH: {"request": _REQUEST},
    STREAMING: {"request": _REQUEST, "read": _HANDLE, "close": _HANDLE},
    SECRETS: {"get": Signature(("string",), "result<string, string>", (_NAME,))},
    OUTPUT: {"emit": Signature(("string",), "bool", (Room(0, "max_output_bytes", 10),))},
    CONFIG: {"get": Signature((), "string")},
    LOG: {  # a guest's report of its own end does not count as a message
        "write": Signature(("string", "string"), None, (Room(64), Room(64 * _KIB, "max_log_bytes", 10)))
    },
    WEBSOCKET: {
        "connect": Signature(("string",), "string", (Room(128 * _KIB),)),
        "send": Signature(("string", "string"), "string", (_NAME, Room(64 * _KIB, "max_message_bytes", 14))),
        "receive": Signature(("string", "u32"), "string", (_NAME, Room(0))),
        "close": _HANDLE,
    },
}
EXPORTS: dict[str, dict[str, Signature]] = {RUN: {"run": Signature(("string",), "string")}}

# Of WASI, what the host provides itself, in any version: wasmtime's makes up to 64 MiB of random numbers in one call,
# which takes seconds and cannot be interrupted.
RANDOM_BYTES = Signature(("u64",), "list<u8>", (Room(0),))
RANDOM_U64 = Signature((), "u64")
WASI_OWN: dict[str, dict[str, Signature]] = {
    "wasi:random/random": {"get-random-bytes": RANDOM_BYTES, "get-random-u64": RANDOM_U64},
    "wasi:random/insecure": {"get-insecure-random-bytes": RANDOM_BYTES, "get-insecure-random-u64": RANDOM_U64},
}


POLL = "wasi:io/poll"  # of an interface with resources; the functions that wait are the host's, in their WIT types
WAITS = {"[method]pollable.block": "func(borrow)", "poll": "func(list<borrow>) -> list<u32>"}


def provided(interface: str) -> dict[str, Signature] | None:
    """The functions of an interface that the host provides; None for one of wasmtime's, or of nobody's."""
    return IMPORTS.get(interface) or WASI_OWN.get(interface.partition("@")[0])


# What the manifest's `wasi` object calls each interface.
CAPABILITIES: dict[str, str] = {
    "http": FETCH,
    "streaming": STREAMING,
    "secrets": SECRETS,
    "output": OUTPUT,
    "config": CONFIG,
    "log": LOG,
    "websocket": WEBSOCKET,
}

# Of WASI, what a Rust build asks for and what gives no authority: clocks and random numbers, the exit of the guest
# itself, an empty environment, standard streams that the host captures or leaves empty, and files, of which there are
# none.
WASI_ALLOWED = re.compile(
    r"wasi:(io/(error|streams)"
    r"|cli/(environment|exit|stdin|stdout|stderr|terminal-[a-z]+)"
    r"|clocks/[a-z-]+"
    r"|filesystem/(types|preopens)"
    r"|random/[a-z-]+)@0\.2\.\d+\Z"
)

# Linked, and of no use to a guest: no directory is opened, and a file is only reached from one.
WASI_INERT = re.compile(r"wasi:filesystem/(types|preopens)@")

# What wasmtime can link at all, with an empty context: an operator may let a component import these.
WASI_LINKED = re.compile(r"wasi:(io|cli|clocks|random|filesystem|sockets)/[a-z-]+(@0\.2\.\d+)?\Z")
