"""`host serve`: an OpenAI-compatible gateway, an MCP endpoint and a console, as one ASGI application.

    from host.server import create_app

    app = create_app()      # for uvicorn, or to be mounted in another service

It translates between HTTP and `host.service`, and decides nothing. It may import `host.service` and the packages below
it. A new face is a package here, and a line in `app`. Needs the extra `serve`.
"""

from host.server.app import Application, create_app
from host.server.settings import ServerSettings
from host.service.batches.hosted_work import BatchSettings
from host.service.limits.limiter import Budget
from host.service.request import Routed, Routing
from host.service.targets import Failover, ModelTarget

__all__ = [
    "Application",
    "BatchSettings",
    "Budget",
    "Failover",
    "ModelTarget",
    "Routed",
    "Routing",
    "ServerSettings",
    "create_app",
]
