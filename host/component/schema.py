"""JSON Schema (drafts 2020-12, 2019-09 and 7), checked by `jsonschema_rs`; mistakes in words that name the field.

A schema and a value both come from strangers, and a check stands before every run. The library is native code that
nothing interrupts, so `schema_bounds` limits what a schema may be, and an input is measured before it is checked:
the schema's weight times the size is the work. The library is asked for the first mistake only, and never for the
mistakes of every form of an `anyOf`: listing those takes memory without bound.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from host.component import schema_bounds as bounds
from host.component.schema_bounds import MAX_SHOWN, SchemaReader, bare, shown, steps, target
from host.core.strict_json import MAX_DEPTH, Json, clean_text, kind_of
from host.errors import InputError

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator, ValidatorMap

MAX_WORK = 50_000_000  # units of work for one input, some 20 ns each: about a second
MAX_LIGHT = 64  # of a weight: up to it, comparing texts and names costs too little for their characters to count
MAX_FORMS = 8  # times that a mistake is followed into one of several forms

_Path: TypeAlias = tuple[str | int, ...]
_Mistake: TypeAlias = tuple[_Path, str, str | None]  # the field, what is wrong with it, and a hint


class InputSchema:
    """A schema that was read. `compile` makes it; thread-safe."""

    def __init__(self, schema: Json, what: str) -> None:
        reader = SchemaReader(schema, what)
        self._schema = schema
        self._what = what
        self._weight = bounds.Scales(reader).weigh()
        self._reads_texts = reader.reads_texts or self._weight > MAX_LIGHT
        self._reads_names = reader.reads_names or self._weight > MAX_LIGHT
        self._library = _Library(reader)
        self._is_plain = _is_plain(schema)
        if not self._is_plain:
            self._library.build()

    @classmethod
    def compile(cls, schema: Json, what: str = "schema.input") -> InputSchema:
        """Read `schema`; `what` names it in errors.

        Raises ManifestError for a schema that is malformed, of an unknown draft, too large, costs too much to check,
        refers to anything outside itself, or refers to itself without going into the value."""
        return cls(schema, what)

    def check(self, value: Json, within: str = "") -> None:
        """Raises InputError with the path of a field that is wrong. `value` is one that `json.dumps` takes; `within`
        names it (`config`) and begins the paths then. Objects with `$attachment` fit everywhere.

        Raises ValueError or TypeError for values that JSON does not have."""
        if self._is_plain and _plainly_fits(self._schema, value):
            return
        whole, library = within or "the input", self._library
        self._measure(value, whole, within or None)
        try:
            fits = library.whole.is_valid(value)
        except ValueError:  # a subclass of str or list, or a key that is a number
            value = json.loads(clean_text(json.dumps(value, ensure_ascii=False)))
            self._measure(value, whole, within or None)
            fits = library.whole.is_valid(value)
        if not fits and any(isinstance(one, dict) and "$attachment" in one for one in bounds.values_in(value)):
            library = self._with_attachments
            fits = library.whole.is_valid(value)
        if not fits:
            at, words, hint = library.mistake(value)
            name = steps((within, *at) if within else at).removeprefix(".")
            name = name if len(name) <= _MAX_PATH else f"…{name[-_MAX_PATH:]}"
            raise InputError(f"{name or whole} {words}", field=name or None, hint=hint)

    @cached_property
    def _with_attachments(self) -> _Library:
        return _Library(SchemaReader(self._schema, self._what, attachments=True))

    def _measure(self, value: Json, whole: str, name: str | None) -> None:
        """Raises InputError where checking `value` may take too long, or more of the stack than there is."""
        values = 0
        level = [value]
        for _ in range(MAX_DEPTH + 1):
            values += len(level)
            inner: list[Json] = []
            for one in level:
                kind = type(one)
                if kind is str:
                    values += len(one) >> 5 if self._reads_texts else 0
                elif kind is dict or isinstance(one, dict):
                    inner += one.values()
                    if self._reads_names:
                        values += sum(map(len, map(str, one))) >> 5
                elif kind is list or kind is tuple:
                    inner += one
                elif kind is int:
                    if not -(1 << 63) < one < 1 << 63:  # the library goes through its decimal digits
                        values += (one.bit_length() >> 6) ** 2 * 2
                elif kind is float:
                    values += 0 if -1e18 < one < 1e18 else 8
                elif isinstance(one, list | tuple):
                    inner += one
            if values * self._weight > MAX_WORK:
                problem = f"{whole} is too large to be checked against the manifest's schema"
                raise InputError(problem, field=name, hint="large data can be an attachment")
            if not inner:
                return
            level = inner
        raise InputError(f"{whole} is nested too deeply to be checked against the manifest's schema", field=name)


class _Library:
    """The library's validators for the definitions of a schema, and its first mistake in words."""

    def __init__(self, reader: SchemaReader) -> None:
        self._places = reader.places
        self._definitions = reader.definitions
        self._document = {
            "$schema": reader.draft,
            "allOf": [{"$ref": "#/definitions/s0"}],
            "definitions": self._definitions,
        }

    def build(self) -> None:
        """Raises ManifestError where the library finds a keyword malformed."""
        try:
            _ = self.whole
        except ValueError as error:
            _, name, *path = (*getattr(error, "instance_path", ()), "", "s0")[:-2] or ("", "s0")
            path = path[1:] if path[:2] in (["if", "anyOf"], ["if", "oneOf"]) else path  # which stand behind an `if`
            raise bounds.wrong(f"{self._places[str(name)]}{steps(path)}", "what JSON Schema has there") from None

    @cached_property
    def whole(self) -> Validator:
        return bounds.validator(self._document)

    @cached_property
    def _forms(self) -> ValidatorMap:
        return bounds.validators(self._document)

    def mistake(self, value: Json) -> _Mistake:
        """The first mistake of `value`, which does not fit."""
        error = _first_error(self.whole, value)
        return self._in_words(error, "s0", value, (), MAX_FORMS) if error else ((), _NOT_ALLOWED, None)

    def _in_words(self, error: ValidationError, name: str, value: Json, at: _Path, left: int) -> _Mistake:
        """The mistake that checking `value`, the field `at`, by the definition `name` found. `left` bounds how many
        forms are followed."""
        owner = self._owner(error, name)
        for step in error.instance_path:
            step = str(step) if isinstance(value, dict) else step  # noqa: PLW2901 - a name of digits comes as a number
            value, at = value[step], (*at, step)
        keyword, last, path = error.kind.name, str(error.schema_path[-1]), error.schema_path
        details = error.kind.as_dict()
        if keyword in _BOUNDS:
            return at, _BOUNDS[keyword].format(shown(owner[keyword])), None
        match keyword:
            case "falseSchema" if len(path) in (1, 3):  # longer is that of a property of this name
                choice = owner.get("if") if last == "else" else None
                if isinstance(choice, dict) and "$ref" not in choice:  # the reader's own, around an anyOf or a oneOf
                    return self._none_fits(next(iter(choice.values())), value, at, left)
                if last == "additionalProperties":
                    return _unknown(min(value), owner, at)
                if last == "propertyNames":
                    return (*at, min(value)), _NAME_NOT_ALLOWED, None
            case "type":
                return at, _not_of_type(value, owner["type"]), None
            case "enum":
                return at, *_none_of(value, owner["enum"])
            case "required":  # or dependentRequired, or dependencies
                needs = {} if last == keyword else owner[last]
                beside = [one for one in needs if one in value and details["property"] in needs[one]]
                return (*at, details["property"]), f"is required{f' beside {bare(beside[0])}' if beside else ''}", None
            case "additionalProperties":
                return _unknown(min(details["unexpected"]), owner, at)
            case "unevaluatedProperties":
                field = min(details["unexpected"])
                form = target(owner[keyword]) if owner[keyword] else ""
                if form and left and (inner := self._error(form, value[field])):
                    return self._in_words(inner, form, value[field], (*at, field), left - 1)
                return _unknown(field, owner, at)
            case "propertyNames":
                return (*at, details["error"].instance), _NAME_NOT_ALLOWED, None
            case "uniqueItems":
                return (*at, _repeated(value)), "is there twice", None
            case "contains":
                least, most = owner.get("minContains", 1), owner.get("maxContains")
                allowed = f"{least} or more" if most is None else f"{least} to {most}"
                return at, f"has to have {allowed} items of a form", None
        return at, _ALWAYS.get(keyword, _NOT_ALLOWED), None

    def _owner(self, error: ValidationError, name: str) -> Json:
        """The schema whose keyword found the mistake. Paths begin at the whole or at the definition `name`."""
        path = error.schema_path
        found: Json = {"definitions": self._definitions}
        for step in path[:-1] if path[0] == "definitions" else ["definitions", name, *path[:-1]]:
            found = found[step if isinstance(found, list) else str(step)]
        return found

    def _none_fits(self, forms: Sequence[Json], value: Json, at: _Path, left: int) -> _Mistake:
        """The mistake of the form that was meant: its type and tags are the value's, and its mistake is the deepest."""
        names = [target(one) for one in forms if isinstance(one, dict)]
        errors = {name: self._error(name, value) for name in names}
        fitting = forms.count(True) + sum(errors[name] is None for name in names)
        if fitting:
            return at, f"has {fitting} of the forms of which it may have one", None
        found = {name: error for name, error in errors.items() if error}
        typed = {name for name, error in found.items() if error.kind.name == "type" and not error.instance_path}
        if typed and len(typed) == len(found):
            types = [self._owner(found[name], name)["type"] for name in found]
            return at, _not_of_type(value, [one for given in types for one in _listed(given)]), None
        meant = [
            (len(error.instance_path), name)
            for name, error in found.items()
            if name not in typed and self._is_meant(name, value)
        ]
        deepest = [name for depth, name in meant if depth == max(meant)[0]]
        if left and len(deepest) == 1:
            return self._in_words(found[deepest[0]], deepest[0], value, at, left - 1)
        return at, f"has none of the {len(forms)} forms that it may have", None

    def _is_meant(self, name: str, value: Json) -> bool:
        """False where a field of the form has a fixed value, its tag, and `value` has another text there."""
        form = self._definitions[name]
        for field, one in form.get("properties", {}).items() if isinstance(value, dict) else ():
            tag = self._definitions[target(one)] if isinstance(one, dict) else {}
            options = [tag["const"]] if "const" in tag else tag.get("enum")
            if options is not None and isinstance(value.get(field), str) and value[field] not in options:
                return False
        parts = [target(one) for one in form.get("allOf", ()) if isinstance(one, dict) and "$ref" in one]
        return all(self._is_meant(part, value) for part in parts)

    def _error(self, form: str, value: Json) -> ValidationError | None:
        return _first_error(self._forms[f"#/definitions/{form}"], value)


