"""What operations and parameters are for, in words: made from their names, where nobody has written better ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_GROUPS = frozenset({"admin", "organization", "beta", "alpha"})  # parts of names that are no resources
_VERBS = {
    "create": "Create", "retrieve": "Give", "update": "Change", "delete": "Delete", "cancel": "Cancel", "list": "List",
    "pause": "Pause", "resume": "Go on with", "archive": "Archive", "activate": "Activate", "deactivate": "Deactivate",
    "validate": "Check", "accept": "Accept", "reject": "Reject", "hangup": "End", "complete": "Complete",
    "search": "Search", "run": "Run", "content": "Give the content of",
}  # fmt: skip
_ADDED = ("users", "roles", "groups", "permissions")  # exist already, and are added to something
_ACRONYMS = {"api": "API", "mcp": "MCP", "url": "URL"}


def operation(name: str, path: str, nouns: Mapping[str, str]) -> str:
    """One sentence about an operation, such as "List the users of a project" for `….projects.users.list`.

    `nouns` has better words for resources, by the name of the resource without the groups.
    """
    *places, verb = [part for part in name.split(".") if part not in _GROUPS]
    if "usage" in places:
        return f"Say how much the organization used, by time: {_words(verb)}"
    first, _, more = verb.partition("_")
    if more and more != places[-1]:
        places.append(more)
    content = places[-1] == "content"
    what, *parents = reversed(_resources(places[:-1] if content else places, path, nouns))
    where = "".join(f" of {_one(parent)}" for parent in parents)
    if name.startswith("admin.") and not where:
        where = " of the organization"
    if name.startswith("beta."):
        where += " (beta)"
    if first == "list":
        return f"List the {what}{where}"
    if content:
        return f"Give the content of {_one(what)}{where}"
    if first == "create" and what in _ADDED and parents:
        return f"Add {_one(what)} to {where.removeprefix(' of ')}"
    return f"{_VERBS.get(first, first.capitalize())} {_one(what)}{where}"


def parameter(operation: str, name: str, written: Mapping[str, str]) -> str:
    """A few words about a parameter. `written` has better ones, for one operation or for all."""
    if found := written.get(f"{operation}.{name}") or written.get(name):
        return found
    if name.endswith("_ids"):
        return f"The ids of {_plural(_words(name.removesuffix('_ids')))}"
    if name.endswith("_id"):
        return f"The id of the {_words(name.removesuffix('_id'))}"
    words = _words(name)
    return words[0].upper() + words[1:]


def _resources(places: Sequence[str], path: str, nouns: Mapping[str, str]) -> list[str]:
    """The words for the resources: the last one, and those whose ids are in the path."""
    places = places or [path.strip("/").split("/")[0]]
    ids = re.findall(r"\{(\w+?)_?(?:id)?\}", path)
    found = []
    for at, place in enumerate(places):
        singular = _singular(place)
        if at == len(places) - 1 or any(one == singular or singular.endswith(one) for one in ids):
            found.append(nouns.get(".".join(places[: at + 1]), _words(place)))
    return found


def _one(noun: str) -> str:
    singular = _singular(noun)
    if singular == noun:
        return f"the {noun}"
    return f"{'an' if re.match('[aeioAEIO]|up', noun) else 'a'} {singular}"


def _words(name: str) -> str:
    return " ".join(_ACRONYMS.get(part, part) for part in name.split("_"))


def _singular(noun: str) -> str:
    head, preposition, rest = re.match(r"(.*?)( for | to | of |$)(.*)", noun).groups()  # type: ignore[union-attr]
    if preposition:
        return _singular(head) + preposition + rest
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    if noun.endswith(("ches", "sses")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun


def _plural(noun: str) -> str:
    return noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
