"""WebSockets below `/v1`: OpenAI's realtime API and its siblings, each connection bridged through a sandbox of its own.

endpoint.py   from the request for an upgrade to its answer: caller, route, admission, the connection upstream
bridge.py     messages both ways, and how the two ends end
"""

from host.server.realtime.endpoint import RealtimeEndpoint

__all__ = ["RealtimeEndpoint"]
