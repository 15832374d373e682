"""Policies as people write them: one value on the command line, a document in a file, a page in an editor."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Mapping
from typing import Final

from host.core.names import Reference
from host.core.quantities import as_duration, as_size
from host.core.strict_json import Json, parse_json, parse_object
from host.errors import InputError, PolicyError
from host.policy.document import Policy

EXAMPLES: Final[Mapping[str, Json]] = {
    "allowed_domains": ["api.openai.com"],
    "allowed_methods": ["GET", "POST"],
    "allowed_private": ["127.0.0.0/8"],
    "upstreams": {"https://api.openai.com": "http://127.0.0.1:4747"},
    "ca_file": "/etc/ssl/certs/acme.pem",
    "tls": {"https://llm.acme.example": {"ca_file": "/etc/ssl/certs/acme.pem"}},
    "forward_headers": ["X-Request-Source"],
    "secrets": {"OPENAI_API_KEY": {"domains": ["api.openai.com"], "in": ["header"]}},
    "rate_limit": {"requests": 60, "window": "1m"},
    "retries": {"max": 2, "budget": "20%"},
    "breaker": {"failures": 5, "window": "1m", "pause": "30s"},
    "throttle": {"requests": "500/1m", "tokens": "200k/1m", "full": "wait"},
    "isolation": "operation",
    "timeout": "5m",
    "stream_timeout": "30m",
    "connect_timeout": "10s",
    "first_byte_timeout": "2m",
    "idle_timeout": "2m",
    "cpu_time": "10s",
    "max_memory_bytes": "128MiB",
    "max_request_size": "32MB",
    "max_response_size": "64MB",
    "max_output_size": "16MB",
    "max_http_requests": 64,
    "max_streams": 3,
    "max_connections": 3,
    "max_upstream_connections": 2_000,
    "max_message_size": "16MB",
    "max_connection_size": "256MB",
}
_DURATIONS = frozenset(
    {"timeout", "stream_timeout", "connect_timeout", "first_byte_timeout", "idle_timeout", "cpu_time"}
)
_SIZES = frozenset(
    {
        *("max_memory_bytes", "max_request_size", "max_response_size", "max_output_size"),
        *("max_message_size", "max_connection_size"),
    }
)
_OPENING = tuple('[{"')


def default(field: str) -> Json:
    """The default of `field`, as people write it; None where it has none."""
    value = getattr(Policy(), field)
    if field in _DURATIONS:
        return as_duration(value)
    if field in _SIZES:
        return as_size(value)
    return list(value) if isinstance(value, tuple) else value


def read_value(reference: Reference, field: str, text: str) -> Json:
    """The value of `field` in `text`: JSON, or a bare word if the field takes one. Raises PolicyError, with the
    command to type as its hint."""
    example = EXAMPLES.get(field, "")
    try:
        value: Json = parse_json(text, field, names_once=True)
    except InputError as error:
        if isinstance(example, str | int):
            return text
        said = error.message if text.startswith(_OPENING) else f"{field} takes JSON"
        raise PolicyError(said, field=field, hint=_line(reference, field, text)) from None
    if isinstance(value, str) and not isinstance(example, str | int):
        raise PolicyError(f"{field} takes {_KINDS[type(example)]}", field=field, hint=_line(reference, field, value))
    return value


_KINDS: Mapping[type, str] = {list: "a JSON list", dict: "a JSON object"}


def _line(reference: Reference, field: str, text: str) -> str:
    """The command that the operator probably meant."""
    if isinstance(EXAMPLES[field], list) and text and not text.startswith(_OPENING):
        return set_line(reference, field, [word.strip() for word in text.split(",")])
    return set_line(reference, field, EXAMPLES[field])


def set_line(reference: Reference, field: str, value: Json) -> str:
    """The command that sets `field` to `value`, as a shell reads it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return shlex.join(["host", "policy", "set", str(reference), field, text])


def read_document(text: str, what: str, *, in_json: bool) -> dict[str, Json]:
    """The document in `text`, JSON or TOML. Raises InputError, which begins with `what`."""
    if in_json:
        return parse_object(text, what, names_once=True)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{what} is not TOML: {error}") from None


def write_document(document: Mapping[str, Json], *, in_json: bool) -> str:
    """Raises InputError where TOML cannot hold it: it has no null."""
    if in_json:
        return json.dumps(document, indent=2) + "\n"
    import tomli_w  # noqa: PLC0415 - most commands write none

    try:
        return tomli_w.dumps(document)
    except TypeError:
        raise InputError("TOML has no null, and there is one in it", hint="use a file that ends in .json") from None


def page(reference: Reference, document: Mapping[str, Json]) -> str:
    """`document` in TOML for an editor, with the fields that are not set as comments. Raises InputError."""
    names = sorted(EXAMPLES, key=lambda name: isinstance(EXAMPLES[name], dict))  # in TOML, tables come last
    parts = [
        f"# The policy of {reference}. What is commented out is not set: it shows the default, or an example of a",
        "# table. An empty file resets everything.",
        "",
    ]
    for name in names:
        if name in document:
            parts.append(write_document({name: document[name]}, in_json=False))
        else:
            found = None if isinstance(EXAMPLES[name], dict) else default(name)
            shown = EXAMPLES[name] if found is None else found
            lines = write_document({name: shown}, in_json=False).splitlines()
            parts.append("".join(f"# {line}\n" for line in lines if line))
    return "\n".join(parts)
