"""The tiers that a gateway knows, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from cluster.core.identity import Principal
from cluster.core.sections.tiers import AUTO
from serve_apps.gateway.exchange import Ask
from serve_apps.gateway.protocols import TierClient, TierState
from serve_apps.gateway.rights import answering, may_name
from serve_apps.routing.rules import known_models


class Tiers:
    """What is asked of all tiers together, and each of them by its name."""

    def __init__(self, clients: Mapping[str, TierClient]) -> None:
        self._clients = dict(clients)

    def __getitem__(self, name: str) -> TierClient:
        return self._clients[name]

    @property
    def states(self) -> list[TierState]:
        """What is known of each tier now."""
        return [client.state for client in self._clients.values()]

    @property
    def names(self) -> tuple[str, ...]:
        """What clients may ask for answers."""
        return known_models(self.states)

    def for_key(self, principal: Principal) -> list[TierState]:
        """What is known of each tier that a key gets answers of."""
        return answering(self.states, principal)

    def names_for(self, principal: Principal) -> tuple[str, ...]:
        """What a key may ask for answers."""
        return tuple(name for name in known_models(self.for_key(principal)) if may_name(name, principal))

    def may_answer(self, principal: Principal) -> tuple[str, ...]:
        """The tiers that may come to answer a key now, whatever it asks for: its own that are there, and the fallback,
        which is for every key. External ones come and go, and always count."""
        own = {state.name for state in self.for_key(principal)}
        there = [state for state in self.states if state.ready or state.external]
        return tuple(state.name for state in there if state.fallback or state.name in own)

    @property
    def fallback(self) -> TierState | None:
        """The tier that answers where another one cannot."""
        return next((state for state in self.states if state.fallback), None)

    def state(self, name: str) -> TierState | None:
        """What is known of one tier; None for names that are none."""
        return self._clients[name].state if name in self._clients else None

    def continues(self, ask: Ask) -> bool:
        """Whether a language model that is asked by its name continues a plain prompt."""
        return ask.plain and ask.model != AUTO and self._clients[ask.model].state.continues

    def facts(self, name: str) -> dict[str, Any]:
        """What a name is for: answers. Of a tier also its version and whether ``auto`` may choose it; of one that
        answers on another server that it is ``external``, and whether it is asked (``enabled``)."""
        state = self.state(name)
        if state is None:
            return {"kind": "chat"}
        facts = {"kind": "chat", "version": state.model_version, "auto": state.earned}
        return {**facts, "external": True, "enabled": state.enabled and state.ready} if state.external else facts

    async def refresh(self) -> None:
        """Notice models that went live, were rolled back or died. Tiers do this in the background but for the first."""
        await asyncio.gather(*(client.refresh() for client in self._clients.values()))
