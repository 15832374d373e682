"""From a folder of Python to a component: `host build`.

The folder has `app.py` (the entry module) and `cyfr-manifest.json` or `manifest.json`; `operations.json` too, if there
are many operations. componentize-py imports every interface of the world that it builds against, and a component's
imports are its capabilities. So the world has the interfaces that the manifest requests and no others. The top level of
the guest's modules runs during the build and may read the files of the folder, its manifest among them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from host.component import sbom
from host.component.build import componentize, finish, fuse
from host.component.manifest import FIELDS, Manifest, ManifestFiles, embed, files_beside
from host.component.operation_schemas import malformed
from host.component.wasm import NOTICE_SECTION, SBOM_SECTION, append_section
from host.core import installation
from host.core.fields import FieldReader
from host.core.strict_json import Json, parse_object
from host.core.wit import CAPABILITIES
from host.errors import BuildError, InputError, ManifestError

ENTRY = "app"

_SKIPPED = shutil.ignore_patterns("__pycache__", ".*", "*.pyc", "tests", "node_modules")


def build(directory: Path, *, quick: bool = False, note: Callable[[str], None] = lambda _: None) -> bytes:
    """The component of the catalyst in `directory`, with its manifest, its SBOM and metadata inside. Two builds of
    the same source differ in their bytes, and not in these. `quick` leaves out what makes its sandboxes faster. `note`
    is told what could not be done here, in a sentence. Raises BuildError, ManifestError, InputError."""
    _check_links(directory)
    files = _files(directory)
    manifest = Manifest.parse(files.text, lambda: files.schemas)
    manifest.check_schemas()
    if not (directory / f"{ENTRY}.py").is_file():
        raise InputError(f"{directory} has no {ENTRY}.py", hint="that is the module whose class Run is the catalyst")
    with tempfile.TemporaryDirectory(prefix="host-build-") as temporary:
        place = Path(temporary)
        wit, stage = place / "wit", place / "stage"
        shutil.copytree(_shipped("wit"), wit, ignore=_SKIPPED)
        shutil.copytree(directory, stage, ignore=_SKIPPED)
        own = sbom.digest_of(stage)
        shutil.copytree(_shipped("catalyst/sdk"), stage / "catalyst" / "sdk", ignore=_SKIPPED, dirs_exist_ok=True)
        sdk = sbom.digest_of(stage / "catalyst" / "sdk", wit)
        (wit / "built.wit").write_text(_world(manifest), encoding="utf-8")
        (stage / "catalyst" / "__init__.py").touch()

        def make(folder: Path) -> bytes:
            return componentize.component_of(wit, "built", folder, finish.FIRST, place / "built.wasm")

        tools: list[str] = []
        if quick:
            wasm = finish.made(make, stage, finish.IN_ORDER)
        else:
            wasm = finish.finished(make, stage, [*_inputs(manifest)], note)
            try:
                wasm, tools = fuse.fused(wasm), [fuse.TOOL]
            except fuse.Unfused as error:
                note(f"a fresh sandbox of it takes half a millisecond longer than it could: {error}")
        parts = sbom.compose(wasm, manifest, stage, own=own, sdk=sdk, tools=tools)
    wasm = append_section(wasm, SBOM_SECTION, parts)
    wasm = append_section(wasm, NOTICE_SECTION, _shipped("catalyst/NOTICE").read_bytes())
    return embed(wasm, *files)


def misspelt(directory: Path) -> Iterator[tuple[str, str]]:
    """Unknown fields of the manifest that resemble a known one, each with the known name. Raises ManifestError,
    InputError."""
    fields = FieldReader(parse_object(_files(directory).text, "the manifest", names_once=True), error=malformed)
    yield from ((name, near) for name, near in fields.unknown(FIELDS) if near)


def _check_links(directory: Path) -> None:
    """Raises InputError for a link that leads out of the folder: what it leads to would become a part of the component,
    and go wherever that is pushed; and for one that leads back to a folder around it."""
    whole = directory.resolve()
    for folder, folders, files in os.walk(directory):
        left_out = _SKIPPED(folder, [*folders, *files])
        folders[:] = [name for name in folders if name not in left_out]
        for name in (*folders, *(name for name in files if name not in left_out)):
            path = Path(folder, name)
            if not path.is_symlink():
                continue
            target, shown = path.resolve(), path.relative_to(directory)
            if not target.is_relative_to(whole) or Path(folder).resolve().is_relative_to(target):
                raise InputError(f"{shown} is a link out of its folder", field=str(shown), hint="a copy in its place")


def _files(directory: Path) -> ManifestFiles:
    if (found := files_beside(directory)) is not None:
        return found
    raise InputError(
        f"{directory} has no manifest.json",
        hint='at least {"id": "catalyst:local.name", "version": "0.1.0", "wasi": {"http": true, "log": true}}',
    )


def _world(manifest: Manifest) -> str:
    asked = manifest.interfaces()
    unknown = [name for name, wanted in manifest.wasi.items() if wanted and name not in CAPABILITIES]
    if unknown:
        raise ManifestError(
            f"the manifest asks for {', '.join(unknown)}, which this host does not provide",
            hint="wasi has " + ", ".join(CAPABILITIES),
        )
    imports = "".join(f"    import {interface};\n" for interface in asked)
    return f"package cyfr:catalyst@0.1.0;\n\nworld built {{\n{imports}    export run;\n}}\n"


def _inputs(manifest: Manifest) -> Iterator[Json]:
    """Those of the manifest's examples."""
    yield from (one["input"] for one in manifest.examples if isinstance(one.get("input"), dict))


def _shipped(part: str) -> Path:
    """The folder `wit` or `catalyst/sdk`, or the notices of what a component contains."""
    if (found := installation.shipped(part)) is None:
        raise BuildError(f"this installation lacks {part}", hint="install it again")
    return found
