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
    from host.component.manifest import Manifest as Manifest
    from host.core.attachments import Attachment as Attachment
    from host.core.audit import Event as Event
    from host.core.audit import LogLine as LogLine
    from host.core.audit import Meters as Meters
    from host.core.audit import NullSink as NullSink
    from host.core.audit import Sink as Sink
    from host.core.limits import Limits as Limits
    from host.core.names import Reference as Reference
    from host.core.operation import Execution as Execution
    from host.core.operation import Operation as Operation
    from host.core.operation import Result as Result
    from host.errors import Refusal as Refusal
    from host.policy.document import Policy as Policy
    from host.policy.document import RateLimit as RateLimit
    from host.policy.document import SecretRule as SecretRule
    from host.run import CancelToken as CancelToken
    from host.runtime.events import AsyncEventStream as AsyncEventStream
    from host.runtime.events import EventStream as EventStream
    from host.runtime.host import Catalyst as Catalyst
    from host.runtime.host import Host as Host
    from host.runtime.host import Secret as Secret
    from host.runtime.workspace import Workspace as Workspace

_HOME = {
    "AsyncEventStream": "host.runtime.events",
    "Attachment": "host.core.attachments",
    "CancelToken": "host.run",
    "Catalyst": "host.runtime.host",
    "Event": "host.core.audit",
    "EventStream": "host.runtime.events",
    "Execution": "host.core.operation",
    "Host": "host.runtime.host",
    "Limits": "host.core.limits",
    "LogLine": "host.core.audit",
    "Manifest": "host.component.manifest",
    "Meters": "host.core.audit",
    "NullSink": "host.core.audit",
    "Operation": "host.core.operation",
    "Policy": "host.policy.document",
    "RateLimit": "host.policy.document",
    "Reference": "host.core.names",
    "Refusal": "host.errors",
    "Result": "host.core.operation",
    "Secret": "host.runtime.host",
    "SecretRule": "host.policy.document",
    "Sink": "host.core.audit",
    "Workspace": "host.runtime.workspace",
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
