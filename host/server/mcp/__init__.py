"""`/mcp`, and `host mcp`: catalysts as tools, by the Model Context Protocol (modelcontextprotocol.io).

endpoint.py          Streamable HTTP, without sessions
stdio.py             the same over standard input and output, for the user who starts it
server.py            the SDK's server: lists tools, and calls one
tool.py              a tool of the host, and one call
execution_tool.py    the tool `execution`: runs
component_tool.py    the tool `component`
management_tools.py  the tools `secret`, `policy` and `audit`
operation_tools.py   a tool for each operation of each catalyst: its name, its parameters, its calls
tool_search.py       the tool `tools_search`: finds those that are not listed
run_tool.py          one run, with progress notifications
results.py           a result, or an error, as the result of a tool
"""

from host.server.mcp.endpoint import McpEndpoint

__all__ = ["McpEndpoint"]
