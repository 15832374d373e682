"""The component once more, with less in its memory, and with code that has run before.

A sandbox begins with the memory that the build left. So the component is made twice. The first time, the bytecode of
all that the catalyst imports is kept, and what it answers to the manifest's examples. The second time nothing is
compiled, of which some megabytes would stay behind; and the examples run until the interpreter has specialised their
code and filled its caches. Then they have to be answered as the first time, with the same questions to the host, word
for word: where they are not, the catalyst keeps something from one call to the next, and its examples are left out.
`catalyst.sdk.finishing` is the guest's side of this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from host.core.strict_json import Json
from host.errors import BuildError

FIRST: Final = "catalyst_build"
"""The module that componentize-py imports."""

_AT_START: Final = "sitecustomize"
_FOLDER: Final = ".build"  # a name that no folder of a catalyst brings along
_EXAMPLES, _ANSWERS, _REHEARSING = "examples", "answers", "rehearsing"

IN_ORDER: Final = """\
from catalyst.sdk import surroundings

surroundings.begin()
import app

Run = app.Run
surroundings.seal()
"""

# Nothing but this is compiled the second time; the folder is where the guest finds the stage.
_BYTECODE = f"""\
import sys

sys.dont_write_bytecode = True
sys.pycache_prefix = __file__.rpartition("/")[0] + "/{_FOLDER}/bytecode"
"""
_KEEPING = f"""
from catalyst.sdk import finishing

stage = __file__.rpartition("/")[0] + "/"
finishing.keep_answers(Run, stage + "{_FOLDER}/")
finishing.keep_bytecode(stage, {{"{FIRST}", "{_AT_START}"}})
"""
# A collection comes after as many objects as some thousand events of a stream leave behind: a usual run has none.
_FINISHING = f"""
import gc
import sys

import catalyst.sdk
from catalyst.sdk import finishing

finishing.rehearse(Run, __file__.rpartition("/")[0] + "/{_FOLDER}/")
del finishing, catalyst.sdk.finishing, sys.modules["catalyst.sdk.finishing"]
sys.pycache_prefix = None
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 10, 10)
"""


def finished(make: Callable[[], bytes], stage: Path, examples: Sequence[Json], note: Callable[[str], None]) -> bytes:
    """What `make` makes of the folder `stage`, the second time. `examples` are inputs of the catalyst. `note` is told
    what is left out, in a sentence. Raises BuildError."""
    if (begins := stage / f"{_AT_START}.py").exists():
        note(f"its memory is larger than it could be: its own {begins.name} takes the place of the build's")
        return made(make, stage, IN_ORDER)
    begins.write_text(_BYTECODE, encoding="utf-8")
    place = stage / _FOLDER
    place.mkdir()
    (place / _EXAMPLES).write_text(json.dumps([*examples]), encoding="utf-8")
    for last in (_KEEPING, _FINISHING):
        try:
            wasm = made(make, stage, IN_ORDER + last)
        except BuildError:
            if not (place / _REHEARSING).exists() or (place / _REHEARSING).read_text() != "true":
                raise
            why = "cannot be answered while it is built" if last is _KEEPING else "depend on what ran before them"
            note(f"its first calls are slower than they could be: the examples of its manifest {why}")
            for name in (_EXAMPLES, _ANSWERS):
                (place / name).write_text("[]", encoding="utf-8")
            (place / _REHEARSING).unlink()
            wasm = made(make, stage, IN_ORDER + last)
    return wasm


def made(make: Callable[[], bytes], stage: Path, first: str) -> bytes:
    """What `make` makes of the folder `stage` with the text `first` as the module to begin with."""
    (stage / f"{FIRST}.py").write_text(first, encoding="utf-8")
    return make()
