"""The tools `secret`, `policy` and `audit`, for callers who manage; other callers do not see them.

A secret's value goes in and never comes out. Changes are checked, sealed and recorded, as those of the command line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from mcp_types import CallToolResult

from host.core.names import Reference, SecretName
from host.core.strict_json import Json
from host.errors import AuditBroken, InputError, NotFound
from host.policy.document import SecretRule
from host.policy.permissions import Deny
from host.runtime.explain import grant_secret, would_reach
from host.runtime.workspace import Workspace
from host.secrets.value import OPERATOR, SecretValue, require_strong
from host.server.mcp import results
from host.server.mcp.tool import BuiltIn, ToolCall, parameters, text
from host.service.catalog import Catalog
from host.store.audit_log.records import Wanted, newest_records
from host.store.audit_log.verification import verify
from host.store.policies import FIELDS

MOST_RECORDS: Final = 500
_REFERENCE: Final = "A component of one version, like c:local.openai:0.1.0, or of all, like c:local.openai"

_SECRET: Final = parameters(
    action={"enum": ["list", "set", "delete", "grant", "revoke"], "description": "What to do"},
    name=text("Of all but list: the secret, like OPENAI_API_KEY"),
    value=text("Of set: its value, which is not shown again", minLength=1),
    reference=text(f"Of grant and revoke: {_REFERENCE[0].lower()}{_REFERENCE[1:]}"),
    domains={
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "description": "Of grant: where it may go; if not given, where the policy or the manifest says, else to the "
        "only allowed domain",
    },
    places={
        "type": "array",
        "items": {"type": "string", "pattern": "^(header|header:.+|url|body)$"},
        "minItems": 1,
        "description": "Of grant: where in a request: header (of those that carry credentials; if nothing is given), "
        "header:NAME (that one too), url, body",
    },
    weak={"type": "boolean", "description": "Of set: keep a value although it can be guessed"},
    reveal={"type": "boolean", "description": "Of grant: let the component see the value itself"},
)
_POLICY: Final = parameters(
    ("action", "reference"),
    action={"enum": ["show", "set", "reset", "check"], "description": "What to do"},
    reference=text(_REFERENCE),
    field={"enum": list(FIELDS), "description": "Of set and reset (which without one forgets all): a field"},
    value={"description": "Of set: its value, as JSON", "examples": [["api.openai.com"], "30s"]},
    url=text("Of check: where a request would go"),
    method=text("Of check: the request's method; GET if not given", maxLength=20),
)
_AUDIT: Final = parameters(
    action={"enum": ["list", "verify"], "description": "What to do"},
    run=text("Of list: only of the run with this id"),
    kind=text("Of list: only of this kind, like policy.changed"),
    denied={"type": "boolean", "description": "Of list: only what was denied"},
    limit={"type": "integer", "minimum": 1, "maximum": MOST_RECORDS, "description": "Of list: how many at most"},
)


class Management:
    def __init__(self, catalog: Catalog, workspace: Workspace) -> None:
        self._catalog = catalog
        self._workspace = workspace

    def tools(self) -> list[BuiltIn]:
        return [
            BuiltIn(
                "secret",
                "Keep secrets sealed, and say which component may use which. Values are never shown.",
                _SECRET,
                ("manage",),
                self._on_secret,
            ),
            BuiltIn(
                "policy",
                "Say what each component may reach and spend. check: whether a request would be let through, without "
                "sending it.",
                _POLICY,
                ("manage",),
                self._on_policy,
            ),
            BuiltIn(
                "audit",
                "The record of every run and of every change. verify: whether anybody has tampered with it.",
                _AUDIT,
                ("manage",),
                self._on_audit,
                reads_only=True,
            ),
        ]

    async def _on_secret(self, call: ToolCall) -> CallToolResult:
        return await self._done(call, _SECRETS)

    async def _on_policy(self, call: ToolCall) -> CallToolResult:
        return await self._done(call, _POLICIES)

    async def _on_audit(self, call: ToolCall) -> CallToolResult:
        return await self._done(call, _AUDITS)

    async def _done(self, call: ToolCall, actions: Mapping[str, _Action]) -> CallToolResult:
        call.principal.require("manage")
        action, arguments = actions[call.arguments["action"]], dict(call.arguments)
        return results.of_json(await self._catalog.off_loop(lambda: action(self._workspace, arguments)))


_Action = Callable[[Workspace, dict[str, Any]], dict[str, Json]]


def _list_secrets(workspace: Workspace, arguments: dict[str, Any]) -> dict[str, Json]:
    del arguments
    kept, used = dict(workspace.vault.names(OPERATOR)), defaultdict(list)
    for one in workspace.grants.all():
        used[one.secret].append(str(one.reference))
    names = sorted({*kept, *used}, key=str)
    return {"secrets": [{"name": str(one), "kept_since": kept.get(one), "used_by": used[one]} for one in names]}


def _set_secret(workspace: Workspace, arguments: dict[str, Any]) -> dict[str, Json]:
    name, value = _secret(arguments), SecretValue(_needed(arguments, "value"))
    if not arguments.get("weak", False):
        require_strong(name, value, "to keep it all the same: weak")
    workspace.vault.set(OPERATOR, name, value)
    return {"name": str(name), "kept": True}


def _delete_secret(workspace: Workspace, arguments: dict[str, Any]) -> dict[str, Json]:
    name = _secret(arguments)
    if not workspace.vault.delete(OPERATOR, name):
        raise NotFound(f"{name} is not kept", field="name", hint="action list shows what is")
    return {"name": str(name), "kept": False}


def _grant_secret(workspace: Workspace, arguments: dict[str, Any]) -> dict[str, Json]:
    name, reference = _secret(arguments), _reference(arguments)
    rule = SecretRule(
        domains=arguments.get("domains"),
        places=arguments.get("places", ["header"]),
        reveal=arguments.get("reveal", False),
    )
    grant_secret(workspace, reference, name, rule)
    return {"name": str(name), "reference": str(reference), "granted": True}


def _revoke_secret(workspace: Workspace, arguments: dict[str, Any]) -> dict[str, Json]:
    name, reference = _secret(arguments), _reference(arguments)
    workspace.grants.revoke(reference, name)
    return {"name": str(name), "reference": str(reference), "granted": name in workspace.grants.of(reference)}


def _show_policy(workspace: Workspace, arguments: dict[str, Any]) -> dict[str, Json]:
    """The fields that are set for this very reference, and all fields in force, with the place where each was set."""
    reference = _reference(arguments)
    holds = workspace.policies.merged(reference)
    return {
        "reference": str(reference),
        "set": workspace.policies.document(reference),
        "in_force": {field: one.value for field, one in holds.items()},
        "origins": {field: str(one.scope) for field, one in holds.items()},
    }


def _set_policy(workspace: Workspace, arguments: dict[str, Any]) -> dict[str, Json]:
    reference, field = _reference(arguments), _needed(arguments, "field")
    if "value" not in arguments:
        raise _missing("value")
    workspace.policies.set(reference, field, arguments["value"])
    return _show_policy(workspace, arguments)


def _reset_policy(workspace: Workspace, arguments: dict[str, Any]) -> dict[str, Json]:
    gone = workspace.policies.reset(_reference(arguments), arguments.get("field"))
    return {**_show_policy(workspace, arguments), "forgotten": list(gone)}


def _check_policy(workspace: Workspace, arguments: dict[str, Any]) -> dict[str, Json]:
    method = str(arguments.get("method", "GET")).upper()
    answer = would_reach(workspace, _reference(arguments), _needed(arguments, "url"), method)
    return {**answer.as_dict(), "allowed": not isinstance(answer.decision, Deny)}


def _list_records(workspace: Workspace, arguments: dict[str, Any]) -> dict[str, Json]:
    wanted = Wanted(arguments.get("run"), arguments.get("kind"), arguments.get("denied", False))
    found = newest_records(workspace.database, arguments.get("limit", 50), wanted)
    return {"records": [one.as_dict() for one in found]}


def _verify_records(workspace: Workspace, arguments: dict[str, Any]) -> dict[str, Json]:
    del arguments
    try:
        found = verify(workspace.audit_log)
    except AuditBroken as error:
        return {"whole": False, "record": error.seq, "message": error.message}
    return {"whole": True, **asdict(found), "head": str(found.head)}


_SECRETS: Final[Mapping[str, _Action]] = {
    "list": _list_secrets,
    "set": _set_secret,
    "delete": _delete_secret,
    "grant": _grant_secret,
    "revoke": _revoke_secret,
}
_POLICIES: Final[Mapping[str, _Action]] = {
    "show": _show_policy,
    "set": _set_policy,
    "reset": _reset_policy,
    "check": _check_policy,
}
_AUDITS: Final[Mapping[str, _Action]] = {"list": _list_records, "verify": _verify_records}


def _needed(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise _missing(name)
    return value


def _missing(name: str) -> InputError:
    return InputError(f"{name} is missing, which this action takes", field=name)


def _secret(arguments: Mapping[str, Any]) -> SecretName:
    """Raises InputError, which does not repeat the text: it may be a secret's value."""
    given = _needed(arguments, "name")
    try:
        return SecretName.parse(given)
    except InputError as error:
        raise InputError("name is not the name of a secret", field="name", hint=error.hint) from None


def _reference(arguments: Mapping[str, Any]) -> Reference:
    return Reference.parse(_needed(arguments, "reference"))
