"""The parts of a component: a CycloneDX 1.6 document in its custom section `catalyst:sbom`. `host build` writes it; the
section `catalyst:notice` beside it has the copyright notices of what every build contains.

Two builds of one source have different bytes and the same document: it has no time, no serial number and no path.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any, Final

from host.component.manifest import Manifest
from host.component.wasm import SBOM_SECTION, only_section
from host.core import installation
from host.core.strict_json import parse_object
from host.errors import InputError, ManifestError

SOURCES: Final = "catalyst:sources"
"""The name of the property that has a digest of sources: `sha256:` and 64 hex digits."""

_COMPILER = "componentize-py"
_PYTHON = re.compile(rb"(\d+\.\d+\.\d+[0-9a-z+]*) \([^\0()]{1,80}\) \[Clang (\d[\w.]*)-wasi-sdk")  # `sys.version`
# What the Python of one release of componentize-py says of its libraries; it is the same in all its components.
_LIBRARIES: Final = {
    "0.25.1": (
        ("expat", "2.7.3", "MIT"),
        ("libmpdec", "2.5.1", "BSD-2-Clause"),
        ("sqlite", "3.51.2", "blessing"),
        ("zlib", "1.3.1", "Zlib"),
    )
}
_LLVM = "Apache-2.0 WITH LLVM-exception"


def digest_of(*folders: Path) -> str:
    """One for the sources in these folders: the paths within them and the contents of all files, whatever the order,
    the times and the place on this machine."""
    total = hashlib.sha256()
    for index, folder in enumerate(folders):
        files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
        for name in sorted(files):
            total.update(f"{index} {hashlib.sha256(files[name].read_bytes()).hexdigest()} {name}\n".encode())
    return f"sha256:{total.hexdigest()}"


def compose(wasm: bytes, manifest: Manifest, packages: Path, *, own: str, sdk: str, tools: Sequence[str] = ()) -> bytes:
    """The document of a component that has just been made, by componentize-py and by the installed packages `tools`.
    `packages` is the folder of its sources: what has a `.dist-info` in it is a part. `own` and `sdk` are digests of the
    sources, of the catalyst and of the SDK with the contract."""
    host, compiler = installation.version(), version(_COMPILER)
    named = manifest.id.partition(":")[2] or "catalyst"
    catalyst = {
        **part("application", named, manifest.version, f"pkg:generic/{named}"),
        **({"licenses": [{"license": {"name": manifest.license}}]} if manifest.license else {}),
        "properties": [{"name": SOURCES, "value": own}],
    }
    parts = [
        {
            **part("library", "catalyst-sdk", host, "pkg:generic/catalyst-sdk", "Apache-2.0"),
            "properties": [{"name": SOURCES, "value": sdk}],
        },
        part("library", _COMPILER, compiler, f"pkg:pypi/{_COMPILER}", _LLVM),
        *_runtime(wasm, compiler),
        *_installed(packages),
    ]
    used = [
        part("application", installation.DISTRIBUTION, host, f"pkg:generic/{installation.DISTRIBUTION}", "Apache-2.0"),
        part("application", _COMPILER, compiler, f"pkg:pypi/{_COMPILER}", _LLVM),
        *(part("application", tool, version(tool), f"pkg:pypi/{tool}") for tool in tools),
    ]
    return document_of(catalyst, parts, used)


def document_of(
    subject: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> bytes:
    """The document of `subject`, which depends on the parts and was made with the tools: each as `part` makes it."""
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [{**tool, "bom-ref": f"tool:{tool['name']}"} for tool in tools]},
            "component": subject,
        },
        "components": parts,
        "dependencies": [{"ref": subject["bom-ref"], "dependsOn": [one["bom-ref"] for one in parts]}],
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def embedded(wasm: bytes) -> Mapping[str, Any] | None:
    """The document in a component, or None. It is what its builder says, and nothing checks it. Raises ManifestError
    for two of them, and for what is no JSON object; NotAComponent."""
    if (text := only_section(wasm, SBOM_SECTION, "SBOM")) is None:
        return None
    try:
        return parse_object(text, "the SBOM", names_once=True)
    except InputError as error:
        raise ManifestError(error.message) from None


def sources_of(document: Mapping[str, Any]) -> str | None:
    """The digest of the catalyst's own sources, if the document has one."""
    described = document.get("metadata")
    main = described.get("component") if isinstance(described, dict) else None
    properties = main.get("properties") if isinstance(main, dict) else None
    for one in properties if isinstance(properties, list) else ():
        if isinstance(one, dict) and one.get("name") == SOURCES:
            return str(one.get("value"))
    return None


def named_parts(document: Mapping[str, Any]) -> Iterator[str]:
    """Each part by its name and version."""
    parts = document.get("components")
    for one in parts if isinstance(parts, list) else ():
        if isinstance(one, dict):
            yield f"{one.get('name', '?')} {one.get('version', '')}".rstrip()


def part(kind: str, name: str, version_: str, purl: str, license_: str = "") -> dict[str, Any]:
    """One of a document. `purl` is a package URL without the version; the whole URL is the part's reference as well."""
    full = f"{purl}@{version_}" if version_ else purl
    return {
        "type": kind,
        "bom-ref": full,
        "name": name,
        **({"version": version_} if version_ else {}),
        **({"licenses": [{"expression": license_}]} if license_ else {}),
        "purl": full,
    }


def _runtime(wasm: bytes, compiler: str) -> Iterator[dict[str, Any]]:
    """CPython and the C libraries in it."""
    if found := _PYTHON.search(wasm):
        python = found[1].decode()
        yield {
            **part("platform", "cpython", python, "pkg:generic/cpython", "PSF-2.0"),
            "cpe": f"cpe:2.3:a:python:python:{python}:*:*:*:*:*:*:*",
        }
        yield {
            **part("library", "wasi-libc", "", "pkg:generic/wasi-libc", f"{_LLVM} AND MIT"),
            "description": f"of the wasi-sdk with Clang {found[2].decode()}; it has no version of its own",
        }
    for name, known, license_ in _LIBRARIES.get(compiler, ()):
        yield part("library", name, known, f"pkg:generic/{name}", license_)


def _installed(folder: Path) -> Iterator[dict[str, Any]]:
    """The packages that were installed into the folder of the sources (`pip install --target`)."""
    found = {(one.name, one.version): one for one in distributions(path=[str(folder)])}
    for (name, known), one in sorted(found.items()):
        license_ = str(one.metadata.json.get("license_expression", ""))
        yield part("library", name, known, f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}", license_)
