"""From a folder of Python to a component: `host build`.

The folder has `app.py` (the entry module) and `cyfr-manifest.json` or `manifest.json`; `operations.json` too, if there
are many operations. componentize-py imports every interface of the world that it builds against, and a component's
imports are its capabilities. So the world has the interfaces that the manifest requests and no others. The top level of
the guest's modules runs during the build and may read the files of the folder, its manifest among them.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from host.component import sbom
from host.component.build import componentize, finish, fuse
from host.component.manifest import FIELDS, Manifest, ManifestFiles, embed, files_beside
from host.component.operation_schemas import malformed
from host.component.wasm import NOTICE_SECTION, SBOM_SECTION, append_section
from host.core import installation
from host.core.fields import FieldReader
from host.core.strict_json import Json, clean_text, parse_object
from host.core.wit import CAPABILITIES
from host.errors import BuildError, InputError, ManifestError

ENTRY = "app"

_SKIPPED = shutil.ignore_patterns("__pycache__", ".*", "*.pyc", "tests", "node_modules")
_MOST = 100_000  # files and folders: links to folders with links multiply
_DEEPEST = 64  # folders within each other


FirstBytes: TypeAlias = Callable[[bytes, Sequence[finish.Rehearsal]], Sequence[tuple[int, int]]]


def build(
    directory: Path,
    *,
    quick: bool = False,
    first_bytes: FirstBytes = lambda *_: (),
    note: Callable[[str], None] = lambda _: None,
) -> bytes:
    """The component of the catalyst in `directory`, with its manifest, its SBOM and metadata inside. Two builds of
    the same source differ in their bytes, and not in these. `quick` leaves out what makes its sandboxes faster.
    `first_bytes` is `host.sandbox.pages.first_bytes`, where there is a sandbox. `note` is told what could not be done
    here, in a sentence. Raises BuildError, ManifestError, InputError."""
    with tempfile.TemporaryDirectory(prefix="host-build-") as temporary:
        place = Path(temporary)
        wit, stage = place / "wit", place / "stage"
        _Sources(directory, stage).take()
        files = _files(stage, directory)
        manifest = Manifest.parse(files.text, lambda: files.schemas)
        manifest.check_schemas()
        if not (stage / f"{ENTRY}.py").is_file():
            hint = "that is the module whose class Run is the catalyst"
            raise InputError(f"{directory} has no {ENTRY}.py", hint=hint)
        shutil.copytree(_shipped("wit"), wit, ignore=_SKIPPED)
        own = sbom.digest_of(stage)
        _check_room(stage, _shipped("catalyst/sdk"))
        shutil.copytree(_shipped("catalyst/sdk"), stage / "catalyst" / "sdk", ignore=_SKIPPED, dirs_exist_ok=True)
        sdk = sbom.digest_of(stage / "catalyst" / "sdk", wit)
        (wit / "built.wit").write_text(_world(manifest), encoding="utf-8")
        (stage / "catalyst" / "__init__.py").touch()

        def make(folder: Path) -> bytes:
            return componentize.component_of(wit, "built", folder, finish.FIRST, place / "built.wasm")

        def written(core: bytes) -> Sequence[tuple[int, int]]:
            try:
                return first_bytes(core, rehearsals)
            except OSError as error:
                note(f"runs of it are slower than they could be: which pages they write is not known: {error}")
                return ()

        tools: list[str] = []
        rehearsals: Sequence[finish.Rehearsal] = ()
        if quick:
            wasm = finish.made(make, stage, finish.IN_ORDER)
        else:
            wasm, rehearsals = finish.finished(make, stage, [*_inputs(manifest)], note)
            try:
                wasm, tools = fuse.fused(wasm, written), [fuse.TOOL]
            except fuse.Unfused as error:
                note(f"a fresh sandbox of it takes half a millisecond longer than it could: {error}")
        parts = sbom.compose(wasm, manifest, stage, own=own, sdk=sdk, tools=tools)
    wasm = append_section(wasm, SBOM_SECTION, parts)
    wasm = append_section(wasm, NOTICE_SECTION, _shipped("catalyst/NOTICE").read_bytes())
    return embed(wasm, *files)


def misspelt(directory: Path) -> Iterator[tuple[str, str]]:
    """Unknown fields of the manifest that resemble a known one, each with the known name. Raises ManifestError,
    InputError."""
    fields = FieldReader(
        parse_object(_files(directory, directory).text, "the manifest", names_once=True), error=malformed
    )
    yield from ((name, near) for name, near in fields.unknown(FIELDS) if near)


class _Sources:
    """What a build takes of a catalyst's folder.

    The folder may be a stranger's, and may change meanwhile. So nothing in it is opened through a link. A link becomes
    a copy of what it leads to, which is taken from the stage: what was left out there cannot be had by another name."""

    def __init__(self, directory: Path, stage: Path) -> None:
        self._directory, self._whole, self._stage = directory, directory.resolve(), stage
        self._links: list[Path] = []
        self._below = defaultdict[Path, list[Path]](list)  # the links in a folder and in all folders in it
        self._replacing: set[Path] = set()
        self._made = 0

    def take(self) -> None:
        """Make the folder `stage`, with copies of files and folders alone. Raises InputError for what cannot be copied,
        and for a link to what is not in the folder or what a build leaves out."""
        with _readable(self._directory), _opened(self._directory, os.O_DIRECTORY) as folder:
            self._take_all(folder, Path())
        for link in self._links:
            self._replace(link)

    def _take_all(self, folder: int, path: Path) -> None:
        """What is in the open `folder`, as the folder `path` of the stage."""
        (self._stage / path).mkdir()
        names = os.listdir(folder)
        for name in sorted({*names} - _SKIPPED("", names)):
            with _readable(path / name):
                self._take(folder, name, path / name)

    def _take(self, folder: int, name: str, path: Path) -> None:
        """`name` in the open `folder`, as `path` in the stage."""
        self._made += 1
        if self._made > _MOST or len(path.parts) > _DEEPEST:
            raise _too_much(path)
        if clean_text(name) != name:
            raise _refused(path, "has a name that is not UTF-8")
        kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISLNK(kind):
            self._links.append(path)
            for around in path.parents:
                self._below[around].append(path)
            return
        _check_kind(path, kind)
        with _opened(name, os.O_NOFOLLOW | os.O_NONBLOCK, folder) as opened:
            _check_kind(path, (about := os.fstat(opened)).st_mode)  # it may be another one by now
            if stat.S_ISDIR(about.st_mode):
                self._take_all(opened, path)
                return
            with open(opened, "rb", closefd=False) as source, (self._stage / path).open("xb") as made:
                shutil.copyfileobj(source, made)
            os.utime(self._stage / path, ns=(about.st_atime_ns, about.st_mtime_ns))

    def _replace(self, link: Path) -> None:
        """Put a copy in the place of `link`, and before that, of the links in what it leads to."""
        if link in self._replacing:
            raise _refused(link, "is a link that leads back to itself")
        if (self._stage / link).exists():
            return
        self._replacing.add(link)
        if len(self._replacing) > _DEEPEST:
            raise _too_much(link)
        target = self._target_of(link)
        for inner in self._below.get(target, ()):
            self._replace(inner)
        with _readable(link), _opened((self._stage / target).parent, os.O_DIRECTORY) as folder:
            self._take(folder, target.name, link)
        self._replacing.remove(link)

    def _target_of(self, link: Path) -> Path:
        """Where `link` leads, in the stage. Raises InputError."""
        try:
            found = (self._whole / link).resolve()
        except (OSError, RuntimeError):  # a circle
            raise _refused(link, "is a link to nothing") from None
        target = found.relative_to(self._whole) if found.is_relative_to(self._whole) else None
        if target is None or link.parent.is_relative_to(target):
            raise _refused(link, "is a link out of its folder", "a copy in its place")
        if _SKIPPED("", [*target.parts]):
            raise _refused(link, f"is a link to {_shown(target)}, which a build leaves out", "a copy in its place")
        if not (self._stage / target).exists():
            raise _refused(link, "is a link to nothing")
        return target


@contextmanager
def _opened(path: str | Path, flags: int, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """An OSError is raised as InputError."""
    try:
        yield
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from None


def _check_kind(path: Path, mode: int) -> None:
    """Raises InputError."""
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise _refused(path, "is neither a file nor a folder")


def _check_room(stage: Path, sdk: Path) -> None:
    """Raises InputError where a folder stands in the place of a file that the build puts there, or a file in that of a
    folder."""
    at = Path("catalyst", "sdk")
    files = {Path(f"{finish.FIRST}.py"), at.with_name("__init__.py")}
    files |= {at / one.relative_to(sdk) for one in sdk.rglob("*.py")}
    for path, is_folder in [*((one, False) for one in sorted(files)), (at.parent, True), (at, True)]:
        if (stage / path).exists() and (stage / path).is_dir() is not is_folder:
            raise _refused(path, "is in the place of what a build puts there", "another name for it")


def _refused(path: Path, why: str, hint: str = "remove it, or put a copy in its place") -> InputError:
    return InputError(f"{_shown(path)} {why}", field=_shown(path), hint=hint)


def _too_much(path: Path) -> InputError:
    words = f"the folder has more than {_MOST} files, or more than {_DEEPEST} folders within each other"
    return InputError(words, field=_shown(path), hint="what a link leads to counts as a copy of it")


def _shown(path: Path) -> str:
    return clean_text(path.as_posix())


def _files(place: Path, directory: Path) -> ManifestFiles:
    """The manifest in `place`, a copy of `directory`. Raises ManifestError, InputError."""
    try:
        if (found := files_beside(place)) is not None:
            return found
    except ManifestError as error:
        raise ManifestError(error.message.replace(str(place), str(directory)), hint=error.hint) from None
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
