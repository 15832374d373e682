"""From a folder of Python to a component: `host build`.

The folder has `app.py` (the entry module) and `cyfr-manifest.json` or `manifest.json`; `operations.json` too, if there
are many operations. componentize-py imports every interface of the world that it builds against, and a component's
imports are its capabilities. So the world has the interfaces that the manifest requests and no others. The top level of
the guest's modules runs during the build and may read the files of the folder, its manifest among them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from host.component import sbom
from host.component.manifest import FIELDS, Manifest, ManifestFiles, embed, files_beside
from host.component.operation_schemas import malformed
from host.component.wasm import NOTICE_SECTION, SBOM_SECTION, append_section
from host.core import environment, installation
from host.core.fields import FieldReader
from host.core.strict_json import parse_object
from host.core.wit import CAPABILITIES
from host.errors import BuildError, InputError, ManifestError

ENTRY = "app"
_FIRST = "catalyst_build"  # the module that componentize-py imports
_IN_ORDER = f"""from catalyst.sdk import surroundings

surroundings.begin()
import {ENTRY}

Run = {ENTRY}.Run
surroundings.seal()
"""

# componentize-py is where this program found it, and pip's isolated builds say where in a variable alone. Its place
# comes last, as that of installed packages does.
_PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from componentize_py import script; script()"

_SKIPPED = shutil.ignore_patterns("__pycache__", ".*", "*.pyc", "tests", "node_modules")


def build(directory: Path) -> bytes:
    """The component of the catalyst in `directory`, with its manifest, its SBOM and metadata inside. Two builds of
    the same source differ in their bytes, and not in these. Raises BuildError, ManifestError, InputError."""
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
        (stage / f"{_FIRST}.py").write_text(_IN_ORDER, encoding="utf-8")
        wasm = _componentize(wit, stage, place / "built.wasm")
        parts = sbom.compose(wasm, manifest, stage, own=own, sdk=sdk)
    wasm = append_section(wasm, SBOM_SECTION, parts)
    wasm = append_section(wasm, NOTICE_SECTION, _shipped("catalyst/NOTICE").read_bytes())
    return embed(wasm, *files)


def misspelt(directory: Path) -> Iterator[tuple[str, str]]:
    """Unknown fields of the manifest that resemble a known one, each with the known name. Raises ManifestError,
    InputError."""
    fields = FieldReader(parse_object(_files(directory).text, "the manifest", names_once=True), error=malformed)
    yield from ((name, near) for name, near in fields.unknown(FIELDS) if near)


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


def _shipped(part: str) -> Path:
    """The folder `wit` or `catalyst/sdk`, or the notices of what a component contains."""
    if (found := installation.shipped(part)) is None:
        raise BuildError(f"this installation lacks {part}", hint="install it again")
    return found


def _componentize(wit: Path, stage: Path, output: Path) -> bytes:
    spec = find_spec("componentize_py")
    if spec is None or spec.origin is None:
        raise BuildError("componentize-py is not installed", hint=installation.remedy("build"))
    argv = [
        sys.executable, "-c", _PROGRAM, str(Path(spec.origin).parents[1]),
        "-d", str(wit), "-w", "built", "componentize", "--stub-wasi", _FIRST, "-p", str(stage), "-o", str(output),
    ]  # fmt: skip
    # Without this variable it adds the packages of a Python in PATH. A guest could import them, and neither the sources
    # nor the SBOM would have them.
    (nothing := output.parent / "environment" / "lib" / "site-packages").mkdir(parents=True)
    env = environment.for_children() | {"VIRTUAL_ENV": str(nothing.parents[1])}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)  # noqa: S603 - our own interpreter
    if done.returncode != 0 or not output.is_file():
        said = "\n".join(_guest_lines(done.stderr or done.stdout))
        raise BuildError(f"componentize-py could not build it:\n{said}")
    return output.read_bytes()


def _guest_lines(stderr: str) -> Iterator[str]:
    """The part of componentize-py's messages about the guest: its traceback, without the tool's own."""
    lines = stderr.splitlines()
    begin = next((index for index, line in enumerate(lines) if line.startswith("AssertionError: ")), 0)
    for line in lines[begin:]:
        if line.startswith(("Stack backtrace", "Caused by")):
            return
        if shown := line.removeprefix("AssertionError: ").rstrip():
            yield shown.replace('"/0/', '"')
