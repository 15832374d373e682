"""The one road out: HTTP/1.1 to checked addresses, bounded by the run's time, and nothing from the environment.

    target, headers ─ headers ─▶ pool ─▶ connection (h11) ─▶ wire ─▶ lookup, check, dial, TLS
    the guest ◀─ answer ◀─ decoding ◀───────┘

Built on h11 and sockets. Measured for a small POST over a kept-alive loopback connection (tests/benchmarks/egress.py),
CPU time per request on the development machine: httpx2.Client 200 µs, httpcore2.ConnectionPool 125 µs, this package
105 µs with its checks, h11 by itself 50 µs. What decided was less the time than that a pool which is not ours can't say
whether a connection was reused (and so whether a request may be sent again), keeps bytes that follow a response and
takes them for the next one, and waits where a cancellation can't wake it.
"""

from host.egress.client import Answer, Egress, EgressClient, Outgoing, system_tls
from host.egress.deadline import Deadline
from host.egress.dns import Resolver, system_resolver
from host.egress.failures import EgressError, Kind
from host.egress.socket import AddressPolicy

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
    "system_resolver",
    "system_tls",
]
