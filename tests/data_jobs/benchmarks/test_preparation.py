"""The benchmark: its corpus, its recall and its memory watch; and once the whole, on half a megabyte."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.cli.main import main
from cluster.core.errors import BadInputError
from data_jobs.benchmarks.corpus import LOWEST, Corpus, build, endless_documents, recall
from data_jobs.benchmarks.peak_memory import PeakMemory, descendants, peak_mib
from data_jobs.filters.dedup import jaccard, shingles

PLAIN = ["the", "and", "of", "to", "that", "with"]  # Gopher wants some of them
WORDS = [f"w{number:03d}{'aeiou'[number % 5]}" for number in range(400)] + 20 * PLAIN


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 2,000 different sentences."""
    folder = tmp_path_factory.mktemp("prose")
    picker = random.Random(1)
    for number in range(100):
        lines = [" ".join(picker.choices(WORDS, k=picker.randint(8, 20))).capitalize() + "." for _ in range(20)]
        (folder / f"{number:03d}.md").write_text(" ".join(lines))
    (folder / "rows.jsonl").write_text('{"text": "A row of its own. It has two sentences."}\nnot json\n[1]\n')
    (folder / "SOURCE.md").write_text("This is not prose of the corpus. " * 40)
    return folder


def rows_of(corpus: Corpus) -> dict[str, str]:
    files = sorted(Path(corpus.folder).iterdir())
    assert len(files) == corpus.files
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return {row["id"]: row["text"] for row in rows}


def test_the_corpus_has_the_size_the_uniqueness_and_the_duplicates_it_says(prose: Path, tmp_path: Path) -> None:
    corpus = build(prose, tmp_path / "one", 0.5, seed=3, files=4)
    rows = rows_of(corpus)
    assert len(rows) == corpus.documents
    assert 0.5e6 <= corpus.bytes <= 0.53e6
    assert sum(len(text.encode()) for text in rows.values()) == corpus.bytes
    assert 0.75 < corpus.unique < 0.9
    assert corpus.copies == sum(name.endswith("-copy") for name in rows)
    assert len(corpus.pairs) >= 0.5 * corpus.copies
    for original, copy in corpus.pairs:
        assert jaccard(shingles(rows[original]), shingles(rows[copy])) >= LOWEST
    originals = [text for name, text in rows.items() if not name.endswith("-copy")]
    picked = random.Random(0).sample(originals, 60)
    assert max(jaccard(shingles(a), shingles(b)) for i, a in enumerate(picked) for b in picked[:i]) < 0.5
    assert not any("not prose" in text for text in originals)


def test_a_seed_makes_the_same_bytes_and_another_seed_others(prose: Path, tmp_path: Path) -> None:
    one, two = (rows_of(build(prose, tmp_path / name, 0.1, seed=1, files=2)) for name in ("one", "two"))
    other = rows_of(build(prose, tmp_path / "three", 0.1, seed=2, files=2))
    assert one == two != other
    names = [name for name, _ in zip(endless_documents(prose), range(500), strict=False)]
    assert len(set(names)) == 500


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("One short sentence only here.")
    with pytest.raises(BadInputError, match="1 different sentences: 1000 are needed"):
        build(tmp_path, tmp_path / "out", 1.0)
    with pytest.raises(BadInputError, match="is no folder"):
        build(tmp_path / "absent", tmp_path / "out", 1.0)


def test_recall_counts_pairs_of_which_one_is_left() -> None:
    corpus = Corpus("", 1, 8, 1, 4, (("a", "a2"), ("b", "b2"), ("c", "c2"), ("d", "d2")))
    assert recall(corpus, {"a", "b2", "c", "c2"}) == {"pairs": 3, "recall": 0.6667}
    assert recall(corpus, set()) == {"pairs": 0, "recall": 0.0}


def test_the_peak_of_a_child_is_seen() -> None:
    hold = "x = bytearray(80 << 20); print('held', flush=True); input()"
    with PeakMemory(lambda command: "bytearray" in command) as memory:
        child = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        assert child.pid in descendants(os.getpid())
        seen = peak_mib(child.pid, lambda command: True)
        deadline = time.monotonic() + 20
        while memory.largest() < 80:
            assert time.monotonic() < deadline
        child.communicate("\n", timeout=20)
    assert seen is not None
    assert 80 < memory.largest() < 200
    assert peak_mib(child.pid, lambda command: True) is None


@pytest.mark.parametrize("workers", ["0", "x", "9999", ""])
def test_impossible_numbers_of_workers_are_usage_errors(workers: str, home: Path) -> None:
    assert main(["bench", "data", "--workers", workers, "--json"]) == 2


@pytest.mark.slow
def test_both_sides_are_measured_on_the_same_files(prose: Path, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("datatrove")
    arguments = ["--path", str(prose), "--size-mb", "0.5", "--workers", "1", "--words", "simple", "--json"]
    assert main(["bench", "data", *arguments]) == 0
    found = json.loads(capfd.readouterr().out)
    ours, theirs = found["runs"]["plinth"][0], found["runs"]["datatrove"][0]
    assert ours["documents_in"] == found["corpus"]["documents"]
    assert ours["recall"] >= 0.95
    assert ours["recall"] >= theirs["recall"] - 0.05
    assert found["ratio"]["1"] == pytest.approx(ours["documents_per_s"] / theirs["documents_per_s"], rel=0.01)
    assert 0 < ours["busy_share"] <= 1
    assert ours["tokens"] > 0
    assert ours["tasks"] > 0
    assert found["memory"]["ratio"] > 0
    assert any("_clean" in name for name in ours["time_in_tasks_s"])
    assert not [name for name in ours["time_in_tasks_s"] if "Actor" in name]
    assert found["fixed"]["fixed_s"] >= 0
