"""The evaluation suites: one entry a suite in ``SUITES``, which the help, the checks and the dispatch read.

A new suite is an entry here and its scorer in ``train_jobs/evaluation``. Its function takes a ``Run`` and returns what
``--json`` prints and the tables for people; what is wrong with the data it raises as a PlinthError.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.core.errors import UsageError
from cluster.core.storage import INDEXES, LIVE, Collections
from cluster.loopback import api_key

if TYPE_CHECKING:
    from cluster.core.config import PlinthConfig
    from cluster.core.home import Home
    from cluster.core.progress import Progress

FILE = "FILE.jsonl"


@dataclass(frozen=True)
class Run:
    """What one run of a suite was asked for."""

    suite: str
    data: Path | None
    model: str
    misses: bool
    config: PlinthConfig
    home: Home
    progress: Progress

    def labelled(self) -> Path:
        """The --data of a suite that needs some."""
        if self.data is None:
            raise UsageError(f"suite {self.suite} needs labelled data, --data PATH: {SUITES[self.suite].fields}")
        return self.data


@dataclass(frozen=True)
class Table:
    """A table of a suite's result for people; ``numeric`` names the columns that are set flush right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    numeric: Sequence[str] = ()


Found = tuple[dict[str, Any], list[Table]]


@dataclass(frozen=True)
class Suite:
    """What it scores, the form and fields of its data, and the function that does it."""

    scores: str
    fields: str
    run: Callable[[Run], Found]


def suite_of(name: str) -> Suite:
    """The entry of a suite by its name, or of a file of questions by its path.

    Raises:
        UsageError: there is none of this name.
    """
    if name in SUITES and name != FILE:
        return SUITES[name]
    if name.endswith(".jsonl"):
        return SUITES[FILE]
    from cluster.cli.verbs import unknown

    if Path(name).exists():
        raise UsageError(f"the suite {name!r} is no {FILE}: a file of questions has a name that ends in .jsonl")
    raise UsageError(unknown("there is no suite", name, SUITES))


def described() -> str:
    """The table as lines of help."""
    width = max(map(len, SUITES)) + 2
    lines = [f"  {name:<{width}}{suite.scores}; {suite.fields}" for name, suite in SUITES.items()]
    return "\n".join(lines)


def _questions(run: Run) -> Found:
    from cluster.cli.ask import models, service_url
    from cluster.cli.verbs import unknown
    from cluster.core.storage import Store
    from train_jobs.evaluation.answerer import HttpAnswerer
    from train_jobs.evaluation.questions import load_suite
    from train_jobs.evaluation.run import run_suite

    questions = load_suite(run.suite)  # before anything is asked: a missing field is said at once
    url = service_url(run.config)
    known = models(url)
    if known and run.model not in known:
        raise UsageError(unknown("there is no model", run.model, known))
    run.progress.stage("asking", len(questions), "questions")
    answerer = HttpAnswerer(url, model=run.model, api_key=api_key())
    aliases = _aliases(Store(run.home.store_uri), run.config)
    result = run_suite(run.suite, answerer, aliases=aliases, on_question=lambda *_: run.progress.advance())
    tables = [
        Table(f"{result.suite} on {result.answerer} (index {result.index_version})",
              ("split", "measure", "rate", "95 % interval", "hits"), result.rows(), ("rate", "hits")),
        _latency(result.latency_ms),
    ]  # fmt: skip
    if run.misses:
        rows = [
            (q.id, q.question, ", ".join(q.cited[:5]) or q.reason, ", ".join(q.accepted[:3]))
            for q in result.questions
            if (not q.cited_hit if q.group == "answerable" else q.grounded)
        ]
        tables.append(Table("Misses", ("id", "question", "cited", "accepted"), rows))
    return result.to_dict(), tables


def _aliases(store: Any, config: PlinthConfig) -> dict[str, tuple[str, ...]]:
    """Other names of each document of the default collection's dataset: a re-export is the same thing."""
    name = Collections(store, config.index.name).find()
    dataset = store.manifest(INDEXES, name, LIVE).inputs.get("dataset", "")
    if not dataset:
        return {}  # made from a watched folder: files have no other names
    name, _, dataset_version = dataset.partition("@")
    from data_jobs.corpus.dataset import read_documents

    documents = read_documents(store, store.manifest("datasets", name, dataset_version))
    return {document.id: document.aliases for document in documents}


