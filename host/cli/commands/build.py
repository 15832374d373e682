"""`host build`: a folder of Python to a component."""

from __future__ import annotations

from pathlib import Path

import click

from host.cli.inputs import write_bytes
from host.cli.output.terminal import errors_shown, say, size
from host.component.build import build as build_component
from host.component.build import misspelt
from host.errors import BuildError, InputError


@click.command("build", short_help="Make a component of a folder of Python.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The component.")
def build(directory: Path, output: Path) -> None:
    """Compile the catalyst in DIR (app.py, manifest.json) to the component FILE, and check it against the contract."""
    with errors_shown():
        if not directory.is_dir():
            raise InputError(f"DIR: {str(directory)!r} is not a directory", field="DIR")
        _make_folder(output.parent)
        from host.runtime.host import Host  # noqa: PLC0415 - brings wasmtime

        wasm = build_component(directory)
        with Host() as host:
            catalyst = host.load(wasm)
        beyond = [name for name in catalyst.imports if name.startswith("wasi:")]
        if beyond:
            raise BuildError(
                "the component imports " + ", ".join(beyond), hint="a catalyst imports nothing but the contract"
            )
        write_bytes(str(output), wasm, "--output")
        for name, meant in misspelt(directory):
            say(f"note: the manifest's field {name!r} is not known here; {meant!r} is")
        say(f"built {output}: {size(len(wasm))}, {catalyst.digest}")
        say("imports " + (", ".join(catalyst.imports) or "nothing"))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output: cannot make {str(folder)!r}: {error.strerror}", field="--output") from None
