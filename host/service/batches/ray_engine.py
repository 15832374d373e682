"""Lines of a batch on the nodes of a Ray cluster (docs.ray.io).

The driver reads the input and writes the answers. On each node a process or several open that node's own state, with
its components, policies, secrets and audit log. What goes to a node is a `NodeWork`, and then each line by itself: so a
node that is lost costs no more than the lines under way there. A component goes there as its digest; a node that lacks
it pulls it, if it came from a registry. Ray starts the processes, moves lines and answers, and says what is lost.

Whoever reaches a Ray cluster runs code on it, with what its nodes may read.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import urlsplit

from host.core import environment, installation
from host.core.names import Digest, Reference, looks_like_oci
from host.core.strict_json import Json
from host.egress.socket import takes_connections
from host.errors import HostError, InputError, NodeLost, NotApproved, NotFound, StateError
from host.runtime.loader import Loader
from host.runtime.workspace import Workspace
from host.service.batches.answers import Asking, BatchAnswer, DispatchEngine, OwnDispatch, failed_answer, nowhere
from host.service.batches.lines import BatchLine
from host.service.catalog import completed
from host.service.limits import Budget, place_of
from host.service.principal import OPERATOR
from host.service.request import Routing
from host.service.targets import Failover
from host.store.audit_log.chain import Checkpoint

_LINES: Final = 16  # at once, for which a node has one process
_OPEN_S: Final = 180.0  # for a process to start and to load, and compile, its catalyst
_END_S: Final = 30.0
_ANSWER_S: Final = 10.0
_GCS: Final = re.compile(r"([^/]+):([0-9]{1,5})")  # the address of a cluster itself, and not of a Ray Client server
_SHORT: Final = "/tmp"  # noqa: S108 - of a folder of this user alone; the paths of sockets in it have 107 characters at most
_HINT: Final = "ray, or ray://HOST:PORT, the address of a Ray Client server"


def cluster_address(engine: str) -> str | None:
    """`ray` -> None, `ray://HOST:PORT` -> itself, as Ray has it. Raises InputError."""
    if engine == "ray":
        return None
    if not engine.startswith("ray://"):
        raise InputError(f"there is no engine {engine[:80]!r}", field="--engine", hint=_HINT)
    try:
        parts = urlsplit(engine)
        whole = parts.hostname and parts.port and "@" not in parts.netloc
    except ValueError:
        whole = False
    if not whole or parts.path or parts.query or parts.fragment:
        raise InputError(f"{engine[:80]!r} is no address of a Ray cluster", field="--engine", hint=_HINT)
    return engine


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Inside, this process works with the Ray cluster at `address`; without one with that of RAY_ADDRESS, or else with
    a Ray of its own, on this machine and for this process alone. Raises StateError."""
    address = address or environment.ray_address()
    with ExitStack() as stack:
        options: dict[str, Any] = {"address": address}
        if address is None:  # "local": never the one that a file for all users of this machine names
            environment.begin_own_ray(secrets.token_hex(32))
            folder = TemporaryDirectory(prefix="ray-", dir=_SHORT, ignore_cleanup_errors=True)
            options = {"address": "local", "include_dashboard": False, "_temp_dir": stack.enter_context(folder)}
        ray = _library()
        logging.getLogger("ray").setLevel(logging.ERROR)
        stack.enter_context(redirect_stdout(sys.stderr))  # what Ray says of its nodes is no result
        stack.callback(ray.shutdown)
        try:
            _require_answer(str(options["address"]))
            ray.init(**options, log_to_driver=False, configure_logging=False)
        except Exception as error:  # noqa: BLE001 - Ray raises what its parts raise
            place = f"the Ray cluster at {address} cannot be used" if address else "Ray cannot be started"
            raise StateError(f"{place}: {_short(error)}", hint="ray status says more") from None
        yield


def _require_answer(address: str) -> None:
    """Raises ConnectionError for the address of a cluster where nothing answers: Ray would wait for minutes."""
    found = _GCS.fullmatch(address)
    if found and not takes_connections(found[1], int(found[2]), _ANSWER_S):
        raise ConnectionError(f"nothing answers within {_ANSWER_S:.0f} s")


