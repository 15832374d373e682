"""The manifest of a catalyst: its name, the capabilities it requests, its operations and schemas. One format covers
ours and CYFR's.

It is a custom section of the component, `catalyst:manifest`, or a file beside it (`cyfr-manifest.json`,
`manifest.json`). Only the embedded one is in force: it has the component's digest and signature. `embed` and
`self_contained` put a manifest into a component. A file `operations.json` beside it has the operations, where there are
many: their schemas go into a section of their own (`host.component.operation_schemas`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from host.component.operation_schemas import OperationSchemas, malformed, names_of, section_of, unused
from host.component.operations import OperationSpec, Passes, read_operations, read_passes
from host.component.wasm import (
    MANIFEST_SECTION,
    MAX_SCHEMAS_BYTES,
    MAX_SECTION_BYTES,
    SCHEMAS_SECTION,
    append_section,
    only_section,
)
from host.core.fields import FieldReader
from host.core.headers import HEADER, secret_header
from host.core.names import Reference, SecretName, check_version
from host.core.strict_json import Json, parse_object
from host.core.wit import CAPABILITIES, FETCH, SECRETS, STREAMING, WEBSOCKET
from host.errors import HostError, InputError, ManifestError

FILES = ("cyfr-manifest.json", "manifest.json")
"""The names of a manifest file beside a component; the first that exists counts."""

OPERATIONS_FILE = "operations.json"
"""The file beside a manifest with its operations: `operations` and `websockets`, by name; `$defs`, schemas that they
share."""

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
    apart: Json = field(default=None, repr=False, compare=False)  # OperationSchemas, of a manifest that has them

    def __repr__(self) -> str:
        """Its name only: it may have hundreds of operations."""
        return f"<Manifest {self.reference}>" if self.id else "<Manifest>"

    @classmethod
    def parse(cls, text: str | bytes, schemas: Callable[[], bytes] | None = None) -> Manifest:
        """The manifest in `text`; `schemas` gives the section with the operations' schemas that are apart. Raises
        ManifestError, which names the field, also for a name that one object has twice: readers differ in which of the
        two they take. `check_schemas` reads the schemas themselves."""
        try:
            fields = FieldReader(parse_object(text, "the manifest", names_once=True), error=malformed)
            named, apart = _named(fields), None if schemas is None else OperationSchemas(schemas)
            secrets = fields if "secrets" in fields else fields.table("setup")
            return cls(
                id=named.subject if named else "",
                type=named.type if named else _type(fields),
                version=check_version(fields.text("version")) if fields.given.get("version", "") != "" else "",
                **{name: fields.text(name, default="") for name in _TEXTS},
                wasi=_flags(fields.table("wasi")),
                secrets=tuple(_need(at, one) for at, one in secrets.items("secrets")),
                domains=fields.texts("domains") if fields.given.get("domains") is not None else None,
                operations=read_operations(fields.given.get("operations", {}), apart),
                passes=read_passes(fields.table("passes")),
                schemas=_schemas(fields.table("schema")),
                defaults=fields.table("defaults").given,
                examples=tuple(one for _, one in fields.items("examples") if isinstance(one, dict)),
                apart=apart,
            )
        except ManifestError:
            raise
        except HostError as error:
            raise ManifestError(f"the manifest: {error}") from None

    @classmethod
    def embedded(cls, wasm: bytes) -> Manifest | None:
        """The manifest in a component, or None. Raises ManifestError, NotAComponent."""
        text, schemas = embedded_text(wasm), embedded_schemas(wasm)
        if text is None:
            if schemas:
                raise ManifestError("the component has schemas of operations, and no manifest")
            return None
        return cls.parse(text, lambda: schemas)

    @classmethod
    def beside(cls, path: Path) -> Manifest | None:
        """The manifest in the folder `path`, or in the folder of the file `path`. Raises ManifestError."""
        if (found := files_beside(path)) is None:
            return None
        schemas = found.schemas
        return cls.parse(found.text, lambda: schemas)

    def check_schemas(self) -> None:
        """Read every schema, which takes long: for whoever builds a component, or installs one. Raises ManifestError,
        which names the field, also where the schemas of operations that are apart are not those of the manifest."""
        from host.component.schema import InputSchema  # noqa: PLC0415 - no run needs all of them

        for name, one in self.operations.items():
            InputSchema.compile(schema := one.params, f"operations.{name}.params")
            if names_of(schema) != one.parameters:
                raise malformed(f"operations.{name}.parameters", "are not those of its schema")
        apart = [name for name, one in self.operations.items() if isinstance(one.schema, OperationSchemas)]
        for name in unused(self.apart.lines, apart) if self.apart is not None else ():
            raise ManifestError(f"the component has a schema of {name[:80]!r}, which is no operation of its manifest")

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


class ManifestFiles(NamedTuple):
    """What stands beside a component: the manifest's `text`, and the `schemas` of its operations as the section for
    them; none where they are in the manifest."""

    text: bytes
    schemas: bytes = b""


def embedded_text(wasm: bytes) -> bytes | None:
    """The text of the manifest in a component, or None. Raises ManifestError for two manifests, and for one of more
    than MAX_SECTION_BYTES; NotAComponent."""
    return only_section(wasm, MANIFEST_SECTION, "manifest")


def embedded_schemas(wasm: bytes) -> bytes:
    """The section with the operations' schemas; b"" without one. Raises ManifestError for two of them, and for one of
    more than MAX_SCHEMAS_BYTES; NotAComponent."""
    return only_section(wasm, SCHEMAS_SECTION, "section of schemas") or b""


def files_beside(path: Path) -> ManifestFiles | None:
    """The manifest in the folder `path`, or in the folder of the file `path`, with the operations beside it. Raises
    ManifestError."""
    if (text := text_beside(path)) is None:
        return None
    operations = _read_file(_folder(path) / OPERATIONS_FILE, MAX_SCHEMAS_BYTES)
    return ManifestFiles(text) if operations is None else _joined(text, operations)


def text_beside(path: Path) -> bytes | None:
    """The text of the manifest's own file, without a byte order mark. Raises ManifestError."""
    for name in FILES:
        if (text := _read_file(_folder(path) / name, MAX_SECTION_BYTES)) is not None:
            return text
    return None


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _read_file(file: Path, most: int) -> bytes | None:
    try:
        with file.open("rb") as opened:
            text = opened.read(most + 1)
        text.decode()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ManifestError(f"cannot read {str(file)!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{file} is not UTF-8") from None
    if len(text) > most:
        raise ManifestError(f"{file} is larger than {most} bytes")
    return text.removeprefix(b"\xef\xbb\xbf")


