"""Administration (platform.openai.com/docs/api-reference/administration): who is where with which roles, keys of
service accounts, certificates, usage and costs. Changes are in the audit log. All else of it are objects and
settings, which rest.py has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from host.fakes.messages import FakeResponse
from host.fakes.openai import errors, rest
from host.fakes.openai.call import ApiCall, EndpointTable, Handler
from host.fakes.openai.specification import operations
from host.fakes.openai.store import Stored
from host.fakes.openai.text import identifier, seed_of

_ORGANIZATION = "/v1/organization"
_PROJECT = "/v1/organization/projects/{project_id}"
_USAGE = f"{_ORGANIZATION}/usage/"
_DAY_S = 86_400
_WIDTHS = {"1m": 60, "1h": 3_600, "1d": _DAY_S}

# roles: assigned to users and groups, in the organization or in a project


def assign_role(call: ApiCall) -> FakeResponse:
    """The answer has the role and who now has it."""
    role = _role(call, rest.body(call).required_text("role_id"))
    rest.make(call, rest.template_of(call), {**role.fields, "role_id": role.id})
    who = "group" if "group_id" in call.path else "user"
    template = rest.template_of(call).rpartition("/")[0]
    assigned = rest.find(call, template.rpartition("/")[0], call.path[f"{who}_id"])
    return rest.answer(call, {"object": f"{who}.role", "role": role.fields, who: assigned.fields})


def _role(call: ApiCall, name: str) -> Stored:
    """A role of the project or of the organization."""
    if "project_id" in call.path:
        own = call.store.find(rest.collection(call, f"{_PROJECT}/roles"), name)
        if own is not None:
            return own
    return rest.find(call, f"{_ORGANIZATION}/roles", name)


# members: of a group, of a project


def add_group_user(call: ApiCall) -> FakeResponse:
    user = rest.find(call, f"{_ORGANIZATION}/users", rest.body(call).required_text("user_id"))
    stored = rest.make(call, rest.template_of(call), {"user_id": user.id, "user_type": "user", **_called(user)})
    return rest.answer(call, {**stored.fields, "object": "group.user"})


def _called(user: Stored) -> dict[str, Any]:
    return {key: user.fields[key] for key in ("name", "email") if key in user.fields}


def add_project_group(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    group = rest.find(call, f"{_ORGANIZATION}/groups", params.required_text("group_id"))
    stored = rest.make(call, rest.template_of(call), {**params.all(), "group_name": group.fields["name"]})
    return rest.answer(call, stored.fields)


def add_project_user(call: ApiCall) -> FakeResponse:
    """By the identifier of a user of the organization, or by e-mail."""
    params = rest.body(call)
    users = rest.every(call, f"{_ORGANIZATION}/users")
    if "user_id" in params:
        users = [rest.find(call, f"{_ORGANIZATION}/users", params.required_text("user_id"))]
    elif "email" in params:
        users = [one for one in users if one.fields.get("email") == params.text("email", "")]
    else:
        raise errors.missing("user_id")
    if not users:
        raise errors.not_found(f"No user has the e-mail address '{params.text('email', '')}'.", param="email")
    given = {**_called(users[0]), **params.all(), "user_id": users[0].id}
    stored = rest.make(call, rest.template_of(call), given)
    return rest.answer(call, stored.fields)


# service accounts, and the keys that they get


def add_service_account(call: ApiCall) -> FakeResponse:
    params = rest.body(call)
    account = rest.make(call, rest.template_of(call), params.all())
    if params.flag("create_service_account_only"):
        return rest.answer(call, account.fields)
    key = _service_key(call, account.fields["name"])
    return rest.answer(call, {**account.fields, "api_key": {**key.fields, "name": "Secret Key"}})


def add_service_key(call: ApiCall) -> FakeResponse:
    rest.collection(call, rest.template_of(call))
    return rest.answer(call, _service_key(call, rest.body(call).text("name", "Secret Key")).fields)


def _service_key(call: ApiCall, name: str) -> Stored:
    """A new key, which the project's list shows without its value."""
    value = identifier("sk-svcacct-", seed_of("service key", call.store.next_number()))
    redacted = f"{value[:11]}…{value[-4:]}"
    return rest.make(call, f"{_PROJECT}/api_keys", {"name": name}, value=value, redacted_value=redacted)


# certificates: made in the organization, switched on there and in projects


def switch_certificates(*, on: bool) -> Handler:
    def switch(call: ApiCall) -> FakeResponse:
        template = rest.template_of(call).rpartition("/")[0]
        switched = []
        for name in rest.body(call).texts("certificate_ids", at_most=10):
            made = rest.find(call, f"{_ORGANIZATION}/certificates", name)
            if "project_id" in call.path:
                place = rest.collection(call, template)
                made = call.store.find(place, name) or rest.make(call, template, made.fields, id=name)
            made.become(active=on)
            switched.append(made.fields)
        return FakeResponse.json({"object": "list", "data": [rest.shown(call, one) for one in switched]})

    return switch


