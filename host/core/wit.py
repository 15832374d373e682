"""The contract as data: its interfaces, and the types of their functions (wit/ has the same in WIT).

Strings hold JSON unless noted; see wit/README.md for the messages.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypeAlias

Type = Literal["string", "bool", "result<string, string>"]


class Ok(NamedTuple):
    value: str


class Err(NamedTuple):
    value: str


HostValue: TypeAlias = str | bool | Ok | Err | None  # what a host function may return


class Signature(NamedTuple):
    params: tuple[Type, ...]
    result: Type | None


FETCH = "cyfr:http/fetch@0.1.0"
STREAMING = "cyfr:http/streaming@0.1.0"
SECRETS = "cyfr:secrets/read@0.1.0"
OUTPUT = "catalyst:host/output@0.1.0"
CONFIG = "catalyst:host/config@0.1.0"
LOG = "catalyst:host/log@0.1.0"
RUN = "cyfr:catalyst/run@0.1.0"

_TEXT = Signature(("string",), "string")

IMPORTS: dict[str, dict[str, Signature]] = {
    FETCH: {"request": _TEXT},
    STREAMING: {"request": _TEXT, "read": _TEXT, "close": _TEXT},
    SECRETS: {"get": Signature(("string",), "result<string, string>")},
    OUTPUT: {"emit": Signature(("string",), "bool")},
    CONFIG: {"get": Signature((), "string")},
    LOG: {"write": Signature(("string", "string"), None)},
}
EXPORTS: dict[str, dict[str, Signature]] = {RUN: {"run": _TEXT}}

# What the manifest's `wasi` object calls each interface.
CAPABILITIES: dict[str, str] = {
    "http": FETCH,
    "streaming": STREAMING,
    "secrets": SECRETS,
    "output": OUTPUT,
    "config": CONFIG,
    "log": LOG,
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
