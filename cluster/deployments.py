"""How many replicas each deployment of the service has and how often that changed, for `plinth status` and for the page
`/ops`. No ray import.

Ray's dashboard knows the replicas; what changed their numbers, the policy wrote into the log ``scaling``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.core.home import Home
from cluster.local_head import Instance, recorded
from cluster.loopback import get

APPLICATION = "plinth"
TIMEOUT_S = 5.0
ILL = ("UNHEALTHY", "DEPLOY_FAILED")
PROBLEM_CHARS = 300
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Deployment:
    """One deployment: replicas that run, those there shall be, between which numbers; scale events since `plinth up`.

    ``last`` is the last event: ``at``, ``before``, ``after``, ``why``; ``problem`` what Serve says of one that is not
    healthy.
    """

    name: str
    running: int
    target: int
    min: int
    max: int
    ups: int = 0
    downs: int = 0
    last: dict[str, Any] | None = None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: the fields by name."""
        return asdict(self)


def deployments(home: Home, instance: Instance) -> list[Deployment]:
    """Every deployment of the service, by name; none where Ray's dashboard does not say."""
    try:
        url = f"{instance.dashboard_url}/api/serve/applications/"
        reply = get(url, TIMEOUT_S, token=home.token_path.read_text().strip())
        found = reply.json()["applications"][APPLICATION]["deployments"] if reply.status == 200 else {}
    except (OSError, ValueError, KeyError, TypeError):
        return []
    events = scale_events(home.logs / "scaling.jsonl", instance.started_at)
    return [_deployment(name, details, events) for name, details in sorted(found.items())]


def deployments_now(home: Home) -> tuple[list[Deployment], list[dict[str, Any]]]:
    """The same of what this PLINTH_HOME started last, and its scale events; no deployments where it started nothing."""
    instance = recorded(home)
    events = scale_events(home.root / "logs" / "scaling.jsonl", instance.started_at if instance else "")
    return (deployments(home, instance) if instance else []), events


def _deployment(name: str, details: dict[str, Any], events: list[dict[str, Any]]) -> Deployment:
    mine = [event for event in events if event["deployment"] == name]
    ways = Counter("up" if event["after"] > event["before"] else "down" for event in mine)
    last = {"at": mine[-1]["ts"], **{key: mine[-1][key] for key in ("before", "after", "why")}} if mine else None
    target = int(details["target_num_replicas"])
    scaled = details["deployment_config"].get("autoscaling_config")
    least, most = (scaled["min_replicas"], scaled["max_replicas"]) if scaled else (target, target)
    running = sum(replica["state"] == "RUNNING" for replica in details["replicas"])
    problem = _last_line(str(details.get("message", ""))) if details.get("status") in ILL else ""
    return Deployment(name, running, target, least, most, ways["up"], ways["down"], last, problem)


def _last_line(message: str) -> str:
    """Of a message that ends in a traceback what was raised."""
    lines = [line.strip() for line in ANSI.sub("", message).splitlines() if line.strip()]
    return lines[-1][:PROBLEM_CHARS] if lines else ""


def scale_events(log: Path, since: str) -> list[dict[str, Any]]:
    """The changes of numbers of replicas that the log tells of, oldest first.

    Args:
        since: ISO time; earlier ones are left out.
    """
    try:
        lines = log.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            event = json.loads(line)
            whole = {key: event[key] for key in ("ts", "event", "deployment", "before", "after", "why")}
        except (ValueError, KeyError, TypeError):  # a line that was cut
            continue
        if whole["event"] == "scaled" and whole["ts"] >= since:
            found.append(whole)
    return found