def _pii(run: Run) -> Found:
    from data_jobs.pii.names import load_names
    from train_jobs.evaluation.pii_suite import score_pii

    if run.data is None:
        return _pii_cases(run)
    data, model = run.data, run.config.data.names
    result = score_pii(data, load_names(model), model, _counting(run.progress, "rows"))
    columns = ("half", "type", "precision", "recall", "F1", "characters", "found")
    tables = [
        Table(f"pii on {data} ({result.rows} rows)", columns, result.lines(), columns[2:]),
        Table("Labels that are none of our types", ("label", "spans"), list(result.unmapped.items()), ("spans",)),
    ]
    return result.to_dict(), tables


def _pii_cases(run: Run) -> Found:
    """The shipped cases, by the guards that change a request and by the steps that clean a document."""
    from train_jobs.evaluation.pii_cases import load_cases, score_cases

    ways = {"requests": _as_request(run.config), "documents": _as_document(run.config)}
    cases = load_cases()
    result = score_cases(ways, cases, _counting(run.progress, "texts"))
    title = f"pii: caught of {len(cases)} shipped cases, and ordinary texts changed"
    tables = [Table(title, ("half", "kind", "manner", *ways), result.lines(), tuple(ways))]
    if run.misses:
        tables.append(Table("Misses (tune)", ("way", "id", "written", "went on as"), result.misses()))
    return result.to_dict(), tables


def _as_request(config: PlinthConfig) -> Callable[[str], str]:
    """A request as it goes on: of ``serve.guards`` those that rewrite a text."""
    from serve_apps.guards.chain import GUARDS, GuardChain

    chain = GuardChain(
        [GUARDS[name](config) for name in config.serve.guards if name in ("characters", "personal_data")]
    )
    return lambda text: chain.check_input([text])[0].text


def _as_document(config: PlinthConfig) -> Callable[[str], str]:
    """The text of a document that is not declared public, as it is stored."""
    from cluster.core.records import Document
    from data_jobs.corpus.clean import CleaningRules, Draft, normalise_texts, redact_personal_data
    from data_jobs.governance.tombstones import Tombstones

    rules = CleaningRules(config.data, Tombstones())

    def stored(text: str) -> str:
        draft = Draft(Document(id="case", title="", text=text, source="case", sensitivity="internal"))
        return redact_personal_data(normalise_texts(draft, rules), rules).document.text

    return stored


def _dedup(run: Run) -> Found:
    from train_jobs.evaluation.dedup_suite import THRESHOLDS, score_dedup

    data = run.labelled()
    thresholds = sorted({*THRESHOLDS, run.config.data.near_duplicate_jaccard})
    result = score_dedup(data, thresholds, _counting(run.progress, "documents"))
    columns = ("Jaccard", "pairs", "recall", "precision", "clusters", "found", "cluster F1", "ARI")
    title = f"dedup on {data} ({result.documents} documents, {result.listed_pairs} pairs with exact similarity)"
    return result.to_dict(), [Table(title, columns, result.lines(), columns)]


def _retrieval(run: Run) -> Found:
    """Each list of the search and the fused one; vectors are kept in the cache for the next run."""
    from data_jobs.retrieval.embedder import load_embedder
    from train_jobs.evaluation.beir import MEASURES, load_beir, run_retrieval

    at = ("", 0)

    def on_step(stage: str, done: int, total: int) -> None:
        nonlocal at
        if at[0] != stage:
            run.progress.stage(stage, total, "chunks" if stage == "embed" else "queries")
            at = (stage, 0)
        run.progress.advance(done - at[1])
        at = (stage, done)

    loaded = load_beir(run.labelled())
    embedder = load_embedder(run.config.index, threads=len(os.sched_getaffinity(0)))
    result = run_retrieval(loaded, run.config, embedder, run.home.folder("cache") / "vectors", on_step)
    size = f"{result.documents:,} documents, {result.chunks:,} chunks, {result.queries:,} queries"
    title = f"{result.data}: {size} ({result.embedder})"
    return result.to_dict(), [
        Table(title, ("search", *MEASURES), result.rows(), MEASURES), _latency(result.latency_ms)
    ]  # fmt: skip


