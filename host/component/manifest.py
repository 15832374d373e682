"""The manifest of a catalyst: its name, the capabilities it requests, its operations and schemas. One format covers
ours and CYFR's.

It is a custom section of the component, `catalyst:manifest`, or a file beside it (`cyfr-manifest.json`,
`manifest.json`). Only the embedded one is in force: it has the component's digest and signature. `embed` and
`self_contained` put a manifest into a component.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from host.component.operations import OperationSpec, Passes, malformed, read_operations, read_passes
from host.component.wasm import MANIFEST_SECTION, MAX_SECTION_BYTES, append_section, custom_sections
from host.core.fields import FieldReader
from host.core.headers import HEADER, secret_header
from host.core.names import Reference, SecretName, check_version
from host.core.strict_json import Json, parse_object
from host.core.wit import CAPABILITIES, FETCH, SECRETS, STREAMING, WEBSOCKET
from host.errors import HostError, InputError, ManifestError

FILES = ("cyfr-manifest.json", "manifest.json")
"""The names of a manifest file beside a component; the first that exists counts."""

FIELDS = (
    *("id", "type", "version", "description", "license", "authors", "homepage", "source"),
    *("wasi", "secrets", "domains", "operations", "passes", "schema", "defaults", "examples"),
    *("publisher", "name", "setup"),  # CYFR's later spelling of the id and of where its secrets are
)

_NOTHING = Passes()
_GUARDED = frozenset({FETCH, STREAMING, SECRETS, WEBSOCKET})  # a manifest has to name these to use them


@dataclass(frozen=True, slots=True)
class SecretNeed:
    """A secret that the catalyst uses. In a manifest it may be a bare name. Where `required` is false, a refusal of the
    secret does not count as the reason for a failed run. `headers` are those that it goes into beyond the ones that
    carry credentials, in lower case: each `header:NAME` of the manifest's `in`; the rest of `in` is passed over, since
    only a grant can name the URL or the body. `domains` are those that it goes to, written like the manifest's own;
    None leaves that to the grant."""

    name: str
    description: str = ""
    required: bool = True
    headers: Sequence[str] = ()
    domains: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest, read.

    `id` is `type:namespace.name`; a manifest may leave out the type and the namespace (`local`), or write CYFR's
    `publisher` and `name`. `wasi` maps a capability (http, streaming, secrets, output, config, log, websocket) to
    whether the catalyst uses it. `secrets` may also be in CYFR's `setup`. `domains` None sets no bound; `{config.KEY}`
    in it stands for the host of the URL that the operator's config has under KEY. `operations` are ours, by name,
    `passes` too. `schemas` are JSON Schemas of input, output and config. Fields that this host does not know are passed
    over.
    """

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
    passes: Passes = _NOTHING
    schemas: Mapping[str, Json] = field(default_factory=dict)
    defaults: Mapping[str, Json] = field(default_factory=dict)
    examples: Sequence[Mapping[str, Json]] = ()

    def __repr__(self) -> str:
        """Its name only: it may have hundreds of operations."""
        return f"<Manifest {self.reference}>" if self.id else "<Manifest>"

    @classmethod
    def parse(cls, text: str | bytes) -> Manifest:
        """Raises ManifestError, which names the field, also for a name that one object has twice: readers differ in
        which of the two they take. `host.component.schema` reads the schemas themselves."""
        try:
            fields = FieldReader(parse_object(text, "the manifest", names_once=True), error=malformed)
            named = _named(fields)
            secrets = fields if "secrets" in fields else fields.table("setup")
            return cls(
                id=named.subject if named else "",
                type=named.type if named else _type(fields),
                version=check_version(fields.text("version")) if fields.given.get("version", "") != "" else "",
                **{name: fields.text(name, default="") for name in _TEXTS},
                wasi=_flags(fields.table("wasi")),
                secrets=tuple(_need(at, one) for at, one in secrets.items("secrets")),
                domains=fields.texts("domains") if fields.given.get("domains") is not None else None,
                operations=read_operations(fields.given.get("operations", {})),
                passes=read_passes(fields.table("passes")),
                schemas=_schemas(fields.table("schema")),
                defaults=fields.table("defaults").given,
                examples=tuple(one for _, one in fields.items("examples") if isinstance(one, dict)),
            )
        except ManifestError:
            raise
        except HostError as error:
            raise ManifestError(f"the manifest: {error}") from None

    @classmethod
    def embedded(cls, wasm: bytes) -> Manifest | None:
        """The manifest in a component, or None. Raises ManifestError, NotAComponent."""
        text = embedded_text(wasm)
        return None if text is None else cls.parse(text)

    @classmethod
    def beside(cls, path: Path) -> Manifest | None:
        """The manifest in the folder `path`, or in the folder of the file `path`. Raises ManifestError."""
        text = text_beside(path)
        return None if text is None else cls.parse(text)

    @property
    def reference(self) -> Reference | None:
        """The name, with the version if it has one; None for a manifest without an id."""
        return Reference.parse(self.id).at(self.version) if self.id else None

    def interfaces(self) -> tuple[str, ...]:
        """The interfaces that `wasi` requests, in the contract's order."""
        return tuple(name for capability, name in CAPABILITIES.items() if self.wasi.get(capability))

    def check_imports(self, imports: Sequence[str]) -> None:
        """Raises ManifestError if the component imports an interface that its manifest does not request."""
        asked = self.interfaces()
        for name in imports:
            if name in _GUARDED and name not in asked:
                capability = next(key for key, interface in CAPABILITIES.items() if interface == name)
                raise ManifestError(
                    f"the component imports {name}, but its manifest does not ask for it",
                    hint=f'"wasi": {{"{capability}": true}}',
                )


