"""Every operation of every catalyst as a tool of its own, such as `openai_chat_completions_create`.

The name of a tool has letters, digits, `_` and `-`, at most 60 of them, and begins with a letter: every client and
model takes it, also behind the name of a server. It depends on the installed catalysts alone, and not on the caller.
The parameters are those of the operation, with files in base64, as `tool_schemas` shows them. Where there are more
tools than clients take, some are listed, and `tool_search` finds the others.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Final

from mcp_types import CallToolResult, Tool, ToolAnnotations

from host.component.operations import OperationSpec
from host.core.names import Reference
from host.core.strict_json import Json, as_written
from host.server.mcp import results
from host.server.mcp.run_tool import run_tool
from host.server.mcp.tool import ToolCall, off_loop
from host.server.mcp.tool_schemas import ToolSchema
from host.service.catalog import Catalog, View
from host.service.dispatch import Dispatch
from host.service.operations import input_schema_of, properties_of
from host.service.principal import Principal
from host.service.request import OperationRequest
from host.store.components import Component, latest

LONGEST = 60
LONGEST_DESCRIPTION = 1024  # OpenAI takes no longer one
_HASHES = (8, 16, 32)  # hex digits of them: more where fewer do not tell two names apart
_OTHER = re.compile(r"[^a-zA-Z0-9_-]")


def names(operations: Iterable[tuple[Reference, str]], taken: Collection[str] = ()) -> dict[tuple[Reference, str], str]:
    """A name for each operation of each catalyst; the operation "" stands for the catalyst itself. Where two names
    would be the same, or one is `taken`, they get their namespace in front; where that is not enough, a hash at the
    end."""
    wanted = list(operations)
    plain = {one: _joined(one[0].name, one[1]) for one in wanted}
    clashing = _clashing(plain.values(), taken)
    named = {
        one: _joined(one[0].namespace, one[0].name, one[1]) if name in clashing else name for one, name in plain.items()
    }
    for digits in _HASHES:
        clashing = _clashing(named.values(), taken)
        named = {
            one: _hashed(name, *one, digits) if name in clashing or len(name) > LONGEST else name
            for one, name in named.items()
        }
    return named


def _joined(*parts: str) -> str:
    name = "_".join(_OTHER.sub("_", part) for part in parts if part)
    return name if name[:1].isalpha() else f"c_{name}"


def _clashing(found: Iterable[str], taken: Collection[str]) -> set[str]:
    counted = Counter(found)
    return {name for name, count in counted.items() if count > 1 or name in taken}


def _hashed(name: str, reference: Reference, operation: str, digits: int) -> str:
    """The name, cut, with a hash of its subject and operation: the same on every machine."""
    digest = hashlib.sha256(f"{reference.subject} {operation}".encode()).hexdigest()
    return f"{name[: LONGEST - digits - 1]}_{digest[:digits]}"


_FILE: Final[dict[str, Json]] = {
    "type": "object",
    "description": "A file",
    "properties": {
        "data": {"type": "string", "description": "Its bytes, in base64", "contentEncoding": "base64"},
        "filename": {"type": "string", "description": "Its name; the ending tells the format"},
        "content_type": {"type": "string", "description": "Its media type, like audio/mpeg"},
    },
    "required": ["data"],
    "additionalProperties": False,
}


def input_schema(spec: OperationSpec) -> dict[str, Json]:
    """The schema of `spec.params`, as that of an object. It has no `stream`: a tool's answer comes whole. A file is
    given by its bytes, since a client has no attachments to name."""
    schema: Any = _with_files(spec.params) if isinstance(spec.params, dict) else {}
    found = {**schema, "type": "object"}
    properties = found.get("properties")
    if spec.stream and isinstance(properties, dict):
        found["properties"] = {name: one for name, one in properties.items() if name != "stream"}
        if isinstance(required := found.get("required"), list):
            found["required"] = [name for name in required if name != "stream"]
    return found


def document_schema(schema: Json) -> dict[str, Json]:
    """The schema of a whole input."""
    found: dict[str, Json] = {**schema, "type": "object"} if isinstance(schema, dict) else {"type": "object"}
    return found


def _with_files(schema: Json) -> Json:
    """The schema with a file in place of each attachment."""
    match schema:
        case {"properties": {"$attachment": _}}:
            return _FILE
        case dict():
            return {name: _with_files(one) for name, one in schema.items()}
        case list():
            return [_with_files(one) for one in schema]
    return schema


MOST_TOOLS: Final = 40
"""That are listed for one caller."""


@dataclass(frozen=True)
class OperationTool:
    """The tool `name` of one operation. `spec` is None for a catalyst that takes no operations: the arguments are its
    whole input. Its schema is read when it is first shown or called, which may take a look at the stored bytes."""

    name: str
    component: Component
    spec: OperationSpec | None

    @cached_property
    def parameters(self) -> ToolSchema:
        if self.spec is None:
            return ToolSchema(document_schema(input_schema_of(self.component)))
        return ToolSchema(input_schema(self.spec))

    @property
    def is_read(self) -> bool:
        """Whether its schema was read."""
        return "parameters" in self.__dict__

    @property
    def description(self) -> str:
        if self.spec is None:
            said = self.component.description or f"Runs {self.reference}"
        else:
            said = self.spec.description or f"The operation {self.spec.name} of {self.reference}"
        return said if len(said) <= LONGEST_DESCRIPTION else f"{said[: LONGEST_DESCRIPTION - 1]}…"

    @cached_property
    def shown(self) -> Tool:
        spec, title, hints = self.spec, None, ToolAnnotations(open_world_hint=True)
        if spec is not None:
            title = f"{self.component.reference.name}: {spec.name}"
            hints = ToolAnnotations(
                read_only_hint=spec.method == "GET",
                destructive_hint=spec.method == "DELETE",
                idempotent_hint=spec.method in ("GET", "PUT", "DELETE"),
                open_world_hint=True,
            )
        schema = self.parameters.shown
        return Tool(name=self.name, title=title, description=self.description, input_schema=schema, annotations=hints)

    @property
    def reference(self) -> Reference:
        """Without a version: the latest, which may not be older than one that was there before."""
        return self.component.reference.any_version

    def may_be_used(self, principal: Principal) -> bool:
        name = self.spec.name if self.spec else ""
        return principal.may_use(self.component.reference) and principal.may_operate(name, self.spec)


class Operations:
    """The tools of one View. `only` narrows to some catalysts; `taken` are names of other tools. `listed` are globs
    over names of operations: what is listed where there are too many tools to list them all; empty: those that the
    manifest has examples of, and those with the shortest names."""

    def __init__(
        self, view: View, taken: Collection[str], only: Collection[Reference] = (), listed: Sequence[str] = ()
    ) -> None:
        self._globs = listed
        found = list(_operations(view.components))
        named = names(
            ((component.reference.any_version, spec.name if spec else "") for component, spec in found), taken
        )
        self._by_name: Mapping[str, OperationTool] = {
            name: OperationTool(name, component, spec)
            for component, spec in found
            if _among(component.reference, only)
            for name in [named[component.reference.any_version, spec.name if spec else ""]]
        }

    def find(self, name: str) -> OperationTool | None:
        return self._by_name.get(name)

    def offered(self, principal: Principal) -> Sequence[OperationTool]:
        """The tools that the caller may use."""
        if not principal.may("run"):
            return []
        return [one for one in self._by_name.values() if one.may_be_used(principal)]

    def listed(self, principal: Principal, room: int) -> tuple[Sequence[OperationTool], bool]:
        """The tools that the caller is shown, at most so many as there is `room` for; and whether these are all that
        the caller may use. If not, they leave room for one more: the search."""
        offered = self.offered(principal)
        if len(offered) <= room:
            return offered, True
        if self._globs:
            return [one for one in offered if _fits(one, self._globs)][: room - 1], False
        first = {one.name for one in sorted(offered, key=_rank)[: room - 1]}
        return [one for one in offered if one.name in first], False


def _fits(tool: OperationTool, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(tool.spec.name if tool.spec else "", glob) for glob in globs)


def _rank(tool: OperationTool) -> tuple[bool, bool, int]:
    """What people begin with comes first: what the manifest has an example of, then what has few words in its name; and
    last what only some keys may use, such as an administrator's."""
    spec, manifest = tool.spec, tool.component.manifest
    if spec is None or manifest is None:
        return False, False, 0
    inputs = (example.get("input") for example in manifest.examples)
    shown = {one.get("operation") for one in inputs if isinstance(one, dict)}
    return spec.is_apart, shown.isdisjoint((spec.name, *spec.aliases)), spec.name.count(".")


