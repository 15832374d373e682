"""What a catalyst says of itself and asks for: the manifest, embedded in the component as the custom section
`catalyst:manifest`, or beside it in CYFR's form (`cyfr-manifest.json`). One format covers both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from host.contract import CAPABILITIES, FETCH, SECRETS, STREAMING
from host.errors import HostError, ManifestError
from host.jsontext import Json, kind_of, parse_object
from host.names import SecretName
from host.sections import MANIFEST_SECTION, custom_sections

_GUARDED = frozenset({FETCH, STREAMING, SECRETS})  # a manifest has to name these to use them


@dataclass(frozen=True, slots=True)
class SecretNeed:
    """A secret that the catalyst uses. In a manifest a bare name will do. Where `required` is false, being refused it
    does not count as the reason for a failed run."""

    name: str
    description: str = ""
    required: bool = True


@dataclass(frozen=True, slots=True)
class Manifest:
    """`domains` None says nothing; `{config.KEY}` in it stands for the host of the URL that the operator's config has
    under KEY. `wasi` maps a capability (http, streaming, secrets, output, config, log) to whether it is used.
    `schemas` are JSON Schemas for input, output and config. Fields that this host does not know are passed over."""

    id: str = ""
    type: str = "catalyst"
    version: str = ""
    description: str = ""
    license: str = ""
    authors: str = ""
    homepage: str = ""
    source: str = ""
    wasi: Mapping[str, bool] = field(default_factory=dict)
    secrets: Sequence[SecretNeed] = ()
    domains: Sequence[str] | None = None
    schemas: Mapping[str, Json] = field(default_factory=dict)
    defaults: Mapping[str, Json] = field(default_factory=dict)
    examples: Sequence[Mapping[str, Json]] = ()

    @classmethod
    def parse(cls, text: str | bytes) -> Manifest:
        """Raises ManifestError, which names the field."""
        try:
            fields = _Fields(parse_object(text, "the manifest"))
            return cls(
                **{name: fields.text(name) for name in _TEXTS if name in fields.given},
                wasi={name: flag for name, flag in fields.table("wasi").items() if isinstance(flag, bool)},
                secrets=tuple(_need(one, index) for index, one in enumerate(fields.items("secrets"))),
                domains=fields.texts("domains") if fields.given.get("domains") is not None else None,
                schemas=fields.table("schema"),
                defaults=fields.table("defaults"),
                examples=tuple(one for one in fields.items("examples") if isinstance(one, dict)),
            )
        except ManifestError:
            raise
        except HostError as error:
            raise ManifestError(f"the manifest: {error}") from None

    @classmethod
    def embedded(cls, wasm: bytes) -> Manifest | None:
        """The manifest in a component, or None where it has none. Raises ManifestError; two of them are an error."""
        found = [content for name, content in custom_sections(wasm) if name == MANIFEST_SECTION]
        if len(found) > 1:
            raise ManifestError("the component has more than one manifest")
        return cls.parse(found[0]) if found else None

    def interfaces(self) -> tuple[str, ...]:
        """The interfaces that `wasi` asks for, in the contract's order."""
        return tuple(name for capability, name in CAPABILITIES.items() if self.wasi.get(capability))

    def check_imports(self, imports: Sequence[str]) -> None:
        """Raises ManifestError where the component imports what its manifest does not ask for."""
        asked = self.interfaces()
        for name in imports:
            if name in _GUARDED and name not in asked:
                capability = next(key for key, interface in CAPABILITIES.items() if interface == name)
                raise ManifestError(
                    f"the component imports {name}, but its manifest does not ask for it",
                    hint=f'"wasi": {{"{capability}": true}}',
                )


_TEXTS = ("id", "type", "version", "description", "license", "authors", "homepage", "source")


class _Fields:
    """The fields of a JSON object, each with the type that it must have. Read at every start, so without pydantic,
    whose import alone would be a third of it."""

    def __init__(self, given: Mapping[str, Json]) -> None:
        self.given = given

    def text(self, name: str) -> str:
        return _text(self.given[name], name)

    def table(self, name: str) -> Mapping[str, Json]:
        value = self.given.get(name, {})
        if not isinstance(value, dict):
            raise _wrong(name, value, "an object")
        return value

    def items(self, name: str) -> Sequence[Json]:
        value = self.given.get(name, [])
        if not isinstance(value, list):
            raise _wrong(name, value, "a list")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(_text(one, f"{name}[{index}]") for index, one in enumerate(self.items(name)))


def _need(given: Json, index: int) -> SecretNeed:
    where = f"secrets[{index}]"
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, dict):
        raise _wrong(where, given, "a name or an object")
    required = given.get("required", True)
    if not isinstance(required, bool):
        raise _wrong(f"{where}.required", required, "true or false")
    name = SecretName.parse(_text(given.get("name"), f"{where}.name"))
    return SecretNeed(str(name), _text(given.get("description", ""), f"{where}.description"), required)


def _text(value: Json, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, value, "a string")
    return value


def _wrong(where: str, value: Json, wanted: str) -> ManifestError:
    return ManifestError(f"the manifest: {where} is a JSON {kind_of(value)}, not {wanted}")
