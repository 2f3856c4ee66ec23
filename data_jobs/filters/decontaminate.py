"""Keep evaluation sets out of a corpus: documents that hold what a model will be asked about it later.

As for GPT-3 (Brown et al. 2020, arXiv:2005.14165, appendix C) an item is found by runs of 13 words, case and
punctuation aside; an item of fewer words by all of them together, but not below MIN_WORDS, where chance decides. A
document that holds one such run is left out. The sets are copied into the store under the hash of their texts, so that
the version of a dataset says what it was cleaned of.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.errors import BadInputError
from cluster.core.sections.data import DataSection
from cluster.core.storage import Store

REASON = "contaminated"
NGRAM = 13
MIN_WORDS = 5
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Overlap:
    """What a document holds of an evaluation set.

    Attributes:
        evaluation, item: the set, and the item (from 0) of which most stands in the document.
        item_share: of that item's runs, the share that does; document_share: of the document's words, the share that
            is in runs of any item.
    """

    evaluation: str
    item: int
    item_share: float
    document_share: float


def words_of(text: str) -> list[str]:
    """The lower-cased words of a text, as items and documents are compared by."""
    return _WORD.findall(text.lower())


class EvaluationSets:
    """Finds texts of evaluation sets in documents: time grows with the document, not with the sets.

    Args:
        sets: by name, the texts of the items, each a list of texts (question, answer, ...).

    Attributes:
        too_short: texts of fewer than MIN_WORDS words, which are not looked for.
    """

    def __init__(self, sets: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self.too_short = 0
        # By its first words: every run that begins so, and the items that have it.
        self._runs: dict[tuple[str, ...], dict[tuple[str, ...], list[tuple[str, int]]]] = {}
        self._totals: Counter[tuple[str, int]] = Counter()
        for name in sorted(sets):
            for item, texts in enumerate(sets[name]):
                for run in {run for text in texts for run in self._runs_of(words_of(text))}:
                    self._totals[name, item] += 1
                    self._runs.setdefault(run[:MIN_WORDS], {}).setdefault(run, []).append((name, item))

    def _runs_of(self, words: list[str]) -> Iterator[tuple[str, ...]]:
        if len(words) < MIN_WORDS:
            self.too_short += 1
            return
        size = min(NGRAM, len(words))
        yield from (tuple(words[at : at + size]) for at in range(len(words) - size + 1))

    def overlap(self, text: str) -> Overlap | None:
        """What ``text`` holds of the sets, or None where not one run of theirs stands in it."""
        words = words_of(text)
        covered = bytearray(len(words))
        found: set[tuple[str, ...]] = set()
        items: Counter[tuple[str, int]] = Counter()
        for at in range(len(words) - MIN_WORDS + 1):
            for run, owners in self._runs.get(tuple(words[at : at + MIN_WORDS]), {}).items():
                end = at + len(run)
                if tuple(words[at:end]) == run:
                    covered[at:end] = b"\x01" * (end - at)
                    if run not in found:
                        found.add(run)
                        items.update(owners)
        if not found:
            return None
        name, item = min(items, key=lambda key: (-items[key] / self._totals[key], key))
        share = items[name, item] / self._totals[name, item]
        return Overlap(name, item, round(share, 4), round(sum(covered) / len(words), 4))


# -- reading the sets --------------------------------------------------------------------------------------------------
def read_set(path: Path, fields: Sequence[str]) -> list[list[str]]:
    """The texts of each item: the named fields of a .jsonl row (texts, or lists of them), or the lines of a .txt file.

    Raises:
        BadInputError: it cannot be read, is of another kind, or no row has one of the fields.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".txt":
            items = [[line] for line in text.splitlines() if line.strip()]
        elif path.suffix == ".jsonl":  # whose texts may hold what ends a line elsewhere (U+2028)
            items = [list(_texts(json.loads(line), fields)) for line in text.split("\n") if line.strip()]
        else:
            raise BadInputError(f"data.decontaminate: {path} is neither .jsonl nor .txt")
    except (OSError, ValueError) as error:
        raise BadInputError(f"data.decontaminate: cannot read {path}: {error}") from error
    if not any(items):
        raise BadInputError(f"data.decontaminate: no row of {path} has a text in {', '.join(fields)}")
    return items


def _texts(row: Any, fields: Iterable[str]) -> Iterator[str]:
    for name in fields:
        value = row.get(name) if isinstance(row, dict) else None
        yield from (v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str))


def pinned(section: DataSection, store: Store) -> DataSection:
    """The settings with every evaluation set copied into the store and named by its content (``squad.jsonl@1f2e...``).

    Raises:
        BadInputError: as ``read_set``.
    """
    names = []
    for path in map(Path, section.decontaminate):
        body = json.dumps(read_set(path, section.decontaminate_fields), ensure_ascii=False).encode()
        digest = hashlib.sha256(body).hexdigest()[:32]
        if not store.exists(_place(store, digest)):
            store.write(_place(store, digest), body)
        names.append(f"{path.name}@{digest}")
    return section.model_copy(update={"decontaminate": tuple(names)})


def _place(store: Store, digest: str) -> str:
    return store.path("cache", "evaluation_sets", f"{digest}.json")


def evaluation_sets(store: Store, section: DataSection) -> EvaluationSets | None:
    """What ``pinned`` stored, ready to search; None where nothing is to be kept out."""
    return _stored(store.uri, section.decontaminate) if section.decontaminate else None


@functools.lru_cache(maxsize=2)
def _stored(uri: str, names: tuple[str, ...]) -> EvaluationSets:
    store = Store(uri)
    return EvaluationSets({name: store.read_json(_place(store, name.rpartition("@")[2])) for name in names})
