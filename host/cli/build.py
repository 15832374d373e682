"""`host build`: a folder of Python to a component."""

from __future__ import annotations

from pathlib import Path

import click

from host import environment
from host.builder import build
from host.cli.show import errors_shown, say, size
from host.errors import BuildError
from host.sandbox import Sandbox
from host.trust.artifact import admit


@click.command("build")
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
def command(directory: Path, output: Path) -> None:
    """Compile the catalyst in DIR (app.py, manifest.json) to the component FILE, and check it against the contract."""
    with errors_shown():
        wasm = build(directory)
        artifact = admit(wasm)
        sandbox = Sandbox(environment.cache_dir(), environment.state_dir())
        loaded = sandbox.load(wasm, artifact.digest)
        sandbox.close()
        beyond = [name for name in loaded.imports if name.startswith("wasi:")]
        if beyond:
            raise BuildError(
                "the component imports " + ", ".join(beyond), hint="a catalyst imports nothing but the contract"
            )
        if artifact.manifest is not None:
            artifact.manifest.check_imports(loaded.imports)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(wasm)
        say(f"built {output}: {size(len(wasm))}, {artifact.digest}")
        say("imports " + (", ".join(loaded.imports) or "nothing"))
