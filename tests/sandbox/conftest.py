from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host.core.audit import NullSink
from host.core.limits import Limits
from host.run import Run
from host.sandbox import Sandbox
from host.secrets.redaction import Redactor
from host.secrets.value import Placeholders

# The smallest component of the contract: returns its input. Further parts go where `EXTRA` and `BODY` stand.
ECHO = """
(component
  IMPORTS
  (core module $m
    CORE_IMPORTS
    (memory (export "memory") 2)
    (global $top (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (global.get $top))
      (global.set $top (i32.add (global.get $top) (i32.and (i32.add (local.get 3) (i32.const 7)) (i32.const -8))))
      (local.get $at))
    EXTRA
    (func (export "run") (param $at i32) (param $size i32) (result i32)
      BODY
      (i32.store (i32.const 16) (local.get $at))
      (i32.store (i32.const 20) (local.get $size))
      (i32.const 16)))
  (core instance $i (instantiate $m WITH))
  (func $run (param "input" string) (result string)
    (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (instance $out (export "run" (func $run)))
  (export "cyfr:catalyst/run@0.1.0" (instance $out)))
"""


def component_text(*, body: str = "", extra: str = "") -> str:
    """`ECHO` with a body that runs before it answers, and more functions, in WebAssembly text."""
    text = ECHO.replace("BODY", body).replace("EXTRA", extra)
    return text.replace("CORE_IMPORTS", "").replace("IMPORTS", "").replace("WITH", "")


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A cache and a state directory of a test's own."""
    return tmp_path / "cache", tmp_path / "state"


@pytest.fixture
def sandbox(places: tuple[Path, Path]) -> Iterator[Sandbox]:
    one = Sandbox(*places)
    yield one
    one.close()


@pytest.fixture
def new_call() -> Callable[..., Run]:
    """A call with some limits set and nothing else of interest."""

    def make(**limits: float) -> Run:
        return Run(limits=Limits(**limits), sink=NullSink(), redactor=Redactor({}), placeholders=Placeholders())

    return make
