"""`host inspect`: a component, and what it can and cannot reach."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from host.cli.inputs import is_reference, source_named
from host.cli.options import aliased_option, json_option, permission_options
from host.cli.output import missing_permissions
from host.cli.output.terminal import as_json, as_typed, errors_shown, local_time, one_line, put, size
from host.cli.permissions import RunPermissions, read_permissions
from host.cli.targets import FileTarget, InstalledTarget, RunTarget
from host.component.manifest import Manifest
from host.component.operations import OperationSpec
from host.component.wasm import Outline, read_outline
from host.core.limits import MIB
from host.core.names import Digest
from host.core.wit import EXPORTS, WASI_INERT
from host.errors import ArtifactError, InputError, ManifestError, NotAComponent
from host.policy.explain import Permission, list_permissions
from host.runtime.preload import Preload, load_file
from host.trust.artifact import read_component

if TYPE_CHECKING:
    from host.runtime.catalyst import Catalyst

_LISTED = 40  # operations, or kinds of them
_SANDBOXES = {
    "operation": "fresh for every operation",
    "key": "shared by the operations of an API key, one after the other (isolation = key)",
}


@click.command("inspect", short_help="Show what a component can and cannot reach.")
@click.argument("source", metavar="FILE|REF", nargs=-1, required=True)
@permission_options
@click.option("--sbom", "only_sbom", is_flag=True, help="Print the SBOM in the component alone: CycloneDX, JSON.")
@aliased_option(
    "--operation",
    "pattern",
    aliases=["--operations"],
    metavar="GLOB",
    help="List these operations alone, '*' or 'files.*'; a whole name shows one with its parameters.",
)
@json_option
def inspect(
    *,
    source: tuple[str, ...],
    only_sbom: bool,
    pattern: str | None,
    in_json: bool,
    **authority: Any,
) -> None:
    """Show the component in FILE, or the one that is installed under REF: its requests, and what it could reach with
    these options of `host run`. FILE may be `openai`, which comes with this program."""
    with errors_shown(in_json=in_json):
        name = source_named(source)
        with ExitStack() as stack:
            wasi = authority["allow_import"]
            kept = stack.enter_context(InstalledTarget(name, approved=False, wasi=wasi)) if is_reference(name) else None
            target: RunTarget = kept or FileTarget(Preload(partial(load_file, name, wasi=wasi)), name)
            try:
                granted = read_permissions(target.permissions, **authority)
                catalyst = stack.enter_context(target.catalyst(granted))
            except ArtifactError as refused:
                if kept is None:
                    _show_refused(name, refused, in_json=in_json)
                raise
            if only_sbom:
                put(_sbom_alone(catalyst, name))
                return
            if pattern is not None:
                put(_operations_alone(catalyst.operations, name, pattern, in_json=in_json))
                return
            rows = tuple(list_permissions(catalyst.imports, catalyst.grant))
            installation = kept.installation() if kept else {}
            if in_json:
                put(as_json({**installation, **_catalyst_facts(catalyst)}))
            else:
                put("\n".join(_page(catalyst, rows, granted, installation)))


def _catalyst_facts(catalyst: Catalyst) -> dict[str, Any]:
    from host.service import views  # noqa: PLC0415 - not for `--help`

    known, manifest = views.of_catalyst(catalyst), views.of_manifest(catalyst.manifest, whole=True)
    shown = views.picked(known, "digest", "size", "imports", "exports")
    return {
        **shown,
        "manifest": manifest,
        **views.picked(known, "authority", "isolation", "limits"),
        "sbom": _sbom(catalyst)[0],
    }


def _sbom(catalyst: Catalyst) -> tuple[Mapping[str, Any] | None, str]:
    """The component's document, or None and the reason. One that cannot be read does not hide the rest of the page."""
    try:
        found = catalyst.sbom
    except ManifestError as error:
        return None, f"cannot be read: {error.message}"
    return found, "none"


def _sbom_alone(catalyst: Catalyst, name: str) -> str:
    """Raises ManifestError, InputError."""
    if (found := catalyst.sbom) is None:
        raise InputError(f"{name} has no SBOM", field="--sbom", hint="`host build` puts one into what it builds")
    return as_json(found)


