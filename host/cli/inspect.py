"""`host inspect`: what a component is, and what it can and cannot reach."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from host.cli.authority import Given, authority_options, given
from host.cli.run import _read_file
from host.cli.show import as_json, as_words, errors_shown, size
from host.contract import CAPABILITIES, EXPORTS
from host.manifest import Manifest
from host.policy.asked import asked_by
from host.policy.grant import overlap
from host.runtime import Catalyst, Host

_TITLES = {
    "http": "HTTP requests",
    "streaming": "streamed answers",
    "secrets": "secrets",
    "output": "events to the caller",
    "config": "its configuration",
    "log": "log messages",
}
_NEVER = ("files", "sockets", "environment variables", "other programs", "other catalysts")


@click.command("inspect")
@click.argument("file", metavar="FILE")
@authority_options
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
def command(file: str, *, in_json: bool, **authority: Any) -> None:
    """Show what the component in FILE is, imports and asks for; with the options of `host run`, what they would allow."""
    with errors_shown(in_json=in_json):
        granted = given(**authority)
        wasm = _read_file(file)
        with Host() as host:
            catalyst = host.load(
                wasm, policy=granted.policy, secrets=granted.secrets, config=granted.config, reference=file
            )
            found = _facts(catalyst, len(wasm), granted)
        click.echo(as_json(found) if in_json else as_words(_page(found, file)))


def _facts(catalyst: Catalyst, count: int, granted: Given) -> dict[str, Any]:
    manifest = catalyst.manifest
    return {
        "digest": str(catalyst.digest),
        "size": count,
        "imports": list(catalyst.imports),
        "exports": list(EXPORTS),
        "manifest": None if manifest is None else asdict(manifest),
        "authority": [
            {
                "authority": _TITLES[key],
                "can": name in catalyst.imports,
                "what": _what(key, catalyst, manifest, granted),
            }
            for key, name in CAPABILITIES.items()
        ]
        + [
            {"authority": name, "can": True, "what": "harmless"}
            for name in catalyst.imports
            if name.startswith("wasi:")
        ]
        + [{"authority": name, "can": False, "what": ""} for name in _NEVER],
    }


def _what(key: str, catalyst: Catalyst, manifest: Manifest | None, granted: Given) -> str:
    """What of a capability is granted, and what of it is asked for and not granted."""
    if CAPABILITIES[key] not in catalyst.imports:
        return ""
    if key in ("http", "streaming"):
        wanted = asked_by(manifest, granted.config).domains
        allowed = catalyst.grant.domains
        return _said(
            [str(one) for one in allowed if wanted is None or any(overlap(one, want) for want in wanted)],
            [str(want) for want in wanted or () if not any(overlap(one, want) for one in allowed)],
            "no domain",
        )
    if key == "secrets":
        names = [str(name) for name in catalyst.grant.secrets]
        asked = [secret.name for secret in manifest.secrets] if manifest else []
        return _said(names, [name for name in asked if name not in names], "no secret")
    return ""


def _said(granted: list[str], open_: list[str], none: str) -> str:
    said = ("granted: " + ", ".join(granted)) if granted else none + " granted"
    return said + (f"; asks for {', '.join(open_)}" if open_ else "")


def _page(found: dict[str, Any], file: str) -> str:
    about = found["manifest"] or {}
    lines = [
        f"{file}  {about.get('id', '')} {about.get('version', '')}".rstrip(),
        about.get("description", "it has no manifest"),
        "",
        f"digest   {found['digest']}",
        f"size     {size(found['size'])}",
        f"exports  {', '.join(found['exports'])}",
        *(
            f"{'imports ' if index == 0 else '        '} {name}"
            for index, name in enumerate(found["imports"] or ["nothing"])
        ),
        "",
    ]
    rows = [(row["authority"], "yes" if row["can"] else "no", row["what"]) for row in found["authority"]]
    wide = max(len(row[0]) for row in rows)
    lines.append(f"{'it can reach':{wide}}")
    lines += [f"  {name:{wide}}  {can:3}  {what}".rstrip() for name, can, what in rows]
    if about.get("examples"):
        lines += [
            "",
            "examples",
            *(f"  {as_json(one['input'], pretty=False)}" for one in about["examples"] if one.get("input")),
        ]
    return "\n".join(lines)