def _folders(run: Run) -> Found:
    """In this process, with the reader of ``retrieval.reader``: needs neither a service nor an index."""
    from data_jobs.retrieval.embedder import load_embedder
    from data_jobs.retrieval.passage_reader import load_passage_reader
    from train_jobs.evaluation.folders import MEASURES, ask_folders, load_folders, rates

    threads = len(os.sched_getaffinity(0))
    reader = load_passage_reader(run.config.retrieval.reader, threads)
    folders, promises = load_folders(run.data) if run.data else load_folders(), []

    def told(folder: Any, evidence: Any) -> None:
        promises.append((folder.name, evidence.said(run.config.answer.max_risk) if evidence else "no reader"))

    asked = ask_folders(folders, run.config, load_embedder(run.config.index, threads), reader, run.progress, told)
    found = rates(asked)
    rows = [(name, *(str(table[m]) for m in MEASURES)) for name, table in found.items()]
    tables = [
        Table("folders, in process" + ("" if reader.reads else " (no reader)"), ("", *MEASURES), rows, MEASURES),
        Table("Promised of each", ("folder", ""), promises),
    ]
    if run.misses:
        wrong = [o for o in asked if (o.first != o.page or not o.grounded if o.page else o.grounded)]
        lines = [(o.folder, o.question, o.page, o.first, f"{o.confidence:.2f}") for o in wrong]
        tables.append(Table("Misses", ("folder", "question", "wanted", "first", "confidence"), lines))
    result = {
        "suite": "folders", "reader": reader.reads, "promises": dict(promises),
        "rates": {name: {m: rate.to_dict() for m, rate in table.items()} for name, table in found.items()},
        "questions": [vars(one) for one in asked],
    }  # fmt: skip
    return result, tables


def _squad(run: Run) -> Found:
    """In this process, as ``_folders``; the vectors of the paragraphs are kept for the next run."""
    from data_jobs.retrieval.embedder import load_embedder
    from data_jobs.retrieval.passage_reader import load_passage_reader
    from train_jobs.evaluation.squad import MEASURES, ask_squad, balanced, rates

    threads = len(os.sched_getaffinity(0))
    reader = load_passage_reader(run.config.retrieval.reader, threads)
    embedder, cache = load_embedder(run.config.index, threads), run.home.folder("cache") / "vectors"
    asked, promised = ask_squad(run.labelled(), run.config, embedder, reader, run.progress, cache)
    found = rates(asked)
    both = {name: balanced(table["answered"], table["refused"]) for name, table in found.items()}
    shown = {name: "{:.3f} [{:.2f}, {:.2f}]".format(*values) for name, values in both.items()}
    rows = [(name, shown[name], *(str(table[m]) for m in MEASURES)) for name, table in found.items()]
    columns = ("balanced", *MEASURES)
    tables = [
        Table("squad, in process" + ("" if reader.reads else " (no reader)"), ("", *columns), rows, columns),
        Table("Promised", ("",), [(promised,)]),
    ]
    if run.misses:
        wrong = [o for o in asked if (not o.quoted if o.answerable else o.grounded)]
        lines = [(o.question, o.answerable, f"{o.confidence:.2f}", o.text[:120]) for o in wrong]
        tables.append(Table("Misses", ("question", "answerable", "confidence", "said"), lines))
    result = {
        "suite": "squad", "reader": reader.reads, "promised": promised,
        "rates": {name: {m: rate.to_dict() for m, rate in table.items()} for name, table in found.items()},
        "balanced": {name: dict(zip(("rate", "low", "high"), values, strict=True)) for name, values in both.items()},
        "questions": [vars(one) for one in asked],
    }  # fmt: skip
    return result, tables


