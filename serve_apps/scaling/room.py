"""Whether the replicas that a configuration asks for can ever be placed. Pure.

What cannot is refused before anything is deployed: Serve would wait for room that never comes, and say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.core.errors import UsageError

Resources = Mapping[str, float]
SETTINGS = {
    "gateway": "serve.gateway_replicas",
    "guard": "serve.guard_replicas",
    "retriever": "serve.retriever_replicas",
}


def check_room(deployments: Mapping[str, Mapping[str, Any]], nodes: Sequence[Resources], all_there: bool) -> None:
    """Refuse what no node can hold, and where no node can be added what all of them together cannot.

    Args:
        deployments: name -> its options for Ray Serve.
        nodes: what each node there is has, and each kind of node that could be added.
        all_there: no node is ever added.

    Raises:
        UsageError: says which deployment, what it asks for and what there is.
    """
    together: dict[str, float] = {}
    for name, options in deployments.items():
        each = needs(options)
        if lacking := [key for key in each if not any(node.get(key, 0.0) >= each[key] for node in nodes)] or (
            [] if any(all(node.get(key, 0.0) >= each[key] for key in each) for node in nodes) else list(each)
        ):
            largest = ", ".join(f"{max((node.get(key, 0.0) for node in nodes), default=0):g} {key}" for key in lacking)
            raise UsageError(
                f"{name}: one replica reserves {_said(each)}, and no node has that (at most {largest}): lower "
                f"{_setting(name)} or serve.replica_cpus, or add larger nodes"
            )
        least, most = counts(options)
        for key, amount in each.items():
            together[key] = together.get(key, 0.0) + least * amount
            there = sum(node.get(key, 0.0) for node in nodes)
            if all_there and most * amount > there:
                raise UsageError(
                    f"{name}: {most} replicas of {amount:g} {key} are {most * amount:g} {key}, and there are "
                    f"{there:g}: lower {_setting(name)} or serve.replica_cpus"
                )
    for key, amount in together.items():
        there = sum(node.get(key, 0.0) for node in nodes)
        if all_there and amount > there:
            raise UsageError(
                f"the replicas that are always there reserve {amount:g} {key} together, and there are {there:g}: lower "
                "their numbers (serve.*_replicas, min_replicas of the tiers) or serve.replica_cpus"
            )


def surging(
    deployments: Mapping[str, Mapping[str, Any]], nodes: Sequence[Resources], grows: bool = False
) -> dict[str, dict[str, Any]]:
    """The same options; where there is room for as many replicas again, the old ones answer until the new ones do.

    Without that Serve ends the only replica of a deployment before it starts its successor, and whoever asks meanwhile
    waits as long as a start takes. Replicas without room would wait for it for ever, so those go one after the other.

    Args:
        deployments: name -> its options for Ray Serve.
        nodes: what each node there is has.
        grows: machines are added where CPUs are missing.
    """
    room: dict[str, float] = {}
    for node in nodes:
        for key, amount in node.items():
            room[key] = room.get(key, 0.0) + amount
    asked = {name: _together(options) for name, options in deployments.items()}
    for amounts in asked.values():
        for key, amount in amounts.items():
            room[key] = room.get(key, 0.0) - amount
    found = {}
    for name, options in deployments.items():
        fits = all(room[key] >= amount or (grows and key == "CPU") for key, amount in asked[name].items())
        for key, amount in asked[name].items() if fits else ():
            room[key] -= amount
        found[name] = {**options, "max_surge_percent": 100 if fits else 0}
    return found


def _together(options: Mapping[str, Any]) -> dict[str, float]:
    """What the replicas of a deployment that are always there reserve."""
    return {key: amount * counts(options)[0] for key, amount in needs(options).items()}


def needs(options: Mapping[str, Any]) -> dict[str, float]:
    """What one replica reserves, by Ray's names; nothing that is 0."""
    asked = options["ray_actor_options"]
    found = {"CPU": asked.get("num_cpus", 0.0), "GPU": asked.get("num_gpus", 0.0), **asked.get("resources", {})}
    if bundles := options.get("placement_group_bundles", ()):  # all on one node; the replica is in the first of them
        found |= {key: sum(bundle.get(key, 0.0) for bundle in bundles) for bundle in bundles for key in bundle}
    return {key: float(amount) for key, amount in found.items() if amount}


def counts(options: Mapping[str, Any]) -> tuple[int, int]:
    """The fewest and the most replicas."""
    scaled = options.get("autoscaling_config")
    if scaled is None:
        return options["num_replicas"], options["num_replicas"]
    return scaled["min_replicas"], scaled["max_replicas"]


def _said(resources: Resources) -> str:
    return " and ".join(f"{amount:g} {key}" for key, amount in resources.items())


def _setting(name: str) -> str:
    return SETTINGS.get(name, f"serve.tiers.{name.removeprefix('tier-')}")
