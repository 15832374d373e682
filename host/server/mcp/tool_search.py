"""The tool `tools_search`: finds operations' tools by words, where there are too many to list them all.

Clients hand every listed tool to a model, and hundreds of them drown it; some take no more than 40 or so. The ones that
are not listed are called all the same, by their names, or by `execution` where a client calls nothing that is not
listed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from mcp_types import CallToolResult

from host.core.strict_json import Json, write_json
from host.server.mcp import results
from host.server.mcp.operation_tools import Operations, OperationTool
from host.server.mcp.tool import BuiltIn, ToolCall, parameters, text
from host.service.catalog import Catalog, View

NAME: Final = "tools_search"
DOTTED: Final = "tools.search"
"""Its other name, by which it may be called. It is not listed: many clients refuse a dot."""

MOST_FOUND: Final = 20
_FOUND: Final = 5
_MOST_SCHEMA_BYTES: Final = 64 * 1024  # of all schemas in an answer
_LONGEST_QUERY: Final = 500
_MOST_WORDS: Final = 20  # of a query: each is looked for in every tool
_DESCRIPTION: Final = """\
Find tools that are not listed, by words of what they do, like "delete a file" or "vector store search". Gives the \
names, descriptions and parameters of those that fit best. Call one of them by its name; where that is not possible, \
by `execution`: action run, with the `reference`, and as `input` its `operation` and `params`."""
_PARAMETERS: Final = parameters(
    ("query",),
    query=text("Words of what a tool does, or of its name", minLength=1, maxLength=_LONGEST_QUERY),
    limit={"type": "integer", "minimum": 1, "maximum": MOST_FOUND, "description": f"How many at most; {_FOUND}"},
)


class ToolSearch:
    """`of` gives the tools of a View."""

    def __init__(self, catalog: Catalog, of: Callable[[View], Operations]) -> None:
        self._catalog = catalog
        self._of = of

    def tool(self) -> BuiltIn:
        return BuiltIn(
            name=NAME, description=_DESCRIPTION, parameters=_PARAMETERS, scopes=("run",), call=self, reads_only=True
        )

    async def __call__(self, call: ToolCall) -> CallToolResult:
        call.principal.require("run")
        query, limit = str(call.arguments["query"]), int(call.arguments.get("limit", _FOUND))
        offered = self._of(call.view).offered(call.principal)
        shown = await self._catalog.off_loop(lambda: _shown(best(offered, query)[:limit]))
        return results.of_json({"tools": shown, "of": len(offered)})


def _shown(found: Iterable[OperationTool]) -> list[Json]:
    """With their parameters, as far as there is room: the first one always has them."""
    left, shown = _MOST_SCHEMA_BYTES, list[Json]()
    for one in found:
        facts: dict[str, Json] = {
            "name": one.name,
            "description": one.description,
            "reference": str(one.reference),
            "operation": one.spec.name if one.spec else "",
        }
        size = len(write_json(one.parameters.shown))
        if size <= left or not shown:
            facts["input_schema"] = one.parameters.shown
            left -= size
        shown.append(facts)
    return shown


def best(tools: Sequence[OperationTool], query: str) -> list[OperationTool]:
    """The tools that have words of the query, those that fit best first: a word counts for more the fewer tools have
    it, and most in the name. A tool that is named in full comes before all others. Words after the 20th are passed
    over."""
    wanted = [word for word in dict.fromkeys(_words(query)) if word not in _PASSED_OVER][:_MOST_WORDS]
    documents = [_weighted(one) for one in tools]
    having = Counter(word for document in documents for word in document)
    rated: list[tuple[float, float, int]] = []
    for at, (one, document) in enumerate(zip(tools, documents, strict=True)):
        score = sum(_weight(word, document, having, len(tools)) for word in wanted)
        if query.strip() in (one.name, one.spec.name if one.spec else ""):
            score += 1_000.0
        if score > 0:
            rated.append((-score, len(document), at))
    return [tools[at] for *_, at in sorted(rated)]


_WORD = re.compile(r"[a-z0-9]+")
_SPLIT = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_IN_NAME, _IN_DESCRIPTION, _IN_PARAMETERS = 3.0, 1.5, 0.5
_PASSED_OVER = frozenset(
    ["a", "an", "and", "as", "at", "by", "for", "from", "in", "is", "it", "me", "of", "on", "or", "the", "to", "with"]
)
_SHORTEST_BEGINNING = 4  # of a word that may stand for a longer one


def _words(given: str) -> list[str]:
    """In small letters, and in the singular as far as an s tells it."""
    found = _WORD.findall(_SPLIT.sub(" ", given[:_LONGEST_QUERY]).lower())
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in found]


def _weighted(tool: OperationTool) -> Mapping[str, float]:
    """The words of a tool, each with the weight of the best place that it has."""
    spec = tool.spec
    found: dict[str, float] = {}
    for weight, text_ in (
        (_IN_PARAMETERS, " ".join((spec.parameters or ()) if spec else ())),
        (_IN_DESCRIPTION, tool.description),
        (_IN_NAME, " ".join((tool.name, *(spec.aliases if spec else ())))),
    ):
        found.update(dict.fromkeys(_words(text_), weight))
    return found


def _weight(word: str, document: Mapping[str, float], having: Mapping[str, int], count: int) -> float:
    """What the word of a query counts for in a document; one that only begins a word of it counts for half."""
    if word in document:
        return document[word] * math.log(1 + count / having[word])
    if len(word) < _SHORTEST_BEGINNING:
        return 0.0
    longer = [one for one in document if one.startswith(word)]
    return max((document[one] * math.log(1 + count / having[one]) / 2 for one in longer), default=0.0)
