"""Documents and questions in other languages than English: found, whatever the script."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.core.records import Document
from cluster.core.sections.data import IndexSection, RetrievalSection
from cluster.core.storage import Store
from data_jobs.indexing.update_index import update
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.search import Searcher
from data_jobs.retrieval.snapshot import Snapshot

# The same article (nationality) has the same place in every translation, so the paragraph is the right answer.
ASKED = {
    "deu": "Wer hat das Recht auf eine Staatsangehörigkeit?",
    "fra": "Qui a droit à une nationalité ?",
    "spa": "¿Quién tiene derecho a una nacionalidad?",
    "rus": "Кто имеет право на гражданство?",
    "ell": "Ποιος έχει δικαίωμα ιθαγένειας;",
    "jpn": "国籍をもつ権利",
    "cmn": "国籍的权利",
    "kor": "국적을 가질 권리",
    "arb": "حق التمتع بجنسية",
}
HOLDS = {"deu": "Staatsangehörigkeit", "fra": "nationalité", "spa": "nacionalidad", "rus": "гражданств",
         "ell": "ιθαγένεια", "jpn": "国籍", "cmn": "国籍", "kor": "국적", "arb": "جنسي"}  # fmt: skip


def texts(folder: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (folder / "udhr.jsonl").read_text(encoding="utf-8").splitlines()]
    found: dict[str, str] = {}
    for row in rows:
        if row["iso639_3"] in ASKED:
            found.setdefault(row["iso639_3"], row["text"])
    return found


@pytest.mark.slow
@pytest.mark.ci
def test_the_right_paragraph_is_found_in_every_language(
    data_set: Callable[[str], Path], home: Path, embedder: Embedder
) -> None:
    declarations = texts(data_set("multi_udhr"))
    assert len(declarations) >= 6
    documents = [
        Document(f"{language}-{number}", language, paragraph, language)
        for language, text in declarations.items()
        for number, paragraph in enumerate(p for p in text.split("\n") if p.strip())
    ]
    store, section = Store(str(home / "store")), IndexSection()
    index = update(store, section, None, documents, (), embedder, inputs={})
    snapshot = Snapshot.load(Path(store.artefact(index)), index, embedder.fingerprint)
    searcher = Searcher(snapshot, embedder, RetrievalSection())
    missed = []
    for language in declarations:
        passages = searcher.search(ASKED[language], 5).passages
        if not any(p.document.startswith(language) and HOLDS[language] in p.text for p in passages):
            missed.append((language, [p.document for p in passages]))
    assert missed == []
