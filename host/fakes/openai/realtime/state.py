"""What outlives a connection: client secrets, calls, live sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class RealtimeState:
    """`client_secrets` have the session that each was made for, by its value. `calls` have their status, by id, and
    `live` the settings of live sessions."""

    client_secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    live: dict[str, dict[str, Any]] = field(default_factory=dict)
