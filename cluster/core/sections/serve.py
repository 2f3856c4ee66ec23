"""The Serve graph (serve_apps): replicas, limits, guards, and the tiers (``tiers.py``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from pydantic import Field, model_validator

from cluster.core.errors import UsageError
from cluster.core.sections.base import Section
from cluster.core.sections.cache import CacheSection
from cluster.core.sections.cascade import CascadeSection
from cluster.core.sections.scaling import GatewayReplicas, Replicas, RetrieverReplicas, ScalingSection
from cluster.core.sections.tiers import AUTO, EMBEDDING_MODELS, OPENAI, OTHER_EMBEDDER, QUOTE, TierConfig, TierOptions


class ServeSection(Section):
    """The Serve graph (serve_apps)."""

    gateway_replicas: GatewayReplicas = GatewayReplicas()
    """Replicas of the HTTP gateway: a number, or min and max (`serve.gateway_replicas.max=3`)."""
    retriever_replicas: RetrieverReplicas = RetrieverReplicas()
    """Replicas of the retriever (each holds embedder and index), likewise."""
    guard_replicas: Replicas = Replicas(min=2, max=2)
    """Replicas of the safety guards, likewise; two, so that one may die unnoticed."""
    scaling: ScalingSection = ScalingSection()
    """When there are more or fewer replicas, where the numbers leave room."""
    cache: CacheSection = CacheSection()
    """Answers that are given again to whoever asks the same."""
    cascade: CascadeSection = CascadeSection()
    """A larger tier for answers that are not borne out."""
    replica_cpus: float = Field(0.0, ge=0)
    """Ray CPUs reserved per thread of a replica (0 on a laptop, so that data jobs may use every core)."""
    tiers: tuple[TierConfig, ...] = (QUOTE,)
    """What can answer: one entry each, by name (`serve.tiers.NAME.FIELD=VALUE`; a new name is a new tier). What an
    entry leaves out it takes from `model_defaults`."""
    model_defaults: TierOptions = TierOptions()
    """How a registered model without an entry of its own runs."""
    guards: tuple[str, ...] = ("characters", "rules", "personal_data")
    """The guards that every text passes, in this order, on its way in and out (serve_apps/guards)."""
    collections_mb: int = Field(1024, ge=1)
    """Memory (MiB, about) that the collections in a retriever take at most. One is loaded when it is asked for, those
    longest unused make room. The default one stays, and the one asked for is loaded, whatever their size."""
    embed_threads: int = Field(1, ge=1)
    """Threads the retriever may use to embed questions. One is enough: a question is a dozen tokens, and a second
    thread costs twice the processor time for them."""
    max_body_bytes: int = Field(1_000_000, ge=1000)
    """Largest request body; more is answered 413 while it is still arriving."""
    max_prompt_chars: int = Field(32_000, ge=100)
    """Longest question or text in characters; more is a 400 context_length_exceeded. Of a conversation, the newest
    messages that fit together are looked at."""
    max_header_bytes: int = Field(16_384, ge=1000)
    """Largest request header block; more is answered 431."""
    body_timeout_s: float = Field(15.0, gt=0)
    """Longest time a request body may take to arrive; 408 after it."""
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    """Host names (any port) the service answers to; others get 403, so that no web site can rebind DNS to it."""
    allowed_origins: tuple[str, ...] = ()
    """Other sites whose pages may ask with a key, as `https://chat.example.org` (CORS)."""
    max_messages: int = Field(200, ge=1)
    """Most messages of a conversation that are looked at, the newest; older ones are left out."""
    guard_timeout_s: float = Field(2.0, gt=0)
    """A guard that has not answered by then counts as down: the request fails closed with 503."""
    request_timeout_s: float = Field(30.0, gt=0)
    """Deadline of one request; 504 after it."""
    longest_wait_s: float = Field(5.0, gt=0)
    """A request that is expected to wait longer for its turn is refused at once, with 503 and when to try again."""
    searches_at_once: int = Field(16, ge=1)
    """Questions that a gateway has worked on at once until their text begins, for each retriever that there may be. The
    others wait there, and of those that wait each key has its turn, however many it has sent; while another key asks
    now and then, a crowd has a sixteenth of them."""
    otlp_url: str = Field("", pattern=r"^(https?://\S+)?$")
    """Where spans go: a collector's OTLP/HTTP address, such as `http://127.0.0.1:4318/v1/traces`. Empty: nowhere."""
    hold_back_chars: int = Field(80, ge=16)
    """Streamed text is held back until this many checked characters follow it (at least the longest thing a guard can
    find), so PII split over chunks never leaves."""

    @model_validator(mode="before")
    @classmethod
    def _entries_inherit(cls, values: Any) -> Any:
        """Plain entries of ``tiers`` take what they leave out from ``model_defaults``."""
        if not isinstance(values, dict) or not isinstance(values.get("tiers"), list | tuple):
            return values
        given = values.get("model_defaults", {})
        defaults = given.model_dump() if isinstance(given, TierOptions) else given
        if not isinstance(defaults, dict):
            return values
        entries = [{**defaults, **entry} if isinstance(entry, dict) else entry for entry in values["tiers"]]
        return {**values, "tiers": tuple(entries)}

    @model_validator(mode="after")
    def _check_tiers(self) -> Self:
        names = [tier.name for tier in self.tiers]
        reserved = (AUTO, OTHER_EMBEDDER, *EMBEDDING_MODELS.values())
        if wrong := [name for name in names if name in reserved or names.count(name) > 1]:
            raise ValueError(f"tiers: {wrong[0]!r} is there twice, or clients know it as something else")
        if len([tier for tier in self.tiers if tier.fallback]) > 1:
            raise ValueError("tiers: one tier at most can be the fallback")
        if self.model_defaults.engine == OPENAI:
            raise ValueError("model_defaults: engine=openai is for an entry of tiers, which says where it answers")
        outside = {tier.name for tier in self.tiers if tier.external}
        if wrong := [tier.name for tier in self.tiers if tier.instead in outside]:
            raise ValueError(f"tiers: {wrong[0]} names an external tier as instead: take one that answers here")
        return self

    def tier(self, name: str) -> TierConfig:
        """The entry called ``name``; without one, what a registered model of that name gets."""
        found = next((tier for tier in self.tiers if tier.name == name), None)
        return found or TierConfig(name=name, **self.model_defaults.model_dump())

    def with_registered(self, models: Iterable[str]) -> tuple[TierConfig, ...]:
        """Every tier there is: the entries (optional ones where their model is registered), then the registered models
        that none of them is named after.

        Raises:
            UsageError: a tier names one as ``instead`` that is not there.
        """
        there, named = list(models), {tier.name for tier in self.tiers}
        entries = (tier for tier in self.tiers if not tier.optional or tier.registered_name in there)
        found = (*entries, *(self.tier(model) for model in there if model not in named))
        for tier in found:
            if tier.instead and tier.instead not in {one.name for one in found}:
                raise UsageError(f"serve.tiers.{tier.name}.instead: there is no tier {tier.instead!r}")
        return found
