"""Every operation of a catalyst as a tool of its own, by the official client."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError

from host.core.names import Reference
from host.fakes import FakeOpenAI
from host.runtime.workspace import Workspace
from host.server.mcp.operation_tools import MOST_TOOLS
from host.server.mcp.run_tool import MOST_BYTES
from host.trust.verification import Rule
from tests.conftest import openai_manifest, wat
from tests.server.conftest import Server
from tests.server.mcp.conftest import CHAT, asked, called, registered

OPERATIONS = openai_manifest().operations
SPEECH = b"RIFF0000WAVEfmt "


def tools(server: Server, bearer: str = "", mode: str = "auto") -> dict[str, Any]:
    async def ask(client: Any) -> dict[str, Any]:
        return {one.name: one for one in (await client.list_tools()).tools}

    return asked(server, ask, bearer, mode)


def test_operations_of_the_table_are_tools(server: Server, era: str) -> None:
    """Not all of them are listed: see test_tool_search.py."""
    listed = tools(server, mode=era)
    expected = {"openai_" + name.replace(".", "_") for name, one in OPERATIONS.items() if not one.websocket}
    assert listed.keys() <= {"execution", "component", "tools_search"} | expected
    assert len(listed) == MOST_TOOLS


def test_a_tool_has_the_operations_description_and_parameters(server: Server, era: str) -> None:
    tool = tools(server, mode=era)["openai_chat_completions_create"]
    assert tool.description == OPERATIONS["chat.completions.create"].description
    assert tool.input_schema["type"] == "object"
    assert {"model", "messages"} <= set(tool.input_schema["required"])
    message = tool.input_schema["properties"]["messages"]["items"]
    assert "assistant" in message["properties"]["role"]["enum"]
    assert message["required"] == ["role"]
    assert "stream" not in tool.input_schema["properties"]


def test_a_tool_says_what_it_does_to_the_world(server: Server) -> None:
    listed = tools(server)
    hints = {
        name: listed[f"openai_{name}"].annotations for name in ("models_list", "files_delete", "embeddings_create")
    }
    assert hints["models_list"].read_only_hint
    assert hints["files_delete"].destructive_hint
    assert not hints["embeddings_create"].read_only_hint
    assert all(one.open_world_hint for one in hints.values())


def test_a_file_is_asked_for_as_its_bytes(server: Server) -> None:
    query = {"query": "audio.transcriptions.create"}
    schema = called(server, "tools_search", query).structured_content["tools"][0]["input_schema"]
    assert "$attachment" not in json.dumps(schema)
    assert schema["properties"]["file"]["required"] == ["data"]


def test_an_answer_is_data_and_text(server: Server, era: str) -> None:
    result = called(server, "openai_chat_completions_create", CHAT, mode=era)
    assert not result.is_error
    assert result.structured_content["object"] == "chat.completion"
    assert json.loads(result.content[0].text) == result.structured_content


def test_speech_is_audio(server: Server, era: str) -> None:
    arguments = {"model": "tts-1", "input": "hi", "voice": "alloy"}
    [block] = called(server, "openai_audio_speech_create", arguments, mode=era).content
    assert block.type == "audio"
    assert block.mime_type.startswith("audio/")
    assert base64.b64decode(block.data)


def test_a_file_is_sent_on_as_it_was_given_and_what_it_holds_comes_back(
    server: Server, fake: FakeOpenAI, era: str
) -> None:
    content = b"\x00\x01 not text \xff" * 1000
    file = {"data": base64.b64encode(content).decode(), "filename": "f.bin", "content_type": "application/x-thing"}
    made = called(server, "openai_files_create", {"file": file, "purpose": "user_data"}, mode=era)
    assert not made.is_error, made
    assert made.structured_content["filename"] == "f.bin"
    assert made.structured_content["bytes"] == len(content)
    [block] = called(server, "openai_files_content", {"file_id": made.structured_content["id"]}, mode=era).content
    assert block.type == "resource"
    assert base64.b64decode(block.resource.blob) == content


def test_a_text_answer_is_that_text(server: Server) -> None:
    file = {"data": base64.b64encode(SPEECH).decode(), "filename": "speech.wav"}
    arguments = {"file": file, "model": "whisper-1", "response_format": "text"}
    result = called(server, "openai_audio_transcriptions_create", arguments)
    assert not result.is_error
    assert result.structured_content is None
    assert result.content[0].text
    assert not result.content[0].text.startswith(("{", '"'))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        pytest.param({"model": "gpt-4o-mini"}, "params.messages", id="one is missing"),
        pytest.param({**CHAT, "temperature": "hot"}, "params.temperature", id="one is of another type"),
        pytest.param({**CHAT, "model": 3}, "params.model", id="the model is no name"),
    ],
)
def test_parameters_that_do_not_fit_are_named_and_cost_nothing(
    server: Server, fake: FakeOpenAI, arguments: dict[str, Any], field: str
) -> None:
    result = called(server, "openai_chat_completions_create", arguments)
    assert result.is_error
    error = result.structured_content["error"]
    assert error["type"] == "invalid_input"
    assert error["param"] == field
    assert fake.requests == []


def test_a_file_that_is_not_base64_is_named(server: Server) -> None:
    arguments = {"file": {"data": "not base64!"}, "model": "whisper-1"}
    error = called(server, "openai_audio_transcriptions_create", arguments).structured_content["error"]
    assert error["param"] == "params.file.data"


def test_what_the_upstream_refuses_is_an_error_with_its_words(server: Server, fake: FakeOpenAI) -> None:
    fake.fail_next(429, times=10)
    result = called(server, "openai_models_list", {})
    assert result.is_error
    assert result.structured_content["status"] == 429
    assert result.structured_content["error"]["message"]


def test_a_result_that_is_too_large_is_an_error_that_says_so(server: Server, fake: FakeOpenAI) -> None:
    fake.script([{"body_bytes": MOST_BYTES + 1, "headers": {"content-type": "application/octet-stream"}}])
    result = called(server, "openai_files_content", {"file_id": "file-1"})
    assert result.is_error
    assert result.structured_content["error"]["type"] == "too_large"


def test_a_tool_that_there_is_not_is_no_call(server: Server, era: str) -> None:
    with pytest.raises(MCPError, match="no tool 'openai_nothing'") as raised:
        called(server, "openai_nothing", {}, mode=era)
    assert raised.value.error.code == -32602
    assert raised.value.error.data == {"field": "name"}


def test_a_key_for_another_catalyst_sees_none_of_these_and_calls_none(
    server: Server, key: Callable[..., str], workspace: Workspace
) -> None:
    bearer = key(catalysts=[Reference.parse("c:local.other")])
    assert tools(server, bearer).keys() == {"execution", "component"}
    result = called(server, "openai_models_list", {}, bearer)
    assert result.is_error
    assert result.structured_content["error"]["type"] == "forbidden"


def test_a_public_key_sees_what_runs_and_nothing_else(server: Server, key: Callable[..., str]) -> None:
    listed = tools(server, key(type="public"))
    marked = {"openai_" + name.replace(".", "_") for name, one in OPERATIONS.items() if one.public}
    assert {name for name in listed if name.startswith("openai_")} == marked
    assert "component" not in listed


def test_a_connection_is_no_tool_since_no_call_can_open_it(server: Server, key: Callable[..., str]) -> None:
    bearer = key(operations=("responses.connect", "models.list"))
    assert {name for name in tools(server, bearer) if name.startswith("openai_")} == {"openai_models_list"}
    with pytest.raises(MCPError):
        called(server, "openai_responses_connect", {}, bearer)


@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        pytest.param("chat_completions_create", {**CHAT, "model": "gpt-4o-mini"}, True, id="one that it is for"),
        pytest.param("chat_completions_create", {**CHAT, "model": "gpt-4o"}, False, id="another"),
        pytest.param("models_retrieve", {"model": "gpt-4o"}, False, id="another, in the path"),
        pytest.param("images_generate", {"prompt": "a cat"}, False, id="none, where one may be left out"),
        pytest.param("models_list", {}, True, id="none, where none is taken"),
    ],
)
def test_a_key_for_some_models_is_held_to_them(
    server: Server, key: Callable[..., str], fake: FakeOpenAI, name: str, arguments: dict[str, Any], allowed: bool
) -> None:
    result = called(server, f"openai_{name}", arguments, key(models=["gpt-4o-mini"]))
    assert result.is_error is not allowed
    assert bool(fake.requests) is allowed


def test_two_catalysts_of_one_name_are_told_apart_by_their_namespaces(
    workspace: Workspace, server: Server, tmp_path: Path
) -> None:
    workspace.trust.require("acme", Rule(require_signature=False))
    registered(
        workspace, tmp_path, wat("rust_like"), id="catalyst:acme.openai",
        wasi={"http": True, "secrets": True}, operations={"models.list": {}},
    )  # fmt: skip
    listed = tools(server)
    assert {"acme_openai_models_list", "local_openai_models_list", "openai_embeddings_create"} <= listed.keys()
    assert "openai_models_list" not in listed
    assert called(server, "acme_openai_models_list", {}).structured_content == {"environment": "empty"}
    assert called(server, "local_openai_models_list", {}).structured_content["object"] == "list"


def test_a_catalyst_without_operations_is_one_tool_with_its_own_input(
    workspace: Workspace, server: Server, tmp_path: Path
) -> None:
    schema = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
    registered(
        workspace, tmp_path, wat("rust_like"), id="catalyst:local.execution", description="Looks around",
        wasi={"http": True, "secrets": True}, schema={"input": {**schema, "additionalProperties": False}},
    )  # fmt: skip
    name = "local_execution"  # its own is that of a tool of the host
    listed = tools(server)
    assert listed[name].description == "Looks around"
    assert listed[name].input_schema["required"] == ["text"]
    assert called(server, name, {"text": "hello"}).structured_content == {"environment": "empty"}
    assert called(server, name, {}).structured_content["error"]["param"] == "text"
    told = called(
        server, "execution", {"action": "run", "reference": "c:local.execution", "input": {"text": "hello"}}
    ).structured_content
    assert told["data"] == {"environment": "empty"}


def test_parameters_whose_names_clients_refuse_are_renamed_and_arrive(
    workspace: Workspace, server: Server, tmp_path: Path
) -> None:
    params = {
        "type": "object", "required": ["$top"], "additionalProperties": False,
        "properties": {"$top": {"type": "integer"}, "@odata": {"type": "array", "items": {"type": "object", "properties": {"a b": True}}}},
    }  # fmt: skip
    registered(
        workspace, tmp_path, wat("rust_like"), id="catalyst:local.odd",
        wasi={"http": True, "secrets": True}, operations={"list": {"params": params}},
    )  # fmt: skip
    assert tools(server)["odd_list"].input_schema["required"] == ["top"]
    given = {"top": 1, "odata": [{"a_b": 1}]}
    assert called(server, "odd_list", given).structured_content == {"environment": "empty"}
    assert called(server, "odd_list", {"$top": 1}).structured_content == {"environment": "empty"}
    assert called(server, "odd_list", {}).structured_content["error"]["param"] == "params.$top"


def test_what_the_operator_changes_shows_in_the_list(server: Server, workspace: Workspace) -> None:
    assert "openai_models_list" in tools(server)
    workspace.components.unregister(Reference.parse("c:local.openai"))
    assert tools(server).keys() == {"execution", "component"}
