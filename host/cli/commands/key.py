"""`host key`: API keys, for the clients of a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from host.cli.inputs import blaming, opened
from host.cli.options import aliased_option, json_option, yes_option
from host.cli.output.component import say_strange
from host.cli.output.terminal import agree, as_json, errors_shown, local_time, one_line, put, say, table, terminal_width
from host.cli.times import parse_future, parse_span
from host.core.names import Reference
from host.core.quantities import Quota
from host.errors import InputError

if TYPE_CHECKING:
    from host.store.access.api_keys import ApiKey
    from host.store.access.key_text import KeyType
    from host.store.access.usage import Used

T = TypeVar("T")

_QUOTAS: Final = ("rate_limit", "request_budget", "token_budget")

# The fields of a key, by the options that set them.
_OPTIONS = {
    "name": "--name",
    "scopes": "--scope",
    "ip_allowlist": "--allow-address",
    "models": "--model",
    "catalysts": "--catalyst",
    "operations": "--operation",
    "concurrency": "--concurrency",
    "expires_at": "--expires",
}


_BOUNDS: Final = (
    click.option(
        "--scope",
        "scopes",
        multiple=True,
        metavar="SCOPE",
        help="What it may do: run, runs, components, metrics or manage.",
        show_default="public: run; secret: run, runs, components; admin: all",
    ),
    click.option("--rate-limit", metavar="N/DURATION", help="At most so many requests: 100/1m."),
    click.option("--request-budget", metavar="N/DURATION", help="The same over a longer time: 10k/1d."),
    click.option(
        "--token-budget", metavar="N/DURATION", help="At most so many tokens, as upstream counts them: 2M/30d."
    ),
    aliased_option(
        "--allow-address",
        "networks",
        aliases=["--ip-allowlist"],
        multiple=True,
        metavar="CIDR",
        help="Only from these addresses: 10.0.0.0/8.",
        show_default="any",
    ),
    aliased_option(
        "--operation",
        "operations",
        aliases=["--operations"],
        multiple=True,
        metavar="GLOB",
        help="Only this operation: models.list, chat.*.",
        show_default="all that need not be named; for a public key those that its catalyst marks, or that read",
    ),
    aliased_option(
        "--model",
        "models",
        aliases=["--models"],
        multiple=True,
        metavar="GLOB",
        help="Only for this model: gpt-4o, gpt-*.",
        show_default="all",
    ),
    aliased_option(
        "--catalyst",
        "catalysts",
        aliases=["--catalysts"],
        multiple=True,
        metavar="REF",
        help="Only for this catalyst: c:local.openai.",
        show_default="all",
    ),
    click.option(
        "--concurrency",
        metavar="N",
        help="At most so many runs at once in a process.",
        show_default="as many as it leaves free",
    ),
    click.option("--expires", metavar="DURATION|DATE", help="In 90d, or on 2027-01-01.", show_default="never"),
)


def _bounds_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that bound a key."""
    for option in reversed(_BOUNDS):
        command = option(command)
    return command


@click.group("key", short_help="Say who may use a server.")
def key() -> None:
    """Make API keys for the clients of a server. While there is none, host serve listens on the loopback interface
    only, and asks for none. Once there is one, every client needs a key."""


@key.command("create", short_help="Make a key.")
@click.option("--name", required=True, metavar="NAME", help="Its name: ci, web front end.")
@click.option(
    "--type",
    "kind",
    required=True,
    type=click.Choice(["public", "secret", "admin"]),
    help="public: reads, or runs what --operation says; secret: sees its own runs and components too; admin: manages.",
)
@_bounds_options
@json_option
def create(*, name: str, kind: KeyType, in_json: bool, **bounds: Any) -> None:
    """Make a key, and print it, this once, on standard output. Repeat an option for several values."""
    with errors_shown(in_json=in_json):
        with _options():
            given = _given(bounds, kind)
            with opened() as workspace:
                first = not workspace.api_keys.snapshot().any
                key, text = workspace.api_keys.create(name=name, type=kind, **given)
                for reference in key.catalysts:
                    say_strange(workspace, reference)
        _hand_over(key, text, in_json=in_json)
        if first:
            say("it is the first: from now on, host serve asks everybody for a key")


