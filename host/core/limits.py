"""Limits: how much one run may spend. One frozen dataclass, units in the names, only ever narrowed."""

from __future__ import annotations

from dataclasses import dataclass, fields

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Every field is an inclusive upper bound; there is no value that means "unlimited"."""

    timeout_s: float = 600.0  # wall clock until the answer is whole or begins to flow; OpenAI's clients wait as long
    stream_timeout_s: float = 1800.0  # wall clock of a run whose answer flows to its caller, from its start
    connect_timeout_s: float = 10.0  # to an upstream: its name, its address and TLS
    first_byte_timeout_s: float = 600.0  # for the head of an answer; a model that thinks sends nothing before it
    idle_timeout_s: float = 300.0  # without a byte of an answer that has begun, or with a caller who takes none
    cpu_time_s: float = 10.0  # of the sandbox's own thread; a Python catalyst spends about a millisecond
    max_memory_bytes: int = 128 * MIB  # linear memory; CPython needs 16 MiB before it runs a line
    max_request_bytes: int = 32 * MIB  # one outgoing body; audio uploads go up to 25 MB
    max_response_bytes: int = 64 * MIB  # one answer, on the wire and decoded alike
    max_output_bytes: int = 16 * MIB  # the guest's output, and its events, each
    max_http_requests: int = 64  # fetches and streams of one run together
    max_streams: int = 3  # open at once: CYFR's number
    max_connections: int = 3  # WebSockets that are open at once
    max_upstream_connections: int = 2_000  # of all runs of the catalyst together, idle ones included
    max_message_bytes: int = 16 * MIB  # one message of a WebSocket, of either side; audio comes in much smaller ones
    max_connection_bytes: int = 256 * MIB  # of one WebSocket, each way; an hour of speech as PCM16 in base64 has 220
    max_attachment_bytes: int = 256 * MIB  # all attachments of one run together
    max_host_calls: int = 100_000  # of any kind; a streamed answer of 4,000 events needs some 8,000
    max_log_bytes: int = 64 * 1024  # log messages, stdout and stderr, each; more is dropped and counted

    def narrowed(self, other: Limits) -> Limits:
        """The smaller of each field."""
        return Limits(**{f.name: min(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})

    def __le__(self, other: Limits) -> bool:
        return all(getattr(self, f.name) <= getattr(other, f.name) for f in fields(self))


CEILING = Limits(
    timeout_s=24 * 3600.0,
    stream_timeout_s=24 * 3600.0,
    connect_timeout_s=3600.0,
    first_byte_timeout_s=24 * 3600.0,
    idle_timeout_s=24 * 3600.0,
    cpu_time_s=3600.0,
    max_memory_bytes=1024 * MIB,
    max_request_bytes=1024 * MIB,
    max_response_bytes=1024 * MIB,
    max_output_bytes=256 * MIB,
    max_http_requests=100_000,
    max_streams=64,
    max_connections=64,
    max_upstream_connections=10_000,
    max_message_bytes=256 * MIB,
    max_connection_bytes=64 * 1024 * MIB,
    max_attachment_bytes=1024 * MIB,
    max_host_calls=10_000_000,
    max_log_bytes=16 * MIB,
)
"""The ceiling of every policy, unless the host has another."""