class OperationCalls:
    """Calls operations' tools."""

    def __init__(self, catalog: Catalog, dispatch: Dispatch) -> None:
        self._catalog = catalog
        self._dispatch = dispatch

    async def __call__(self, tool: OperationTool, call: ToolCall) -> CallToolResult:
        """Raises HostError."""
        if not tool.is_read:
            await self._catalog.off_loop(lambda: tool.parameters)
        resolved = await off_loop(call, lambda: self._dispatch.resolve(_request(tool, call), call.view))
        return results.of_operation(await run_tool(self._dispatch, call, resolved))


def _request(tool: OperationTool, call: ToolCall) -> OperationRequest:
    spec, context = tool.spec, call.context
    restored = tool.parameters.restored(call.arguments)
    if spec is not None and spec.stream:
        restored.pop("stream", None)
    given = as_written(restored, call.arguments)
    return OperationRequest(
        principal=call.principal,
        target=tool.reference,
        operation=spec.name if spec else "",
        params=given if spec else {},
        more={} if spec else given,
        inline_files=True,
        request_id=context.request_id,
        via="mcp",
        large=context.large,
        admitted=context.admitted,
    )


def _operations(components: Iterable[Component]) -> Iterator[tuple[Component, OperationSpec | None]]:
    """The operations of the latest version of each catalyst, without connections, which no call can open. A catalyst
    without operations stands for itself, if its manifest has a schema for its input. One that takes operations and
    lists none is left to `execution`."""
    subjects: dict[str, list[Component]] = {}
    for one in components:
        if one.reference.type == "catalyst":
            subjects.setdefault(one.reference.subject, []).append(one)
    for found in subjects.values():
        component = latest(found)
        if component.manifest is None:
            continue
        if component.manifest.operations:
            for spec in component.manifest.operations.values():
                if not spec.websocket:
                    yield component, spec
        elif (properties := properties_of(input_schema_of(component))) is not None and "operation" not in properties:
            yield component, None


def _among(reference: Reference, only: Collection[Reference]) -> bool:
    return not only or reference in only or reference.any_version in only
