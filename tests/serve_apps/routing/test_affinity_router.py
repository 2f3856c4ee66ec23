"""The request router in Serve's own machinery: its queue, probes, ranks and matching, with replicas that stand in."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from data_jobs.retrieval.results import Retrieval
from serve_apps.gateway.protocols import Sampling
from serve_apps.routing.affinity import SLACK
from tests.fakes import PASSAGE

pytestmark = pytest.mark.process
NUMBERS = itertools.count()


class Replica:
    """What Serve's router knows of a replica, and how many requests are in it."""

    def __init__(self, name: str, most: int = 200) -> None:
        from ray.serve._private.common import DeploymentID, ReplicaID

        self.replica_id = ReplicaID(name, DeploymentID("tier-big", "plinth"))
        self.node_id, self.availability_zone, self.multiplexed_model_ids = "node", None, frozenset()
        self.max_ongoing_requests, self.ongoing = most, 0

    async def get_queue_len(self, *, deadline_s: float) -> int:
        return self.ongoing


class Deployment:
    """A router with its replicas, asked as Serve asks it."""

    def __init__(self, *replicas: Replica) -> None:
        from ray.serve._private.common import DeploymentHandleSource, DeploymentID

        from serve_apps.affinity_router import AffinityRouter

        self.replicas = {one.replica_id: one for one in replicas}
        self.router = AffinityRouter(
            deployment_id=DeploymentID("tier-big", "plinth"), handle_source=DeploymentHandleSource.REPLICA,
            use_replica_queue_len_cache=True,
        )  # fmt: skip
        self.router.initialize_state()
        self.router.update_replicas(list(replicas))

    async def ask(self, *args: Any, method: str = "stream", stays: bool = False) -> str:
        """Which replica one call goes to; with ``stays`` it is not answered yet."""
        from ray.serve._private.common import RequestMetadata
        from ray.serve._private.request_router.common import PendingRequest

        number = str(next(NUMBERS))
        request = PendingRequest(list(args), {}, RequestMetadata(number, number, call_method=method))
        async with asyncio.timeout(5):
            chosen = await self.router._choose_replica_for_request(request)
        self.router.on_send_request(chosen.replica_id)
        self.router.on_request_routed(request, chosen.replica_id, None)
        if stays:
            self.replicas[chosen.replica_id].ongoing += 1
        else:
            self.router.decrement_queue_len_cache(chosen.replica_id)
        return str(chosen.replica_id.unique_id)


def about(*names: str) -> tuple[str, Retrieval, Sampling]:
    return "q", Retrieval("q", tuple(replace(PASSAGE, chunk=name) for name in names)), Sampling()


def test_two_conversations_stay_on_their_replicas() -> None:
    async def scene() -> tuple[set[str], set[str]]:
        deployment = Deployment(Replica("a"), Replica("b"), Replica("c"))
        leave, travel = set(), set()
        for _ in range(12):
            leave.add(await deployment.ask(*about("leave", "general")))
            travel.add(await deployment.ask(*about("travel", "general")))
        return leave, travel

    leave, travel = asyncio.run(scene())
    assert (len(leave), len(travel)) == (1, 1), "by chance: once in 100,000,000,000"


def test_conversations_at_the_same_time_get_each_the_replica_that_was_chosen_for_it() -> None:
    async def scene() -> list[tuple[str, set[str]]]:
        deployment = Deployment(*(Replica(name) for name in "abcd"))
        homes = {f"topic {number}": "abcd"[number % 4] for number in range(4 * (SLACK + 1))}  # as many as none is busy
        for topic, home in homes.items():
            deployment.router._affinity.note(_chain(about(topic)), home)
        later = [await asyncio.gather(*(deployment.ask(*about(topic)) for topic in homes)) for _ in range(4)]
        return [(home, {turn[place] for turn in later}) for place, home in enumerate(homes.values())]

    assert all(later == {home} for home, later in asyncio.run(scene()))


def test_a_busy_replica_spills_over() -> None:
    async def scene() -> Counter[str]:
        deployment = Deployment(Replica("a"), Replica("b"))
        return Counter([await deployment.ask(*about("leave"), stays=True) for _ in range(12)])

    shares = asyncio.run(scene())
    assert set(shares) == {"a", "b"}
    assert max(shares.values()) - min(shares.values()) <= SLACK + 1


def test_a_burst_spills_over_before_any_of_it_was_sent() -> None:
    """All choose before one is sent: what is on its way counts too, and no longer when it has arrived."""

    async def scene() -> tuple[Counter[str], int]:
        from ray.serve._private.common import RequestMetadata
        from ray.serve._private.request_router.common import PendingRequest

        deployment = Deployment(Replica("a"), Replica("b"))
        router = deployment.router
        await deployment.ask(*about("leave"))
        burst = [
            PendingRequest(list(about("leave")), {}, RequestMetadata(number, number, call_method="stream"))
            for number in map(str, range(12))
        ]
        async with asyncio.timeout(5):
            chosen = await asyncio.gather(*(router._choose_replica_for_request(one) for one in burst))
        for request, replica in zip(burst, chosen, strict=True):
            router.on_request_routed(request, replica.replica_id, None)
        return Counter(str(one.replica_id.unique_id) for one in chosen), len(router._chosen)

    shares, left = asyncio.run(scene())
    assert set(shares) == {"a", "b"}
    assert max(shares.values()) - min(shares.values()) <= SLACK + 1
    assert left == 0


def test_a_full_replica_is_passed_over() -> None:
    async def scene() -> str:
        full, free = Replica("a", most=1), Replica("b")
        deployment = Deployment(full, free)
        deployment.router._affinity.note(_chain(about("leave")), "a")
        full.ongoing = 1
        await asyncio.sleep(0)  # the router has asked how full they are
        deployment.router.on_new_queue_len_info(full.replica_id, 1)
        return await deployment.ask(*about("leave"))

    assert asyncio.run(scene()) == "b"


def test_a_replica_that_died_is_forgotten() -> None:
    async def scene() -> set[str]:
        deployment = Deployment(Replica("a"), Replica("b"))
        home = await deployment.ask(*about("leave"))
        gone = next(one for one in deployment.replicas if one.unique_id == home)
        deployment.router.on_replica_actor_died(gone)
        return {home} & {await deployment.ask(*about("leave")) for _ in range(8)}

    assert asyncio.run(scene()) == set()


def test_calls_that_read_no_prompt_go_where_serve_sends_them() -> None:
    async def scene() -> Counter[str]:
        deployment = Deployment(Replica("a"), Replica("b"))
        return Counter([await deployment.ask(method="state") for _ in range(40)])

    assert set(asyncio.run(scene())) == {"a", "b"}


def _chain(call: tuple[Any, ...]) -> tuple[bytes, ...]:
    from serve_apps.routing.affinity import blocks_of, chain_of

    return chain_of(blocks_of(call))
