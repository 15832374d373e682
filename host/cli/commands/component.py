"""The installed components: `host register`, `unregister`, `list`, `search`, `approve`, `pin`, `pull` and `push`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from host.cli.inputs import opened, source_named
from host.cli.options import allow_import_option, json_option, yes_option
from host.cli.output.component import as_facts, more_operations, next_step, serving_line, state_of, waiting_line
from host.cli.output.terminal import (
    ProgressBars,
    agree,
    as_json,
    as_line,
    confirmed,
    errors_shown,
    may_ask,
    one_line,
    put,
    say,
    size,
    table,
    terminal_width,
    working,
)
from host.core.installation import component_file
from host.core.names import Reference, check_version
from host.errors import HostError, InputError, NotApproved

if TYPE_CHECKING:
    from host.runtime.workspace import Installed, Workspace
    from host.store.components import Component, Review


@click.command("register", short_help="Install a component under its reference.")
@click.argument("path", metavar="[DIR|FILE]", default=".")
@click.option("--as", "name", metavar="REF", help="Its reference, if its manifest has none: c:local.x:0.1.0.")
@click.option("--replace", is_flag=True, help="Replace other bytes of the same version.")
@click.option("--allow-older", is_flag=True, help="Install it although a newer version was installed before.")
@allow_import_option
@json_option
def register(
    *, path: str, name: str | None, replace: bool, allow_older: bool, allow_import: tuple[str, ...], in_json: bool
) -> None:
    """Install the component in FILE, or all in DIR (default: this folder): the *.wasm files there, or in its dist
    folder.

    The reference is in the manifest inside the component, or in cyfr-manifest.json beside it, or is given with --as. A
    signature is taken from FILE.sigstore.json. FILE may be `openai`, which comes with this program.

    \b
    host register openai
    host run c:local.openai --input '{"operation": "models.list"}'
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown(in_json=in_json):
        from host.runtime.loader import Loader  # noqa: PLC0415 - not for `--help`

        reference = Reference.parse(name) if name else None
        if reference is not None and not reference.version:
            raise InputError("--as: a version is missing", field="--as", hint=f"--as {reference.at('0.1.0')}")
        files = components_at(component_file(path))
        if reference is not None and len(files) > 1:
            raise InputError(f"--as: {len(files)} components are in {path!r}", field="--as", hint="name one file")
        with opened() as workspace:
            loader = Loader()
            found = []
            for file in files:
                waiting = nullcontext() if in_json else working(f"compiling and checking {file.name}")
                with _named(file, of_several=len(files) > 1), waiting:
                    one = workspace.register(
                        file, loader, reference=reference, replace=replace, older=allow_older, wasi=allow_import
                    )
                found.append(as_facts(one))
                if not in_json:
                    put(one_line(f"{one.reference} {one.digest.short} {one.description}"))
                    say(next_step(workspace, _reviewed(workspace, one)))
        if in_json:
            put(as_json(found))


@contextmanager
def _named(file: Path, *, of_several: bool) -> Iterator[None]:
    """Put the file's name before the message of an error, if there are several files."""
    try:
        yield
    except HostError as error:
        if of_several:
            error.message = f"{file.name!r}: {error.message}"
        raise


def components_at(path: Path) -> list[Path]:
    """The file at `path`, or the components in the folder there. Raises InputError if there are none."""
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


@click.command("unregister", short_help="Remove what is installed.")
@click.argument("reference", metavar="REF", nargs=-1, required=True)
@click.option("--waiting", is_flag=True, help="Only what waits for approval.")
@yes_option
@json_option
def unregister(*, reference: tuple[str, ...], waiting: bool, yes: bool, in_json: bool) -> None:
    """Remove the version that REF names, or all versions. Policies, grants and the audit log stay."""
    with errors_shown(in_json=in_json):
        named = Reference.parse(source_named(reference))
        with opened() as workspace:
            found = [str(one.reference) for one in workspace.components.versions(named)]
            if found and not waiting:
                agree(f"Remove {', '.join(found)}, with the signatures?", yes=yes)
            gone = workspace.components.unregister(named, waiting=waiting)
        if in_json:
            put(as_json([{"reference": str(one.reference), "digest": str(one.digest)} for one in gone]))
            return
        for one in gone:
            put(f"{one.reference} {one.digest.short}")
        if waiting:
            return
        say(f"removed; what was granted to it stays: host policy reset {named}, host secret revoke {named} NAME")


