"""The policy as Serve calls it: about ten times a second for each deployment, inside Serve's controller.

Plain, as it only reads what it is handed. Ray sends the code of this package along, so what is imported up here from
other packages must not change with a new version of the platform.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from serve_apps.scaling.load import REQUESTS, WAIT
from serve_apps.scaling.policy import Look, Memory, Rules, decide

LOOK_S = 1.0
Tell = Callable[[str, int, int, str], None]


class Events:
    """Counts scale events and writes them down. Serve's controller goes on whatever becomes of it."""

    def __init__(self) -> None:
        self._recorder: Any = None

    def __call__(self, deployment: str, before: int, after: int, why: str) -> None:
        """One event: a deployment shall have ``after`` replicas instead of ``before``."""
        from cluster.core.errors import PlinthError
        from cluster.core.telemetry import log_event
        from serve_apps.metrics.recorder import RayRecorder

        self._recorder = self._recorder or RayRecorder()
        labels = {"deployment": deployment, "direction": "up" if after > before else "down"}
        try:
            self._recorder.record("plinth_scale_events_total", 1, labels)
            log_event("scaling", "scaled", deployment=deployment, before=before, after=after, why=why)
        except (PlinthError, KeyError, ValueError, OSError):
            return


class ReplicaScaling:
    """One deployment's policy, as ``AutoscalingPolicy(policy_function=..., policy_kwargs=...)`` makes it.

    Args:
        rules: the fields of ``Rules``, as JSON values.
    """

    def __init__(self, tell: Tell | None = None, clock: Callable[[], float] = time.monotonic, **rules: Any) -> None:
        self._rules, self._memory, self._tell, self._clock = Rules(**rules), Memory(), tell or Events(), clock
        self._looked_at: float | None = None
        self._target: int | None = None
        self._why = ""

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Replicas there shall be, given Serve's ``AutoscalingContext``; once in LOOK_S it is really looked.

        Nothing is kept in the context's state: this object lives just as long.
        """
        target, now = int(context.target_num_replicas), self._clock()
        if self._target is not None and target != self._target:
            # Told of what became of a decision, and of what Serve did by itself: it wakes a sleeping deployment.
            self._tell(str(context.deployment_name), self._target, target, self._why or "woken")
            self._why = ""
        self._target = target
        if self._looked_at is not None and now - self._looked_at < LOOK_S:
            return target, {}
        self._looked_at = now
        decision = decide(self._rules, self._memory, look(context, self._rules, now))
        self._memory = decision.memory
        if decision.replicas != target:
            self._why = decision.why
        return decision.replicas, {}


def look(context: Any, rules: Rules, now: float) -> Look:
    """What Serve's context says, in the policy's words.

    Replicas tell what they count (``Load.stats``) as means over the last seconds. A request that no replica has yet is
    taken to be worth as much as one that a replica has.
    """
    told: Mapping[str, Mapping[Any, float]] = context.aggregated_metrics or {}
    requests, queued = float(context.total_num_requests), float(context.total_queued_requests or 0.0)
    load = {REQUESTS: requests}
    for name in rules.targets:
        if name != REQUESTS and name in told:
            inside, running = sum(told[name].values()), max(0.0, requests - queued)
            load[name] = inside * (1 + queued / running) if running >= 1 else inside
    waits = list(told.get(WAIT, {}).values())
    wait_s = sum(waits) / len(waits) if waits else 0.0
    return Look(now, int(context.current_num_replicas), int(context.target_num_replicas), load, wait_s)
