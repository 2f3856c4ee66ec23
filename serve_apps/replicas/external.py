"""A tier whose model answers on another server, as a plain class: what runs inside each replica of it.

It holds a connection and no model. What it sends has passed the input guard in the gateway (``gateway.outside``); what
comes back is judged by its evidence here, as a local model's text is, and by the output guard in the gateway. It sends
nothing while its switch is off or its key cannot be used, and what is being answered then is broken off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.core.config import PlinthConfig
from cluster.core.errors import PlinthError
from cluster.core.home import Home
from cluster.core.records import Answer
from cluster.core.sections.tiers import TierConfig
from cluster.core.storage import Store
from cluster.core.telemetry import log_event
from serve_apps.engines.key_file import read_key
from serve_apps.engines.openai_engine import CONTEXT_TOKENS, OpenAIEngine, TextSampling
from serve_apps.engines.openai_reply import Written
from serve_apps.errors import SwitchedOffError, UnavailableError
from serve_apps.gateway.protocols import SAMPLED, Sampling, TierState
from serve_apps.gateway.stop_sequences import StopSequences
from serve_apps.gateway.token_counts import RegexTokenCounter
from serve_apps.replicas.switch import Switch, read_switch

if TYPE_CHECKING:
    from data_jobs.retrieval.results import Retrieval

REFRESH_S = 0.5
CONTINUATION = "continuation"
TOKENS_PER_COUNTED = 1.5  # of another model's tokenizer, for each token that ours counts: rather too many
MOST_STOPS = 4  # strings that OpenAI's API takes; of more, the gateway looks for the rest


def external_state(tier: TierConfig, ready: bool, enabled: bool = True) -> TierState:
    """What the router knows of such a tier. No gate has judged it, so `auto` never chooses it.

    Args:
        ready: a replica is there, and has all that it needs to ask.
        enabled: nobody switched it off.
    """
    return TierState(
        tier.name, ready=ready, earned=False, model_version=f"{tier.model}@{tier.host}", continues=True, samples=True,
        takes=tuple(name for name in SAMPLED if name in tier.takes), price=tier.price, capacity=tier.max_batch,
        external=True, enabled=enabled, instead=tier.instead,
    )  # fmt: skip


class ExternalReplica:
    """Passes questions on to another server, and its answers back."""

    def __init__(self, config: PlinthConfig, tier: TierConfig) -> None:
        self._tier, self._answers = tier, tier.answers(config.answer)
        self._store = Store(Home.from_env().store_uri)
        self._switch = Switch()
        self._engine: OpenAIEngine | None = None
        self._why: str | None = None  # it is not in use; None: nobody has looked yet
        self._count = RegexTokenCounter().count
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="switch")
        self._follower: asyncio.Task[None] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Look at switch and key, and start or stop accordingly. Blocking; never raises."""
        found = read_switch(self._store, self._tier.name)
        if found.at or self._switch.on or not found.on:  # a file that has gone switches nothing on
            self._switch = found
        why = "" if self._switch.on else f"switched off{f': {self._switch.why}' if self._switch.why else ''}"
        try:
            if not why and self._engine is None:
                engine = OpenAIEngine(self._tier)
                engine.start()
                self._engine = engine
            elif not why and self._tier.key_file:
                read_key(Path(self._tier.key_file).expanduser())
        except PlinthError as error:
            why = error.message
        if why and self._engine is not None:
            self._engine.stop()
            self._engine = None
        if why != self._why:
            self._why = why
            event, more = ("refused", {"error": why}) if why else ("live", {})
            log_event("model", event, artefact=f"tiers/{self._tier.name}", version=self._tier.model, **more)

    def _follow(self) -> None:
        if self._follower is None or self._follower.done():
            self._follower = asyncio.get_running_loop().create_task(self._refreshing())

    async def _refreshing(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(self._thread, self.refresh)
            await asyncio.sleep(REFRESH_S)

    async def check_health(self) -> None:
        """Serve calls this every few seconds: it also (re)starts the follower, which needs the running loop. That the
        other server does not answer is no fault of this replica."""
        self._follow()

    async def state(self) -> TierState:
        """What the gateway's router should know now."""
        self._follow()
        return external_state(self._tier, ready=self._engine is not None, enabled=self._switch.on)

    async def stream(
        self, question: str, retrieval: Retrieval, sampling: Sampling
    ) -> AsyncGenerator[str | Answer, None]:
        """An answer in free text with [n] markers, from passages that may leave the house.

        Raises:
            SwitchedOffError: it is switched off, or has no key.
            UnavailableError: the other server does not answer, or not to the end.
        """
        from train_jobs.answering.chat import chat_messages, text_answer

        engine = self._using()
        context = self._tier.context_tokens or CONTEXT_TOKENS
        room = context - min(self._tier.max_new_tokens, context // 4)
        turns, shown = chat_messages(question, retrieval, self._answers, room, self._tokens)
        said, end = "", Written("", "stop")
        if shown.passages:  # without any, the answer is that there are none
            async with aclosing(self._text(engine, turns, sampling)) as pieces:
                async for piece in pieces:
                    said, end = said + piece.text, piece
                    if piece.text:
                        yield piece.text
        yield _counted(text_answer(question, shown, said, self._answers), end)

    async def complete(self, prompt: str, sampling: Sampling) -> AsyncGenerator[str | Answer, None]:
        """The plain continuation of ``prompt``: no passages, so never grounded.

        Raises:
            BadInputError: the prompt is too long for the other model.
            SwitchedOffError, UnavailableError: as with ``stream``.
        """
        said, end = "", Written("", "stop")
        async with aclosing(self._text(self._using(), prompt, sampling)) as pieces:
            async for piece in pieces:
                said, end = said + piece.text, piece
                if piece.text:
                    yield piece.text
        yield _counted(Answer(said, (), False, CONTINUATION), end)

    async def _text(
        self, engine: OpenAIEngine, prompt: str | Sequence[Mapping[str, str]], sampling: Sampling
    ) -> AsyncGenerator[Written, None]:
        """What the other model writes, up to the first stop string. Options that it does not take are not sent."""
        most = self._tier.max_new_tokens
        wanted = {
            "temperature": sampling.temperature or 0.0, "top_p": sampling.top_p, "seed": sampling.seed,
            "stop": sampling.stops[:MOST_STOPS],
        }  # fmt: skip
        options = {name: value for name, value in wanted.items() if name in self._tier.takes}
        stops = StopSequences(sampling.stops)
        asked = TextSampling(max(1, min(sampling.max_tokens or most, most)), **options)  # type: ignore[arg-type]
        async with aclosing(engine.submit(prompt, asked)) as pieces:
            async for piece in pieces:
                text = stops.feed(piece.text, bool(piece.finish))
                if stops.met:
                    yield Written(text, "stop")
                    return  # closes the connection, and with it the other server's work
                yield replace(piece, text=text)

    def _tokens(self, text: str) -> int:
        return int(self._count(text) * TOKENS_PER_COUNTED)

    def _using(self) -> OpenAIEngine:
        engine = self._engine
        if engine is None:
            if self._switch.on:
                raise UnavailableError(f"the tier {self._tier.name} cannot be used: its key is missing or unsafe")
            raise SwitchedOffError(f"the tier {self._tier.name} is switched off")
        return engine


def _counted(answer: Answer, end: Written) -> Answer:
    """With the other server's own counts; where it has none, 0: the gateway counts then."""
    return replace(
        answer, prompt_tokens=end.prompt_tokens, completion_tokens=end.completion_tokens,
        finish="length" if end.finish == "length" else "stop",
    )  # fmt: skip


__all__ = ["ExternalReplica", "external_state"]
