"""Time, cost and replicas: pure arithmetic on measured speeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cluster.core.errors import BadInputError

MOST_REPLICAS = 100_000


@dataclass(frozen=True)
class Effort:
    """What training takes: floating-point operations, seconds by the clock, and money (0 where no price is known)."""

    flops: float
    seconds: float
    cost: float


def effort(tokens: float, flops_a_token: float, flops_per_s: float, price_per_hour: float = 0.0) -> Effort:
    """What ``tokens`` take at a speed that was reached.

    Args:
        flops_per_s: of all devices together, as measured (their peak times MFU).
        price_per_hour: of all devices together.
    """
    flops = tokens * flops_a_token
    seconds = flops / flops_per_s
    return Effort(flops, seconds, seconds / 3600 * price_per_hour)


def replicas_for(requests_per_s: float, service_s: float, slo_s: float, share: float = 0.95) -> int:
    """Least number of replicas with which ``share`` of the requests are answered within ``slo_s``.

    A queue with Poisson arrivals and exponential service times in front of equal replicas (M/M/c): the wait exceeds t
    with probability C(c, load) exp(-(c - load) t / service_s), C being Erlang's formula.

    Args:
        service_s: mean seconds that one replica is busy with a request.
        slo_s: seconds of the whole answer, its own service included.

    Raises:
        BadInputError: one answer alone takes longer than the objective allows, or a number is not positive.
    """
    if min(requests_per_s, service_s, slo_s) <= 0 or not 0 < share < 1:
        raise BadInputError("requests per second, seconds of service and the objective must be more than 0")
    if service_s >= slo_s:
        raise BadInputError(
            f"one answer takes {service_s:.2f} s, objective {slo_s:g} s: no number of replicas reaches it; use a"
            " smaller model, fewer tokens or faster devices"
        )
    load, spare = requests_per_s * service_s, slo_s - service_s
    blocked, replicas = 1.0, 0  # Erlang B by its recursion
    while replicas < MOST_REPLICAS:
        replicas += 1
        blocked = load * blocked / (replicas + load * blocked)
        if replicas <= load:
            continue
        waits = blocked / (1 - load / replicas * (1 - blocked))
        if waits * math.exp(-(replicas - load) * spare / service_s) <= 1 - share:
            return replicas
    raise BadInputError(
        f"more than {MOST_REPLICAS:,} replicas would be needed for {requests_per_s:g} requests a second"
    )
