"""A short output cannot stand for more than a run may hold, and reading it ends with the run."""

from __future__ import annotations

import copy
import json
import pickle
import tracemalloc
from typing import Any

import pytest

from host import Host, errors
from host.core import operation
from host.core.operation import UNREAD_BYTES, Attachment, Attachments, Execution, Outcome, Result, read_output
from host.core.strict_json import MAX_DEPTH, check_depth
from host.run import Run
from tests.probing import calls, probe

BIG = 64 << 20


@pytest.fixture
def held() -> Attachments:
    return Attachments(BIG)


def put(held: Attachments, content: Any) -> str:
    ident = held.put(Attachment(content if isinstance(content, bytes) else json.dumps(content).encode()))
    assert ident is not None
    return ident


def read(held: Attachments, data: Any, *, status: int = 200, **options: Any) -> Outcome:
    return read_output(json.dumps({"status": status, "data": data}), held, **options)


def result_of(outcome: Outcome) -> Result:
    return outcome.result(Execution("run_1", "c:local.x", "sha256:0", 0.0, 0.0, None, (), (), ()))  # type: ignore[arg-type]


def spread(idents: list[str], shape: str) -> Any:
    """The documents in another place each."""
    documents = [{"$json": ident} for ident in idents]
    if shape == "nested":
        inner: Any = None
        for one in documents:
            inner = [one, {"more": inner}]
        return inner
    return {"list": documents, "names": {f"n{n}": one for n, one in enumerate(documents)}}[shape]


@pytest.mark.parametrize("shape", ["list", "names", "nested"])
@pytest.mark.parametrize("value", ["[]", "1", '{"a":1}', '"x"', "1.5"])
def test_documents_that_fit_alone_and_not_together_are_an_error(
    held: Attachments, monkeypatch: pytest.MonkeyPatch, value: str, shape: str
) -> None:
    monkeypatch.setattr(operation, "MAX_OUTPUT_VALUES", 3_000)
    idents = [put(held, f"[{','.join([value] * 400)}]".encode()) for _ in range(8)]
    assert read(held, spread(idents[:2], shape)).status == 200
    with pytest.raises(errors.OutputTooLarge) as ended:
        read(held, spread(idents, shape))
    assert "all of the data" in str(ended.value)


def test_documents_and_the_output_itself_have_one_budget(held: Attachments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "MAX_OUTPUT_VALUES", 1_000)
    ident = put(held, [1] * 400)
    assert read(held, [{"$json": ident}, [1] * 500]).status == 200
    with pytest.raises(errors.OutputTooLarge):
        read(held, [{"$json": ident}, [1] * 700])


def test_bytes_count_too_also_of_what_is_no_json(held: Attachments) -> None:
    idents = [put(held, b"x" * 1_000) for _ in range(4)]
    assert read(held, spread(idents[:3], "list"), most_bytes=3_000).data == [{"raw": "x" * 1_000}] * 3
    with pytest.raises(errors.OutputTooLarge):
        read(held, spread(idents, "list"), most_bytes=3_000)


def test_an_attachment_that_is_mentioned_many_times_counts_each_time_but_the_first(held: Attachments) -> None:
    """Each mention may become base64 in the answer to the caller."""
    ident = put(held, b"x" * 1_000)
    assert read(held, [{"$attachment": ident}] * 3, most_bytes=2_000).attachments.keys() == {ident}
    with pytest.raises(errors.OutputTooLarge):
        read(held, [{"$attachment": ident}] * 4, most_bytes=2_000)


@pytest.mark.parametrize("outside", [0, 50, 150, 190])
def test_a_document_deep_within_an_output_is_not_deeper_than_any_value(held: Attachments, outside: int) -> None:
    ident = put(held, b"[" * 120 + b"]" * 120)
    data: Any = {"$json": ident}
    for _ in range(outside):
        data = [data]
    value = read(held, data).data
    check_depth(value, "it", MAX_DEPTH)
    for _ in range(outside):
        value = value[0]
    assert isinstance(value, list if outside + 120 < MAX_DEPTH else dict)


def test_a_splice_in_a_splice_is_not_looked_at(held: Attachments) -> None:
    innermost = put(held, [1])
    ident = put(held, {"$json": innermost})
    for _ in range(5):
        ident = put(held, {"a": {"$json": ident}})
    assert read(held, {"of": {"$json": ident}}).data["of"]["a"].keys() == {"$json"}


LONG = {"object": "list", "data": [{"embedding": [0.5] * 1000, "index": n} for n in range(400)], "usage": {"prompt_tokens": 7}}  # fmt: skip


