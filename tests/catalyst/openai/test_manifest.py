"""The rows of the OpenAI catalyst's table come from its declaration, and the schemas describe the parameters."""

import functools
import inspect
import json
import re
import sys
from pathlib import Path

import jsonschema
import openai
import pytest

from host.component.schema import InputSchema
from host.errors import InputError
from tests.catalyst.openai import test_requests

ROOT = Path(__file__).parents[3]
MANIFEST = ROOT / "catalyst" / "openai" / "manifest.json"
DECLARED = json.loads(MANIFEST.with_name("operations.json").read_bytes())
NAMES = {alias: name for name, one in DECLARED["operations"].items() for alias in (name, *one.get("aliases", ()))}

HELLO = [{"role": "user", "content": "Hello"}]
TEXT = {"type": "text", "text": "What is this?"}
FILE = {"data": "AAAA", "filename": "a.mp3", "content_type": "audio/mpeg"}
LEAST = {  # of each operation, what has to be there
    "chat.completions.create": {"model": "m", "messages": HELLO},
    "completions.create": {"model": "m", "prompt": "p"},
    "responses.create": {},
    "responses.retrieve": {"response_id": "r"},
    "responses.delete": {"response_id": "r"},
    "models.list": {},
    "models.retrieve": {"model": "m"},
    "embeddings.create": {"model": "m", "input": "i"},
    "moderations.create": {"input": "i"},
    "images.generate": {"prompt": "p"},
    "audio.speech.create": {"model": "m", "input": "i", "voice": "alloy"},
    "audio.transcriptions.create": {"file": FILE, "model": "m"},
    "audio.translations.create": {"file": FILE, "model": "m"},
    "files.create": {"file": FILE, "purpose": "batch"},
    "files.list": {},
    "files.retrieve": {"file_id": "f"},
    "files.content": {"file_id": "f"},
    "files.delete": {"file_id": "f"},
}
SAMPLES = ["x", "", 5, 0.5, True, False, [], {}, FILE, {"data": 5}, {"data": "AA", "other": "x"}, None]
"""One or more of each type that a parameter may have; what is in a list is the schema's business alone."""


def whole(schema):
    """The schema with the definitions that it refers to."""
    found, new = {}, [schema]
    while new:
        text = json.dumps(new)
        names = {name for name in re.findall(r'"#/\$defs/([^"]+)"', text) if name not in found}
        new = [found.setdefault(name, DECLARED["$defs"][name]) for name in names]
    return {**schema, "$defs": found}


@functools.cache
def params_of(name):
    return whole(DECLARED["operations"][name]["params"])


@functools.cache
def compiled(name):
    return InputSchema.compile(params_of(name), f"operations.{name}.params")


def accepted(name, params):
    try:
        compiled(name).check(params, "params")
    except InputError:
        return False
    return True


def valid(name, params):
    """A second opinion: `jsonschema`, which knows nothing of attachments."""
    return jsonschema.Draft202012Validator(params_of(name)).is_valid(params)


@pytest.fixture(scope="session")
def signatures():
    """The parameters of the official SDK's methods, those of the transport left out."""
    transport = {"extra_headers", "extra_query", "extra_body", "timeout"}
    with openai.OpenAI(api_key="sk-test") as client:
        methods = {name: functools.reduce(getattr, name.split("."), client) for name in LEAST}
        return {name: set(inspect.signature(one).parameters) - transport for name, one in methods.items()}


# The rows that the declaration makes.


def test_every_operation_with_a_route_is_a_row_of_the_table(guest):
    table = guest().TABLE
    assert table.names == sorted(name for name, of in NAMES.items() if "path" in DECLARED["operations"][of])
    for name, one in DECLARED["operations"].items():
        if "path" in one:
            row = table.find(name)
            assert (one["method"], one["path"], one.get("request", "none"), one.get("response", "json")) == (
                row.method,
                row.path,
                row.request,
                row.response,
            )
            assert all(table.find(alias) == row for alias in one.get("aliases", ()))


def test_the_schemas_describe_every_parameter_that_the_table_knows(guest):
    table = guest().TABLE
    for name, one in DECLARED["operations"].items():
        if "path" not in one:
            continue
        row, described = table.find(name), one["params"].get("properties", {})
        headers = [value["param"] for value in row.headers.values() if isinstance(value, dict)]
        known = {*(parameter.name for parameter in row._parameters), *row._in_query, *row.renamed, *row.parts, *headers}
        assert known <= described.keys(), name
        assert ("stream" in described) is (row.stream is True), name