@click.command("list", short_help="List what is installed.")
@json_option
def list_(*, in_json: bool) -> None:
    """List the installed components by reference. Of each name one version serves: the latest that is approved, or the
    one that is pinned. A version that waits does so beside it, until `host approve`."""
    with errors_shown(in_json=in_json), opened() as workspace:
        show(workspace.components.all(), in_json=in_json, none="nothing is installed: host register, or host pull")


def show(found: Iterable[Component], *, in_json: bool, none: str) -> None:
    components = list(found)
    if in_json:
        put(as_json([as_facts(one) for one in components]))
        return
    if not components:
        say(none)
    for line in table(
        ("reference", "digest", "size", "state", "description"),
        ((str(one.reference), one.digest.short, size(one.size), state_of(one), one.description) for one in components),
        width=terminal_width(),
    ):
        put(line)
    for one in components:
        if not one.approved:
            say(waiting_line(one))


@click.command("search", short_help="Search what is installed.")
@click.argument("words", nargs=-1, required=True)
@json_option
def search(*, words: tuple[str, ...], in_json: bool) -> None:
    """List the installed components that have all of WORDS in their name, description, imports or secrets."""
    with errors_shown(in_json=in_json):
        text = " ".join(words)
        with opened() as workspace:
            show(workspace.components.search(text), in_json=in_json, none=f"nothing that is installed has {text!r}")


@click.command("approve", short_help="Let a component's new bytes use what was granted.")
@click.argument("reference", metavar="REF", nargs=-1, required=True)
@yes_option
@json_option
def approve(*, reference: tuple[str, ...], yes: bool, in_json: bool) -> None:
    """Compare the requests of REF's bytes with those of the bytes that were approved last, show what is granted, and
    approve them.

    A grant is for approved bytes. Other bytes under the same name do not run before they are approved, whatever their
    version. Without a version, REF means the highest that waits.
    """
    with errors_shown(in_json=in_json):
        named = Reference.parse(source_named(reference))
        with opened() as workspace:
            installed = workspace.installed(workspace.components.waiting(named), approved=False)
            component = installed.component
            if component.approved:
                say(f"{component.reference} ({component.digest.short}) is approved already")
            elif not _approved(workspace, installed, yes=yes, in_json=in_json):
                raise NotApproved(f"{component.reference} is not approved", hint="answer with yes, or add --yes")
            elif not in_json:
                say(f"approved: {component.reference} ({component.digest.short})")
            component = workspace.components.now(component)
            if in_json:
                put(as_json(as_facts(component)))
            elif not component.serves:
                say(serving_line(workspace.components.resolve(component.reference.any_version)))


@click.command("pin", short_help="Choose the version that serves.")
@click.argument("reference", metavar="REF")
@click.argument("version", metavar="[VERSION]", required=False)
@json_option
def pin(*, reference: str, version: str | None, in_json: bool) -> None:
    """Let REF, where it names no version, mean this VERSION, until another is pinned or `host unpin REF`. Without a
    pin it means the latest version that is approved. A server follows within a second.

    \b
    host pin c:local.openai 0.1.0
    """  # noqa: D301 - see register
    with errors_shown(in_json=in_json):
        named = Reference.parse(reference)
        if version in (None, "latest") or (named.version and version != named.version):
            if not named.version or version is not None:
                raise InputError(
                    "one version is pinned, by its number", field="VERSION", hint=f"host unpin {named.any_version}"
                )
            version = named.version
        with opened() as workspace:
            pinned = workspace.components.pin(named.any_version.at(check_version(str(version))))
        _show_serving(pinned, in_json=in_json)


def _show_serving(component: Component, *, in_json: bool) -> None:
    if in_json:
        put(as_json(as_facts(component)))
    else:
        say(serving_line(component))


@click.command("unpin", short_help="Let the latest approved version serve again.")
@click.argument("reference", metavar="REF", nargs=-1, required=True)
@json_option
def unpin(*, reference: tuple[str, ...], in_json: bool) -> None:
    """Let REF mean its latest approved version again."""
    with errors_shown(in_json=in_json):
        named = Reference.parse(source_named(reference))
        with opened() as workspace:
            workspace.components.unpin(named)
            serving = workspace.components.resolve(named.any_version)
        _show_serving(serving, in_json=in_json)


