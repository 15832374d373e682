"""The SDK for catalysts in Python.

`entry` makes a function the component's export; `http`, `streaming`, `secrets`, `output`, `config` and `log` are the
contract's interfaces; `operation` and `api` make a table of operations a catalyst; `sse` reads event streams. A module
whose interface the manifest does not ask for can still be imported: reads and writes then come to nothing, and what
cannot come to nothing raises HostRefused.
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
