"""More tools than a client takes: some are listed, the others are found by words, and all of them may be called."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from host.component.manifest import Manifest, embed, files_beside
from host.core.names import Digest, Reference
from host.errors import InputError
from host.runtime.workspace import Workspace
from host.server import ServerSettings
from host.server.mcp import tool_search
from host.server.mcp.operation_tools import MOST_TOOLS, Operations
from host.server.mcp.tool_search import best
from host.service.principal import OPERATOR, Principal
from host.store.components import Component
from tests.conftest import wat
from tests.server.conftest import Server
from tests.server.engine import SharedLoader
from tests.server.mcp.conftest import asked, called

KINDS = ("articles", "books", "cards", "documents", "envelopes", "folders", "graphs", "houses", "invoices", "journals")
VERBS = {
    "list": ("GET", "List"),
    "create": ("POST", "Make"),
    "retrieve": ("GET", "Show"),
    "delete": ("DELETE", "Delete"),
}
PAGE = {"type": "object", "properties": {"page_size": {"type": "integer"}, "file": {"$ref": "#/$defs/file"}}}
NEAR = {
    "type": "object",
    "required": ["vector"],
    "properties": {"vector": {"type": "array", "items": {"type": "number"}}},
}
ROWS: dict[str, Any] = {
    **{
        f"admin.{kind}.rotate": {
            "description": f"Rotate keys of {kind}", "method": "POST", "path": f"/admin/{kind}", "secret": "ADMIN_KEY",
        }
        for kind in KINDS
    },
    **{
        f"{kind}.pages.{verb}": {
            "description": f"{word} pages of {kind}", "method": method, "path": f"/{kind}/pages/{verb}", "params": PAGE,
        }
        for kind in KINDS for verb, (method, word) in VERBS.items()
    },
    "graphs.pages.search": {
        "description": "Find nodes that are near", "method": "POST", "path": "/near", "request": "json", "params": NEAR,
    },
    "houses.sell": {"description": "Sell a house", "method": "POST", "path": "/houses/sell"},
}  # fmt: skip
MANIFEST: dict[str, Any] = {
    "id": "catalyst:local.many", "version": "1.0.0", "wasi": {"http": True, "secrets": True},
    "examples": [{"input": {"operation": "journals.pages.create"}}],
}  # fmt: skip


@pytest.fixture
def many(workspace: Workspace, server: Server, tmp_path: Path) -> Server:
    """A server of a catalyst with many operations, beside the OpenAI catalyst."""
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    (tmp_path / "operations.json").write_text(json.dumps({"operations": ROWS, "$defs": {"file": {"type": "string"}}}))
    files = files_beside(tmp_path)
    assert files is not None
    (tmp_path / "many.wasm").write_bytes(embed(wat("rust_like"), *files))
    loader = SharedLoader()
    try:
        workspace.register(tmp_path / "many.wasm", loader)
    finally:
        loader.sandbox.close()
    server.up_to_date()
    return server


def tools(server: Server, bearer: str = "", mode: str = "auto") -> dict[str, Any]:
    async def ask(client: Any) -> dict[str, Any]:
        return {one.name: one for one in (await client.list_tools()).tools}

    return asked(server, ask, bearer, mode)


def found(server: Server, query: str, bearer: str = "", **more: Any) -> list[dict[str, Any]]:
    result = called(server, "tools_search", {"query": query, **more}, bearer)
    assert not result.is_error, result
    tools_: list[dict[str, Any]] = result.structured_content["tools"]
    return tools_


def test_so_many_tools_are_listed_as_clients_take_and_search_is_among_them(many: Server, era: str) -> None:
    listed = tools(many, mode=era)
    assert len(listed) == MOST_TOOLS
    assert listed.keys() >= {"execution", "component", "tools_search"}
    assert "many_houses_sell" in listed, "few words in a name come first"
    assert "many_journals_pages_create" in listed, "what the manifest has an example of comes first"
    assert not [name for name in listed if name.startswith("many_admin")], "what uses a secret of its own comes last"


def test_a_tool_that_is_not_listed_is_found_and_called(many: Server, era: str) -> None:
    listed = tools(many, mode=era)
    [first, *_] = found(many, "near nodes of a graph", limit=3)
    assert first["name"] == "many_graphs_pages_search"
    assert first["name"] not in listed
    assert (first["reference"], first["operation"]) == ("c:local.many", "graphs.pages.search")
    assert first["description"] == "Find nodes that are near"
    assert first["input_schema"]["required"] == ["vector"]
    assert called(many, first["name"], {"vector": [1]}, mode=era).structured_content == {"environment": "empty"}
    refused = called(many, first["name"], {"vector": "x"}, mode=era).structured_content["error"]
    assert (refused["type"], refused["param"]) == ("invalid_input", "params.vector")


def test_a_client_that_calls_nothing_but_what_is_listed_uses_execution(many: Server) -> None:
    [first] = found(many, "sell a house", limit=1)
    given = {"operation": first["operation"], "params": {}}
    told = called(many, "execution", {"action": "run", "reference": first["reference"], "input": given})
    assert told.structured_content["data"] == {"environment": "empty"}


def test_the_search_may_be_called_by_its_dotted_name(many: Server) -> None:
    assert called(many, "tools.search", {"query": "sell"}).structured_content["tools"][0]["name"] == "many_houses_sell"


def test_few_tools_are_listed_all_and_need_no_search(many: Server, key: Callable[..., str]) -> None:
    bearer = key(operations=("graphs.*",))
    listed = tools(many, bearer)
    assert listed.keys() == {"execution", "component"} | {f"many_graphs_pages_{verb}" for verb in (*VERBS, "search")}


def test_a_tool_that_the_key_is_not_for_is_not_found(many: Server, key: Callable[..., str]) -> None:
    bearer = key("some", operations=("graphs.*",))
    assert {one["operation"].partition(".")[0] for one in found(many, "delete pages", bearer, limit=20)} == {"graphs"}
    assert found(many, "sell a house", bearer) == []
    assert called(many, "many_houses_sell", {}, bearer).structured_content["error"]["type"] == "forbidden"
    assert found(many, "sell a house", key("other", catalysts=[Reference.parse("c:local.openai")])) == []


def test_an_administrators_tool_is_neither_found_nor_called_by_a_key_that_did_not_name_it(
    many: Server, key: Callable[..., str]
) -> None:
    for made in ({}, {"name": "all"}, {"name": "any", "operations": ("*",)}):
        bearer = key(**made) if made else ""
        many.up_to_date()
        assert not [one for one in found(many, "rotate keys", bearer, limit=20) if one["operation"].startswith("admin")]
        error = called(many, "many_admin_books_rotate", {}, bearer).structured_content["error"]
        assert error["type"] == "forbidden"
    bearer = key(operations=("admin.*",))
    many.up_to_date()
    assert found(many, "rotate keys of books", bearer)[0]["operation"] == "admin.books.rotate"
    assert not called(many, "many_admin_books_rotate", {}, bearer).is_error


def test_a_key_that_may_not_run_searches_nothing(many: Server, key: Callable[..., str]) -> None:
    bearer = key(scopes=["runs"])
    assert "tools_search" not in tools(many, bearer)
    assert called(many, "tools_search", {"query": "house"}, bearer).structured_content["error"]["type"] == "forbidden"


@pytest.mark.parametrize("arguments", [{}, {"query": ""}, {"query": "x" * 501}, {"query": "x", "limit": 21}])
def test_a_search_is_bounded(many: Server, arguments: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"query|limit"):
        called(many, "tools_search", arguments)


# what is listed, and what is found


class Everything:
    """A View of one component with many operations."""

    def __init__(self) -> None:
        index = {name: {key: one for key, one in row.items() if key != "params"} for name, row in ROWS.items()}
        rows = {
            name: {**row, "parameters": list(ROWS[name]["params"]["properties"])} if "params" in ROWS[name] else row
            for name, row in index.items()
        }
        manifest = Manifest.parse(json.dumps({**MANIFEST, "operations": rows}), self._read)
        reference = Reference.parse("c:local.many:1.0.0")
        one = Component(reference, Digest.of(b""), 0, manifest, (), "file", 0.0, approved=True)
        self.components = [one]
        self.reads = 0

    def _read(self) -> bytes:
        self.reads += 1
        return b"houses.sell {}\n"


def operations(listed: Sequence[str] = ()) -> Operations:
    return Operations(Everything(), (), (), listed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("globs", "room", "names"),
    [
        pytest.param(["houses.*"], 40, {f"houses.pages.{verb}" for verb in VERBS} | {"houses.sell"}, id="a kind"),
        pytest.param(["*.sell", "graphs.pages.search"], 40, {"houses.sell", "graphs.pages.search"}, id="several"),
        pytest.param(["*"], 4, {f"admin.{kind}.rotate" for kind in KINDS[:3]}, id="no more than there is room for"),
        pytest.param(["nothing.*"], 40, set(), id="nothing"),
    ],
)
def test_the_operator_says_what_is_listed(globs: list[str], room: int, names: set[str]) -> None:
    listed, whole = operations(globs).listed(OPERATOR, room)
    assert {one.spec.name for one in listed if one.spec} == names
    assert not whole


def test_where_there_is_room_for_all_the_operator_s_choice_hides_none() -> None:
    listed, whole = operations(["houses.*"]).listed(OPERATOR, len(ROWS))
    assert (len(listed), whole) == (len(ROWS), True)


def test_a_list_of_names_reads_no_schema() -> None:
    everything = Everything()
    some = Operations(everything, ())  # type: ignore[arg-type]
    assert len(some.offered(OPERATOR)) == len(ROWS)
    assert best(some.offered(OPERATOR), "house")
    assert everything.reads == 0
    assert some.find("many_houses_sell").shown.input_schema["type"] == "object"  # type: ignore[union-attr]
    assert everything.reads <= 1


def test_a_query_of_many_words_is_no_more_work_than_one_of_twenty(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    def counted(word: str, *more: Any) -> float:
        looks.append(word)
        return float(weight(word, *more))

    weight = tool_search._weight
    monkeypatch.setattr(tool_search, "_weight", counted)
    some = operations().offered(OPERATOR)
    assert best(some, " ".join(f"w{n}" for n in range(160)) + " house") == []
    assert len(looks) == 20 * len(some)


def test_tools_are_ranked_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def ranked(*given: Any) -> list[Any]:
        threads.append(threading.get_ident())
        return best(*given)

    class Aside:
        async def off_loop(self, work: Callable[[], Any]) -> Any:
            return await asyncio.to_thread(work)

    monkeypatch.setattr(tool_search, "best", ranked)
    search = tool_search.ToolSearch(Aside(), lambda view: operations())  # type: ignore[arg-type]
    call = SimpleNamespace(principal=OPERATOR, arguments={"query": "sell", "limit": 1}, view=None)
    assert not asyncio.run(search(call)).is_error  # type: ignore[arg-type]
    assert threads
    assert threading.get_ident() not in threads


def test_without_the_scope_to_run_there_is_nothing_to_list() -> None:
    assert operations().listed(Principal(None, frozenset({"runs"})), 40) == ([], True)


@pytest.mark.parametrize(
    ("query", "first"),
    [
        pytest.param("houses.sell", "houses.sell", id="an operation's name"),
        pytest.param("many_books_pages_list", "books.pages.list", id="a tool's name"),
        pytest.param("delete book pages", "books.pages.delete", id="words in the singular"),
        pytest.param("DELETE Pages of BOOKS!", "books.pages.delete", id="in capitals, with signs"),
        pytest.param("vector", "graphs.pages.search", id="a parameter"),
        pytest.param("rotate invoices", "admin.invoices.rotate", id="of several that rotate"),
        pytest.param("sell", "houses.sell", id="a rare word"),
        pytest.param("envel retriev", "envelopes.pages.retrieve", id="the beginnings of words"),
        pytest.param("show me the pages of cards please", "cards.pages.retrieve", id="a sentence"),
    ],
)
def test_what_fits_best_is_found_first(query: str, first: str) -> None:
    spec = best(operations().offered(OPERATOR), query)[0].spec
    assert spec is not None
    assert spec.name == first


@pytest.mark.parametrize("query", ["zebra", "€", "...", "a" * 500, "\ud800"])
def test_words_that_no_tool_has_find_none(query: str) -> None:
    assert best(operations().offered(OPERATOR), query) == []


@pytest.mark.parametrize("glob", ["chat.*", "files.list", "*"])
def test_the_servers_configuration_says_what_is_listed(glob: str) -> None:
    assert ServerSettings.from_document({"mcp_tools": [glob]}).mcp_tools == (glob,)


@pytest.mark.parametrize("globs", [["chat *"], [""], "chat.*", [5]])
def test_a_pattern_that_is_none_is_an_error_that_names_the_setting(globs: Any) -> None:
    with pytest.raises(InputError, match="mcp_tools"):
        ServerSettings.from_document({"mcp_tools": globs})
