"""`host batch`: many operations from a file, each answered once."""

from __future__ import annotations

import sys
from typing import Any

import click

from host.cli.options import output_option
from host.cli.output.terminal import errors_shown


@click.command("batch", short_help="Run the operations of a file, many at once.")
@click.argument("source", metavar="FILE")
@output_option("Where the answers go, a line each.", required=True)
@click.option("--error-file", metavar="FILE", help="Where failed lines go.", show_default="NAME.errors.jsonl")
@click.option("--catalyst", metavar="REF", help="Run every line there.", show_default="the one that has the model")
@click.option("--config", "config_file", metavar="FILE", help="Routes, failover and budgets, as of host serve.")
@click.option(
    "--engine",
    metavar="ray[://ADDRESS]",
    help="Run the lines on the nodes of a Ray cluster.",
    show_default="this process",
)
@click.option(
    "--concurrency",
    default=16,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, 1_000),
    help="So many lines run at once.",
)
@click.option("--ordered", is_flag=True, help="Keep the order of the lines, and not that of their answers.")
@click.option(
    "--max-failures", metavar="N", type=click.IntRange(1), help="Stop once so many have failed.", show_default="never"
)
@click.option("--timeout", metavar="DURATION", help="The time for each line: 30s, 5m.", show_default="the policy's")
@click.option("--json", "in_json", is_flag=True, help="Print what was done as JSON; errors, too.")
def batch(*, in_json: bool, **options: Any) -> None:
    """Run each line of FILE, in a sandbox of its own, with installed catalysts.

    A line is a request of OpenAI's batches, or an operation as `host run --input` takes it:

    \b
    {"custom_id": "a", "method": "POST", "url": "/v1/embeddings",
     "body": {"model": "text-embedding-3-small", "input": "hi"}}
    {"operation": "models.list"}

    A batch that was interrupted or killed goes on with the same command. No finished line is run again; one that was
    under way may be, with the same idempotency key.
    """  # noqa: D301 - the escape is click's: these lines are not rewrapped
    with errors_shown(in_json=in_json):
        from host.cli.batching import run_batch  # noqa: PLC0415 - not for `--help`

        sys.exit(run_batch(in_json=in_json, **options))
