"""Objects that OpenAI's API stores, as requests name them and answers make them: files, responses, threads, batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from host.component.operations import OperationSpec
from host.core.strict_json import Json

_MOST_IDS: Final = 32
_MOST_VALUES: Final = 10_000  # looked at, in one request
_LONGEST: Final = 200
_NAMED: Final = frozenset({"conversation", "training_file", "validation_file"})  # which hold an id without saying so
_FORGOTTEN: Final = frozenset({"chat.completion", "chat.completion.chunk", "text_completion"})  # unless `store` is true
_WHOLE: Final = frozenset({"list", "search", "embedding"})  # no objects of their own


def ids_of(spec: OperationSpec | None, params: Mapping[str, Json]) -> Sequence[str]:
    """The ids of stored objects that a request names: in its path first, then anywhere in its parameters."""
    in_path = [] if spec is None else [params[name] for name in spec.in_path if name in params and "model" not in name]
    found = [one for one in in_path if _is_id(one)]
    return tuple(dict.fromkeys([*found, *islice(_named(params), _MOST_IDS)]))


def ids_made(spec: OperationSpec | None, params: Mapping[str, Json], document: Json) -> Sequence[str]:
    """The ids of the objects that an answer, or the first event of one, says that there are."""
    if not isinstance(document, dict) or (spec is not None and spec.method == "DELETE"):
        return ()
    inner = document.get("response", document.get("data"))
    given = (
        inner if isinstance(document.get("type", document.get("event")), str) and isinstance(inner, dict) else document
    )
    kind = given.get("object")
    if kind in _WHOLE or given.get("store") is False or (kind in _FORGOTTEN and params.get("store") is not True):
        return ()
    own = [one for name, one in given.items() if name == "id" or name.endswith("_id")]
    if isinstance(conversation := given.get("conversation"), dict):
        own.append(conversation.get("id"))
    return tuple(dict.fromkeys([one for one in own if _is_id(one)][:_MOST_IDS]))


def _is_id(value: Json) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST


def _named(params: Mapping[str, Json]) -> Iterator[str]:
    """What stands in fields whose names say that they hold ids, at any depth."""
    left: list[tuple[str, Json]] = [*params.items()][::-1]
    for _ in range(_MOST_VALUES):
        if not left:
            return
        name, value = left.pop()
        if name == "metadata":  # a caller's own words
            continue
        says = name in _NAMED or name.endswith(("_id", "_ids"))
        if isinstance(value, str):
            if says and _is_id(value):
                yield value
        elif isinstance(value, list):
            left += [(name if says else "", one) for one in reversed(value)]
        elif isinstance(value, dict):
            if name in _NAMED and isinstance(ident := value.get("id"), str) and _is_id(ident):
                yield ident
            left += [*value.items()][::-1]
