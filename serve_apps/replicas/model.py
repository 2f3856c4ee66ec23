"""A tier that is a language model, as a plain class: what runs inside each replica of it.

Follows the model's registry: the champion is served, else the candidate; a new version goes live without a restart, a
damaged one is refused while the last good one serves. The engine works in a thread of its own; tokenizer, prompt and
detokenising are here, above it.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.registry.models import Registry
from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError, IncompatibleError
from cluster.core.home import Home
from cluster.core.records import Answer, Manifest
from cluster.core.sections.tiers import TierConfig
from cluster.core.storage import Store
from data_jobs.text.special_tokens import reads_as_text
from serve_apps.engines import load_engine
from serve_apps.engines.protocol import Capabilities, Engine, EngineSampling, TokenDelta
from serve_apps.errors import UnavailableError, bad_request, context_too_long
from serve_apps.gateway.protocols import Band, Sampling, TierState
from serve_apps.gateway.stop_sequences import StopSequences
from serve_apps.replicas.detokenize import TextDecoder
from serve_apps.replicas.live import Live
from serve_apps.replicas.published import load_tokenizer, read_facts
from serve_apps.scaling.load import TOKENS, WAIT, Load
from train_jobs.answering.prompt import lay_out

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

    from data_jobs.retrieval.results import Retrieval

POINT_TOKENS = 8  # the longest completion of a pointing model: a few sentence ids and the end
REFRESH_S = 0.5
DRAIN_S = 60.0
CONTINUATION = "continuation"
Piece = tuple[str, int, str]  # new text, tokens so far, how it ended or ""


@dataclass
class ServedModel:
    """One loaded version. ``users`` counts the answers being made with it."""

    engine: Engine
    capabilities: Capabilities
    tokenizer: PreTrainedTokenizerBase
    facts: dict[str, Any]
    version: str
    users: int = 0
    access: tuple[str, ...] = ()  # labels of the documents that it learnt from

    def ids(self, text: str, plain: bool = False) -> list[int]:
        """Token ids; in a ``plain`` text (a client's) what looks like a special token is just characters."""
        if plain and self.tokenizer.is_fast:
            return list(self._plain.encode(text, add_special_tokens=False).ids)
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=plain))

    @cached_property
    def _plain(self) -> Tokenizer:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return reads_as_text(tokenizer)

    def text(self, ids: Sequence[int], special: bool = False) -> str:
        """The text of token ids; special tokens are left out unless ``special``."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=not special))


class ModelReplica:
    """Serves the registered model of a tier."""

    def __init__(self, config: PlinthConfig, tier: TierConfig) -> None:
        home = Home.from_env()
        self._tier, self._name, self._store = tier, tier.registered_name, Store(home.store_uri)
        self._answers = tier.answers(config.answer)
        self._registry = Registry(self._store)
        self._earned: tuple[str, bool] = ("", False)
        self._gate: tuple[tuple[str, str | None], dict[str, Any]] = (("", None), {})  # by model and gate's version
        self._live: Live[ServedModel] = Live(
            "model", self._store, "models", self._name, self._wanted, self._load, home.root / "cache", _retire
        )
        self.load = Load(TOKENS)
        self._live.refresh()

    def _wanted(self) -> str | None:
        served = self._registry.served(self._name, self._tier.pinned)
        if served is None:
            return None
        self._earned = (served.version, served.champion)
        judged = (served.version, self._store.alias("gates", self._name, served.version))
        if self._gate[0] != judged:  # a model may be judged, or judged again, while it is served by name
            self._gate = (judged, gate_report(self._store, self._name, served.version))
        return served.version

    def _load(self, folder: Path, manifest: Manifest) -> ServedModel:
        facts = read_facts(folder)
        wanted = facts.get("tokenizer_sha256")
        if wanted and hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest() != wanted:
            raise IncompatibleError(f"models {self._name}@{manifest.version} carries the tokenizer of another model")
        tokenizer = load_tokenizer(folder)
        engine = load_engine(self._tier, folder)
        capabilities = engine.start()
        if self._tier.context_tokens:
            context = min(capabilities.context_tokens, self._tier.context_tokens)
            capabilities = replace(capabilities, context_tokens=context)
        labels = tuple(manifest.counts.get("access", ()))
        return ServedModel(engine, capabilities, tokenizer, facts, manifest.version, access=labels)

    async def check_health(self) -> None:
        """Serve calls this every few seconds: it also (re)starts the follower, which needs the running loop.

        Raises:
            UnavailableError: the engine's process died; it does not come back, so Serve replaces this replica.
        """
        self._live.follow(REFRESH_S)
        if self._live.current is not None and self._live.current.thing.engine.stats().state == "failed":
            raise UnavailableError(f"the engine of {self._tier.name} died")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve calls this every second where the number of replicas follows the load. Until its first token an answer
        waits only where the engine is full: else it is being read."""
        stats = self.load.stats()
        full = self._live.current is not None and self._live.current.thing.engine.stats().waiting > 0
        return stats if full else {**stats, WAIT: 0.0}

    async def state(self) -> TierState:
        """What the gateway's router should know now."""
        self._live.follow(REFRESH_S)
        if self._live.current is None:
            return TierState(self._tier.name, ready=False, earned=False, price=self._tier.price)
        model = self._live.current.thing
        report = self._gate[1] if self._gate[0][0] == model.version else {}
        ms = report.get("ms", {})
        checked = model.facts.get("format") in ("points", "grounded")
        return TierState(
            self._tier.name,
            earned=self._earned == (model.version, True),
            model_version=model.version,
            knowledge_cutoff=model.facts.get("knowledge_cutoff", ""),
            continues=True,
            samples=not checked,
            checked=checked,
            latency_ms=float(ms.get("model", 0.0)),
            price=self._tier.price,
            bands=tuple(
                Band(b["low"], b["high"], b["n"], b["model"], b["quote"]) for b in report.get("bands", ()) if b["n"]
            ),
            capacity=model.capabilities.concurrent,
            access=model.access,
        )

    # -- answers ------------------------------------------------------------------------------------------------------
    async def stream(
        self, question: str, retrieval: Retrieval, sampling: Sampling
    ) -> AsyncGenerator[str | Answer, None]:
        """An answer from the passages: by pointing at sentences, in statements that the evidence bears out, or in free
        text with [n] markers.

        Raises:
            UnavailableError: no version of the model is live.
        """
        with self._using() as model:
            speak = {"points": self._pointed, "grounded": self._grounded}.get(
                str(model.facts.get("format")), self._free_text
            )
            async with aclosing(speak(model, question, retrieval, sampling)) as items:
                async for item in items:
                    yield item

    async def _pointed(
        self, model: ServedModel, question: str, retrieval: Retrieval, sampling: Sampling
    ) -> AsyncGenerator[str | Answer, None]:
        """``sampling`` has nothing to act on: the choice of sentences is always the likeliest one."""
        from train_jobs.answering.pointed import pointed_answer

        budget = model.capabilities.context_tokens - POINT_TOKENS
        prompt = lay_out(question, retrieval, self._answers, lambda text: len(model.ids(text)), budget)
        ids = model.ids(prompt.text)
        made: list[int] = []
        wanted = EngineSampling(max_new_tokens=POINT_TOKENS, stop_ids=_ends(model))
        async with aclosing(self._deltas(model, ids, wanted)) as deltas:
            async for delta in deltas:
                made.extend(delta.ids)
        text = model.text(made, special=True)
        answer = pointed_answer(question, retrieval, prompt, text, self._answers)
        yield _counted(answer, len(ids), len(made))

    async def _grounded(
        self, model: ServedModel, question: str, retrieval: Retrieval, sampling: Sampling
    ) -> AsyncGenerator[str | Answer, None]:
        """Each statement leaves when it is checked. ``sampling`` has nothing to act on: the likeliest text is written,
        for as many tokens and seconds as the tier allows; where it was the seconds, the answer was cut (``length``)."""
        from train_jobs.answering.grounded import NEW_TOKENS, GroundedAnswer

        writing = GroundedAnswer(question, retrieval, self._answers)
        room = min(self._answers.prompt_tokens, model.capabilities.context_tokens - NEW_TOKENS)
        ids = writing.prompt(model.tokenizer, model.ids, room)
        count, cut = 0, False
        if ids:
            pieces = self._text(model, ids, Sampling(max_tokens=NEW_TOKENS))
            async with aclosing(until(pieces, self._tier.answer_s)) as heard:
                async for piece, made, ended in heard:
                    count, cut = made, not ended
                    if new := writing.feed(piece):
                        yield new
                    if writing.done:
                        cut = False
                        break
            if new := writing.feed("", final=True):
                yield new
        yield _counted(writing.answer(), len(ids), count, "length" if cut else "stop")

    async def _free_text(
        self, model: ServedModel, question: str, retrieval: Retrieval, sampling: Sampling
    ) -> AsyncGenerator[str | Answer, None]:
        from train_jobs.answering.chat import chat_prompt, text_answer

        room = model.capabilities.context_tokens - min(
            self._tier.max_new_tokens, model.capabilities.context_tokens // 4
        )
        prompt, shown = chat_prompt(question, retrieval, model.tokenizer, self._answers, room)
        ids = model.ids(prompt)
        said, finish, count = "", "stop", 0
        async with aclosing(self._text(model, ids, sampling)) as pieces:
            async for piece, made, ended in pieces:
                said, count, finish = said + piece, made, ended or finish
                if piece:
                    yield piece
        yield _counted(text_answer(question, shown, said, self._answers), len(ids), count, finish)

    async def complete(self, prompt: str, sampling: Sampling) -> AsyncGenerator[str | Answer, None]:
        """The plain continuation of ``prompt``: no passages, so never grounded.

        Raises:
            ApiError: 400, the prompt leaves no room in the model's context.
            UnavailableError: no version of the model is live.
        """
        with self._using() as model:
            ids = model.ids(prompt, plain=True)
            if not ids:
                raise bad_request("the prompt holds nothing this model has tokens for", "prompt")
            if len(ids) >= model.capabilities.context_tokens:
                raise context_too_long(len(prompt), model.capabilities.context_tokens, "prompt")
            said, finish, count = "", "stop", 0
            async with aclosing(self._text(model, ids, sampling)) as pieces:
                async for piece, made, ended in pieces:
                    said, count, finish = said + piece, made, ended or finish
                    if piece:
                        yield piece
            yield _counted(Answer(said, (), False, CONTINUATION), len(ids), count, finish)

    async def _text(self, model: ServedModel, ids: Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """What the model writes, detokenised as it comes, up to the first stop string."""
        room = model.capabilities.context_tokens - len(ids)
        limit = min(sampling.max_tokens or self._tier.max_new_tokens, self._tier.max_new_tokens, room)
        wanted = EngineSampling(
            max_new_tokens=max(1, limit),
            temperature=sampling.temperature or 0.0,
            top_p=sampling.top_p if sampling.top_p is not None else 1.0,
            seed=sampling.seed,
            stop_ids=_ends(model),
        )
        decoder, stops = TextDecoder(model.tokenizer), StopSequences(sampling.stops)
        async with aclosing(self._deltas(model, ids, wanted)) as deltas:
            async for delta in deltas:
                last = bool(delta.finish)
                piece = stops.feed(decoder.feed(delta.ids, last), last)
                yield piece, decoder.tokens, "stop" if stops.met else delta.finish
                if stops.met:
                    return  # closes the stream, and with it the engine's work

    async def _deltas(
        self, model: ServedModel, ids: Sequence[int], wanted: EngineSampling
    ) -> AsyncGenerator[TokenDelta, None]:
        """What the engine makes of ``ids``, counted as work under way: the prompt until its first token is there, and
        the tokens that it may still write."""
        with self.load.doing(len(ids) + wanted.max_new_tokens) as work:
            read = len(ids)
            async with aclosing(model.engine.submit(ids, wanted, self._tier.adapter or None)) as deltas:
                async for delta in deltas:
                    work.begun()
                    work.less(read + len(delta.ids))
                    read = 0
                    yield delta

    def _using(self) -> _Use:
        if self._live.current is None:
            raise UnavailableError(f"the tier {self._tier.name} has no version of {self._name} to serve yet")
        return _Use(self._live.current.thing)


async def until(items: AsyncGenerator[Piece, None], seconds: float) -> AsyncGenerator[Piece, None]:
    """The items that come within ``seconds``; then it ends, and closes what they came from."""
    ends = asyncio.get_running_loop().time() + seconds
    async with aclosing(items):
        while (left := ends - asyncio.get_running_loop().time()) > 0:
            try:
                yield await asyncio.wait_for(anext(items), left)
            except (StopAsyncIteration, TimeoutError):
                return


class _Use:
    """Counts an answer being made, so that a replaced engine is stopped only after its last one."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    def __enter__(self) -> ServedModel:
        self._model.users += 1
        return self._model

    def __exit__(self, *error: object) -> None:
        self._model.users -= 1


def _retire(model: ServedModel) -> None:
    """Stop a replaced engine when nobody uses it any more, at the latest after DRAIN_S."""

    def drain() -> None:
        waited = threading.Event()
        left = DRAIN_S
        while model.users and left > 0:
            waited.wait(0.1)
            left -= 0.1
        model.engine.stop()

    threading.Thread(target=drain, name="retire-engine", daemon=True).start()


def _ends(model: ServedModel) -> tuple[int, ...]:
    end = model.tokenizer.eos_token_id
    return (int(end),) if end is not None else ()


def _counted(answer: Answer, prompt: int, completion: int, finish: str = "stop") -> Answer:
    return replace(
        answer, prompt_tokens=prompt, completion_tokens=completion, finish="length" if finish == "length" else "stop"
    )


def gate_report(store: Store, name: str, version: str) -> dict[str, Any]:
    """What the gate measured of this version: its report's JSON; empty where no gate looked at it.

    The newest report of a model version is found by an alias named after that version.
    """
    try:
        manifest = store.manifest("gates", name, version)
    except BadInputError:
        return {}
    report: dict[str, Any] = store.read_json(f"{store.artefact(manifest)}/report.json")
    return report


__all__ = ["CONTINUATION", "ModelReplica", "ServedModel", "gate_report"]