@pytest.mark.parametrize("name", LEAST)
def test_a_parameter_that_the_table_checks_is_required_and_typed_alike_in_the_schema(guest, name):
    table = guest().TABLE
    invalid = sys.modules["catalyst.sdk"].Invalid  # imported for this test alone

    def taken(params):
        try:
            table.find(name).prepare(params)
        except invalid:
            return False
        return True

    for parameter in table.find(name)._parameters:
        without = {key: value for key, value in LEAST[name].items() if key != parameter.name}
        assert accepted(name, without) is taken(without)
        for value in SAMPLES:
            params = {**without, parameter.name: value}
            assert accepted(name, params) is taken(params), f"{parameter.name}={value!r}"


def test_the_schemas_describe_every_parameter_of_the_official_sdk(signatures):
    for name, parameters in signatures.items():
        assert parameters <= params_of(name).get("properties", {}).keys(), name


# Each schema is one, and says enough.


def test_every_schema_is_one_of_draft_2020_12_that_a_host_takes():
    for name in DECLARED["operations"]:
        jsonschema.Draft202012Validator.check_schema(params_of(name))
        compiled(name)


def test_operations_and_their_parameters_are_described_in_few_words():
    for name, one in DECLARED["operations"].items():
        assert 10 < len(one["description"]) < 120, name
        for parameter, schema in one["params"].get("properties", {}).items():
            assert schema.get("description") or "$ref" in schema, (name, parameter)


def test_the_declaration_is_not_too_large():
    assert MANIFEST.with_name("operations.json").stat().st_size < 500_000


# What they accept.


@pytest.mark.parametrize("name", LEAST)
def test_what_is_required_is_enough_and_what_nobody_knows_passes(name):
    for params in (LEAST[name], {**LEAST[name], "not_yet_invented": {"a": [None]}}):
        assert accepted(name, params)
        assert valid(name, params)


@pytest.mark.parametrize("name", LEAST)
def test_null_is_the_same_as_leaving_a_parameter_out(name):
    for parameter in params_of(name).get("properties", {}):
        if parameter not in LEAST[name]:
            assert accepted(name, {**LEAST[name], parameter: None}), parameter


@pytest.mark.parametrize("name", [name for name in LEAST if "model" in LEAST[name]])
def test_a_model_is_any_text(name):
    for model in ("gpt-9-ultra", "ft:gpt-4o:org::id", "llama3.2:3b", "a/b c"):
        assert accepted(name, {**LEAST[name], "model": model})


def test_what_the_table_makes_a_request_of_is_accepted():
    for row in test_requests.test_an_operation_is_one_request.pytestmark[0].args[1]:
        operation, params, _ = row.values if hasattr(row, "values") else row
        assert accepted(NAMES[operation], params or {}), (operation, params)


def test_the_examples_of_the_manifest_are_accepted():
    for example in json.loads(MANIFEST.read_bytes())["examples"]:
        assert accepted(example["input"]["operation"], example["input"].get("params", {}))


FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
GOOD = [
    ("chat.completions.create", {"messages": []}),
    ("chat.completions.create", {"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]}),
    ("chat.completions.create", {"messages": [{"role": "assistant", "tool_calls": [CALL]}]}),
    ("chat.completions.create", {"messages": [{"role": "tool", "tool_call_id": "c1", "content": [TEXT]}]}),
    ("chat.completions.create", {"messages": [{"role": "developer", "content": "d", "name": "n"}]}),
    ("chat.completions.create", {"messages": [{"role": "user", "content": [TEXT, IMAGE, AUDIO]}]}),
    (
        "chat.completions.create",
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
    ),
    ("chat.completions.create", {"messages": [{"role": "user", "content": [{"type": "not_yet_invented", "x": 1}]}]}),
    ("chat.completions.create", {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "auto"}),
    ("chat.completions.create", {"tools": [], "tool_choice": {"type": "function", "function": {"name": "f"}}}),
    ("chat.completions.create", {"tools": [{"type": "custom", "custom": {"name": "f", "format": {"type": "text"}}}]}),
    (
        "chat.completions.create",
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function"}]}}},
    ),
    ("chat.completions.create", {"response_format": {"type": "json_object"}}),
    (
        "chat.completions.create",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}}},
    ),
    ("chat.completions.create", {"stream": True, "stream_options": {"include_usage": True}}),
    ("chat.completions.create", {"temperature": 0, "top_p": 0.5, "n": 2, "seed": -1, "max_tokens": 16, "stop": ["a"]}),
    ("chat.completions.create", {"stop": "a", "logit_bias": {"50256": -100}, "metadata": {"a": "b"}, "user": "u"}),
    ("chat.completions.create", {"reasoning_effort": "xxhigh", "service_tier": "flex", "verbosity": "low"}),
    ("chat.completions.create", {"prediction": {"type": "content", "content": [TEXT]}, "modalities": ["text"]}),
    ("chat.completions.create", {"audio": {"voice": {"id": "v"}, "format": "wav"}}),
    ("completions.create", {"prompt": ["a", "b"]}),
    ("completions.create", {"prompt": [[1, 2], [3]], "logprobs": 5, "echo": True, "best_of": 2}),
    ("responses.create", {"model": "m", "input": HELLO}),
    ("responses.create", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]}),
    (
        "responses.create",
        {
            "input": [
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "1"},
                {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}},
                {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]},
                {"type": "tool_search_call", "arguments": {"a": 1}},
                {"id": "msg_1"},
            ]
        },
    ),
    ("responses.create", {"tools": [{"type": "function", **FUNCTION}, {"type": "web_search"}], "tool_choice": "auto"}),
    ("responses.create", {"tool_choice": {"type": "mcp", "server_label": "s"}, "conversation": "conv_1"}),
    ("responses.create", {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}, "background": True}),
    ("responses.create", {"reasoning": {"effort": "low"}, "truncation": "auto", "conversation": {"id": "c"}}),
    ("responses.create", {"prompt": {"id": "p", "variables": {"a": "b"}}, "include": ["a"], "max_output_tokens": 16}),
    ("responses.retrieve", {"include": "a", "starting_after": "3", "include_obfuscation": "false"}),
    ("responses.retrieve", {"include": ["a"], "starting_after": 3, "include_obfuscation": True, "stream": True}),
    ("embeddings.create", {"input": [1, 2, 3]}),
    ("embeddings.create", {"input": [[1], [2]], "dimensions": 256, "encoding_format": "base64"}),
    ("moderations.create", {"input": [TEXT, IMAGE], "model": "omni-moderation-latest"}),
    ("images.generate", {"n": 2, "size": "512x512", "quality": "hd", "output_compression": 80, "stream": True}),
    ("images.generate", {"response_format": "b64_json", "model": None}),
    ("audio.speech.create", {"voice": {"id": "v"}, "speed": 1.25, "response_format": "wav", "stream_format": "sse"}),
    ("audio.transcriptions.create", {"temperature": "0.2", "timestamp_granularities": ["word"], "stream": False}),
    ("audio.transcriptions.create", {"temperature": 0, "include": "logprobs", "chunking_strategy": "auto"}),
    ("audio.transcriptions.create", {"chunking_strategy": {"type": "server_vad"}, "languages": ["en", "de"]}),
    ("audio.translations.create", {"temperature": " 1e-1 ", "response_format": "srt"}),
    ("files.create", {"expires_after": {"anchor": "created_at", "seconds": "3600"}}),
    ("files.create", {"expires_after": {"anchor": "created_at", "seconds": 3600}}),
    ("files.list", {"limit": "100", "order": "desc", "purpose": "batch", "after": "file-1"}),
    ("files.list", {"limit": 100}),
]


@pytest.mark.parametrize(("name", "more"), GOOD)
def test_good_parameters_are_accepted(name, more):
    params = {**LEAST[name], **more}
    compiled(name).check(params, "params")
    assert valid(name, params)


@pytest.mark.parametrize("name", ["audio.transcriptions.create", "audio.translations.create", "files.create"])
def test_a_file_is_an_attachment_too_and_parts_stand_for_all_parameters(name):
    attached = {"$attachment": "a1", "filename": "a.mp3"}
    for params in ({**LEAST[name], "file": attached}, {"multipart": [{"name": "file", "data": "AAAA"}]}):
        assert accepted(name, params)
        assert valid(name, params)


def test_a_model_may_be_called_by_the_name_that_cyfr_has_for_it():
    assert accepted("models.retrieve", {"model_id": "m"})
    assert valid("models.retrieve", {"model_id": "m"})


# What they refuse.


def message(**fields):
    return {"messages": [HELLO[0], {**HELLO[0], **fields}]}


