"""`operations.json` is what the tool makes, from the official SDK and from an OpenAPI document."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PART = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "color": {"type": "string", "enum": ["red", "blue"]},
        "next": {"$ref": "#/components/schemas/Link"},
    },
}
LINK = {"type": "object", "properties": {"to": {"$ref": "#/components/schemas/Link"}}}
DOCUMENT = {
    "openapi": "3.1.0",
    "paths": {
        "/models": {"get": {"responses": {"200": {"content": {"application/json": {}}}}}},
        "/widgets/{widget_id}/parts": {
            "parameters": [{"name": "widget_id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {"parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer"}}], "responses": {}},
            "post": {
                "requestBody": {"content": {"multipart/form-data": {"schema": {"$ref": "#/components/schemas/Part"}}}},
                "responses": {"204": {}},
            },
        },
    },
    "components": {"schemas": {"Part": PART, "Link": LINK}},
}


def tool(*options):
    return subprocess.run(
        [sys.executable, ROOT / ".ci" / "operations", *options], capture_output=True, text=True, check=False
    )


def test_the_declaration_is_what_the_tool_makes_from_the_official_sdk():
    done = tool("--check")
    assert done.returncode == 0, done.stderr


def test_the_connections_are_those_that_are_declared(guest):
    declared = json.loads((ROOT / "catalyst" / "openai" / "operations.json").read_bytes())["websockets"]
    sockets = guest("realtime").SOCKETS
    assert set(sockets.names) == {name for key, one in declared.items() for name in (key, *one.get("aliases", ()))}
    for name, one in declared.items():
        assert (sockets.find(name).path, sockets.find(name).headers) == (one["path"], one.get("headers", {}))


def test_a_document_gives_operations_those_that_are_known_under_their_names(tmp_path):
    (tmp_path / "api.json").write_text(json.dumps(DOCUMENT))
    done = tool("--openapi", tmp_path / "api.json", "--to", tmp_path / "made.json")
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "made.json").read_text())
    rows = {name: one for name, one in made["operations"].items() if "path" in one}
    assert {name: (one["method"], one["path"]) for name, one in rows.items()} == {
        "models.list": ("GET", "/models"),
        "widgets.parts.list": ("GET", "/widgets/{widget_id}/parts"),
        "widgets.parts.create": ("POST", "/widgets/{widget_id}/parts"),
    }
    upload = rows["widgets.parts.create"]
    assert (upload["request"], upload["response"]) == ("multipart", "empty")
    assert upload["params"]["required"] == ["widget_id", "file"]
    assert upload["params"]["properties"]["file"] == {"$ref": "#/$defs/file"}
    assert upload["params"]["properties"]["color"]["description"] == "Color (red, blue)"
    assert made["$defs"]["Link"]["properties"]["to"]["$ref"] == "#/$defs/Link"
