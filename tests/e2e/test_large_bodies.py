"""The guest's memory, and its calls of the host, do not grow with the bodies that go through a run of the OpenAI catalyst.

What they cost is found by giving a run less and less: the least memory, in steps, with which it still succeeds.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from host import Attachment, Host, Policy, errors
from tests.catalyst.openai.test_every_operation import ANSWER, recording
from tests.conftest import KEY

MIB = 1 << 20
STEP = MIB // 2
MOST = 64 * MIB  # of memory, that anything here may need
NOTHING_MORE = STEP  # two runs of the same may end on both sides of a step

Ask = Callable[[Any], tuple[dict[str, Any], dict[str, Attachment]]]


def upload(size: int) -> tuple[dict[str, Any], dict[str, Attachment]]:
    params = {"file": {"$attachment": "f"}, "purpose": "batch"}
    return {"operation": "files.create", "params": params}, {"f": Attachment(bytes(size), "a.jsonl")}


def in_parts(size: int) -> tuple[dict[str, Any], dict[str, Attachment]]:
    params = {"file": {"$attachment": "f"}, "purpose": "batch", "mime_type": "text/plain", "part_size": 8 * MIB}
    return {"operation": "uploads.upload_file_chunked", "params": params}, {"f": Attachment(bytes(size), "a.jsonl")}


def embeddings(form: str, count: int) -> tuple[dict[str, Any], dict[str, Attachment]]:
    params = {"model": "m", "input": [f"text {at}" for at in range(count)], "encoding_format": form}
    return {"operation": "embeddings.create", "params": params}, {}


def embedded(form: str, count: int) -> bytes:
    """An answer with so many embeddings of 1,536 dimensions."""
    vector = '"' + "zczMPQ==" * 1024 + '"' if form == "base64" else json.dumps([0.0123456] * 1_536)
    items = ",".join(f'{{"object":"embedding","index":{at},"embedding":{vector}}}' for at in range(count))
    return f'{{"object":"list","model":"m","data":[{items}],"usage":{{"prompt_tokens":1,"total_tokens":1}}}}'.encode()


class Runs:
    """Runs of the catalyst with so much memory."""

    def __init__(self, host: Host, component: Path, recorder: Any) -> None:
        self._recorder = recorder
        upstreams = {"https://api.openai.com": f"http://127.0.0.1:{recorder.server_port}"}
        granted: dict[str, Any] = {"allowed_domains": ["api.openai.com"], "upstreams": upstreams, "timeout": "5m"}
        sizes = dict.fromkeys(("max_request_size", "max_response_size", "max_output_size"), "128MB")
        self._load = functools.cache(
            lambda memory: host.load(
                component, policy=Policy(**granted, **sizes, max_memory_bytes=memory), secrets={"OPENAI_API_KEY": KEY}
            )
        )

    def __call__(self, asked: tuple[Any, Any], answer: bytes = ANSWER, *, memory: int = MOST) -> Any:
        self._recorder.answers = [answer] if answer is not ANSWER else []
        result = self._load(memory).run(asked[0], attachments=asked[1])
        assert result.ok, result.error
        self._recorder.sent.clear()
        return result

    def least_memory(self, asked: tuple[Any, Any], answer: bytes = ANSWER) -> int:
        """In steps, by halving."""
        low, high = 0, MOST // STEP
        while high - low > 1:
            middle = (low + high) // 2
            try:
                self(asked, answer, memory=middle * STEP)
                high = middle
            except errors.SandboxError:
                low = middle
        return high * STEP


@pytest.fixture(scope="module")
def runs(host: Host, openai_file: Path) -> Iterator[Runs]:
    with recording() as recorder:
        yield Runs(host, openai_file, recorder)


def test_a_file_of_25_megabytes_takes_no_more_memory_and_calls_than_one_of_a_kilobyte(runs: Runs) -> None:
    small, large = upload(1_000), upload(25_000_000)
    least = runs.least_memory(small)
    meters = runs(large, memory=least + NOTHING_MORE).execution.meters
    assert meters.sent_bytes > 25_000_000
    assert meters.host_calls == runs(small).execution.meters.host_calls


def test_control_a_file_that_goes_through_the_guest_takes_its_memory(runs: Runs) -> None:
    text = base64.b64encode(bytes(4 * MIB)).decode()
    within = {"operation": "files.create", "params": {"file": {"data": text, "filename": "a"}, "purpose": "batch"}}
    with pytest.raises(errors.SandboxError):
        runs((within, {}), memory=runs.least_memory(upload(1_000)) + NOTHING_MORE)
    assert runs((within, {})).ok


def test_a_file_of_100_megabytes_in_parts_takes_no_more_memory_than_one_of_two_parts(runs: Runs) -> None:
    small, large = in_parts(9 * MIB), in_parts(100 * MIB)
    least = runs.least_memory(small)
    meters, of_two = (runs(one, memory=least + NOTHING_MORE).execution.meters for one in (large, small))
    assert meters.sent_bytes > 100 * MIB
    assert (of_two.http_requests, meters.http_requests) == (1 + 2 + 1, 1 + 13 + 1)
    a_part = (meters.host_calls - of_two.host_calls) / (13 - 2)
    assert a_part == 3  # make it, send it, read of the answer what names it


@pytest.mark.parametrize("form", ["float", "base64"])
def test_the_embeddings_of_a_full_batch_are_not_in_the_guests_memory(runs: Runs, form: str) -> None:
    asked, answer = embeddings(form, 2_048), embedded(form, 2_048)
    least = runs.least_memory(asked)  # the same inputs, and next to no answer
    result = runs(asked, answer, memory=least + NOTHING_MORE)
    assert result.execution.meters.received_bytes > 16_000_000
    assert len(result.data["data"]) == 2_048
    assert result.execution.meters.host_calls == runs(embeddings(form, 1)).execution.meters.host_calls
