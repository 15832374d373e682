"""What the host reads in a provider's requests and answers: tokens, text and models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from host.component.operations import OperationSpec
from host.core.operation import Attachment
from host.core.strict_json import Json

_CHARACTERS_A_TOKEN = 4  # a rule of thumb, for answers without a count
MOST_TOKENS: Final = 1_000_000_000  # of one answer: sums of counts must stay numbers that a database can hold


def count_of(value: Any) -> int:
    """A count from elsewhere: 300, 300.0 or "300"; rounded up, and never so large that no sum could hold it. 0 for what
    is none."""
    if isinstance(value, str):
        try:
            value = float(value) if len(value) <= 40 else math.nan
        except ValueError:
            return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return 0
    return MOST_TOKENS if value >= MOST_TOKENS else math.ceil(value)


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

    def at_most(self, total: int) -> Tokens:
        """As many of them, input first."""
        given = min(self.input, total)
        return Tokens(given, max(0, total - given))

    def merged(self, other: Tokens) -> Tokens:
        """The larger of each count: the events of a stream say it in parts, or more than once."""
        return Tokens(max(self.input, other.input), max(self.output, other.output))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request may cost, in tokens: `input` by its content; `output` that it allows at most, or what the thing
    costs; and `likely` more, where it sets no bound. `text`: an answer without a count is measured by its length, and
    else costs `output`. All 0: it costs nothing."""

    input: int = 0
    output: int = 0
    likely: int = 0
    text: bool = False

    @property
    def needed(self) -> int:
        """What there must be room for."""
        return self.input + self.output

    def uncounted(self, answered: int) -> Tokens:
        """For an answer of `answered` characters that has no count."""
        return Tokens(self.input, answered // _CHARACTERS_A_TOKEN if self.text else self.output)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer that can be read again by its `id`. `later`: the request that ordered it may have ended before it was
    there; `done`: it is there; `again`: an earlier request ordered it."""

    id: str
    later: bool
    done: bool
    again: bool = False


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

    def tokens_of_message(self, message: str, before: Tokens | None) -> Tokens | None:
        """The count of a session after an upstream's message, from the one `before` it; None where it adds nothing."""
        ...

    def answer_of_message(self, message: str) -> tuple[str, bool] | None:
        """The id of the answer that an upstream's message in a session is a part of, "" for an unknown one, and whether
        the message says what that cost; None for one that is no part of any."""
        ...

    def estimate(
        self, spec: OperationSpec | None, params: Mapping[str, Json], attachments: Mapping[str, Attachment]
    ) -> Estimate:
        """What a request may cost. `spec` is None for an operation that the host does not know."""
        ...

    def answer_of(self, spec: OperationSpec | None, params: Mapping[str, Json], document: Json) -> StoredAnswer | None:
        """What a whole answer, or a parsed event, is a reading of; None where it cannot be read again."""
        ...

    def comes_later(self, spec: OperationSpec | None, params: Mapping[str, Json]) -> bool:
        """Whether the request orders an answer that goes on without it, and whose stream may be left."""
        ...

    def asking_for_tokens(self, operation: str, params: Mapping[str, Json]) -> tuple[Mapping[str, Json], bool]:
        """The parameters of a stream whose last event will hold the count, and whether something was added for that.
        Then the caller did not ask, and `only_counts` tells which event not to hand on."""
        ...

    def refuses_count(self, status: int, error: Json) -> bool:
        """Whether the upstream may have refused a request for what `asking_for_tokens` added to it."""
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

    # stored objects

    def ids_of(self, spec: OperationSpec | None, params: Mapping[str, Json]) -> Sequence[str]:
        """The ids of stored objects that a request names: in its path first, then anywhere in its parameters."""
        ...

    def ids_made(self, spec: OperationSpec | None, params: Mapping[str, Json], document: Json) -> Sequence[str]:
        """The ids of the objects that an answer, or the first event of one, says that there are."""
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

    def message_hides(self, spec: OperationSpec | None, event: Mapping[str, Json]) -> bool:
        """Whether a caller's message in a session could use a model that it does not name."""
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