@key.command("update", short_help="Change what a key may do.")
@click.argument("name", metavar="NAME")
@_bounds_options
@json_option
def update(*, name: str, in_json: bool, **bounds: Any) -> None:
    """Change the bounds of the key NAME, which is its name or its id: those that are given, and no others. The word
    none takes a bound away: --model none. The text of the key stays, and what was spent with it. Running servers go
    by the new bounds within a second."""
    with errors_shown(in_json=in_json):
        with _options(), opened() as workspace:
            key = workspace.api_keys.find(name)
            changes = _given(bounds, key.type)
            if not changes:
                raise InputError("nothing is to be changed", hint="host key update --help lists what can be")
            key = workspace.api_keys.update(key.id, **changes)
            for reference in key.catalysts if "catalysts" in changes else ():
                say_strange(workspace, reference)
        put(as_json(_key_facts(key)) if in_json else "\n".join(_permissions(key)))


@key.command("list", short_help="List the keys.")
@json_option
def list_(*, in_json: bool) -> None:
    """List the keys, also expired and revoked ones. On a terminal the last column is cut at its width; host key show
    NAME shows all of a key."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            keys = workspace.api_keys.all()
        if in_json:
            put(as_json([_key_facts(key) for key in keys]))
            return
        if not keys:
            say("there are no keys: host key create --name ci --type secret")
        head = ("id", "name", "type", "state", "expires", "limits")
        for line in table(head, map(_row, keys), width=terminal_width()):
            put(line)


@key.command("show", short_help="Show the permissions and the use of a key.")
@click.argument("name", metavar="NAME")
@json_option
def show(*, name: str, in_json: bool) -> None:
    """Show the permissions of the key NAME, and what was used with it. NAME is its name or its id. The text of the key
    is not stored."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            key = workspace.api_keys.find(name)
            used = workspace.usage.totals(key=key.id)
        if in_json:
            put(as_json({**_key_facts(key), "usage": [asdict(one) for one in used]}))
        else:
            put("\n".join(_page(key, used)))


@key.command("rotate", short_help="Give a key a new text.")
@click.argument("name", metavar="NAME")
@click.option(
    "--overlap", metavar="DURATION", help="How long the old text still works: 30m, 1h.", show_default="not at all"
)
@yes_option
@json_option
def rotate(*, name: str, overlap: str | None, yes: bool, in_json: bool) -> None:
    """Give the key NAME a new text, and print it, this once, on standard output. Its permissions stay. Without
    --overlap it asks first: whoever has the old text is shut out at once."""
    with errors_shown(in_json=in_json):
        overlap_s = _read("--overlap", parse_span, overlap) or 0.0
        with opened() as workspace:
            if not overlap_s and (key := workspace.api_keys.find(name)).state(time.time()) == "active":
                agree(f"End the text of the key {key.name!r} ({key.id}) at once?", yes=yes)
            key, text = workspace.api_keys.rotate(name, overlap_s)
        _hand_over(key, text, in_json=in_json)
        say(f"the old one works until {local_time(time.time() + overlap_s)}" if overlap_s else "the old one is over")


@key.command("revoke", short_help="End a key.")
@click.argument("name", metavar="NAME")
@yes_option
@json_option
def revoke(*, name: str, yes: bool, in_json: bool) -> None:
    """Revoke the key NAME for good. Running servers refuse it within a second."""
    with errors_shown(in_json=in_json):
        with opened() as workspace:
            key = workspace.api_keys.find(name)
            agree(f"Revoke the key {key.name!r} ({key.id}) for good?", yes=yes)
            key = workspace.api_keys.revoke(key.id)
            left = any(one.state(time.time()) == "active" for one in workspace.api_keys.all())
        if in_json:
            put(as_json(_key_facts(key)))
            return
        say(f"revoked: {key.name} ({key.id})")
        if not left:
            say("it was the last active key: host serve lets nobody in until there is another (host key create)")


def _hand_over(key: ApiKey, text: str, *, in_json: bool) -> None:
    put(as_json({"key": text, **_key_facts(key)}) if in_json else text)
    say(f"the key {key.name!r} ({key.id}) is shown this once: store it where it is needed; here, only a hash of it is")


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InputError(f"{text[:20]!r} is not a whole number")
    return int(text)


