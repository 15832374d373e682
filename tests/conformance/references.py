"""The tables of reference in the READMEs: their facts are made from the code, their words are kept.

`python -m tests.conformance.references` writes each table anew, between `<!-- NAME -->` and `<!-- /NAME -->`. A new row gets
`…` in place of words, which a test refuses.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field
from typing import Any

import host
from host.core.quantities import as_duration, as_size
from host.policy.document import METHODS, Policy, RateLimit, SecretRule
from host.policy.reliability import Breaker, Retries, Throttle
from host.policy.tls import TlsRule
from host.policy.upstreams import UpstreamRule
from tests.conftest import ROOT

Rows = Mapping[str, Sequence[str]]  # by the first cell, in its order: the cells after it that are facts

UNDECIDED = "…"
_CELL = re.compile(r"(?<!\\)\|")


def policy_fields() -> Rows:
    rows = {}
    for one in dataclasses.fields(Policy):
        rows[f"`{one.name}`"] = (_default(one),)
        within = {
            "secrets": (SecretRule, "secrets.NAME."),
            "rate_limit": (RateLimit, "rate_limit."),
            "tls": (TlsRule, "tls.ORIGIN."),
            "retries": (Retries, "retries."),
            "breaker": (Breaker, "breaker."),
            "throttle": (Throttle, "throttle."),
            "upstreams": (UpstreamRule, "upstreams.ORIGIN."),
        }
        if one.name in within:
            kind, prefix = within[one.name]
            for part in dataclasses.fields(kind):
                name = "in" if part.name == "places" else part.name  # a keyword in Python
                rows[f"`{prefix}{name}`"] = (_default(part),)
    return rows


def _default(one: Field[Any]) -> str:
    value = one.default_factory() if one.default_factory is not MISSING else one.default
    if value is MISSING:
        return "required"
    if value == METHODS:
        return "all"
    if isinstance(value, bool):
        return f"`{json.dumps(value)}`"
    if isinstance(value, int | float) and re.search(r"time", one.name):
        return f"`{as_duration(value)}`"
    if isinstance(value, str):
        return f"`{value}`"
    if isinstance(value, int) and re.search(r"bytes|size", one.name):
        return f"`{as_size(value)}`"
    if isinstance(value, int | float):
        return f"`{value}`"
    return f"`{json.dumps(list(value))}`" if value else "none"


def variables() -> Rows:
    """Names of the environment: all in the module that reads it, and what others ask it for."""
    others = {"PATH", "TMPDIR", "LD_LIBRARY_PATH"}  # which go on to children as they are
    names = set()
    for file in (ROOT / "host").rglob("*.py"):
        form = r"[A-Z][A-Z0-9_]{3,}" if file.name == "environment.py" else r"(HOST|OTEL|XDG)_[A-Z_]+"
        nodes = ast.walk(ast.parse(file.read_text()))
        texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
        names |= {text for text in texts if re.fullmatch(form, text)}
    return {f"`{name}`": () for name in sorted(names - others)}


def public_names() -> Rows:
    rows = {}
    for name in host.__all__:
        said = inspect.getdoc(getattr(host, name)) or ""
        shown = re.split(r"(?<=\.)\s|\n\n", said)[0].replace("\n", " ").rstrip(".").replace("|", "\\|")
        rows[f"`{name}`"] = (shown,)
    return rows


def operations() -> Rows:
    declared = json.loads((ROOT / "catalyst/openai/operations.json").read_text())
    rows = {}
    for name, spec in {**declared["operations"], **declared["websockets"]}.items():
        route = f"`{spec['method']} /v1{spec['path']}`" if "path" in spec else ""
        required = ", ".join(f"`{one}`" for one in spec.get("params", {}).get("required", []))
        answer = spec.get("response", "json") + (", events" if spec.get("stream") else "")
        rows[f"`{name}`"] = (route, required, answer, spec["description"].replace("|", "\\|"))
    return rows


TABLES: Mapping[str, tuple[str, Sequence[str], Callable[[], Rows]]] = {
    "fields of a policy": ("host/policy/README.md", ("field", "default", "what it is"), policy_fields),
    "environment variables": ("host/core/README.md", ("variable", "what it is"), variables),
    "public names": ("host/README.md", ("name", "what it is"), public_names),
    "operations": (
        "catalyst/openai/README.md",
        ("operation", "route", "required", "answer", "what it does"),
        operations,
    ),
}


def table(columns: Sequence[str], rows: Rows, words: Mapping[str, str]) -> str:
    """Where a row has fewer facts than there are columns, its last cell is what `words` has for it."""
    lines = [columns, ["---"] * len(columns)]
    for name, facts in rows.items():
        said = [] if 1 + len(facts) == len(columns) else [words.get(name, UNDECIDED)]
        lines.append([name, *facts, *said])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def written(text: str, name: str) -> tuple[int, int]:
    """Where the table `name` is in the `text` of a README."""
    before, after = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    return text.index(before) + len(before), text.index(after)


def words_of(old: str) -> dict[str, str]:
    rows = ([cell.strip() for cell in _CELL.split(line)[1:-1]] for line in old.splitlines()[2:])
    return {row[0]: row[-1] for row in rows}


def renewed(text: str, name: str) -> str:
    """The `text` of a README with its table `name` as the code has it."""
    _, columns, rows = TABLES[name]
    begin, end = written(text, name)
    return text[:begin] + table(columns, rows(), words_of(text[begin:end])) + text[end:]


if __name__ == "__main__":
    for each, (file, _, _) in TABLES.items():
        (ROOT / file).write_text(renewed((ROOT / file).read_text(), each))