def embedded_text(wasm: bytes) -> bytes | None:
    """The text of the manifest in a component, or None. Raises ManifestError for two manifests, since readers could
    differ over which counts, and for one of more than MAX_SECTION_BYTES; NotAComponent."""
    found = [content for name, content in custom_sections(wasm) if name == MANIFEST_SECTION]
    if len(found) > 1:
        raise ManifestError("the component has more than one manifest")
    if found and len(found[0]) > MAX_SECTION_BYTES:
        raise ManifestError(f"the manifest is larger than {MAX_SECTION_BYTES} bytes")
    return found[0] if found else None


def text_beside(path: Path) -> bytes | None:
    """The text of the manifest in the folder `path`, or in the folder of the file `path`, without a byte order mark.
    Raises ManifestError."""
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


def _type(fields: FieldReader) -> str:
    return fields.text("type", default="") or "catalyst"


def _flags(fields: FieldReader) -> Mapping[str, bool]:
    """The flags of capabilities. Other fields may be anything; only flags among them are kept."""
    for name in CAPABILITIES:
        fields.flag(name, default=False)
    return {name: value for name, value in fields.given.items() if isinstance(value, bool)}


def _schemas(fields: FieldReader) -> Mapping[str, Json]:
    for name in ("input", "output", "config"):
        fields.of_kind(name, (dict, bool), "a schema: an object, true or false", default=True)
    return fields.given


def _named(fields: FieldReader) -> Reference | None:
    """The component's name by `id`, or by `publisher` and `name`; None without either. Raises ManifestError,
    InputError."""
    given, kind = fields.text("id", default=""), _type(fields)
    if not given and fields.given.get("name"):
        given = f"{fields.text('publisher', default='') or 'local'}.{fields.text('name')}"
    if not given:
        Reference.parse(f"{kind}:local.x")  # the type has to be one all the same
        return None
    dotted = given if ":" in given or "." in given else f"local.{given}"
    reference = Reference.parse(dotted if ":" in dotted else f"{kind}:{dotted}")
    if reference.version:
        raise ManifestError(f"the manifest: id: {given[:80]!r} has a version, which has a field of its own")
    if "type" in fields and reference.type != kind:
        raise ManifestError(f"the manifest: id is that of a {reference.type}, and type is {kind[:80]!r}")
    return reference


def _need(at: str, given: Json) -> SecretNeed:
    if isinstance(given, str):
        return SecretNeed(str(SecretName.parse(given)))
    fields = FieldReader(given, error=malformed, at=at)
    return SecretNeed(
        name=str(SecretName.parse(fields.text("name"))),
        description=fields.text("description", default=""),
        required=fields.flag("required", default=True),
        headers=tuple(_headers(fields)),
        domains=fields.texts("domains") if fields.given.get("domains") is not None else None,
    )


def _headers(fields: FieldReader) -> Iterator[str]:
    """Raises ManifestError for a header that a manifest cannot name."""
    given = fields.given.get("in")
    for text in given if isinstance(given, list) else [given]:
        if isinstance(text, str) and text.startswith(HEADER):
            try:
                yield secret_header(text.removeprefix(HEADER), by_manifest=True)
            except InputError as error:
                raise fields.error("in", f"is not acceptable: {error.message}") from None


def embed(wasm: bytes, manifest_text: bytes) -> bytes:
    """The component with this manifest inside. The fields that other WebAssembly tools read are in sections of their
    own (WebAssembly tool-conventions, named like OCI's annotations). Raises ManifestError, also for a component that
    has a manifest."""
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
    its own counts, and the other must not request more, because people would read it and believe it. Raises
    ManifestError with the differences, NotAComponent."""
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
    """The claims and requests of `beside` that `inside` lacks."""
    for name, said, counts in (("id", beside.id, inside.id), ("version", beside.version, inside.version)):
        if said and said != counts:
            yield f"its {name} is {said}, and not {counts or 'left open'}"
    yield from (f"it asks for {name} as well" for name in beside.interfaces() if name not in inside.interfaces())
    secrets = {need.name for need in inside.secrets}
    yield from (f"it asks for the secret {need.name} as well" for need in beside.secrets if need.name not in secrets)
    if inside.domains is not None:
        more = (domain for domain in beside.domains or () if domain not in inside.domains)
        yield from (f"it asks for the domain {domain!r} as well" for domain in more)
