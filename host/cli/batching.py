"""One batch for `host batch`: its files, the dispatch of this process, and its end, whatever that is."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final, TypeAlias

from host.cli.inputs import blaming, opened
from host.cli.output.batch import BatchBar, BatchTotals, about, short
from host.cli.output.terminal import as_json, put, say, working
from host.core import installation
from host.core.audit import Event
from host.core.names import Reference
from host.core.quantities import parse_duration
from host.errors import HostError, InputError, StateError
from host.service.batches.answers import Asking, DispatchEngine, Engine, OwnDispatch
from host.service.batches.lines import Checked, check_input, lines_of, unfinished
from host.service.batches.ray_engine import NodeWork, RayEngine, cluster, cluster_address
from host.service.batches.results import ResultFiles, ResultPaths
from host.service.batches.work import BatchEnd, BatchWork, finish
from host.service.limits import Budget
from host.service.principal import OPERATOR
from host.service.request import Routing

INTERRUPTED: Final = 130

_Settings: TypeAlias = tuple[Routing, Mapping[Reference, Budget], str | None]
"""Routing, budgets, and the URL of the place that counts limits."""


@dataclass(frozen=True, slots=True)
class _Runs:
    """What runs the lines: `begin` and `end` are awaited before the first of them and after the last."""

    engine: Engine
    begin: Callable[[], Awaitable[None]]
    end: Callable[[], Awaitable[None]]
    ray: RayEngine | None = None


def run_batch(
    *,
    source: str,
    output: str,
    error_file: str | None,
    catalyst: str | None,
    config_file: str | None,
    engine: str | None,
    concurrency: int,
    ordered: bool,
    max_failures: int | None,
    timeout: str | None,
    in_json: bool,
) -> int:
    """The exit status: 0, or 1 where lines have failed, or INTERRUPTED. Raises HostError where it stopped for another
    reason."""
    with blaming("--timeout"):
        timeout_s = None if timeout is None else parse_duration(timeout)
    with blaming("--catalyst"):
        target = None if catalyst is None else Reference.parse(catalyst)
    with blaming("--engine"):
        address = None if engine is None else cluster_address(engine)
    paths = ResultPaths.of(source, output, error_file)
    settings = _settings(config_file)
    with _opened(source) as file, ExitStack() as stack:
        with working("checking the input"):
            checked = check_input(partial(lines_of, file))
        if not checked.lines:
            raise InputError(f"{source!r} has no lines", field="FILE")
        if checked.first_mistake is not None:
            say(f"{checked.unreadable} of {checked.lines} lines cannot be read: {checked.first_mistake}")
        files = stack.enter_context(ResultFiles(paths, checked, ordered=ordered))
        if files.done:
            say(f"going on: {files.done} of {checked.lines} lines are finished")
        asking = Asking(lambda _: OPERATOR, target, timeout_s)
        if engine is None:
            runs = _here(stack, settings, asking, concurrency)
        else:
            runs = _on_ray(stack, address, settings, asking, concurrency, files.batch)
        bar = stack.enter_context(BatchBar(checked.lines, files.done))
        work = partial(
            BatchWork,
            files.batch,
            runs.engine,
            files,
            concurrency=concurrency,
            ordered=ordered,
            most_failures=math.inf if max_failures is None else max_failures,
            written=bar.written,
        )
        gc.freeze()  # all objects until now stay: no collection has to look at them
        left = unfinished(lines_of(file), checked, files.is_done)
        ended = finish(partial(_begun, runs, work), left, runs.end, _say_stopping)
    return _say_end(ended, files, checked, bar.totals, runs.ray, in_json=in_json)


def _settings(config_file: str | None) -> _Settings:
    if config_file is None:
        return Routing(), {}, None
    try:
        from host.server.settings import ServerSettings  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise StateError(
            f"--config needs {error.name}, which is not installed", hint=installation.remedy("serve")
        ) from None
    settings = ServerSettings.read(config_file)
    return settings.routing, settings.budgets, settings.limits_url


@contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    if source == "-":
        raise InputError("FILE: a batch reads its input twice: it cannot be standard input", field="FILE")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(source).open("rb"))
        except OSError as error:
            raise InputError(f"FILE: cannot read {source!r}: {error.strerror}", field="FILE") from None
        if not file.seekable():
            raise InputError(
                f"FILE: a batch reads its input twice, and {source!r} can be read once",
                field="FILE",
                hint="write it into a file first",
            )
        yield file


def _here(stack: ExitStack, settings: _Settings, asking: Asking, concurrency: int) -> _Runs:
    """Lines are run by this process, over the kept state."""
    own = OwnDispatch(stack, stack.enter_context(opened()), *settings, concurrency)
    engine = DispatchEngine(own.catalog, own.dispatch, asking)
    return _Runs(engine, partial(own.load_first, asking.target), own.dispatch.end)


def _on_ray(
    stack: ExitStack, address: str | None, settings: _Settings, asking: Asking, concurrency: int, batch: str
) -> _Runs:
    """Lines are run by the nodes of a Ray cluster, each over its own state; this process's state says which digests."""
    workspace = stack.enter_context(opened())
    work = NodeWork.of(workspace, batch, asking.target, *settings, concurrency, asking.timeout_s)
    if work.limits is None:
        say("limits are counted by each node in its own state: `limits` in --config names a Redis for all of them")
    with working("starting Ray" if address is None else "connecting to Ray"):
        stack.enter_context(cluster(address))
    engine = RayEngine(work, say)

    async def end() -> None:
        await engine.end()
        heads = [one.as_dict() for one in engine.reports]
        detail = {"batch": batch, "ran_again": engine.ran_again, "nodes": heads}
        workspace.audit_log.record(Event("batch.gathered", "", detail=detail))

    return _Runs(engine, engine.open, end, engine)


