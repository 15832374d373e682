"""What the host reads in a provider's requests and answers: tokens, text and models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from host.component.operations import OperationSpec
from host.core.strict_json import Json

_CHARACTERS_A_TOKEN = 4  # a rule of thumb, for answers without a count


@dataclass(frozen=True, slots=True)
class Tokens:
    input: int = 0
    output: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output

    @classmethod
    def estimated(cls, sent: int, events: int) -> Tokens:
        """For a run that ended without a count: from the characters that were sent, and one token for each event."""
        return cls(sent // _CHARACTERS_A_TOKEN + 1, events)


class Dialect(Protocol):
    """One provider's names for things, as plain functions: a module of this package is one. Everything that it reads
    comes from strangers, so a function returns "nothing" for what it cannot read; it raises only what it says."""

    LIST_MODELS: str
    """The operation that lists the models."""

    # tokens

    def tokens_of_document(self, document: Json) -> Tokens | None:
        """The count in a whole answer, or in a parsed event; None where it has none."""
        ...

    def tokens_of_event(self, event: str) -> Tokens | None:
        """The same of an event's JSON text, which is parsed only where it can hold a count."""
        ...

    def asking_for_tokens(self, operation: str, params: Mapping[str, Json]) -> tuple[Mapping[str, Json], bool]:
        """The parameters of a stream whose last event will hold the count, and whether something was added for that.
        Then the caller did not ask, and `only_counts` tells which event not to hand on."""
        ...

    def only_counts(self, event: str) -> bool:
        """Whether the event is there for the count alone."""
        ...

    # text

    def text_of_event(self, event: Json) -> str:
        """The text that a parsed event adds to the answer."""
        ...

    def text_of_document(self, document: Json) -> str:
        """The text of a whole answer; "" where it is none of text."""
        ...

    def gathered(self, data: Mapping[str, Json], events: Sequence[Json]) -> dict[str, Json]:
        """The data of a stream, with the parsed events and their text in it."""
        ...

    def events_of(self, data: Json) -> list[Json]:
        """The events in data that were gathered so."""
        ...

    # models

    def model_of(self, path: str, in_path: Sequence[str], params: Mapping[str, Json]) -> str | None:
        """The model that a request names, in its path (a template, with the values) or in its parameters. Raises
        InputError for one that is no string."""
        ...

    def model_params(self, spec: OperationSpec | None, given: Mapping[str, Json]) -> Sequence[str]:
        """The names of those of the `given` parameters that name a model. `spec` None: `given` is a whole input."""
        ...

    def other_models(self, given: Mapping[str, Json]) -> Iterable[Json]:
        """What stands in any other place where a provider looks for a model's name: texts, or what should be one."""
        ...

    def names_unseen(self, spec: OperationSpec | None, given: Mapping[str, Json], schema: Json) -> bool:
        """Whether the request could name a model where the host does not see it, or uses one without naming it.
        `schema` is that of a whole input."""
        ...

    def models_of(self, document: Json) -> list[dict[str, Any]]:
        """The models in the answer of LIST_MODELS, each with its name as `id`."""
        ...

    def alias_entry(self, alias: str, model: str) -> dict[str, Json]:
        """An alias, as an entry of such a list."""
        ...

    def model_list(self, models: Sequence[Json]) -> dict[str, Json]:
        """Such entries, as an answer of LIST_MODELS."""
        ...
