"""Rows of a fine-tuning set: a question, what the search found for it, and which of the sentences shown are right.

Plain code that ``make_examples.py`` spreads over a cluster. A row's prompt is made by the same search, layout and
tokenizer as a prompt in the service, and without the passages that the service keeps out of prompts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cluster.core.records import Answer, Document
from cluster.core.sections.answer import AnswerSection
from data_jobs.retrieval.results import Retrieval, ScoredSentence
from data_jobs.safety.passages import findings, scan_version, text_of
from data_jobs.synthetic.writer import Asked
from data_jobs.text.sentences import sentences
from train_jobs.answering.abstention import support
from train_jobs.answering.grounded import evidence_of
from train_jobs.answering.prompt import Prompt, completion, lay_out
from train_jobs.answering.quote import answer
from train_jobs.answering.special_tokens import QUESTION
from train_jobs.evaluation.metrics import token_f1

RIGHT = 0.6  # token F1 with the gold sentence from which another sentence answers just as well
MAX_FAMILY = 0.2  # of the corpus: a larger tree is not one subject
SAME = 0.8  # from which it says the same: documents that hold such a sentence are taken away with the gold one
_ASKED = re.compile(rf"(?<={re.escape(QUESTION)}).*?(?=<\|)", re.DOTALL)
KINDS = ("own", "how", "what", "keywords", "title", "left_out", "foreign")


@dataclass(frozen=True)
class Row:
    """One example.

    Attributes:
        split: ``train`` or ``held_out``.
        kind: how the question was made (``KINDS``); ``left_out`` and ``foreign`` are unanswerable.
        prompt, completion: what the model reads and should write; ``sentences`` are those the prompt numbers, and
            ``documents`` where they stand.
        evidence: the first of them as a model that writes reads them: ``{heading, text}``.
        document, gold_sentence: where the answer stands (of a ``left_out`` row: stood), empty for ``foreign``.
        baseline: the first sentence of the first passage, empty where nothing was found.
        quote: what the quote tier says: its text, the sentence it quotes first, the document it cites first, whether it
            is grounded.
        source: of the document, as its dataset names it; empty for ``foreign``.
        support, supported: probability that the passages answer, and whether it is enough for any tier to answer.
    """

    split: str
    kind: str
    question: str
    prompt: str
    completion: str
    sentences: tuple[str, ...]
    document: str
    gold_sentence: str
    answerable: bool
    baseline: str
    quote: dict[str, Any]
    support: float
    supported: bool
    source: str = ""
    documents: tuple[str, ...] = ()
    evidence: tuple[dict[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The row as one JSON object, field by field."""
        return asdict(self)


class RowMaker:
    """Turns questions and retrievals into rows.

    Args:
        count_tokens: of the model's tokenizer.
        budget_tokens: most tokens of a prompt.
    """

    def __init__(self, section: AnswerSection, count_tokens: Callable[[str], int], budget_tokens: int) -> None:
        self._section, self._count, self._budget = section, count_tokens, budget_tokens

    def answerable(self, asked: Asked, retrieval: Retrieval, split: str) -> Row | None:
        """The row of a question whose answer is in the corpus; None where it teaches or measures nothing.

        A question whose document the search did not find is left out of both splits: whether something else in the
        passages answers it is unknown, so neither an answer nor an abstention could be called right. Where the document
        was found but its sentence is not among those shown, a model cannot be taught to point at it; in the gate's set
        the question stays, for that is the layout's fault, and counts against the model. The same goes for a sentence
        that nothing in the prompt speaks for. A passage that may stand in no prompt counts as not found.
        """
        shown = fit_for_prompts(retrieval)
        if all(passage.document != asked.document for passage in shown.passages) or _steers(asked):
            return None
        prompt = self._prompt(asked.question, shown)
        best = right_sentence(asked, prompt.sentences)
        if split == "train" and (best is None or not _can_be_told(prompt, best)):
            return None
        points = [] if best is None else [best]
        return self._row(split, asked.manner, asked.question, retrieval, shown, prompt, points, asked)

    def unanswerable(self, question: str, retrieval: Retrieval, split: str, gone: Asked | None = None) -> Row | None:
        """The row of a question that nothing shown answers. ``gone``: what would have, taken out of the corpus; None
        where something left still says the same."""
        shown = fit_for_prompts(retrieval)
        prompt = self._prompt(question, shown)
        if gone and (_steers(gone) or any(token_f1(s.text, gone.sentence) >= RIGHT for s in retrieval.sentences)):
            return None
        return self._row(split, "left_out" if gone else "foreign", question, retrieval, shown, prompt, [], gone)

    def _prompt(self, question: str, retrieval: Retrieval) -> Prompt:
        return lay_out(question, retrieval, self._section, self._count, self._budget)

    def _row(
        self, split: str, kind: str, question: str, retrieval: Retrieval, shown: Retrieval, prompt: Prompt,
        points: list[int], asked: Asked | None,
    ) -> Row:  # fmt: skip
        said = answer(question, retrieval, self._section)
        verdict = support(question, retrieval, self._section.min_confidence)
        return Row(
            split=split,
            kind=kind,
            question=question,
            prompt=prompt.text,
            completion=completion(points),
            sentences=tuple(sentence.text for sentence in prompt.sentences),
            document=asked.document if asked else "",
            gold_sentence=asked.sentence if asked else "",
            answerable=kind not in ("left_out", "foreign"),
            baseline=first_sentence(retrieval),
            quote={
                "text": said.text,
                "sentence": led_with(said, retrieval),
                "grounded": said.grounded,
                "document": said.citations[0].document if said.grounded and said.citations else "",
            },
            support=round(verdict.probability, 4),
            supported=verdict.grounded,
            documents=tuple(shown.passages[sentence.passage].document for sentence in prompt.sentences),
            evidence=tuple(asdict(one) for one in evidence_of(shown)[0][: len(prompt.sentences)]),
        )


