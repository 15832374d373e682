"""`host register`: installs components from files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from host.cli.components import as_facts, next_step
from host.cli.show import as_json, errors_shown, one_line, put, say
from host.cli.state import opened
from host.errors import HostError, InputError
from host.names import Reference


@click.command("register", short_help="Install a component under its reference.")
@click.argument("path", metavar="[DIR|FILE]", default=".")
@click.option(
    "--as", "name", metavar="REF", help="What it is called, where its manifest does not say: c:local.x:0.1.0."
)
@click.option("--replace", is_flag=True, help="Take the place of other bytes of the same version.")
@click.option("--allow-older", is_flag=True, help="Although a newer version was installed before.")
@click.option("--allow-import", multiple=True, metavar="NAME", help="A part of WASI that it may import, as for `run`.")
@click.option("--json", "in_json", is_flag=True, help="Print a JSON list.")
def command(
    *, path: str, name: str | None, replace: bool, allow_older: bool, allow_import: tuple[str, ...], in_json: bool
) -> None:
    """Install the component in FILE, or those in DIR (default: here): its *.wasm files, or those of its dist folder.

    The manifest inside it names it, or cyfr-manifest.json beside it, or --as. A signature is looked for beside it, as
    FILE.sigstore.json.

    \b
    host register dist/openai.wasm
    host run c:local.openai --input '{"operation": "models.list"}'
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown(in_json=in_json):
        from host.loader import Loader  # noqa: PLC0415 - not for `--help`

        reference = Reference.parse(name) if name else None
        if reference is not None and not reference.version:
            raise InputError("--as: a version is missing", field="--as", hint=f"--as {reference.at('0.1.0')}")
        files = components_at(Path(path))
        if reference is not None and len(files) > 1:
            raise InputError(f"--as: {len(files)} components are in {path!r}", field="--as", hint="name one file")
        with opened() as workspace:
            loader = Loader()
            found = []
            for file in files:
                with _named(file, of_several=len(files) > 1):
                    one = workspace.register(
                        file, loader, reference=reference, replace=replace, older=allow_older, wasi=allow_import
                    )
                found.append(as_facts(one))
                if not in_json:
                    put(one_line(f"{one.reference} {one.digest.short} {one.description}"))
                    say(next_step(workspace, one))
        if in_json:
            put(as_json(found))


@contextmanager
def _named(file: Path, *, of_several: bool) -> Iterator[None]:
    """Puts the file's name before whatever is wrong with it, where it could be another's."""
    try:
        yield
    except HostError as error:
        if of_several:
            error.message = f"{file.name!r}: {error.message}"
        raise


def components_at(path: Path) -> list[Path]:
    """The components that a path means. Raises InputError where there are none."""
    if not path.is_dir():
        return [path]
    found = next((files for files in _places(path) if files), [])
    if not found:
        raise InputError(
            f"there is no component in {str(path)!r}: no *.wasm there, nor in its dist folder",
            field="DIR|FILE",
            hint="name a file, or build one: host build DIR",
        )
    return found


def _places(folder: Path) -> Iterator[list[Path]]:
    for place in (folder, folder / "dist"):
        yield sorted(file for file in place.glob("*.wasm") if file.is_file())
