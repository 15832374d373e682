"""Limits: how much keys and catalysts may spend, in requests and tokens, for all processes and machines together.

`limiter` says what a limiter does and opens one: `store` counts in the state's database, `redis` in a Redis. The
arithmetic is in `host.core.sliding_window`. It imports `host.store` and what stands below it. A new place to count in
is a module with a `Limiter`, and a case in `open_limiter`.
"""

from __future__ import annotations

from host.core.sliding_window import Exceeded as Exceeded
from host.core.sliding_window import Limit as Limit
from host.core.sliding_window import Reservation as Reservation
from host.service.limits.limiter import Budget as Budget
from host.service.limits.limiter import Limiter as Limiter
from host.service.limits.limiter import limits_of_budget as limits_of_budget
from host.service.limits.limiter import limits_of_key as limits_of_key
from host.service.limits.limiter import open_limiter as open_limiter
from host.service.limits.limiter import place_of as place_of
