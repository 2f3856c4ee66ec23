"""The policy as Serve's controller calls it: with its context, after a journey as bytes."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.core.config import PlinthConfig, configured
from serve_apps.replicas.options import graph_options
from serve_apps.scaling import ReplicaScaling
from serve_apps.scaling.controller import look
from serve_apps.scaling.policy import Rules
from tests.test_architecture import ROOT

RULES: dict[str, Any] = {"least": 1, "most": 5, "targets": {"requests": 4.0}, "up_after_s": 1.0, "down_after_s": 10.0}


def context(target: int, requests: float, running: int | None = None, **more: Any) -> SimpleNamespace:
    """Serve's ``AutoscalingContext``, as far as it is read."""
    return SimpleNamespace(
        **{"deployment_name": "guard", "target_num_replicas": target, "total_num_requests": requests,
           "current_num_replicas": target if running is None else running, "total_queued_requests": 0.0,
           "aggregated_metrics": {}} | more
    )  # fmt: skip


class Serve:
    """Calls the policy ten times a second and does what it says."""

    def __init__(self, **rules: Any) -> None:
        self.now, self.target, self.told = 0.0, 1, []  # type: ignore[var-annotated]
        self.policy = ReplicaScaling(lambda *event: self.told.append(event), lambda: self.now, **RULES | rules)

    def runs(self, seconds: float, requests: float, **more: Any) -> int:
        for _ in range(round(seconds * 10)):
            self.target, state = self.policy(context(self.target, requests, **more))
            assert state == {}
            self.now += 0.1
        return self.target


def test_each_change_is_told_once_with_its_reason() -> None:
    serve = Serve()
    assert serve.runs(5, 12) == 3
    assert serve.runs(30, 1) == 1
    assert serve.told == [("guard", 1, 3, "load"), ("guard", 3, 1, "less load")]


def test_what_serve_does_by_itself_is_told_too() -> None:
    serve = Serve(least=0)
    serve.target = 0
    serve.runs(2, 0)
    serve.target = 1  # a request found nobody: Serve starts a replica without asking the policy
    serve.runs(2, 1, running=0)
    assert serve.told == [("guard", 0, 1, "woken")]


def test_replicas_tell_of_tokens_and_waits() -> None:
    rules = Rules(1, 5, {"requests": 8.0, "tokens": 1000.0})
    told = {"tokens": {"a": 900.0, "b": 300.0}, "wait_s": {"a": 2.0, "b": 0.0}}
    seen = look(context(2, 6, aggregated_metrics=told), rules, 7.0)
    assert (seen.load, seen.wait_s, seen.now) == ({"requests": 6, "tokens": 1200}, 1.0, 7.0)
    queued = look(context(2, 9, aggregated_metrics=told, total_queued_requests=3.0), rules, 7.0)
    assert queued.load == {"requests": 9, "tokens": 1800}, "three more that no replica has yet, 200 tokens each"
    none = look(context(2, 9, aggregated_metrics=None, total_queued_requests=None), rules, 7.0)
    assert none.load == {"requests": 9}


CONTROLLER = """
import base64, json, pickle, sys, types
sys.modules["serve_apps.scaling"] = None  # as if it had another version of it, or none
policy, kwargs, context = (json.loads(line) for line in sys.stdin)
made = pickle.loads(base64.b64decode(policy))(**kwargs)
print(made(types.SimpleNamespace(**context))[0], made._rules.most, made._rules.down_after_s)
"""


@pytest.mark.process
def test_the_code_and_the_rules_reach_the_controller() -> None:
    """Ray's own configuration makes bytes of the policy, which another process can make a policy of again, without the
    package: the controller lives on through new versions of the platform."""
    from ray.serve.config import AutoscalingConfig

    config = configured(PlinthConfig(), ["serve.guard_replicas.max=4", "serve.scaling.down_after_s=7"])
    options = graph_options(config, ())["guard"]
    scaled = AutoscalingConfig(**options["autoscaling_config"])
    assert (scaled.min_replicas, scaled.max_replicas) == (2, 4)
    policy = base64.b64encode(scaled.policy.get_serialized_policy_def() or b"").decode()
    said = [policy, scaled.policy.policy_kwargs, vars(context(1, 0.0))]
    done = subprocess.run(
        [sys.executable, "-c", CONTROLLER], input="\n".join(map(json.dumps, said)), capture_output=True, text=True,
        timeout=120, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.split() == ["2", "4", "7.0"], done.stderr