def test_a_long_document_that_is_all_of_the_data_stays_bytes(held: Attachments) -> None:
    text = json.dumps(LONG).encode()
    assert len(text) > UNREAD_BYTES
    ident = put(held, text)
    tracemalloc.start()
    try:
        outcome = read(held, {"$json": ident}, most_bytes=10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(text), "its values would take ten times as much"
    assert outcome.document is text
    result = result_of(outcome)
    assert result.known["usage"] == {"prompt_tokens": 7}
    assert result.data == LONG
    assert result.as_dict() == {"status": 200, "data": LONG}


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda result: pickle.loads(pickle.dumps(result)), repr])
def test_a_result_with_an_unread_document_is_a_result_like_any_other(held: Attachments, again: Any) -> None:
    result = result_of(read(held, {"$json": put(held, LONG)}))
    made = again(result)
    assert made == result if isinstance(made, Result) else "embedding" in made
    with pytest.raises(AttributeError):
        result.nothing  # type: ignore[attr-defined]  # noqa: B018 - that it is not there is the test


def test_a_short_document_is_read_at_once(held: Attachments) -> None:
    result = result_of(read(held, {"$json": put(held, {"a": 1})}))
    assert (result.brief, result.known, result.data) == (None, {"a": 1}, {"a": 1})


@pytest.mark.parametrize("end", [b"", b"]", b"[" * 500, b"x]}", b"1,]}", b"01]}"], ids=repr)
def test_a_long_document_that_is_no_json_is_a_failure(held: Attachments, end: bytes) -> None:
    text = b'{"a":[' + b"1," * UNREAD_BYTES + end
    outcome = read(held, {"$json": put(held, text)})
    assert (outcome.status, outcome.data, outcome.document, outcome.brief) == (502, None, None, None)


def test_a_document_of_more_values_than_memory_is_handed_on_and_not_parsed(held: Attachments) -> None:
    text = b"[" + b"0," * 8_500_000 + b"0]"
    result = result_of(read(held, {"$json": put(held, text)}))
    assert result.document is text
    with pytest.raises(errors.InputError, match="more than"):
        result.data  # noqa: B018 - that it raises is the test


@pytest.mark.parametrize("status", [404, 500, 199])
def test_a_long_document_beside_a_failure_is_not_the_data(held: Attachments, status: int) -> None:
    assert read(held, {"$json": put(held, LONG)}, status=status).document is None


def _output(held: Attachments, name: str) -> str:
    keys = ",".join(f'"k{n}":0' for n in range(1_000_000))
    return {
        "a million names": f"{{{keys}}}",
        "a long document": json.dumps({"status": 200, "data": {"$json": put(held, f"{{{keys}}}".encode())}}),
        "a document inside": json.dumps({"status": 200, "data": [{"$json": put(held, f"{{{keys}}}".encode())}]}),
        "escapes": '{"status":200,"data":"' + r"\ud800" * 1_000_000 + '"}',
        "many small objects": '[{"$x":' + ",".join(["[]"] * 300_000).join(["[", "]"]) + "}]",
    }[name]


@pytest.mark.parametrize(
    "name", ["a million names", "a long document", "a document inside", "escapes", "many small objects"]
)
def test_reading_an_output_asks_whether_to_go_on_and_ends_there(held: Attachments, name: str) -> None:
    class Over(Exception):
        pass

    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 20:
            raise Over

    with pytest.raises(Over):
        read_output(_output(held, name), held, check=check)


@pytest.mark.parametrize("how", ["over", "cancelled"])
def test_an_output_that_is_still_read_when_the_run_ends_is_the_end_of_the_run(
    host: Host, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    catalyst = probe(host)
    really = catalyst._instances.run

    def run_and_end(text: str, run: Run) -> str:
        output = really(text, run)
        if how == "cancelled":
            run.cancel()
        else:
            run._deadline = 0.0
        return output

    monkeypatch.setattr(catalyst._instances, "run", run_and_end)
    expected = errors.Cancelled if how == "cancelled" else errors.DeadlineExceeded
    with pytest.raises(expected) as ended:
        catalyst.run(calls(["echo", "x" * 300_000]))
    assert ended.value.execution is not None
    assert ended.value.execution.decisions[-1].detail["error"] == expected.code


def test_an_output_that_stands_for_too_much_is_on_record_as_such(host: Host) -> None:
    catalyst = probe(host, max_output_size=2_000)
    raw = json.dumps({"status": 200, "data": [{"$attachment": "$0.$attachment"}] * 3})
    with pytest.raises(errors.OutputTooLarge) as ended:
        catalyst.run(calls(["echo", {"$attachment": "clip"}], raw=raw), attachments={"clip": b"x" * 1_500})
    assert ended.value.execution is not None
    assert ended.value.execution.decisions[-1].detail["error"] == "output_too_large"
