"""`host docs`: the documents and examples that come with this program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from host.cli.options import json_option
from host.cli.output.terminal import as_json, errors_shown, is_narrow, put, table, terminal_width
from host.core.fields import did_you_mean
from host.core.installation import shipped
from host.errors import NotFound

# By name: the file, from the top of the installation, and what it is.
DOCUMENTS: Final[Mapping[str, tuple[str, str]]] = {
    "server": ("host/server/README.md", "routes, settings, keys, MCP, several machines"),
    "policy": ("host/policy/README.md", "every field of a policy, with its default"),
    "environment": ("host/core/README.md", "every environment variable that counts"),
    "operations": ("catalyst/openai/README.md", "the operations of the OpenAI catalyst"),
    "client": ("host/openai/README.md", "the OpenAI client for Python, with examples"),
    "python": ("host/README.md", "public names in Python, and how the host works"),
    "catalyst": ("catalyst/README.md", "how to write a catalyst"),
    "contract": ("wit/README.md", "the contract between a catalyst and the host"),
    "state": ("host/store/README.md", "what is kept, backups, and what an upgrade asks for"),
    "trust": ("host/trust/README.md", "signatures, and the steps of their verification"),
    "changelog": ("CHANGELOG.md", "what changed from version to version"),
    "security": (".github/SECURITY.md", "how to report a weakness"),
    "server.toml": ("host/examples/server.toml", "an example: every setting of `host serve`"),
    "policy.toml": ("host/examples/policy.toml", "an example: a policy"),
    "catalyst-host.service": ("host/examples/catalyst-host.service", "an example: a unit for systemd"),
    "Containerfile": ("host/examples/Containerfile", "an example: an image of the server"),
}


@click.command("docs", short_help="Show a document or an example.")
@click.argument("name", required=False)
@json_option
def docs(*, name: str | None, in_json: bool) -> None:
    """Print the document or example NAME; without it, list them, each with its file where there is room.

    \b
    host docs policy
    host docs server.toml >server.toml
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown(in_json=in_json):
        if name is not None:
            text = _text(name).rstrip("\n")
            put(as_json({"name": name, "text": text}) if in_json else text)
            return
        there = {each: shipped(part) for each, (part, _) in DOCUMENTS.items()}
        if in_json:
            put(as_json([{"name": each, "about": DOCUMENTS[each][1], "file": _place(there[each])} for each in there]))
            return
        columns = 2 if is_narrow(width := terminal_width()) else 3
        rows = ((each, DOCUMENTS[each][1], _place(file) or "not in this installation") for each, file in there.items())
        for line in table(("name", "what it is", "file")[:columns], (row[:columns] for row in rows), width=width):
            put(line)


def _place(file: Path | None) -> str | None:
    return None if file is None else str(file)


def _text(name: str) -> str:
    part, _ = DOCUMENTS.get(name, ("", ""))
    file = shipped(part) if part else None
    if file is None:
        hint = did_you_mean(name, DOCUMENTS, f"one of {', '.join(DOCUMENTS)}")
        raise NotFound(f"there is no document {name[:80]!r}", field="NAME", hint=hint)
    return file.read_text(encoding="utf-8")
