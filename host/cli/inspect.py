"""`host inspect`: what a component is, and what it can and cannot reach."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import click

from host.ahead import Ahead, load_file
from host.cli import needs
from host.cli.authority import Given, given
from host.cli.options import authority_options
from host.cli.origins import File, Kept, Origin
from host.cli.show import as_json, errors_shown, local_time, one_line, put, size
from host.cli.sources import is_reference, source_named
from host.contract import CAPABILITIES, CONFIG, EXPORTS, FETCH, LOG, OUTPUT, SECRETS, STREAMING
from host.limits import MIB
from host.policy.asked import Asked
from host.policy.grant import Grant, overlap
from host.policy.secrets import PLACES, Place, SecretGrant
from host.runtime import Catalyst

_TITLES = {
    FETCH: "HTTP requests",
    STREAMING: "streamed answers",
    SECRETS: "secrets",
    OUTPUT: "events to its caller",
    CONFIG: "its configuration",
    LOG: "log messages",
}
_PLACES: dict[Place, str] = {"header": "a header", "url": "the URL", "body": "the body"}
_NEVER = ("files", "sockets", "environment variables", "other programs", "other catalysts")


@dataclass(frozen=True, slots=True)
class Row:
    """One authority; `interface` is empty where no import leads to it. `granted` is what of it the operator grants,
    `asked` what the manifest asks for beyond that: both empty where no grant is needed."""

    authority: str
    interface: str
    imported: bool
    can: bool
    granted: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


@click.command("inspect", short_help="Show what a component can and cannot reach.")
@click.argument("source", metavar="FILE|REF", nargs=-1, required=True)
@authority_options
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
def command(*, source: tuple[str, ...], in_json: bool, **authority: Any) -> None:
    """Show what the component in FILE, or the one installed under REF, is and asks for, and what it could reach with
    these options of `host run`."""
    with errors_shown(in_json=in_json):
        name = source_named(source)
        with ExitStack() as stack:
            wasi = authority["allow_import"]
            kept = stack.enter_context(Kept(name, approved=False, wasi=wasi)) if is_reference(name) else None
            origin: Origin = kept or File(Ahead(partial(load_file, name, wasi=wasi)), name)
            granted = given(origin.standing, **authority)
            catalyst = stack.enter_context(origin.catalyst(granted))
            rows = tuple(_rows(catalyst.imports, catalyst.grant))
            installation = kept.installation() if kept else {}
            if in_json:
                put(as_json({**installation, **_facts(catalyst, rows)}))
            else:
                put("\n".join(_page(catalyst, rows, granted, installation)))


def _facts(catalyst: Catalyst, rows: Iterable[Row]) -> dict[str, Any]:
    manifest = catalyst.manifest
    return {
        "digest": str(catalyst.digest),
        "size": catalyst.size,
        "imports": list(catalyst.imports),
        "exports": list(EXPORTS),
        "manifest": None if manifest is None else asdict(manifest),
        "authority": [asdict(row) for row in rows],
        "limits": asdict(catalyst.grant.limits),
    }


def _rows(imports: Iterable[str], grant: Grant) -> Iterator[Row]:
    imported = frozenset(imports)
    for interface in CAPABILITIES.values():
        title = _TITLES[interface]
        if interface not in imported:
            yield Row(title, interface, imported=False, can=False)
        elif interface in (FETCH, STREAMING):
            domains, open_ = _domains(grant, grant.asked)
            yield Row(title, interface, imported=True, can=bool(domains), granted=domains, asked=open_)
        elif interface == SECRETS:
            secrets, open_ = _secrets(grant, grant.asked)
            yield Row(title, interface, imported=True, can=bool(secrets), granted=secrets, asked=open_)
        else:
            yield Row(title, interface, imported=True, can=True)
    for interface in sorted(name for name in imported if name.startswith("wasi:")):
        yield Row(interface, interface, imported=True, can=True)
    for title in _NEVER:
        yield Row(title, "", imported=False, can=False)


def _domains(grant: Grant, asked: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The domains that it can reach, and those that it asks for and cannot."""
    wanted = asked.domains
    allowed = [one for one in grant.domains if wanted is None or any(overlap(one, want) for want in wanted)]
    sent = {(source.scheme, source.host, source.port): target for source, target in grant.upstreams.items()}
    return (
        tuple(
            f"{one}, sent to {sent[at]}" if (at := (one.scheme, one.host, one.port)) in sent else str(one)
            for one in allowed
        ),
        tuple(str(want) for want in wanted or () if not any(overlap(one, want) for one in allowed)),
    )


