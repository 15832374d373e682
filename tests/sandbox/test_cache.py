"""Compiled code is loaded only where it is authentic: every attack on the cache is a test."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from wasmtime import wat2wasm

from host import errors
from host.core.names import Digest
from host.sandbox import Sandbox
from host.sandbox import compiler as compiling
from tests.sandbox.conftest import component_text

WASM = bytes(wat2wasm(component_text()))
DIGEST = Digest.of(WASM)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts compilations."""
    count: list[int] = []
    real = compiling.compile_component

    def counted(*args: object, **options: object) -> None:
        count.append(1)
        real(*args, **options)

    monkeypatch.setattr("host.sandbox.compile_component", counted)
    return count


def _load(places: tuple[Path, Path]) -> None:
    sandbox = Sandbox(*places)
    sandbox.load(WASM, DIGEST)
    sandbox.close()


def _cached(places: tuple[Path, Path]) -> Path:
    [file] = (places[0] / "compiled").glob("*.cwasm")
    return file


def test_a_component_is_compiled_once_and_loaded_ever_after(places, compiled) -> None:
    for _ in range(3):
        _load(places)
    assert len(compiled) == 1


@pytest.mark.parametrize(
    "at", [0, 64, -40, -1], ids=["the first byte", "within the code", "its last part", "the MAC itself"]
)
def test_a_changed_file_is_not_loaded_but_made_again(places, compiled, at: int) -> None:
    _load(places)
    file = _cached(places)
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    _load(places)
    assert len(compiled) == 2
    assert _cached(places).read_bytes() != bytes(content)


def test_a_truncated_or_empty_file_is_not_loaded(places, compiled) -> None:
    for kept in (0, 10, 32, 1000):
        _load(places)
        file = _cached(places)
        file.write_bytes(file.read_bytes()[:kept])
    _load(places)
    assert len(compiled) == 5


def test_a_file_of_another_component_under_this_name_is_not_loaded(places, compiled) -> None:
    other = bytes(wat2wasm(component_text(body="unreachable")))
    sandbox = Sandbox(*places)
    sandbox.load(other, Digest.of(other))
    evil = _cached(places)
    sandbox.load(WASM, DIGEST)
    [good] = set((places[0] / "compiled").glob("*.cwasm")) - {evil}
    good.write_bytes(evil.read_bytes())
    sandbox.load(WASM, DIGEST)
    sandbox.close()
    assert len(compiled) == 3


def test_a_cache_restored_with_its_own_key_elsewhere_brings_no_code(places, compiled, tmp_path) -> None:
    _load(places)
    _load((places[0], tmp_path / "another-state"))
    assert len(compiled) == 2


def test_the_files_are_private_to_the_user(places) -> None:
    _load(places)
    for file in (_cached(places), places[1] / "cache.key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_key_that_others_may_read_is_refused(places) -> None:
    _load(places)
    (places[1] / "cache.key").chmod(0o644)
    with pytest.raises(errors.CacheError, match="private"):
        _load(places)


def test_a_cache_that_cannot_be_written_only_costs_time(places, compiled) -> None:
    places[0].write_text("a file where the directory should be")
    for _ in range(2):
        _load(places)
    assert len(compiled) == 2


def test_without_a_place_for_the_key_nothing_is_cached_and_everything_works(places, compiled) -> None:
    places[1].write_text("a file where the directory should be")
    for _ in range(2):
        _load(places)
    assert len(compiled) == 2


def test_threads_at_once_compile_one_component_once(places, compiled) -> None:
    sandbox = Sandbox(*places)
    threads = [threading.Thread(target=sandbox.load, args=(WASM, DIGEST)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sandbox.close()
    assert len(compiled) == 1


def test_two_processes_at_once_both_get_it(places, tmp_path) -> None:
    file = tmp_path / "echo.wasm"
    file.write_bytes(WASM)
    script = (
        "import sys; from pathlib import Path; from host.sandbox import Sandbox; from host.core.names import Digest\n"
        "wasm = Path(sys.argv[1]).read_bytes()\n"
        "sandbox = Sandbox(Path(sys.argv[2]), Path(sys.argv[3])); sandbox.load(wasm, Digest.of(wasm)); sandbox.close()"
    )
    argv = [sys.executable, "-c", script, str(file), str(places[0]), str(places[1])]
    both = [subprocess.Popen(argv) for _ in range(2)]
    assert [one.wait(timeout=60) for one in both] == [0, 0]
    assert _cached(places).stat().st_size > 0
    assert [name for name in os.listdir(places[0] / "compiled") if name.startswith(".")] == []


def test_a_pipe_in_the_place_of_a_cached_file_makes_nobody_wait(places, compiled) -> None:
    _load(places)
    file = _cached(places)
    file.unlink()
    os.mkfifo(file)
    _load(places)
    assert len(compiled) == 2
    assert file.is_file()


def test_a_cached_file_of_absurd_size_is_not_even_read(places, compiled, monkeypatch) -> None:
    _load(places)
    os.truncate(_cached(places), 1 << 40)  # takes no room on disk, and all of it in memory
    monkeypatch.setattr(os, "sendfile", None)
    sandbox = Sandbox(*places)
    assert sandbox._cache.load(_cached(places).stem.rpartition("-")[0], sandbox.lanes.narrow) is None
    sandbox.close()


def test_a_key_that_is_a_pipe_is_refused(places) -> None:
    places[1].mkdir(parents=True)
    os.mkfifo(places[1] / "cache.key", 0o600)
    with pytest.raises(errors.CacheError):
        _load(places)
