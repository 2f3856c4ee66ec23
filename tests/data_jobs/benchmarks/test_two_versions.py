"""Two versions embed side by side: an old and a new layout of the project, each in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.errors import BadInputError, EnvironmentFaultError
from data_jobs.benchmarks.two_versions import compare

pytestmark = pytest.mark.process

RECORDS = "from collections import namedtuple\nDocument = namedtuple('Document', 'id title text source')\n"
SECTION = """
class IndexSection:
    model_fields = {"precision": None, "batch_size": None}
    def __init__(self, precision="auto"):
        self.precision, self.batch_size = precision, 32
"""
EMBEDDER = """
class Embedder:
    def __init__(self, precision): self.precision = precision
    def encode(self, texts): print("noise on stdout")
def find_model(section): return section
def load_embedder(section, threads): return Embedder(section.precision)
"""
BLOCKS = """
from types import SimpleNamespace
def with_enclosing(documents): return documents
def cut(documents, files, section): return [s for d in documents for s in d.text.split(".") if s.strip()]
def embed(pieces, embedder{arguments}):
    for _ in range({work}): sum(range(2000))
    return SimpleNamespace(chunks=pieces, vectors=pieces * {vectors})
"""
TEXTS = [f"Text {i} has a sentence. And it has another one. " * 40 for i in range(40)]


def checkout(root: Path, old: bool, work: int) -> Path:
    files = {
        "cluster/core/records.py": RECORDS,
        f"cluster/core/{'config' if old else 'sections/data'}.py": SECTION,
        "data_jobs/retrieval/embedder.py": EMBEDDER,
        f"data_jobs/{'' if old else 'indexing/'}index_blocks.py": BLOCKS.format(
            arguments=", batch_size" if old else "", work=work, vectors=3 if old else 2
        ),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        for folder in (root / name).relative_to(root).parents[:-1]:
            (root / folder / "__init__.py").touch()
    return root


def test_an_old_and_a_new_layout_embed_the_same_texts(tmp_path: Path) -> None:
    here, against = checkout(tmp_path / "new", old=False, work=100), checkout(tmp_path / "old", old=True, work=2000)
    steps: list[tuple[int, int]] = []
    settings = {"precision": "fp32", "chunk_tokens": 100}  # these versions do not know the second
    found = compare(TEXTS, here, against, 0.06, settings, lambda done, total: steps.append((done, total)))
    assert 0.06 <= found["mb"] < 0.063
    assert steps == [(done, found["batches"]) for done in range(found["batches"] + 1)]
    assert found["here"]["chunks"] == found["against"]["chunks"] == 80 * found["texts"]
    assert found["against"]["vectors"] * 2 == found["here"]["vectors"] * 3
    assert {found[side]["precision"] for side in ("here", "against")} == {"fp32"}
    assert Path(found["here"]["code"]) == here / "data_jobs/indexing/index_blocks.py"
    assert found["times_faster"]["cpu_seconds"] > 3  # 20 times the work
    assert found["times_faster"]["lowest"] <= found["times_faster"]["cpu_seconds"] <= found["times_faster"]["highest"]


def test_code_that_does_not_run_is_named_with_its_last_words(tmp_path: Path) -> None:
    here, against = checkout(tmp_path / "new", old=False, work=1), checkout(tmp_path / "old", old=True, work=1)
    (against / "data_jobs/index_blocks.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(EnvironmentFaultError, match=r"old does not embed: .*a_package_that_is_not_there"):
        compare(TEXTS, here, against, 0.01, {})


def test_code_from_elsewhere_is_no_comparison(tmp_path: Path) -> None:
    here = checkout(tmp_path / "new", old=False, work=1)
    (tmp_path / "linked").mkdir()
    for name in ("cluster", "data_jobs"):
        (tmp_path / "linked" / name).symlink_to(here / name)
    with pytest.raises(EnvironmentFaultError, match="not the one there"):
        compare(TEXTS, here, tmp_path / "linked", 0.01, {})


def test_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no text"):
        compare(["  "], tmp_path, tmp_path, 0.3, {})
