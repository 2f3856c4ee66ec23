"""What every engine is to the tier above it: token ids in, token ids out.

Tokenizer, stop strings and detokenising are above; special tokens are ids like any other. What an engine cannot do it
refuses by name, it never ignores it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Finish = Literal["", "stop", "length"]


@dataclass(frozen=True)
class Capabilities:
    """What a started engine is and can do.

    Attributes:
        engine: ``openvino``, ``transformers`` or ``vllm``.
        precision: the arithmetic it really runs in (bf16 only where the CPU has it).
        context_tokens: longest prompt and completion together.
        vocab: ids from 0 to vocab - 1 are accepted.
        concurrent: requests worked on at the same time; more wait in the engine's queue.
        adapters: whether ``submit`` takes an adapter.
    """

    engine: str
    precision: str
    context_tokens: int
    vocab: int
    concurrent: int
    adapters: bool = False


@dataclass(frozen=True)
class EngineSampling:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: longest completion.
        temperature: 0 is greedy.
        top_p: nucleus; 1 is off, 0 is greedy.
        seed: any integer; the same seed, prompt and settings yield the same tokens (of one engine, in f32; in bf16
            other requests in the batch can tip a close choice). None draws one.
        stop_ids: any of these ends the completion with ``stop``; it is the last id delivered. Empty: nothing stops it,
            the model's own end-of-text id neither.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop_ids: tuple[int, ...] = ()

    @property
    def greedy(self) -> bool:
        """Whether always the likeliest token is taken, so that the seed has no effect."""
        return not (self.temperature and self.top_p)

    @property
    def seed63(self) -> int:
        """The seed, or a drawn one, in the range every generator takes."""
        return (secrets.randbits(63) if self.seed is None else self.seed) % (1 << 63)


@dataclass(frozen=True)
class TokenDelta:
    """New tokens since the last delta, never empty; ``finish`` is set on the last one."""

    ids: tuple[int, ...]
    finish: Finish = ""


@dataclass(frozen=True)
class EngineStats:
    """One look at a running engine.

    Attributes:
        state: ``ready``, ``stopped`` or ``failed`` (the thread died: replace the replica).
        running: requests being worked on. waiting: queued ones.
        prompt_tokens, generated_tokens, finished, cancelled, failed: totals since the start.
        tokens_per_s: generated in the last ten seconds, divided by them (or by the time since the start).
        cache_usage: share of the key/value cache held by running requests, 0 to 1.
    """

    state: Literal["ready", "stopped", "failed"]
    running: int
    waiting: int
    prompt_tokens: int
    generated_tokens: int
    finished: int
    cancelled: int
    failed: int
    tokens_per_s: float
    cache_usage: float


class TokenStream(Protocol):
    """An async iterator of the deltas of one request.

    ``aclose`` cancels what is not finished; so does cancelling the task that awaits it, and dropping the stream.
    """

    def __aiter__(self) -> TokenStream: ...

    async def __anext__(self) -> TokenDelta: ...

    async def aclose(self) -> None:
        """Cancel what is not finished; nothing is delivered after it."""
        ...


class Engine(Protocol):
    """One model in one process, worked by a thread of its own."""

    def start(self) -> Capabilities:
        """Load the model; blocks (seconds), so call it off the event loop.

        Raises:
            BadInputError, IntegrityError, UnsupportedError: the folder holds nothing this engine can run.
        """

    def submit(self, ids: Sequence[int], sampling: EngineSampling, adapter: str | None = None) -> TokenStream:
        """Queue one prompt; call it on the event loop that will read the stream.

        Raises:
            BadInputError: empty prompt, ids outside the vocabulary, sampling out of range, or more tokens than the
                context holds (extras ``code="context_length_exceeded"``).
            UnsupportedError: an adapter that is not there.
            UnavailableError: not started, stopped, failed, or the queue is full. The stream raises it too when the
                engine stops or fails underneath it.
        """

    def stats(self) -> EngineStats:
        """How busy the engine is right now; cheap, and may be asked from any thread, before the start too."""
        ...

    def stop(self, drain_s: float = 0.0) -> None:
        """Take no more, wait up to ``drain_s`` for what is queued, cancel the rest, end the thread. Blocks."""
