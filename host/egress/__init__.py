"""HTTP/1.1 requests to checked addresses, bounded by the run's time. Nothing comes from the environment.

    target, headers ─ headers ─▶ pool ─▶ connection (h11) ─▶ socket ─▶ look up, check, dial, TLS
    the guest ◀─ answer ◀─ decoding ◀───────┘

The only package that opens sockets (with `fakes` and the server's listener). It may import `trust`, `policy`, `core`
and what lies between. A new content coding goes into `decoding`; a new failure of a library into `failures`.

Built on h11 and sockets. CPU time per request, for a small POST over a kept-alive loopback connection
(tests/benchmarks/egress.py): httpx2.Client 200 µs, httpcore2.ConnectionPool 125 µs, this package 105 µs with its
checks, h11 by itself 50 µs. Time was not the main reason. A foreign pool does not say whether a connection was reused
(and so whether a request may be sent again), keeps bytes that follow a response and takes them for the next one, and
waits where a cancellation does not wake it.
"""

from host.egress.client import Answer, Egress, EgressClient, Outgoing
from host.egress.dns import Resolver, system_resolver
from host.egress.failures import EgressError, Kind
from host.egress.socket import AddressPolicy, Deadline, Wait
from host.egress.tls import TlsByOrigin, TlsFiles, system_tls

__all__ = [
    "AddressPolicy",
    "Answer",
    "Deadline",
    "Egress",
    "EgressClient",
    "EgressError",
    "Kind",
    "Outgoing",
    "Resolver",
    "TlsByOrigin",
    "TlsFiles",
    "Wait",
    "system_resolver",
    "system_tls",
]
