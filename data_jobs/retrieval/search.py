"""One search: question -> passages, scored sentences and features. Used by the retriever, evaluation and the gates."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from cluster.core.records import CODE_KINDS, Chunk, Passage
from cluster.core.sections.data import RetrievalSection
from data_jobs.retrieval.analysis import terms as index_terms
from data_jobs.retrieval.beside import LanguageQuestions
from data_jobs.retrieval.code_names import CodeNames
from data_jobs.retrieval.dense import TOGETHER, DenseIndex, cosines_of, row_cosines
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.features import QuestionTerms, covered, features, question_terms
from data_jobs.retrieval.fusion import diverse, fused, lexical_weights, questioned, static_ranks
from data_jobs.retrieval.known_questions import KnownQuestions
from data_jobs.retrieval.lexical import Bm25, Counted, SearchField, best_rows, count, merged
from data_jobs.retrieval.names import DocumentNames, path_words
from data_jobs.retrieval.passage_reader import PassageReader
from data_jobs.retrieval.question_vectors import QuestionVectors
from data_jobs.retrieval.ranking import led
from data_jobs.retrieval.rerank import Reranker
from data_jobs.retrieval.results import Retrieval, ScoredSentence, in_order, passage_of
from data_jobs.retrieval.segments import CHUNK, SENTENCE
from data_jobs.retrieval.snapshot import Snapshot
from data_jobs.retrieval.strange import strange_words
from data_jobs.retrieval.support import confidence
from data_jobs.retrieval.synonyms import load_thesaurus, thesaurus_for
from data_jobs.retrieval.understanding import Understanding
from data_jobs.retrieval.views import Views
from data_jobs.text import units as text_units
from data_jobs.text.chunks import embedded_text

FIELDS = (SearchField("context", 0.25, 0.4), SearchField("text", 1.0), SearchField("questions", 1.0, 0.4))
BACKGROUND_ROWS = 2048
MAX_LOOKED_PAST = 2000
# BM25 of the whole document beside that of the chunk: what a question is about is said all over a document. Chosen on
# the training half of SciFact (nDCG@10 of BM25 alone 0.693 without, 0.728 with it).
WHOLE_FIELDS = (SearchField("context", 0.5, 0.4), SearchField("text", 1.0, 0.6), SearchField("questions", 1.0, 0.4))
WHOLE_WEIGHT = 0.7
NAMED = 0.5  # what a chunk is worth more, in units of cosine, whose document the question names
# Most of BM25 over the question's idf mass: of one common word that is hardly any, and what its synonyms find would
# count for many times what they find of another question. The question's own words come to less.
MOST_LEXICAL = 3.0
CALLED = 1.5  # and what the documentation of a code object is worth more, if the question is about its name alone
MAX_NAMED = 200
Evidence = tuple[np.ndarray, np.ndarray, np.ndarray]


class Searcher:
    """Searches one snapshot. Not thread-safe (it shares the embedder and the reader).

    Args:
        snapshot: a loaded index.
        embedder: the one it was built with (``Snapshot.load`` checked the fingerprint).
        section: ``candidates``, ``passages`` and ``rerank``.
        reranker: orders the best candidates anew (``load_reranker``).
        reader: reads the passages found (``load_passage_reader``); none without it.
        threshold: what results say of the least confidence that keeps the promised risk (``risk.promise``).
        asked: vectors of questions, where several searchers share what they embedded.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        embedder: Embedder,
        section: RetrievalSection,
        reranker: Reranker | None = None,
        reader: PassageReader | None = None,
        threshold: float | None = None,
        asked: QuestionVectors | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.embedder = embedder
        self._vectors = asked or QuestionVectors(embedder)
        self.section = section
        self.reranker = reranker
        self.reader = reader or PassageReader(None, "off")
        self.threshold = threshold
        chunks = snapshot.chunks
        counted = _counted(snapshot)
        self.lexical = Bm25(FIELDS, counted)
        names: dict[str, int] = {}
        self._document_of = np.array([names.setdefault(c.document, len(names)) for c in chunks], dtype=np.int64)
        self._documents = self.lexical
        if len(names) < len(chunks):
            self._documents = Bm25(WHOLE_FIELDS, [(merged(counted, self._document_of, once=(0,)), None)])
        else:
            self._document_of = np.arange(len(chunks))
        self._mask = (self.lexical, np.empty(0, dtype=np.int64))
        self.unnamed: frozenset[str] = frozenset()
        self._chunk_units = np.flatnonzero(snapshot.unit_kind == CHUNK)
        vectors = snapshot.vectors[self._chunk_units]
        self.dense = snapshot.dense.get(CHUNK) or DenseIndex(vectors)
        self._cosines = row_cosines(self.dense, snapshot.vectors, self._chunk_units)
        self._asked = KnownQuestions(snapshot)
        known, self._share = questioned(chunks, snapshot.questions)
        self._rank, self._silent = static_ranks(chunks, known, self._share), ~known
        self._weights = lexical_weights(chunks)
        self._holds_code = any(chunk.kind in CODE_KINDS for chunk in chunks)
        self._language = LanguageQuestions(embedder)
        # What an unrelated chunk scores: a fixed sample, so that large indexes need no full scan per question.
        sample = vectors[:: max(1, len(vectors) // BACKGROUND_ROWS)]
        self._background = np.ascontiguousarray(sample, dtype=np.float32)
        self._sentences = np.flatnonzero(snapshot.unit_kind == SENTENCE)
        self._sentences = self._sentences[np.argsort(snapshot.unit_chunk[self._sentences], kind="stable")]
        self._sentence_starts = np.searchsorted(
            snapshot.unit_chunk[self._sentences], np.arange(len(chunks) + 1), side="left"
        )
        self._rows_of: dict[str, list[int]] = {}
        for row, chunk in enumerate(chunks):
            self._rows_of.setdefault(chunk.document, []).append(row)
        self._names = DocumentNames(chunks)
        self._code_names = CodeNames(chunks, snapshot.aliases)
        self.synonyms = thesaurus_for(section.synonyms, chunks)
        self._thesaurus = load_thesaurus(self.synonyms)
        self._understanding = Understanding(self)
        self._outdated = self._understanding.outdated()
        self.views = Views(self)

    def hide(self, documents: Collection[str]) -> None:
        """Leave documents (ids) out of every search from now on, as if they were not in the index (forgetting).

        Neither are they named as copies of others. Replaces what was hidden before. One assignment each, so that a
        search in another thread sees the old set or the new one. In its views, too.
        """
        self.unnamed = frozenset(documents)
        rows = np.array(sorted(row for name in documents for row in self._rows_of.get(name, ())), dtype=np.int64)
        self._mask = (self.lexical.without(rows) if len(rows) else self.lexical, rows)
        self.views.hide(documents)

    def of_part(self, snapshot: Snapshot) -> Searcher:
        """A searcher with the same settings and models over a part of the same index."""
        models = (self.reranker, self.reader, self.threshold, self._vectors)
        part = Searcher(snapshot, self.embedder, self.section, *models)
        part._language = self._language
        return part

    @property
    def hidden(self) -> np.ndarray:
        """The rows of the chunks that ``hide`` left out; another array after every change."""
        return self._mask[1]

    def search(self, question: str, k: int | None = None, without: Collection[str] = ()) -> Retrieval:
        """Read the question (spelling, form, language), then ``find``: see ``Retrieval.understood``."""
        found = self._understanding.search(question, k, without)
        return replace(found, confidence=confidence(found.question, found))

    def find(self, question: str, k: int | None = None, without: Collection[str] = ()) -> Retrieval:
        """Find the passages that best answer ``question`` as it stands: at most ``k`` (default ``section.passages``).

        Documents in ``without`` (ids) are searched as if they were not in the index (a few milliseconds more).
        An empty question, or an empty index, gives an empty result; a long question is cut at the embedder's limit.
        """
        timings: dict[str, float] = {}
        if not question.strip() or not self.snapshot.chunks:
            return self._result(question, timings)
        with _timed(timings, "embed"):
            vector = self._vectors.of(question)
        with _timed(timings, "lexical"):
            index, hidden = self._mask
            if own := [row for document in without for row in self._rows_of.get(document, ())]:
                index, hidden = index.without(own), np.union1d(hidden, own)
            terms, said, lexical = self._lexical(question, index)
            lexical[hidden] = 0
        with _timed(timings, "dense"):
            wanted = self._looked_at(hidden)
            asking = self.snapshot.asking(vector)
            rows, _ = self.dense.search(asking, wanted)
            rows = np.union1d(rows, self._asked.search(vector, wanted))
        with _timed(timings, "fuse"):
            names = self._names.documents(question)
            code = self._code_names.named(question, lambda row: bool(np.isin(row, hidden)))
            called = np.array(sorted(code.rows)[:MAX_NAMED], dtype=np.int64)
            named = np.array(sorted(row for name in names for row in self._rows_of[name])[:MAX_NAMED], dtype=np.int64)
            rows = np.setdiff1d(
                np.union1d(np.union1d(rows, np.union1d(called, named)), best_rows(lexical, self.section.candidates)),
                hidden,
            )
            cosines, asked = self._cosines(rows, vector), self._asked.cosines(rows, vector)
            evidence = (cosines, lexical[rows], asked)
            rank = self._rank[rows] + NAMED * np.isin(rows, named) + CALLED * np.isin(rows, called)
            rank -= self._superseded(question)[rows]
            weights, silent = self._weights[rows], self._silent[rows]
            scores = fused(*evidence, rank, weights, silent, self._share)
            near = cosines if asking is vector else self._cosines(rows, asking)
            order = np.argsort(-fused(near, lexical[rows], asked, rank, weights, silent, self._share), kind="stable")
        if self.reranker is not None:
            with _timed(timings, "rerank"):
                order = self._reranked(question, rows, order, self.reranker)
        passages, places = self._passages(rows, order, scores, evidence, k or self.section.passages, terms.content)
        with _timed(timings, "sentences"):
            scored = self._scored_sentences(passages, places, vector, terms, names)
        with _timed(timings, "features"):
            top_sentence = max((s.dense for s in scored), default=0.0)
            strange = strange_words(question, index.vocabulary, self.embedder.count_tokens)
            background = self._background @ vector
            language = self._language.nearest(vector) if self._holds_code else 0.0
            tops = (top_sentence, float(asked.max(initial=0.0)), language)
            found = features(terms, passages, cosines, background, said, *tops, len(strange))
            if self._holds_code and self.reranker is None:
                passages, before = led(question, passages, scored)
                scored = in_order(scored, before)
        result = self._result(question, timings, tuple(passages), tuple(scored), found)
        return self.reader.read(replace(result, called=code.documents, lacking=code.lacking))

    def ahead(self, questions: Sequence[str]) -> None:
        """Look for what is near several questions that are about to be searched, for less than one by one."""
        if len(questions) < TOGETHER:
            return
        vectors, wanted = self._vectors.of_all(questions), self._looked_at(self.hidden)
        self._asked.ahead(vectors, wanted)
        if isinstance(self.dense, DenseIndex):
            self.dense.ahead(np.stack([self.snapshot.asking(vector) for vector in vectors]), wanted)

    def _looked_at(self, hidden: np.ndarray) -> int:
        """How many of the nearest: what is hidden may be what is nearest, so as many others are to be found."""
        return self.section.candidates + min(len(hidden), MAX_LOOKED_PAST)

    def warm(self) -> None:
        """Make what else the first question would wait for."""
        if self._holds_code:
            self._language.warm()
        self._understanding.warm()

    @property
    def rows_of(self) -> dict[str, list[int]]:
        """The rows of each document's chunks, in text order."""
        return self._rows_of

    @property
    def masked(self) -> Bm25:
        """The lexical index of what is not hidden."""
        return self._mask[0]

    def passage(self, row: int) -> Passage:
        """A chunk as a passage that no question scored."""
        return self._passage(row, 0.0, 0.0, 0.0, 0.0)

    def _superseded(self, question: str) -> np.ndarray:
        """What each chunk loses because its document has a newer edition that the question did not pass over."""
        return self._understanding.without_asked(question, self._outdated)

    def scores(self, question: str) -> tuple[np.ndarray, np.ndarray]:
        """BM25 (over the question's idf mass) and cosine of every chunk, float32 [chunks]; exact, for evaluation."""
        lexical = self._lexical(question, self._mask[0])[2]
        vector = self._vectors.of(question)
        return lexical, cosines_of(self.snapshot.vectors, self._chunk_units, vector)

    def _lexical(self, question: str, index: Bm25) -> tuple[QuestionTerms, np.ndarray, np.ndarray]:
        """The question's terms, BM25 of its own words, BM25 with synonyms and whole documents; over its idf mass."""
        terms = question_terms(question, index)
        related = self._thesaurus.related(index_terms(question))
        synonyms = {t: w for t, w in related.items() if t not in terms.weighted}
        mass = max(terms.mass, 1e-6)
        said = index.scores(terms.weighted) / mass
        whole = self._documents.scores({**terms.weighted, **synonyms})[self._document_of] / mass
        part = said + index.scores(synonyms) / mass
        return terms, said, np.minimum((1 - WHOLE_WEIGHT) * part + WHOLE_WEIGHT * whole, MOST_LEXICAL)

    def _result(
        self,
        question: str,
        timings: dict[str, float],
        passages: tuple[Passage, ...] = (),
        sentences: tuple[ScoredSentence, ...] = (),
        found: dict[str, float] | None = None,
    ) -> Retrieval:
        return Retrieval(
            question, passages, sentences, found or {}, self.snapshot.version, self.snapshot.as_of, timings,
            threshold=self.threshold,
        )  # fmt: skip

    def _reranked(self, question: str, rows: np.ndarray, order: np.ndarray, reranker: Reranker) -> np.ndarray:
        """``order`` (places in ``rows``, best first) with its first ``section.rerank`` sorted by the reranker."""
        first, others = order[: self.section.rerank], order[self.section.rerank :]
        texts = [embedded_text(self.snapshot.chunks[row]) for row in rows[first]]
        return np.concatenate([first[np.argsort(-reranker.scores(question, texts), kind="stable")], others])

    def _passages(
        self,
        rows: np.ndarray,
        order: np.ndarray,
        scores: np.ndarray,
        evidence: Evidence,
        k: int,
        content: dict[str, float],
    ) -> tuple[list[Passage], list[int]]:
        """The first ``k`` in ``order`` of the candidate ``rows``, and their rows.

        ``evidence``: cosines, BM25, question cosines; the fused ``scores`` are made of them. ``content``: of the
        question (``QuestionTerms``).
        """
        at = dict(zip(rows[order].tolist(), order.tolist(), strict=True))
        chunks = self.snapshot.chunks
        kept = [self._of_table(row, at, content) for row in diverse(list(at), chunks, k)]
        made = [
            self._passage(row, float(scores[at[row]]), *(float(part[at[row]]) for part in evidence)) for row in kept
        ]
        return made, kept

    def _passage(self, row: int, score: float, dense: float, lexical: float, asked: float) -> Passage:
        return passage_of(self.snapshot.chunks[row], score, dense, lexical, asked, self.unnamed)

    def _of_table(self, row: int, candidates: Collection[int], content: dict[str, float]) -> int:
        """The chunk itself, or of a table that is longer than a chunk the one with the row that holds most of the
        question: by their meaning the parts of a table are all alike."""
        chunks = self.snapshot.chunks
        parts = [other for other in self._rows_of[chunks[row].document] if other in candidates]
        headers = {chunks[other].header for other in parts if chunks[other].header}
        mine = [header for header in headers if header == chunks[row].header or header in chunks[row].text]
        alike = [o for o in parts if any(h == chunks[o].header or h in chunks[o].text for h in mine)]
        if len(alike) < 2:
            return row

        def best(other: int) -> float:
            part = chunks[other]
            found = text_units.by_span(part.text, part.header, not part.start)
            rows = (covered(content, [part.text[u.start : u.end]]) for u in found.values() if u.kind == text_units.ROW)
            return max(rows, default=0.0)

        return max(alike, key=lambda other: (best(other), other == row))

    def _scored_sentences(
        self,
        passages: list[Passage],
        rows: list[int],
        vector: np.ndarray,
        terms: QuestionTerms,
        named: Collection[str],
    ) -> list[ScoredSentence]:
        scored = []
        for i, (passage, row) in enumerate(zip(passages, rows, strict=True)):
            units = self._sentences[self._sentence_starts[row] : self._sentence_starts[row + 1]]
            if not len(units):
                continue
            cosines = cosines_of(self.snapshot.vectors, units, vector)
            name = path_words(passage.document) if passage.document in named else ""
            known = text_units.by_span(passage.text, passage.header, not passage.start)
            for unit, cosine in zip(units, cosines, strict=True):
                start, end = int(self.snapshot.unit_start[unit]), int(self.snapshot.unit_end[unit])
                at = start - passage.start, end - passage.start
                part = known.get(at) or text_units.TextUnit(text_units.SENTENCE, *at)
                scored.append(_scored(i, passage, part, float(cosine), terms.content, name))
        return scored


def _scored(
    number: int, passage: Passage, part: text_units.TextUnit, cosine: float, content: dict[str, float], name: str
) -> ScoredSentence:
    """A unit with its evidence; ``name`` are words that the question says to name the document, not to ask of it."""
    text = passage.text[part.start : part.end]
    said = [text, name]
    if part.kind == text_units.ROW and covered(content, [text]):
        said.append(part.header)  # names of columns are said of every row: they count beside words of this one
    elif part.kind == text_units.CODE_BLOCK:
        said.append(passage.text[slice(*part.lead)] if part.led_by else passage.context)
    lexical = covered(content, said)
    lead = passage.start + part.lead[0] if part.led_by == text_units.SENTENCE else -1
    span = passage.start + part.start, passage.start + part.end
    return ScoredSentence(number, *span, text, cosine, lexical, part.kind, part.header, lead)


def _counted(snapshot: Snapshot) -> list[tuple[Counted, np.ndarray | None]]:
    """The lexical counts of each segment, made where no earlier version left them; of the whole without segments."""
    if not snapshot.segments:
        return [(_count(snapshot.chunks, snapshot.questions), None)]
    for segment, _ in snapshot.segments:
        if segment.counted is None:
            segment.counted = _count(segment.chunks, segment.questions)
    return [(segment.counted, None if kept.all() else kept) for segment, kept in snapshot.segments]


def _count(chunks: Sequence[Chunk], questions: Sequence[Sequence[str]]) -> Counted:
    contexts = [c.context if c.kind in CODE_KINDS else f"{c.context}\n{path_words(c.document)}" for c in chunks]
    return count([contexts, [c.text for c in chunks], ["\n".join(own) for own in questions]])


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timings[stage] = round((time.perf_counter() - began) * 1000, 3)
