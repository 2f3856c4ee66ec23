"""The walks without a tier: embeddings and search. Both pass the guards like any other.

A list of texts is much work. It is done in pieces, each key's in its turn, and no more of them at once than there are
embedders: the processors are for whoever asks something meanwhile, too. A question goes before a piece, but no piece
waits longer for questions than the last one took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from cluster.core.records import Citation
from serve_apps.errors import UnavailableError, model_not_found
from serve_apps.gateway.budget import EMBEDDING, SEARCH, STARTERS, Budget
from serve_apps.gateway.citations import shown, texts_of
from serve_apps.gateway.hops import Hops, passed, place_of, something_to_see
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.gateway.rights import may_name
from serve_apps.gateway.token_counts import TokenCounter
from serve_apps.gateway.turns import Turns
from serve_apps.gateway.waiting import together
from serve_apps.guards.characters import visible
from serve_apps.guards.policy import FORBIDDEN_TEXT
from serve_apps.guards.window import Placeholders
from train_jobs.answering.citations import cite

EXAMPLES = 3  # questions on an empty page
PIECE_TEXTS, PIECE_CHARS = 32, 16_000  # of texts that are checked at once: some 30 ms of work
EMBED_CHARS = 4_000  # that are embedded at once: 100 ms where there is no GPU, and a few texts of it at a time


class Lookups:
    """Embeds and searches.

    Args:
        embedding_model: the name clients ask for embeddings by.
        tokens: counts usage.
        budget: reserves and settles; None: nothing is booked.
        turns: of searches, among the questions.
        texts: of pieces of texts that are embedded.
    """

    def __init__(
        self,
        hops: Hops,
        embedding_model: str,
        tokens: TokenCounter,
        budget: Budget | None,
        turns: Turns,
        texts: Turns,
    ) -> None:
        self._hops, self.embedding_model, self._tokens = hops, embedding_model, tokens
        self._budget, self._turns, self._texts = budget, turns, texts
        self._took_s = 0.0  # of the last piece

    async def embed(
        self, model: str, texts: Sequence[str], record: RequestRecord
    ) -> tuple[list[list[float]], int, dict[str, Any]]:
        """Vectors of texts that passed guard(in) (PII redacted first), tokens counted, extra data.

        Raises:
            ApiError: another model was asked for, or one that is not for this key, a text is empty to a reader or the
                guard refused it (of several texts the error names the place: ``input[3]``), or a limit is reached.
            UnavailableError: guard, retriever or ledger is down.
        """
        record.model = model
        known = (self.embedding_model,) if may_name(self.embedding_model, record.principal) else ()
        if model not in known:
            raise model_not_found(model, known)
        several, counts = len(texts) > 1, list[int]()
        async for text in unhurried(texts):
            something_to_see(text, place_of("input", len(counts)) if several else "input")
            counts.append(self._tokens.count(text))
        if self._budget:
            await self._budget.lookup(EMBEDDING, sum(counts), record)
        checked: list[str] = []
        for piece in pieces(texts):
            first = len(checked) if several else None
            async with self._piece(record):
                checks = await self._hops.guard_in(piece, record, "input", first, prompts=False)
            checked += [check.text for check in checks]
        vectors: list[list[float]] = []
        for piece in pieces(checked, EMBED_CHARS):
            async with self._piece(record):
                vectors += await self._hops.embed(piece, record)
        record.had_its_turn()
        read = zip(counts, texts, checked, strict=True)
        record.prompt_tokens = sum(n if seen == sent else self._tokens.count(seen) for n, sent, seen in read)
        if self._budget:
            self._budget.settle(record)  # before the client has it: what it got is noted
        return vectors, record.prompt_tokens, _told(record)

    @asynccontextmanager
    async def _piece(self, record: RequestRecord) -> AsyncIterator[None]:
        """The turn of a piece of a list of texts."""
        async with self._texts.of(record):
            await self._turns.idle(self._took_s)
            begun = time.perf_counter()
            yield
            self._took_s = time.perf_counter() - begun

    async def search(
        self, query: str, k: int | None, record: RequestRecord
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Checked passages in the fields of a citation, best first, and extra data.

        Raises:
            ApiError: there is nothing to see in the query, the guard refused it, or a limit is reached.
            UnavailableError: guard, retriever or ledger is down, or a passage may not leave.
        """
        something_to_see(query, "query")
        if self._budget:
            await self._budget.lookup(SEARCH, self._tokens.count(query), record)
        async with self._turns.of(record):
            found = await self._search(query, k, record)
        record.had_its_turn()
        if self._budget:
            self._budget.settle(record)
        return found

    async def _search(
        self, query: str, k: int | None, record: RequestRecord
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        checks, retrieval = await together(
            self._hops.guard_in([query], record, "query"), self._hops.search(query, k, record)
        )
        if checks[0].text != query:
            retrieval = await self._hops.search(checks[0].text, k, record)
        found = [cite(passage) for passage in (retrieval.passages[:k] if k else retrieval.passages)]
        found, clean, meant = await self._clean(found, retrieval.understood.searched_for, record)
        record.index_version = retrieval.index_version
        record.documents = tuple((one.document, one.source) for one in found)
        record.stages.update({f"retriever.{name}": ms for name, ms in retrieval.timings_ms.items()})
        index = {
            "collection": retrieval.collection, "index_version": retrieval.index_version,
            "index_as_of": retrieval.index_as_of,
        }  # fmt: skip
        return shown(found, clean), {**index, "searched_for": meant, **_told(record)}

    async def _clean(
        self, found: list[Citation], meant: str, record: RequestRecord
    ) -> tuple[list[Citation], list[str], str]:
        """The passages that may leave, their checked texts, and what was searched for; what holds something that is
        forbidden here is left out."""
        texts, placeholders = texts_of(found) + ([meant] if meant else []), Placeholders()
        if not texts:
            return [], [], ""
        outgoing = iter(zip(texts, await self._hops.guard_out(texts, record), strict=True))
        kept, clean = list[Citation](), list[str]()
        for one in found:
            checked = [next(outgoing) for _ in texts_of([one])]
            blocked = [check.blocked.rule for _, check in checked if check.blocked]
            if any(rule != FORBIDDEN_TEXT for rule in blocked):
                raise UnavailableError("a passage did not pass the output guard")
            if not blocked:
                kept.append(one)
                clean += [placeholders.redact(text, check.spans) for text, check in checked]
        return kept, clean, passed(meant, [check for _, check in outgoing], placeholders)

    async def examples(self, record: RequestRecord) -> dict[str, Any]:
        """``starters`` for whoever asks for nothing else; counts as a request.

        Raises:
            ApiError: a limit is reached.
            UnavailableError: index, guard or ledger is down.
        """
        if self._budget:
            await self._budget.lookup(STARTERS, 0, record)
        return await self.starters(record)

    async def starters(self, record: RequestRecord) -> dict[str, Any]:
        """A few questions to start with, from documents of the record's collection. Those that the guard finds fault
        with are left out, not mended.

        Raises:
            UnavailableError: there is no index or no guard.
        """
        version, found = await self._hops.examples(4 * EXAMPLES, record)
        texts = [visible(example.question) for example in found]
        checks = await self._hops.guard_out(texts, record) if texts else []
        fine = [
            {"object": "example", "question": text}
            for text, check in zip(texts, checks, strict=True)
            if not check.blocked and not check.spans
        ]
        named = {"collection": record.collection} if record.collection else {}
        return {
            "object": "list",
            "data": fine[:EXAMPLES],
            "plinth": {**named, "index_version": version},
        }


def pieces(texts: Sequence[str], chars: int = PIECE_CHARS) -> Iterator[list[str]]:
    """The texts in their order, in pieces that take a moment each, and others' texts in between."""
    piece: list[str] = []
    room = chars
    for text in texts:
        if piece and (len(piece) == PIECE_TEXTS or len(text) > room):
            yield piece
            piece, room = [], chars
        piece.append(text)
        room -= len(text)
    yield piece


async def unhurried(texts: Sequence[str]) -> AsyncIterator[str]:
    """The texts in their order; others get the event loop in between, as a megabyte of them takes a while to read."""
    since = 0
    for text in texts:
        yield text
        since += len(text)
        if since >= PIECE_CHARS:
            since = 0
            await asyncio.sleep(0)


def _told(record: RequestRecord) -> dict[str, Any]:
    return {"verdicts": [verdict.to_dict() for verdict in record.verdicts], "timings_ms": record.timings()}
