"""What of the platform answers, asked of each part itself, with what to do about one that does not. No ray import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from cluster.core.errors import PlinthError
from cluster.local_head import Instance
from cluster.loopback import get

TIMEOUT_S = 3.0
RESTART = "`plinth down`, then `plinth up`"


@dataclass(frozen=True)
class Answer:
    """One part: whether it answered, what it said or why not, and the remedy."""

    component: str
    up: bool
    found: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: the fields by name."""
        return asdict(self)


def ask_each(instance: Instance, names: Callable[[], list[str]]) -> list[Answer]:
    """Ask every part of a recorded instance.

    Args:
        names: reads the model registry (``Registry(store).names``).
    """
    port = instance.ports.get
    return [
        _http("HAProxy", f"http://127.0.0.1:{port('haproxy_stats')}/stats", f"`plinth logs ray_head`; {RESTART}"),
        _service(instance),
        _http("Ray GCS", f"{instance.dashboard_url}/api/gcs_healthz", f"`plinth logs ray_head`; {RESTART}"),
        _http("Ray node", f"http://127.0.0.1:{port('dashboard_agent')}/api/local_raylet_healthz", RESTART),
        _http("Ray dashboard", f"{instance.dashboard_url}/api/authentication_mode", RESTART),
        _registry(names),
    ]


def _http(component: str, url: str, remedy: str) -> Answer:
    """Up if it answers 200."""
    try:
        reply = get(url, TIMEOUT_S)
    except OSError as error:
        return Answer(component, False, f"no answer ({type(error).__name__})", remedy)
    if reply.status != 200:
        return Answer(component, False, f"answers {reply.status}", remedy)
    return Answer(component, True, "answers")


def _service(instance: Instance) -> Answer:
    """The gateway behind HAProxy: `/readyz` is 200 when questions are answered."""
    try:
        reply = get(f"{instance.base_url}/readyz", TIMEOUT_S)
    except OSError as error:
        return Answer("service", False, f"no answer ({type(error).__name__})", f"`plinth up`, else {RESTART}")
    try:
        body = reply.json()
    except ValueError:
        body = {}
    if reply.status == 200:
        return Answer("service", True, "answers questions")
    message = body.get("error", {}).get("message") if isinstance(body, dict) else None
    remedy = "`plinth index build`; `plinth logs retriever`" if message else f"`plinth up`, else {RESTART}"
    return Answer("service", False, f"not ready: {message or reply.status}", remedy)


def _registry(names: Callable[[], list[str]]) -> Answer:
    """The registry is files of the store: up if they can be read."""
    try:
        found = names()
    except (PlinthError, OSError) as error:
        return Answer("registry", False, str(error), "is PLINTH_STORE reachable and readable?")
    return Answer("registry", True, f"{len(found)} models")
