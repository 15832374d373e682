"""So much in so long: requests and tokens, counted in one place for every process and every machine."""

from __future__ import annotations

from host.server.limits.limit import Exceeded as Exceeded
from host.server.limits.limit import Limit as Limit
from host.server.limits.limit import Limiter as Limiter
from host.server.limits.opening import open_limiter as open_limiter
