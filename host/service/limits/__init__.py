"""So much in so long: requests and tokens, counted in one place for every process and every machine."""

from __future__ import annotations

from host.service.limits.opening import open_limiter as open_limiter
from host.service.limits.quota import Exceeded as Exceeded
from host.service.limits.quota import Limit as Limit
from host.service.limits.quota import Limiter as Limiter
