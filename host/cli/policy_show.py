"""`host policy show`: what is set for a reference, or what holds for it and where that comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import click

from host.cli.policy_text import EXAMPLES, default
from host.cli.show import as_json, as_words, errors_shown, put, say
from host.cli.state import opened
from host.foresight import Foreseen, foresee
from host.jsontext import Json
from host.names import Reference
from host.policy.grant import overlap
from host.policy.kept import DEFAULT


@click.command("show", short_help="Show what is set.")
@click.argument("reference", metavar="REF")
@click.option(
    "--effective", is_flag=True, help="Every field: its value, where it comes from, what the manifest leaves."
)
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
def show(*, reference: str, effective: bool, in_json: bool) -> None:
    """Show what is set for exactly REF; with --effective, what a run of REF may reach and spend."""
    with errors_shown(in_json=in_json):
        named = Reference.parse(reference)
        with opened() as workspace:
            if effective:
                foreseen = foresee(workspace, named)
                merged = workspace.policies.merged(foreseen.reference)
                values = {field: (merged[field].value if field in merged else default(field)) for field in EXAMPLES}
                origins = {field: str(merged[field].scope) if field in merged else DEFAULT for field in EXAMPLES}
                _show_effective(foreseen, values, origins, in_json=in_json)
            else:
                _show(named, workspace.policies.document(named), in_json=in_json)


def _show(reference: Reference, document: dict[str, Json], *, in_json: bool) -> None:
    if in_json:
        put(as_json(document))
    elif not document:
        say(f"nothing is set for {reference}; --effective shows what holds for it")
    else:
        put("\n".join(_rows((field, _value(value)) for field, value in document.items())))


def _show_effective(foreseen: Foreseen, values: dict[str, Json], origins: dict[str, str], *, in_json: bool) -> None:
    left = _left(foreseen)
    if in_json:
        shown = {"reference": str(foreseen.reference), "policy": values, "origins": origins}
        put(as_json({**shown, "manifest": None if left is None else asdict(left)}))
        return
    rows = ((field, origins[field], _value(value)) for field, value in values.items())
    lines = [f"{foreseen.reference}", *_rows(rows)]
    put("\n".join([*lines, *(_words(left) if left else [])]))


@dataclass(frozen=True, slots=True)
class Left:
    """What a manifest leaves of `allowed_domains`: those that it asks for too (`used`), those that it does not, and
    what it asks for that is not allowed (`open`)."""

    used: tuple[str, ...]
    unused: tuple[str, ...]
    open: tuple[str, ...]


def _left(foreseen: Foreseen) -> Left | None:
    """None where there is no manifest that says."""
    asked, allowed = foreseen.grant.asked.domains, foreseen.grant.domains
    if asked is None:
        return None
    used = [one for one in allowed if any(overlap(one, want) for want in asked)]
    return Left(
        used=tuple(map(str, used)),
        unused=tuple(str(one) for one in allowed if one not in used),
        open=tuple(str(want) for want in asked if not any(overlap(one, want) for one in used)),
    )


def _words(left: Left) -> Iterator[str]:
    yield ""
    yield f"its manifest leaves of allowed_domains: {', '.join(left.used) or 'nothing'}"
    if left.unused:
        yield f"it does not ask for {', '.join(left.unused)}: what is allowed there has no effect"
    if left.open:
        yield f"it asks for {', '.join(left.open)}, which is not allowed"


def _rows(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """In columns, and nothing cut off: what is not seen would be authority that is not seen."""
    listed = [tuple(map(as_words, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*listed, strict=True)]
    for row in listed:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _value(value: Json) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else as_json(value, pretty=False)
