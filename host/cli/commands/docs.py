"""`host docs`: the documents and examples that come with this program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from host.cli.output.terminal import errors_shown, put, table, terminal_width
from host.core.installation import shipped
from host.errors import NotFound

# By name: the file, from the top of the installation, and what it is.
DOCUMENTS: Final[Mapping[str, tuple[str, str]]] = {
    "server": ("host/server/README.md", "the server: routes, settings, keys, MCP, several machines"),
    "policy": ("host/policy/README.md", "every field of a policy, with its default"),
    "environment": ("host/core/README.md", "every environment variable that counts"),
    "operations": ("catalyst/openai/README.md", "the operations of the OpenAI catalyst, with their routes"),
    "python": ("host/README.md", "how the host works inside, and its public names in Python"),
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
def docs(*, name: str | None) -> None:
    """Print the document or example NAME; without it, list them, each with its file.

    \b
    host docs policy
    host docs server.toml >server.toml
    """  # noqa: D301 - the escape is click's: this paragraph is not rewrapped
    with errors_shown():
        if name is not None:
            put(_text(name).rstrip("\n"))
            return
        rows = (
            (each, said, str(shipped(part) or "not in this installation")) for each, (part, said) in DOCUMENTS.items()
        )
        for line in table(("name", "what it is", "file"), rows, width=terminal_width()):
            put(line)


def _text(name: str) -> str:
    part, _ = DOCUMENTS.get(name, ("", ""))
    file = shipped(part) if part else None
    if file is None:
        raise NotFound(f"there is no document {name[:80]!r}", field="NAME", hint=f"one of {', '.join(DOCUMENTS)}")
    return file.read_text(encoding="utf-8")
