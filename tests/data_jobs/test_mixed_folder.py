"""A folder of all formats through a whole preparation: every word that is visible is in the dataset."""

from __future__ import annotations

from pathlib import Path

from cluster.core.storage import Store
from tests.data_jobs.mixed_folder import losses, write_folder


def test_no_visible_word_of_a_mixed_folder_is_lost(tmp_path: Path) -> None:
    planted = write_folder(tmp_path / "files", 34)
    found = losses(tmp_path / "files", planted, Store(str(tmp_path / "store")))
    assert found.words > 150
    assert (found.silent, found.named, found.shown) == ((), (), ())
    assert {kind.split(" ")[0] for kind in found.skipped} >= {"html", "docx", "pdf", "text", "ipynb"}
