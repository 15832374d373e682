"""The operations of an installed component: those of its manifest, or the ones that CYFR's OpenAI catalyst has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final

from host.component.operations import OperationSpec
from host.core.fields import did_you_mean
from host.core.strict_json import Json
from host.errors import NotFound
from host.store.components import Component

_ROWS: Final = (
    OperationSpec("chat.completions.create", method="POST", path="/chat/completions", request="json", stream=True),
    OperationSpec("models.list", method="GET", path="/models"),
    OperationSpec("models.get", method="GET", path="/models/{model_id}", in_path=("model_id",)),
    OperationSpec("embeddings.create", method="POST", path="/embeddings", request="json"),
    OperationSpec("moderations.create", method="POST", path="/moderations", request="json"),
    OperationSpec("images.generate", method="POST", path="/images/generations", request="json"),
    OperationSpec("audio.speech", method="POST", path="/audio/speech", request="json", response="binary"),
    OperationSpec("audio.transcriptions", method="POST", path="/audio/transcriptions", request="multipart"),
    OperationSpec("audio.translations", method="POST", path="/audio/translations", request="multipart"),
    OperationSpec("responses.create", method="POST", path="/responses", request="json"),
    OperationSpec("files.list", method="GET", path="/files"),
    OperationSpec("files.get", method="GET", path="/files/{file_id}", in_path=("file_id",)),
    OperationSpec("files.delete", method="DELETE", path="/files/{file_id}", in_path=("file_id",)),
)

DEFAULT_OPERATIONS: Final[Mapping[str, OperationSpec]] = {one.name: one for one in _ROWS}
"""For a catalyst that takes operations, and whose manifest lists none: manifests by CYFR do not."""


def operations_of(component: Component) -> Mapping[str, OperationSpec]:
    """The component's operations by name."""
    if component.manifest is not None and component.manifest.operations:
        return component.manifest.operations
    return DEFAULT_OPERATIONS if _takes_operations(component) else {}


def sockets_of(component: Component) -> Iterator[OperationSpec]:
    """The component's operations that open a connection."""
    return (one for one in operations_of(component).values() if one.websocket)


def operation_of(component: Component, name: str) -> OperationSpec | None:
    """The operation of this name or alias."""
    known = operations_of(component)
    if (found := known.get(name)) is not None:
        return found
    return next((one for one in known.values() if name in one.aliases), None)


MOST_LISTED: Final = 40
"""Operations that are listed one by one where nobody asked for all of them."""


def kinds_of(operations: Iterable[str]) -> Mapping[str, int]:
    """How many operations there are of each kind, which is the first word of their names."""
    return Counter(name.partition(".")[0] for name in operations)


def matching(operations: Mapping[str, OperationSpec], pattern: str) -> list[OperationSpec]:
    """The operations that `pattern` means: a glob over their names and aliases, or words that begin them (`files` is
    `files.*`)."""
    globs = (pattern, f"{pattern}.*")

    def fits(one: OperationSpec) -> bool:
        return any(fnmatchcase(name, glob) for name in (one.name, *one.aliases) for glob in globs)

    return [one for one in operations.values() if fits(one)]


def described(operations: Mapping[str, OperationSpec], name: str, of: str) -> OperationSpec:
    """The operation of this name or alias. Raises NotFound, with the nearest name of the catalyst `of`."""
    for one in operations.values():
        if name in (one.name, *one.aliases):
            return one
    known = (known for one in operations.values() for known in (one.name, *one.aliases))
    raise NotFound(
        f"{of} has no operation {name[:80]!r}",
        field="operation",
        hint=did_you_mean(name, known, f"it has {', '.join(f'{kind}.*' for kind in kinds_of(operations))}"[:300]),
    )


def input_schema_of(component: Component) -> Json:
    """The JSON Schema of the component's whole input; True where its manifest has none."""
    return component.manifest.schemas.get("input", True) if component.manifest else True


def properties_of(schema: Json) -> Mapping[str, Json] | None:
    """The properties that a schema lists; None where it lists none."""
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else None


def _takes_operations(component: Component) -> bool:
    """Whether the component's input is the operation envelope, as far as its manifest says."""
    schema = component.manifest.schemas.get("input") if component.manifest else None
    return "operation" in (properties_of(schema) or {})
