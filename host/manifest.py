"""What a catalyst says of itself and asks for: the manifest, embedded in the component as the custom section
`catalyst:manifest`, or beside it in CYFR's form (`cyfr-manifest.json`). One format covers both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from host.contract import CAPABILITIES, FETCH, SECRETS, STREAMING
from host.errors import HostError, ManifestError
from host.jsontext import parse_object
from host.names import SecretName
from host.sections import MANIFEST_SECTION, custom_sections

_GUARDED = frozenset({FETCH, STREAMING, SECRETS})  # a manifest has to name these to use them


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # other hosts have fields of their own


def _named(given: object) -> object:
    return {"name": given} if isinstance(given, str) else given


class SecretNeed(_Part):
    """A secret that the catalyst uses. In a manifest a bare name will do. Where `required` is false, being refused it
    does not count as the reason for a failed run."""

    name: str
    description: str = ""
    required: bool = True


class Example(_Part):
    name: str = ""
    description: str = ""
    input: Any = None
    output: Any = None


class Schemas(_Part):
    input: Any = None
    output: Any = None
    config: Any = None


class Manifest(_Part):
    """`domains` None says nothing; `{config.KEY}` in it stands for the host of the URL that the operator's config has
    under KEY. `wasi` maps a capability (http, streaming, secrets, output, config, log) to whether it is used."""

    id: str = ""
    type: str = "catalyst"
    version: str = ""
    description: str = ""
    license: str = ""
    authors: str = ""
    homepage: str = ""
    source: str = ""
    wasi: Mapping[str, bool] = Field(default_factory=dict)
    secrets: Sequence[Annotated[SecretNeed, BeforeValidator(_named)]] = ()
    domains: Sequence[str] | None = None
    schema_: Schemas = Field(default_factory=Schemas, alias="schema")
    defaults: Mapping[str, Any] = Field(default_factory=dict)
    examples: Sequence[Example] = ()

    @classmethod
    def parse(cls, text: str | bytes) -> Manifest:
        """Raises ManifestError, which names the field."""
        try:
            fields = parse_object(text, "the manifest")
            manifest = cls.model_validate(fields)
            for secret in manifest.secrets:
                SecretName.parse(secret.name)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            path = ".".join(str(part) for part in first["loc"])
            raise ManifestError(f"the manifest: {path}: {first['msg']}") from None
        except HostError as error:
            raise ManifestError(f"the manifest: {error}") from None
        return manifest

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
