"""Ray Serve's request router of model tiers (R): to the replica that has read most of the prompt, else by two choices.

Serve makes one in every process that holds a handle of the deployment, the gateways. What is decided is in
``routing/affinity``; queues, rejections, retries and replicas that come and go stay Serve's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from weakref import WeakKeyDictionary

from ray.serve._private.request_router.pow_2_router import PowerOfTwoChoicesRequestRouter

from serve_apps.routing.affinity import Affinity, Chain, blocks_of, chain_of

ROUTED = ("stream", "complete")  # calls that read a prompt


class AffinityRouter(PowerOfTwoChoicesRequestRouter):
    """See the module. Private API, pinned ray; ``tests/serve_apps/routing/test_affinity_router.py`` runs it in Serve's
    own machinery."""

    def initialize_state(self, **settings: Any) -> None:
        """Serve calls this once, with ``request_router_kwargs``."""
        self._affinity = Affinity(**settings)
        # Requests on their way, by what they wait on: Serve counts one only when it was sent, and all of a burst would
        # see the same idle replica.
        self._chosen: WeakKeyDictionary[asyncio.Future[Any], str] = WeakKeyDictionary()

    async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> list[list[Any]]:
        """The preferred replica, or the least busy one where it is too busy; after it those asked without a router."""
        usual: list[list[Any]] = await super().choose_replicas(candidate_replicas, pending_request)
        chain = _chain(pending_request)
        if not chain:
            return usual
        replicas = {_name(one.replica_id): one for one in candidate_replicas}
        on_their_way = Counter(name for future, name in self._chosen.items() if not future.cancelled())
        load = {
            name: (self.replica_queue_len_cache.get(one.replica_id) or 0) + on_their_way[name]
            for name, one in replicas.items()
        }
        name = self._affinity.preferred(chain, load)
        if name is None and len({*load.values()}) > 1:
            name = min(load, key=lambda one: load[one])
        if name is None:
            return usual
        self._chosen[pending_request.future] = name
        return [[replicas[name]], *usual]

    def _get_pending_request_matching_metadata(self, request_metadata: Any = None) -> Any:
        """The request a replica was chosen for gets it; Serve would give it to the one that waits longest."""
        return self._get_pending_request_matching_internal_request_id(request_metadata)

    def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:
        """What was sent where is known from here on."""
        super().on_request_routed(pending_request, replica_id, result)
        self._chosen.pop(pending_request.future, None)
        self._affinity.note(_chain(pending_request), _name(replica_id))

    def on_replica_actor_died(self, replica_id: Any) -> None:
        """Its cache died with it."""
        super().on_replica_actor_died(replica_id)
        self._affinity.forget(_name(replica_id))


def _name(replica_id: Any) -> str:
    return str(replica_id.unique_id)


def _chain(pending_request: Any) -> Chain:
    if pending_request is None or pending_request.metadata.call_method not in ROUTED:
        return ()
    return chain_of(blocks_of(pending_request.args))