def _first_error(validator: Validator, value: Json) -> ValidationError | None:
    from jsonschema_rs import ValidationError  # noqa: PLC0415 - for a mistake alone

    try:
        validator.validate(value)
    except ValidationError as error:
        return error
    return None


# Schemas of settings are plain. They are checked without the library, whose import takes 10 ms.

_PLAIN_TYPES = {"string": str, "boolean": bool, "object": dict, "array": list, "integer": int}
_NOTES = {"$schema", "description", "default"}


def _is_plain(schema: Json) -> bool:
    """Whether the schema is certainly well-formed, and so plain that `_plainly_fits` decides for most values."""
    if isinstance(schema, bool):
        return True
    fields, needed, options = schema.get("properties", {}), schema.get("required", []), schema.get("enum", [])
    return (
        schema.keys() <= {"type", "properties", "required", "additionalProperties", "enum"} | _NOTES
        and schema.get("type", "object") in tuple(_PLAIN_TYPES)
        and (type(fields), type(needed), type(options)) == (dict, list, list)
        and all(isinstance(one, str) for one in (*needed, *options))
        and set(needed) <= fields.keys()
        and len(set(needed)) == len(needed)
        and all(map(_is_plain, (*fields.values(), schema.get("additionalProperties", True))))
    )


def _plainly_fits(schema: Json, value: Json) -> bool:
    """Whether `value` certainly fits a plain schema."""
    if isinstance(schema, bool):
        return schema
    if "enum" in schema or ("type" in schema and type(value) is not _PLAIN_TYPES[schema["type"]]):
        return type(value) is str and value in schema.get("enum", ()) and schema.get("type", "string") == "string"
    if type(value) is not dict:
        return True
    fields, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    if not value.keys() >= set(schema.get("required", ())):
        return False
    for name, one in value.items():  # noqa: SIM110 - it runs for every request, and a generator takes twice as long
        if not _plainly_fits(fields.get(name, others), one):
            return False
    return True


