"""What goes to the nodes of a cluster, and what a node makes of it with its own state. No Ray: see
tests/cli/test_batch_on_ray.py for that."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from host.component.manifest import embed
from host.core.names import Reference
from host.core.quantities import Quota
from host.errors import ArtifactError, HostError, InputError, NotApproved, NotFound, RegistryError, StateError
from host.runtime.loader import Loader
from host.runtime.workspace import Workspace
from host.service.batches.ray_engine import NodeWork, RayNode, cluster_address
from host.service.limits import Budget
from host.service.request import Routing
from host.service.targets import Failover, ModelTarget
from host.store.audit_log.chain import Checkpoint
from host.trust.bundle import sign
from host.trust.keys import SigningKey
from tests.conftest import CACHE, fresh_state, the_master_key_in_a_file, wat
from tests.oci.conftest import registry  # noqa: F401 - a fixture

TOOL = Reference.parse("c:acme.tool")
OTHER = {"wasi": {"log": True}}  # of its manifest, which are other bytes then


def tool(version: str = "1.0.0", **fields: Any) -> bytes:
    manifest = {"id": "catalyst:acme.tool", "version": version, **fields}
    return embed(wat("hostile/returns_not_json"), json.dumps(manifest).encode())


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def state(tmp_path: Path, key: SigningKey) -> Iterator[Callable[..., Workspace]]:
    """`state("driver", wasm, …)` is a state of this name that has installed these components, and trusts their key."""
    with ExitStack() as stack:

        def one(name: str, *components: bytes) -> Workspace:
            workspace = stack.enter_context(Workspace.open(fresh_state(tmp_path / name)))
            with the_master_key_in_a_file():
                workspace.trust.add(key.public, ["acme"])
            for wasm in components:
                bundles = [sign(wasm, key).text()]
                workspace.install(wasm, Loader(CACHE / "host", CACHE / "state"), bundles=bundles, source="/tool.wasm")
            return workspace

        yield one


def work(driver: Workspace, target: Reference | None = TOOL, routing: Routing = Routing(), **more: Any) -> NodeWork:  # noqa: B008 - it is frozen
    given: dict[str, Any] = {"budgets": {}, "limits_url": None, "concurrency": 2, "timeout_s": None, **more}
    made = NodeWork.of(driver, "0123456789abcdef", target, routing, **given)
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    return made


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Callable[[Workspace, NodeWork], HostError | Checkpoint]:
    """What a node with that state comes to: the error of its beginning, or the head of its audit log at its end."""

    def begin(there: Workspace, given: NodeWork) -> HostError | Checkpoint:
        monkeypatch.setenv("HOST_STATE_DIR", str(there.state_dir))
        monkeypatch.setenv("HOST_CACHE_DIR", str(CACHE / "host"))

        async def main() -> HostError | Checkpoint:
            node = RayNode()
            return await node.open(given) or await node.close()

        return asyncio.run(main())

    return begin


@pytest.mark.parametrize(
    ("engine", "address"),
    [
        pytest.param("ray", None, id="its own, or that of RAY_ADDRESS"),
        pytest.param("ray://10.0.0.1:10001", "ray://10.0.0.1:10001", id="a client server"),
        pytest.param("ray://[::1]:10001", "ray://[::1]:10001", id="IPv6"),
    ],
)
def test_an_engine_is_ray_with_or_without_an_address(engine: str, address: str | None) -> None:
    assert cluster_address(engine) == address


@pytest.mark.parametrize(
    "engine",
    ["", "dask", "Ray", "ray:", "ray://", "ray://host", "ray://host:port", "ray://host:0", "ray://a:1/b", "ray://u:p@a:1", "ray://a:99999", "ray://a:1?b"],
)  # fmt: skip
def test_any_other_engine_is_refused_with_those_that_there_are(engine: str) -> None:
    with pytest.raises(InputError) as refused:
        cluster_address(engine)
    assert refused.value.field == "--engine"
    assert "ray, or ray://HOST:PORT" in str(refused.value)


def test_a_node_is_told_versions_and_digests_in_place_of_names(state: Any) -> None:
    driver = state("driver", tool())
    [component] = driver.components.all()
    routing = Routing({"gpt": TOOL}, {"mine": "gpt-4"}, TOOL, {"x": Failover((ModelTarget(TOOL, "y"),))})
    told = work(driver, None, routing)
    assert [(one.reference, one.digest, one.source) for one in told.wanted] == [
        (component.reference, component.digest, "")
    ]
    assert set(told.routing.references) == {TOOL.at("1.0.0")}
    assert told.routing.aliases == {"mine": "gpt-4"}


def test_the_password_of_a_limits_store_is_not_among_what_a_node_is_told(state: Any) -> None:
    driver = state("driver", tool())
    budgets = {TOOL: Budget(requests=Quota.parse("5/1m"))}
    told = work(driver, limits_url="rediss://me:hunter2@cache:6379/1?password=hunter2", budgets=budgets)
    assert told.limits == "rediss://cache:6379/1"
    assert told.budgets == budgets
    assert b"hunter2" not in pickle.dumps(told)


def test_a_batch_that_no_catalyst_could_take_is_refused_before_any_node_is_asked(state: Any) -> None:
    driver = state("driver")
    with pytest.raises(NotFound, match="no catalyst is installed"):
        work(driver, None)
    with pytest.raises(NotFound, match=r"there is no c:acme\.tool"):
        work(driver)


def test_a_node_with_the_same_bytes_begins_and_says_the_head_of_its_own_log(state: Any, begun: Any) -> None:
    driver, there = state("driver", tool()), state("there", tool())
    assert begun(there, work(driver)) == there.audit_log.head() != driver.audit_log.head()


def test_a_node_runs_the_version_that_it_is_told_and_not_its_latest(state: Any, begun: Any) -> None:
    driver, there = state("driver", tool()), state("there", tool(), tool("2.0.0"))
    assert isinstance(begun(there, work(driver)), Checkpoint)


@pytest.mark.parametrize(
    ("here", "error", "said"),
    [
        pytest.param((), NotFound, "there is no c:acme.tool:1.0.0 ", id="nothing"),
        pytest.param((tool("2.0.0"),), NotFound, "there is no c:acme.tool:1.0.0 ", id="another version"),
        pytest.param((tool(**OTHER),), NotApproved, "and the batch wants", id="other bytes"),
    ],
)
def test_a_node_without_the_bytes_says_what_it_lacks_and_what_to_do_there(
    state: Any, begun: Any, here: tuple[bytes, ...], error: type[HostError], said: str
) -> None:
    driver, there = state("driver", tool()), state("there", *here)
    found = begun(there, work(driver))
    assert isinstance(found, error)
    assert said in found.message
    assert found.hint.startswith("there: host register")


def test_a_node_pulls_from_a_registry_what_it_lacks_and_verifies_it_as_ever(
    state: Any,
    begun: Any,
    key: SigningKey,
    registry: str,  # noqa: F811 - the fixture
) -> None:
    driver, there = state("driver", tool()), state("there")
    place = f"oci://{registry}/acme/{uuid4().hex}:1.0.0"
    driver.push(TOOL, place)
    told = work(driver)
    told = replace(told, wanted=tuple(replace(one, source=place) for one in told.wanted))
    assert isinstance(begun(there, told), Checkpoint)
    assert there.components.resolve(TOOL).digest == told.wanted[0].digest

    stranger = state("stranger")
    stranger.trust.revoke(key.public.id)
    assert isinstance(begun(stranger, told), ArtifactError)
    assert stranger.components.all() == []

    driver.trust.revoke(key.public.id)
    driver.trust.add((other := SigningKey.generate()).public, ["acme"])
    moved = tool("1.0.1")
    driver.install(moved, Loader(CACHE / "host", CACHE / "state"), bundles=[sign(moved, other).text()], source="/moved")
    driver.push(TOOL.at("1.0.1"), place)
    late = state("late")
    found = begun(late, told)
    assert isinstance(found, RegistryError)
    assert "is another component by now" in found.message
    assert late.components.all() == []


def test_bytes_that_take_the_place_of_the_wanted_ones_later_are_not_run(
    state: Any, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, there = state("driver", tool()), state("there", tool())
    told = work(driver)
    monkeypatch.setenv("HOST_STATE_DIR", str(there.state_dir))
    monkeypatch.setenv("HOST_CACHE_DIR", str(CACHE / "host"))

    async def main() -> object:
        node = RayNode()
        assert await node.open(told) is None
        other, loader = tool(**OTHER), Loader(CACHE / "host", CACHE / "state")
        there.install(other, loader, bundles=[sign(other, key).text()], source="/other", replace=True)
        for one in there.components.versions(TOOL):
            there.components.approve(one)
        await asyncio.sleep(0.3)  # longer than a change needs to be seen
        found = await node.answer(1, b'{"operation": "x"}')
        await node.close()
        return found

    found = asyncio.run(main())
    assert isinstance(found, NotApproved)
    assert f"what may run is {told.wanted[0].digest}" in found.message


@pytest.mark.parametrize(
    ("own", "said"),
    [
        pytest.param("redis://:secret@127.0.0.1:1/0", "failed at 127.0.0.1:1", id="the same place, with its password"),
        pytest.param("redis://:secret@127.0.0.1:2/0", "HOST_LIMITS names redis://127.0.0.1:2/0", id="another place"),
    ],
)
def test_a_node_counts_where_the_batch_does_with_a_password_of_its_own(
    state: Any, begun: Any, monkeypatch: pytest.MonkeyPatch, own: str, said: str
) -> None:
    driver, there = state("driver", tool()), state("there", tool())
    monkeypatch.setenv("HOST_LIMITS", own)
    found = begun(there, work(driver, limits_url="redis://127.0.0.1:1/0"))
    assert isinstance(found, StateError)
    assert said in found.message
    assert "secret" not in str(found)
