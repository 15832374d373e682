"""`host serve`: an OpenAI-compatible gateway and an MCP endpoint over sandboxed catalysts, as an ASGI application.

    from host.server import create_app

    app = create_app()      # for uvicorn, or to be mounted in another service

Translation only: what may be done is decided by the keys, by each catalyst's grant, and below. Needs the extra `serve`.
"""

from host.server.app import Application, create_app
from host.server.settings import ServerSettings
from host.service.limits.limiter import Budget
from host.service.routing import Routed, Routing

__all__ = ["Application", "Budget", "Routed", "Routing", "ServerSettings", "create_app"]
