"""What a catalyst says of itself and asks for: the manifest, embedded in the component as the custom section
`catalyst:manifest`, or beside it (`cyfr-manifest.json`, `manifest.json`). One format covers ours and CYFR's.

Only the embedded one is ever in force: it is signed and digested with the component. `host.component.manifest` puts one
inside.

A component and its manifest in one file: what is registered, signed and sent has both, under one digest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from host.component.operations import OperationSpec, read_operations
from host.component.wasm import MANIFEST_SECTION, MAX_SECTION_BYTES, append_section, custom_sections
from host.core.names import Reference, SecretName, check_version
from host.core.strict_json import Json, kind_of, parse_object
from host.core.wit import CAPABILITIES, FETCH, SECRETS, STREAMING
from host.errors import HostError, ManifestError

FILES = ("cyfr-manifest.json", "manifest.json")
"""What a manifest beside a component is called: the first that is there is meant."""

FIELDS = (
    *("id", "type", "version", "description", "license", "authors", "homepage", "source"),
    *("wasi", "secrets", "domains", "operations", "schema", "defaults", "examples"),
    *("publisher", "name", "setup"),  # CYFR's later spelling of the id and of where its secrets are
)

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
    """`id` is `type:namespace.name`, however it is spelt: without the type or the namespace, which is `local` then, or
    as CYFR's `publisher` and `name`. `wasi` maps a capability (http, streaming, secrets, output, config, log) to
    whether it is used. `secrets` may also be in CYFR's `setup`. `domains` None says nothing; `{config.KEY}` in it
    stands for the host of the URL that the operator's config has under KEY. `operations` are ours: each by name, with
    its route and what it takes. `schemas` are JSON Schemas for input, output and config. Fields that this host does not
    know are passed over."""

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
    operations: Mapping[str, OperationSpec] = field(default_factory=dict)
    schemas: Mapping[str, Json] = field(default_factory=dict)
    defaults: Mapping[str, Json] = field(default_factory=dict)
    examples: Sequence[Mapping[str, Json]] = ()

    def __repr__(self) -> str:
        """Its name only: it may have hundreds of operations."""
        return f"<Manifest {self.reference}>" if self.id else "<Manifest>"

    @classmethod
    def parse(cls, text: str | bytes) -> Manifest:
        """Raises ManifestError, which names the field. `host.component.schema` reads the schemas themselves."""
        try:
            fields = _Fields(parse_object(text, "the manifest"))
            named = _named(fields)
            needs = fields if "secrets" in fields.given else _Fields(fields.table("setup"), "setup.")
            return cls(
                id=named.subject if named else "",
                type=named.type if named else fields.type(),
                version=check_version(fields.text("version")) if fields.given.get("version", "") != "" else "",
                **{name: fields.text(name) for name in _TEXTS},
                wasi=fields.flags("wasi", known=CAPABILITIES),
                secrets=tuple(
                    _need(one, f"{needs.within}secrets[{n}]") for n, one in enumerate(needs.items("secrets"))
                ),
                domains=fields.texts("domains") if fields.given.get("domains") is not None else None,
                operations=read_operations(fields.table("operations")),
                schemas=fields.schemas("schema"),
                defaults=fields.table("defaults"),
                examples=tuple(one for one in fields.items("examples") if isinstance(one, dict)),
            )
        except ManifestError:
            raise
        except HostError as error:
            raise ManifestError(f"the manifest: {error}") from None

    @classmethod
    def embedded(cls, wasm: bytes) -> Manifest | None:
        """The manifest in a component, or None where it has none. Raises ManifestError, NotAComponent."""
        text = embedded_text(wasm)
        return None if text is None else cls.parse(text)

    @classmethod
    def beside(cls, path: Path) -> Manifest | None:
        """The manifest in the folder `path`, or in that of the file `path`. Raises ManifestError."""
        text = text_beside(path)
        return None if text is None else cls.parse(text)

    @property
    def reference(self) -> Reference | None:
        """Its name, with the version where it has one; None for a manifest without an id."""
        return Reference.parse(self.id).at(self.version) if self.id else None

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


def embedded_text(wasm: bytes) -> bytes | None:
    """The text of the manifest in a component. Two of them are an error, since readers could differ over which counts,
    and so is one that is too large to be read. Raises ManifestError, NotAComponent."""
    found = [content for name, content in custom_sections(wasm) if name == MANIFEST_SECTION]
    if len(found) > 1:
        raise ManifestError("the component has more than one manifest")
    if found and len(found[0]) > MAX_SECTION_BYTES:
        raise ManifestError(f"the manifest is larger than {MAX_SECTION_BYTES} bytes")
    return found[0] if found else None


def text_beside(path: Path) -> bytes | None:
    """The text of the manifest in the folder `path`, or in that of the file `path`, without the byte order mark that
    some editors begin it with. Raises ManifestError."""
    folder = path if path.is_dir() else path.parent
    for file in (folder / name for name in FILES):
        try:
            with file.open("rb") as opened:
                text = opened.read(MAX_SECTION_BYTES + 1)
            text.decode()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ManifestError(f"cannot read {str(file)!r}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ManifestError(f"{file} is not UTF-8") from None
        if len(text) > MAX_SECTION_BYTES:
            raise ManifestError(f"{file} is larger than {MAX_SECTION_BYTES} bytes")
        return text.removeprefix(b"\xef\xbb\xbf")
    return None


_TEXTS = ("description", "license", "authors", "homepage", "source")


class _Fields:
    """The fields of a JSON object, each with the type that it must have. Read at every start, so without pydantic,
    whose import alone would be a third of it."""

    def __init__(self, given: Mapping[str, Json], within: str = "") -> None:
        self.given = given
        self.within = within

    def text(self, name: str) -> str:
        return _text(self.given.get(name, ""), self.within + name)

    def type(self) -> str:
        return self.text("type") or "catalyst"

    def table(self, name: str) -> Mapping[str, Json]:
        value = self.given.get(name, {})
        if not isinstance(value, dict):
            raise _wrong(self.within + name, value, "an object")
        return value

    def flags(self, name: str, *, known: Mapping[str, str]) -> Mapping[str, bool]:
        """Of what is not `known`, only flags are kept: it may mean anything elsewhere."""
        given = self.table(name)
        for key, value in given.items():
            if key in known and not isinstance(value, bool):
                raise _wrong(f"{self.within}{name}.{key}", value, "true or false")
        return {key: value for key, value in given.items() if isinstance(value, bool)}

    def schemas(self, name: str) -> Mapping[str, Json]:
        given = self.table(name)
        for key in ("input", "output", "config"):
            if not isinstance(value := given.get(key, True), dict | bool):
                raise _wrong(f"{self.within}{name}.{key}", value, "a schema: an object, true or false")
        return given

    def items(self, name: str) -> Sequence[Json]:
        value = self.given.get(name, [])
        if not isinstance(value, list):
            raise _wrong(self.within + name, value, "a list")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(_text(one, f"{self.within}{name}[{index}]") for index, one in enumerate(self.items(name)))


def _named(fields: _Fields) -> Reference | None:
    """What the manifest calls the component. Raises ManifestError, InputError."""
    given, kind = fields.text("id"), fields.type()
    if not given and fields.given.get("name"):
        given = f"{fields.text('publisher') or 'local'}.{fields.text('name')}"
    if not given:
        Reference.parse(f"{kind}:local.x")  # the type has to be one all the same
        return None
    dotted = given if ":" in given or "." in given else f"local.{given}"
    reference = Reference.parse(dotted if ":" in dotted else f"{kind}:{dotted}")
    if reference.version:
        raise ManifestError(f"the manifest: id: {given[:80]!r} has a version, which has a field of its own")
    if "type" in fields.given and reference.type != kind:
        raise ManifestError(f"the manifest: id is that of a {reference.type}, and type is {kind[:80]!r}")
    return reference


def _need(given: Json, where: str) -> SecretNeed:
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


def embed(wasm: bytes, manifest_text: bytes) -> bytes:
    """The component with this manifest inside, and with what of it other wasm tools read in sections of their own
    (WebAssembly tool-conventions; the sections are named as OCI's annotations are). Raises ManifestError, also where
    the component has a manifest already."""
    manifest = Manifest.parse(manifest_text)
    if embedded_text(wasm) is not None:
        raise ManifestError("the component has a manifest already")
    for section, value in (
        ("version", manifest.version),
        ("description", manifest.description),
        ("licenses", manifest.license),
        ("authors", manifest.authors),
        ("homepage", manifest.homepage),
        ("source", manifest.source),
    ):
        if value:
            wasm = append_section(wasm, section, value.encode())
    return append_section(wasm, MANIFEST_SECTION, manifest_text)


def self_contained(wasm: bytes, path: Path) -> bytes:
    """The component from the file `path` with its manifest inside: its own, or the one beside it. Where it has both,
    its own counts, and the other may not say more: people would read it and believe it. Raises ManifestError that says
    what differs, NotAComponent."""
    beside = text_beside(path)
    if beside is None:
        return wasm
    inside = embedded_text(wasm)
    if inside is None:
        return embed(wasm, beside)
    if inside != beside and (differences := tuple(_beyond(Manifest.parse(inside), Manifest.parse(beside)))):
        raise ManifestError(
            f"the manifest beside the component differs from the one inside: {'; '.join(differences)}",
            hint="build the component from it again, or take it away",
        )
    return wasm


def _beyond(inside: Manifest, beside: Manifest) -> Iterator[str]:
    """What `beside` says that `inside` does not."""
    for name, said, counts in (("id", beside.id, inside.id), ("version", beside.version, inside.version)):
        if said and said != counts:
            yield f"its {name} is {said}, and not {counts or 'left open'}"
    yield from (f"it asks for {name} as well" for name in beside.interfaces() if name not in inside.interfaces())
    secrets = {need.name for need in inside.secrets}
    yield from (f"it asks for the secret {need.name} as well" for need in beside.secrets if need.name not in secrets)
    if inside.domains is not None:
        more = (domain for domain in beside.domains or () if domain not in inside.domains)
        yield from (f"it asks for the domain {domain!r} as well" for domain in more)