def _joined(text: bytes, operations: bytes) -> ManifestFiles:
    """The manifest with an index of the operations, and their schemas apart. Raises ManifestError."""
    try:
        manifest = parse_object(text, "the manifest", names_once=True)
        declared = FieldReader(parse_object(operations, OPERATIONS_FILE, names_once=True), error=malformed)
    except InputError as error:
        raise ManifestError(error.message) from None
    if "operations" in manifest:
        said = f"the manifest has operations, and {OPERATIONS_FILE} beside it too"
        raise ManifestError(said, hint="keep one of them")
    rows: dict[str, Json] = {}
    for field_name, more in (("operations", {}), ("websockets", {"websocket": True})):
        for name, one in declared.table(field_name).tables():
            if name in rows:
                raise malformed(f"websockets.{name[:80]}", "is an operation already")
            rows[name] = {**one.given, **more}
    schemas = section_of(rows, declared.table("$defs").given)
    index = {name: _index(row) for name, row in rows.items()}
    return ManifestFiles(json.dumps({**manifest, "operations": index}, separators=(",", ":")).encode(), schemas)


def _index(row: Mapping[str, Json]) -> dict[str, Json]:
    """The row of an operation with the names of its parameters in place of their schema."""
    without = {name: value for name, value in row.items() if name not in ("params", "parameters")}
    return {**without, "parameters": names_of(row["params"])} if "params" in row else without


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


def embed(wasm: bytes, manifest_text: bytes, schemas: bytes = b"") -> bytes:
    """The component with this manifest inside, and with the section `schemas` of its operations. The fields that other
    WebAssembly tools read are in sections of their own (WebAssembly tool-conventions, named like OCI's annotations).
    Raises ManifestError, also for a component that has a manifest."""
    manifest = Manifest.parse(manifest_text)
    if len(manifest_text) > MAX_SECTION_BYTES:
        raise ManifestError(f"the manifest is larger than {MAX_SECTION_BYTES} bytes")
    if embedded_text(wasm) is not None or embedded_schemas(wasm):
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
    wasm = append_section(wasm, SCHEMAS_SECTION, schemas) if schemas else wasm
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
        files = files_beside(path) or ManifestFiles(beside)
        return embed(wasm, *files)
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
