"""Small folders as people have them, each asked what its pages tell and what they do not: the suite ``folders``.

Eight folders of a dozen short pages on different subjects (``suites/folders``), written for this purpose. The
unanswerable questions ask a thing that the pages speak of for something they do not say of it ("When was the library
built?", where only the ship's year is told). Half of the folders (``tune``) may be used to choose settings; the others
(``report``) say how good the result is. Eight more (``suites/folders_asked``) are asked in other words than their
pages'; nothing was chosen on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.config import PlinthConfig
from cluster.core.errors import BadInputError
from cluster.core.progress import Progress, Silent
from cluster.core.records import Document
from data_jobs.indexing.held_out import gather
from data_jobs.retrieval.embedder import Embedder
from data_jobs.retrieval.passage_reader import PassageReader
from train_jobs.evaluation.answerer import InProcessAnswerer
from train_jobs.evaluation.local_index import searcher_over
from train_jobs.evaluation.metrics import Rate

FOLDERS = Path(__file__).with_name("suites") / "folders"
OTHER_FOLDERS = FOLDERS.with_name("folders_asked")
MEASURES = ("answered", "right_page", "refused")
"""answered: answerable questions not refused. right_page: answerable questions whose first citation is the page that
tells it. refused: questions for a missing attribute that are refused."""


@dataclass(frozen=True)
class Folder:
    """A folder of pages (name -> text), questions that they answer with the page that does, and others."""

    name: str
    split: str
    pages: dict[str, str]
    answerable: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]

    @property
    def documents(self) -> tuple[Document, ...]:
        """The pages as an index takes them."""
        return tuple(
            Document(id=name, title=text.partition("\n")[0].lstrip("# "), text=text, source=name)
            for name, text in self.pages.items()
        )


@dataclass(frozen=True)
class Outcome:
    """What became of one question; ``page`` is the one that answers it, empty where none does."""

    folder: str
    split: str
    question: str
    page: str
    grounded: bool
    confidence: float
    first: str
    text: str
    ms: float


def load_folders(root: Path = FOLDERS) -> list[Folder]:
    """The folders in the .yaml files of ``root``, by name.

    Raises:
        BadInputError: a file is no folder, or names a page that it does not have.
    """
    import yaml

    found = []
    for path in sorted(root.glob("*.yaml")):
        try:
            row = yaml.safe_load(path.read_text(encoding="utf-8"))
            answerable = tuple((question, page) for pair in row["answerable"] for page, question in pair.items())
            folder = Folder(row["name"], row["split"], dict(row["pages"]), answerable, tuple(row["missing"]))
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise BadInputError(
                f"{path} is no folder with name, split, pages, answerable and missing: {error}"
            ) from error
        if unknown := {page for _, page in folder.answerable} - set(folder.pages):
            raise BadInputError(f"{path} has no page {', '.join(sorted(unknown))}")
        found.append(folder)
    return found


def ask_folders(
    folders: Sequence[Folder],
    config: PlinthConfig,
    embedder: Embedder,
    reader: PassageReader,
    progress: Progress | None = None,
    on_folder: Callable[[Folder, Any], None] | None = None,
) -> list[Outcome]:
    """Index each folder here and now, gather the evidence of its risk where there is a reader, and ask its questions.

    Args:
        on_folder: told each folder with its ``risk.Evidence``, or None without a reader.
    """
    progress = progress or Silent()
    found = []
    for folder in folders:
        searcher = searcher_over(folder.documents, config.index, config.retrieval, embedder)
        searcher.reader = reader
        evidence = gather(searcher, folder.documents, Silent()) if reader.reads else None
        promised = evidence.promise(config.answer.max_risk) if evidence else None
        searcher.threshold = promised.threshold if promised else None
        if on_folder:
            on_folder(folder, evidence)
        answerer = InProcessAnswerer(searcher, config.answer)
        progress.stage(folder.name, len(folder.answerable) + len(folder.missing), "questions")
        for question, page in (*folder.answerable, *((question, "") for question in folder.missing)):
            reply = answerer.ask(question)
            made = reply.answer
            first = made.citations[0].document if made.citations else ""
            found.append(Outcome(folder.name, folder.split, question, page, made.grounded, round(made.confidence, 4),
                                 first, made.text, round(reply.ms, 1)))  # fmt: skip
            progress.advance()
    return found


def rates(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Rate]]:
    """By split, and by folder, the measures with their intervals."""
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        for name in (one.split, "all", one.folder):
            groups.setdefault(name, []).append(one)
    order = sorted(groups, key=lambda name: (name not in ("tune", "report"), name != "all", name))
    return {name: _rates(groups[name]) for name in order}


def _rates(outcomes: Sequence[Outcome]) -> dict[str, Rate]:
    told = [one for one in outcomes if one.page]
    return {
        "answered": Rate.of(one.grounded for one in told),
        "right_page": Rate.of(one.grounded and one.first == one.page for one in told),
        "refused": Rate.of(not one.grounded for one in outcomes if not one.page),
    }