def _library() -> Any:
    try:
        import ray  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise StateError(
            f"--engine ray needs {error.name}, which is not installed", hint=installation.remedy("ray")
        ) from None
    return ray


@dataclass(frozen=True, slots=True)
class WantedComponent:
    """A component by its digest. `reference` has its version; `source` is its OCI reference, or empty."""

    reference: Reference
    digest: Digest
    source: str


@dataclass(frozen=True, slots=True)
class NodeWork:
    """All that a node is told of a batch before its lines: no secret, no policy, no component's bytes, nothing of the
    environment. References have versions. `limits` is the URL of a Redis without name and password; None: each node
    counts in its own state."""

    batch: str
    wanted: tuple[WantedComponent, ...]
    target: Reference | None
    prefix_map: Mapping[str, Reference]
    aliases: Mapping[str, str]
    default: Reference | None
    failover: Mapping[str, Failover]
    budgets: Mapping[Reference, Budget]
    limits: str | None
    concurrency: int
    timeout_s: float | None

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        batch: str,
        target: Reference | None,
        routing: Routing,
        budgets: Mapping[Reference, Budget],
        limits_url: str | None,
        concurrency: int,
        timeout_s: float | None,
    ) -> NodeWork:
        """What this machine's state has under these references is what nodes are to run. Raises what
        `Workspace.installed` does."""
        routing = completed(routing, workspace.components.all(), workspace.components.in_order())
        references = routing.references if target is None else (target,)
        if not references:
            raise nowhere()
        found = {one: workspace.installed(one).component for one in references}
        now = {one: component.reference for one, component in found.items()}
        groups = {
            name: replace(group, targets=tuple(replace(one, reference=now[one.reference]) for one in group.targets))
            for name, group in routing.failover.items()
        }
        return cls(
            batch=batch,
            wanted=tuple(
                WantedComponent(one.reference, one.digest, one.source if looks_like_oci(one.source) else "")
                for one in {component.reference: component for component in found.values()}.values()
            ),
            target=target and now[target],
            prefix_map={} if target else {name: now[one] for name, one in routing.prefix_map.items()},
            aliases=routing.aliases,
            default=None if target or routing.default is None else now[routing.default],
            failover={} if target else groups,
            budgets=budgets,
            limits=limits_url and place_of(limits_url),
            concurrency=concurrency,
            timeout_s=timeout_s,
        )

    @property
    def routing(self) -> Routing:
        return Routing(self.prefix_map, self.aliases, self.default, self.failover)


class RayNode:
    """One process of a node, which Ray makes there. Its methods share one event loop, and return a HostError where one
    ended them. `open` comes first."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    async def open(self, work: NodeWork) -> HostError | None:
        """Open the node's own state, and load what the work wants."""
        try:
            with ExitStack() as stack:
                self._workspace = stack.enter_context(Workspace.open())
                for one in work.wanted:
                    _require(self._workspace, one)
                only = {one.digest for one in work.wanted}
                limits_url, routing = _limits_here(work.limits), work.routing
                own = OwnDispatch(stack, self._workspace, routing, work.budgets, limits_url, work.concurrency, only)
                await own.load_first(work.target)
                asking = Asking(lambda _: OPERATOR, work.target, work.timeout_s)
                self._engine = DispatchEngine(own.catalog, own.dispatch, asking)
                self._batch, self._dispatch, self._stack = work.batch, own.dispatch, stack.pop_all()
        except HostError as error:
            return _without_run(error)
        return None

    async def answer(self, number: int, text: bytes) -> BatchAnswer | HostError | None:
        """As of `Engine.answer`."""
        try:
            return await self._engine.answer(self._batch, BatchLine(number, text), self._stopping)
        except HostError as error:
            return _without_run(error)

    async def stop(self) -> None:
        """Lines that wait for a limit end."""
        self._stopping.set()

    async def close(self) -> Checkpoint | HostError:
        """Cancel what runs, and return the head of the node's audit log."""
        try:
            with self._stack:
                await self._dispatch.end()
                return self._workspace.audit_log.head()
        except HostError as error:
            return _without_run(error)


