"""The particulars of each kind of stored object: its identifiers, its usual fields, what becomes of it.

A collection that is not here has identifiers with its own name before them, and its objects have the fields that their
makers give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

NOW: Final[Any] = object()  # in a table of fields: the time at which they are set


@dataclass(frozen=True)
class Resource:
    """What is particular to the objects of a collection."""

    prefix: str = ""  # of identifiers
    fields: Mapping[str, Any] = field(default_factory=dict)  # that a new one has if its maker did not say another
    key: str | None = None  # the parameter that is the identifier, of things that are made elsewhere
    steps: tuple[Mapping[str, Any], ...] = ()  # the fields that it takes on, one step each time that it is looked at
    actions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by verb: the fields that it takes on
    seeds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # those that are there from the beginning
    oldest_first: bool = False  # how they are listed
    lasts_s: int | None = None  # until it expires
    when_expired: Mapping[str, Any] | None = None  # the fields that it then takes on; None: it is gone
    word: str = "object"  # in errors


def resource(template: str) -> Resource:
    """Of a collection, by its path with names for parameters."""
    if template in RESOURCES:
        return RESOURCES[template]
    name = template.rpartition("/")[2].removesuffix("s")
    return Resource(prefix=f"{name}_", word=name.replace("_", " "))


_USD_MONTH: Final = {"currency": "USD", "interval": "month"}
_ORGANIZATION: Final = "/v1/organization"
_PROJECT: Final = "/v1/organization/projects/{project_id}"
_SESSION: Final = "/v1/agents/sessions/{session_id}"
_ADA: Final = {"name": "Ada Lovelace", "email": "ada@example.com", "role": "owner"}
_ALAN: Final = {"name": "Alan Turing", "email": "alan@example.com", "role": "reader"}
_ROLE: Final = Resource(
    "role_", {"permissions": [], "resource_type": "api.organization", "predefined_role": False}, word="role"
)
_ITEM: Final = Resource("item_", {"type": "message", "role": "user", "content": [], "status": "completed"}, word="item")
_TURN: Final = Resource("turn_", {"status": "completed"}, seeds={"turn_1": {}}, word="turn")

RESOURCES: Final[Mapping[str, Resource]] = {
    # administration
    f"{_ORGANIZATION}/admin_api_keys": Resource(
        "key_", {"redacted_value": "sk-admin-…abcd", "value": "sk-admin-fake"}, word="admin API key"
    ),
    f"{_ORGANIZATION}/certificates": Resource("cert_", {"active": False}, word="certificate"),
    f"{_ORGANIZATION}/external_keys": Resource("ek_", word="external key"),
    f"{_ORGANIZATION}/external_storage": Resource(
        "es_", {"status": "pending"}, actions={"validate": {"status": "validated"}}, word="external storage"
    ),
    f"{_ORGANIZATION}/groups": Resource("group_", {"group_type": "group", "is_scim_managed": False}, word="group"),
    f"{_ORGANIZATION}/groups/{{group_id}}/users": Resource(key="user_id", word="user"),
    f"{_ORGANIZATION}/groups/{{group_id}}/roles": Resource(key="role_id", word="role"),
    f"{_ORGANIZATION}/invites": Resource(
        "invite-",
        {"status": "pending", "projects": []},
        lasts_s=604_800,
        when_expired={"status": "expired"},
        word="invite",
    ),
    f"{_ORGANIZATION}/projects": Resource(
        "proj_", {"status": "active"}, actions={"archive": {"status": "archived", "archived_at": NOW}}, word="project"
    ),
    f"{_PROJECT}/api_keys": Resource(
        "key_", {"redacted_value": "sk-…abcd", "owner_project_access": "active"}, seeds={"key_1": {}}, word="API key"
    ),
    f"{_PROJECT}/certificates": Resource("cert_", {"active": False}, word="certificate"),
    f"{_PROJECT}/groups": Resource(key="group_id", fields={"group_type": "group"}, word="group"),
    f"{_PROJECT}/groups/{{group_id}}/roles": Resource(key="role_id", word="role"),
    f"{_PROJECT}/rate_limits": Resource(
        "rl_",
        {"model": "gpt-4o", "max_requests_per_1_minute": 500, "max_tokens_per_1_minute": 30_000},
        seeds={"rl_gpt-4o": {}},
        word="rate limit",
    ),
    f"{_PROJECT}/roles": _ROLE,
    f"{_PROJECT}/service_accounts": Resource("svc_acct_", {"role": "member"}, word="service account"),
    f"{_PROJECT}/service_accounts/{{service_account_id}}/api_keys": Resource(
        "key_", {"value": "sk-svcacct-fake"}, word="API key"
    ),
    f"{_PROJECT}/spend_alerts": Resource("alert_", word="spend alert"),
    f"{_PROJECT}/users": Resource("user-", key="user_id", fields={"added_at": NOW}, word="user"),
    f"{_PROJECT}/users/{{user_id}}/roles": Resource(key="role_id", word="role"),
    f"{_ORGANIZATION}/roles": _ROLE,
    f"{_ORGANIZATION}/spend_alerts": Resource("alert_", word="spend alert"),
    f"{_ORGANIZATION}/users": Resource(
        "user-", {"added_at": NOW}, seeds={"user-1": _ADA, "user-2": _ALAN}, word="user"
    ),
    f"{_ORGANIZATION}/users/{{user_id}}/roles": Resource(key="role_id", word="role"),
    f"{_ORGANIZATION}/workload_identity_providers": Resource(
        "wip_", {"enabled": True}, word="workload identity provider"
    ),
    f"{_ORGANIZATION}/audit_logs": Resource("audit_log-", {"effective_at": NOW}, word="audit log"),
    # settings: the fields that they begin with
    f"{_ORGANIZATION}/data_retention": Resource(fields={"type": "modified_abuse_monitoring"}),
    f"{_ORGANIZATION}/spend_limit": Resource(fields={**_USD_MONTH, "threshold_amount": 100_000}),
    f"{_PROJECT}/data_retention": Resource(fields={"type": "organization_default"}),
    f"{_PROJECT}/spend_limit": Resource(fields={**_USD_MONTH, "threshold_amount": 100_000}),
    # files and knowledge
    "/v1/files": Resource("file-", word="File object"),
    "/v1/uploads": Resource("upload_", when_expired={"status": "expired"}, word="upload"),
    "/v1/uploads/{upload_id}/parts": Resource("part_", word="part"),
    "/v1/containers": Resource(
        "cntr_",
        {"object": "container", "status": "running"},
        lasts_s=1_200,
        when_expired={"status": "expired"},
        word="container",
    ),
    "/v1/containers/{container_id}/files": Resource("cfile_", {"source": "user"}, word="container file"),
    "/v1/vector_stores": Resource("vs_", when_expired={"status": "expired"}, word="vector store"),
    "/v1/vector_stores/{vector_store_id}/files": Resource("file-", word="vector store file"),
    "/v1/vector_stores/{vector_store_id}/file_batches": Resource("vsfb_", word="vector store file batch"),
    "/v1/skills": Resource("skill_", word="skill"),
    "/v1/skills/{skill_id}/versions": Resource(word="skill version"),
    # assistants
    "/v1/assistants": Resource("asst_", {"tools": []}, word="assistant"),
    "/v1/threads": Resource("thread_", word="thread"),
    "/v1/threads/{thread_id}/messages": Resource("msg_", word="message"),
    "/v1/threads/{thread_id}/runs": Resource("run_", lasts_s=600, when_expired={"status": "expired"}, word="run"),
    "/v1/threads/{thread_id}/runs/{run_id}/steps": Resource("step_", word="run step"),
    # work in the background
    "/v1/batches": Resource("batch_", when_expired={"status": "expired"}, word="batch"),
    "/v1/evals": Resource("eval_", oldest_first=True, word="eval"),
    "/v1/evals/{eval_id}/runs": Resource(
        "evalrun_", actions={"cancel": {"status": "canceled"}}, oldest_first=True, word="eval run"
    ),
    "/v1/evals/{eval_id}/runs/{run_id}/output_items": Resource("outputitem_", oldest_first=True, word="output item"),
    "/v1/fine_tuning/jobs": Resource("ftjob-", word="fine-tuning job"),
    "/v1/fine_tuning/jobs/{fine_tuning_job_id}/events": Resource("ftevent-", word="event"),
    "/v1/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints": Resource("ftckpt_", word="checkpoint"),
    "/v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions": Resource("cp_", word="permission"),
    # agents
    "/v1/agents": Resource("agent_", word="agent"),
    "/v1/agents/automations": Resource(
        "auto_",
        {"status": "active"},
        actions={"pause": {"status": "paused"}, "resume": {"status": "active"}},
        word="automation",
    ),
    "/v1/agents/automations/{automation_id}/invocations": Resource(
        "inv_",
        {"status": "queued"},
        steps=({"status": "completed"},),
        word="invocation",
    ),
    "/v1/agents/environments": Resource(
        "env_", {"status": "pending"}, steps=({"status": "ready"},), word="environment"
    ),
    "/v1/agents/environments/{environment_id}/files": Resource("efile_", word="environment file"),
    "/v1/agents/environments/templates": Resource("envt_", word="environment template"),
    "/v1/agents/sessions": Resource(
        "sess_", {"status": "idle", "required_actions": [], "vault_ids": []}, word="session"
    ),
    f"{_SESSION}/artifacts": Resource(
        "artifact_", {"path": "/workspace/result.txt", "size_bytes": 7}, seeds={"artifact_1": {}}, word="artifact"
    ),
    f"{_SESSION}/items": _ITEM,
    f"{_SESSION}/subagents": Resource("subagent_", {"status": "active"}, seeds={"subagent_1": {}}, word="subagent"),
    f"{_SESSION}/subagents/{{subagent_id}}/items": _ITEM,
    f"{_SESSION}/subagents/{{subagent_id}}/turns": _TURN,
    f"{_SESSION}/subagents/{{subagent_id}}/turns/{{turn_id}}/items": _ITEM,
    f"{_SESSION}/traces": Resource("trace_", {"otlp": {}}, word="trace"),
    f"{_SESSION}/turns": Resource("turn_", {"status": "in_progress"}, word="turn"),
    f"{_SESSION}/turns/{{turn_id}}/items": _ITEM,
    "/v1/vaults": Resource("vault_", word="vault"),
    "/v1/vaults/{vault_id}/credentials": Resource("cred_", word="credential"),
    # ChatKit
    "/v1/chatkit/sessions": Resource(
        "cksess_",
        {"status": "active"},
        actions={"cancel": {"status": "cancelled"}},
        lasts_s=600,
        when_expired={"status": "expired"},
        word="ChatKit session",
    ),
    "/v1/chatkit/threads": Resource("cthr_", seeds={"cthr_1": {}}, word="ChatKit thread"),
    "/v1/chatkit/threads/{thread_id}/items": Resource(
        "cthi_", {"type": "chatkit.user_message"}, seeds={"cthi_1": {}}, word="item"
    ),
    # conversations
    "/v1/conversations": Resource("conv_", word="conversation"),
    "/v1/conversations/{conversation_id}/items": Resource("item_", word="conversation item"),
    # media
    "/v1/videos": Resource("video_", word="video"),
    "/v1/videos/characters": Resource("char_", word="character"),
    # the rest
    "/v1/live/sessions": Resource("live_", word="live session"),
    "/v1/audio/voice_consents": Resource("cons_", word="voice consent"),
    "/v1/audio/voices": Resource("voice_", word="voice"),
    "/v1/safety/alerts": Resource("alert_", seeds={"alert_1": {}}, word="safety alert"),
    "/v1/safety/cases": Resource("case_", seeds={"case_1": {}}, word="safety case"),
    "/v1/webhook_endpoints": Resource(
        "we_", {"signing_secret": "whsec_ZmFrZQ==", "signing_secret_hint": "whsec_Zm"}, word="webhook endpoint"
    ),
}