# Words: a value may be a secret. It is shown only where it comes near to an allowed one.

_TYPES = {"string": "a string", "integer": "an integer", "number": "a number", "boolean": "true or false"}
_TYPES |= {"array": "an array", "object": "an object", "null": "null"}
_MAX_PATH = 200  # characters
_MAX_LISTED = 8
_MAX_COMPARED = 500
_BOUNDS = {
    "minimum": "has to be {} or more",
    "maximum": "has to be {} or less",
    "exclusiveMinimum": "has to be more than {}",
    "exclusiveMaximum": "has to be less than {}",
    "multipleOf": "has to be a multiple of {}",
    "minLength": "has to have {} or more characters",
    "maxLength": "has to have {} or fewer characters",
    "minItems": "has to have {} or more items",
    "maxItems": "has to have {} or fewer items",
    "minProperties": "has to have {} or more fields",
    "maxProperties": "has to have {} or fewer fields",
    "pattern": "does not match the pattern {}",
    "const": "has to be {}",
}
_NOT_KNOWN = "is not known here"
_NOT_ALLOWED = "has a form that it may not have"
_NAME_NOT_ALLOWED = "has a name that is not allowed"
_ALWAYS = {"falseSchema": _NOT_KNOWN, "unevaluatedItems": "has items that are not known here"}