def _fertility(run: Run) -> Found:
    """Of the tokenizer that --model names: an artefact, a registered model, or a folder."""
    from cluster.core.storage import Store
    from train_jobs.data.tokenizer import tokenizer_of
    from train_jobs.evaluation.fertility import score_fertility

    name = run.config.train.name if run.model == "quote" else run.model
    digest, tokenizer = tokenizer_of(Store(run.home.store_uri), name)
    run.progress.stage("tokenise")
    languages = score_fertility(run.labelled(), tokenizer)
    least = languages[0].tokens / languages[0].texts
    rows = []
    for one in languages:
        ratios = one.to_dict()
        cost = one.tokens / one.texts / least if least else 0.0
        shown = ("tokens_per_word", "characters_per_token", "bytes_per_token")
        rows.append((one.language, *(f"{ratios[key] or 0:.2f}" for key in shown), f"{cost:.2f}", one.unknown,
                     f"{one.round_trips}/{one.texts}"))  # fmt: skip
    columns = ("language", "tokens/word", "chars/token", "bytes/token", "cost", "unknown", "comes back")
    title = f"Tokenizer {name} (sha256 {digest[:12]}, {tokenizer.get_vocab_size():,} tokens) on {run.data}"
    result = {"suite": "fertility", "tokenizer": name, "sha256": digest, "languages": [o.to_dict() for o in languages]}
    return result, [Table(title, columns, rows, columns[1:])]


def _alike(run: Run) -> Found:
    """In this process; needs neither a service nor an index."""
    from cluster.cli.evaluation.alike import score

    result, tables = score(run)
    return result, [Table(*one) for one in tables]


def _latency(values: dict[str, float]) -> Table:
    return Table("", ("latency ms", ""), [(name, f"{value:.1f}") for name, value in values.items()])


def _counting(progress: Progress, unit: str) -> Callable[[int], None]:
    """Called with the total after each item."""
    started = False

    def on_item(total: int) -> None:
        nonlocal started
        if not started:
            progress.stage("scoring", total, unit)
            started = True
        progress.advance()

    return on_item


SUITES: dict[str, Suite] = {
    "stdlib": Suite("answers about Python's standard library", "shipped; needs the pydocs index", _questions),
    "stdlib_wide": Suite("160 more, half of them terse", "shipped; needs the pydocs index", _questions),
    "stdlib_unasked": Suite("names that people rarely ask for", "shipped; needs the pydocs index", _questions),
    "stdlib_absent": Suite("what no docstring answers: all refused?", "shipped; needs the pydocs index", _questions),
    "folders": Suite(
        "what small folders tell and what they do not, in process", "shipped, or a folder of such .yaml files", _folders
    ),
    "squad": Suite(
        "abstention and quoted answers on SQuAD 2, in process",
        "a folder with qa_squad2 (contexts.jsonl, questions.jsonl), of which titles are asked that no reader learnt",
        _squad,
    ),
    FILE: Suite(
        "answers to questions of your own",
        "a row has id, question, answerable (true or false) and, if true, accepted (names of the documents that answer "
        "it); optional: split (tune or report, the default), near_miss (of an unanswerable one: close to the corpus)",
        _questions,
    ),
    "pii": Suite(
        "the redactor: data as people type it, evasions, ordinary texts",
        "shipped, in process, or .jsonl rows with text and spans[type, start, end]", _pii,
    ),
    "dedup": Suite(
        "near duplicates", "a folder with docs.jsonl (id, text) and pairs.tsv (id_a, id_b, jaccard)", _dedup
    ),
    "fertility": Suite(
        "what a tokenizer makes of each language (--model NAME: its artefact, a model or a folder)",
        ".jsonl rows with text and language (or bcp47, lang, code)", _fertility,
    ),
    "retrieval": Suite(
        "BM25, dense and fused search", "a folder in BEIR form: corpus.jsonl, queries.jsonl, qrels.tsv", _retrieval
    ),
    "alike": Suite(
        "answers given to alike questions: hits, wrong ones, time",
        "a folder with train.jsonl and test.jsonl (text, label), and unless the labels are Banking77's sections.md "
        "(## label: title, below it the text that answers)", _alike,
    ),
}  # fmt: skip
