"""`/mcp`, and `host mcp`: catalysts as tools, by the Model Context Protocol (modelcontextprotocol.io).

endpoint.py    Streamable HTTP, without sessions
stdio.py       the same over standard input and output; program.py: for the user who starts it
desk.py        who asks for which tool, and what comes of it; the SDK's server
tool.py        what a tool is, and one call of it
execution.py   the tool `execution`: runs
components.py  the tool `component`
management.py  the tools `secret`, `policy` and `audit`
operations.py  every operation of a catalyst as a tool of its own
schemas.py     their parameters, as an agent fills them in
naming.py      their names
models.py      what a key for some models may name
performing.py  a run, with its events as progress notifications
results.py     what a run returned, or an error, as a tool's result
"""

from host.server.mcp.endpoint import McpEndpoint

__all__ = ["McpEndpoint"]