def _secrets(grant: Grant, asked: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The secrets that it can use, with where they go, and those that it asks for and cannot."""
    return (
        tuple(_secret(one) for one in grant.secrets.values()),
        tuple(sorted(str(name) for name in asked.secrets or () if name not in grant.secrets)),
    )


def _secret(grant: SecretGrant) -> str:
    domains = ", ".join(str(domain) for domain in grant.domains or ()) or "no domain"
    seen = "; the guest sees its value" if grant.reveal else ""
    places = " and ".join(_PLACES[place] for place in PLACES if place in grant.places)
    return f"{grant.name}, in {places}, to {domains}{seen}"


def _page(catalyst: Catalyst, rows: Iterable[Row], granted: Given, installation: Mapping[str, Any]) -> Iterator[str]:
    manifest = catalyst.manifest
    name = f"{manifest.id} {manifest.version}" if manifest else "(no manifest)"
    yield one_line(f"{catalyst.reference} {name}")
    if manifest and manifest.description:
        yield one_line(manifest.description)
    yield ""
    yield f"digest   {catalyst.digest}"
    yield f"size     {size(catalyst.size)}"
    yield from _installation(**installation) if installation else ()
    if manifest and manifest.license:
        yield f"license  {one_line(manifest.license)}"
    limits = catalyst.grant.limits
    yield (
        f"limits   {limits.timeout_s:g} s, {limits.cpu_time_s:g} s of CPU, {limits.max_memory_bytes // MIB} MiB of "
        f"memory, {limits.max_http_requests} requests a run"
    )
    yield f"exports  {', '.join(EXPORTS)}"
    for index, name in enumerate(catalyst.imports or ("nothing",)):
        yield f"{'' if index else 'imports':9}{name}"
    yield ""
    yield from _table(rows)
    yield from _ending(catalyst, granted)


def _installation(
    *,
    reference: str,
    source: str,
    registered_at: float,
    approved: bool,
    signers: Iterable[str],
    versions: Iterable[str],
) -> Iterator[str]:
    """How it came to be installed."""
    del reference  # the page begins with it
    yield f"source   {one_line(source)}, {local_time(registered_at)}"
    yield f"versions {', '.join(versions)}"
    yield f"signed   {', '.join(f'by {signer}' for signer in signers) or 'by nobody that is trusted'}"
    yield f"approved {'yes' if approved else 'no: it does not run before `host approve`'}"


def _table(rows: Iterable[Row]) -> Iterator[str]:
    yield "what it can reach"
    for row in rows:
        first, *more = _said(row)
        yield f"  {row.authority:22} {'yes' if row.can else 'no':4} {first}".rstrip()
        for text in more:
            yield f"{'':30}{text}"


def _said(row: Row) -> tuple[str, ...]:
    if not row.interface:
        return ("never: no import leads there",)
    if not row.imported:
        return ("not imported",)
    refused = tuple(f"{text} is asked for, not granted" for text in row.asked)
    return (*row.granted, *refused) or ("" if row.can else "nothing is granted",)


def _ending(catalyst: Catalyst, granted: Given) -> Iterator[str]:
    """What to type next."""
    if open_ := needs.unmet(catalyst.manifest, granted):
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