# usage and costs: one bucket for each day, hour or minute, with numbers that depend on its time alone


def usage(call: ApiCall) -> FakeResponse:
    query = call.query
    if "start_time" not in query:
        raise errors.missing("start_time")
    width = _WIDTHS[query.choice("bucket_width", tuple(_WIDTHS), "1d")]
    start = query.integer("start_time", 0, low=0)
    first = query.integer("page", start, low=start)
    end = query.integer("end_time", max(start + width, call.store.now), low=start)
    limit = query.integer("limit", 7, high=1_440)
    starts = range(first, min(end, first + limit * width), width)
    more = bool(starts) and starts[-1] + width < end
    buckets = [
        {"object": "bucket", "start_time": at, "end_time": at + width, "results": [_numbers(call, at)]} for at in starts
    ]
    following = {"next_page": str(starts[-1] + width)} if more else {}
    return rest.answer(call, {"object": "page", "data": buckets, "has_more": more, **following})


def _numbers(call: ApiCall, at: int) -> dict[str, Any]:
    path = call.request.path
    if path.endswith("/costs"):
        return {"object": "organization.costs.result", "amount": {"value": seed_of(at)[0] / 100, "currency": "usd"}}
    requests = seed_of(path, at)[0]
    kind = path.removeprefix(_USAGE)
    return {
        "object": f"organization.usage.{kind}.result",
        "num_model_requests": requests,
        "input_tokens": 100 * requests,
        "output_tokens": 10 * requests,
        "num_requests": requests,
        "num_sessions": requests,
        "images": requests,
        "characters": 50 * requests,
        "seconds": requests,
        "usage_bytes": 1_000 * requests,
    }


# the audit log


def audited(handler: Handler, name: str) -> Handler:
    """`handler` with a record of what it changed."""

    def with_record(call: ApiCall) -> FakeResponse:
        response = handler(call)
        logged = replace(call, path={}, operation=operations()["GET", f"{_ORGANIZATION}/audit_logs"])
        actor = {"type": "api_key", "api_key": {"id": "key_1", "type": "user"}}
        rest.make(logged, f"{_ORGANIZATION}/audit_logs", {"type": name, "actor": actor})
        return response

    return with_record


_LOGGED: dict[tuple[str, str], str] = {
    ("POST", f"{_ORGANIZATION}/projects"): "project.created",
    ("POST", _PROJECT): "project.updated",
    ("POST", f"{_PROJECT}/archive"): "project.archived",
    ("POST", f"{_PROJECT}/service_accounts"): "service_account.created",
    ("DELETE", f"{_PROJECT}/service_accounts/{{service_account_id}}"): "service_account.deleted",
    ("POST", f"{_ORGANIZATION}/invites"): "invite.sent",
    ("DELETE", f"{_ORGANIZATION}/invites/{{invite_id}}"): "invite.deleted",
    ("POST", f"{_ORGANIZATION}/groups"): "group.created",
    ("DELETE", f"{_ORGANIZATION}/groups/{{group_id}}"): "group.deleted",
    ("POST", f"{_ORGANIZATION}/certificates"): "certificate.created",
    ("DELETE", f"{_ORGANIZATION}/certificates/{{certificate_id}}"): "certificate.deleted",
    ("POST", f"{_ORGANIZATION}/roles"): "role.created",
    ("DELETE", f"{_ORGANIZATION}/roles/{{role_id}}"): "role.deleted",
    ("DELETE", f"{_ORGANIZATION}/users/{{user_id}}"): "user.deleted",
}


def _endpoints() -> EndpointTable:
    table: dict[str, dict[str, Handler]] = {
        f"{_ORGANIZATION}/groups/{{group_id}}/users": {"POST": add_group_user},
        f"{_PROJECT}/groups": {"POST": add_project_group},
        f"{_PROJECT}/users": {"POST": add_project_user},
        f"{_PROJECT}/service_accounts": {"POST": add_service_account},
        f"{_PROJECT}/service_accounts/{{service_account_id}}/api_keys": {"POST": add_service_key},
        f"{_ORGANIZATION}/costs": {"GET": usage},
    }
    for who in ("groups/{group_id}", "users/{user_id}"):
        for top in (_ORGANIZATION, "/v1/projects/{project_id}"):
            table[f"{top}/{who}/roles"] = {"POST": assign_role}
    for top in (_ORGANIZATION, _PROJECT):
        table[f"{top}/certificates/activate"] = {"POST": switch_certificates(on=True)}
        table[f"{top}/certificates/deactivate"] = {"POST": switch_certificates(on=False)}
    for (method, path), operation in operations().items():
        if path.startswith(_USAGE):
            table[path] = {method: usage}
        if (name := _LOGGED.get((method, path))) is not None:
            own = table.setdefault(path, {})
            own[method] = audited(own.get(method) or rest.handler(operation), name)
    return table


ENDPOINTS: EndpointTable = _endpoints()