def _show_refused(path: str, refused: ArtifactError, *, in_json: bool) -> None:
    """What the component in the file at `path` asks for, although it is `refused`: read from its binary alone. Ends the
    program in JSON, where the reason is in the same object. Nothing is shown of what is no component."""
    from host.service import views  # noqa: PLC0415 - not for `--help`

    wasm = read_component(path)
    try:
        outline = read_outline(wasm)
    except NotAComponent:
        return
    except ArtifactError:  # there is too much of something
        outline = Outline((), ())
    try:
        manifest = Manifest.embedded(wasm)
    except ManifestError:
        manifest = None
    digest = str(Digest.of(wasm))
    if in_json:
        facts = {"digest": digest, "size": len(wasm), "imports": outline.imports, "exports": outline.exports}
        put(as_json({"error": refused.as_dict(), **facts, "manifest": views.of_manifest(manifest, whole=True)}))
        sys.exit(refused.exit_status)
    put("\n".join(_refused_page(path, manifest, digest, len(wasm), outline)))


def _page(
    catalyst: Catalyst, rows: Iterable[Permission], granted: RunPermissions, installation: Mapping[str, Any]
) -> Iterator[str]:
    yield from _title_lines(catalyst.reference, catalyst.manifest)
    yield f"digest   {catalyst.digest}"
    yield f"size     {size(catalyst.size)}"
    yield from map(as_typed, _installation_lines(**installation)) if installation else ()
    yield from _license_lines(catalyst.manifest)
    yield from _sbom_lines(*_sbom(catalyst))
    limits = catalyst.grant.limits
    yield (
        f"limits   {limits.timeout_s:g} s, {limits.cpu_time_s:g} s of CPU, {limits.max_memory_bytes // MIB} MiB of "
        f"memory, {limits.max_http_requests} requests a run"
    )
    yield f"streams  {limits.stream_timeout_s:g} s, {limits.idle_timeout_s:g} s without a byte"
    yield f"sandbox  {_SANDBOXES[catalyst.grant.isolation]}"
    yield f"exports  {', '.join(EXPORTS)}"
    yield from _import_lines(catalyst.imports)
    yield ""
    yield from _reach_lines(rows)
    yield from _operation_lines(catalyst.operations)
    yield from _next_lines(catalyst, granted)


def _refused_page(name: str, manifest: Manifest | None, digest: str, length: int, outline: Outline) -> Iterator[str]:
    yield from _title_lines(name, manifest)
    yield f"digest   {digest}"
    yield f"size     {size(length)}"
    yield from _license_lines(manifest)
    yield f"exports  {', '.join(map(one_line, outline.exports[:_LISTED])) or 'nothing'}"
    yield from _import_lines(outline.imports)
    if manifest is not None:
        yield ""
        yield "what its manifest asks for"
        yield f"  domains  {one_line(', '.join(manifest.domains or ())) or 'none is named'}"
        yield f"  secrets  {one_line(', '.join(need.name for need in manifest.secrets)) or 'none'}"
        yield from _operation_lines(manifest.operations)
    yield ""
    yield "it does not run here:"


def _title_lines(reference: str, manifest: Manifest | None) -> Iterator[str]:
    name = f"{manifest.id} {manifest.version}" if manifest else "(no manifest)"
    yield one_line(f"{reference} {name}")
    if manifest and manifest.description:
        yield one_line(manifest.description)
    yield ""


def _license_lines(manifest: Manifest | None) -> Iterator[str]:
    if manifest and manifest.license:
        yield f"license  {one_line(manifest.license)}"


def _sbom_lines(document: Mapping[str, Any] | None, reason: str) -> Iterator[str]:
    """What the component contains, and a digest of what it was built from."""
    if document is None:
        yield f"sbom     {one_line(reason)}"
        return
    from host.component import sbom  # noqa: PLC0415 - not for `--help`

    parts = list(sbom.named_parts(document))
    shown = ", ".join(parts[:_LISTED])
    more = f" and {len(parts) - _LISTED} more" if len(parts) > _LISTED else ""
    yield f"sbom     {one_line(shown + more) or 'no part is named'}"
    if sources := sbom.sources_of(document):
        yield f"sources  {one_line(sources)}"


def _import_lines(imports: Sequence[str]) -> Iterator[str]:
    """Each import, with what is special about it."""
    for index, name in enumerate(imports[:_LISTED] or ("nothing",)):
        inert = "  (inert: no directory is opened)" if WASI_INERT.match(name) else ""
        yield f"{'' if index else 'imports':9}{one_line(name)}{inert}"
    if len(imports) > _LISTED:
        yield f"{'':9}and {len(imports) - _LISTED} more"


