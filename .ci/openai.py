"""The OpenAI catalyst as a component, `dist/openai.wasm`: built again when its sources change.

`python .ci/openai.py` builds it; build.sh, the wheel and the tests use the same file.
"""

from __future__ import annotations

import hashlib
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMPONENT = ROOT / "dist" / "openai.wasm"
_STAMP = COMPONENT.with_suffix(".made-from")
EVERY_COMPONENT = (  # is made of these beside its own sources
    *("catalyst/sdk", "catalyst/NOTICE", "wit", "constraints.txt"),
    *("host/component/build", "host/component/manifest.py", "host/component/operations.py"),
    *("host/component/sbom.py", "host/component/wasm.py", "host/core/wit.py", "host/sandbox/pages.py"),
)


def sources() -> str:
    """A digest of all that the component is made of."""
    total = hashlib.sha256()
    for name in ("catalyst/openai", *EVERY_COMPONENT):
        place = ROOT / name
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file() and file.suffix not in (".pyc", ".md"):
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                total.update(f"{content}  {file.relative_to(ROOT)}\n".encode())
    return total.hexdigest()


def is_current() -> bool:
    return COMPONENT.exists() and _STAMP.exists() and _STAMP.read_text().strip() == sources()


def keep(wasm: bytes) -> None:
    """`wasm` was built from the sources as they are."""
    COMPONENT.parent.mkdir(exist_ok=True)
    (new := COMPONENT.with_suffix(".new")).write_bytes(wasm)
    new.replace(COMPONENT)
    _STAMP.write_text(sources() + "\n")


def built() -> Path:
    """The component's file, built if it has to be: needs componentize-py, wasmtime, and of the host what needs no other
    library."""
    if not is_current():
        if str(ROOT) not in sys.path:
            sys.path.insert(0, str(ROOT))
        from host.component.build import build
        from host.sandbox.pages import first_bytes

        print("building dist/openai.wasm", file=sys.stderr)
        keep(
            build(ROOT / "catalyst" / "openai", first_bytes=first_bytes, note=partial(print, "note:", file=sys.stderr))
        )
    return COMPONENT


if __name__ == "__main__":
    built()
