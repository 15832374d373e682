"""Catalyst Host: API plugins that you don't have to trust.

    from host import Host, Policy, Secret

    with Host() as host:
        openai = host.load("dist/openai.wasm", policy=Policy(allowed_domains=["api.openai.com"]), secrets={…})
        result = openai.run({"operation": "models.list"})

Everything public is here; what is not in `__all__` may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from host.attachments import Attachment as Attachment
    from host.audit import Event as Event
    from host.audit import LogLine as LogLine
    from host.audit import Meters as Meters
    from host.audit import NullSink as NullSink
    from host.audit import Refusal as Refusal
    from host.audit import Sink as Sink
    from host.call import CancelToken as CancelToken
    from host.envelope import Execution as Execution
    from host.envelope import Operation as Operation
    from host.envelope import Result as Result
    from host.limits import Limits as Limits
    from host.manifest import Manifest as Manifest
    from host.names import Reference as Reference
    from host.policy.document import Policy as Policy
    from host.policy.document import RateLimit as RateLimit
    from host.policy.document import SecretRule as SecretRule
    from host.runtime import Catalyst as Catalyst
    from host.runtime import Host as Host
    from host.runtime import Secret as Secret
    from host.streams import AsyncEventStream as AsyncEventStream
    from host.streams import EventStream as EventStream
    from host.workspace import Workspace as Workspace

_HOME = {
    "AsyncEventStream": "host.streams",
    "Attachment": "host.attachments",
    "CancelToken": "host.call",
    "Catalyst": "host.runtime",
    "Event": "host.audit",
    "EventStream": "host.streams",
    "Execution": "host.envelope",
    "Host": "host.runtime",
    "Limits": "host.limits",
    "LogLine": "host.audit",
    "Manifest": "host.manifest",
    "Meters": "host.audit",
    "NullSink": "host.audit",
    "Operation": "host.envelope",
    "Policy": "host.policy.document",
    "RateLimit": "host.policy.document",
    "Reference": "host.names",
    "Refusal": "host.audit",
    "Result": "host.envelope",
    "Secret": "host.runtime",
    "SecretRule": "host.policy.document",
    "Sink": "host.audit",
    "Workspace": "host.workspace",
}

__all__ = [  # noqa: PLE0604 - sorted by the table above, which a test compares with it
    *_HOME,
    "errors",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports on first use: `host run` needs a part of this, and the fakes none."""
    if name == "errors":
        return import_module("host.errors")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'host' has no attribute {name!r}")