def _not_of_type(value: Json, types: str | Sequence[str]) -> str:
    wanted = " or ".join(dict.fromkeys(_TYPES[one] for one in _listed(types)))
    kind = kind_of(value)
    return f"has to be {wanted}, and is {'a boolean' if kind == 'boolean' else _TYPES.get(kind, kind)}"


def _listed(types: str | Sequence[str]) -> Sequence[str]:
    return [types] if isinstance(types, str) else types


def _none_of(value: Json, options: Sequence[Json]) -> tuple[str, str]:
    near = _nearest(value, [one for one in options if isinstance(one, str)])
    given = f"is {shown(value)}, which " if near else ""
    return f"{given}is none of the {len(options)} that it may be", near or f"it may be {_some(options)}"


def _unknown(name: str, owner: Mapping[str, Json], at: _Path) -> _Mistake:
    known = tuple(owner.get("properties", ()))
    return (*at, name), _NOT_KNOWN, _nearest(name, known) or f"known are {_some(known, bare) or 'none'}"


def _nearest(value: Json, options: Sequence[str]) -> str:
    text = value[:MAX_SHOWN] if isinstance(value, str) else ""
    from difflib import get_close_matches  # noqa: PLC0415 - as in host.core.fields

    near = get_close_matches(text, options[:_MAX_COMPARED], n=3, cutoff=0.5)
    return f"did you mean {_some(near, bare)}?" if near else ""


def _some(options: Sequence[Json], write: Callable[[Json], str] = shown) -> str:
    more = f", … ({len(options)} in all)" if len(options) > _MAX_LISTED else ""
    return ", ".join(map(write, options[:_MAX_LISTED])) + more


def _repeated(items: Sequence[Json]) -> int:
    """The place of the first item that is equal to one before it."""
    unique = bounds.validator({"uniqueItems": True})
    return bisect_left(range(len(items)), True, key=lambda place: not unique.is_valid(items[: place + 1]))