def fit_for_prompts(retrieval: Retrieval) -> Retrieval:
    """The search without passages in which a scan finds what no prompt may hold: what was found when the index was
    built counts, and what nobody scanned by today's rules is scanned here."""
    today = scan_version()
    kept = [
        place
        for place, passage in enumerate(retrieval.passages)
        if not passage.findings and (passage.scanned == today or not findings(text_of(passage)))
    ]
    return retrieval if len(kept) == len(retrieval.passages) else retrieval.only(kept)


def _steers(asked: Asked) -> bool:
    """Whether a question, or the sentence it was made from, would say to a model what no passage may say."""
    return bool(findings(f"{asked.question}\n{asked.sentence}"))


def _can_be_told(prompt: Prompt, right: int) -> bool:
    """Whether anything in the prompt speaks for the right sentence against the first one. Where nothing does, a model
    could only learn it by heart, and would point anywhere but at the first ever after."""
    first, own = prompt.evidence[0], prompt.evidence[right]
    return right == 0 or prompt.words > 0 or any(a > b for a, b in zip(own, first, strict=True))


def thinned(row: Row, picker: random.Random) -> Row:
    """The row with some of its question's words left out. A question is otherwise the key by which a model recalls an
    example instead of reading its evidence, which is the same here."""
    share = picker.uniform(0.3, 1.0)

    def fewer(match: re.Match[str]) -> str:
        return " ".join(word for word in match.group().split() if picker.random() < share)

    return replace(row, prompt=_ASKED.sub(fewer, row.prompt, count=1))


def right_sentence(asked: Asked, shown: Sequence[ScoredSentence]) -> int | None:
    """The place of the shown sentence nearest to the gold one, the first of equals (whatever document it stands in, it
    says the same); None where none is near enough."""
    best = max(((token_f1(s.text, asked.sentence), -place) for place, s in enumerate(shown)), default=(0.0, 0))
    return -best[1] if best[0] >= RIGHT else None


def saying_the_same(asked: Asked, retrieval: Retrieval) -> set[str]:
    """Documents among the passages that hold a sentence which says what the gold sentence says."""
    return {
        retrieval.passages[sentence.passage].document
        for sentence in retrieval.sentences
        if token_f1(sentence.text, asked.sentence) >= SAME
    }


def first_sentence(retrieval: Retrieval) -> str:
    """The baseline of the gate: the first sentence of the first passage."""
    if not retrieval.passages:
        return ""
    text = retrieval.passages[0].text
    return next((text[start:end] for start, end in sentences(text)), "")


def led_with(said: Answer, retrieval: Retrieval) -> str:
    """The whole sentence that an answer of the quote tier quotes first (it may show it trimmed); empty where it
    abstains."""
    if not said.grounded or not said.citations:
        return ""
    quoted = said.text.partition('"')[2].partition('" [')[0].strip("… ")
    own = [s for s in retrieval.sentences if retrieval.passages[s.passage].chunk == said.citations[0].chunk]
    if not quoted:
        return own[0].text if own else ""
    return next((s.text for s in own if quoted in " ".join(s.text.split())), quoted)


def families(documents: Sequence[Document]) -> dict[str, Collection[str]]:
    """Per document the ids that leave with it when its subject is taken out of the corpus: everything in what encloses
    it (a function's whole module), since neighbours often answer as well. Where that is most of the corpus, only what
    encloses it and what it encloses."""
    above = {document.id: document.part_of for document in documents}
    chains: dict[str, list[str]] = {}
    for name in above:
        chain = [name]
        while (enclosing := above[chain[-1]]) in above and enclosing not in chain:
            chain.append(enclosing)
        chains[name] = chain
    trees: dict[str, set[str]] = {}
    lines = {name: set(chain) for name, chain in chains.items()}
    for name, chain in chains.items():
        trees.setdefault(chain[-1], set()).add(name)
        for enclosing in chain[1:]:
            lines[enclosing].add(name)
    most = MAX_FAMILY * len(documents)
    return {
        name: frozenset(trees[chain[-1]] if len(trees[chain[-1]]) <= most else lines[name])
        for name, chain in chains.items()
    }
