"""`host build`: a folder of Python to a component."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import click

from host.cli.inputs import opened, present, write_output
from host.cli.options import json_option, output_option
from host.cli.output.terminal import as_json, errors_shown, put, say, size, working
from host.component.build import build as build_component
from host.component.build import misspelt
from host.component.manifest import Manifest
from host.core.names import Digest
from host.errors import BuildError, HostError, InputError


@click.command("build", short_help="Make a component of a folder of Python.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@output_option("Write the component to this file; - is standard output.", required=True)
@click.option("--quick", is_flag=True, help="Leave out what makes runs of it faster, and takes time here.")
@json_option
def build(*, directory: Path, output: str, quick: bool, in_json: bool) -> None:
    """Compile the catalyst in DIR (app.py, manifest.json) to the component FILE, and check it against the contract.

    The build is noted in the state, if there is one: what was built here, in the folder of the approved bytes, and asks
    for nothing more than they do, is approved when it is registered.
    """
    with errors_shown(in_json=in_json):
        if not directory.is_dir():
            raise InputError(f"DIR: {str(directory)!r} is not a directory", field="DIR")
        if output == "-" and (in_json or sys.stdout.isatty()):
            raise InputError("--output: standard output is no place for it here", field="--output", hint="-o tool.wasm")
        _make_folder(Path(output).parent)
        from host.runtime.host import Host  # noqa: PLC0415 - brings wasmtime
        from host.sandbox.pages import first_bytes  # noqa: PLC0415 - the same

        notes: list[str] = []
        with nullcontext() if in_json else working(f"building {directory}"):
            wasm = build_component(directory, quick=quick, first_bytes=first_bytes, note=notes.append)
        with Host() as host, nullcontext() if in_json else working("compiling and checking it"):
            catalyst = host.load(wasm)
        beyond = [name for name in catalyst.imports if name.startswith("wasi:")]
        if beyond:
            raise BuildError(
                "the component imports " + ", ".join(beyond), hint="a catalyst imports nothing but the contract"
            )
        write_output(output, wasm)
        for name, meant in misspelt(directory):
            notes.append(f"the manifest's field {name!r} is not known here; {meant!r} is")
        for one in notes:
            say(f"note: {one}")
        _note(directory, wasm, catalyst.digest)
        if in_json:
            facts = {"output": output, "size": len(wasm), "digest": str(catalyst.digest)}
            put(as_json({**facts, "imports": list(catalyst.imports)}))
            return
        say(f"built {output}: {size(len(wasm))}, {catalyst.digest}")
        say("imports " + (", ".join(catalyst.imports) or "nothing"))


def _note(directory: Path, wasm: bytes, digest: Digest) -> None:
    """Note the build in the state. It is no reason for a build to fail that this cannot be done."""
    if (named := Manifest.embedded(wasm)) is None or named.reference is None or not present():
        return
    try:
        with opened() as workspace:
            workspace.components.note_build(named.reference.any_version, digest, directory)
    except HostError as error:
        say(f"note: the state has no note of this build, so `host approve` may be needed: {error.message}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output: cannot make {str(folder)!r}: {error.strerror}", field="--output") from None