def _reviewed(workspace: Workspace, component: Component) -> Component:
    """`component`, whose approval is asked for on a terminal, if it waits for it."""
    if not component.approved and may_ask():
        say("something is granted to this name, and these bytes are new to it")
        _approved(workspace, workspace.installed(component, approved=False), yes=False)
    return workspace.components.now(component)


def _approved(workspace: Workspace, installed: Installed, *, yes: bool, in_json: bool = False) -> bool:
    """Show what the approval allows, ask for it unless `yes`, and approve. Returns whether it was."""
    component = installed.component
    review = workspace.review(component)
    versions = workspace.components.versions(component.reference.any_version)
    before = next((one for one in versions if one.digest == review.before), None)
    for line in (*_page(review, installed), *more_operations(before, component)):
        (say if in_json else put)(as_line(line))
    if not yes and not (may_ask() and confirmed("Approve these bytes?")):
        return False
    workspace.components.approve(component)
    return True


def _page(review: Review, installed: Installed) -> Iterator[str]:
    component, difference = review.component, review.difference
    before = review.before.short if review.before else "none"
    yield f"{component.reference}: {before} was approved, {component.digest.short} is new"
    yield f"signed {', '.join(f'by {signer}' for signer in installed.signers) or 'by nobody that is trusted'}"
    yield ""
    yield "it asks for" + ("" if difference.more or difference.less else " the same as before")
    for kind, name in difference.more:
        yield f"+ {kind} {name}"
    for kind, name in difference.less:
        yield f"- {kind} {name}"
    yield ""
    yield "it will be granted"
    domains = ", ".join(installed.effective.policy.allowed_domains) or "no domain"
    yield f"  domains {domains}"
    yield f"  secrets {', '.join(map(str, installed.secrets)) or 'none'}"


@click.command("pull", short_help="Install a component from a registry.")
@click.argument("source", metavar="oci://REGISTRY/NAME[:TAG][@DIGEST]")
@click.option("--replace", is_flag=True, help="Replace other bytes of the same version.")
@click.option("--allow-older", is_flag=True, help="Install it although a newer version was installed before.")
@allow_import_option
@click.option("--plain-http", is_flag=True, help="Use HTTP without TLS. On loopback it is allowed anyway.")
@json_option
def pull(
    *, source: str, replace: bool, allow_older: bool, allow_import: tuple[str, ...], plain_http: bool, in_json: bool
) -> None:
    """Install the component that an OCI reference names, under the reference in its manifest.

    Its signatures are pulled with it, and verified as `host trust` says before it is installed. Credentials are
    docker's: see `docker login`.
    """
    with errors_shown(in_json=in_json):
        from host.runtime.loader import Loader  # noqa: PLC0415 - not for `--help`

        with opened() as workspace:
            one = workspace.pull(
                source,
                Loader(),
                replace=replace,
                older=allow_older,
                wasi=allow_import,
                plain_http=plain_http,
                progress=ProgressBars(),
            )
            step = "" if in_json else next_step(workspace, _reviewed(workspace, one))
        if in_json:
            put(as_json(as_facts(one)))
            return
        put(one_line(f"{one.reference} {one.digest.short} {one.description}"))
        say(step)


@click.command("push", short_help="Put a component into a registry.")
@click.argument("reference", metavar="REF", nargs=-1, required=True)
@click.argument("target", metavar="oci://REGISTRY/NAME[:TAG]")
@click.option("--plain-http", is_flag=True, help="Use HTTP without TLS. On loopback it is allowed anyway.")
@json_option
def push(*, reference: tuple[str, ...], target: str, plain_http: bool, in_json: bool) -> None:
    """Put the component that is installed under REF, and its signatures, into a registry. Print the OCI reference
    with the digest, which names exactly these bytes.

    Credentials are docker's: see `docker login`.
    """
    with errors_shown(in_json=in_json):
        from host.oci.reference import OciReference  # noqa: PLC0415 - not for `--help`

        named = Reference.parse(source_named(reference))
        at = OciReference.parse(target)
        with opened() as workspace:
            component = workspace.components.resolve(named)
            if not workspace.components.bundles(component.digest):
                say(f"{component.reference} is not signed, and so nobody can pull it: host sign {component.reference}")
            digest = workspace.push(component.reference, target, plain_http=plain_http, progress=ProgressBars())
        pushed = str(replace(at, tag="", digest=digest))
        facts = {"source": pushed, "reference": str(component.reference), "digest": str(component.digest)}
        put(as_json(facts) if in_json else pushed)
