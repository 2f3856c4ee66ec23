"""Stand-ins at the I/O borders: collaborators of the gateway that a Serve handle stands for in production."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from cluster.core.access import NO_RIGHTS, Rights
from cluster.core.config import PlinthConfig
from cluster.core.records import Answer, Citation, Copy, Passage, Verdict
from data_jobs.retrieval.examples import Example
from data_jobs.retrieval.reader import Reading, Window
from data_jobs.retrieval.results import Retrieval
from data_jobs.retrieval.wording import text_stems
from data_jobs.text.sentences import sentences
from serve_apps.errors import UnavailableError, collection_not_found
from serve_apps.gateway.protocols import Sampling, TierState
from serve_apps.guards.chain import guard_chain
from serve_apps.guards.protocol import Guard, InputCheck, OutputCheck

PASSAGE = Passage(
    chunk="shutil.copytree#0",
    document="shutil.copytree",
    title="shutil.copytree(src, dst, symlinks=False)",
    source="shutil.py:560",
    text="Recursively copy a directory tree and return the destination directory.",
    start=0,
    end=71,
    score=0.9,
)
TEXT = "Use shutil.copytree: recursively copy a directory tree and return the destination directory. [1]"
CITATION = Citation(
    PASSAGE.document, PASSAGE.title, PASSAGE.source, PASSAGE.chunk, (PASSAGE.start, PASSAGE.end), PASSAGE.text, 0.9,
    (Copy("copies.txt", "Copies", "old/copies.txt"),),
)  # fmt: skip


class RealGuard:
    """The real rules (or ``chain``) without the hop; ``fail_after`` output checks it goes down, ``delay_s`` makes it
    slow."""

    def __init__(
        self,
        fail_input: bool = False,
        fail_after: int | None = None,
        delay_s: float = 0.0,
        chain: Guard | None = None,
    ) -> None:
        self._chain = chain or guard_chain(PlinthConfig())
        self.fail_input, self.fail_after, self.delay_s = fail_input, fail_after, delay_s
        self.seen_out: list[str] = []

    async def check_input(self, texts: list[str], prompts: bool = True) -> list[InputCheck]:
        await asyncio.sleep(self.delay_s)
        if self.fail_input:
            raise UnavailableError("no guard replica")
        return self._chain.check_input(texts)

    async def check_output(self, texts: list[str]) -> list[OutputCheck]:
        await asyncio.sleep(self.delay_s)
        if self.fail_after is not None and len(self.seen_out) >= self.fail_after:
            raise ZeroDivisionError("a bug in the guard")
        self.seen_out.append(texts[0])
        return self._chain.check_output(texts)


class FixedRetriever:
    """Finds the same passages for everything, in whichever of its collections, and remembers what it was asked."""

    def __init__(
        self,
        passages: Sequence[Passage] = (PASSAGE,),
        down: bool = False,
        found: Retrieval | None = None,
        names: Sequence[str] = ("main",),
    ) -> None:
        self.passages, self.down, self._found = tuple(passages), down, found
        self.names, self.listings = list(names), 0
        self.versions = {name: f"v{place}" for place, name in enumerate(self.names, 1)}
        self.forgotten = 0  # decisions
        self.questions: list[str] = []
        self.rights: list[Rights] = []
        self.labels: dict[str, dict[str, int]] = {}  # by collection, documents by access label
        self.starters = [Example(f"What is said about thing {n}?", f"thing{n}.md") for n in range(4)]

    def _version(self, collection: str) -> tuple[str, str]:
        """The collection that is meant, the first by default, and its version."""
        if self.down:
            raise UnavailableError("no index is live")
        name = collection or self.names[0]
        if name not in self.names:
            raise collection_not_found(name, self.names)
        return name, self.versions.get(name) or f"v{self.names.index(name) + 1}"

    async def search(self, question: str, k: int | None, collection: str = "", rights: Rights = NO_RIGHTS) -> Retrieval:
        name, version = self._version(collection)
        self.questions.append(question)
        self.rights.append(rights)
        if self._found is not None:
            return replace(self._found, question=question, collection=name)
        as_of = "2026-01-01T00:00:00+00:00"
        return Retrieval(
            question, self.passages, (), {}, version, as_of, {"embed": 1.0}, collection=name, forgotten=self.forgotten
        )

    async def collections(self) -> list[dict[str, Any]]:
        if self.down:
            raise UnavailableError("no retriever")
        self.listings += 1
        return [
            {"collection": name, "index_version": self._version(name)[1], "index_as_of": "2026-01-01T00:00:00+00:00",
             "documents": 1, "chunks": 1, "threshold": None, "default": name == self.names[0], "loaded": True,
             "forgotten": self.forgotten, "access": self.labels.get(name)}
            for name in sorted(self.names)
        ]  # fmt: skip

    async def embed(self, texts: list[str]) -> list[list[float]]:
        return [[float(len(text)), 0.5, -0.25, 1.0] for text in texts]

    async def examples(self, count: int, collection: str = "", rights: Rights = NO_RIGHTS) -> tuple[str, list[Example]]:
        return self._version(collection)[1], list(self.starters[:count])

    async def topics(self, count: int, collection: str = "", rights: Rights = NO_RIGHTS) -> list[str]:
        self._version(collection)
        return ["Leave policy", "Travel"][:count]

    async def info(self) -> dict[str, Any]:
        facts = {"index_as_of": "2026-01-01T00:00:00+00:00", "chunks": 1, "embedder": "fake"}
        return {"collection": self.names[0], "index_version": self._version("")[1], **facts}


class LocalTier:
    """A real replica as a ``TierClient``, without the hop."""

    def __init__(self, replica: Any) -> None:
        self._replica = replica
        self.state: TierState = asyncio.run(replica.state())
        self.stream, self.complete = replica.stream, replica.complete

    async def refresh(self) -> None:
        self.state = await self._replica.state()

    def wake(self) -> None: ...


class ToyClassifier:
    """A guard as a trained one would be: a score per text, a threshold, and a chance to break."""

    name = "toy_classifier"

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.seen: list[str] = []

    def check_input(self, texts: Sequence[str]) -> list[InputCheck]:
        return [InputCheck(text, self._verdicts("guard_in", text)) for text in texts]

    def check_output(self, texts: Sequence[str]) -> list[OutputCheck]:
        return [OutputCheck((), self._verdicts("guard_out", text)) for text in texts]

    def _verdicts(self, stage: str, text: str) -> tuple[Verdict, ...]:
        if self.broken:
            raise RuntimeError("the weights are gone")
        self.seen.append(text)
        score = sum(word in text.lower() for word in ("poison", "explosive")) / 2
        return (Verdict(stage, "block", "dangerous", f"score {score:.1f}"),) if score >= 0.5 else ()


class ScriptedTier:
    """Says ``deltas``, then its Answer. ``gate`` is awaited before each delta; ``error`` is raised at the end."""

    def __init__(
        self,
        deltas: Sequence[str] = (TEXT,),
        citations: Sequence[Citation] = (CITATION,),
        grounded: bool = True,
        gate: Any = None,
        error: Exception | None = None,
        breaks_off: bool = False,
        pause_s: float = 0.0,
        state: TierState | None = None,
    ) -> None:
        self.state = state or TierState("quote", fallback=True, model_version="scripted-1")
        self.deltas, self.citations, self.grounded = tuple(deltas), tuple(citations), grounded
        self.gate, self.error, self.breaks_off, self.pause_s = gate, error, breaks_off, pause_s
        self.questions: list[str] = []
        self.prompts: list[str] = []
        self.closed = 0

    async def refresh(self) -> None:
        """Its state is what the test says."""

    def wake(self) -> None: ...

    async def complete(self, prompt: str, sampling: Sampling) -> AsyncGenerator[str | Answer, None]:
        self.prompts.append(prompt)
        for delta in self.deltas:
            yield delta
        text = "".join(self.deltas)
        yield Answer(text, (), False, "continuation", finish="length", prompt_tokens=7, completion_tokens=5)

    async def stream(
        self, question: str, retrieval: Retrieval, sampling: Sampling
    ) -> AsyncGenerator[str | Answer, None]:
        self.questions.append(question)
        try:
            for delta in self.deltas:
                if self.gate is not None:
                    await self.gate.wait()
                await asyncio.sleep(self.pause_s)
                yield delta
            if self.error is not None:
                raise self.error
            if not self.breaks_off:
                reason = "supported" if self.grounded else "not_supported"
                yield Answer("".join(self.deltas), self.citations, self.grounded, reason, 0.9)
        finally:
            self.closed += 1


class MemoryRecorder:
    """Keeps every metric value."""

    def __init__(self) -> None:
        self.values: list[tuple[str, float, dict[str, str]]] = []

    def record(self, metric: str, value: float, labels: dict[str, str]) -> None:
        self.values.append((metric, value, labels))


class WordReader:
    """Reads as a trained reader would be seen to: sure of a window that holds nearly all words of the question, unsure
    of others; points at the sentence that holds most. ``fails`` makes it break."""

    fingerprint = "words-1"

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.read_windows: list[Window] = []

    def read(self, question: str, windows: Sequence[Window]) -> list[Reading]:
        if self.fails:
            raise RuntimeError("the runtime lost its weights")
        self.read_windows += windows
        return [self._reading(text_stems(question), window) for window in windows]

    def _reading(self, asked: set[str], window: Window) -> Reading:
        share = len(asked & text_stems(f"{window.title} {window.text}")) / max(1, len(asked))
        spans = sentences(window.text) or [(0, 0)]
        start, end = max(spans, key=lambda span: len(asked & text_stems(window.text[slice(*span)])))
        return Reading(0.97 if share > 0.8 else 0.1 * share, start, end, share)
