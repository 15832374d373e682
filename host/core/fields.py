"""The one reader of JSON-like documents: typed fields, and errors that name the field by its path.

    fields = FieldReader(document, error=lambda at, problem: ManifestError(f"the manifest: {at} {problem}"))
    fields.only("id", "domains", "secrets")                    # any other field is an error with the nearest name
    name = fields.text("id")
    domains = fields.texts("domains", default=())              # errors name `domains[2]`

It reads manifests, policies, signature bundles and the request messages of guests. Pydantic reads the documents that
come with a schema of others or with many optional parts: OCI documents, the server's settings and the console's forms.
It is not used here, because these documents are read at every start and importing it would take longer than the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, TypeVar

from host.core.strict_json import Json, kind_of

T = TypeVar("T", bound=str)

_MOST_SHOWN: Final = 120  # characters of a path in an error: a field's name may be as long as the document
_MOST_COMPARED: Final = 1_000  # names, of which the nearest is found
_LONGEST_NAME: Final = 80  # characters of a name within the path of an inner object


def nearest(given: str, known: Iterable[str]) -> str:
    """The one of the `known` names that `given` may be a slip of; "" for none."""
    from difflib import get_close_matches  # noqa: PLC0415 - a run needs it for mistakes alone

    return next(iter(get_close_matches(given[:_MOST_SHOWN], list(islice(known, _MOST_COMPARED)), n=1)), "")


def did_you_mean(given: str, known: Iterable[str], hint: str) -> str:
    """`hint`, after the nearest of the `known` names, if one is near."""
    near = nearest(given, known)
    return f"did you mean {near}? {hint}" if near else hint


class FieldReader:
    """The fields of one JSON object. `at` is its path in the document, empty for the document itself. `error` makes the
    exception to raise from a path and a problem, such as `secrets[0].name` and `is missing`.

    Every getter raises it where the field has another type, and where it is missing without a `default`.
    """

    def __init__(self, given: Json, *, error: Callable[[str, str], Exception], at: str = "") -> None:
        self.at = at
        self._error = error
        self.given: Mapping[str, Json] = self._checked(given, dict, "an object", at)

    def path(self, name: str) -> str:
        """The path of the field `name` in the document."""
        return f"{self.at}.{name}" if self.at else name

    def error(self, name: str, problem: str) -> Exception:
        """The exception for a problem of the field `name`, to be raised."""
        return self._error(self.path(name)[:_MOST_SHOWN], problem)

    def __contains__(self, name: str) -> bool:
        return name in self.given

    def unknown(self, known: Collection[str]) -> Iterator[tuple[str, str]]:
        """The names of the fields that are not `known`, each with the nearest known name, or an empty text."""
        for name in self.given:
            if name not in known:
                yield name, nearest(name, known)

    def only(self, *known: str, passed_over: Collection[str] = ()) -> None:
        """Raises for the first field that is neither `known` nor `passed_over`, with the nearest of these names."""
        for name, near in self.unknown((*known, *passed_over)):
            raise self.error(name, "is not a known field" + (f": did you mean {near}?" if near else ""))

    def text(self, name: str, *, default: str | None = None) -> str:
        return str(self._typed(name, str, "a string", default))

    def flag(self, name: str, *, default: bool | None = None) -> bool:
        return bool(self._typed(name, bool, "true or false", default))

    def choice(self, name: str, options: Sequence[T], *, default: T) -> T:
        """One of `options`, or `default`, which need not be one of them."""
        given = self.given.get(name, default)
        for known in (default, *options):
            if given == known:
                return known
        raise self.error(name, f"is one of {', '.join(options)}")

    def table(self, name: str) -> FieldReader:
        """The object in the field `name`; an empty one where it is missing."""
        return FieldReader(self.given.get(name, {}), error=self._error, at=self.path(name))

    def tables(self) -> Iterator[tuple[str, FieldReader]]:
        """Every field by its name, each of which is an object."""
        for name, given in self.given.items():
            yield name, FieldReader(given, error=self._error, at=self.path(name[:_LONGEST_NAME]))

    def items(self, name: str) -> Iterable[tuple[str, Json]]:
        """The entries of the list in the field `name`, each with its path; none where it is missing."""
        given = self._typed(name, list, "a list", [])
        return ((f"{self.path(name)}[{index}]", one) for index, one in enumerate(given))

    def texts(self, name: str) -> tuple[str, ...]:
        given = self.given.get(name)
        if isinstance(given, list) and all(isinstance(one, str) for one in given):
            return tuple(given)
        return tuple(str(self._checked(one, str, "a string", at)) for at, one in self.items(name))

    def of_kind(self, name: str, kind: type | tuple[type, ...], wanted: str, *, default: Json) -> Json:
        """The field as it stands, if it is of the Python type `kind`, which `wanted` describes."""
        return self._typed(name, kind, wanted, default)

    def _typed(self, name: str, kind: type | tuple[type, ...], wanted: str, default: Json) -> Json:
        if name not in self.given:
            if default is None:
                raise self.error(name, "is missing")
            return default
        given = self.given[name]
        if not isinstance(given, kind):
            raise self.error(name, _mistyped(given, wanted))
        return given

    def _checked(self, given: Json, kind: type | tuple[type, ...], wanted: str, at: str) -> Json:
        if not isinstance(given, kind):
            raise self._error(at[:_MOST_SHOWN], _mistyped(given, wanted))
        return given


def _mistyped(given: Json, wanted: str) -> str:
    return f"is a JSON {kind_of(given)}, not {wanted}"
