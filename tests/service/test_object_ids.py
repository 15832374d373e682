"""Which ids of stored objects a request names, and an answer makes."""

from __future__ import annotations

from typing import Any

import pytest

from host.component.operations import OperationSpec
from host.service.dialects import openai

GET = OperationSpec("files.get", method="GET", path="/files/{file_id}", in_path=("file_id",))
MODEL = OperationSpec("models.get", method="GET", path="/models/{model}", in_path=("model",))
POST = OperationSpec("responses.create", method="POST", path="/responses", request="json")
DELETE = OperationSpec("files.delete", method="DELETE", path="/files/{file_id}", in_path=("file_id",))


@pytest.mark.parametrize(
    ("spec", "params", "ids"),
    [
        pytest.param(GET, {"file_id": "file-1"}, ["file-1"], id="in the path"),
        pytest.param(MODEL, {"model": "gpt-4o"}, [], id="a model is none"),
        pytest.param(POST, {"previous_response_id": "resp_1", "model": "m"}, ["resp_1"], id="the response before"),
        pytest.param(POST, {"conversation": {"id": "conv_1"}}, ["conv_1"], id="a conversation"),
        pytest.param(POST, {"conversation": "conv_1"}, ["conv_1"], id="a conversation by its id alone"),
        pytest.param(POST, {"training_file": "file-1"}, ["file-1"], id="a file for training"),
        pytest.param(
            POST, {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1", "vs_2"]}]}, ["vs_1", "vs_2"],
            id="in a tool",
        ),
        pytest.param(
            POST, {"input": [{"content": [{"type": "input_file", "file_id": "file-1"}]}]}, ["file-1"], id="in the input"
        ),
        pytest.param(POST, {"input": "file-1", "user": "u", "file_id": 7}, [], id="a text that looks like one is none"),
        pytest.param(POST, {"metadata": {"file_id": "file-1"}}, [], id="what a caller says in metadata is none"),
        pytest.param(GET, {"file_id": "x" * 201}, [], id="no id is so long"),
        pytest.param(None, {"thread_id": "thread_1"}, ["thread_1"], id="of an operation that is not listed"),
    ],
)  # fmt: skip
def test_a_request_names(spec: OperationSpec | None, params: dict[str, Any], ids: list[str]) -> None:
    assert list(openai.ids_of(spec, params)) == ids


def test_of_a_request_of_any_depth_and_width_a_part_is_looked_at() -> None:
    deep: Any = "file-1"
    for _ in range(100_000):
        deep = [deep]
    assert list(openai.ids_of(POST, {"file_id": deep})) == []
    assert len(openai.ids_of(POST, {"file_ids": [f"file-{number}" for number in range(100_000)]})) == 32


@pytest.mark.parametrize(
    ("spec", "params", "answer", "ids"),
    [
        pytest.param(POST, {}, {"id": "resp_1", "object": "response"}, ["resp_1"], id="a response"),
        pytest.param(POST, {}, {"id": "resp_1", "object": "response", "store": False}, [], id="one that is not stored"),
        pytest.param(
            POST, {}, {"type": "response.created", "response": {"id": "resp_1", "conversation": {"id": "conv_1"}}},
            ["resp_1", "conv_1"], id="by the first event of a stream",
        ),
        pytest.param(POST, {}, {"id": "chatcmpl-1", "object": "chat.completion"}, [], id="a chat that is forgotten"),
        pytest.param(
            POST, {"store": True}, {"id": "chatcmpl-1", "object": "chat.completion"}, ["chatcmpl-1"], id="one that is not"
        ),
        pytest.param(POST, {}, {"object": "list", "data": [{"id": "file-1"}], "last_id": "file-1"}, [], id="no list"),
        pytest.param(
            GET, {}, {"id": "batch_1", "object": "batch", "output_file_id": "file-2", "error_file_id": None},
            ["batch_1", "file-2"], id="what a batch has made meanwhile",
        ),
        pytest.param(DELETE, {}, {"id": "file-1", "deleted": True}, [], id="what is gone"),
        pytest.param(POST, {}, ["id"], [], id="no object"),
    ],
)  # fmt: skip
def test_an_answer_makes(spec: OperationSpec, params: dict[str, Any], answer: Any, ids: list[str]) -> None:
    assert list(openai.ids_made(spec, params, answer)) == ids
