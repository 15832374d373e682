"""Compiled code of installed components is trusted by the master key alone: somebody who may write to the state directory
and to the cache, without that key, brings no code into a run."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from wasmtime import wat2wasm

from host import Host, Reference, Workspace
from host.component.manifest import embed
from host.core.names import Digest
from host.runtime.loader import Loader
from host.sandbox import compile_component as compile_really
from host.store.vault import master
from host.store.vault.master import MasterKey
from tests.conftest import GUESTS

TOOL = Reference.parse("c:local.tool")


def answering(said: str) -> bytes:
    """A component that answers `said`."""
    answer = json.dumps({"status": 200, "data": said})
    text = (GUESTS / "hostile" / "returns_not_json.wat").read_text()
    text = text.replace("\\08", f"\\{len(answer):02x}").replace("not JSON", answer.replace('"', '\\"'))
    return bytes(wat2wasm(text))


HONEST = embed(answering("honest"), b'{"id": "catalyst:local.tool", "version": "0.1.0"}')
EVIL = answering("evil")


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts compilations."""
    count: list[int] = []

    def counted(*args: Any, **options: Any) -> None:
        count.append(1)
        compile_really(*args, **options)

    monkeypatch.setattr("host.sandbox.compile_component", counted)
    return count


@pytest.fixture
def kept_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The master key lies in no directory."""
    monkeypatch.setenv("HOST_MASTER_KEY", base64.b64encode(secrets.token_bytes(32)).decode())


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def install(cache: Path, state: Path) -> None:
    with Workspace.open(state) as workspace, closing(Loader(cache, state)) as loader:
        workspace.install(HONEST, loader, bundles=(), source="/tool.wasm")


def answer(cache: Path, state: Path, source: Any = TOOL) -> Any:
    with Host(cache_dir=cache, state_dir=state) as host:
        return host.load(source).run("{}").data


def compiled_code(cache: Path, state: Path, wasm: bytes) -> bytes:
    with closing(Loader(cache, state)) as loader:
        return bytes(loader.sandbox.load(wasm, Digest.of(wasm)).compiled.component.serialize())


def forge(cache: Path, code: bytes, key: bytes) -> int:
    """Put `code` in the place of all that is compiled, authenticated by `key`."""
    files = list((cache / "compiled").glob("*.cwasm"))
    for file in files:
        name = file.stem.rpartition("-")[0]
        file.write_bytes(code + hmac.digest(key, name.encode() + b"\0" + code, "sha256"))
    return len(files)


def test_control_whoever_has_the_key_can_forge(tmp_path: Path, cache: Path, state: Path) -> None:
    evil = compiled_code(tmp_path / "other-cache", tmp_path / "other-state", EVIL)
    assert answer(cache, state, HONEST) == "honest"
    assert forge(cache, evil, (state / "cache.key").read_bytes()) == 1
    assert answer(cache, state, HONEST) == "evil"


@pytest.mark.usefixtures("kept_elsewhere")
@pytest.mark.parametrize(
    "way", ["a file for the cache", "a master key of one's own", "one's own that is known by name"]
)
def test_somebody_who_may_write_to_both_directories_brings_no_code_under_an_approved_digest(
    tmp_path: Path, cache: Path, state: Path, way: str
) -> None:
    install(cache, state)
    own = MasterKey(secrets.token_bytes(32), "file")
    if way == "a file for the cache":
        key = own.key
        (state / "cache.key").write_bytes(key)
        (state / "cache.key").chmod(0o600)
    else:
        key = own.derived("compiled cache")
        [used] = list(master._given())
        ident = own.id if way == "a master key of one's own" else used.id
        master.file_of(ident, state).write_bytes(base64.b64encode(own.key))
        master.file_of(ident, state).chmod(0o600)
    evil = compiled_code(tmp_path / "other-cache", tmp_path / "other-state", EVIL)
    assert forge(cache, evil, key) == 1
    assert answer(cache, state) == "honest"


def test_nor_does_somebody_who_knows_the_key_for_files(
    tmp_path: Path, cache: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keyring is not asked where a file runs. The same bytes, run by their reference, do not trust what was compiled
    for that file, within one process neither."""
    ring: dict[str, str] = {}
    monkeypatch.setattr(master, "write", lambda _, user, text: bool(ring.update({user: text})) or True)
    monkeypatch.setattr(master, "read", lambda _, user: ring.get(user))
    install(cache, state)
    assert len(ring) == 1
    evil = compiled_code(tmp_path / "other-cache", tmp_path / "other-state", EVIL)
    assert answer(cache, state, HONEST) == "honest"
    assert forge(cache, evil, (state / "cache.key").read_bytes()) == 2
    with Host(cache_dir=cache, state_dir=state) as host:
        assert [host.load(source).run("{}").data for source in (HONEST, TOOL)] == ["evil", "honest"]


def test_states_that_share_a_cache_do_not_undo_each_others(tmp_path: Path, cache: Path, compiled: list[int]) -> None:
    states = [tmp_path / "one", tmp_path / "other"]
    for state in states:
        install(cache, state)
    assert len(compiled) == 2
    for state in states * 2:
        assert answer(cache, state) == "honest"
    assert len(compiled) == 2


def test_a_new_state_compiles_once_what_it_installs_and_runs(cache: Path, state: Path, compiled: list[int]) -> None:
    install(cache, state)
    assert [answer(cache, state, source) for source in (TOOL, HONEST, TOOL)] == ["honest"] * 3
    assert len(compiled) == 1
    assert not (state / "cache.key").exists()


def test_after_the_master_key_was_replaced_what_is_compiled_is_compiled_again(
    cache: Path, state: Path, compiled: list[int]
) -> None:
    install(cache, state)
    with Workspace.open(state) as workspace:
        workspace.vault.rotate(new_master=True)
    assert [answer(cache, state) for _ in range(2)] == ["honest"] * 2
    assert len(compiled) == 2


@pytest.mark.parametrize("given", ["not base64", base64.b64encode(b"short").decode()])
def test_a_file_runs_where_the_master_key_cannot_be_read(
    cache: Path, state: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("HOST_MASTER_KEY", given)
    assert answer(cache, state, HONEST) == "honest"
    assert (state / "cache.key").exists()