def _require(workspace: Workspace, wanted: WantedComponent) -> None:
    """Raises NotFound and NotApproved where this state lacks these very bytes, and what `Workspace.pull` raises."""
    there = workspace.components.versions(wanted.reference)
    same = [one for one in there if one.digest == wanted.digest]
    if not same and wanted.source:
        same = [workspace.pull(wanted.source, Loader(), only=wanted.digest)]
    if any(one.approved for one in same):
        return
    if same:
        hint = f"there: host approve {wanted.reference}"
        raise NotApproved(f"{wanted.reference} {wanted.digest.short} is not approved", hint=hint)
    hint = "there: host register FILE, or host pull, of the component that the batch was begun with"
    if not there:
        raise NotFound(f"there is no {wanted.reference} {wanted.digest.short}", hint=hint)
    others = ", ".join(one.digest.short for one in there)
    raise NotApproved(f"{wanted.reference} is {others}, and the batch wants {wanted.digest.short}", hint=hint)


def _limits_here(place: str | None) -> str | None:
    """The URL for this node of the Redis at `place`. Raises StateError where the environment names another one."""
    own = environment.limits()
    if place is None or own is None:
        return place
    if place_of(own) != place:
        raise StateError(f"HOST_LIMITS names {place_of(own)}, and the batch counts limits in {place}")
    return own


def _without_run(error: HostError) -> HostError:
    error.execution = None  # the node's own audit log has it
    return error


@dataclass(slots=True)
class NodeReport:
    """What a node did: how many `lines` it answered, and the `head` of its audit log, or None where nobody knows it."""

    name: str
    lines: int = 0
    head: Checkpoint | None = None

    def as_dict(self) -> dict[str, Json]:
        return {"node": self.name, "lines": self.lines, "head": None if self.head is None else str(self.head)}


@dataclass(eq=False, slots=True)
class _Process:
    """One on a node. `lines` are under way there."""

    node: Mapping[str, Any]
    report: NodeReport
    actor: Any
    lines: int = field(default=0)


class _Lost(Exception):
    """A process is gone, or its node: nobody knows what came of what was under way there."""


