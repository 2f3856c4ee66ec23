"""The walks without a tier: embeddings and search. Both pass the guards like any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from serve_apps.errors import UnavailableError, model_not_found
from serve_apps.gateway.admission import Admission
from serve_apps.gateway.budget import EMBEDDING, SEARCH, Budget
from serve_apps.gateway.citations import shown, texts_of
from serve_apps.gateway.hops import Hops, something_to_see
from serve_apps.gateway.request_log import RequestRecord
from serve_apps.gateway.rights import may_name, not_allowed
from serve_apps.gateway.token_counts import TokenCounter
from serve_apps.gateway.waiting import together
from serve_apps.guards.characters import visible
from serve_apps.guards.window import Placeholders
from train_jobs.answering.citations import cite

EXAMPLES = 3  # questions on an empty page
PIECE_TEXTS, PIECE_CHARS = 64, 32_000  # of texts to be embedded that are checked at once


class Lookups:
    """Embeds and searches.

    Args:
        embedding_model: the name clients ask for embeddings by.
        tokens: counts usage.
        admission: who may come in; the gateway's own, as both are served by the same replicas.
        budget: reserves and settles; None: nothing is booked.
    """

    def __init__(
        self,
        hops: Hops,
        embedding_model: str,
        tokens: TokenCounter,
        admission: Admission,
        budget: Budget | None = None,
    ) -> None:
        self._hops, self.embedding_model, self._tokens = hops, embedding_model, tokens
        self._admission, self._budget = admission, budget

    async def embed(
        self, model: str, texts: Sequence[str], record: RequestRecord
    ) -> tuple[list[list[float]], int, dict[str, Any]]:
        """Vectors of texts that passed guard(in) (PII redacted first), tokens counted, extra data.

        Raises:
            ApiError: another model was asked for, or one that is not for this key, a text is empty to a reader, the
                guard refused it, or a limit is reached.
            UnavailableError: guard, retriever or ledger is down, or too many wait.
        """
        record.model = model
        if model != self.embedding_model:
            raise model_not_found(model, (self.embedding_model,))
        if not may_name(model, record.principal):
            raise not_allowed(model)
        for text in texts:
            something_to_see(text, "input")
        if self._budget:
            await self._budget.lookup(EMBEDDING, texts, record)
        with self._admission.place():
            checked = [
                check.text for piece in pieces(texts) for check in await self._hops.guard_in(piece, record, "input")
            ]
            vectors = await self._hops.embed(checked, record)
        record.prompt_tokens = sum(map(self._tokens.count, checked))
        if self._budget:
            self._budget.settle(record)  # before the client has it: what it got is noted
        return vectors, record.prompt_tokens, _told(record)

    async def search(
        self, query: str, k: int | None, record: RequestRecord
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Checked passages in the fields of a citation, best first, and extra data.

        Raises:
            ApiError: there is nothing to see in the query, the guard refused it, or a limit is reached.
            UnavailableError: guard, retriever or ledger is down, too many wait, or a passage may not leave.
        """
        something_to_see(query, "query")
        if self._budget:
            await self._budget.lookup(SEARCH, [query], record)
        with self._admission.place():
            found = await self._search(query, k, record)
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
        texts = texts_of(found)
        outgoing, placeholders = await self._hops.guard_out(texts, record), Placeholders()
        if any(check.blocked for check in outgoing):
            raise UnavailableError("a passage did not pass the output guard")
        clean = [placeholders.redact(text, check.spans) for text, check in zip(texts, outgoing, strict=True)]
        record.index_version = retrieval.index_version
        record.documents = tuple((one.document, one.source) for one in found)
        record.stages.update({f"retriever.{name}": ms for name, ms in retrieval.timings_ms.items()})
        index = {
            "collection": retrieval.collection, "index_version": retrieval.index_version,
            "index_as_of": retrieval.index_as_of,
        }  # fmt: skip
        meant = {"searched_for": retrieval.understood.searched_for}
        return shown(found, clean), {**index, **meant, **_told(record)}

    async def examples(self, record: RequestRecord) -> dict[str, Any]:
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


def pieces(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in their order, in pieces that a guard checks well within its time, and others' texts in between."""
    piece: list[str] = []
    room = PIECE_CHARS
    for text in texts:
        if piece and (len(piece) == PIECE_TEXTS or len(text) > room):
            yield piece
            piece, room = [], PIECE_CHARS
        piece.append(text)
        room -= len(text)
    yield piece


def _told(record: RequestRecord) -> dict[str, Any]:
    return {"verdicts": [verdict.to_dict() for verdict in record.verdicts], "timings_ms": record.timings()}
