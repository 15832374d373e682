"""One batch for `host batch`: its files, the dispatch of this process, and its end, whatever that is."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from host.cli.inputs import blaming, opened
from host.cli.output.batch import BatchBar, BatchTotals, about, short
from host.cli.output.terminal import as_json, put, say, working
from host.cli.targets import cancelled_by_others
from host.core import installation
from host.core.names import Reference
from host.core.quantities import parse_duration
from host.errors import HostError, InputError, NotFound, StateError
from host.runtime.host import Host
from host.service.accounts import Observer
from host.service.batches.answers import Asking, DispatchEngine
from host.service.batches.lines import Checked, check_input, lines_of, unfinished
from host.service.batches.results import ResultFiles, ResultPaths
from host.service.batches.work import BatchEnd, BatchWork, finish
from host.service.catalog import Catalog
from host.service.dispatch import Dispatch, Running, UsageRecorder
from host.service.limits import Budget, open_limiter
from host.service.principal import MOST_REQUESTS, OPERATOR, Admission
from host.service.request import Routing
from host.service.stored_objects import StoredObjects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from host.service.catalog import View

INTERRUPTED: Final = 130


def run_batch(
    *,
    source: str,
    output: str,
    error_file: str | None,
    catalyst: str | None,
    config_file: str | None,
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
    paths = ResultPaths.of(source, output, error_file)
    routing, budgets, limits_url = _settings(config_file)
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
        dispatching = _Dispatching(stack, routing, budgets, limits_url, concurrency)
        bar = stack.enter_context(BatchBar(checked.lines, files.done))
        asking = Asking(lambda _: OPERATOR, target, timeout_s)
        work = partial(
            BatchWork,
            files.batch,
            DispatchEngine(dispatching.catalog, dispatching.dispatch, asking),
            files,
            concurrency=concurrency,
            ordered=ordered,
            most_failures=math.inf if max_failures is None else max_failures,
            written=bar.written,
        )
        gc.freeze()  # all objects until now stay: no collection has to look at them
        left = unfinished(lines_of(file), checked, files.is_done)
        ended = finish(partial(dispatching.begin, work, target), left, dispatching.dispatch.end, _say_stopping)
    return _say_end(ended, files, checked, bar.totals, in_json=in_json)


def _settings(config_file: str | None) -> tuple[Routing, Mapping[Reference, Budget], str | None]:
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


class _Dispatching:
    """The dispatch of this process, over the kept state; what it opens, `stack` closes."""

    def __init__(
        self,
        stack: ExitStack,
        routing: Routing,
        budgets: Mapping[Reference, Budget],
        limits_url: str | None,
        concurrency: int,
    ) -> None:
        workspace = stack.enter_context(opened())
        limiter = open_limiter(limits_url, workspace)
        stack.callback(limiter.close)
        host = stack.enter_context(Host(workspace=workspace, limiter=limiter))
        self.catalog = Catalog(host, workspace, routing)
        stack.callback(self.catalog.close)
        usage = UsageRecorder(workspace.usage)
        stack.callback(usage.close)
        admission = Admission(most_requests=MOST_REQUESTS + 2 * concurrency)  # a caller who is alone gets half
        stack.callback(admission.close)
        observers: list[Observer[Running]] = []
        objects = StoredObjects(self.catalog, workspace.made_objects, routing, observers)
        self.dispatch = Dispatch(self.catalog, limiter, usage, observers, budgets, admission, objects)
        stack.enter_context(cancelled_by_others(host, workspace))

    async def begin(self, work: Callable[[], BatchWork], target: Reference | None) -> BatchWork:
        """Raises HostError before the first line is run."""
        view = await self.catalog.current()
        for reference in _first(view, target):
            await self.catalog.catalyst(view, reference)
        return work()


def _first(view: View, target: Reference | None) -> tuple[Reference, ...]:
    """What is loaded before the first line: the one target, or the default. Raises NotFound."""
    if target is not None:
        return (view.component(target).reference,)
    if not view.routing.references:
        raise NotFound("no catalyst is installed that lines could go to", hint="host register FILE installs one")
    return () if view.routing.default is None else (view.routing.default,)


def _say_stopping(under_way: int) -> None:
    say(f"\nstopping: {under_way} lines under way are finished first (Ctrl-C again cancels them)")


def _say_end(ended: BatchEnd, files: ResultFiles, checked: Checked, totals: BatchTotals, *, in_json: bool) -> int:
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
        }))  # fmt: skip
    see = f": see {files.paths.errors}" if files.failed else ""
    say(f"{files.done} of {checked.lines} lines are finished, {files.failed} of them failed{see}")
    if totals.lines:
        tokens = f"{short(totals.input_tokens)} tokens in and {short(totals.output_tokens)} out"
        say(f"{totals.lines} in {about(took_s)}, {totals.lines / max(0.001, took_s):.1f} a second; {tokens}")
    if left := checked.lines - files.done:
        say(f"{left} are left: the same command goes on with them")
    if isinstance(ended, HostError):
        raise ended
    return INTERRUPTED if ended == "interrupted" else int(files.failed > 0)