BAD = [
    ("chat.completions.create", {"model": 5}, "model"),
    ("chat.completions.create", {"messages": None}, "messages"),
    ("chat.completions.create", {"messages": {"role": "user"}}, "messages"),
    ("chat.completions.create", {"messages": ["Hello"]}, "messages[0]"),
    ("chat.completions.create", {"messages": [{"content": "Hello"}]}, "messages[0].role"),
    ("chat.completions.create", message(role="usr"), "messages[1].role"),
    ("chat.completions.create", message(content=5), "messages[1].content"),
    ("chat.completions.create", message(content={"type": "text"}), "messages[1].content"),
    ("chat.completions.create", message(content=["Hello"]), "messages[1].content[0]"),
    ("chat.completions.create", message(content=[TEXT, {"text": "x"}]), "messages[1].content[1].type"),
    (
        "chat.completions.create",
        message(content=[{"type": "image_url", "image_url": "https://x.test"}]),
        "messages[1].content[0].image_url",
    ),
    (
        "chat.completions.create",
        message(tool_calls=[{"function": {"arguments": "{}"}}]),
        "messages[1].tool_calls[0].function.name",
    ),
    ("chat.completions.create", {"temperature": "hot"}, "temperature"),
    ("chat.completions.create", {"temperature": True}, "temperature"),
    ("chat.completions.create", {"max_tokens": 1.5}, "max_tokens"),
    ("chat.completions.create", {"max_completion_tokens": "16"}, "max_completion_tokens"),
    ("chat.completions.create", {"stream": "true"}, "stream"),
    ("chat.completions.create", {"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ("chat.completions.create", {"stop": [5]}, "stop[0]"),
    ("chat.completions.create", {"tools": {"type": "function"}}, "tools"),
    ("chat.completions.create", {"tools": [{"function": FUNCTION}]}, "tools[0].type"),
    ("chat.completions.create", {"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    (
        "chat.completions.create",
        {"tools": [{"type": "function", "function": {**FUNCTION, "parameters": "{}"}}]},
        "tools[0].function.parameters",
    ),
    ("chat.completions.create", {"tool_choice": ["auto"]}, "tool_choice"),
    ("chat.completions.create", {"tool_choice": {"function": {}}}, "tool_choice.function.name"),
    ("chat.completions.create", {"response_format": "json_object"}, "response_format"),
    ("chat.completions.create", {"response_format": {}}, "response_format.type"),
    ("chat.completions.create", {"logit_bias": {"1": "x"}}, 'logit_bias["1"]'),
    ("completions.create", {"prompt": [0.5]}, "prompt[0]"),
    ("responses.create", {"input": 5}, "input"),
    ("responses.create", {"input": ["Hello"]}, "input[0]"),
    ("responses.create", {"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input[0].content[0].type"),
    ("responses.create", {"truncation": "middle"}, "truncation"),
    ("responses.create", {"text": {"format": {}}}, "text.format.type"),
    ("responses.create", {"reasoning": "low"}, "reasoning"),
    ("responses.retrieve", {"starting_after": "three"}, "starting_after"),
    ("responses.retrieve", {"include_obfuscation": "no"}, "include_obfuscation"),
    ("responses.retrieve", {"response_id": ""}, "response_id"),
    ("models.retrieve", {"model": None}, "model"),
    ("embeddings.create", {"input": [{}]}, "input[0]"),
    ("embeddings.create", {"encoding_format": "base46"}, "encoding_format"),
    ("moderations.create", {"input": [{"text": "x"}]}, "input[0].type"),
    ("images.generate", {"n": "2"}, "n"),
    ("audio.speech.create", {"speed": "fast"}, "speed"),
    ("audio.transcriptions.create", {"temperature": "hot"}, "temperature"),
    ("audio.transcriptions.create", {"file": "a.mp3"}, "file"),
    ("audio.translations.create", {"file": {"data": "AAAA", "name": "a.mp3"}}, "file.name"),
    ("files.create", {"expires_after": {"anchor": "created_at", "seconds": "soon"}}, "expires_after.seconds"),
    ("files.list", {"limit": "ten"}, "limit"),
    ("files.list", {"limit": "-1"}, "limit"),
    ("files.list", {"limit": 1.5}, "limit"),
    ("files.list", {"order": "up"}, "order"),
]


@pytest.mark.parametrize(("name", "more", "field"), BAD)
def test_bad_parameters_are_refused_and_the_field_is_named(name, more, field):
    params = {**LEAST[name], **more}
    with pytest.raises(InputError) as error:
        compiled(name).check(params, "params")
    assert error.value.field == f"params.{field}"
    assert not valid(name, params)


@pytest.mark.parametrize(
    ("name", "params", "field"),
    [(name, params, field) for name, least in LEAST.items() for field in least for params in [{**least, field: None}]],
)
def test_what_is_required_is_missed(name, params, field):
    for given in (params, {key: value for key, value in params.items() if key != field}):
        with pytest.raises(InputError) as error:
            compiled(name).check(given, "params")
        assert error.value.field == f"params.{field}"
        assert not valid(name, given)
