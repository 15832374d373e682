"""Catalyst Host: API plugins that you don't have to trust.

    from host import Host, Policy, Secret

    with Host() as host:
        openai = host.load("dist/openai.wasm", policy=Policy(allowed_domains=["api.openai.com"]), secrets={…})
        result = openai.run({"operation": "models.list"})

Public are the names in `__all__`; `host.errors`; `host.openai`, a client; `host.fakes`, stand-ins for tests;
`host.server.create_app` and its settings; and `host.runtime.workspace_parts`, the types of a Workspace's parts.
Everything else may change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from host.runtime.public import *
    from host.runtime.workspace import Installed as Installed
    from host.runtime.workspace import Workspace as Workspace

__all__ = [
    "Artifact",
    "AsyncEventConnection",
    "AsyncEventStream",
    "Attachment",
    "Breaker",
    "CancelToken",
    "Catalyst",
    "Closed",
    "CompileLimits",
    "Counting",
    "Declared",
    "Digest",
    "Domain",
    "DomainPattern",
    "Effective",
    "Event",
    "EventConnection",
    "EventStream",
    "Exceeded",
    "Execution",
    "Grant",
    "Host",
    "Installed",
    "Limit",
    "Limits",
    "Loader",
    "LogLine",
    "Manifest",
    "Meters",
    "NullSink",
    "Operation",
    "OperationSpec",
    "Origin",
    "Passes",
    "Policy",
    "Quota",
    "RateLimit",
    "Reference",
    "Refusal",
    "RequestLimiter",
    "Requested",
    "Result",
    "Retries",
    "Secret",
    "SecretGrant",
    "SecretName",
    "SecretNeed",
    "SecretRule",
    "SecretValue",
    "Share",
    "Sink",
    "Target",
    "Terms",
    "Throttle",
    "TlsRule",
    "UpstreamPlace",
    "UpstreamRule",
    "Workspace",
    "errors",
]
__version__ = "0.1.0"

if not TYPE_CHECKING:  # type checkers have the names above; a `__getattr__` would make any name an Any

    def __getattr__(name: str) -> object:
        """Imports on first use: the fakes need none of it, and only a Workspace needs a database."""
        from importlib import import_module  # noqa: PLC0415 - `import host` imports nothing

        if name == "errors":  # a module, which imports nothing
            return import_module("host.errors")
        if name in __all__:
            for home in ("host.runtime.public", "host.runtime.workspace"):
                if (found := getattr(import_module(home), name, None)) is not None:
                    globals()[name] = found
                    return found
        raise AttributeError(f"module 'host' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