async def _begun(runs: _Runs, work: Callable[[], BatchWork]) -> BatchWork:
    """Raises HostError before the first line is run."""
    await runs.begin()
    return work()


def _say_stopping(under_way: int) -> None:
    say(f"\nstopping: {under_way} lines under way are finished first (Ctrl-C again cancels them)")


def _say_end(
    ended: BatchEnd,
    files: ResultFiles,
    checked: Checked,
    totals: BatchTotals,
    ray: RayEngine | None,
    *,
    in_json: bool,
) -> int:
    nodes = [] if ray is None else ray.reports
    took_s = time.monotonic() - totals.began
    if in_json and not isinstance(ended, HostError):
        put(as_json({
            "batch": files.batch,
            "lines": checked.lines,
            "finished": files.done,
            "failed": files.failed,
            "input_tokens": totals.input_tokens,
            "output_tokens": totals.output_tokens,
            "took_s": round(took_s, 3),
            "output": os.fspath(files.paths.results),
            "error_file": os.fspath(files.paths.errors),
            **({} if ray is None else {"ran_again": ray.ran_again, "nodes": [one.as_dict() for one in nodes]}),
        }))  # fmt: skip
    see = f": see {files.paths.errors}" if files.failed else ""
    say(f"{files.done} of {checked.lines} lines are finished, {files.failed} of them failed{see}")
    if totals.lines:
        tokens = f"{short(totals.input_tokens)} tokens in and {short(totals.output_tokens)} out"
        say(f"{totals.lines} in {about(took_s)}, {totals.lines / max(0.001, took_s):.1f} a second; {tokens}")
    if ray is not None and ray.ran_again:
        say(f"{ray.ran_again} lines ran again because a node was lost")
    for one in nodes:
        say(f"{one.lines} by the node {one.name}; the head of its audit log: {one.head or 'unknown'}")
    if left := checked.lines - files.done:
        say(f"{left} are left: the same command goes on with them")
    if isinstance(ended, HostError):
        raise ended
    return INTERRUPTED if ended == "interrupted" else int(files.failed > 0)