class RayEngine:
    """An `Engine`, inside `cluster`. `open` comes first, `end` last. `ran_again` lines were on a node when that was
    lost; `reports` has each node once. `say` gets what the operator should know meanwhile."""

    def __init__(self, work: NodeWork, say: Callable[[str], object]) -> None:
        self.ran_again = 0
        self._ray = _library()
        self._work = work
        self._say = say
        self._reports: dict[str, NodeReport] = {}
        self._processes: list[_Process] = []
        self._opening: set[asyncio.Task[HostError | None]] = set()
        self._telling: asyncio.Task[None] | None = None

    @property
    def reports(self) -> list[NodeReport]:
        return sorted(self._reports.values(), key=lambda one: one.name)

    async def open(self) -> None:
        """Have processes on every node that has processors. Nodes that cannot do the work get none of it. Raises
        StateError, or the error of one of the nodes, where none is left."""
        nodes = [one for one in self._ray.nodes() if one["Alive"] and one["Resources"].get("CPU", 0) >= 1]
        if not nodes:
            raise StateError("no node of the Ray cluster has a processor for work")
        most = -(-self._work.concurrency // (_LINES * len(nodes)))
        errors = await asyncio.gather(*map(self._begun, nodes))  # where each compiles and pulls
        rest = [
            node
            for node, error in zip(nodes, errors, strict=True)
            for _ in range(min(most, int(node["Resources"]["CPU"])) - 1)
            if error is None
        ]
        await asyncio.gather(*map(self._begun, rest))
        failed = [one for one in errors if one is not None]
        if not self._processes:
            raise failed[0]
        for one in failed:
            self._say(f"no line is run there: {one}")

    async def answer(self, batch: str, line: BatchLine, stopping: asyncio.Event) -> BatchAnswer | None:
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell(stopping))
        for before in (0, 1):
            process = await self._next()
            self.ran_again += before
            process.lines += 1
            try:
                told = await self._called(process.actor.answer, line.number, line.text)
            except _Lost:
                self._drop(process)
                if stopping.is_set():
                    return None
                continue
            finally:
                process.lines -= 1
            if isinstance(told, HostError):
                raise _of_node(told, process.report)
            assert told is None or isinstance(told, BatchAnswer), "it is what RayNode.answer returns"
            process.report.lines += told is not None
            return told
        said = "the node that ran the line was lost, and so was the one that ran it again"
        return failed_answer(batch, line, NodeLost(said, hint="a third run may be one too many: see what it did"))

    async def end(self) -> None:
        """Cancel what runs, and gather the heads."""
        waiting = [*self._opening, *([self._telling] if self._telling else [])]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, *map(self._closed, self._processes), return_exceptions=True)

    async def _begun(self, node: Mapping[str, Any]) -> HostError | None:
        """Have one more process on the node. Returns why there is none."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415 - an extra

        name = f"{node['NodeName'] or node['NodeManagerAddress']} ({node['NodeID'][:8]})"
        report = self._reports.setdefault(node["NodeID"], NodeReport(name))
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = {"num_cpus": 1, "max_concurrency": self._work.concurrency + 8, "scheduling_strategy": there}
        actor = self._ray.remote(RayNode).options(**options).remote()
        try:
            async with asyncio.timeout(_OPEN_S):
                error = await self._called(actor.open, self._work)
        except TimeoutError:
            error = StateError(f"it did not begin within {_OPEN_S:.0f} s", hint="its processors may be taken")
        except _Lost as lost:
            error = StateError(f"Ray has no process there: {lost}")
        except HostError as failed:
            error = failed
        if isinstance(error, HostError):
            with suppress(Exception):  # it may be gone
                self._ray.kill(actor)
            return _of_node(error, report)
        self._processes.append(_Process(node, report, actor))
        return None

    async def _called(self, method: Any, *given: object) -> object:
        """What a method of a RayNode returns. Raises _Lost; StateError where it raised an error. Cancelled with its
        task, there too."""
        from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415 - an extra

        called = None
        try:
            called = method.remote(*given)
            return await called
        except asyncio.CancelledError:
            if called is not None:
                self._ray.cancel(called)
            raise
        except RayTaskError as error:
            raise StateError(f"its process failed: {_short(error.cause or error)}") from None
        except (RayError, ConnectionError) as error:
            raise _Lost(_short(error)) from None

    async def _next(self) -> _Process:
        """The process with the fewest lines. Raises StateError where none is left."""
        while not self._processes:
            if not self._opening:
                said = "no node of the cluster is left that runs lines"
                raise StateError(said, hint="the same command goes on with the rest")
            await asyncio.wait(self._opening, return_when=asyncio.FIRST_COMPLETED)
        return min(self._processes, key=lambda one: one.lines)

    def _drop(self, process: _Process) -> None:
        """Begin another one in its place, where the node is still there."""
        if process not in self._processes:
            return
        self._processes.remove(process)
        self._say(f"the node {process.report.name} was lost, with {process.lines} lines under way")
        self._opening.add(task := asyncio.create_task(self._begun(process.node)))
        task.add_done_callback(self._opening.discard)

    async def _tell(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        for one in self._processes:
            one.actor.stop.remote()

    async def _closed(self, process: _Process) -> None:
        with suppress(_Lost, StateError):
            async with asyncio.timeout(_END_S):
                head = await self._called(process.actor.close)
            if isinstance(head, Checkpoint):
                process.report.head = max(process.report.head or head, head, key=lambda one: one.seq)


def _of_node(error: HostError, report: NodeReport) -> HostError:
    error.message = f"on the node {report.name}: {error.message}"
    return error


def _short(error: BaseException) -> str:
    """The first line of what Ray says, and the last one where that announces it."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return (f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") else lines[0])[:300]
