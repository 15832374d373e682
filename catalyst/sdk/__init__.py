"""The SDK for catalysts in Python.

entry.py      makes a function the component's export
http.py, streaming.py, websocket.py, secrets.py, output.py, config.py, log.py
              the contract's interfaces, one module each
operation.py  operations as rows of a table
api.py        sends an operation's request and shapes the answer
sse.py        reads event streams: a link to host/core/sse.py
errors.py     the exceptions that become a result
surroundings.py
              what the standard library finds in a sandbox

A module works without its import in the manifest: `config` is empty, `output` and `log` do nothing, and `http`,
`streaming`, `websocket` and `secrets` raise HostRefused. A new interface is a module here, named like its capability in
`host/capabilities/`. It imports the standard library, `wit_world` and itself.
"""

from catalyst.sdk.entry import Call, run, run_operations
from catalyst.sdk.errors import CatalystError, HostRefused, Invalid, Misconfigured, UpstreamError

__all__ = [
    "Call",
    "CatalystError",
    "HostRefused",
    "Invalid",
    "Misconfigured",
    "UpstreamError",
    "run",
    "run_operations",
]
