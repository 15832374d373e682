"""From a file to a component that can run: compiled once, found compiled ever after, and what that consists of."""

from __future__ import annotations

import hashlib
import hmac
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from host.core.names import Digest
from host.sandbox import Sandbox
from host.sandbox.cache import Compiled, seal
from host.sandbox.compiler import memory_file
from host.sandbox.typecheck import check_contract
from tests.benchmarks.measure import COMPONENT, alternating, median_and_best, ms, table

COUNT = 10


def main() -> None:
    wasm = COMPONENT.read_bytes()
    digest = Digest.of(wasm)
    with tempfile.TemporaryDirectory() as place:
        sandbox = Sandbox(Path(place, "cache"), Path(place, "state"))
        [[cold]] = alternating(1, lambda: sandbox.load(wasm, digest))
        [file] = Path(place, "cache", "compiled").glob("*.cwasm")
        with steps(sandbox, wasm, file) as parts:
            rows = [["compiled cold, once", ms(cold), ms(cold)]]
            actions = {"found compiled, in all": lambda: sandbox.load(wasm, digest), **parts}
            for name, times in zip(actions, alternating(COUNT, *actions.values()), strict=True):
                rows.append([name, *median_and_best(times)])
        sandbox.close()
        title = f"Loading {len(wasm) / 1e6:.1f} MB, compiled {file.stat().st_size / 1e6:.1f} MB"
    table(title, ["", "median ms", "best ms"], rows)


@contextmanager
def steps(sandbox: Sandbox, wasm: bytes, file: Path) -> Iterator[dict[str, Callable[[], object]]]:
    """What loading consists of, each by itself. The digest is taken by whoever admits the component."""
    size = file.stat().st_size
    with file.open("rb") as source, memory_file("bench") as held:

        def copy() -> None:
            with memory_file("copy") as target:
                offset = 0
                while offset < size:
                    offset += os.sendfile(target, source.fileno(), offset, size - offset)

        def authenticate() -> None:
            with mmap.mmap(held, 0, prot=mmap.PROT_READ) as mapped:
                hmac.new(b"k" * 32, mapped, hashlib.sha256).digest()

        offset = 0
        while offset < size - 32:
            offset += os.sendfile(held, source.fileno(), offset, size - 32 - offset)
        seal(held)
        component = Compiled(sandbox.lanes.narrow, held).component
        yield {
            "  read": COMPONENT.read_bytes,
            "  digest": lambda: Digest.of(wasm),
            "  copy to a sealed file": copy,
            "  authenticate": authenticate,
            "  map": lambda: Compiled(sandbox.lanes.narrow, held).component,
            "  compare with the contract": lambda: check_contract(component, sandbox.lanes.narrow),
        }


if __name__ == "__main__":
    main()