def _given(bounds: Mapping[str, Any], kind: KeyType) -> dict[str, Any]:
    """The fields of a key that options were given for. With the word none a field has no bound, or its default. Raises
    InputError."""
    from host.store.access.api_keys import check_scopes, network  # noqa: PLC0415 - not for `--help`

    found: dict[str, Any] = {}
    for name, value in bounds.items():
        if value in (None, ()):
            continue
        none = value in ("none", ("none",))
        if name in _QUOTAS:
            found[name] = None if none else _read(f"--{name.replace('_', '-')}", Quota.parse, value)
        elif name == "concurrency":
            found[name] = None if none else _read("--concurrency", _whole, value)
        elif name == "expires":
            found["expires_at"] = None if none else _read("--expires", parse_future, value)
        elif name == "scopes":
            found[name] = check_scopes(kind, None if none else _listed(value))
        else:
            texts = [] if none else _listed(value)
            if name == "networks":
                found["ip_allowlist"] = [network(text) for text in texts]
            elif name == "catalysts":
                found[name] = [_read("--catalyst", Reference.parse, text) for text in texts]
            else:
                found[name] = texts
    return found


def _listed(values: Sequence[str]) -> list[str]:
    """The values of an option that may be repeated, or have several separated by commas."""
    return [one.strip() for value in values for one in value.split(",")]


def _read(option: str, parse: Callable[[str], T], text: str | None) -> T | None:
    if text is None:
        return None
    with blaming(option):
        return parse(text)


@contextmanager
def _options() -> Iterator[None]:
    """Name the option that sets a field in an error about that field."""
    try:
        yield
    except InputError as error:
        option = _OPTIONS.get(error.field or "")
        if option is None:
            raise
        raise InputError(f"{option}: {error.message}", field=option, hint=error.hint) from None


def _key_facts(key: ApiKey) -> dict[str, Any]:
    from host.service import views  # noqa: PLC0415 - not for `--help`

    return views.of_key(key, time.time())


def _row(key: ApiKey) -> Sequence[str]:
    from host.store.access.api_keys import BY_DEFAULT  # noqa: PLC0415 - not for `--help`

    bounds = [("scopes", ",".join(key.as_dict()["scopes"]))] if key.scopes != BY_DEFAULT[key.type] else []
    limits = ", ".join(f"{what} {allowed}" for what, allowed in (*bounds, *_bounds(key)))
    expires = "" if key.expires_at is None else local_time(key.expires_at)[: len("2027-01-01 00:00")]
    return key.id, key.name, key.type, key.state(time.time()), expires, limits


def _bounds(key: ApiKey) -> Iterator[tuple[str, str]]:
    """The limits of the key, by the names of their fields."""
    for what, value in (
        ("rate-limit", key.rate_limit),
        ("request-budget", key.request_budget),
        ("token-budget", key.token_budget),
        ("concurrency", key.concurrency),
    ):
        if value is not None:
            yield what, str(value)
    operations = key.operations or (("those that are public, or read",) if key.type == "public" else ())
    for what, several in (
        ("ip-allowlist", key.ip_allowlist),
        ("operations", operations),
        ("models", key.models),
        ("catalysts", key.catalysts),
    ):
        if several:
            yield what, ",".join(map(str, several))


def _page(key: ApiKey, used: Sequence[Used]) -> Iterator[str]:
    yield from _permissions(key)
    yield ""
    yield from table(("day", "catalyst", "requests", "failed", "tokens in", "tokens out"), map(_used, used))
    if not used:
        yield "nothing was used with it yet"


def _permissions(key: ApiKey) -> Iterator[str]:
    facts = [
        ("name", key.name),
        ("id", key.id),
        ("type", key.type),
        ("state", key.state(time.time())),
        ("scopes", ", ".join(key.as_dict()["scopes"])),
        *_bounds(key),
    ]
    times = (
        ("created", key.created_at),
        ("rotated", key.rotated_at),
        ("expires", key.expires_at),
        ("revoked", key.revoked_at),
    )
    facts += [(what, local_time(at)) for what, at in times if at is not None]
    width = max(len(what) for what, _ in facts)
    for what, value in facts:
        yield f"{what:{width}}  {one_line(value)}"


def _used(one: Used) -> Sequence[str]:
    return one.day, one.catalyst, *map(str, (one.requests, one.failed, one.input_tokens, one.output_tokens))
