"""A program that works on a batch with an upstream within itself: `python -m tests.service.batches.program IN OUT`.

The upstream answers at once, and writes what it was asked into the file IN.asked, a line each, before it answers.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from host.errors import HostError
from host.service.batches.answers import BatchAnswer
from host.service.batches.lines import BatchLine, check_input, idempotency_key, lines_of, read_request, unfinished
from host.service.batches.results import ResultFiles, ResultPaths
from host.service.batches.work import BatchWork


class Upstream:
    """An engine. Every seventh line fails."""

    def __init__(self, asked: Path) -> None:
        self._asked = os.open(asked, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def answer(self, batch: str, line: BatchLine, stopping: asyncio.Event) -> BatchAnswer:
        custom_id = read_request(line).custom_id
        os.write(self._asked, f"{custom_id}\n".encode())
        await asyncio.sleep(0)
        own = idempotency_key(batch, line.number)
        text = f'{{"id":"{own}","custom_id":"{custom_id}","response":{{"status_code":200,"body":{{}}}},"error":null}}'
        return BatchAnswer(line.number, text.encode(), failed=line.number % 7 == 0)


async def work(source: Path, results: Path, *, ordered: bool = False, concurrency: int = 16) -> bool:
    with source.open("rb") as file:
        checked = check_input(partial(lines_of, file))
        paths = ResultPaths.of(str(source), str(results))
        with ResultFiles(paths, checked, ordered=ordered) as files:
            upstream = Upstream(source.with_suffix(".asked"))
            one = BatchWork(files.batch, upstream, files, concurrency=concurrency, ordered=ordered)

            async def each() -> AsyncIterator[BatchLine]:
                for line in unfinished(lines_of(file), checked, files.is_done):
                    yield line

            return await one.run(each())


def main(source: str, results: str, *options: str) -> int:
    numbers = [int(one) for one in options if one.isdecimal()]
    if numbers:  # the system's limit for the size of a file stands for the disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (numbers[0], resource.RLIM_INFINITY))
    try:
        whole = asyncio.run(work(Path(source), Path(results), ordered="ordered" in options))
    except HostError as error:
        print(error)
        return error.exit_status
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