def _installation_lines(
    *,
    reference: str,
    source: str,
    registered_at: float,
    approved: bool,
    serves: bool,
    pinned: bool,
    signers: Iterable[str],
    versions: Iterable[str],
    waiting: Mapping[str, str],
) -> Iterator[str]:
    """The source, the versions, the signatures and the approval."""
    del reference  # the page begins with it
    yield f"source   {one_line(source)}, {local_time(registered_at)}"
    yield f"versions {', '.join(versions)}"
    yield f"signed   {', '.join(f'by {signer}' for signer in signers) or 'by nobody that is trusted'}"
    yield f"approved {'yes' if approved else 'no: it does not run before `host approve`'}"
    if serves:
        yield f"serves   yes{', pinned: `host unpin` lets it go' if pinned else ''}"
    elif approved:
        yield "serves   no: another version is later, or pinned (`host list`)"
    for index, (name, digest) in enumerate(waiting.items()):
        short = Digest.parse(digest).short
        yield f"{'' if index else 'waits':9}{one_line(name)} ({short}): host approve {one_line(name)}"


def _reach_lines(rows: Iterable[Permission]) -> Iterator[str]:
    yield "what it can reach"
    for row in rows:
        first, *more = _detail(row)
        yield f"  {row.authority:22} {'yes' if row.can else 'no':4} {first}".rstrip()
        for text in more:
            yield f"{'':30}{text}"


def _detail(row: Permission) -> tuple[str, ...]:
    if not row.interface:
        return ("never: no import leads there",)
    if not row.imported:
        return ("not imported",)
    refused = tuple(f"{text} is asked for, not granted" for text in row.asked)
    return (*row.granted, *refused) or ("" if row.can else "nothing is granted",)


def _operations_alone(operations: Mapping[str, OperationSpec], of: str, pattern: str, *, in_json: bool) -> str:
    """The operation of this name with its parameters, or those of a pattern. Raises NotFound."""
    from host.service import views  # noqa: PLC0415 - not for `--help`
    from host.service.operations import described, matching  # noqa: PLC0415 - as above

    found = matching(operations, pattern)
    if not found or any(pattern in (one.name, *one.aliases) for one in found):
        one = described(operations, pattern, of)
        return as_json(views.of_operation(one)) if in_json else "\n".join(_described_lines(one))
    if in_json:
        return as_json({one.name: views.of_operation(one, whole=False) for one in found})
    width = max(len(one.name) for one in found)
    return "\n".join(_operation_line(one, width) for one in found)


def _described_lines(spec: OperationSpec) -> Iterator[str]:
    yield one_line(spec.name + (f", also {', '.join(spec.aliases)}" if spec.aliases else ""))
    yield one_line(spec.description)
    yield ""
    for what, said in (
        ("route", f"{spec.method} {spec.path}" + (" (a WebSocket)" if spec.websocket else "")),
        ("request", spec.request),
        ("answer", spec.response + ("" if not spec.stream else ", events" if not spec.always_streams else ": events")),
        ("secret", spec.secret),
    ):
        if said.strip():
            yield f"{what:9}{one_line(said)}"
    yield from ("", "params", as_json(spec.params))


def _operation_lines(operations: Mapping[str, OperationSpec]) -> Iterator[str]:
    """Each operation with its route; of many, the number of each kind."""
    if not operations:
        return
    from host.service.operations import kinds_of  # noqa: PLC0415 - not for `--help`

    yield ""
    yield f"what it can do: {len(operations)} operation{'s' if len(operations) > 1 else ''}"
    if len(operations) <= _LISTED:
        width = max(map(len, operations))
        yield from (f"  {_operation_line(one, width)}" for one in operations.values())
        return
    kinds = kinds_of(operations)
    for kind, count in list(kinds.items())[:_LISTED]:
        yield f"  {kind:22} {count}"
    if len(kinds) > _LISTED:
        yield f"  and {len(kinds) - _LISTED} other kinds"
    yield "  --operation '*' lists each, 'KIND.*' those of a kind; a whole name shows one with its parameters"


def _operation_line(spec: OperationSpec, width: int) -> str:
    marks = [
        *(["streams"] if spec.stream else []),
        *(["a WebSocket"] if spec.websocket else []),
        *([f"with {spec.secret}"] if spec.secret else []),
        *(["for keys that name it"] if spec.apart else []),
    ]
    more = f" ({', '.join(marks)})" if marks else ""
    return f"{spec.name:{width}}  {spec.method:6} {spec.path}{more}".rstrip()


def _next_lines(catalyst: Catalyst, granted: RunPermissions) -> Iterator[str]:
    """The options to add, and example inputs."""
    if open_ := missing_permissions.unmet(catalyst.manifest, granted):
        yield ""
        yield f"to grant what it asks for, add {open_.options()}"
    examples = [
        example["input"] for example in (catalyst.manifest.examples if catalyst.manifest else ()) if "input" in example
    ]
    if examples:
        yield ""
        yield "examples"
        for example in examples:
            yield f"  --input {shlex.quote(as_json(example, pretty=False))}"
